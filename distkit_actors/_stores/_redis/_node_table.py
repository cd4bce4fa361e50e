"""What all that use a node share, for each trio run that does."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from typing import Generic, TypeVar

from redis.asyncio.connection import AbstractConnection
from redis.asyncio.connection import Connection as TcpConnection

from ._connection import MakeConnection
from ._locator import FixedLocator, Locator, Route
from ._per_run import PerRun
from ._stream import StreamConnection
from ._survey import Node

T = TypeVar("T")


class Ways:
    """How connections of a store are made: to a node, or for None to where the URL leads.

    That is the one server of the URL, or whichever the sentinels name at that time.
    """

    def __init__(
        self, locator: Locator, make: MakeConnection, address: str, patience: float
    ) -> None:
        self.locator = locator
        self.patience = patience
        self._make = make
        self._address = address

    def route(self, slot: int = 0) -> Route:
        """Return a route to whichever server has a slot."""
        return Route(self.locator, self._make, slot)

    def to(self, node: Node | None) -> tuple[StreamConnection, Route]:
        """Return a connection, not made yet, and the route that it takes whenever it is made."""
        address, route = self._address, self.route()
        if node is not None:
            scheme = address.partition(":")[0]
            address, route = f"{scheme}://{node}", Route(FixedLocator(), self._leading_to(node), 0)
        extra_time = self.locator.extra_time if node is None else None
        return StreamConnection(route.make, address, self.patience, route.check, extra_time), route

    def _leading_to(self, node: Node) -> MakeConnection:
        async def make() -> AbstractConnection:
            connection = await self._make()
            assert isinstance(connection, TcpConnection)
            connection.host, connection.port = node
            return connection

        return make


class _Held(Generic[T]):
    """Something with its number of users."""

    def __init__(self, thing: T) -> None:
        self.thing = thing
        self.users = 0


class NodeTable(Generic[T]):
    """One thing for each node.

    Args:
        make: Makes one for a node, that does nothing yet.
        close: Ends one that nobody uses any more.
    """

    def __init__(self, make: Callable[[Node | None], T], close: Callable[[T], None]) -> None:
        self._make = make
        self._close = close
        self._nodes = PerRun[dict[Node | None, _Held[T]]](dict)

    @contextmanager
    def hold(self, node: Node | None) -> Generator[T]:
        """Return a node's, which the last one that is left closes."""
        nodes = self._nodes.get()
        held = nodes.get(node)
        if held is None:
            held = nodes[node] = _Held(self._make(node))
        held.users += 1
        try:
            yield held.thing
        finally:
            held.users -= 1
            if not held.users:
                del nodes[node]
                self._close(held.thing)

    def used(self) -> dict[Node | None, T]:
        """Return those that are in use in this run."""
        return {node: held.thing for node, held in self._nodes.get().items()}


class Place(Generic[T]):
    """What belongs to the node that has a slot: to another one when the slot has moved.

    ===========  ==================================================================
    nowhere      nobody has found the node yet, or it has been left for good
    at a node    it holds what belongs to that, which goes on when another node is found
    ===========  ==================================================================
    """

    def __init__(self, nodes: NodeTable[T], route: Route) -> None:
        self.thing: T | None = None
        self._nodes = nodes
        self._route = route
        self._node: Node | None = None
        self._held = ExitStack()

    async def find(self) -> T:  # noqa: ASYNC910 - internal: connecting is the checkpoint
        """Return what belongs to the node that has the slot now. Raises as `Locator.locate`."""
        node = await self._route.find()
        if self.thing is None or node != self._node:
            held = ExitStack()
            thing = held.enter_context(self._nodes.hold(node))
            self._held.close()  # which may end it there
            self.thing, self._node, self._held = thing, node, held
        return self.thing

    def leave(self) -> None:
        """Be nowhere."""
        self.thing = None
        self._held.close()
