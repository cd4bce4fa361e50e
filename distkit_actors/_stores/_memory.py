"""A store inside the process: no server, no dependency beyond trio."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Generator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import final

import trio

from .._errors import StoreUnavailableError
from .._namespace._namespace import Namespace
from .._protocol._liveness import MICROSECONDS
from .._protocol._messages import MAX_CHANGED, Reply, Request
from .._protocol._partitions import checked_partitions
from ._contract import Link, Store, Subscription
from ._part import PartStore


@final
class MemoryStore(Store):
    """A little in-process server for the counters that share this object.

    Its clock is `trio.current_time`, so that tests on trio's mock clock live through
    thresholds and outages in no time. Nothing outlives the object.

    It serves one `trio.run` at a time (RuntimeError else). To the next one it seems that no time
    has passed since the one before.

    Args:
        partitions: Over how many parts the keys of a prefix are spread, as `RedisStore` does it.
            Here that gains nothing: it is for tests of what is then no longer one atomic step.

    Raises:
        TypeError: ``partitions`` is no int.
        ValueError: It is not from 1 to 256.
    """

    def __init__(self, *, partitions: int = 1) -> None:
        self._partitions = checked_partitions(partitions)
        self._clock = _Clock()
        # By prefix; the parts behind the first one have names that no prefix can have.
        self._namespaces: dict[str, Namespace] = {}
        self._subscriptions: dict[str, list[_MemorySubscription]] = {}
        self._parts: dict[int, PartStore] = {}

    @property
    def partitions(self) -> int:
        """Over how many parts the keys of a prefix are spread; see `Store.partitions`."""
        return self._partitions

    def part(self, number: int) -> Store:
        """Return the store of a part of each namespace; see `Store.part`."""
        if number not in self._parts:
            self._parts[number] = PartStore(self, number, self._link, self._subscribe)
        return self._parts[number]

    def link(self, prefix: str) -> AbstractAsyncContextManager[Link]:
        """Return a link to the namespace of ``prefix``; see `Store.link`."""
        return self._link(prefix, 0)

    def subscribe(self, prefix: str) -> AbstractAsyncContextManager[Subscription]:
        """Return notice of changes in the namespace of ``prefix``; see `Store.subscribe`."""
        return self._subscribe(prefix, 0)

    @asynccontextmanager
    async def _link(self, prefix: str, part: int) -> AsyncGenerator[Link]:
        with self._clock.in_use():
            yield _MemoryLink(self, _name(prefix, part))

    @asynccontextmanager
    async def _subscribe(self, prefix: str, part: int) -> AsyncGenerator[Subscription]:
        listeners = self._subscriptions.setdefault(_name(prefix, part), [])
        subscription = _MemorySubscription()
        listeners.append(subscription)
        try:
            yield subscription
        finally:
            listeners.remove(subscription)

    def execute(self, prefix: str, request: Request) -> Reply:
        """Run one request at the current trio time, and return its answer. Not a checkpoint."""
        namespace = self._namespaces.get(prefix) or Namespace()
        reply = namespace.execute(request, int(self._clock.current_time() * MICROSECONDS))
        if namespace.born or namespace.watched:  # whoever only looks makes none
            self._namespaces[prefix] = namespace
        changed = namespace.changed
        if changed is None or changed:
            for subscription in self._subscriptions.get(prefix, ()):
                subscription.tell(changed)
        return reply

    async def prefixes(self) -> list[str]:
        """Return the prefixes that are in use, as `Store.prefixes` does. Sorted.

        A checkpoint; cancelling it leaves nothing behind.
        """
        await trio.lowlevel.checkpoint()
        return sorted(
            {
                name.partition("\ud800")[0]
                for name, namespace in self._namespaces.items()
                if any(True for _ in namespace.registry.contributors())
            }
        )

    def wipe(self) -> None:
        """Lose everything, as a server does that restarts without persistence. Not a checkpoint."""
        self._namespaces.clear()
        for listeners in self._subscriptions.values():
            for subscription in listeners:
                subscription.tell(None)

    def __repr__(self) -> str:
        return f"<MemoryStore with {len(self._namespaces)} namespaces>"


def _name(prefix: str, part: int) -> str:
    """Return under which name a part is kept. A prefix can be encoded, so it has no surrogate."""
    return f"{prefix}\ud800{part}" if part else prefix


class _Clock:
    """Time that goes on from one `trio.run` to the next, each of which has a clock of its own."""

    def __init__(self) -> None:
        self._clock: trio.abc.Clock | None = None
        self._offset = 0.0
        self._latest = 0.0
        self._users = 0
        self._process = os.getpid()

    @contextmanager
    def in_use(self) -> Generator[None]:
        """Return a block in which no other run may use it."""
        clock = trio.lowlevel.current_clock()
        if self._process != os.getpid():  # after a fork, those who used it are in the parent
            self._process, self._users = os.getpid(), 0
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
        process = self._process
        try:
            yield
        finally:
            if process == self._process:
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
