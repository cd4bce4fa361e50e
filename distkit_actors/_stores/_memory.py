"""A store inside the process: no server, no dependency beyond trio."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import final

import trio

from .._core._messages import Reply, Request
from .._core._namespace import Namespace
from ._contract import Link, Store

_MICROSECONDS = 1_000_000


@final
class MemoryStore(Store):
    """A little in-process server for the counters that share this object.

    Its clock is `trio.current_time`, so that tests on trio's mock clock live through
    thresholds and outages in no time. Nothing outlives the object.
    """

    def __init__(self) -> None:
        self._namespaces: dict[str, Namespace] = {}

    @asynccontextmanager
    async def link(self, prefix: str) -> AsyncGenerator[Link]:
        """Return a link to the namespace of ``prefix``; see `Store.link`."""
        yield _MemoryLink(self, prefix)

    def execute(self, prefix: str, request: Request) -> Reply:
        """Run one request at the current trio time."""
        namespace = self._namespaces.get(prefix)
        if namespace is None:
            namespace = self._namespaces[prefix] = Namespace()
        return namespace.execute(request, int(trio.current_time() * _MICROSECONDS))

    def wipe(self) -> None:
        """Lose everything, as a server does that restarts without persistence."""
        self._namespaces.clear()

    def __repr__(self) -> str:
        return f"<MemoryStore with {len(self._namespaces)} namespaces>"


class _MemoryLink(Link):
    def __init__(self, store: MemoryStore, prefix: str) -> None:
        self._store = store
        self._prefix = prefix

    async def connect(self) -> None:
        await trio.lowlevel.checkpoint()

    async def exchange(self, request: Request) -> Reply:
        await trio.lowlevel.checkpoint_if_cancelled()
        reply = self._store.execute(self._prefix, request)
        await trio.lowlevel.cancel_shielded_checkpoint()
        return reply

    @property
    def connected(self) -> bool:
        return True
