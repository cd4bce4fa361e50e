"""Each operation does what its row of the table says, and nothing else."""

# ruff: noqa: SIM300 - expected == actual, all through

from __future__ import annotations

from enum import IntEnum
from functools import partial

import pytest
import trio
import trio.testing

from distkit_actors import (
    BoundCounter,
    CounterOverflowError,
    CounterValue,
    InstanceAwareCounter,
    LaxInstanceAwareCounter,
    MemoryStore,
    StoreError,
    StrictInstanceAwareCounter,
)
from distkit_actors._protocol._messages import Apply, Kind
from distkit_actors.testing import FaultyStore
from tests.behaviour.world import (
    MAX,
    MIN,
    Counter,
    Flavour,
    World,
    each,
    everywhere,
    gather,
    on_both,
    outcome,
)

COUNTS = [0, 1, -1, 7, MAX, MIN, MAX - 1, MIN + 1]


@everywhere
async def test_the_value_is_a_named_tuple(world: World, flavour: Flavour) -> None:
    """Every value has its two halves by name."""
    counter = await world.make(flavour)
    value = await counter.inc("k", 3)
    assert CounterValue(cumulative=3, instance_count=3) == value
    assert isinstance(value, CounterValue)
    for other in (
        await counter.dec("k"),
        await counter.get("k"),
        await counter.set("k", 5),
        await counter.set_on_instance("k", 6),
        await counter.delete_on_instance("k"),
        await counter.delete("k"),
    ):
        assert isinstance(other, CounterValue)


class Level(IntEnum):
    HIGH = 3


@everywhere
async def test_a_value_has_plain_numbers(world: World, flavour: Flavour) -> None:
    """Whatever kind of int was given: it looks and is pickled as a number."""
    counter = await world.make(flavour)
    for value in (
        await counter.inc("k", Level.HIGH),
        await counter.set("k", Level.HIGH),
        await counter.set_on_instance("k", Level.HIGH),
        await counter.get("k"),
    ):
        assert [type(number) for number in value] == [int, int]


@everywhere
async def test_inc_and_dec_count_one_unless_told(world: World, flavour: Flavour) -> None:
    """`inc(key)` adds 1 and `dec(key)` takes 1; `inc(key, 0)` changes nothing."""
    counter = await world.make(flavour)
    assert (1, 1) == await counter.inc("k")
    assert (2, 2) == await counter.inc("k")
    assert (1, 1) == await counter.dec("k")
    assert (1, 1) == await counter.inc("k", 0)
    assert (0, 0) == await counter.dec("k")
    assert (-1, -1) == await counter.dec("k")
    assert (2, 2) == await counter.dec("k", -3)
    assert (2, 2) == await world.value(counter, "k")


@everywhere
@pytest.mark.parametrize("count", COUNTS)
async def test_every_count_goes_in_and_comes_out(
    world: World, flavour: Flavour, count: int
) -> None:
    """All of int64 can be counted, set, read and removed, exactly."""
    a = await world.make(flavour)
    b = await world.make(flavour)
    assert (count, count) == await a.inc("k", count)
    assert (count, count) == await a.set("k", count)
    assert (count, 0) == await world.value(b, "k")
    assert (count, count) == await a.delete("k")
    assert (count, count) == await a.set_on_instance("k", count)
    await world.settle()
    assert (count, 0) == await world.value(b, "k")
    assert (0, count) == await a.delete_on_instance("k")
    assert (0, 0) == await world.value(b, "k")


@everywhere
async def test_negative_slices_count_like_others(world: World, flavour: Flavour) -> None:
    """A slice may be negative, and so may the sum."""
    a = await world.make(flavour)
    b = await world.make(flavour)
    assert (-5, -5) == await a.dec("k", 5)
    await world.settle()
    assert (-2, 3) == await b.inc("k", 3)
    await world.settle()
    assert (-2, -5) == await world.value(a, "k")
    assert (3, -5) == await a.delete_on_instance("k")
    assert (3, 3) == await world.value(b, "k")


@everywhere
async def test_set_to_zero_moves_the_epoch_too(world: World, flavour: Flavour) -> None:
    """After `set(key, 0)` nobody's older slice counts."""
    a = await world.make(flavour)
    b = await world.make(flavour)
    await a.inc("k", 5)
    await world.settle()
    assert (0, 0) == await b.set("k", 0)
    assert (0, 0) == await world.value(a, "k")
    assert (1, 1) == await a.inc("k")


@everywhere
async def test_set_on_instance_replaces_and_moves_nothing(world: World, flavour: Flavour) -> None:
    """`set_on_instance` is about the own slice alone, 0 included."""
    a = await world.make(flavour)
    b = await world.make(flavour)
    await b.inc("k", 5)
    await world.settle()
    assert (5, 0) == await world.value(a, "k")
    for count in (3, -3, 0, 9, 9):
        assert (5 + count, count) == await a.set_on_instance("k", count)
        await world.settle()
        assert (5 + count, 5) == await world.value(b, "k")
    assert (15, 10) == await a.inc("k")


@everywhere
async def test_get_changes_nothing(world: World, flavour: Flavour) -> None:
    """Reading a key, missing or not, leaves it as it is."""
    a = await world.make(flavour)
    b = await world.make(flavour)
    assert (0, 0) == await a.get("k")
    await b.inc("k", 2)
    await world.settle()
    assert (2, 0) == await world.value(a, "k")
    assert (2, 0) == await world.value(a, "k")
    assert (2, 2) == await world.value(b, "k")


@everywhere
async def test_delete_of_a_missing_key(world: World, flavour: Flavour) -> None:
    """Deleting what is not there returns zeros, here and on the own slice."""
    a = await world.make(flavour)
    b = await world.make(flavour)
    assert (0, 0) == await a.delete("k")
    assert (0, 0) == await a.delete_on_instance("k")
    await b.inc("k", 4)
    await world.settle()
    assert (4, 0) == await a.delete_on_instance("k")
    assert (4, 0) == await a.delete("k")
    assert (0, 0) == await a.delete("k")
    assert (0, 0) == await world.value(b, "k")


@everywhere
async def test_clear_and_clear_on_instance_return_none(world: World, flavour: Flavour) -> None:
    """Both work on an empty namespace and on a full one, and return None."""
    a = await world.make(flavour)
    b = await world.make(flavour)
    assert await a.clear() is None
    assert await a.clear_on_instance() is None
    for key in ("x", "y"):
        await a.inc(key, 1)
        await world.settle()
        await b.inc(key, 2)
        await world.settle()
    assert await a.clear_on_instance() is None
    assert [(2, 0), (2, 0)] == [await world.value(a, key) for key in ("x", "y")]
    assert await a.clear() is None
    assert [(0, 0), (0, 0)] == [await world.value(b, key) for key in ("x", "y")]


@everywhere
async def test_clear_on_instance_of_thousands_of_keys(world: World, flavour: Flavour) -> None:
    """It goes in bounded steps, and nothing of this instance's comes in between."""
    a = await world.make(flavour)
    b = await world.strict()
    await b.inc("key-7", 5)
    keys = [f"key-{n}" for n in range(2500)]
    await gather(*(each(a.inc, key, 2) for key in keys))
    await world.settle()
    await gather(a.clear_on_instance, each(a.inc, "key-2499", 1))
    await world.settle()
    assert (1, 1) == await world.value(a, "key-2499")
    assert (5, 0) == await world.value(a, "key-7")
    for key in keys[:2499:250]:
        assert (0, 0) == await b.get(key)
    assert (1, 0) == await b.get("key-2499")


@pytest.mark.parametrize("operation", ["clear_on_instance", "forget"])
async def test_an_operation_that_is_refused_half_way_says_so(world: World, operation: str) -> None:
    """And goes on when it is called again."""
    a, b = await world.strict(), await world.strict()
    of = a if operation == "clear_on_instance" else b
    await of.inc_all({f"key-{n}": 1 for n in range(1000)})
    if of is b:
        world.wire(b).cut()
    wire, call = world.wire(a), partial(getattr(a, operation), *[b.instance_id] * (of is b))

    def removes(request: object) -> bool:
        kinds = {entry.kind for entry in request.entries} if isinstance(request, Apply) else set()
        return bool(kinds & {Kind.PUT, Kind.FORGET})

    wire.answer(StoreError("out of memory"), executed=False, when=removes)
    with pytest.raises(StoreError, match="out of memory") as nothing:
        await call()
    assert not hasattr(nothing.value, "__notes__")
    wire.forward(1, when=removes)
    wire.answer(StoreError("out of memory"), executed=False, when=removes)
    with pytest.raises(StoreError, match="out of memory") as half:
        await call()
    assert ["some of its steps have taken effect; called again, it goes on"] == half.value.__notes__
    assert 0 < len(await a.keys()) < 1000
    await call()
    assert [] == await a.keys()


async def test_a_cancelled_clear_ends_though_it_was_reaped_half_way(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Its first step is done, then the instance is reaped: the other steps follow all the same."""
    store = MemoryStore()
    wire = FaultyStore(store)

    def removes(request: object) -> bool:
        return isinstance(request, Apply) and any(e.kind is Kind.PUT for e in request.entries)

    async with (
        StrictInstanceAwareCounter.open("app", wire, dead_instance_threshold=6) as counter,
        StrictInstanceAwareCounter.open("app", store, dead_instance_threshold=6) as other,
    ):
        async with trio.open_nursery() as nursery:
            for n in range(1500):
                nursery.start_soon(counter.inc, f"k{n}")
        wire.forward(1, when=removes)
        wire.drop_request(1, when=removes)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(counter.clear_on_instance)
            while not wire.counts["drop_request"]:
                await trio.lowlevel.checkpoint()
            wire.cut()
            nursery.cancel_scope.cancel()
        await trio.sleep(30)
        await other.inc("else")
        wire.heal()
        await trio.sleep(10)
        left = [n for n in range(1500) if (await other.get(f"k{n}")).cumulative]
        assert left == []


@everywhere
@pytest.mark.parametrize(("start", "step"), [(MAX, 1), (MIN, -1), (MAX - 5, 6), (MIN + 5, -6)])
async def test_overflow_of_the_slice_changes_nothing(
    world: World, flavour: Flavour, start: int, step: int
) -> None:
    """What would take the slice out of int64 raises, and the value stays."""
    a = await world.make(flavour)
    b = await world.make(flavour)
    await a.inc("k", start)
    await world.settle()
    with pytest.raises(CounterOverflowError):
        await a.inc("k", step)
    with pytest.raises(OverflowError):
        await a.dec("k", -step)
    assert (start, start) == await world.value(a, "k")
    assert (start, 0) == await world.value(b, "k")
    # The other way there is room.
    assert (start - step, start - step) == await a.dec("k", step)


@everywhere
@pytest.mark.parametrize(("theirs", "mine"), [(MAX, 1), (MIN, -1)])
async def test_overflow_of_the_sum_changes_nothing(
    world: World, flavour: Flavour, theirs: int, mine: int
) -> None:
    """What would take the cumulative out of int64 raises, and no half of it happens."""
    a = await world.make(flavour)
    b = await world.make(flavour)
    await b.inc("k", theirs)
    await world.settle()
    assert (theirs, 0) == await world.value(a, "k")
    with pytest.raises(CounterOverflowError):
        await a.inc("k", mine)
    with pytest.raises(CounterOverflowError):
        await a.set_on_instance("k", mine)
    assert (theirs, 0) == await world.value(a, "k")
    assert (theirs - mine, -mine) == await a.dec("k", mine)
    await world.settle()
    assert (theirs - mine, theirs) == await world.value(b, "k")


@everywhere
async def test_removal_that_would_overflow_changes_nothing(world: World, flavour: Flavour) -> None:
    """A slice that the sum cannot do without stays, and its owner is told."""
    a = await world.make(flavour)
    b = await world.make(flavour)
    c = await world.make(flavour)
    await a.inc("k", MIN)
    await a.inc("other", 1)
    await world.settle()
    for counter in (b, c):
        await world.value(counter, "k")
        await counter.inc("k", MAX)
        await world.settle()
    assert (MAX - 1, MIN) == await world.value(a, "k")
    with pytest.raises(CounterOverflowError):
        await a.delete_on_instance("k")
    with pytest.raises(CounterOverflowError, match="k"):
        await a.clear_on_instance()
    assert (MAX - 1, MIN) == await world.value(a, "k")
    assert (0, 0) == await world.value(a, "other")
    await b.delete_on_instance("k")
    assert (MAX, MIN) == await a.delete_on_instance("k")


async def test_what_is_pending_in_a_slice_that_has_to_stay_is_counted(world: World) -> None:
    """Nothing of that key was removed, so it goes on; of the other key it is void."""
    a = await world.lax(flush_interval=1000)
    b, c = await world.strict(), await world.strict()
    await a.inc_all({"k": -10, "other": 1})
    await a.flush()
    await b.inc("k", MAX)
    await c.inc("k", 5)
    a.inc_nowait("k", 2)
    a.inc_nowait("other", 2)
    async with a.hold("k", 3):
        with pytest.raises(CounterOverflowError, match="k"):
            await a.clear_on_instance()
        await a.flush()
        assert (MAX, -5) == await world.value(a, "k")
        assert (0, 0) == await b.get("other")
    await a.flush()
    assert (MAX - 3, -8) == await world.value(a, "k")
    assert (0, 0) == await b.get("other")


@everywhere
async def test_set_on_instance_is_judged_by_the_final_value(world: World, flavour: Flavour) -> None:
    """From one end of int64 to the other in one step, though the difference does not fit."""
    a = await world.make(flavour)
    b = await world.make(flavour)
    await a.inc("k", MAX)
    assert (MIN, MIN) == await a.set_on_instance("k", MIN)
    await world.settle()
    assert (MIN, 0) == await world.value(b, "k")
    assert (MAX, MAX) == await a.set_on_instance("k", MAX)
    await world.settle()
    assert (MAX, 0) == await world.value(b, "k")


@on_both
async def test_a_bad_operation_does_not_harm_its_neighbours(world: World) -> None:
    """Operations that travel together fail or succeed each for itself."""
    a = await world.strict()
    await a.inc("full", MAX)
    calls = [
        each(a.inc, "x", 1),
        each(a.inc, "full", 1),
        each(a.inc, "full", -1),
        each(a.inc, "full", 1),
        each(a.inc, "full", 1),
        each(a.set_on_instance, "y", 5),
        each(a.get, "full"),
    ]
    world.wire(a).hold()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(a.get, "z")
        await trio.sleep(0.01)
        nursery.start_soon(release_later, world, a)
        outcomes = await gather(*(each(outcome, call) for call in calls))
    assert [
        (1, 1),
        CounterOverflowError,
        (MAX - 1, MAX - 1),
        (MAX, MAX),
        CounterOverflowError,
        (5, 5),
        (MAX, MAX),
    ] == outcomes
    assert (1, 1) == await a.get("x")
    assert (5, 5) == await a.get("y")
    assert (MAX, MAX) == await a.get("full")


@on_both
async def test_operations_on_one_key_see_each_other_in_order(world: World) -> None:
    """A thousand tasks on one key: each gets the value of its own increment."""
    a = await world.strict()
    values = await gather(*(each(a.inc, "k", 1) for _ in range(1000)))
    assert [(n, n) for n in range(1, 1001)] == sorted(values)
    assert (1000, 1000) == await a.get("k")


@on_both
async def test_near_the_limit_folded_operations_are_judged_one_by_one(world: World) -> None:
    """Operations that were folded into one entry still overflow each for itself."""
    a = await world.strict()
    b = await world.strict()
    await b.inc("k", MAX - 3)
    values = await gather(*(each(outcome, each(a.inc, "k")) for _ in range(6)))
    assert [(MAX - 2, 1), (MAX - 1, 2), (MAX, 3)] + 3 * [CounterOverflowError] == values
    assert (MAX, 3) == await a.get("k")


# ---------------------------------------------------------------------------- handles


@everywhere
async def test_a_handle_has_every_operation_of_its_key(world: World, flavour: Flavour) -> None:
    """`bind(key)` gives every per-key operation without the key."""
    counter = await world.make(flavour)
    handle = counter.bind("k")
    assert isinstance(handle, BoundCounter)
    assert "k" == handle.key
    assert (2, 2) == await handle.inc(2)
    assert (3, 3) == await handle.inc()
    assert (2, 2) == await handle.dec()
    assert (0, 0) == await handle.dec(2)
    assert (9, 9) == await handle.set(9)
    assert (4, 4) == await handle.set_on_instance(4)
    assert (4, 4) == await handle.get()
    assert (0, 4) == await handle.delete_on_instance()
    await handle.inc(5)
    assert (5, 5) == await handle.delete()
    assert (0, 0) == await counter.get("k")
    assert "k" in repr(handle)


@on_both
async def test_a_lax_handle_counts_without_waiting(world: World) -> None:
    """A lax handle has the hot path too, across flushes, deletes and clears."""
    counter = await world.lax()
    other = await world.strict()
    handle = counter.bind("k")
    handle.inc_nowait()
    handle.inc_nowait(4)
    handle.dec_nowait(2)
    await counter.flush()
    assert (3, 3) == handle.get_nowait()
    assert (3, 0) == await other.get("k")
    await counter.delete("k")
    handle.inc_nowait()
    await counter.clear()
    handle.inc_nowait(2)
    await counter.flush()
    assert (2, 2) == handle.get_nowait()
    assert (2, 0) == await other.get("k")
    # After so long a silence the counter has forgotten the key, and the handle has not.
    await handle.delete()
    await world.intervals(8)
    handle.inc_nowait(6)
    await counter.flush()
    assert (6, 0) == await other.get("k")


@everywhere
async def test_generic_code_takes_either(world: World, flavour: Flavour) -> None:
    """`InstanceAwareCounter` is the type to write against."""
    counter: InstanceAwareCounter = await world.make(flavour)
    assert isinstance(counter, InstanceAwareCounter)
    assert (flavour == "lax") == isinstance(counter, LaxInstanceAwareCounter)
    assert world.prefix == counter.prefix


@on_both
@pytest.mark.parametrize("prefix", ["}", "a}b", "{", "{x}", " ", "*", "naïve ☃", "a\x00b", "\n"])
async def test_strange_names_are_names(world: World, prefix: str) -> None:
    """Whatever is no bad name works as a prefix and as a key, apart from all others."""
    named = f"{prefix}{world.prefix}"
    a = world.build("strict", prefix=named)
    b = world.build("lax", prefix=named)
    outsider = await world.strict()
    await world.start(a)
    await world.start(b)
    await outsider.inc(prefix, 50)
    assert (3, 3) == await a.inc(prefix, 3)
    assert (5, 2) == await b.inc(prefix, 2)
    await b.flush()
    assert (5, 3) == await a.get(prefix)
    assert (5, 3) == await a.delete(prefix)
    assert (0, 0) == await a.get(prefix)
    assert (50, 50) == await outsider.get(prefix)


async def release_later(world: World, counter: Counter) -> None:
    """Let the requests of a counter go once everything has been asked for."""
    await trio.sleep(0.01)
    world.wire(counter).release()
