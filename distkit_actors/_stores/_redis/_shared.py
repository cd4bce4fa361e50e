"""One connection to a node for all links of a store.

With the URL of one server, and with sentinels, there is one, which leads to the server that serves
when it is made. In a cluster there is one for each node that anybody needs; `_cluster_lane` leads
to them.

A `SharedConnection` belongs to a node and a trio run, and holds no task. It is

=============  ================================================================
down           nobody has asked for it yet, or it was lost
connecting     one of those who want it makes it, the others wait for what comes of that
up             there is a `Pipeline`, which all use until it is lost
=============  ================================================================

It is lost for all: when the server closes it, when it brings nothing while somebody's patience
ends (see `_silence`), when it brings what is no answer, when a link asks for that (`Lane.drop`),
when there are new credentials, or when the sentinels name another server. Each link that has a
command on its way is told so, and the next one that wants to send connects again. The last link
that leaves closes it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from itertools import count
from typing import Final

import trio

from ..._errors import StoreUnavailableError
from .._contract import StoreSilentError
from ._connection import LOST, Answer, pack
from ._connector import Connector
from ._credentials import Credentials
from ._heartbeats import Heartbeat
from ._lane import Lane
from ._locator import Route
from ._node_table import NodeTable, Ways
from ._once import Once
from ._pipeline import Call, Pipeline
from ._replicas import Replicas
from ._silence import Silence
from ._stream import StreamConnection
from ._survey import Node

_NEVER: Final = float("inf")

#: Numbers of connections.
_NUMBERS: Final = count(1)


class SharedConnection:
    """The connection to a node, which is made again whenever it was lost."""

    def __init__(
        self,
        connection: StreamConnection,
        route: Route,
        patience: float,
        credentials: Credentials,
    ) -> None:
        self.route = route
        self.patience = patience
        self.number = 0
        self.version = 0  # of the credentials that it was made with
        self.credentials = credentials
        self.pipeline: Pipeline | None = None
        self._connection = connection
        self._connector = Connector(connection, patience)
        self._connecting = Once()
        self._silence = Silence(patience)
        self.preparing = Once()
        self.replicas = Replicas()

    @property
    def standalone(self) -> bool:
        """Whether the server has said that it belongs to no cluster."""
        return self._connector.server.standalone

    @property
    def tells(self) -> bool:
        """See `Lane.tells`."""
        return self._connector.server.tells

    async def connect(self) -> None:
        """Make the connection, or wait for one who makes it. A checkpoint.

        Raises `StoreError`, each who waits one of its own. When cancelled, another one of those who
        wait goes on.
        """
        await self._connecting.do(self._connect)

    async def _connect(self) -> None:
        self.close()  # what says who we were, or leads to a server that does not serve any more
        self.number = next(_NUMBERS)
        self.version = self.credentials.version
        await self._connector.connect()
        stream, reader = self._connection.take()
        self.pipeline = Pipeline(stream, reader, self._connection, self._silence)

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self.pipeline is not None:
            self.pipeline.lose(StoreUnavailableError(LOST))


class SharedLane(Lane):
    """A lane on a shared connection."""

    sends_nowait = True

    def __init__(self, connection: SharedConnection) -> None:
        self._connection = connection
        self._call: Call | None = None  # the last one
        self._prepared = 0  # how often the server had been prepared when that was sent

    @property
    def connected(self) -> bool:
        """See `Lane.connected`."""
        connection = self._connection
        pipeline = connection.pipeline
        if pipeline is None or not pipeline.up:
            return False
        return connection.version == connection.credentials.version

    @property
    def number(self) -> int:
        """See `Lane.number`."""
        return self._connection.number

    @property
    def replicas(self) -> Replicas:
        """See `Lane.replicas`."""
        return self._connection.replicas

    @property
    def standalone(self) -> bool:
        """See `Lane.standalone`."""
        return self._connection.standalone

    @property
    def tells(self) -> bool:
        """See `Lane.tells`."""
        return self._connection.tells

    @property
    def gathers(self) -> bool:
        """See `Lane.gathers`. In a cluster, a script has the keys of one slot only."""
        return self._connection.standalone

    async def connect(self) -> None:
        """See `Lane.connect`."""
        if self.connected:
            await trio.lowlevel.checkpoint()
        else:
            await self._connection.connect()

    def send_nowait(self, command: bytes) -> None:
        """See `Lane.send_nowait`."""
        self._prepared = self._connection.preparing.times
        pipeline = self._connection.pipeline
        self._call = None if pipeline is None else pipeline.post(command)

    async def send_heartbeat(self, heartbeat: Heartbeat) -> None:  # noqa: ASYNC910 - need not wait
        """See `Lane.send_heartbeat`."""
        pipeline = self._connection.pipeline
        if pipeline is None or not self.gathers:
            await super().send_heartbeat(heartbeat)
            return
        self._prepared = self._connection.preparing.times
        self._call, first = pipeline.post_heartbeat(heartbeat)
        if first:
            try:
                await trio.lowlevel.cancel_shielded_checkpoint()
            finally:
                pipeline.send_gathered()

    async def receive(self) -> Answer:
        """See `Lane.receive`."""
        call = self._call
        if call is None:
            await trio.lowlevel.checkpoint()
            raise StoreUnavailableError(LOST)
        return await call.pipeline.receive(call)

    def wait_answer(self) -> Awaitable[None] | None:
        """See `Lane.wait_answer`."""
        call = self._call
        return None if call is None else call.pipeline.wait(call)

    def receive_nowait(self) -> Answer:
        """See `Lane.receive_nowait`."""
        call = self._call
        if call is None or not call.over or isinstance(call.answer, Exception):
            return None
        return call.answer

    def interrupt(self) -> None:
        """See `Lane.interrupt`."""
        if self._call is not None:
            self._call.pipeline.interrupt(self._call)

    async def call(self, *words: bytes, patience: float | None = None) -> Answer:
        """See `Lane.call`."""
        seconds = self._connection.patience if patience is None else patience
        with trio.move_on_after(seconds):
            self.send_nowait(pack(words))
            return await self.receive()
        self.unanswered(seconds)
        raise StoreSilentError(f"{LOST}: no answer for {seconds:g} seconds")

    async def prepare(self, work: Callable[[], Awaitable[None]]) -> None:
        """See `Lane.prepare`."""
        preparing = self._connection.preparing
        if self._prepared == preparing.times:
            await preparing.do(work)
        else:
            await trio.lowlevel.checkpoint()  # since then, it was

    def unanswered(self, patience: float) -> None:
        """See `Lane.unanswered`."""
        if self._call is not None and not self._call.over:
            self._call.pipeline.lose_if_silent(patience)

    async def drop(self) -> None:  # noqa: ASYNC910 - internal: callers make the checkpoint
        """See `Lane.drop`."""
        if self._call is not None:
            self._call.pipeline.lose(StoreUnavailableError(LOST))


class FollowingLane(SharedLane):
    """A lane on a connection that all leave when the sentinels name another server.

    The sentinels are asked between two requests of one lane, and only that lane waits.
    """

    looks = True

    def __init__(self, connection: SharedConnection) -> None:
        super().__init__(connection)
        self._look_at = _NEVER

    @property
    def connected(self) -> bool:
        """See `Lane.connected`. It leads where it should, and there is no reason to look."""
        return super().connected and not self._look_due and self._connection.route.serves

    @property
    def _look_due(self) -> bool:
        return trio.current_time() > self._look_at

    def note_time(self, *, look: bool) -> None:
        """See `Lane.note_time`."""
        self._look_at = self._connection.route.look_at if look else _NEVER

    def send_nowait(self, command: bytes) -> None:
        """See `Lane.send_nowait`. Nobody looks before there was an answer."""
        self._look_at = _NEVER
        super().send_nowait(command)

    async def send_heartbeat(self, heartbeat: Heartbeat) -> None:  # noqa: ASYNC910 - need not wait
        """See `Lane.send_heartbeat`."""
        self._look_at = _NEVER
        await super().send_heartbeat(heartbeat)

    async def call(self, *words: bytes, patience: float | None = None) -> Answer:
        """See `Lane.call`. It is on the side, and changes nothing of when to look."""
        look_at = self._look_at
        try:
            return await super().call(*words, patience=patience)
        finally:
            self._look_at = look_at

    async def connect(self) -> None:
        """See `Lane.connect`."""
        if self._look_due and super().connected:
            await self._connection.route.look()
            self._look_at = _NEVER  # until there was an answer
            if self.connected:
                return
        self._look_at = _NEVER  # as it is found out anew
        await super().connect()


class SharedConnections:
    """The connections of a store to its nodes, for each trio run that uses it."""

    def __init__(self, ways: Ways, credentials: Credentials) -> None:
        def make_for(node: Node | None) -> SharedConnection:
            return SharedConnection(*ways.to(node), ways.patience, credentials)

        self.nodes: Final = NodeTable(make_for, SharedConnection.close)
        self._follows = ways.locator.looks

    @contextmanager
    def lane(self, node: Node | None = None) -> Generator[SharedLane]:
        """Return a lane on the connection to a node, which the last one that is left closes."""
        with self.nodes.hold(node) as connection:
            yield FollowingLane(connection) if self._follows else SharedLane(connection)
