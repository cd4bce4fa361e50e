"""A store inside the process: no server, no dependency beyond trio."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import final

import trio

from .._errors import StoreUnavailableError
from .._namespace._namespace import Namespace
from .._protocol._messages import MAX_CHANGED, Reply, Request
from ._contract import Link, Store, Subscription

_MICROSECONDS = 1_000_000


@final
class MemoryStore(Store):
    """A little in-process server for the counters that share this object.

    Its clock is `trio.current_time`, so that tests on trio's mock clock live through
    thresholds and outages in no time. Nothing outlives the object.

    It serves one `trio.run` at a time (RuntimeError else). To the next one it seems that no time
    has passed since the one before.
    """

    def __init__(self) -> None:
        self._clock = _Clock()
        self._namespaces: dict[str, Namespace] = {}
        self._subscriptions: dict[str, list[_MemorySubscription]] = {}

    @asynccontextmanager
    async def link(self, prefix: str) -> AsyncGenerator[Link]:
        """Return a link to the namespace of ``prefix``; see `Store.link`."""
        with self._clock.in_use():
            yield _MemoryLink(self, prefix)

    @asynccontextmanager
    async def subscribe(self, prefix: str) -> AsyncGenerator[Subscription]:
        """Return notice of changes in the namespace of ``prefix``; see `Store.subscribe`."""
        listeners = self._subscriptions.setdefault(prefix, [])
        subscription = _MemorySubscription()
        listeners.append(subscription)
        try:
            yield subscription
        finally:
            listeners.remove(subscription)

    def execute(self, prefix: str, request: Request) -> Reply:
        """Run one request at the current trio time."""
        namespace = self._namespaces.get(prefix) or Namespace()
        reply = namespace.execute(request, int(self._clock.current_time() * _MICROSECONDS))
        if namespace.born or namespace.watched:  # whoever only looks makes none
            self._namespaces[prefix] = namespace
        changed = namespace.changed
        if changed is None or changed:
            for subscription in self._subscriptions.get(prefix, ()):
                subscription.tell(changed)
        return reply

    async def prefixes(self) -> list[str]:
        """Return the prefixes that are in use; see `Store.prefixes`."""
        await trio.lowlevel.checkpoint()
        return sorted(
            prefix
            for prefix, namespace in self._namespaces.items()
            if any(True for _ in namespace.registry.holders())
        )

    def wipe(self) -> None:
        """Lose everything, as a server does that restarts without persistence."""
        self._namespaces.clear()
        for listeners in self._subscriptions.values():
            for subscription in listeners:
                subscription.tell(None)

    def __repr__(self) -> str:
        return f"<MemoryStore with {len(self._namespaces)} namespaces>"


class _Clock:
    """Time that goes on from one `trio.run` to the next, each of which has a clock of its own."""

    def __init__(self) -> None:
        self._clock: trio.abc.Clock | None = None
        self._offset = 0.0
        self._latest = 0.0
        self._users = 0

    @contextmanager
    def in_use(self) -> Generator[None]:
        """Return a block in which no other run may use it."""
        clock = trio.lowlevel.current_clock()
        if clock is not self._clock:
            if self._users:
                raise RuntimeError(
                    "this MemoryStore is in use by another trio.run: share it between counters "
                    "of one run, or use a store that is made to be shared"
                )
            if self._clock is not None:
                self._offset = self._latest - clock.current_time()
            self._clock = clock
        self._users += 1
        try:
            yield
        finally:
            self._users -= 1

    def current_time(self) -> float:
        """Return seconds that never go back."""
        self._latest = trio.current_time() + self._offset
        return self._latest


class _MemoryLink(Link):
    def __init__(self, store: MemoryStore, prefix: str) -> None:
        self._store = store
        self._prefix = prefix

    async def connect(self) -> None:
        await trio.lowlevel.checkpoint()

    async def receive(self, request: Request) -> Reply:
        await trio.lowlevel.checkpoint_if_cancelled()
        reply = self._store.execute(self._prefix, request)
        await trio.lowlevel.cancel_shielded_checkpoint()
        return reply

    @property
    def connected(self) -> bool:
        return True


class _MemorySubscription(Subscription):
    def __init__(self) -> None:
        self._subscribed = False
        self._untold: frozenset[str] | None = frozenset()  # None: any key
        self._told = trio.Event()

    def tell(self, changed: frozenset[str] | None) -> None:
        """Wake who waits, or keep it until somebody does."""
        if not self._subscribed:
            return
        if self._untold is not None:
            every = None if changed is None else self._untold | changed
            self._untold = None if every is None or len(every) > MAX_CHANGED else every
        self._told.set()

    async def connect(self) -> None:
        await trio.lowlevel.checkpoint()
        if not self._subscribed:
            self._subscribed, self._untold = True, frozenset()

    async def wait(self) -> frozenset[str] | None:
        if not self._subscribed:
            await trio.lowlevel.checkpoint()
            raise StoreUnavailableError("there is no subscription: `connect` comes first")
        try:
            await trio.lowlevel.checkpoint()
            while self._untold == frozenset():
                self._told = trio.Event()
                await self._told.wait()
        except trio.Cancelled:
            self._subscribed = False  # as with a connection, so that nobody relies on less
            raise
        changed, self._untold = self._untold, frozenset()
        return changed
