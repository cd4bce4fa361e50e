"""A store at the end of a cable that can be cut.

The fleet of the demo lives in one process, but has to fail as one in several does. What
cuts a process off, or kills it, has one thing in common for everybody else: nothing of
what it sends arrives any more. So each instance of the demo has a cable of its own.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar, final

import trio

from .._errors import StoreUnavailableError
from .._protocol._messages import Reply, Request
from .._stores._contract import Link, Store

T = TypeVar("T")


@final
class Cable(Store):
    """``store``, as long as nobody cuts the cable to it."""

    def __init__(self, store: Store) -> None:
        self.whole = True
        self._store = store
        self._under_way: set[trio.CancelScope] = set()

    @asynccontextmanager
    async def link(self, prefix: str) -> AsyncGenerator[Link]:
        """Return a link through the cable; see `Store.link`."""
        async with self._store.link(prefix) as link:
            yield _CableLink(self, link)

    def cut(self) -> None:
        """Let nothing through from now on, not even the answer that is on its way."""
        self.whole = False
        for scope in self._under_way:
            scope.cancel()

    def mend(self) -> None:
        """Let everything through again."""
        self.whole = True

    async def carry(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do ``work`` at the other end. A checkpoint."""
        if not self.whole:
            await trio.lowlevel.checkpoint()
        else:
            with trio.CancelScope() as scope:
                self._under_way.add(scope)
                try:
                    return await work()
                finally:
                    self._under_way.discard(scope)
        raise StoreUnavailableError("the cable is cut")


class _CableLink(Link):
    def __init__(self, cable: Cable, link: Link) -> None:
        self._cable = cable
        self._link = link

    async def connect(self) -> None:
        await self._cable.carry(self._link.connect)

    async def receive(self, request: Request) -> Reply:
        return await self._cable.carry(lambda: self._link.exchange(request))

    @property
    def connected(self) -> bool:
        return self._cable.whole and self._link.connected
