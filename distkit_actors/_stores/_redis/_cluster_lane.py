"""A lane to whichever node of a cluster has a slot.

All lanes that lead to one node share its connection, whatever their slots are. What a node says of
a slot concerns the lanes of that slot: they go elsewhere, and nobody else notices.

==============  =================================================================================
a lane is       until
==============  =================================================================================
at a node       somebody hears that another one has the slot (`ClusterLocator.serves`)
astray          `connect` has found the node: at first, after a redirection, and after `leave`
==============  =================================================================================

The nodes are asked for their table again when one of them was lost, could not be reached, or has
said that it cannot serve the slot; see `Locator.failed`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager

import trio

from ..._errors import StoreError, StoreUnavailableError
from ._connection import LOST, Answer, ErrorReplyError
from ._lane import Lane
from ._locator import Route
from ._node_table import NodeTable, Place
from ._replicas import Replicas
from ._shared import SharedConnection, SharedLane


class ClusterLane(Lane):
    """A lane on the connection to the node that has a slot, which others use, too."""

    sends_nowait = True
    redirects = True

    def __init__(self, nodes: NodeTable[SharedConnection], route: Route) -> None:
        self._route = route
        self._place = Place(nodes, route)
        self._lane: SharedLane | None = None
        self._astray = True
        self._nowhere = Replicas()  # where it does not lead to any node yet

    @property
    def connected(self) -> bool:
        """See `Lane.connected`."""
        lane = self._lane
        return lane is not None and lane.connected and not self._astray and self._route.serves

    @property
    def number(self) -> int:
        """See `Lane.number`."""
        return 0 if self._lane is None else self._lane.number

    @property
    def replicas(self) -> Replicas:
        """See `Lane.replicas`. Those of the node that it leads to now."""
        return self._nowhere if self._lane is None else self._lane.replicas

    @property
    def tells(self) -> bool:
        """See `Lane.tells`."""
        return self._lane is None or self._lane.tells

    async def connect(self) -> None:
        """See `Lane.connect`."""
        if self.connected:
            await trio.lowlevel.checkpoint()
            return
        lane = self._lane
        if lane is not None and not lane.connected:
            self._route.failed()
        before = self._place.thing
        connection = await self._place.find()
        if lane is None or connection is not before:
            self._lane = lane = SharedLane(connection)
        self._astray = False
        try:
            await lane.connect()
        except StoreError:
            self._route.failed()
            raise

    def send_nowait(self, command: bytes) -> None:
        """See `Lane.send_nowait`."""
        if self._lane is not None:
            self._lane.send_nowait(command)

    async def receive(self) -> Answer:
        """See `Lane.receive`."""
        if self._lane is None:
            await trio.lowlevel.checkpoint()
            raise StoreUnavailableError(LOST)
        return await self._lane.receive()

    def wait_answer(self) -> Awaitable[None] | None:
        """See `Lane.wait_answer`."""
        return None if self._lane is None else self._lane.wait_answer()

    def receive_nowait(self) -> Answer:
        """See `Lane.receive_nowait`."""
        return None if self._lane is None else self._lane.receive_nowait()

    def interrupt(self) -> None:
        """See `Lane.interrupt`."""
        if self._lane is not None:
            self._lane.interrupt()

    async def call(self, *words: bytes, patience: float | None = None) -> Answer:
        """See `Lane.call`."""
        if self._lane is None:
            await trio.lowlevel.checkpoint()
            raise StoreUnavailableError(LOST)
        return await self._lane.call(*words, patience=patience)

    async def prepare(self, work: Callable[[], Awaitable[None]]) -> None:
        """See `Lane.prepare`."""
        assert self._lane is not None  # which has brought the answer that asks for it
        await self._lane.prepare(work)

    def unanswered(self, patience: float) -> None:
        """See `Lane.unanswered`."""
        if self._lane is not None:
            self._lane.unanswered(patience)

    async def drop(self) -> None:  # noqa: ASYNC910 - internal: callers make the checkpoint
        """See `Lane.drop`."""
        if self._lane is not None:
            await self._lane.drop()

    def redirect(self, error: ErrorReplyError) -> bool:
        """See `Lane.redirect`."""
        if not self._route.redirect(error):
            return False
        self._astray = True
        return True

    def leave(self) -> None:
        """See `Lane.leave`."""
        self._route.failed()
        self._astray = True

    def end(self) -> None:
        """Use no connection any more; the last one who does closes it."""
        self._lane = None
        self._place.leave()


@contextmanager
def cluster_lane(nodes: NodeTable[SharedConnection], route: Route) -> Generator[ClusterLane]:
    """Return a lane that takes a route."""
    lane = ClusterLane(nodes, route)
    try:
        yield lane
    finally:
        lane.end()
