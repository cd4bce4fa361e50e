"""What a link needs of a connection: one command at a time, whoever else uses it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable

import trio

from ._connection import Answer, Connection, ErrorReplyError
from ._connector import Connector
from ._credentials import Credentials
from ._heartbeats import Heartbeat
from ._replicas import Replicas


class Lane(ABC):
    """A link's way on a connection: it sends a command, and receives its answer.

    Commands that are given up are no trouble: their answers reach nobody.
    """

    sends_nowait = False  # while connected, `send_nowait` sends more than nothing
    looks = False  # `note_time` is to be called after each answer
    redirects = False  # it leads to a node of a cluster, in which keys may be somewhere else

    @property
    @abstractmethod
    def connected(self) -> bool:
        """Whether a connection is up, as far as is known, that says who we are now."""

    @property
    @abstractmethod
    def number(self) -> int:
        """A number of the connection, another one for each."""

    @property
    @abstractmethod
    def replicas(self) -> Replicas:
        """Who waits for replicas, for all who use the connection."""

    @property
    def standalone(self) -> bool:
        """Whether the server has said that it belongs to no cluster."""
        return False

    @property
    @abstractmethod
    def tells(self) -> bool:
        """Whether the server says how it is set up, or may do so next time."""

    @property
    def gathers(self) -> bool:
        """Whether `send_heartbeat` sends heartbeats of several links in one command."""
        return False

    @abstractmethod
    async def connect(self) -> None:
        """Make sure that there is a connection. A checkpoint. Raises `StoreError`.

        When cancelled, there may be none.
        """

    @abstractmethod
    def send_nowait(self, command: bytes) -> None:
        """Send as much of a command as goes without waiting; `receive` follows.

        An earlier one whose answer was not received is given up.
        """

    async def send_heartbeat(self, heartbeat: Heartbeat) -> None:  # noqa: ASYNC910 - need not wait
        """Do as `send_nowait`, together with others if it `gathers`.

        A checkpoint only if it has to wait for these.
        """
        self.send_nowait(heartbeat.alone())

    @abstractmethod
    async def receive(self) -> Answer:
        """Send the rest of a command, and return its answer. A checkpoint.

        It is for one who cancels it when it takes too long, and says so with `unanswered`.

        Raises:
            ErrorReplyError: The answer is an error.
            StoreUnavailableError: The connection is lost, and nobody knows if it was executed.

        When cancelled, nobody knows that either, and there may be no connection any more.
        """

    def wait_answer(self) -> Awaitable[None] | None:
        """See `Link.wait_answer`; None if there is nothing to wait for."""
        return None

    def receive_nowait(self) -> Answer:
        """Return the answer that has come, after `wait_answer`; None if it is none, or an error."""
        return None

    def interrupt(self) -> None:  # noqa: B027 - most have nothing to end
        """See `Link.interrupt`."""

    @abstractmethod
    async def call(self, *words: bytes, patience: float | None = None) -> Answer:
        """Send a command and return its answer. A checkpoint.

        It may take ``patience`` seconds, a ``response_timeout`` if that is not given. Raises and
        is cancelled as `receive`.
        """

    @abstractmethod
    async def prepare(self, work: Callable[[], Awaitable[None]]) -> None:
        """Have ``work`` done with the server, once for all links that find now that it must be.

        It may use this lane. Not done again if that was done since the last command was sent. A
        checkpoint. Raises what ``work`` raises; when cancelled, it may be half done.
        """

    @abstractmethod
    def unanswered(self, patience: float) -> None:
        """Note that the last command had no answer within ``patience`` seconds, and is given up."""

    @abstractmethod
    async def drop(self) -> None:
        """Close the connection on which the last command was sent, for all who use it."""

    def note_time(self, *, look: bool) -> None:  # noqa: B027 - most never look
        """Note when to ``look`` if another server serves, as no answer is missing now.

        Otherwise nobody looks before there was another answer.
        """

    def redirect(self, error: ErrorReplyError) -> bool:  # noqa: ARG002 - for those that know others
        """Note a redirection; return whether it was one, and `connect` is to go there.

        The connection goes on for all others who use it.
        """
        return False

    def leave(self) -> None:  # noqa: B027 - as above
        """Find out anew with the next `connect` where the keys are, as they are not served here.

        The connection goes on for all others who use it.
        """


class OwnLane(Lane):
    """A lane that has a connection for itself, which does not outlive a cancellation."""

    def __init__(self, connection: Connection, credentials: Credentials, patience: float) -> None:
        self._connection = connection
        self._credentials = credentials
        self._connector = Connector(connection, patience)
        self._version = 0  # of the credentials that the connection was made with
        self._number = 0
        self._replicas = Replicas()

    @property
    def connected(self) -> bool:
        """See `Lane.connected`."""
        return self._connection.connected and self._version == self._credentials.version

    @property
    def number(self) -> int:
        """See `Lane.number`."""
        return self._number

    @property
    def replicas(self) -> Replicas:
        """See `Lane.replicas`."""
        return self._replicas

    @property
    def standalone(self) -> bool:
        """See `Lane.standalone`."""
        return self._connector.server.standalone

    @property
    def tells(self) -> bool:
        """See `Lane.tells`."""
        return self._connector.server.tells

    async def connect(self) -> None:
        """See `Lane.connect`."""
        if self.connected:
            await trio.lowlevel.checkpoint()
            return
        self._number += 1
        self._version = self._credentials.version
        await self._connector.connect()

    def send_nowait(self, command: bytes) -> None:
        """See `Lane.send_nowait`."""
        self._connection.send_nowait(command)

    async def receive(self) -> Answer:
        """See `Lane.receive`."""
        return await self._connection.receive()

    async def call(self, *words: bytes, patience: float | None = None) -> Answer:
        """See `Lane.call`."""
        return await self._connection.call(*words, patience=patience)

    async def prepare(self, work: Callable[[], Awaitable[None]]) -> None:
        """See `Lane.prepare`."""
        await work()

    def unanswered(self, patience: float) -> None:
        """See `Lane.unanswered`. It is cancelled, and so closed already."""

    async def drop(self) -> None:
        """See `Lane.drop`."""
        await self._connection.drop()
