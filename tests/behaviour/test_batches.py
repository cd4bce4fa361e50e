"""Operations on several keys: all or none up to a thousand of them, in steps beyond."""

# ruff: noqa: SIM300 - expected == actual, all through

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import trio

from distkit_actors import (
    CounterClosedError,
    CounterOverflowError,
    InvalidKeyError,
    LaxInstanceAwareCounter,
    OutcomeUnknownError,
)
from distkit_actors._instance._session import ProtocolError, Session
from distkit_actors._namespace._namespace import Namespace
from distkit_actors._protocol._messages import (
    MAX_ENTRIES,
    Applied,
    Apply,
    Entry,
    Kind,
    Periods,
    Rejection,
)
from tests.behaviour.test_bad_input import BAD_COUNTS, BAD_NAMES, Untouched
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
    on_redis,
    outcome,
)

WRITES = ["inc_all", "set_all", "set_all_on_instance"]
CONDITIONAL = ["inc_all_if", "set_all_if", "set_all_on_instance_if"]
READS = ["get_all", "get_all_on_instance"]


def wholes(world: World, counter: Any) -> list[Apply]:
    """Return the batches sent that were to be executed all or none, but for those that read."""
    return [
        request
        for request in world.requests(counter)
        if isinstance(request, Apply)
        and request.atomic
        and any(entry.value or entry.kind.value != "+" for entry in request.entries)
    ]


# ------------------------------------------------------------------------- what they do


@everywhere
async def test_each_does_to_every_key_what_its_twin_does_to_one(
    world: World, flavour: Flavour
) -> None:
    a, b = await world.make(flavour), await world.strict()
    await b.inc_all({"x": 100, "y": -100, "z": 1})
    assert {"x": (105, 5), "y": (-105, -5), "new": (1, 1)} == await a.inc_all(
        {"x": 5, "y": -5, "new": 1}
    )
    assert {"x": (103, 3), "y": (-100, 0)} == await a.set_all_on_instance({"x": 3, "y": 0})
    await world.settle()
    assert {"x": (103, 100), "y": (-100, -100), "new": (1, 0)} == await b.get_all(["x", "y", "new"])
    assert {"y": (7, 7), "z": (0, 0)} == await a.set_all({"y": 7, "z": 0})
    assert {"x": (103, 100), "y": (7, 0), "z": (0, 0)} == await b.get_all(["x", "y", "z"])
    assert {"x": 3, "y": 7, "nobody's": 0} == await a.get_all_on_instance(["x", "y", "nobody's"])
    # The epochs of what was set have moved: the old slice is none, whoever adds to it.
    assert {"y": (8, 1), "z": (-1, -1)} == await b.inc_all({"y": 1, "z": -1})


@both_flavours
async def test_the_values_come_in_the_order_of_the_keys(world: World, flavour: Flavour) -> None:
    a = await world.make(flavour)
    keys = ["z", "a", "m", "b"]
    assert keys == list(await a.inc_all(dict.fromkeys(keys, 1)))
    assert keys == list(await a.set_all(dict.fromkeys(keys, 1)))
    assert keys == list(await a.get_all(keys))
    assert keys == list(await a.get_all_on_instance(iter(keys)))


@both_flavours
async def test_a_key_asked_for_twice_is_answered_once(world: World, flavour: Flavour) -> None:
    a = await world.make(flavour)
    await a.inc("k", 3)
    assert {"k": (3, 3), "j": (0, 0)} == await a.get_all(["k", "j", "k", "k"])
    assert {"k": 3, "j": 0} == await a.get_all_on_instance(key for key in ("k", "j", "k"))


@both_flavours
async def test_nothing_to_do_is_done(world: World, flavour: Flavour) -> None:
    """An empty mapping changes nothing, sends nothing, and still needs a counter that runs."""
    a = await world.make(flavour)
    async with Untouched(world, a):
        for name in WRITES + CONDITIONAL:
            assert {} == await getattr(a, name)({})
        for name in READS:
            assert {} == await getattr(a, name)([])
    await a.aclose()
    for name in WRITES + CONDITIONAL + READS:
        with pytest.raises(CounterClosedError):
            await getattr(a, name)({})


@both_flavours
async def test_any_mapping_will_do(world: World, flavour: Flavour) -> None:
    class Squares(Mapping[str, int]):
        def __getitem__(self, key: str) -> int:
            return int(key) ** 2

        def __iter__(self) -> Iterator[str]:
            return iter("123")

        def __len__(self) -> int:
            return 3

    a = await world.make(flavour)
    assert {"1": (1, 1), "2": (4, 4), "3": (9, 9)} == await a.inc_all(Squares())


@on_both
async def test_one_step_each(world: World) -> None:
    """Up to a thousand keys are one batch, whatever else waits."""
    a = await world.strict()
    counts = {f"key-{n}": n for n in range(MAX_ENTRIES)}
    await gather(each(a.inc, "key-1"), each(a.inc_all, counts), each(a.inc, "key-1"))
    (request,) = wholes(world, a)
    assert list(counts) == [entry.key for entry in request.entries]
    assert (3, 3) == await a.get("key-1")


# --------------------------------------------------------------------------- all or none


@pytest.mark.parametrize("name", ["inc_all", "set_all_on_instance"])
async def test_a_step_that_is_refused_changes_nothing(world: World, name: str) -> None:
    """Where one key would overflow none is changed, and the error says which ones would."""
    a, b = await world.strict(), await world.strict()
    await b.inc_all({"full": MAX - 2, "low": MIN, "k": 7})
    await a.inc_all({"k": 10, "full": 1, "mine": 4, "low": 3})
    before = await a.get_all(["k", "mine", "new", "gone", "full", "low"])
    print_before = await world.backend.footprint(world.prefix)
    last = 4 if name == "set_all_on_instance" else 3
    with pytest.raises(CounterOverflowError, match="'full', 'low'") as info:
        await getattr(a, name)(
            {"k": 5, "mine": -4, "full": last, "new": 9, "low": -1 if last == 4 else -4, "gone": 0}
        )
    assert "'k'" not in str(info.value)
    assert "nothing was changed" in str(info.value)
    assert () == info.value.applied
    assert not getattr(info.value, "__notes__", [])
    assert before == await a.get_all(["k", "mine", "new", "gone", "full", "low"])
    assert (17, 7) == await b.get("k")
    assert print_before == await world.backend.footprint(world.prefix)
    # The instance believes what the store holds: it goes on from there.
    assert (18, 11) == await a.inc("k", 1)
    assert (1, 1) == await a.inc("new", 1)


async def test_what_was_undone_keeps_its_epoch(world: World) -> None:
    """A slice that was put back is the old one: a move made before it was undone spares it."""
    a, b = await world.strict(), await world.strict()
    await a.inc("k", 10)
    await b.set("full", MAX)
    with pytest.raises(CounterOverflowError):
        await a.inc_all({"k": -10, "full": 1})
    assert (10, 10) == await a.get("k")
    await b.delete("k")
    assert (0, 0) == await a.get("k")
    with pytest.raises(CounterOverflowError):
        await a.set_all_on_instance({"k": 5, "full": 1})
    await b.inc("k", 1)
    assert (1, 0) == await a.get("k")


async def test_a_lax_batch_that_is_refused_here_counts_nothing(world: World) -> None:
    """A lax counter judges by what it knows, before it counts anything."""
    a, b = await world.lax(), await world.strict()
    await b.inc("full", MAX)
    for name in ("inc_all", "set_all_on_instance"):
        with pytest.raises(CounterOverflowError, match="full"):
            await getattr(a, name)({"k": 1, "full": 1, "j": 1})
        assert 0 == a.statistics().pending_keys
    assert {"k": (0, 0), "full": (MAX, MAX), "j": (0, 0)} == await b.get_all(["k", "full", "j"])


async def test_a_lax_batch_that_the_store_refuses_loses_what_does_not_fit(world: World) -> None:
    """What others count is found out by the flush: each key then stands for itself.

    P32, refused counts.
    """
    a, b = await world.lax(flush_interval=1000.0), await world.strict()
    await a.inc_all({"k": 1, "full": 1})
    await b.inc("full", MAX)
    with pytest.raises(CounterOverflowError, match="full: 1"):
        await a.flush()
    assert {"k": (1, 0), "full": (MAX, MAX)} == await b.get_all(["k", "full"])


def test_no_batch_is_begun_that_could_not_be_undone() -> None:
    """What moves an epoch stays, so nothing that may be refused stands with it."""
    session, namespace = Session("i", "n", Periods(2, 1, 1)), Namespace()
    while (request := session.request()) is not None:
        session.receive(namespace.execute(request, 1))
    add, move = Entry(Kind.ADD, "k", 1), Entry(Kind.MOVE, "j", 1)
    forget, clear = Entry(Kind.FORGET, "else", 0), Entry(Kind.CLEAR, "", 0)
    for entries in ([add, move], [move, add]):
        with pytest.raises(ProtocolError, match="either"):
            session.begin(entries, atomic=True)
    with pytest.raises(ProtocolError, match="either"):
        session.begin([add], atomic=True, leave=True)
    for entries in ([forget, move], [clear, forget]):
        with pytest.raises(ProtocolError, match="forgets nobody"):
            session.begin(entries)
    session.begin([move], atomic=True)


# ---------------------------------------------------------------------------- many steps


async def test_more_than_a_thousand_keys_go_in_steps(world: World) -> None:
    a = await world.strict()
    counts = {f"key-{n}": n + 1 for n in range(2 * MAX_ENTRIES + 7)}
    assert {key: (n, n) for key, n in counts.items()} == await a.inc_all(counts)
    assert [1000, 1000, 7] == [len(request.entries) for request in wholes(world, a)]
    assert {key: (n, n) for key, n in counts.items()} == await a.get_all(counts)


async def test_a_step_that_fails_says_what_went_before(world: World) -> None:
    """The steps before one that is refused stay, the error has their keys; none follows it."""
    a, b = await world.strict(), await world.strict()
    counts = {f"key-{n}": 1 for n in range(2500)}
    await b.inc("key-1700", MAX)
    with pytest.raises(CounterOverflowError, match="key-1700") as info:
        await a.inc_all(counts)
    assert tuple(counts)[:1000] == info.value.applied
    note = "the steps of the first 1000 of 2500 keys were executed before"
    assert [note] == info.value.__notes__
    expected = [n < 1000 for n in range(2500)]
    mine = await a.get_all_on_instance(counts)
    assert expected == [mine[key] == 1 for key in counts]
    assert {0, 1} == set(mine.values())


async def test_a_step_whose_outcome_is_unknown_says_what_went_before(world: World) -> None:
    a = await world.strict()
    results: list[object] = []

    async def call() -> None:
        try:
            await a.set_all({f"key-{n}": 1 for n in range(1500)})
        except OutcomeUnknownError as error:
            results.extend([len(error.applied), error.__notes__])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(call)
        async with world.reply_lost(a, lambda r: isinstance(r, Apply) and len(r.entries) == 500):
            await world.backend.wipe(world.prefix)
    note = "the steps of the first 1000 of 1500 keys were executed before"
    assert [1000, [note]] == results


@on_redis
@both_flavours
async def test_ten_thousand_keys_in_one_call(world: World, flavour: Flavour) -> None:
    a, b = await world.make(flavour), await world.strict()
    counts = {f"key-{n}": n - 5000 for n in range(10_000)}
    values = await a.inc_all(counts)
    await world.settle()
    assert {key: (n, n) for key, n in counts.items()} == values
    assert {key: (n, 0) for key, n in counts.items()} == await b.get_all(counts)
    assert counts == await a.get_all_on_instance(counts)
    assert {(9, 9)} == set((await a.set_all(dict.fromkeys(counts, 9))).values())
    assert {(9, 0)} == set((await b.get_all(counts)).values())


async def test_cancelled_between_two_steps_the_rest_never_happens(world: World) -> None:
    a, b = await world.strict(), await world.strict()
    keys = [f"key-{n}" for n in range(3000)]
    wire = world.wire(a)
    async with trio.open_nursery() as nursery:
        wire.hold(replies=True)
        nursery.start_soon(a.inc_all, dict.fromkeys(keys, 1))
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    wire.release()
    mine = await b.get_all(keys)
    assert [(1, 0)] * 1000 + [(0, 0)] * 2000 == [mine[key] for key in keys]


# --------------------------------------------------------------------------------- order


@both_flavours
async def test_a_batch_runs_between_what_was_called_before_and_after(
    world: World, flavour: Flavour
) -> None:
    """Operations of one counter on one key run in the order in which they were called."""
    a = await world.make(flavour)
    world.wire(a).delay(world.interval / 50)
    results = await gather(
        each(a.set, "k", 5),
        each(a.set_all, {"k": 10, "j": 1}),
        each(a.delete, "k"),
        each(a.set_all, {"k": 20}),
        each(a.delete_on_instance, "k"),
        each(a.get_all, ["k", "j"]),
        each(a.clear),
        each(a.set_all, {"j": 7}),
        each(a.delete, "j"),
    )
    world.wire(a).delay(0)
    assert [
        (5, 5),
        {"k": (10, 10), "j": (1, 1)},
        (10, 10),
        {"k": (20, 20)},
        (0, 20),
        {"k": (0, 0), "j": (1, 1)},
        None,
        {"j": (7, 7)},
        (7, 7),
    ] == results


async def test_a_lax_batch_that_acts_at_once_comes_behind_what_is_pending(world: World) -> None:
    a, b = await world.lax(flush_interval=1000.0), await world.strict()
    a.inc_nowait("k", 3)
    a.inc_nowait("elsewhere", 3)
    await b.inc("k", 100)
    assert {"k": (9, 9)} == await a.set_all({"k": 9})
    assert (9, 0) == await b.get("k")
    assert 1 == a.statistics().pending_keys  # what was not touched waits for its flush
    await a.flush()
    assert (3, 0) == await b.get("elsewhere")


@on_both
async def test_a_snapshot_is_of_one_instant(world: World) -> None:
    """Whoever moves amounts between keys all the time, a reader always finds their sum."""
    a, b = await world.strict(), await world.strict()
    keys = [f"key-{n}" for n in range(5)]
    await a.inc_all(dict.fromkeys(keys, 100))

    async def shuffle() -> None:
        for n in range(1000):  # more than the reader needs
            await a.inc_all({keys[n % 5]: -n, keys[(n + 1) % 5]: n})

    async with trio.open_nursery() as nursery:
        nursery.start_soon(shuffle)
        for _ in range(60):
            values = await b.get_all(keys)
            assert 500 == sum(value.cumulative for value in values.values())
        assert {100} != {value.cumulative for value in values.values()}
        nursery.cancel_scope.cancel()


async def test_a_lax_reader_asks_for_what_is_old_only(world: World) -> None:
    a, b = await world.lax(allowed_lag=1.0), await world.strict()
    await b.inc_all({"k": 1, "j": 2})
    await a.get_all(["k"])
    await b.inc_all({"k": 10, "j": 20})
    assert {"k": (1, 0), "j": (22, 0)} == await a.get_all(["k", "j"])
    await trio.sleep(1.1)
    assert {"k": (11, 0), "j": (22, 0)} == await a.get_all(["k", "j"])


async def test_a_lax_reader_does_without_a_store_that_is_away(world: World) -> None:
    a, b = await world.lax(allowed_lag=0.5), await world.strict()
    await b.inc("k", 5)
    assert {"k": (5, 0)} == await a.get_all(["k"])
    await trio.sleep(1)
    world.wire(a).cut()
    began = trio.current_time()
    a.inc_nowait("k", 1)
    assert {"k": (6, 1), "never read": (0, 0)} == await a.get_all(["k", "never read"])
    assert 5.0 == pytest.approx(trio.current_time() - began)


# ----------------------------------------------------------------------------- bad input


@both_flavours
@pytest.mark.parametrize("key", [p for p in BAD_NAMES if p.id != "list"])
async def test_a_bad_key_among_good_ones(world: World, flavour: Flavour, key: object) -> None:
    counter = await world.make(flavour)
    async with Untouched(world, counter):
        for name in WRITES:
            with pytest.raises(InvalidKeyError):
                await getattr(counter, name)({"present": 1, key: 1, "k": 1})
        for name in READS:
            with pytest.raises(InvalidKeyError):
                await getattr(counter, name)(["present", key])


@both_flavours
async def test_a_list_is_no_key(world: World, flavour: Flavour) -> None:
    counter = await world.make(flavour)
    async with Untouched(world, counter):
        for name in READS:
            with pytest.raises(InvalidKeyError):
                await getattr(counter, name)(["present", ["unhashable"]])


@both_flavours
@pytest.mark.parametrize(("count", "error"), BAD_COUNTS)
async def test_a_bad_count_among_good_ones(
    world: World, flavour: Flavour, count: object, error: type[Exception]
) -> None:
    counter = await world.make(flavour)
    async with Untouched(world, counter):
        for name in WRITES:
            with pytest.raises(error):
                await getattr(counter, name)({"present": 1, "k": count})


@both_flavours
@pytest.mark.parametrize("counts", [None, ["k"], [("k", 1)], "k", 5, {"k"}, object], ids=repr)
async def test_what_is_no_mapping(world: World, flavour: Flavour, counts: object) -> None:
    counter = await world.make(flavour)
    async with Untouched(world, counter):
        for name in WRITES + CONDITIONAL:
            with pytest.raises(TypeError, match="mapping"):
                await getattr(counter, name)(counts)


@both_flavours
@pytest.mark.parametrize("keys", ["present", "k", "", None, 5], ids=repr)
async def test_what_is_not_several_keys(world: World, flavour: Flavour, keys: object) -> None:
    """One string is a mistake for a list of one, not a list of characters."""
    counter = await world.make(flavour)
    async with Untouched(world, counter):
        for name in READS:
            with pytest.raises(TypeError):
                await getattr(counter, name)(keys)


# -------------------------------------------------------------------- doubt, loss, return


@pytest.mark.parametrize("name", WRITES)
@pytest.mark.parametrize("fault", ["drop_request", "drop_reply", "late_copy", "duplicate", "away"])
async def test_a_batch_takes_effect_once(world: World, name: str, fault: str) -> None:
    a, b = await world.strict(), await world.strict()
    await b.inc("k", 1000)
    await a.inc("k", 1)
    getattr(world.wire(a), fault)()
    values = await getattr(a, name)({"k": 10, "j": 20})
    await world.wire(a).deliver_late_copies()
    expected = {
        "inc_all": {"k": (1011, 11), "j": (20, 20)},
        "set_all": {"k": (10, 10), "j": (20, 20)},
        "set_all_on_instance": {"k": (1010, 10), "j": (20, 20)},
    }[name]
    assert expected == values == await a.get_all(["k", "j"])


@pytest.mark.parametrize("name", WRITES)
@pytest.mark.parametrize("loss", ["wipe", "roll back"])
async def test_a_batch_whose_record_is_lost(world: World, name: str, loss: str) -> None:
    """Counts are decided anew, and so take effect once; moves are not repeated.

    P20, doubtful batch.
    """
    a, b = await world.strict(), await world.strict()
    await a.inc("k", 1)
    await b.inc("k", 100)
    await world.backend.snapshot(world.prefix)
    await a.inc("k", 1)  # what is rolled back below the last answer shows in the record
    results: list[object] = []

    async def call() -> None:
        results.append(await outcome(each(getattr(a, name), {"k": 10, "new": 20})))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(call)
        async with world.reply_lost(a, lambda r: isinstance(r, Apply) and r.atomic):
            if loss == "wipe":
                await world.backend.wipe(world.prefix)
            else:
                await world.backend.roll_back(world.prefix)
    await world.intervals(1.5)
    if name == "set_all":
        assert [OutcomeUnknownError] == results
        assert 2 == (await a.get("k")).instance_count
        return
    expected = {"inc_all": 12, "set_all_on_instance": 10}[name]
    (values,) = results
    assert isinstance(values, dict)
    assert (expected, 20) == (values["k"].instance_count, values["new"].instance_count)
    await world.sees(b, "k", 100 + expected, 100)
    await world.sees(b, "new", 20, 0)


async def test_a_batch_in_doubt_may_be_refused_the_second_time(world: World) -> None:
    """It was executed, then lost with the store; what it finds afterwards decides."""
    a, b = await world.strict(), await world.strict()
    results: list[object] = []

    async def call() -> None:
        results.append(await outcome(each(a.inc_all, {"k": 1, "full": 5})))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(call)
        async with world.reply_lost(a, lambda r: isinstance(r, Apply) and r.atomic):
            await world.backend.wipe(world.prefix)
            await b.inc("full", MAX - 2)
    assert [CounterOverflowError] == results
    assert {"k": (0, 0), "full": (MAX - 2, MAX - 2)} == await b.get_all(["k", "full"])
    done = [reply for _, request, reply in world.tap(a).seen if isinstance(reply, Applied)]
    assert any(Rejection.UNDONE in reply.results for reply in done)


@both_flavours
async def test_a_batch_of_one_that_was_reaped(world: World, flavour: Flavour) -> None:
    """All slices return first, then the batch runs (I4)."""
    a, b = await world.make(flavour), await world.strict()
    await a.inc_all({"k": 5, "j": -5})
    await world.cut(a)
    await world.reaped(a, by=b)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(a.inc_all, {"k": 1, "new": 1})
        await trio.sleep(0.001)
        world.heal(a)
    await world.settle()
    expected = {"k": (6, 6), "j": (-5, -5), "new": (1, 1)}
    assert expected == {key: await world.value(a, key) for key in expected}
    assert 6 == (await b.get("k")).cumulative


@both_flavours
async def test_cancelled_while_it_waits_a_batch_never_happens(
    world: World, flavour: Flavour
) -> None:
    a = await world.make(flavour)
    await a.inc("k", 1)
    await world.settle()
    world.wire(a).cut()
    for name in WRITES:
        with trio.move_on_after(0) as scope:
            await getattr(a, name)({"k": 50, "j": 50})
        assert scope.cancelled_caught
    world.heal(a)
    assert (1, 1) == await world.value(a, "k")
    assert (0, 0) == await world.value(a, "j")
    if isinstance(a, LaxInstanceAwareCounter):
        assert 0 == a.statistics().pending_keys
