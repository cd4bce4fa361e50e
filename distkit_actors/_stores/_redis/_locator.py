"""Which server a connection is to be made to: the seam between a store and its topology.

`FixedLocator` is for a URL that names the server. `_sentinel` has the locator that asks sentinels,
`_cluster` the one that asks the nodes of a cluster.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import final

import trio
from redis.asyncio.connection import AbstractConnection

from ._connection import Connection, ErrorReplyError
from ._survey import Node


class Locator(ABC):
    """Knows the servers of a store. One for all of its links and subscriptions."""

    @property
    def looks(self) -> bool:
        """Whether `look` can find out that another server serves now."""
        return False

    @property
    def look_due(self) -> bool:
        """Whether the last look was so long ago that there should be another."""
        return False

    @property
    def version(self) -> int:
        """Changes whenever it has asked for all that it knows."""
        return 0

    @abstractmethod
    async def locate(self, slot: int) -> Node | None:
        """Return the server that serves a slot; None if the URL says it. May be a checkpoint.

        Raises `StoreUnavailableError` if nobody tells, `StoreError` if they refuse to.
        """

    async def check(  # noqa: B027 - most need not
        self, connection: Connection, node: Node | None, patience: float | None
    ) -> None:
        """See that the server that was reached is one that serves. May be a checkpoint.

        It may take ``patience`` seconds, a `response_timeout` if that is not given. Raises
        `StoreAwayError` if it does not serve, and as `Connection.call` does.
        """

    async def servers(self) -> list[int]:
        """Return a slot of each server that has keys. A checkpoint. Raises as `locate`."""
        await trio.lowlevel.checkpoint()
        return [0]

    def serves(self, slot: int, node: Node | None) -> bool:  # noqa: ARG002 - for those that know
        """Return whether a server still serves a slot, as far as is known."""
        return True

    def failed(self, version: int) -> None:  # noqa: B027 - most ask each time
        """Note that what was said while `version` was this one is no good any more."""

    @property
    def redirects(self) -> bool:
        """Whether a server may say that another one serves, which is then to be asked."""
        return False

    def redirect(self, slot: int, node: Node | None, said: str) -> None:  # noqa: B027 - as above
        """Note what a server has said of a slot, in the words of its redirection."""

    async def look(self) -> None:
        """Find out whether another server serves now. A checkpoint. It raises nothing."""
        await trio.lowlevel.checkpoint()


@final
class FixedLocator(Locator):
    """The one server of a URL."""

    async def locate(self, slot: int) -> Node | None:  # noqa: ARG002, ASYNC910 - there is one only
        """Return None: the URL says where it is."""
        return None  # noqa: ASYNC910 - as above


class Route:
    """The way of one connection to the server that serves a slot.

    Args:
        locator: Knows the server.
        make: Makes a connection, not connected yet, with all settings but where it leads.
        slot: Which hash slot.
    """

    def __init__(
        self, locator: Locator, make: Callable[[], Awaitable[AbstractConnection]], slot: int
    ) -> None:
        self._locator = locator
        self._make = make
        self._slot = slot
        self._node: Node | None = None
        self._version: int | None = None  # of what the locator knew when the connection was made
        self._look_due = False

    async def make(self) -> AbstractConnection:  # noqa: ASYNC910 - internal: connecting is the checkpoint
        """Return a connection, not connected yet, to the server that serves now."""
        if self._version is not None:  # the last one has ended, nobody knows why
            self._locator.failed(self._version)
        node = await self._locator.locate(self._slot)
        self._version = self._locator.version
        connection = await self._make()
        self._node, self._look_due = node, False
        if node is not None:
            connection.host, connection.port = node  # type: ignore[attr-defined]
        return connection

    async def check(self, connection: Connection, patience: float | None) -> None:  # noqa: ASYNC910 - internal: connecting is the checkpoint
        """See that the server that was reached serves; see `Locator.check`."""
        await self._locator.check(connection, self._node, patience)

    @property
    def redirects(self) -> bool:
        """Whether the server is a node of a cluster, in which keys may be somewhere else."""
        return self._locator.redirects

    def redirect(self, error: ErrorReplyError) -> bool:
        """Note a redirection; return whether it was one, and the next connection leads there."""
        if error.code != "MOVED" or not self.redirects:
            return False
        self._locator.redirect(self._slot, self._node, error.text)
        self._version = None
        return True

    @property
    def serves(self) -> bool:
        """Whether the server serves still, as far as is known."""
        return self._locator.serves(self._slot, self._node)

    @property
    def stands(self) -> bool:
        """Whether there is no reason to go elsewhere, nor to look whether there is one."""
        return not self._look_due and self._locator.serves(self._slot, self._node)

    @property
    def looks(self) -> bool:
        """Whether `note_time` is to be called."""
        return self._locator.looks

    def note_time(self) -> None:
        """Note whether a look is due, at a time at which no answer is missing."""
        self._look_due = self._locator.look_due

    async def look(self) -> bool:
        """Look, if that is due, and return whether the server serves still. A checkpoint."""
        if self._locator.look_due:
            await self._locator.look()
        else:  # somebody else has looked
            await trio.lowlevel.checkpoint()
        self._look_due = False
        return self._locator.serves(self._slot, self._node)
