"""Whatever a counter is busy with, its beats, counts and other callers get through (I14)."""

# ruff: noqa: SIM300 - expected == actual, all through

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing

from distkit_actors import FleetLimiter, Ge, LaxInstanceAwareCounter
from distkit_actors._instance._session_view import SHARED
from distkit_actors._protocol._messages import Apply
from tests.behaviour.world import Counter, Flavour, World

#: What callers may do again and again, all of which travels alone or asks.
BUSY: dict[str, Callable[[Counter], Awaitable[object]]] = {
    "instances": lambda c: c.instances(),
    "keys": lambda c: c.keys(),
    "slices": lambda c: c.slices("other"),
    "inc_all": lambda c: c.inc_all({"other": 1}),
    "set_all": lambda c: c.set_all({"other": 1, "others": 2}),
    "get_all": lambda c: c.get_all(["other"]),
    "clear_on_instance": lambda c: c.clear_on_instance(),
    "forget": lambda c: c.forget("nobody"),
}

#: Seconds between a request and its answer, more than which nothing may be held up twice.
TRIP = 0.05


async def inc_if(counter: Counter) -> None:
    await counter.inc_if("other", Ge(0))


async def hold(counter: Counter) -> None:
    async with counter.hold("other", limit=1000):
        pass


#: What a lax counter does in memory passes no time, so it holds up nothing.
IN_MEMORY = {"inc_all", "get_all"}
BUSY_ON_LAX = {name: act for name, act in BUSY.items() if name not in IN_MEMORY} | {
    "inc_if": inc_if,
    "hold": hold,
}


async def again_and_again(counter: Counter, act: Callable[[Counter], Awaitable[object]]) -> None:
    while True:
        await act(counter)


def keep_busy(
    nursery: trio.Nursery, counter: Counter, act: Callable[[Counter], Awaitable[object]]
) -> None:
    for _ in range(3):
        nursery.start_soon(again_and_again, counter, act)


@pytest.mark.parametrize("name", BUSY)
async def test_i14_beats_go_out_in_time_whatever_callers_do(world: World, name: str) -> None:
    a = await world.strict()
    world.wire(a).delay(TRIP)
    async with trio.open_nursery() as nursery:
        keep_busy(nursery, a, BUSY[name])
        end = trio.current_time() + 3 * world.threshold
        while trio.current_time() < end:
            await trio.sleep(TRIP)
            age = a.statistics().last_heartbeat_age
            assert age is not None
            # The beat itself takes a trip, and so may what is on its way when it falls due.
            assert age <= world.interval + 3 * TRIP
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("name", BUSY)
async def test_i14_single_operations_get_through_whatever_callers_do(
    world: World, name: str
) -> None:
    a = await world.strict()
    wire = world.wire(a)
    wire.delay(TRIP)
    async with trio.open_nursery() as nursery:
        keep_busy(nursery, a, BUSY[name])
        await trio.sleep(1)
        with trio.fail_after(30 * TRIP):
            await a.inc("mine")
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("name", BUSY_ON_LAX)
async def test_i14_lax_counts_go_out_whatever_callers_do(world: World, name: str) -> None:
    a: Any = await world.lax()
    b = await world.strict()
    a.inc_nowait("mine", 0)
    world.wire(a).delay(TRIP)
    async with trio.open_nursery() as nursery:
        keep_busy(nursery, a, BUSY_ON_LAX[name])
        await trio.sleep(1)
        a.inc_nowait("mine", 5)
        with trio.fail_after(10 * TRIP):
            await a.flush()
        if name != "clear_on_instance":
            assert 5 == (await b.get("mine")).cumulative
        a.inc_nowait("yours", 7)
        with trio.move_on_after(10 * TRIP):  # without anybody who waits for it
            while True:
                value = await b.get("yours")
                if value.cumulative:
                    break
                await trio.sleep(TRIP / 5)
        if name != "clear_on_instance":
            assert 7 == value.cumulative
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("name", BUSY)
async def test_i14_ended_holds_and_returned_tokens_reach_the_store_whatever_callers_do(
    world: World, name: str
) -> None:
    a, b = await world.strict(), await world.strict()
    limiter, both = FleetLimiter(a, "tokens", 3), ("held", "tokens")
    world.wire(a).delay(TRIP)
    async with trio.open_nursery() as nursery:
        async with a.hold("held"), limiter:
            keep_busy(nursery, a, BUSY[name])
            await trio.sleep(1)
            if name != "clear_on_instance":
                assert [1, 1] == [v.cumulative for v in (await b.get_all(both)).values()]
        with trio.fail_after(30 * TRIP):
            while any(v.cumulative for v in (await b.get_all(both)).values()):  # noqa: ASYNC110
                await trio.sleep(TRIP / 5)  # what others do sets no event
        nursery.cancel_scope.cancel()


async def test_i14_an_inquiry_that_is_never_answered_holds_up_no_beat(world: World) -> None:
    """Its answer is lost each time; the batches between arrive."""
    a, b = await world.strict(), await world.strict()
    await a.inc("mine", 5)

    def is_inquiry(request: object) -> bool:
        return type(request).__name__ == "Query"

    async with trio.open_nursery() as nursery:
        world.wire(a).drop_reply(None, when=is_inquiry)
        nursery.start_soon(a.instances)
        end = trio.current_time() + 3 * world.threshold
        while trio.current_time() < end:
            await trio.sleep(world.interval / 3)
            assert (5, 0) == await b.get("mine")
        with trio.fail_after(world.threshold):
            await a.inc("mine")
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("flavour", ["strict", "lax"])
async def test_half_of_a_crowd_travels_and_everybody_comes_round(
    world: World, flavour: Flavour
) -> None:
    """While the store works on one half, the other half gets its answers and asks again.

    On a lax counter all travel together.
    """
    owner, names = await world.make(flavour), [f"key {number}" for number in range(100)]
    counter = owner.strict if isinstance(owner, LaxInstanceAwareCounter) else owner
    await counter.inc("first")  # so that it is known how long an answer takes
    calls = dict.fromkeys(names, 0)
    enough = trio.Event()

    async def go_on(key: str) -> None:
        while not enough.is_set():
            assert (await counter.inc(key)).cumulative == calls[key] + 1
            calls[key] += 1
            if calls[key] == 20:
                enough.set()

    async with trio.open_nursery() as nursery:
        for name in names:
            nursery.start_soon(go_on, name)
    assert set(sizes(world, owner)[3:-3]) == {50 if flavour == "strict" else 100}
    assert min(calls.values()) >= 18


async def test_a_crowd_far_from_its_store_travels_together(world: World) -> None:
    counter, names = await world.strict(), [f"key {number}" for number in range(100)]
    world.wire(counter).delay(TRIP)
    for _ in range(100):  # the quick answers are forgotten slowly
        await counter.inc("first")
    for _ in range(3):
        await at_once(counter, names)
    assert sizes(world, counter)[-3:] == [100, 100, 100]


async def test_a_crowd_whose_store_has_become_slow_soon_travels_together(world: World) -> None:
    counter, names = await world.strict(), [f"key {number}" for number in range(1000)]
    await counter.inc("first")
    await at_once(counter, names)
    assert max(sizes(world, counter)) == 128
    world.wire(counter).delay(TRIP)
    for _ in range(6):
        await at_once(counter, names)
    assert sizes(world, counter)[-2:] == [SHARED] * 2


async def test_at_a_stop_a_crowd_travels_together(world: World) -> None:
    """Nobody asks again, and the time is limited."""
    counter, names = await world.strict(exit_grace=5 * TRIP), [f"key {i}" for i in range(1000)]
    await counter.inc("first")
    world.wire(counter).delay(TRIP)
    async with trio.open_nursery() as nursery:
        for name in names:
            nursery.start_soon(counter.inc, name)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(counter.aclose)
    assert sum(sizes(world, counter)) >= 1 + len(names)


@pytest.mark.parametrize("flavour", ["strict", "lax"])
async def test_i14_no_key_waits_for_ever_behind_keys_that_are_never_empty(
    world: World, flavour: Flavour
) -> None:
    """What does not fold travels one by one, so more of it waits than travels."""
    owner, calls = await world.make(flavour), dict.fromkeys(range(1200), 0)
    counter = owner.strict if isinstance(owner, LaxInstanceAwareCounter) else owner
    enough = trio.Event()

    async def go_on(key: int) -> None:
        while not enough.is_set():
            await counter.set_on_instance(f"key {key}", 1)
            calls[key] += 1
            if calls[key] == 20:
                enough.set()

    async with trio.open_nursery() as nursery:
        for key in calls:
            for _ in range(3):
                nursery.start_soon(go_on, key)
    assert min(calls.values()) >= 10


async def at_once(counter: Counter, names: list[str]) -> None:
    async with trio.open_nursery() as nursery:
        for name in names:
            nursery.start_soon(counter.inc, name)


def sizes(world: World, counter: Counter) -> list[int]:
    """How many entries each batch had."""
    return [len(r.entries) for _, r, _ in world.tap(counter).seen if isinstance(r, Apply)]
