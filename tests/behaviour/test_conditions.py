"""Conditions: decided by the store, exactly, in the step of the operation."""

# ruff: noqa: SIM300 - expected == actual, all through

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import pytest
import trio

from distkit_actors import (
    Change,
    Condition,
    CounterOverflowError,
    CounterValue,
    Eq,
    Ge,
    Gt,
    InvalidKeyError,
    Le,
    Lt,
    Ne,
    OutcomeUnknownError,
    StoreError,
)
from distkit_actors._protocol._messages import Apply, Kind
from tests.behaviour.test_bad_input import BAD_COUNTS, BAD_NAMES, BAD_TYPES, Untouched
from tests.behaviour.world import (
    MAX,
    MIN,
    Flavour,
    World,
    both_flavours,
    each,
    everywhere,
    gather,
    on_both,
    outcome,
)

SINGLE = ["inc_if", "set_if", "set_on_instance_if"]
SEVERAL = ["inc_all_if", "set_all_if", "set_all_on_instance_if"]

#: Every condition, and what Python says.
MEANINGS: dict[Callable[[int], Condition], Callable[[int, int], bool]] = {
    Eq: operator.eq,
    Ne: operator.ne,
    Lt: operator.lt,
    Le: operator.le,
    Gt: operator.gt,
    Ge: operator.ge,
}
#: Numbers that are easily taken for each other: by their sign, length, digits, or as doubles.
NUMBERS = [
    *(MIN, MIN + 1, -(10**18), -(2**53) - 1, -(2**53), -1000, -999, -20, -19, -10, -9, -2, -1),
    *(0, 1, 2, 9, 10, 19, 20, 99, 100, 2**53, 2**53 + 1, 10**18, MAX - 1, MAX),
]


def change(previous: tuple[int, int], current: tuple[int, int] | None = None) -> Change:
    """Return the change from one value to another; with one, that nothing was changed."""
    if current is None:
        return Change(CounterValue(*previous), CounterValue(*previous), applied=False)
    return Change(CounterValue(*previous), CounterValue(*current), applied=True)


# ------------------------------------------------------------------------------ meaning


@on_both
async def test_every_condition_is_exact_at_every_number(world: World) -> None:
    """The store compares as Python does, on the cumulative and on the own slice."""
    a = await world.strict()
    conditions = [(kind, number) for kind in MEANINGS for number in NUMBERS]
    for current in NUMBERS:
        keys = [f"{kind.__name__}{number}" for kind, number in conditions]  # type: ignore[attr-defined]
        for start in range(0, len(keys), 1000):
            some = keys[start : start + 1000]
            await a.set_all_on_instance(dict.fromkeys(some, current))
        pairs = list(zip(keys, conditions, strict=True))
        wanted = {key: MEANINGS[kind](current, number) for key, (kind, number) in pairs}
        # A count of 0 is decided like any other.
        of_sums = await a.inc_all_if({key: (kind(number), 0) for key, (kind, number) in pairs})
        assert wanted == {key: found.applied for key, found in of_sums.items()}, current
        of_own = await a.set_all_on_instance_if(
            {key: (kind(number), current) for key, (kind, number) in pairs}
        )
        assert wanted == {key: found.applied for key, found in of_own.items()}, current


async def test_one_by_one_they_are_as_exact(world: World) -> None:
    """The same, for operations that share a batch with others."""
    a, b = await world.strict(), await world.strict()
    for current in (MIN, -10, -9, 0, 9, 10, MAX):
        # So that the cumulative is not the own slice.
        await b.set("k", current // 2)
        await a.inc("k", current - current // 2)
        own = await a.set_on_instance("own", current)
        assert own.instance_count == current
        calls, wanted = [], []
        for kind, meaning in MEANINGS.items():
            for number in (MIN, -10, -9, -1, 0, 1, 9, 10, MAX):
                calls += [
                    each(a.inc_if, "k", kind(number), 0),
                    each(a.set_on_instance_if, "own", kind(number), current),
                ]
                wanted += [meaning(current, number)] * 2
        found = await gather(*calls)
        assert wanted == [result.applied for result in found]  # type: ignore[attr-defined]


def test_a_condition_is_a_value() -> None:
    """Equal ones are equal, and it says what it is."""
    assert Lt(5) == Lt(5) != Lt(6) != Le(6)
    assert 2 == len({Eq(1), Eq(1), Ne(1)})
    assert "Ge(value=3)" == repr(Ge(3))
    with pytest.raises(AttributeError):
        Lt(5).value = 6  # type: ignore[misc]
    for kind, meaning in MEANINGS.items():
        for current in NUMBERS:
            assert [meaning(current, number) for number in NUMBERS] == [
                kind(number).holds(current) for number in NUMBERS
            ]


@pytest.mark.parametrize("kind", MEANINGS, ids=lambda kind: kind.__name__)
def test_a_condition_needs_an_int64(kind: Callable[[Any], Condition]) -> None:
    for bad in BAD_TYPES:
        with pytest.raises(TypeError):
            kind(bad)
    for bad in (MAX + 1, MIN - 1):
        with pytest.raises(CounterOverflowError):
            kind(bad)
    with pytest.raises(TypeError):
        Condition(1)  # type: ignore[abstract]


# -------------------------------------------------------------------------- what they do


@both_flavours
async def test_inc_if(world: World, flavour: Flavour) -> None:
    a, b = await world.make(flavour), await world.strict()
    await b.inc("k", 98)
    assert change((98, 0), (99, 1)) == await a.inc_if("k", Lt(100))
    assert change((99, 1), (100, 2)) == await a.inc_if("k", Lt(100), 1)
    assert change((100, 2)) == await a.inc_if("k", Lt(100))
    assert change((100, 2), (93, -5)) == await a.inc_if("k", Eq(100), -7)
    assert (93, 98) == await b.get("k")
    assert (93, -5) == await world.value(a, "k")


@both_flavours
async def test_set_if_moves_the_epoch_only_if_it_applies(world: World, flavour: Flavour) -> None:
    a, b = await world.make(flavour), await world.strict()
    await b.inc("k", 10)
    await a.inc("k", 1)
    await world.settle()
    assert change((11, 1)) == await a.set_if("k", Gt(11), 5)
    # Nothing moved: everybody's slice counts as before, also for who was away.
    assert (12, 11) == await b.inc("k", 1)
    assert change((12, 1), (5, 5)) == await a.set_if("k", Eq(12), 5)
    assert (5, 0) == await b.get("k")
    assert change((5, 5), (0, 0)) == await a.set_if("k", Ge(5), 0)
    assert (1, 1) == await b.inc("k", 1)


@both_flavours
async def test_a_set_if_that_does_not_apply_is_in_no_journal(
    world: World, flavour: Flavour
) -> None:
    a, b = await world.make(flavour), await world.strict()
    await b.inc("k", 10)
    before = await world.backend.footprint(world.prefix)
    for _ in range(3):
        assert not (await a.set_if("k", Lt(0), 5)).applied
        assert not any(c.applied for c in (await a.set_all_if({"k": (Lt(0), 5)})).values())
    assert before == await world.backend.footprint(world.prefix)
    assert {} == a._actor._session.moves


@both_flavours
async def test_set_on_instance_if_looks_at_the_own_slice(world: World, flavour: Flavour) -> None:
    a, b = await world.make(flavour), await world.strict()
    await b.inc("k", 100)
    assert change((100, 0)) == await a.set_on_instance_if("k", Ge(100), 5)
    assert change((100, 0), (105, 5)) == await a.set_on_instance_if("k", Eq(0), 5)
    assert change((105, 5), (97, -3)) == await a.set_on_instance_if("k", Ne(0), -3)
    assert change((97, -3), (100, 0)) == await a.set_on_instance_if("k", Lt(0), 0)
    assert (100, 100) == await b.get("k")
    await b.set("k", 7)
    assert change((7, 0), (8, 1)) == await a.set_on_instance_if("k", Eq(0), 1)


@everywhere
async def test_several_are_decided_each_by_itself(world: World, flavour: Flavour) -> None:
    """In one step, but one that does not apply keeps none of the others."""
    a, b = await world.make(flavour), await world.strict()
    await b.inc_all({"x": 1, "y": 2, "z": 3})
    assert {
        "x": change((1, 0), (11, 10)),
        "y": change((2, 0)),
        "z": change((3, 0), (-27, -30)),
    } == await a.inc_all_if({"x": (Lt(2), 10), "y": (Lt(2), 20), "z": (Gt(2), -30)})
    assert {
        "x": change((11, 10)),
        "y": change((2, 0), (102, 100)),
        "w": change((0, 0), (0, 0)),
    } == await a.set_all_on_instance_if({"x": (Eq(11), 1), "y": (Eq(0), 100), "w": (Eq(0), 0)})
    assert {"x": change((11, 10), (5, 5)), "y": change((102, 100))} == await a.set_all_if(
        {"x": (Eq(11), 5), "y": (Eq(100), 5)}
    )
    expected = {"x": (5, 0), "y": (102, 2), "z": (-27, 3)}
    assert expected == await b.get_all(["x", "y", "z"])


async def test_several_with_an_overflow_change_nothing(world: World) -> None:
    """A condition that does not hold keeps no other key from being changed; an overflow does."""
    a, b = await world.strict(), await world.strict()
    await b.inc("full", MAX)
    with pytest.raises(CounterOverflowError, match="'full'") as info:
        await a.inc_all_if({"k": (Eq(0), 1), "full": (Gt(0), 1), "j": (Eq(1), 1)})
    assert "'j'" not in str(info.value)
    assert {"k": (0, 0), "full": (MAX, 0)} == await a.get_all(["k", "full"])
    # What would overflow but is not to be done does no harm.
    found = await a.inc_all_if({"k": (Eq(0), 1), "full": (Lt(0), 1)})
    assert [True, False] == [one.applied for one in found.values()]


async def test_more_than_a_thousand_are_decided_in_steps(world: World) -> None:
    a = await world.strict()
    await a.inc_all({f"key-{n}": n for n in range(2300)})
    found = await a.inc_all_if({f"key-{n}": (Ge(1150), 1) for n in range(2300)})
    assert [n >= 1150 for n in range(2300)] == [one.applied for one in found.values()]


@everywhere
async def test_never_one_too_many(world: World, flavour: Flavour) -> None:
    """Whoever tries, and however many at a time, the limit is kept and reached."""
    counters = [await world.make(flavour) for _ in range(3)]
    found = await gather(
        *(each(counters[n % 3].inc_if, "seats", Lt(20)) for n in range(60)),
    )
    applied = [one for one in found if one.applied]  # type: ignore[attr-defined]
    assert list(range(1, 21)) == sorted(one.current.cumulative for one in applied)  # type: ignore[attr-defined]
    for counter in counters:
        assert 20 == (await world.value(counter, "seats")).cumulative


@on_both
async def test_a_compare_and_set_has_one_winner(world: World) -> None:
    counters = [await world.strict() for _ in range(4)]
    for turn in range(5):
        found = await gather(*(each(c.set_if, "k", Eq(turn), turn + 1) for c in counters))
        assert 1 == sum(one.applied for one in found)  # type: ignore[attr-defined]


# --------------------------------------------------------------------------------- order


async def test_on_a_lax_counter_they_come_behind_what_is_pending(world: World) -> None:
    """A condition is decided after what was counted before the call, in order."""
    a, b = await world.lax(flush_interval=1000.0), await world.strict()
    await b.inc("k", 5)
    a.inc_nowait("k", 4)
    a.inc_nowait("elsewhere", 1)
    assert change((9, 4), (10, 5)) == await a.inc_if("k", Ge(9))
    a.inc_nowait("k", 1)
    assert change((11, 6)) == await a.set_if("k", Ne(11), 0)
    await a.set_on_instance("k", 50)
    assert change((55, 50), (5, 0)) == await a.set_on_instance_if("k", Eq(50), 0)
    a.inc_nowait("k", 1)
    assert {"k": change((6, 1), (7, 2))} == await a.inc_all_if({"k": (Eq(6), 1)})
    assert (7, 2) == a.get_nowait("k")
    assert 1 == a.statistics().pending_keys
    assert (7, 5) == await b.get("k")


async def test_counts_that_come_back_go_first_again(world: World) -> None:
    """What was pending is decided on, also if its batch found that the instance was reaped."""
    a, b = await world.lax(flush_interval=1000.0), await world.strict()
    await world.mark(a)
    world.wire(a).hold()
    a.inc_nowait("k", 5)
    results: list[object] = []

    async def call() -> None:
        results.append(await a.inc_if("k", Ge(5)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(call)
        await world.reaped(a, by=b)
        world.wire(a).release()
    assert [change((5, 5), (6, 6))] == results


async def test_counts_that_were_refused_go_first_again(world: World) -> None:
    """What must go ahead of a lax conditional is refused: so is it, at once; nothing is lost."""
    a = await world.lax(flush_interval=1000.0)
    a.inc_nowait("k", 5)
    world.wire(a).refuse(StoreError("out of memory"))
    with trio.fail_after(world.interval / 2), pytest.raises(StoreError, match="out of memory"):
        await a.inc_if("k", Ge(5))
    assert 1 == a.statistics().pending_keys
    world.wire(a).refuse(None)
    assert change((5, 5), (6, 6)) == await a.inc_if("k", Ge(5))


async def test_strict_operations_run_in_the_order_of_their_calls(world: World) -> None:
    a = await world.strict()
    world.wire(a).delay(world.interval / 50)
    found = await gather(
        each(a.inc, "k", 1),
        each(a.inc_if, "k", Eq(1), 1),
        each(a.inc, "k", 1),
        each(a.set_if, "k", Eq(3), 10),
        each(a.set_if, "k", Eq(3), 20),
        each(a.inc_all_if, {"k": (Eq(10), 1)}),
        each(a.set_on_instance_if, "k", Eq(11), 5),
        each(a.get, "k"),
    )
    world.wire(a).delay(0)
    assert [
        (1, 1),
        change((1, 1), (2, 2)),
        (3, 3),
        change((3, 3), (10, 10)),
        change((10, 10)),
        {"k": change((10, 10), (11, 11))},
        change((11, 11), (5, 5)),
        (5, 5),
    ] == found


# ----------------------------------------------------------------------------- bad input


@both_flavours
@pytest.mark.parametrize("condition", [None, 5, "<5", Lt, bool, (Lt(5),)], ids=repr)
async def test_what_is_no_condition(world: World, flavour: Flavour, condition: Any) -> None:
    counter = await world.make(flavour)
    async with Untouched(world, counter):
        for name in SINGLE:
            with pytest.raises(TypeError, match="condition"):
                await getattr(counter, name)("present", condition, 1)
        for name in SEVERAL:
            with pytest.raises(TypeError, match="condition"):
                await getattr(counter, name)({"k": (Eq(0), 1), "present": (condition, 1)})
            with pytest.raises(TypeError, match="condition"):
                await getattr(counter, name)({"k": (Eq(0), 1), "present": condition})


@both_flavours
@pytest.mark.parametrize("key", [p for p in BAD_NAMES if p.id != "list"])
async def test_bad_keys(world: World, flavour: Flavour, key: Any) -> None:
    counter = await world.make(flavour)
    async with Untouched(world, counter):
        for name in SINGLE:
            with pytest.raises(InvalidKeyError):
                await getattr(counter, name)(key, Eq(0), 1)
        for name in SEVERAL:
            with pytest.raises(InvalidKeyError):
                await getattr(counter, name)({"k": (Eq(0), 1), key: (Eq(0), 1)})


@both_flavours
@pytest.mark.parametrize(("count", "error"), BAD_COUNTS)
async def test_bad_counts(
    world: World, flavour: Flavour, count: Any, error: type[Exception]
) -> None:
    counter = await world.make(flavour)
    async with Untouched(world, counter):
        for name in SINGLE:
            with pytest.raises(error):
                await getattr(counter, name)("present", Ne(0), count)
        for name in SEVERAL:
            with pytest.raises(error):
                await getattr(counter, name)({"k": (Eq(0), 1), "present": (Ne(0), count)})


async def test_an_overflow_is_refused_only_where_the_condition_holds(world: World) -> None:
    a, b = await world.strict(), await world.strict()
    await b.inc("full", MAX)
    assert change((MAX, 0)) == await a.inc_if("full", Lt(MAX))
    with pytest.raises(CounterOverflowError):
        await a.inc_if("full", Eq(MAX))
    assert change((MAX, 0)) == await a.set_on_instance_if("full", Ne(0), 5)
    with pytest.raises(CounterOverflowError):
        await a.set_on_instance_if("full", Eq(0), 5)
    assert (MAX, 0) == await a.get("full")
    assert change((MAX, 0), (MIN, MIN)) == await a.set_if("full", Eq(MAX), MIN)


# -------------------------------------------------------------------- doubt, loss, return


@both_flavours
@pytest.mark.parametrize("fault", ["drop_request", "drop_reply", "late_copy", "duplicate", "away"])
async def test_each_takes_effect_once(world: World, flavour: Flavour, fault: str) -> None:
    """A condition that its own first execution has made false is not decided again."""
    a, b = await world.make(flavour), await world.strict()
    wire = world.wire(a)

    def conditional(request: object) -> bool:
        return isinstance(request, Apply) and any(e.condition for e in request.entries)

    await b.inc("k", 10)
    for call, expected in (
        (each(a.inc_if, "k", Eq(10), 1), change((10, 0), (11, 1))),
        (each(a.inc_if, "k", Eq(10), 1), change((11, 1))),
        (each(a.set_on_instance_if, "k", Eq(1), 2), change((11, 1), (12, 2))),
        (each(a.set_if, "k", Eq(12), 20), change((12, 2), (20, 20))),
        (each(a.inc_all_if, {"k": (Eq(20), 1)}), {"k": change((20, 20), (21, 21))}),
        (each(a.set_all_if, {"k": (Eq(21), 1)}), {"k": change((21, 21), (1, 1))}),
    ):
        getattr(wire, fault)(when=conditional)
        assert expected == await call()
        await wire.deliver_late_copies()
    assert (1, 0) == await b.get("k")


@both_flavours
@pytest.mark.parametrize("name", ["inc_if", "set_on_instance_if"])
async def test_in_doubt_with_its_record_lost_it_is_decided_anew(
    world: World, flavour: Flavour, name: str
) -> None:
    """It was executed, and lost with the store: what it finds now decides, once.

    P20, doubtful batch.
    """
    a, b = await world.make(flavour), await world.strict()
    await a.inc("k", 3)
    await world.settle()
    results: list[object] = []

    async def call() -> None:
        results.append(await getattr(a, name)("k", Ge(3), 10))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(call)
        async with world.reply_lost(a, _conditional):
            assert {"inc_if": 13, "set_on_instance_if": 10}[name] == (await b.get("k")).cumulative
            await world.backend.wipe(world.prefix)
    expected = {"inc_if": change((3, 3), (13, 13)), "set_on_instance_if": change((3, 3), (10, 10))}
    assert [expected[name]] == results
    await world.sees(b, "k", expected[name].current.cumulative, 0)


@both_flavours
async def test_decided_anew_it_may_not_apply_any_more(world: World, flavour: Flavour) -> None:
    """Its own slice is re-asserted without it, and the cumulative is what others make of it."""
    a, b = await world.make(flavour), await world.strict()
    await a.inc("k", 3)
    await world.settle()
    results: list[object] = []

    async def call() -> None:
        results.append(await a.inc_if("k", Lt(5), 1))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(call)
        async with world.reply_lost(a, _conditional):
            await world.backend.wipe(world.prefix)
            await b.inc("k", 7)
    assert [change((10, 3))] == results
    await world.sees(b, "k", 10, 7)


@both_flavours
@pytest.mark.parametrize("name", ["set_if", "set_all_if"])
async def test_a_move_in_doubt_is_not_decided_again(
    world: World, flavour: Flavour, name: str
) -> None:
    """A second execution would wipe counts made after the first, so nobody knows.

    P20, doubtful batch.
    """
    a, b = await world.make(flavour), await world.strict()
    await b.inc("k", 1)
    arguments: list[Any] = ["k", Eq(1), 5] if name == "set_if" else [{"k": (Eq(1), 5)}]
    results: list[object] = []

    async def call() -> None:
        results.append(await outcome(each(getattr(a, name), *arguments)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(call)
        async with world.reply_lost(a, _conditional):
            assert (5, 0) == await b.get("k")
            await world.backend.wipe(world.prefix)
    assert [OutcomeUnknownError] == results


@both_flavours
async def test_after_a_return_all_slices_are_there_to_decide_on(
    world: World, flavour: Flavour
) -> None:
    a, b = await world.make(flavour), await world.strict()
    await a.inc("k", 5)
    await world.cut(a)
    await world.reaped(a, by=b)
    results: list[object] = []

    async def call() -> None:
        results.append(await a.inc_if("k", Eq(5), 1))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(call)
        await trio.sleep(0.001)
        world.heal(a)
    assert [change((5, 5), (6, 6))] == results


def _conditional(request: object) -> bool:
    return isinstance(request, Apply) and any(
        entry.condition is not None and entry.kind in (Kind.ADD, Kind.PUT, Kind.MOVE)
        for entry in request.entries
    )


# ----------------------------------------------------------------------- no others


@pytest.mark.parametrize("base", [Condition, Eq, Lt])
def test_nobody_makes_another_condition(base: type[Condition]) -> None:
    """A store could not decide it, and would decide something else."""
    with pytest.raises(TypeError, match="a store knows no others"):
        type("Even", (base,), {"holds": lambda self, current: current % 2 == 0})


@both_flavours
async def test_what_passes_for_a_condition_is_refused_everywhere(
    world: World, flavour: Flavour
) -> None:
    """Abstract classes take in whoever is registered with them."""

    class Even:
        sign, value = "==", 2

        def holds(self, current: int) -> bool:
            return current % 2 == 0

    Condition.register(Even)
    condition: Any = Even()
    assert isinstance(condition, Condition)
    counter = await world.make(flavour)
    async with Untouched(world, counter):
        for call in (
            lambda: counter.inc_if("present", condition),
            lambda: counter.set_if("present", condition, 1),
            lambda: counter.set_on_instance_if("present", condition, 1),
            lambda: counter.inc_all_if({"present": (condition, 1)}),
            lambda: counter.set_all_if({"present": (condition, 1)}),
            lambda: counter.set_all_on_instance_if({"present": (condition, 1)}),
            lambda: counter.wait_until("present", condition),
        ):
            with pytest.raises(TypeError, match="a store knows no others, and not Even"):
                await call()
