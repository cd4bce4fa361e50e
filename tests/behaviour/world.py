"""A world for counters to live in: a store, a network for each, and time.

Every test of this directory is written once, against `World`, and can run in two of them:

* ``memory``: a `MemoryStore` on trio's mock clock, where thresholds are whole seconds and
  waiting takes no time;
* ``redis``: a `RedisStore` on a private server and the real clock, with short thresholds.

A test runs in memory, unless its decorator says more.  `on_both` and `everywhere` are for what is
promised of any store: the invariants, the defects of the reference, what each operation does.
Both halves of the store are held to each other in `tests/stores`, and what a real server and a
real network add is in `tests/faults`.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from functools import partial
from typing import Any, Literal

import pytest
import trio
import trio.testing

from distkit_actors import (
    CounterOverflowError,
    CounterValue,
    DistkitError,
    InstanceAwareCounter,
    InstanceConflictError,
    LaxInstanceAwareCounter,
    MemoryStore,
    RedisStore,
    Store,
    StoreUnavailableError,
    StrictInstanceAwareCounter,
)
from distkit_actors._instance._buffered_key import NEVER
from distkit_actors._namespace._registry import Registry
from distkit_actors._protocol._messages import Reply, Request
from distkit_actors._stores._contract import Link, Subscription
from distkit_actors.testing import FaultyStore
from tests.harness import unique_prefix
from tests.harness.pressure import pressure
from tests.harness.server import RedisServer

Flavour = Literal["strict", "lax"]
Counter = StrictInstanceAwareCounter | LaxInstanceAwareCounter

MAX = 2**63 - 1
MIN = -(2**63)

#: A test that takes longer hangs: mock seconds, and real ones.
_LONGEST_MOCK = 100_000.0
_LONGEST_REAL = 300.0
#: Until what must come is given up, on a machine with next to no time for us, too.
PATIENCE = 60.0

#: Holds a slice of each instance that is to be silent, so that its end can be seen.
_WITNESS = "validator-of-"

AsyncTest = Callable[[], Coroutine[Any, Any, Any]]


def run_on_mock_clock(
    test: AsyncTest, *, clock: object = None, instruments: Iterable[trio.abc.Instrument] = ()
) -> object:
    """Run a test where time passes only while everybody waits for it."""
    mock = trio.testing.MockClock(autojump_threshold=0)
    return trio.run(_limited, test, _LONGEST_MOCK, clock=mock, instruments=list(instruments))


def run_on_real_clock(
    test: AsyncTest, *, clock: object = None, instruments: Iterable[trio.abc.Instrument] = ()
) -> object:
    """Run a test in real time, but not for long."""
    return trio.run(_limited, test, _LONGEST_REAL, instruments=list(instruments))


async def _limited(test: AsyncTest, seconds: float) -> None:
    with trio.fail_after(seconds):
        await test()


MEMORY = pytest.param("memory", id="memory", marks=pytest.mark.trio(run=run_on_mock_clock))
REDIS = pytest.param("redis", id="redis", marks=pytest.mark.trio(run=run_on_real_clock))

#: Says what holds without it: for a test that could run nowhere else.
on_memory = pytest.mark.parametrize("backend", [MEMORY], indirect=True)
on_both = pytest.mark.parametrize("backend", [MEMORY, REDIS], indirect=True)
on_redis = pytest.mark.parametrize("backend", [REDIS], indirect=True)
both_flavours = pytest.mark.parametrize("flavour", ["strict", "lax"])
#: Both flavours, and both stores; the actor's half is one, so that each pair need not be seen.
everywhere = pytest.mark.parametrize(
    ("backend", "flavour"),
    [
        pytest.param(*store.values, flavour, id=f"{store.id}-{flavour}", marks=store.marks)
        for store, flavour in ((MEMORY, "strict"), (MEMORY, "lax"), (REDIS, "lax"))
    ],
    indirect=["backend"],
)


class Tap(Store):
    """Passes everything on to a store and remembers it; may have a bug of its own."""

    def __init__(self, inner: Store) -> None:
        self.inner = inner
        self.seen: list[tuple[float, Request, Reply]] = []
        self.whole = self
        self.bug: BaseException | None = None

    @property
    def requests(self) -> list[Request]:
        """What was executed, or answered from the record."""
        return [request for _, request, _ in self.seen]

    @property
    def partitions(self) -> int:
        """Over how many parts the store spreads a namespace."""
        return self.inner.partitions

    def part(self, number: int) -> Store:
        """Return one part, which is listened to by the same ear."""
        part = Tap(self.inner.part(number))
        part.seen = self.seen
        part.whole = self
        return part

    @asynccontextmanager
    async def link(self, prefix: str) -> AsyncIterator[Link]:
        """Return a link that is listened to."""
        async with self.inner.link(prefix) as link:
            yield _TappedLink(self.whole, link)

    def subscribe(self, prefix: str) -> AbstractAsyncContextManager[Subscription | None]:
        """Return what the store pushes."""
        return self.inner.subscribe(prefix)


class _TappedLink(Link):
    def __init__(self, tap: Tap, inner: Link) -> None:
        self._tap = tap
        self._inner = inner

    async def connect(self) -> None:
        await self._inner.connect()

    async def receive(self, request: Request) -> Reply:
        if self._tap.bug is not None:
            await trio.lowlevel.checkpoint()
            raise self._tap.bug
        at = trio.current_time()
        reply = await self._inner.exchange(request)
        self._tap.seen.append((at, request, reply))
        return reply

    @property
    def connected(self) -> bool:
        return self._inner.connected


class Backend(ABC):
    """Where the store is."""

    name: str
    threshold: float
    grace: float
    lag: float  # a lax read waits ten times as long, which must not happen by chance

    @abstractmethod
    def store(self) -> Store:
        """Return a store object that reaches it."""

    @abstractmethod
    async def wipe(self, prefix: str) -> None:
        """Lose everything of a namespace."""

    @abstractmethod
    async def snapshot(self, prefix: str) -> None:
        """Remember how the namespace is."""

    @abstractmethod
    async def roll_back(self, prefix: str) -> None:
        """Make the namespace as it was at the snapshot."""

    @abstractmethod
    async def footprint(self, prefix: str) -> int:
        """Return how many things the store holds for a namespace."""


class MemoryBackend(Backend):
    """A store in this process."""

    name = "memory"
    threshold = 9.0
    grace = 5.0
    lag = 0.02

    def __init__(self) -> None:
        self.shared = MemoryStore()
        self._snapshot: dict[str, object] = {}

    def store(self) -> Store:
        return self.shared

    async def wipe(self, prefix: str) -> None:
        self.shared._namespaces.pop(prefix, None)

    async def snapshot(self, prefix: str) -> None:
        self._snapshot[prefix] = copy.deepcopy(self.shared._namespaces[prefix])

    async def roll_back(self, prefix: str) -> None:
        self.shared._namespaces[prefix] = copy.deepcopy(self._snapshot[prefix])  # type: ignore[assignment]

    async def footprint(self, prefix: str) -> int:
        registry = self.shared._namespaces[prefix].registry
        slices = sum(len(record.slices) for record in registry.records.values())
        epochs = len(registry.epochs.moved) + len(registry.epochs.late)
        return slices + len(registry.records) + len(registry.sums) + epochs


_WIPE = """
for _, name in ipairs(redis.call('KEYS', ARGV[1])) do redis.call('DEL', name) end
"""
_SNAPSHOT = """
for _, name in ipairs(redis.call('KEYS', ARGV[1])) do
    redis.call('COPY', name, 'snapshot-of-' .. name)
end
"""
_ROLL_BACK = """
for _, name in ipairs(redis.call('KEYS', ARGV[1])) do redis.call('DEL', name) end
for _, name in ipairs(redis.call('KEYS', 'snapshot-of-' .. ARGV[1])) do
    redis.call('COPY', name, string.sub(name, 13))
end
"""
_FOOTPRINT = """
local size = 0
for _, name in ipairs(redis.call('KEYS', ARGV[1])) do
    local kind = redis.call('TYPE', name).ok
    if string.find(name, ':s:', 1, true) == nil then
        if kind == 'hash' then
            for _, field in ipairs(redis.call('HKEYS', name)) do
                -- Not what the protocol notes down, which comes and goes with time.
                if string.find(field, '^:%l') == nil then size = size + 1 end
            end
        end
        if kind == 'zset' then size = size + redis.call('ZCARD', name) end
    end
    size = size + 1
end
return size
"""


class RedisBackend(Backend):
    """A private server."""

    name = "redis"
    lag = 0.1

    def __init__(self, server: RedisServer) -> None:
        self.server = server
        self.threshold = 0.36 * pressure()
        self.grace = 0.5 * pressure()

    def store(self) -> Store:
        return RedisStore(self.server.url)

    async def wipe(self, prefix: str) -> None:
        await self._script(_WIPE, prefix)

    async def snapshot(self, prefix: str) -> None:
        await self._script(_SNAPSHOT, prefix)

    async def roll_back(self, prefix: str) -> None:
        await self._script(_ROLL_BACK, prefix)

    async def footprint(self, prefix: str) -> int:
        return int(await self._script(_FOOTPRINT, prefix))

    async def names(self, prefix: str) -> list[str]:
        """Return the Redis keys of a namespace."""
        return sorted(await self.server.command_async("KEYS", _names(prefix)))

    async def _script(self, script: str, prefix: str) -> Any:
        return await self.server.command_async("EVAL", script, 0, _names(prefix))


def _names(prefix: str) -> str:
    return f"dk:*{prefix}}}:*"


class World:
    """Counters of one namespace, each with a network of its own to the same store."""

    def __init__(self, backend: Backend, prefix: str, nursery: trio.Nursery) -> None:
        self.backend = backend
        self.prefix = prefix
        self.threshold = backend.threshold
        self.interval = backend.threshold / 3
        self._nursery = nursery
        self._counters: list[Counter] = []
        self._wires: dict[Counter, FaultyStore] = {}
        self._taps: dict[Counter, Tap] = {}
        self._scopes: dict[Counter, trio.CancelScope] = {}
        self._crashed: set[Counter] = set()
        self._tolerated: set[Counter] = set()

    @property
    def registry(self) -> Registry:
        """What a `MemoryStore` keeps of the namespace."""
        assert isinstance(self.backend, MemoryBackend)
        return self.backend.shared._namespaces[self.prefix].registry

    # ------------------------------------------------------------------ counters

    async def strict(self, **options: Any) -> StrictInstanceAwareCounter:
        """Return a strict counter, running."""
        return await self._start(self.build("strict", **options))

    async def lax(self, **options: Any) -> LaxInstanceAwareCounter:
        """Return a lax counter, running."""
        return await self._start(self.build("lax", **options))

    async def make(self, flavour: Flavour, **options: Any) -> Counter:
        """Return a counter of either kind, running."""
        return await self._start(self.build(flavour, **options))

    def build(self, flavour: Flavour, *, prefix: str | None = None, **options: Any) -> Any:
        """Return a counter that does not run yet, to be started by the test."""
        options.setdefault("dead_instance_threshold", self.threshold)
        options.setdefault("exit_grace", self.backend.grace)
        kind = StrictInstanceAwareCounter if flavour == "strict" else LaxInstanceAwareCounter
        if flavour == "lax":
            options.setdefault("allowed_lag", self.backend.lag)
        tap = Tap(self.backend.store())
        wire = FaultyStore(tap)
        counter = kind(prefix or self.prefix, wire, **options)
        self._wires[counter] = wire
        self._taps[counter] = tap
        return counter

    async def start(self, counter: Counter) -> None:
        """Run a counter that was built."""
        await self._start(counter)

    async def _start(self, counter: Any) -> Any:
        await self._nursery.start(self._host, counter)
        return counter

    async def _host(self, counter: Counter, task_status: trio.TaskStatus[object]) -> None:
        self._counters.append(counter)
        with trio.CancelScope() as self._scopes[counter]:
            try:
                await counter.run(task_status=task_status)
            except (StoreUnavailableError, InstanceConflictError, CounterOverflowError):
                if counter not in self._crashed | self._tolerated:
                    raise

    async def close(self) -> None:
        """Stop every counter that still runs."""
        for counter in self._counters:
            if counter in self._crashed:
                continue
            wire = self._wires[counter]
            wire.heal()
            wire.release()
            with suppress(*(counter in self._tolerated) * [DistkitError]):
                await counter.aclose()

    def forget(self, *counters: Counter) -> None:
        """Think no more of counters that are closed; and start the namespace afresh."""
        for counter in counters:
            self._counters.remove(counter)
        self.prefix = unique_prefix()

    # ------------------------------------------------------------------- network

    def wire(self, counter: InstanceAwareCounter) -> FaultyStore:
        """Return the network of a counter."""
        return self._wires[counter]  # type: ignore[index]

    def tap(self, counter: InstanceAwareCounter) -> Tap:
        """Return what listens behind the network of a counter."""
        return self._taps[counter]  # type: ignore[index]

    def requests(self, counter: InstanceAwareCounter) -> list[Request]:
        """Return what a counter has had answered."""
        return self.tap(counter).requests

    async def cut(self, counter: Counter) -> None:
        """Cut a counter off from the store; it lives on."""
        await self.mark(counter)
        self.wire(counter).cut()

    def heal(self, counter: Counter) -> None:
        """Join a counter with the store again."""
        self.wire(counter).heal()

    async def rejoin(self, counter: Counter) -> None:
        """Join a counter with the store again, and wait until it is back."""
        seen = len(self.tap(counter).seen)
        self.heal(counter)

        async def back() -> bool:
            return len(self.tap(counter).seen) > seen

        await self.until(back)
        await self.value(counter, _WITNESS + counter.instance_id)

    async def leave_no_room(self, counter: Counter, other: Counter) -> None:
        """Have a counter return with a slice of "k" that does not fit, as another has counted 10.

        I12, overflow.
        """
        await counter.inc("k", MAX)
        await self.cut(counter)
        await self.reaped(counter, by=other)
        await other.inc("k", 10)
        await self.rejoin(counter)
        assert counter.statistics().withheld_slices == 1

    async def crash(self, counter: Counter) -> None:
        """End a counter as `kill -9` would: no flush, no good-bye."""
        await self.mark(counter)
        self.kill(counter)

    def kill(self, *counters: Counter) -> None:
        """Crash counters of which nobody has to see the death."""
        for counter in counters:
            self._crashed.add(counter)
            self.wire(counter).cut()
            self._scopes[counter].cancel()

    async def mark(self, counter: Counter) -> None:
        """Let a counter hold something by which `reaped` can tell."""
        await counter.set_on_instance(_WITNESS + counter.instance_id, 1)
        await self.settle(counter)

    @asynccontextmanager
    async def reply_lost(
        self, counter: Counter, when: Callable[[Request], bool]
    ) -> AsyncIterator[None]:
        """Have a request executed whose reply never comes; the block runs in between.

        In the block the counter is cut off from the store; the reply is the one to the first
        request from now on that ``when`` accepts.
        """
        wire = self.wire(counter)
        first = len(self.tap(counter).seen)
        wire.hold(replies=True)
        while not any(when(request) for request in self.requests(counter)[first:]):
            wire.release()  # what is held is not what we want
            wire.hold(replies=True)
            await trio.sleep(0.001)
        wire.cut()
        wire.release()
        yield
        wire.heal()

    def tolerate(self, counter: Counter) -> None:
        """Let a counter end badly without failing the test."""
        self._tolerated.add(counter)

    # ---------------------------------------------------------------------- time

    def beat_slowly(self) -> None:
        """Let counters that are made from now on beat once in a minute: for a test of hours.

        Records are kept for an hour still, as that is more than twenty thresholds.
        """
        self.threshold, self.interval = 180.0, 60.0

    async def reaped(self, counter: Counter, *, by: Counter) -> None:
        """Wait until the slices of a silent counter are gone, as ``by`` sees it."""
        validator = _WITNESS + counter.instance_id

        async def gone() -> bool:
            return (await self.value(by, validator)).cumulative == 0

        await self.until(gone)
        for _ in range(3):  # few enough slices for a few steps
            await self.value(by, validator)

    async def until(self, condition: Callable[[], Awaitable[bool]]) -> None:
        """Wait until something is true, looking more often than a heartbeat."""
        with trio.fail_after(12 * self.threshold if self.backend.name == "memory" else PATIENCE):
            while not await condition():  # noqa: ASYNC110 - what others do sets no event
                await trio.sleep(self.interval / 8)

    async def sees(self, counter: Counter, key: str, *expected: int) -> None:
        """Wait until a counter reads a value."""
        value = CounterValue(*expected)

        async def equal() -> bool:
            return await self.value(counter, key) == value

        try:
            await self.until(equal)
        except trio.TooSlowError:
            assert value == await self.value(counter, key)
            raise

    async def has(self, counter: Counter, key: str, *expected: int) -> None:
        """Hold that a counter reads a value now, give or take what a busy machine delays."""
        if self.backend.name == "memory":
            assert CounterValue(*expected) == await self.value(counter, key)
        else:
            await self.sees(counter, key, *expected)

    @property
    def slack(self) -> float:
        """How much longer than planned anything may take."""
        return 0.0 if self.backend.name == "memory" else 1.0

    async def intervals(self, count: float) -> None:
        """Let heartbeat intervals pass."""
        await trio.sleep(count * self.interval)

    async def settle(self, *counters: Counter) -> None:
        """Have everything counted so far in the store."""
        for counter in counters or self._counters:
            if isinstance(counter, LaxInstanceAwareCounter) and counter not in self._crashed:
                await counter.flush()

    async def value(self, counter: Counter, key: str) -> CounterValue:
        """Read what is in the store now, through any counter."""
        if isinstance(counter, LaxInstanceAwareCounter):
            await counter.flush()
            buffered = counter._buffer.find(key)
            if buffered is not None:
                buffered.read_at = NEVER  # as if it had been read long ago
        return await counter.get(key)


async def gather(*calls: Callable[[], Awaitable[object]]) -> list[object]:
    """Make calls at the same time, in order; return what they returned."""
    results: list[object] = [None] * len(calls)

    async def call(index: int, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        results[index] = await calls[index]()

    async with trio.open_nursery() as nursery:
        for index in range(len(calls)):
            # Not `start_soon`, which starts tasks in any order.
            await nursery.start(call, index)
    return results


async def struck(wire: FaultyStore, what: str, count: int = 1) -> None:
    """Wait until something has happened on a network so many times, see `FaultyStore.counts`."""
    while wire.counts[what] < count:  # noqa: ASYNC110 - a network sets no event
        await trio.sleep(0.001)


async def outcome(call: Callable[[], Awaitable[object]]) -> object:
    """Make a call; return what it returned, or the class of the error it raised."""
    try:
        return await call()
    except DistkitError as error:
        return type(error)


def each(function: Callable[..., Awaitable[object]], *arguments: Any) -> Callable[[], Any]:
    """Return a call without arguments, for `gather`."""
    return partial(function, *arguments)
