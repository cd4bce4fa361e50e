"""What all that use a node share, for each trio run that does.

A run has sockets of its own, as it may be in another thread, or in a process that was forked.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Generic, TypeVar

import trio
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.connection import Connection as TcpConnection

from ._connection import MakeConnection
from ._survey import Node

T = TypeVar("T")


def leading_to(node: Node | None, make: MakeConnection, address: str) -> tuple[MakeConnection, str]:
    """Return what makes connections to a node, and what that is called; None is the URL's own."""
    if node is None:
        return make, address
    host, port = node

    async def make_to_node() -> AbstractConnection:
        connection = await make()
        assert isinstance(connection, TcpConnection)
        connection.host, connection.port = host, port
        return connection

    scheme = address.partition(":")[0]
    return make_to_node, f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


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
        self._of_run = trio.lowlevel.RunVar["dict[Node | None, _Held[T]] | None"]("nodes", None)

    @contextmanager
    def hold(self, node: Node | None) -> Generator[T]:
        """Return a node's, which the last one that is left closes."""
        nodes = self._nodes()
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
        return {node: held.thing for node, held in self._nodes().items()}

    def _nodes(self) -> dict[Node | None, _Held[T]]:
        known = self._of_run.get()
        if known is not None:
            return known
        nodes: dict[Node | None, _Held[T]] = {}
        self._of_run.set(nodes)
        return nodes
