"""Cancellation at every await: an operation happens exactly once or not at all.

`ticks` sweeps the moment of cancellation through the scheduler's steps: every point at
which a task can be found waiting is hit by some of them. The sweeps run on the mock clock,
where ticks are the only time there is.
"""

# ruff: noqa: SIM300 - expected == actual, all through

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

from distkit_actors import (
    CounterClosedError,
    LaxInstanceAwareCounter,
    MemoryStore,
    StoreUnavailableError,
    StrictInstanceAwareCounter,
)
from distkit_actors.testing import FaultyStore
from tests.behaviour.world import Flavour, World, both_flavours, each, everywhere, on_both

#: More than the steps from a call to its answer, over a store that answers.
STEPS = 16

#: Operation: what it is called with, and the values of ("k", "j") before and after. Before it
#: both are (110, 10), of which 100 are somebody else's.
OPERATIONS: dict[str, tuple[tuple[Any, ...], tuple[tuple[int, int], tuple[int, int]]]] = {
    "inc": (("k", 5), ((115, 15), (110, 10))),
    "dec": (("k", 5), ((105, 5), (110, 10))),
    "get": (("k",), ((110, 10), (110, 10))),
    "set": (("k", 7), ((7, 7), (110, 10))),
    "set_on_instance": (("k", 3), ((103, 3), (110, 10))),
    "delete": (("k",), ((0, 0), (110, 10))),
    "delete_on_instance": (("k",), ((100, 0), (110, 10))),
    "clear": ((), ((0, 0), (0, 0))),
    "clear_on_instance": ((), ((100, 0), (100, 0))),
}
BEFORE = ((110, 10), (110, 10))

every_operation = pytest.mark.parametrize("name", OPERATIONS)


async def ticks(count: int) -> None:
    """Let the scheduler take some steps."""
    for _ in range(count):
        await trio.lowlevel.cancel_shielded_checkpoint()


async def cancelled_after(steps: int, call: Callable[[], Awaitable[object]]) -> tuple[bool, object]:
    """Make a call and cancel it after some steps; return whether it returned, and what."""
    returned: list[object] = []
    async with trio.open_nursery() as nursery:
        scope = trio.CancelScope()

        async def caller() -> None:
            with scope:
                returned.append(await call())

        nursery.start_soon(caller)
        await ticks(steps)
        scope.cancel()
    return bool(returned), returned[0] if returned else None


@asynccontextmanager
async def fresh(world: World, flavour: Flavour) -> AsyncIterator[tuple[Any, Any]]:
    """Have two `prepared` counters in a namespace of their own."""
    counters = await prepared(world, flavour)
    yield counters
    for counter in counters:
        await counter.aclose()
    world.forget(*counters)


async def prepared(world: World, flavour: Flavour) -> tuple[Any, Any]:
    """Return a counter with 10 on two keys, and another with 100 on both."""
    a = await world.make(flavour)
    b = await world.strict()
    for key in ("k", "j"):
        await b.inc(key, 100)
        await a.inc(key, 10)
    await world.settle()
    return a, b


async def check(world: World, a: Any, b: Any, allowed: set[object]) -> None:
    """Hold that the values are allowed ones, alike for all, and that everybody still works."""
    await world.settle()
    values = (await world.value(a, "k"), await world.value(a, "j"))
    assert values in allowed
    assert values == (await world.value(a, "k"), await world.value(a, "j"))
    assert values[0].cumulative == (await b.get("k")).cumulative
    assert (values[0][0] + 1, values[0][1] + 1) == await a.inc("k", 1)
    await world.settle()
    assert values[0].cumulative + 1 == (await b.get("k")).cumulative


@both_flavours
@every_operation
@pytest.mark.parametrize("fault", [None, "drop_request", "drop_reply", "late_copy", "away"])
async def test_cancelled_at_any_step(
    world: World, flavour: Flavour, name: str, fault: str | None
) -> None:
    """Wherever it is cancelled, an operation happened once or not at all; once if it returned."""
    arguments, after = OPERATIONS[name]
    outcomes = set()
    for steps in range(STEPS):
        async with fresh(world, flavour) as (a, b):
            if fault is not None:
                getattr(world.wire(a), fault)()
            returned, _ = await cancelled_after(steps, each(getattr(a, name), *arguments))
            await check(world, a, b, {after} if returned else {after, BEFORE})
            value = await world.value(a, "k")
            await world.wire(a).deliver_late_copies()
            assert value == await world.value(a, "k")
            outcomes.add(returned)
    if fault in (None, "drop_reply"):
        # The sweep is long enough to see the whole of it.
        assert {True, False} == outcomes


@both_flavours
@every_operation
async def test_cancelled_before_it_was_sent_it_never_happens(
    world: World, flavour: Flavour, name: str
) -> None:
    """An operation that waits behind another on the wire, or for a connection, is withdrawn."""
    arguments, after = OPERATIONS[name]
    local = flavour == "lax" and name in ("inc", "dec", "set_on_instance")
    for way in ("hold", "cut"):
        async with fresh(world, flavour) as (a, b), trio.open_nursery() as nursery:
            await trio.sleep(0.1)  # what a lax counter knows is old now
            getattr(world.wire(a), way)()
            if way == "hold":
                nursery.start_soon(a.delete_on_instance, "other")
                await trio.sleep(0.001)
            returned, _ = await cancelled_after(STEPS, each(getattr(a, name), *arguments))
            # What a lax counter does in memory needs no store, and has returned.
            assert local == returned
            await trio.sleep(1)
            world.wire(a).release()
            world.heal(a)
            await check(world, a, b, {after} if returned else {BEFORE})


@both_flavours
@every_operation
async def test_cancelled_on_the_wire_it_happens_once_or_not_at_all(
    world: World, flavour: Flavour, name: str
) -> None:
    """While the request, or its reply, is under way the caller goes at once; all else goes on."""
    arguments, after = OPERATIONS[name]
    for replies in (False, True):
        for fault in (None, "drop_request", "drop_reply"):
            async with fresh(world, flavour) as (a, b):
                world.wire(a).hold(replies=replies)
                if fault is not None:
                    getattr(world.wire(a), fault)()
                connects = world.wire(a).counts["connects"]
                began = trio.current_time()
                await cancelled_after(STEPS, each(getattr(a, name), *arguments))
                assert began == trio.current_time()  # promptly
                await trio.sleep(0.5)
                if fault is None:
                    # Nobody has touched the connection.
                    assert a.statistics().connected
                    assert connects == world.wire(a).counts["connects"]
                world.wire(a).release()
                await check(world, a, b, {after, BEFORE})


@everywhere
async def test_a_cancelled_caller_disturbs_nobody(world: World, flavour: Flavour) -> None:
    """Half of many callers go while their operations are in one batch; the others get theirs."""
    a, b = await prepared(world, flavour)
    connects = world.wire(a).counts["connects"]
    values: list[Any] = []
    scopes = [trio.CancelScope() for _ in range(40)]

    async def ask(n: int, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        with scopes[n]:
            values.append(await a.set("k", n))

    world.wire(a).hold()
    async with trio.open_nursery() as nursery:
        for n in range(40):
            await nursery.start(ask, n)
            if n == 0:
                await trio.sleep(0.01)  # this one is on the wire
        for n in range(0, 40, 2):
            scopes[n].cancel()
        await trio.sleep(0.01)
        world.wire(a).release()
    assert [(n, n) for n in range(1, 40, 2)] == values
    assert [n % 2 == 0 for n in range(40)] == [scope.cancelled_caught for scope in scopes]
    assert connects == world.wire(a).counts["connects"]
    assert 0 == a.statistics().reconnects
    assert (39, 39) == await world.value(a, "k")
    assert (39, 0) == await b.get("k")


@on_both
async def test_cancelled_increments_are_all_or_nothing(world: World) -> None:
    """Of many increments cancelled at any time: all that returned count, and no half ones."""
    a = await world.strict()
    b = await world.strict()
    returned = 0

    async def ask(seconds: float) -> None:
        nonlocal returned
        with trio.move_on_after(seconds):
            await a.inc("k")
            returned += 1

    world.wire(a).delay(0.002)
    async with trio.open_nursery() as nursery:
        for n in range(100):
            nursery.start_soon(ask, n / 10_000)
            await trio.sleep(0.0001)
    world.wire(a).delay(0)
    total = await a.get("k")
    assert returned <= total.cumulative <= 100
    assert total == await a.get("k")
    assert total.cumulative == (await b.get("k")).cumulative


# --------------------------------------------------------------------------- flush and life


@pytest.mark.parametrize("fault", [None, "drop_request", "drop_reply"])
async def test_a_flush_cancelled_at_any_step_loses_nothing(world: World, fault: str | None) -> None:
    """The counts stay pending, or have arrived; the next flush has them all in the store."""
    outcomes = set()
    for steps in range(STEPS):
        async with fresh(world, "lax") as (a, b):
            a.inc_nowait("k", 5)
            if fault is not None:
                getattr(world.wire(a), fault)()
            returned, _ = await cancelled_after(steps, a.flush)
            outcomes.add(returned)
            if returned:
                assert (115, 100) == await b.get("k")
            await check(world, a, b, {((115, 15), (110, 10))})
    if fault is None:
        assert {True, False} == outcomes


@both_flavours
async def test_a_start_cancelled_at_any_step_leaves_nothing(world: World, flavour: Flavour) -> None:
    """`nursery.start` cancelled: no counter, no slices, and the name is free for the next."""
    for steps in range(STEPS):
        counter = world.build(flavour, instance_id="me")
        async with trio.open_nursery() as nursery:
            await cancelled_after(steps, each(nursery.start, counter.run))
            await ticks(STEPS)
            nursery.cancel_scope.cancel()
        with pytest.raises(CounterClosedError):
            await counter.inc("k")
        await counter.aclose()
        successor = await world.make(flavour, instance_id="me")
        assert (1, 1) == await successor.inc("k")
        await successor.aclose()
        world.forget(successor)


@both_flavours
@pytest.mark.parametrize("held", [False, True])
async def test_a_run_cancelled_at_any_step_stops_in_good_order(
    world: World, flavour: Flavour, held: bool
) -> None:
    """Whatever it is doing, a cancelled `run` flushes and leaves within the grace."""
    observer = await world.strict()
    for steps in range(STEPS):
        counter = world.build(flavour, on_exit="linger", exit_grace=30.0)
        async with trio.open_nursery() as nursery:
            await nursery.start(counter.run)
            key = f"k-{steps}"
            await counter.inc(key)
            if isinstance(counter, LaxInstanceAwareCounter):
                counter.inc_nowait(key)
            async with trio.open_nursery() as callers:
                callers.start_soon(counter.set, "shared", steps)
                await ticks(steps)
                if held:
                    world.wire(counter).delay(2.0)
                nursery.cancel_scope.cancel()
        world.wire(counter).delay(0)
        expected = 2 if flavour == "lax" else 1
        assert expected == (await observer.get(key)).cumulative
        with pytest.raises(CounterClosedError):
            await counter.inc(key)


@both_flavours
async def test_an_open_cancelled_at_any_step(world: World, flavour: Flavour) -> None:
    """Cancelled while it opens, works or closes, a block ends, and leaves no slice behind."""
    observer = await world.strict()
    kind = StrictInstanceAwareCounter if flavour == "strict" else LaxInstanceAwareCounter
    inside = set()
    # Several times: which task goes first in a step is a matter of luck.
    for steps in 3 * list(range(2 * STEPS)):
        entered: list[object] = []

        async def block(entered: list[object] = entered) -> None:
            async with kind.open(
                world.prefix, world.backend.store(), dead_instance_threshold=world.threshold
            ) as counter:
                entered.append(counter)
                await counter.inc("k")

        returned, _ = await cancelled_after(steps, block)
        inside.add((bool(entered), returned))
        assert (0, 0) == await observer.get("k")
    # The sweep met all of it.
    assert {(False, False), (True, False), (True, True)} == inside


@both_flavours
@every_operation
async def test_a_cancelled_block_sees_cancellation_and_no_error(
    world: World, flavour: Flavour, name: str
) -> None:
    """An operation in a block that is cancelled raises that, though the counter stops already."""
    arguments, _ = OPERATIONS[name]
    kind = StrictInstanceAwareCounter if flavour == "strict" else LaxInstanceAwareCounter
    with trio.CancelScope() as scope:
        async with kind.open(world.prefix, world.backend.store()) as counter:
            scope.cancel()
            await ticks(STEPS)
            await getattr(counter, name)(*arguments)
    assert scope.cancelled_caught


@both_flavours
async def test_an_aclose_cancelled_at_any_step_goes_on(world: World, flavour: Flavour) -> None:
    """The stop takes its course without the one who asked for it."""
    observer = await world.strict()
    for steps in range(STEPS):
        counter = await world.make(flavour)
        await counter.inc("k")
        await cancelled_after(steps, counter.aclose)
        if steps:
            await trio.sleep(0.1)
            assert "closed" in repr(counter)
            assert (0, 0) == await observer.get("k")
        await counter.aclose()
        world.forget(counter)


async def test_the_last_word_of_a_stop_without_a_store(world: World) -> None:
    """A cancelled `run` that cannot flush raises what it could not do, beside the cancellation."""
    wire = FaultyStore(MemoryStore())
    counter = LaxInstanceAwareCounter("p", wire, exit_grace=2.0)
    with pytest.RaisesGroup(StoreUnavailableError):
        async with trio.open_nursery() as nursery:
            await nursery.start(counter.run)
            counter.inc_nowait("k")
            wire.cut()
            nursery.cancel_scope.cancel()
    assert 2.0 == trio.current_time()


# ------------------------------------------------------------------------------ checkpoints


@both_flavours
async def test_every_async_operation_is_a_checkpoint(world: World, flavour: Flavour) -> None:
    """Cold or warm, with or without an answer from the store."""
    a, _ = await prepared(world, flavour)
    handle = a.bind("k")
    for _ in range(2):
        for name, (arguments, _) in OPERATIONS.items():
            with trio.testing.assert_checkpoints():
                await getattr(a, name)(*arguments)
            if arguments:
                with trio.testing.assert_checkpoints():
                    await getattr(handle, name)(*arguments[1:])
    if isinstance(a, LaxInstanceAwareCounter):
        with trio.testing.assert_checkpoints():
            await a.flush()
        a.inc_nowait("k")
        with trio.testing.assert_checkpoints():
            await a.flush()
    with trio.testing.assert_checkpoints():
        await a.aclose()
    with trio.testing.assert_checkpoints():
        await a.aclose()
    with trio.testing.assert_checkpoints():
        await world.build(flavour).aclose()


@both_flavours
async def test_opening_and_closing_are_checkpoints(world: World, flavour: Flavour) -> None:
    """Both ends of the block."""
    kind = StrictInstanceAwareCounter if flavour == "strict" else LaxInstanceAwareCounter
    block = kind.open(world.prefix, world.backend.store())
    with trio.testing.assert_checkpoints():
        await block.__aenter__()
    with trio.testing.assert_checkpoints():
        await block.__aexit__(None, None, None)


async def test_the_hot_path_is_no_checkpoint(world: World) -> None:
    """What is not `async` never lets others run."""
    a = await world.lax()
    handle = a.bind("k")
    await a.get("k")
    with trio.testing.assert_no_checkpoints():
        a.inc_nowait("k")
        a.dec_nowait("k")
        a.get_nowait("k")
        handle.inc_nowait()
        handle.dec_nowait()
        handle.get_nowait()
        a.bind("cold").inc_nowait()
        a.statistics()


@both_flavours
@every_operation
async def test_in_a_cancelled_scope_nothing_happens(
    world: World, flavour: Flavour, name: str
) -> None:
    """An operation called under a cancellation raises it, and never happens."""
    arguments, _ = OPERATIONS[name]
    a, b = await prepared(world, flavour)
    with trio.CancelScope() as scope:
        scope.cancel()
        await getattr(a, name)(*arguments)
    assert scope.cancelled_caught
    await check(world, a, b, {BEFORE})
