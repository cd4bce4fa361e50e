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
    def look_at(self) -> float:
        """After which instant there should be another look."""
        return float("inf")

    @property
    def look_due(self) -> bool:
        """Whether the last look was so long ago that there should be another."""
        return trio.current_time() > self.look_at

    def extra_time(self) -> float:
        """Return how many seconds longer than usual `locate` may take now, within connecting."""
        return 0.0

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
        """Note that the answers of this `version` are no good any more."""

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
    """The way to the server that serves a slot, of a connection or a lane.

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
        self._version: int | None = None  # of what the locator knew when it said so

    async def find(self) -> Node | None:  # noqa: ASYNC910 - internal: connecting is the checkpoint
        """Return the server that serves now; None if the URL says it. Raises as `locate`."""
        node = await self._locator.locate(self._slot)
        self._node, self._version = node, self._locator.version
        return node

    def failed(self) -> None:
        """Note that the server that was found last was lost, and nobody knows why."""
        if self._version is not None:
            self._locator.failed(self._version)

    async def make(self) -> AbstractConnection:  # noqa: ASYNC910 - as above
        """Return a connection, not connected yet, to the server that serves now."""
        self.failed()  # as the last connection has ended
        node = await self.find()
        connection = await self._make()
        if node is not None:
            connection.host, connection.port = node  # type: ignore[attr-defined]
        return connection

    async def check(self, connection: Connection, patience: float | None) -> None:  # noqa: ASYNC910 - as above
        """See that the server that was reached serves; see `Locator.check`."""
        await self._locator.check(connection, self._node, patience)

    def redirect(self, error: ErrorReplyError) -> bool:
        """Note a redirection; return whether it was one, and `find` knows it."""
        if error.code != "MOVED" or not self._locator.redirects:
            return False
        self._locator.redirect(self._slot, self._node, error.text)
        return True

    @property
    def serves(self) -> bool:
        """Whether the server serves still, as far as is known."""
        return self._locator.serves(self._slot, self._node)

    @property
    def look_at(self) -> float:
        """After which instant there should be another look."""
        return self._locator.look_at

    async def look(self) -> None:
        """Find out whether another server serves now, if that is due. A checkpoint."""
        if self._locator.look_due:
            await self._locator.look()
        else:  # somebody else has looked
            await trio.lowlevel.checkpoint()
