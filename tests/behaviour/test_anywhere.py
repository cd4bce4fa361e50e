"""A counter where its trio does not run: in another thread, under asyncio, before and after."""

# ruff: noqa: SIM300 - expected == actual, all through

from __future__ import annotations

import asyncio
import math
import os
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing

from distkit_actors import (
    CounterStatistics,
    Eq,
    FleetLimiter,
    InstanceAwareCounter,
    LaxInstanceAwareCounter,
    MemoryStore,
    StrictInstanceAwareCounter,
)
from tests.behaviour.world import Flavour, World, both_flavours

KINDS = {"strict": StrictInstanceAwareCounter, "lax": LaxInstanceAwareCounter}


def _sync_calls(counter: InstanceAwareCounter) -> dict[str, Callable[[], object]]:
    """Every plain method that counts or reads."""
    if not isinstance(counter, LaxInstanceAwareCounter):
        return {}
    handle = counter.bind("new")
    return {
        "inc_nowait": lambda: counter.inc_nowait("new"),
        "dec_nowait": lambda: counter.dec_nowait("new"),
        "get_nowait": lambda: counter.get_nowait("new"),
        "age": lambda: counter.age("new"),
        "handle.inc_nowait": handle.inc_nowait,
        "handle.dec_nowait": handle.dec_nowait,
        "handle.get_nowait": handle.get_nowait,
        "handle.age": handle.age,
    }


def _async_calls(counter: InstanceAwareCounter) -> dict[str, Callable[[], Awaitable[object]]]:
    """Every async method."""
    handle = counter.bind("k")

    async def enter(block: Any) -> None:
        async with block:
            raise AssertionError

    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "run": counter.run,
        "aclose": counter.aclose,
        "inc": lambda: counter.inc("k"),
        "dec": lambda: counter.dec("k"),
        "get": lambda: counter.get("k"),
        "set": lambda: counter.set("k", 1),
        "set_on_instance": lambda: counter.set_on_instance("k", 1),
        "delete": lambda: counter.delete("k"),
        "delete_on_instance": lambda: counter.delete_on_instance("k"),
        "clear": counter.clear,
        "clear_on_instance": counter.clear_on_instance,
        "inc_all": lambda: counter.inc_all({"k": 1}),
        "inc_all of nothing": lambda: counter.inc_all({}),
        "set_all": lambda: counter.set_all({"k": 1}),
        "set_all_on_instance": lambda: counter.set_all_on_instance({"k": 1}),
        "get_all": lambda: counter.get_all(["k"]),
        "get_all_on_instance": lambda: counter.get_all_on_instance(["k"]),
        "inc_if": lambda: counter.inc_if("k", Eq(0)),
        "set_if": lambda: counter.set_if("k", Eq(0), 1),
        "set_on_instance_if": lambda: counter.set_on_instance_if("k", Eq(0), 1),
        "inc_all_if": lambda: counter.inc_all_if({"k": (Eq(0), 1)}),
        "set_all_if": lambda: counter.set_all_if({"k": (Eq(0), 1)}),
        "set_all_on_instance_if": lambda: counter.set_all_on_instance_if({"k": (Eq(0), 1)}),
        "instances": counter.instances,
        "slices": lambda: counter.slices("k"),
        "keys": counter.keys,
        "forget": lambda: counter.forget("nobody"),
        "hold": lambda: enter(counter.hold("k")),
        "hold with a limit": lambda: enter(counter.hold("k", limit=5)),
        "hold beyond the limit": lambda: enter(counter.hold("k", limit=-(2**63))),
        "watch": lambda: enter(counter.watch("k")),
        "wait_until": lambda: counter.wait_until("k", Eq(0)),
        "handle.inc": handle.inc,
        "handle.dec": handle.dec,
        "handle.get": handle.get,
        "handle.set": lambda: handle.set(1),
        "handle.set_on_instance": lambda: handle.set_on_instance(1),
        "handle.delete": handle.delete,
        "handle.delete_on_instance": handle.delete_on_instance,
        "handle.inc_if": lambda: handle.inc_if(Eq(0)),
        "handle.set_if": lambda: handle.set_if(Eq(0), 1),
        "handle.set_on_instance_if": lambda: handle.set_on_instance_if(Eq(0), 1),
        "handle.hold": lambda: enter(handle.hold()),
        "handle.slices": handle.slices,
        "handle.watch": lambda: enter(handle.watch()),
        "handle.wait_until": lambda: handle.wait_until(Eq(0)),
    }
    if isinstance(counter, LaxInstanceAwareCounter):
        calls["flush"] = counter.flush
    return calls


@both_flavours
def test_every_public_method_is_called_below(flavour: Flavour) -> None:
    """But for those that may be used anywhere, or that make a counter."""
    counter = KINDS[flavour]("app", "memory://")
    anywhere = {"bind", "instance_id", "open", "own_slices", "prefix", "statistics", "strict"}
    anywhere.add("handle.key")
    called = {name.partition(" ")[0] for name in _async_calls(counter) | _sync_calls(counter)}
    public = {name for name in dir(counter) if not name.startswith("_")}
    public |= {f"handle.{name}" for name in dir(counter.bind("k")) if not name.startswith("_")}
    assert public == called | anywhere


def _by_hand(call: Callable[[], Awaitable[object]]) -> None:
    """Run a coroutine up to where it waits."""
    awaitable = call()
    next(awaitable.__await__())


def _by_another_trio(call: Callable[[], Awaitable[object]]) -> None:
    trio.run(lambda: _awaited(call))  # type: ignore[arg-type]


def _by_asyncio(call: Callable[[], Awaitable[object]]) -> None:
    asyncio.run(_awaited(call))


def _not_done(name: str, function: Callable[..., object], *arguments: object) -> None:
    function(*arguments)
    raise AssertionError(f"{name} went well")


async def _awaited(call: Callable[[], Awaitable[object]]) -> None:
    await call()


@both_flavours
@pytest.mark.parametrize(
    ("by", "match"),
    [
        (_by_hand, r"trio\.from_thread\.run_sync"),
        (_by_another_trio, r"trio\.from_thread\.run_sync"),
        (_by_asyncio, "under asyncio"),
    ],
)
async def test_no_other_thread_may_call(
    world: World, flavour: Flavour, by: Callable[[Any], None], match: str
) -> None:
    """Whatever is called there says what to do, and does nothing; the counter goes on."""
    counter = await world.make(flavour)
    await counter.inc("k", 5)

    def everything() -> None:
        for name, call in _async_calls(counter).items():
            with pytest.raises(RuntimeError, match=match):
                _not_done(name, by, call)
        for name, sync_call in _sync_calls(counter).items():
            with pytest.raises(RuntimeError, match=r"trio\.from_thread\.run_sync"):
                _not_done(name, sync_call)
        if flavour == "lax":
            trio.from_thread.run_sync(counter.inc_nowait, "k")
        assert "running" == counter.statistics().state

    await in_thread(everything)
    value = await counter.get("k")
    assert value.cumulative == (6 if flavour == "lax" else 5)
    assert ["k"] == await counter.keys()


@both_flavours
async def test_no_other_thread_may_use_a_limiter(world: World, flavour: Flavour) -> None:
    """What is called there does nothing, and the limiter goes on with its tokens and its line."""
    limiter = FleetLimiter(await world.make(flavour), "seats", 1)
    await limiter.acquire_on_behalf_of("x")

    def total() -> None:
        limiter.total_tokens = 7

    def everything() -> None:
        for call in (limiter.acquire, lambda: limiter.acquire_on_behalf_of("y")):
            for by in (_by_hand, _by_another_trio):
                with pytest.raises(RuntimeError, match=r"trio\.from_thread\.run_sync"):
                    by(call)
        for sync_call in (
            limiter.acquire_nowait,
            lambda: limiter.acquire_on_behalf_of_nowait("y"),
            limiter.release,
            lambda: limiter.release_on_behalf_of("x"),
            total,
        ):
            with pytest.raises(RuntimeError, match=r"trio\.from_thread\.run_sync"):
                sync_call()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(limiter.acquire_on_behalf_of, "z")
        await trio.testing.wait_all_tasks_blocked()
        await in_thread(everything)
        assert (1, 1) == (limiter.total_tokens, limiter.borrowed_tokens)
        limiter.release_on_behalf_of("x")
    assert ("z",) == limiter.statistics().borrowers


async def in_thread(work: Callable[[], None]) -> None:
    """Do something in another thread. It takes as long as it takes: told time must not go by."""
    clock = trio.lowlevel.current_clock()
    if isinstance(clock, trio.testing.MockClock):
        clock.autojump_threshold = math.inf
    await trio.to_thread.run_sync(work)
    if isinstance(clock, trio.testing.MockClock):
        clock.autojump_threshold = 0


@both_flavours
@pytest.mark.parametrize("parts", [1, 3])
def test_asyncio_is_told_that_it_is_the_wrong_one(flavour: Flavour, parts: int) -> None:
    """Before the start, too: of every method, of `open`, and of a limiter."""
    counter = KINDS[flavour]("p", MemoryStore(partitions=parts))
    limiter = FleetLimiter(counter, "seats", 1)

    async def main() -> None:
        for limit in (limiter.acquire_nowait, limiter.release):
            with pytest.raises(RuntimeError, match="under asyncio"):
                limit()
        with pytest.raises(RuntimeError, match="under asyncio"):
            await limiter.acquire()
        for call in _async_calls(counter).values():
            with pytest.raises(RuntimeError, match=r"under asyncio.* hypercorn -k trio"):
                await call()
        with pytest.raises(RuntimeError, match="under asyncio"):
            async with KINDS[flavour].open("p", MemoryStore()):
                raise AssertionError
        for sync_call in _sync_calls(counter).values():
            with pytest.raises(RuntimeError, match="under asyncio"):
                sync_call()

    # asyncio's own loop: once trio-asyncio has been imported, `asyncio.run` makes one of its.
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        runner.run(main())
    assert "new" == counter.statistics().state


@both_flavours
def test_without_trio_the_message_says_so(flavour: Flavour) -> None:
    """A coroutine that nobody runs."""
    for call in _async_calls(KINDS[flavour]("p", MemoryStore())).values():
        with pytest.raises(RuntimeError, match="outside the counter's own trio thread"):
            _by_hand(call)


# --------------------------------------------------------------------------------- statistics


@both_flavours
def test_statistics_can_be_had_before_and_after(flavour: Flavour) -> None:
    """Where no clock runs there is no age, and later it goes on."""
    counter = KINDS[flavour]("p", MemoryStore())
    new = counter.statistics()
    assert ("new", None, None) == (new.state, new.last_heartbeat_age, new.in_flight_age)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(counter.run)
            await counter.inc("k")
            assert "running" == counter.statistics().state
            await counter.aclose()

    trio.run(main)
    first, second = counter.statistics(), counter.statistics()
    assert "closed" == first.state == second.state
    assert first.in_flight_age is None
    assert first.last_heartbeat_age is not None
    assert second.last_heartbeat_age is not None
    assert 0 <= first.last_heartbeat_age <= second.last_heartbeat_age


async def test_statistics_can_be_had_in_any_thread() -> None:
    """While the counter is at work: nothing breaks, and nothing is odd."""
    async with LaxInstanceAwareCounter.open("p", MemoryStore(), flush_interval=0.001) as counter:
        seen: list[CounterStatistics] = []
        stop = threading.Event()

        def look() -> None:
            while not stop.is_set():
                seen.append(counter.statistics())
                assert "running" in repr(counter)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, look)
            try:
                number = 0
                while len(seen) < 2000:
                    for _ in range(100):
                        counter.inc_nowait(f"k-{number % 5000}")
                        number += 1
                    await trio.lowlevel.checkpoint()
            finally:
                stop.set()
        await counter.flush()
    assert all(statistics.state == "running" for statistics in seen)
    assert any(statistics.pending_keys for statistics in seen)


@both_flavours
async def test_the_state_tells_where_in_its_life_a_counter_is(
    world: World, flavour: Flavour
) -> None:
    """And `repr` shows it."""
    counter = world.build(flavour, exit_grace=60.0)
    states: list[str] = []

    def note() -> None:
        state = counter.statistics().state
        states.append(state)
        assert repr(counter).endswith(f", {state}>")

    note()
    world.wire(counter).hold()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.start, counter)
        await trio.sleep(0.1)
        note()
        world.wire(counter).release()
    note()
    world.wire(counter).cut()
    await world.intervals(2)
    note()
    world.wire(counter).heal()
    await world.rejoin(counter)
    note()
    world.wire(counter).away(None)
    await world.intervals(2)
    note()
    world.wire(counter).forget_plan()
    await world.rejoin(counter)
    note()
    world.wire(counter).hold()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(counter.aclose)
        await trio.sleep(0.1)
        note()
        world.wire(counter).release()
    note()
    away_and_back = ["away", "running"]
    expected = ["new", "starting", "running", *away_and_back, *away_and_back, "stopping", "closed"]
    assert expected == states


@both_flavours
async def test_a_counter_closed_before_its_start_is_closed(world: World, flavour: Flavour) -> None:
    """It never had an id."""
    counter = world.build(flavour)
    await counter.aclose()
    assert "closed" == counter.statistics().state
    assert repr(counter).endswith(", closed>")


# ------------------------------------------------------------------------------- memory store


def test_a_memory_store_outlives_a_run() -> None:
    """The next run has a clock of its own, and the store's goes on from where it was."""
    store = MemoryStore()

    async def linger(clock_from: float) -> None:
        async with StrictInstanceAwareCounter.open(
            "p", store, on_exit="linger", dead_instance_threshold=10.0
        ) as counter:
            await trio.sleep(clock_from)
            await counter.inc("k")

    async def look() -> list[int]:
        async with StrictInstanceAwareCounter.open(
            "p", store, dead_instance_threshold=10.0
        ) as counter:
            values = [(await counter.get("k")).cumulative]
            await trio.sleep(9.0)
            values.append((await counter.get("k")).cumulative)
            await trio.sleep(2.0)
            values.append((await counter.get("k")).cumulative)
            return values

    def mock() -> trio.testing.MockClock:
        return trio.testing.MockClock(autojump_threshold=0)

    trio.run(linger, 1000.0, clock=mock())
    assert [1, 1, 0] == trio.run(look, clock=mock())  # whose clock begins at 0
    trio.run(linger, 0.0)
    assert [1, 1, 0] == trio.run(look, clock=mock())


@pytest.mark.parametrize("begins", [0.0, 5000.0], ids=["earlier", "later"])
def test_no_time_passes_in_a_memory_store_between_two_runs(begins: float) -> None:
    """Whatever time it is by the clock of the next one."""
    store = MemoryStore()

    async def linger() -> None:
        async with StrictInstanceAwareCounter.open(
            "p", store, instance_id="a", on_exit="linger"
        ) as counter:
            await trio.sleep(1000.0)
            await counter.inc("k")

    async def look() -> dict[str, float]:
        async with StrictInstanceAwareCounter.open("p", store) as counter:
            await trio.sleep(2.0)
            return {info.instance_id: info.heartbeat_age for info in await counter.instances()}

    trio.run(linger, clock=trio.testing.MockClock(autojump_threshold=0))
    clock = trio.testing.MockClock(autojump_threshold=0)
    clock.jump(begins)
    assert 2.0 == pytest.approx(trio.run(look, clock=clock)["a"])


async def test_a_memory_store_is_for_one_run_at_a_time() -> None:
    """Another one, in another thread, is told so."""
    store = MemoryStore()

    async def other() -> None:
        async with StrictInstanceAwareCounter.open("p", store):
            raise AssertionError

    def run_another() -> None:
        with pytest.raises(RuntimeError, match=r"in use by another trio\.run"):
            trio.run(other)

    async with StrictInstanceAwareCounter.open("p", store) as counter:
        await trio.to_thread.run_sync(run_another)
        assert (1, 1) == await counter.inc("k")
    await trio.to_thread.run_sync(_run_alone, store)


async def test_a_memory_store_that_was_in_use_at_a_fork_can_be_used_in_the_child(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever uses it is in the parent."""
    store, process = MemoryStore(), os.getpid()
    async with store.link("other"):
        monkeypatch.setattr(os, "getpid", lambda: process + 1)
        await trio.to_thread.run_sync(_run_alone, store)
    await trio.to_thread.run_sync(_run_alone, store)


def _run_alone(store: MemoryStore) -> None:
    async def main() -> None:
        async with StrictInstanceAwareCounter.open("p", store) as counter:
            assert (1, 1) == await counter.inc("k")

    trio.run(main)
