"""A namespace in several parts: what is as ever, and what is for each part (P44, parts)."""

# ruff: noqa: SIM300, PT012 - expected == actual, all through; errors come out of whole blocks

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext
from functools import partial
from itertools import count, islice
from random import Random
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from distkit_actors import (
    CounterClosedError,
    CounterOverflowError,
    CounterValue,
    Eq,
    Fleet,
    FleetLimiter,
    Ge,
    InstanceAwareCounter,
    InstanceConflictError,
    LaxInstanceAwareCounter,
    LimitReachedError,
    Lt,
    MemoryStore,
    OutcomeUnknownError,
    Store,
    StoreError,
    StoreUnavailableError,
    StrictInstanceAwareCounter,
)
from distkit_actors._actor._batch_loop import BatchLoop
from distkit_actors._actor._groups import all_of
from distkit_actors._fleet._audit import audit
from distkit_actors._protocol._messages import Apply, Forget, Kind, Open, Reply, Request
from distkit_actors._protocol._partitions import part_of
from distkit_actors._stores._contract import Link, StoreAwayError
from distkit_actors._stores._memory import _name
from distkit_actors.testing import FaultyStore
from tests.behaviour.world import (
    MAX,
    MEMORY,
    Backend,
    Counter,
    Flavour,
    MemoryBackend,
    World,
    both_flavours,
    outcome,
    run_on_mock_clock,
)

PARTS = 4


@pytest.fixture(params=[MEMORY])
def backend() -> Backend:
    backend = MemoryBackend()
    backend.shared = MemoryStore(partitions=PARTS)
    return backend


def keys_in(part: int, stem: str = "key") -> Iterator[str]:
    """Give names of keys in a part, one after the other."""
    return (key for n in count() if part_of(key := f"{stem}-{n}", PARTS) == part)


#: A key in each part.
KEYS = [next(keys_in(part)) for part in range(PARTS)]


def namespace(world: World, part: int) -> Any:
    """Return what the store has of a part; None if it has nothing."""
    store = world.backend.store()
    assert isinstance(store, MemoryStore)
    return store._namespaces.get(_name(world.prefix, part))


# ----------------------------------------------------------------------- as with one part

_SOME = [f"k{n}" for n in range(6)]
_KEY = st.sampled_from(_SOME)
_COUNT = st.integers(-5, 5)
_COUNTS = st.dictionaries(_KEY, _COUNT, max_size=6)
_TERM = st.tuples(st.sampled_from([Eq(0), Ge(1), Lt(3)]), _COUNT)
_CALL = st.one_of(
    st.tuples(st.sampled_from(["inc", "dec", "set", "set_on_instance"]), _KEY, _COUNT),
    st.tuples(st.sampled_from(["get", "delete", "delete_on_instance", "slices"]), _KEY),
    st.tuples(st.sampled_from(["clear", "clear_on_instance", "keys"])),
    st.tuples(st.sampled_from(["inc_all", "set_all", "set_all_on_instance"]), _COUNTS),
    st.tuples(
        st.sampled_from(["inc_all_if", "set_all_if", "set_all_on_instance_if"]),
        st.dictionaries(_KEY, _TERM, max_size=6),
    ),
    st.tuples(st.sampled_from(["get_all", "get_all_on_instance"]), st.lists(_KEY)),
    st.tuples(st.just("inc_if"), _KEY, st.just(Lt(2)), _COUNT),
    st.tuples(st.just("hold"), _KEY, _COUNT, st.sampled_from([None, 3])),
)
_CALLS = st.lists(st.tuples(st.integers(0, 1), _CALL), max_size=25)


async def _history(store: MemoryStore, kinds: list[Flavour], calls: Any) -> list[object]:
    """Make calls one after the other, each when all is quiet; return all that came of them."""
    found: list[object] = []
    async with open_one(store, kinds[0], "a") as a, open_one(store, kinds[1], "b") as b:
        for who, (name, *arguments) in calls:
            counter = (a, b)[who]
            if name == "hold":
                found.append(await _held(counter, *arguments))
            else:
                found.append(await outcome(partial(getattr(counter, name), *arguments)))
            for each in (a, b):
                if isinstance(each, LaxInstanceAwareCounter):
                    await each.flush()
            await trio.sleep(4)  # a beat of each, and no word of the store is young
            found.append(await a.get_all(_SOME))
            found.append(await b.get_all(_SOME))
    return found


async def _held(counter: InstanceAwareCounter, key: str, by: int, limit: int | None) -> object:
    try:
        async with counter.hold(key, by, limit) as value:
            return (value, await counter.get_all(_SOME))
    except LimitReachedError:
        return "full"


def open_one(store: MemoryStore, kind: Flavour, name: str) -> Any:
    cls = StrictInstanceAwareCounter if kind == "strict" else LaxInstanceAwareCounter
    return cls.open("p", store, instance_id=name, dead_instance_threshold=9.0)


@settings(deadline=None, max_examples=60)
@given(st.tuples(*[st.sampled_from(["strict", "lax"])] * 2), st.integers(2, 5), _CALLS)
def test_every_operation_is_as_with_one_part(
    kinds: tuple[Flavour, Flavour], partitions: int, calls: Any
) -> None:
    found: list[object] = []

    async def compare() -> None:
        found.extend(
            [
                await _history(MemoryStore(partitions=number), list(kinds), calls)
                for number in (1, partitions)
            ]
        )

    run_on_mock_clock(compare)
    assert found[0] == found[1]


@both_flavours
async def test_one_instance_is_in_every_part(world: World, flavour: Flavour) -> None:
    a = await world.make(flavour, label="me")
    assert {a.instance_id} == {
        name for part in range(PARTS) for name in namespace(world, part).registry.records
    }
    (info,) = await a.instances()
    assert (a.instance_id, True, "me") == (info.instance_id, info.alive, info.label)
    await a.inc_all(dict.fromkeys(KEYS, 1))
    await world.settle()
    for part, key in enumerate(KEYS):
        assert {key: 1} == namespace(world, part).registry.sums


async def test_more_than_a_thousand_keys_in_each_part_go_in_steps(world: World) -> None:
    a = await world.strict()
    counts = {f"key-{n}": n for n in range(5000)}
    assert {key: (n, n) for key, n in counts.items()} == await a.inc_all(counts)
    sizes = [len(r.entries) for r in world.requests(a) if isinstance(r, Apply) and r.entries]
    assert len(sizes) == 2 * PARTS
    assert max(sizes) == 1000
    assert {key: (n, n) for key, n in counts.items()} == await a.get_all(counts)


async def test_no_keys_at_all(world: World) -> None:
    for counter in (await world.strict(), await world.lax()):
        assert {} == await counter.get_all([])
        assert {} == await counter.inc_all({})


async def test_operations_are_in_the_order_of_the_calls(world: World) -> None:
    """One on many parts is put before each of them, not behind what comes after it."""
    a = await world.strict()
    await a.inc_all(dict.fromkeys(KEYS, 5))
    found: list[object] = []

    async def clear() -> None:
        await a.clear()

    async def inc(key: str) -> None:
        found.append(await a.inc(key))

    world.wire(a).hold()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(a.get_all, KEYS)  # under way, so that what follows waits
        await trio.sleep(0.001)
        nursery.start_soon(clear)
        await trio.sleep(0.001)
        for key in KEYS:
            nursery.start_soon(inc, key)
        await trio.sleep(0.001)
        world.wire(a).release()
    assert [(1, 1)] * PARTS == found


# --------------------------------------------------------------------------- all or none


@pytest.mark.parametrize("name", ["inc_all", "set_all_on_instance", "inc_all_if"])
async def test_what_is_refused_in_one_part_is_done_in_the_others(world: World, name: str) -> None:
    a, b = await world.strict(), await world.strict()
    await b.inc(KEYS[2], MAX)
    more = next(key for key in keys_in(2) if key != KEYS[2])
    counts = {KEYS[0]: 1, more: 1, KEYS[1]: 1, KEYS[2]: 1, KEYS[3]: 1}
    given = {k: (Ge(0), n) for k, n in counts.items()} if name.endswith("_if") else counts
    with pytest.raises(CounterOverflowError, match=KEYS[2]) as caught:
        await getattr(a, name)(given)
    assert (KEYS[0], KEYS[1], KEYS[3]) == caught.value.applied
    values = await a.get_all(counts)
    assert [1, 0, 1, 0, 1] == [values[key].instance_count for key in counts]


async def test_a_key_whose_condition_did_not_hold_is_none_that_took_effect(world: World) -> None:
    a, b = await world.strict(), await world.strict()
    await b.inc(KEYS[2], MAX)
    counts = {KEYS[0]: (Ge(7), 1), KEYS[1]: (Ge(0), 1), KEYS[2]: (Ge(0), 1)}
    with pytest.raises(CounterOverflowError) as caught:
        await a.inc_all_if(counts)
    assert (KEYS[1],) == caught.value.applied
    many = keys_in(0)
    first, behind = [next(many) for _ in range(1000)], next(many)
    await b.inc(behind, MAX)
    given = {key: (Ge(number % 2), 1) for number, key in enumerate((*first, behind))}
    with pytest.raises(CounterOverflowError) as caught:
        await a.inc_all_if(given)
    assert tuple(first[::2]) == caught.value.applied


async def test_what_a_part_says_of_its_steps_is_told_beside_the_others(world: World) -> None:
    """Though its error has the same words as that of a part that had nothing to do."""
    a = await world.strict()
    await a.inc_all({KEYS[0]: 1, **dict.fromkeys(islice(keys_in(1), 700), 1)})
    world.wire(a).part(1).forward(1, when=_removes)
    for number in range(2):
        world.wire(a).part(number).answer(
            StoreError("out of memory"), executed=False, when=_removes
        )
    with pytest.raises(StoreError, match="out of memory") as caught:
        await a.clear_on_instance()
    assert [
        "some of its steps have taken effect; called again, it goes on",
        "it has taken effect in 2 of 4 parts",
    ] == caught.value.__notes__


def _removes(request: object) -> bool:
    return isinstance(request, Apply) and any(e.kind is Kind.PUT for e in request.entries)


async def test_a_part_that_starts_as_another_one_is_lost_takes_nothing_over(world: World) -> None:
    """Its successor may be there already, or inherit there."""
    a = world.build("strict", instance_id="job", start_grace=60.0)
    world.tolerate(a)
    world.wire(a).part(1).hold()

    async def run() -> None:
        with pytest.raises(InstanceConflictError):
            await a.run()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        while not _has(namespace(world, 0), "job"):  # noqa: ASYNC110 - nobody sets an event
            await trio.sleep(0.1)
        b = await world.strict(instance_id="job")
        await world.intervals(2)
        world.wire(a).part(1).release()
    await world.intervals(2)
    assert [(1, 1)] * PARTS == [await b.inc(key) for key in KEYS]


def _has(namespace: Any, instance: str) -> bool:
    return namespace is not None and instance in namespace.registry.records


async def test_a_detached_start_that_is_refused_in_any_part_says_so(world: World) -> None:
    await world.strict(instance_id="job")
    b = world.build("lax", instance_id="job", on_conflict="refuse", detached_start=True)
    world.tolerate(b)
    world.wire(b).part(0).hold()
    with pytest.raises(InstanceConflictError, match="on_conflict is 'refuse'"):
        await b.run()


async def test_a_later_step_that_fails_says_what_went_before(world: World) -> None:
    a, b = await world.strict(), await world.strict()
    many = keys_in(0)
    first, behind = [next(many) for _ in range(1000)], next(many)
    await b.inc(behind, MAX)
    counts = dict.fromkeys([*first, behind, KEYS[1]], 1)
    with pytest.raises(CounterOverflowError) as caught:
        await a.inc_all(counts)
    assert (*first, KEYS[1]) == caught.value.applied
    assert [
        "the steps of the first 1000 of 1002 keys were executed before"
    ] == caught.value.__notes__


async def test_a_clear_in_doubt_says_in_how_many_parts_it_was_done(world: World) -> None:
    a = await world.strict()
    await a.inc_all(dict.fromkeys(KEYS, 1))
    caught: list[OutcomeUnknownError] = []

    async def clear() -> None:
        try:
            await a.clear()
        except OutcomeUnknownError as error:
            caught.append(error)

    lossy = world.wire(a).part(2)
    lossy.hold(replies=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(clear)
        await trio.sleep(0.1)
        lossy.cut()
        lossy.release()
        namespace(world, 2).__init__()  # it has lost everything
        lossy.heal()
    assert ["it has taken effect in 3 of 4 parts"] == caught[0].__notes__


async def test_what_the_store_refuses_everywhere_is_said_once(world: World) -> None:
    a = await world.strict()
    world.wire(a).refuse(StoreError("no"))
    with pytest.raises(StoreError, match="no") as caught:
        await a.inc_all(dict.fromkeys(KEYS, 1))
    assert () == caught.value.applied
    assert not hasattr(caught.value, "__notes__")
    world.wire(a).refuse(None)


async def test_lax_counts_that_are_refused_are_told_of_every_part(world: World) -> None:
    a, b = await world.lax(), await world.strict()
    for key in KEYS[:2]:
        a.inc_nowait(key)
        await b.inc(key, MAX)
    with pytest.raises(CounterOverflowError) as caught:
        await a.flush()
    assert all(f"{key}: 1" in str(caught.value) for key in KEYS[:2])
    assert not hasattr(caught.value, "__notes__")
    assert 2 == a.statistics().refused_keys
    await a.flush()


@pytest.mark.parametrize("refusing", [False, True])
async def test_counts_that_are_refused_are_told_by_the_next_flush_that_ends(
    world: World, *, refusing: bool
) -> None:
    a, b = await world.lax(), await world.strict()
    await b.inc(KEYS[2], MAX)
    troubled = world.wire(a).part(1)
    if refusing:
        troubled.refuse(StoreError("no"))
    else:
        troubled.cut()
        await world.intervals(1.5)
    for key in KEYS[1:3]:
        a.inc_nowait(key)
    if refusing:
        with pytest.raises(StoreError, match="no"):
            await a.flush()
    else:
        with trio.move_on_after(1) as scope:
            await a.flush()
        assert scope.cancelled_caught
    assert 1 == a.statistics().refused_keys
    troubled.refuse(None)
    troubled.heal()
    with pytest.raises(CounterOverflowError, match=f"are lost: {KEYS[2]}: 1$"):
        await a.flush()
    assert 1 == a.statistics().refused_keys
    await a.flush()


@pytest.mark.parametrize("name", ["clear", "clear_on_instance", "inc_all", "forget", "keys"])
async def test_cancelled_before_it_was_sent_it_happens_nowhere(world: World, name: str) -> None:
    a, b = await world.strict(), await world.strict()
    await a.inc_all(dict.fromkeys(KEYS, 1))
    arguments = {"inc_all": [dict.fromkeys(KEYS, 5)], "forget": [b.instance_id]}.get(name, [])
    world.wire(a).cut()
    await world.intervals(2)
    with trio.move_on_after(1) as scope:
        await getattr(a, name)(*arguments)
    assert scope.cancelled_caught
    assert 0 == a.statistics().mailbox_length
    world.heal(a)
    await world.intervals(2)
    assert dict.fromkeys(KEYS, (1, 1)) == await a.get_all(KEYS)
    assert {a.instance_id, b.instance_id} == {info.instance_id for info in await a.instances()}


async def test_a_cancelled_query_raises_no_group(world: World) -> None:
    a = await world.strict()
    world.wire(a).hold()
    with trio.CancelScope() as scope:
        scope.deadline = trio.current_time() + 1
        with pytest.raises(trio.Cancelled):
            await a.instances()
    world.wire(a).release()


async def test_all_are_done_and_the_first_error_is_raised() -> None:
    done: list[int] = []

    async def work(number: int) -> int:
        await trio.lowlevel.checkpoint()
        done.append(number)
        if number:
            raise ValueError(f"number {number}")
        return number

    with pytest.raises(ValueError, match="number 1") as caught:
        await all_of([lambda n=n: work(n) for n in (0, 1, 2, 1)])
    assert [0, 1, 1, 2] == sorted(done)
    assert ["and ValueError: number 2"] == caught.value.__notes__


@pytest.mark.parametrize("number", [1, 2])
async def test_an_interrupt_comes_out_as_it_is(number: int) -> None:
    async def interrupted() -> None:
        await trio.lowlevel.checkpoint()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        await all_of([interrupted, *[trio.sleep_forever] * (number - 1)])
    assert "interrupted" in [entry.name for entry in caught.traceback]


async def test_several_that_end_all_come_out_as_a_group() -> None:
    both = trio.Event()
    entered: list[BaseException] = []

    async def end(error: BaseException) -> None:
        await trio.lowlevel.checkpoint()
        entered.append(error)
        if len(entered) == 2:
            both.set()
        with trio.CancelScope(shield=True):
            await both.wait()
        raise error

    errors = [KeyboardInterrupt(), SystemExit()]
    works = [partial(end, error) for error in errors]
    with pytest.raises(BaseExceptionGroup) as caught:
        await all_of([*works, trio.sleep_forever])
    assert set(errors) == set(caught.value.exceptions)


# ------------------------------------------------------------------------- a part is away


async def test_a_part_that_is_away_holds_up_its_own_keys_only(world: World) -> None:
    a = await world.strict()
    world.wire(a).part(2).cut()
    await world.intervals(1.5)
    assert ("away", False) == (a.statistics().state, a.statistics().connected)
    for part in (0, 1, 3):
        assert (1, 1) == await a.inc(KEYS[part])
    for call in (a.inc, a.get, a.slices):
        with trio.move_on_after(1) as scope:
            await call(KEYS[2])
        assert scope.cancelled_caught
    async with trio.open_nursery() as nursery:
        nursery.start_soon(a.clear)
        await trio.sleep(1)
        assert (0, 0) == await a.get(KEYS[0])  # done where the store is
        assert 1 == a.statistics().mailbox_length
        world.wire(a).part(2).heal()
    assert "running" == a.statistics().state
    assert (1, 1) == await a.inc(KEYS[2])


async def test_a_lax_counter_reads_what_can_be_read(world: World) -> None:
    a, b = await world.lax(), await world.strict()
    await a.get_all(KEYS)
    world.wire(a).part(2).cut()
    await world.intervals(1.5)
    await b.inc_all(dict.fromkeys(KEYS, 7))
    a.inc_nowait(KEYS[2], 5)
    start = trio.current_time()
    values = await a.get_all(KEYS)
    assert trio.current_time() - start < 1
    assert [(7, 0), (7, 0), (5, 5), (7, 0)] == [values[key] for key in KEYS]
    with trio.move_on_after(1) as scope:
        await a.flush()
    assert scope.cancelled_caught
    assert 1 == a.statistics().pending_keys
    world.wire(a).part(2).heal()
    await a.flush()
    assert (12, 7) == await b.get(KEYS[2])


async def test_death_and_return_are_for_each_part(world: World) -> None:
    a, b = await world.strict(), await world.strict()
    await a.inc_all(dict.fromkeys(KEYS, 3))
    world.wire(a).part(1).cut()
    await trio.sleep(2 * world.threshold)
    assert [(3, 0), (0, 0), (3, 0), (3, 0)] == list((await b.get_all(KEYS)).values())
    await a.inc(KEYS[0])
    infos = {info.instance_id: info for info in await b.instances()}
    assert infos[a.instance_id].alive  # where it is not cut off
    world.wire(a).part(1).heal()
    await world.intervals(1)
    assert [(4, 0), (3, 0), (3, 0), (3, 0)] == list((await b.get_all(KEYS)).values())


async def test_an_instance_is_as_old_as_in_the_part_that_has_not_heard_it_for_longest(
    world: World,
) -> None:
    a, b = await world.strict(), await world.strict()
    world.wire(a).part(1).cut()
    await trio.sleep(0.9 * world.threshold)
    age = {info.instance_id: info.heartbeat_age for info in await b.instances()}[a.instance_id]
    assert 0.8 * world.threshold < age <= 0.91 * world.threshold
    world.wire(a).part(1).heal()


async def test_a_part_that_lost_everything_is_healed(world: World) -> None:
    a, b = await world.strict(), await world.lax()
    await a.inc_all(dict.fromkeys(KEYS, 3))
    await b.inc_all(dict.fromkeys(KEYS, 4))
    await b.flush()
    for part in (0, 2):
        namespace(world, part).__init__()
    await world.intervals(2)
    assert dict.fromkeys(KEYS, (7, 3)) == await a.get_all(KEYS)


@both_flavours
@pytest.mark.parametrize("seed", range(15))
async def test_whatever_happens_to_requests_all_is_counted_once(
    world: World, flavour: Flavour, seed: int
) -> None:
    random = Random(seed)
    a, b = await world.make(flavour), await world.strict()
    counted = dict.fromkeys(KEYS, 0)

    async def count(counter: InstanceAwareCounter) -> None:
        some = random.sample(KEYS, random.randrange(1, PARTS + 1))
        if len(some) == 1:
            await counter.inc(some[0])
        else:
            await counter.inc_all(dict.fromkeys(some, 1))
        for key in some:
            counted[key] += 1

    async with trio.open_nursery() as nursery:
        for _ in range(60):
            wire = world.wire(random.choice([a, b]))
            wire = wire.part(random.randrange(PARTS)) if random.random() < 0.7 else wire
            match random.randrange(8):
                case 0:
                    wire.cut()
                case 1 | 2:
                    wire.heal()
                case 3:
                    wire.drop_reply()
                case 4:
                    wire.drop_request()
                case 5:
                    wire.late_copy()
                case 6:
                    await wire.deliver_late_copies()
                case _:
                    wire.duplicate()
            nursery.start_soon(count, random.choice([a, b]))
            await trio.sleep(random.random() * world.threshold / 3)
        for counter in (a, b):
            for wire in (world.wire(counter), *map(world.wire(counter).part, range(PARTS))):
                wire.forget_plan()
                wire.heal()
    for counter in (a, b):
        for wire in (world.wire(counter), *map(world.wire(counter).part, range(PARTS))):
            await wire.deliver_late_copies()
    await world.settle()
    await world.intervals(3)
    values = await b.get_all(KEYS)
    assert counted == {key: value.cumulative for key, value in values.items()}


# ------------------------------------------------------------------ how many parts there are


@both_flavours
@pytest.mark.parametrize("number", [1, 2, 3, 5, 256])
async def test_another_number_of_parts_is_refused_at_the_start(
    world: World, flavour: Flavour, number: int
) -> None:
    a = await world.make(flavour)
    await a.inc(KEYS[3], 5)
    await world.settle()
    other = _other(world, number)
    before = set(other._namespaces)
    kind = type(a)
    text = r"is spread over 4 parts, by those who live: give the store partitions=4"
    for name in (None, a.instance_id):
        with pytest.raises(StoreError, match=text):
            async with kind.open(world.prefix, other, instance_id=name, inherit=bool(name)):
                raise AssertionError
    assert before == set(other._namespaces)
    assert (5, 5) == await world.value(a, KEYS[3])
    assert "running" == a.statistics().state


async def test_several_parts_are_refused_where_there_is_one(world: World) -> None:
    one = _other(world, 1)
    async with StrictInstanceAwareCounter.open(world.prefix, one):
        with pytest.raises(StoreError, match="is in one part, by those who live: give the store "):
            await world.strict()
    await world.strict()


def _other(world: World, number: int) -> MemoryStore:
    """Return the same store for those who think it has another number of parts."""
    mine = world.backend.store()
    assert isinstance(mine, MemoryStore)
    other = MemoryStore(partitions=number)
    other._namespaces, other._clock = mine._namespaces, mine._clock
    return other


async def test_the_number_may_change_when_all_have_left(world: World) -> None:
    a = await world.strict()
    await a.inc_all(dict.fromkeys(KEYS, 1))
    await a.aclose()
    async with StrictInstanceAwareCounter.open(world.prefix, _other(world, 2)) as b:
        assert dict.fromkeys(KEYS, (0, 0)) == await b.get_all(KEYS)
        await b.inc_all(dict.fromkeys(KEYS, 1))
    c = await world.strict()
    assert dict.fromkeys(KEYS, (0, 0)) == await c.get_all(KEYS)


async def test_the_number_may_change_when_all_are_dead(world: World) -> None:
    a = await world.strict()
    await a.inc_all(dict.fromkeys(KEYS, 1))
    world.kill(a)
    other = _other(world, 2)
    await trio.sleep(0.9 * world.threshold)
    with pytest.raises(StoreError, match="over 4 parts"):
        async with StrictInstanceAwareCounter.open(world.prefix, other):
            raise AssertionError
    await trio.sleep(0.2 * world.threshold)
    threshold = world.threshold
    async with StrictInstanceAwareCounter.open(
        world.prefix, other, dead_instance_threshold=threshold
    ) as b:
        await trio.sleep(2 * threshold)
        assert dict.fromkeys(KEYS, (0, 0)) == await b.get_all(KEYS)
        assert [b.instance_id] == [info.instance_id for info in await b.instances()]


async def test_one_who_was_thought_dead_waits_until_the_others_have_gone(world: World) -> None:
    """With what it has counted: it is the store that refuses, so nothing is lost."""
    a = await world.lax()
    a.inc_nowait(KEYS[0], 5)
    await a.flush()
    world.wire(a).cut()
    await trio.sleep(1.1 * world.threshold)
    async with StrictInstanceAwareCounter.open(world.prefix, _other(world, 2)) as b:
        world.heal(a)
        await world.intervals(2)
        a.inc_nowait(KEYS[0])
        with pytest.raises(StoreError, match="over 2 parts"):
            await a.flush()
        assert (0, 0) == await b.get(KEYS[0])
    await world.intervals(2)
    await a.flush()
    assert {a.instance_id: 6} == await a.slices(KEYS[0])


async def test_a_detached_start_is_refused_with_every_beat(world: World) -> None:
    async with StrictInstanceAwareCounter.open(world.prefix, _other(world, 2)):
        a = await world.lax(detached_start=True)
        a.inc_nowait(KEYS[1])
        await world.intervals(2)
        assert "starting" == a.statistics().state
    await world.intervals(2)
    assert "running" == a.statistics().state
    assert (1, 1) == await world.value(a, KEYS[1])


# ------------------------------------------------------------------------------------ life


async def test_no_part_starts_before_the_first_one_has_the_id(world: World) -> None:
    a = world.build("strict")
    world.wire(a).part(0).hold()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.start, a)
        await trio.sleep(1)
        assert "starting" == a.statistics().state
        assert [False] * 3 == [namespace(world, part) is not None for part in (1, 2, 3)]
        with pytest.raises(CounterClosedError, match="starting"):
            await a.inc(KEYS[0])
        world.wire(a).part(0).release()
    assert "running" == a.statistics().state


async def test_a_part_that_is_away_fails_the_start(world: World) -> None:
    a = world.build("strict")
    world.tolerate(a)
    world.wire(a).part(2).cut()
    with pytest.raises(StoreUnavailableError):
        await a.run()
    assert "closed" == a.statistics().state
    b = await world.strict()
    assert [b.instance_id] == [info.instance_id for info in await b.instances()]


@pytest.mark.parametrize("part", range(PARTS))
async def test_a_start_that_is_cancelled_ends_at_once(world: World, part: int) -> None:
    a = world.build("strict")
    world.wire(a).part(part).hold()
    with trio.move_on_after(1) as scope:
        async with trio.open_nursery() as nursery:
            await nursery.start(a.run)
    assert scope.cancelled_caught
    assert "closed" == a.statistics().state
    with pytest.raises(CounterClosedError):
        await a.inc(KEYS[0])
    await a.aclose()
    await trio.sleep(2 * world.threshold)
    b = await world.strict()
    await world.intervals(2)
    assert [b.instance_id] == [info.instance_id for info in await b.instances()]


@both_flavours
@pytest.mark.parametrize("fails", [False, True])
async def test_a_start_that_is_cancelled_ends_soon_though_a_part_cannot_leave(
    world: World, flavour: Flavour, fails: bool
) -> None:
    """One that has registered has little time: nobody has counted anything yet."""
    a = world.build(flavour)
    world.wire(a).part(1).hold()
    with trio.move_on_after(1) as scope:
        async with trio.open_nursery() as nursery:

            async def start() -> None:
                with pytest.raises(StoreError) if fails else nullcontext():
                    await nursery.start(a.run)

            nursery.start_soon(start)
            await trio.sleep(0.5)
            assert namespace(world, 0) is not None
            world.wire(a).part(0).hold()
            if fails:
                world.wire(a).part(1).refuse(StoreError("no"))
                world.wire(a).part(1).release()
    assert scope.cancelled_caught or fails
    assert trio.current_time() - scope.deadline < 0.6
    assert "closed" == a.statistics().state


async def test_the_grace_of_a_start_is_for_all_parts_together(world: World) -> None:
    a = world.build("strict", start_grace=10.0)
    for part in (0, 2):
        world.wire(a).part(part).cut()
    begun = trio.current_time()
    async with trio.open_nursery() as nursery:

        async def heal() -> None:
            await trio.sleep(7)
            world.wire(a).part(0).heal()

        nursery.start_soon(heal)
        with pytest.raises(StoreUnavailableError):
            await a.run()
    assert 10.0 == pytest.approx(trio.current_time() - begun)


async def test_a_second_run_in_the_same_turn_is_refused_and_disturbs_nobody(world: World) -> None:
    a = world.build("strict")
    refused: list[CounterClosedError] = []

    async def run() -> None:
        try:
            await a.run()
        except CounterClosedError as error:
            refused.append(error)

    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(run)
        await trio.testing.wait_all_tasks_blocked()
        assert ["a counter runs once, and this one is starting"] == list(map(str, refused))
        assert (1, 1) == await a.inc(KEYS[2])
        await a.aclose()
    assert 1 == len(refused)


@pytest.mark.parametrize("end", ["aclose", "kill"])
async def test_an_end_in_the_turn_of_the_start_ends_the_start(world: World, end: str) -> None:
    """In the other turn, in which the end comes first, the counter never runs."""
    begun: list[str] = []

    async def run(a: StrictInstanceAwareCounter) -> None:
        begun.append("run")
        if begun[0] == "run":
            await a.run()

    async def stop(a: StrictInstanceAwareCounter) -> None:
        begun.append("end")
        await (a.aclose() if end == "aclose" else a._actor.kill())

    for _ in range(20):
        a = world.build("strict")
        begun.clear()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run, a)
            nursery.start_soon(stop, a)
        assert "closed" == a.statistics().state


@pytest.mark.parametrize("part", [0, 2])
async def test_a_start_that_is_closed_ends(world: World, part: int) -> None:
    a = world.build("strict", start_grace=100.0)
    world.wire(a).part(part).cut()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(a.run)
        await trio.sleep(1)
        await a.aclose()
    assert "closed" == a.statistics().state


async def test_a_counter_that_never_ran_can_be_closed(world: World) -> None:
    a = world.build("lax")
    assert "new" == a.statistics().state
    with pytest.raises(CounterClosedError, match="not started"):
        a.inc_nowait(KEYS[0])
    await a.aclose()
    assert "closed" == a.statistics().state
    with pytest.raises(CounterClosedError):
        await a.run()


async def test_a_stop_flushes_every_part(world: World) -> None:
    a, b = await world.lax(on_exit="linger"), await world.strict()
    for key in KEYS:
        a.inc_nowait(key, 3)
    await a.aclose()
    assert dict.fromkeys(KEYS, (3, 0)) == await b.get_all(KEYS)
    assert "closed" == a.statistics().state


async def test_a_stop_leaves_every_part(world: World) -> None:
    a, b = await world.strict(), await world.strict()
    await a.inc_all(dict.fromkeys(KEYS, 3))
    await a.aclose()
    assert dict.fromkeys(KEYS, (0, 0)) == await b.get_all(KEYS)
    assert [b.instance_id] == [info.instance_id for info in await b.instances()]


async def test_a_stop_says_what_it_could_not_do(world: World) -> None:
    a, b = await world.lax(on_exit="linger"), await world.strict()
    world.tolerate(a)
    for part in (1, 2):
        world.wire(a).part(part).cut()
    await world.intervals(1)
    for key in KEYS:
        a.inc_nowait(key, 3)
    start = trio.current_time()
    with pytest.raises(StoreUnavailableError, match="stopped with 2 counts or operations"):
        await a.aclose()
    assert trio.current_time() - start <= world.backend.grace + 0.1
    assert [3, 0, 0, 3] == [v.cumulative for v in (await b.get_all(KEYS)).values()]
    assert 2 == a.statistics().pending_keys


async def test_a_counter_that_is_cancelled_says_what_it_could_not_do(world: World) -> None:
    a = world.build("lax", on_exit="linger")
    with pytest.raises(ExceptionGroup) as caught:
        async with trio.open_nursery() as nursery:
            await nursery.start(a.run)
            for part in (1, 2):
                world.wire(a).part(part).cut()
            await world.intervals(1)
            for key in KEYS:
                a.inc_nowait(key, 3)
            nursery.cancel_scope.cancel()
    assert ["stopped with 2 counts or operations"] == [
        str(error).split(" that")[0] for error in caught.value.exceptions
    ]


async def test_a_bug_in_one_part_ends_all(world: World) -> None:
    a = world.build("strict")
    with pytest.raises(ExceptionGroup) as caught:
        async with trio.open_nursery() as nursery:
            await nursery.start(a.run)
            await a.inc(KEYS[1])
            part = a._actor.parts[2]
            part._loop._agenda.make_up = lambda _: 1 / 0
            with pytest.raises(CounterClosedError, match="ZeroDivisionError"):
                await a.inc(KEYS[2])
    assert isinstance(caught.value.exceptions[0], ZeroDivisionError)
    assert "closed" == a.statistics().state


# ------------------------------------------------------------------------------- one owner


@both_flavours
async def test_a_successor_takes_all_parts_over(world: World, flavour: Flavour) -> None:
    a = await world.make(flavour, instance_id="job")
    world.tolerate(a)
    await a.inc_all(dict.fromkeys(KEYS, 3))
    await world.settle()
    b = await world.make(flavour, instance_id="job", inherit=True)
    assert dict.fromkeys(KEYS, (3, 3)) == await b.get_all(KEYS)
    await world.intervals(1.1)
    assert "superseded" == a.statistics().state
    for call in (lambda: a.inc(KEYS[0]), a.clear, lambda: a.hold(KEYS[1]).__aenter__()):
        with pytest.raises(InstanceConflictError):
            await call()
    await b.inc_all(dict.fromkeys(KEYS, 1))
    await world.settle(b)
    await world.intervals(3)
    assert [4] * PARTS == [v.cumulative for v in (await b.get_all(KEYS)).values()]


async def _fail_to_start(world: World, failed: Counter, *, cancelled: bool) -> None:
    """Run a counter whose start does not come to its end in one part."""
    wire = world.wire(failed).part(2)
    if cancelled:
        wire.hold()
        with trio.move_on_after(1) as scope:
            await failed.run()
        assert scope.cancelled_caught
    else:
        wire.cut()
        with pytest.raises(StoreUnavailableError):
            await failed.run()


@pytest.mark.parametrize("on_exit", ["leave", "linger"])
@pytest.mark.parametrize("cancelled", [False, True])
async def test_a_start_that_fails_leaves_what_it_has_inherited_to_the_next_one(
    world: World, cancelled: bool, on_exit: str
) -> None:
    """One part is away, and the others have taken the predecessor's slices over."""
    old, b = await world.strict(instance_id="job"), await world.strict()
    await old.inc_all(dict.fromkeys(KEYS, 3))
    world.kill(old)
    failed = world.build("strict", instance_id="job", inherit=True, on_exit=on_exit)
    await _fail_to_start(world, failed, cancelled=cancelled)
    assert dict.fromkeys(KEYS, (3, 0)) == await b.get_all(KEYS)
    heir = await world.strict(instance_id="job", inherit=True)
    assert dict.fromkeys(KEYS, (3, 3)) == await heir.get_all(KEYS)


async def test_a_start_that_is_stopped_leaves_what_it_has_inherited_nowhere(world: World) -> None:
    """Whichever part has come how far: this is no start that fails."""
    old, b = await world.strict(instance_id="job"), await world.strict()
    await old.inc_all(dict.fromkeys(KEYS, 3))
    world.kill(old)
    heir = world.build("strict", instance_id="job", inherit=True)
    wire = world.wire(heir).part(2)
    wire.hold()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(heir.run)
        await trio.sleep(1)
        nursery.start_soon(heir.aclose)
        await trio.sleep(0.5)
        wire.release()
    assert dict.fromkeys(KEYS, (0, 0)) == await b.get_all(KEYS)


@pytest.mark.parametrize("on_exit", ["leave", "linger"])
async def test_a_start_that_fails_leaves_nobody_who_has_inherited_nothing(
    world: World, on_exit: str
) -> None:
    """Else somebody would be listed who is not there."""
    b = await world.strict()
    failed = world.build("strict", instance_id="job", inherit=True, on_exit=on_exit)
    world.wire(failed).part(2).cut()
    with pytest.raises(StoreUnavailableError):
        await failed.run()
    assert [b.instance_id] == [each.instance_id for each in await b.instances() if each.alive]


@pytest.mark.parametrize("cancelled", [False, True])
@pytest.mark.parametrize("on_exit", ["leave", "linger"])
async def test_a_start_that_fails_leaves_its_id_to_one_that_refuses(
    world: World, on_exit: str, cancelled: bool
) -> None:
    """Though it would have inherited: the next one would have to wait for its threshold."""
    options: dict[str, Any] = {
        "instance_id": "job",
        "inherit": True,
        "on_conflict": "refuse",
        "on_exit": on_exit,
    }
    failed = world.build("strict", **options)
    await _fail_to_start(world, failed, cancelled=cancelled)
    heir = await world.strict(**options)
    assert (1, 1) == await heir.inc(KEYS[0])


async def test_one_that_is_cancelled_right_after_its_start_has_all_its_grace(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Half a second is for a start that is cancelled: nobody has counted anything then."""
    for _ in range(20):  # tasks run in any order
        wire = FaultyStore(MemoryStore(partitions=2))
        counter = LaxInstanceAwareCounter("parts", wire, detached_start=True)
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                await nursery.start(counter.run)
                wire.delay(1.0)
                counter.inc_nowait(KEYS[0])
                scope.cancel()
        assert 0 == counter.statistics().pending_keys


@both_flavours
@pytest.mark.parametrize("first", ["clear", "set_all", "keys"])
async def test_whoever_hears_of_it_changes_nothing_more(
    world: World, flavour: Flavour, first: str
) -> None:
    """From that moment on, in the part where it was heard and in all others."""
    a = await world.make(flavour, instance_id="job")
    world.tolerate(a)
    b = await world.make(flavour, instance_id="job")
    with pytest.raises(InstanceConflictError):
        await a.set(KEYS[0], 50)
    with trio.fail_after(1), pytest.raises(InstanceConflictError):
        await getattr(a, first)(*([dict.fromkeys(KEYS, 1)] if first == "set_all" else []))
    for _ in range(2):
        for call in (a.inc, a.get, a.delete):
            with pytest.raises(InstanceConflictError):
                await call(KEYS[0])
        for call in (a.clear, a.keys):
            with pytest.raises(InstanceConflictError):
                await call()
    with pytest.raises(InstanceConflictError):
        a.bind(KEYS[0]).inc_nowait() if isinstance(a, LaxInstanceAwareCounter) else await a.clear()
    assert dict.fromkeys(KEYS, (0, 0)) == await b.get_all(KEYS)


async def test_whoever_loses_one_part_leaves_the_others_to_the_new_owner(world: World) -> None:
    """As they are: whoever inherits may not have come so far yet."""
    a = await world.lax(instance_id="job")
    world.tolerate(a)
    for key in KEYS:
        a.inc_nowait(key, 3)
    await a.flush()
    a.inc_nowait(KEYS[0])
    store = world.backend.store()
    async with StrictInstanceAwareCounter.open(
        world.prefix, _Numbered(store, 3, PARTS), instance_id="job"
    ):
        await world.intervals(1.1)
        assert "superseded" == a.statistics().state
    with pytest.raises(InstanceConflictError):
        a.inc_nowait(KEYS[0])
    for part, key in enumerate(KEYS[:3]):
        assert 3 <= namespace(world, part).registry.sums[key] <= 4
    with pytest.raises(InstanceConflictError):
        await a.aclose()
        await a.inc(KEYS[0])


class _Numbered(Store):
    """One part of a store, for a counter that knows of no others, and says how many there are."""

    def __init__(self, store: Any, part: int, number: int) -> None:
        self._inner = store.part(part)
        self._number = number

    @asynccontextmanager
    async def link(self, prefix: str) -> AsyncIterator[Any]:
        async with self._inner.link(prefix) as link:
            yield _Saying(link, self._number)


class _Saying:
    def __init__(self, link: Any, number: int) -> None:
        self._link = link
        self._number = number

    def __getattr__(self, name: str) -> Any:
        return getattr(self._link, name)

    async def receive(self, request: Request) -> Any:
        if isinstance(request, Open):
            request = request._replace(partitions=self._number)
        return await self._link.receive(request)


class Waking:
    """What may wake the task of part 1 in one turn with the end of part 0.

    Each prepares it, and returns what then happens in that turn.
    """

    async def answered_and_a_beat_is_due(
        self, _: World, a: LaxInstanceAwareCounter, part: _PromptPart
    ) -> Callable[[], None]:
        part.gate = trio.Event()
        await _count(a, 1)
        _loop(a).beat()
        return part.gate.set

    async def answered_and_there_are_more_counts(
        self, _: World, a: LaxInstanceAwareCounter, part: _PromptPart
    ) -> Callable[[], None]:
        part.gate = trio.Event()
        await _count(a, 2000)
        return part.gate.set

    async def told_to_come_back(
        self, world: World, a: LaxInstanceAwareCounter, part: _PromptPart
    ) -> Callable[[], None]:
        await _count(a, 1)
        namespace(world, 1).__init__()
        return await self.answered_and_there_are_more_counts(world, a, part)

    async def told_that_this_part_is_lost_too(
        self, world: World, a: LaxInstanceAwareCounter, part: _PromptPart
    ) -> Callable[[], None]:
        await _take_over(world, 1)
        return await self.answered_and_there_are_more_counts(world, a, part)

    async def beating(
        self, _: World, a: LaxInstanceAwareCounter, __: _PromptPart
    ) -> Callable[[], None]:
        await _count(a, 1)
        return _loop(a).beat

    async def beating_after_an_operation(
        self, _: World, a: LaxInstanceAwareCounter, __: _PromptPart
    ) -> Callable[[], None]:
        await a.strict.inc(KEYS[1])
        return _loop(a).beat

    async def connected(
        self, _: World, a: LaxInstanceAwareCounter, part: _PromptPart
    ) -> Callable[[], None]:
        part.up, part.gate = False, trio.Event()
        _loop(a).beat()
        return part.gate.set

    async def about_to_try_again(
        self, _: World, a: LaxInstanceAwareCounter, part: _PromptPart
    ) -> Callable[[], None]:
        pause, part.away = trio.Event(), True
        _loop(a).availability.pause = pause.wait  # type: ignore[method-assign]
        await _count(a, 1)
        return pause.set


@pytest.mark.parametrize("what", [name for name in vars(Waking) if not name.startswith("_")])
async def test_a_part_that_wakes_as_another_one_is_lost_sends_nothing_more(
    world: World, what: str
) -> None:
    """No cancellation reaches its task in that turn."""
    store = _Prompt(world.backend.store())
    part = store.parts[1]
    with pytest.raises(InstanceConflictError, match="another counter with instance_id 'job'"):
        async with LaxInstanceAwareCounter.open(
            world.prefix, store, instance_id="job", dead_instance_threshold=world.threshold
        ) as a:
            happens = await getattr(Waking(), what)(world, a, part)
            await trio.testing.wait_all_tasks_blocked()
            sent, supersede = list(part.sent), a._actor.parts[1].supersede

            def in_the_same_turn() -> None:
                happens()
                supersede()

            a._actor.parts[1].supersede = in_the_same_turn  # type: ignore[method-assign]
            await _take_over(world, 0)
            _loop(a, 0).beat()
            await trio.sleep(1)
            raise AssertionError
    assert sent == part.sent
    assert "superseded" == a.statistics().state
    assert {InstanceConflictError} == set(map(type, a._actor._errors.values()))


def _loop(a: Any, part: int = 1) -> BatchLoop:
    loop = a._actor.parts[part]._loop
    assert isinstance(loop, BatchLoop)
    return loop


async def _count(a: LaxInstanceAwareCounter, keys: int) -> None:
    """Count on so many keys of part 1, and wait until they are sent, or some of them."""
    for key in islice(keys_in(1), keys):
        a.inc_nowait(key)
    _loop(a).flush()
    await trio.testing.wait_all_tasks_blocked()


async def _take_over(world: World, part: int) -> None:
    store = _Numbered(world.backend.store(), part, PARTS)
    async with StrictInstanceAwareCounter.open(
        world.prefix, store, instance_id="job", inherit=True, on_exit="linger"
    ):
        pass


class _Prompt(Store):
    """A store in memory to which a request has gone when `send` returns, as over a socket."""

    def __init__(self, inner: Any) -> None:
        self.parts = [_PromptPart(inner, number) for number in range(inner.partitions)]

    @property
    def partitions(self) -> int:
        return len(self.parts)

    def part(self, number: int) -> Store:
        return self.parts[number]

    def link(self, prefix: str) -> Any:
        return self.parts[0].link(prefix)


class _PromptPart(Store):
    def __init__(self, inner: Any, number: int) -> None:
        self._inner = inner
        self._number = number
        self.sent: list[Request] = []
        self.gate: trio.Event | None = None  # for answers and new connections
        self.up = True
        self.away = False  # it answers that it cannot serve now

    @asynccontextmanager
    async def link(self, prefix: str) -> AsyncIterator[Link]:
        async with self._inner.part(self._number).link(prefix):
            yield _PromptLink(self, partial(self._inner.execute, _name(prefix, self._number)))


class _PromptLink(Link):
    def __init__(self, part: _PromptPart, execute: Callable[[Request], Reply]) -> None:
        self._part = part
        self._execute = execute
        self._reply: Reply | None = None

    @property
    def connected(self) -> bool:
        return self._part.up

    async def connect(self) -> None:
        await self._pass()
        self._part.up = True

    async def send(self, request: Request) -> None:
        self._part.sent.append(request)
        self._reply = self._execute(request)

    async def receive(self, request: Request) -> Reply:
        await self._pass()
        if self._part.away:
            raise StoreAwayError("away")
        assert self._reply is not None
        return self._reply

    async def _pass(self) -> None:
        if self._part.gate is None:
            await trio.lowlevel.checkpoint()
        else:
            await self._part.gate.wait()


async def test_what_is_void_is_counted_over_all_parts(world: World) -> None:
    a = world.build("lax", instance_id="job")
    async with trio.open_nursery() as nursery:

        async def run() -> None:
            with pytest.raises(InstanceConflictError, match="2 counts that were not acknowledged"):
                await a.run()

        nursery.start_soon(run)
        await world.intervals(1)
        world.wire(a).cut()
        for key in KEYS[:2]:
            a.inc_nowait(key)
        await world.strict(instance_id="job")
        world.heal(a)


async def test_an_id_that_is_to_be_left_alone_is(world: World) -> None:
    a = await world.strict(instance_id="job")
    await a.inc_all(dict.fromkeys(KEYS, 3))
    b = world.build("strict", instance_id="job", on_conflict="refuse")
    with pytest.raises(InstanceConflictError, match="on_conflict is 'refuse'"):
        await b.run()
    await world.intervals(2)
    assert dict.fromkeys(KEYS, (3, 3)) == await a.get_all(KEYS)


async def test_one_of_two_that_start_at_the_same_moment_gets_the_id(world: World) -> None:
    ended: list[object] = []

    async def start() -> None:
        store = world.backend.store()
        try:
            async with StrictInstanceAwareCounter.open(
                world.prefix, store, instance_id="job", on_conflict="refuse"
            ) as counter:
                ended.append(await counter.inc(KEYS[3]))
                await trio.sleep(1)
        except InstanceConflictError:
            ended.append("refused")

    for _ in range(20):
        ended.clear()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(start)
            nursery.start_soon(start)
        assert sorted(ended, key=str) == [(1, 1), "refused"]


@pytest.mark.parametrize("seed", range(20))
async def test_those_who_take_an_id_from_each_other_leave_nothing_broken(
    world: World, seed: int
) -> None:
    """One of them has it, or none: then it is free for the next."""
    random = Random(seed)
    store = world.backend.store()
    ended: list[str] = []

    async def live(number: int) -> None:
        wire = FaultyStore(store)
        for part in range(PARTS):
            wire.part(part).delay(random.random() / 10)
        await trio.sleep(random.random() / 5)
        try:
            async with StrictInstanceAwareCounter.open(
                world.prefix, wire, instance_id="job", dead_instance_threshold=world.threshold
            ) as counter:
                await counter.inc_all(dict.fromkeys(KEYS, 1))
                await trio.sleep(2 * world.threshold)
                ended.append("lived")
        except InstanceConflictError:
            ended.append("superseded")

    async with trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(live, number)
    assert len(ended) == 3
    assert ended.count("lived") <= 1
    next_one = await world.strict(instance_id="job")
    await next_one.inc_all(dict.fromkeys(KEYS, 1))
    assert dict.fromkeys(KEYS, (1, 1)) == await next_one.get_all(KEYS)


def test_a_copy_in_a_process_that_was_forked_is_closed() -> None:
    """As with one part: see `tests/behaviour/test_identity.py`."""

    async def run() -> None:
        store = MemoryStore(partitions=PARTS)
        async with StrictInstanceAwareCounter.open("p", store) as counter:
            for part in counter._actor.parts:
                part.abandon()  # what the hook does
            assert "closed" == counter.statistics().state
            with pytest.raises(CounterClosedError, match="forked"):
                await counter.inc(KEYS[1])
            with pytest.raises(CounterClosedError, match="forked"):
                await counter.clear()
            await counter.aclose()

    run_on_mock_clock(run)


# ------------------------------------------------------------------- holds, limits, watching


async def test_holds_are_in_the_part_of_their_key(world: World) -> None:
    a, b = await world.strict(), await world.lax()
    for key in KEYS:
        async with a.hold(key, 2, limit=2), b.hold(key, 3):
            with pytest.raises(LimitReachedError):
                async with b.hold(key, limit=4):
                    raise AssertionError
            await b.flush()
            assert 5 == (await a.get(key)).cumulative
    await b.flush()
    assert dict.fromkeys(KEYS, (0, 0)) == await a.get_all(KEYS)


async def test_a_limit_is_kept_while_another_part_is_away(world: World) -> None:
    a, b = await world.strict(), await world.strict()
    world.wire(a).part(1).cut()
    await world.intervals(1.5)
    one, two = FleetLimiter(a, KEYS[3], 1), FleetLimiter(b, KEYS[3], 1)
    async with one:
        with trio.move_on_after(1) as scope:
            await two.acquire()
        assert scope.cancelled_caught
    async with two:
        pass
    world.wire(a).part(1).heal()


async def test_every_part_is_watched(world: World) -> None:
    a, b = await world.strict(), await world.strict()
    for key in KEYS:
        async with b.watch(key) as values:
            assert (0, 0) == await values.receive()
            await a.inc(key, 2)
            assert (2, 0) == await values.receive()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(a.dec, key, 2)
            assert (0, 0) == await b.wait_until(key, Eq(0))


# ------------------------------------------------------------------------------- a look at it


async def test_an_onlooker_follows_those_who_live(world: World) -> None:
    """Whatever number its store has: it takes no part."""
    a = await world.strict()
    await a.inc_all({key: n for n, key in enumerate(KEYS, 1)})
    for number in (1, 2, PARTS):
        async with Fleet.open(world.prefix, _other(world, number)) as fleet:
            assert PARTS == fleet.partitions
            assert sorted(KEYS) == await fleet.keys()
            assert {key: (n, 0) for n, key in enumerate(KEYS, 1)} == await fleet.get_all(KEYS)
            assert {} == await fleet.get_all([])
            assert {a.instance_id: 3} == await fleet.slices(KEYS[2])
            assert [a.instance_id] == [info.instance_id for info in await fleet.instances()]
            async with fleet.watch(KEYS[3]) as values:
                assert (4, 0) == await values.receive()
    assert [world.prefix] == await Fleet.prefixes(world.backend.store())


async def test_an_onlooker_is_told_that_the_number_has_changed(world: World) -> None:
    a = await world.strict()
    async with Fleet.open(world.prefix, world.backend.store()) as fleet:
        await a.aclose()
        assert (0, 0) == await fleet.get(KEYS[0])
        async with StrictInstanceAwareCounter.open(world.prefix, _other(world, 2)):
            with pytest.raises(StoreError, match="was spread over 4 parts and is over 2 now"):
                await fleet.get(KEYS[0])


@pytest.mark.parametrize("key", [KEYS[0], KEYS[3]])
@pytest.mark.parametrize(("before", "after"), [(1, 4), (4, 1)])
async def test_an_onlooker_never_reads_by_a_number_that_is_no_longer_in_force(
    world: World, before: int, after: int, key: str
) -> None:
    async with Fleet.open(world.prefix, _other(world, before)) as fleet:
        assert (0, 0) == await fleet.get(key)  # nobody is there
        async with StrictInstanceAwareCounter.open(world.prefix, _other(world, after)) as a:
            await a.inc(key)
            with _told_of(before, after):
                await fleet.get(key)
            with _told_of(before, after):
                await fleet.slices(key)


async def test_an_onlooker_is_told_though_the_dead_have_left_the_old_number(world: World) -> None:
    """Nobody is left to reap them in the parts that are none any more."""
    dead = await world.strict()
    await dead.inc(KEYS[3])
    async with (
        Fleet.open(world.prefix, world.backend.store()) as fleet,
        fleet.watch(KEYS[3]) as values,
    ):
        assert (1, 0) == await values.receive()
        await world.crash(dead)
        await world.intervals(4)
        async with StrictInstanceAwareCounter.open(world.prefix, _other(world, 1)) as a:
            await a.inc(KEYS[3])
            with _told_of(4, 1), trio.fail_after(10):
                while True:
                    await fleet.get(KEYS[3])
                    await trio.sleep(1)
            with _told_of(4, 1), trio.fail_after(10):
                while True:
                    await values.receive()


@pytest.mark.parametrize("key", [KEYS[0], KEYS[3]])
@pytest.mark.parametrize(("before", "after"), [(1, 4), (4, 1)])
async def test_a_watch_ends_when_the_number_changes(
    world: World, before: int, after: int, key: str
) -> None:
    async with (
        Fleet.open(world.prefix, _other(world, before)) as fleet,
        fleet.watch(key) as values,
        fleet.watch(key) as others,
    ):
        assert (0, 0) == await values.receive() == await others.receive()
        async with StrictInstanceAwareCounter.open(world.prefix, _other(world, after)) as a:
            await a.inc(key)
            with _told_of(before, after) as first:
                await values.receive()
            with _told_of(before, after) as second:
                await others.receive()
            assert first.value is not second.value
            async with fleet.watch(key) as late:
                with _told_of(before, after):
                    await late.receive()


@pytest.mark.parametrize("key", [KEYS[0], KEYS[3]])
@pytest.mark.parametrize(("before", "after"), [(1, 4), (4, 1)])
async def test_a_wait_ends_when_the_number_changes(
    world: World, before: int, after: int, key: str
) -> None:
    ended = trio.Event()

    async def wait() -> None:
        with _told_of(before, after):
            await fleet.wait_until(key, Ge(1))
        ended.set()

    async with (
        Fleet.open(world.prefix, _other(world, before)) as fleet,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        async with StrictInstanceAwareCounter.open(world.prefix, _other(world, after)) as a:
            await a.inc(key)
            await ended.wait()
            await wait()


@contextmanager
def _told_of(before: int, after: int) -> Iterator[pytest.ExceptionInfo[StoreError]]:
    text = f"was spread over {before} parts and is over {after} now"
    with trio.fail_after(60), pytest.raises(StoreError, match=text) as caught:
        yield caught


async def test_whoever_is_forgotten_is_so_in_every_part(world: World) -> None:
    a, b = await world.strict(), await world.strict()
    for forget in (b.forget, None):
        world.wire(a).heal()
        await world.intervals(2)
        await a.inc_all(dict.fromkeys(KEYS, 1))
        world.wire(a).cut()
        if forget is not None:
            await forget(a.instance_id)
        else:
            async with Fleet.open(world.prefix, world.backend.store()) as fleet:
                await fleet.forget(a.instance_id)
        assert dict.fromkeys(KEYS, (0, 0)) == await b.get_all(KEYS)
    world.wire(a).heal()


async def test_a_part_that_has_lost_everything_hides_no_other_one(world: World) -> None:
    """Its server has restarted without data, and nobody was heard there since."""
    a = await world.strict()
    await a.inc(KEYS[3])
    namespace(world, 0).__init__()
    async with Fleet.open(world.prefix, _other(world, 1)) as fleet:
        assert PARTS == fleet.partitions
        assert (1, 0) == await fleet.get(KEYS[3])
        assert [a.instance_id] == [info.instance_id for info in await fleet.instances()]
    found = await audit(world.prefix, _other(world, 1))
    assert any(finding.text.endswith("1 alive") for finding in found)


async def _last_one_dead(world: World) -> str:
    """Return the id of the last instance, which has crashed and left a slice in each part."""
    last = await world.strict()
    await last.inc_all(dict.fromkeys(KEYS, 1))
    world.kill(last)
    await trio.sleep(1.1 * world.threshold)
    return last.instance_id


async def _forget_in(world: World, instance: str, *parts: int) -> None:
    for part in parts:
        async with world.backend.store().part(part).link(world.prefix) as link:
            await link.connect()
            await link.exchange(Forget("", instance))


async def test_whoever_is_forgotten_in_the_first_part_only_is_found(world: World) -> None:
    dead = await _last_one_dead(world)
    await _forget_in(world, dead, 0)
    async with Fleet.open(world.prefix, _other(world, 1)) as fleet:
        assert PARTS == fleet.partitions
        assert [dead] == [info.instance_id for info in await fleet.instances()]
        await fleet.forget(dead)
        assert [] == await fleet.instances()


@pytest.mark.parametrize("part", range(PARTS))
async def test_a_forget_that_one_part_refuses_can_be_called_again(world: World, part: int) -> None:
    """By one who has to find out anew over how many parts the dead have spread the prefix."""
    dead = await _last_one_dead(world)
    wire = FaultyStore(world.backend.store())
    wire.part(part).answer(
        StoreError("no"), executed=False, when=lambda request: isinstance(request, Forget)
    )
    async with Fleet.open(world.prefix, wire) as fleet:
        with pytest.raises(StoreError, match="no"):
            await fleet.forget(dead)
    async with Fleet.open(world.prefix, _other(world, 1)) as fleet:
        assert [dead] == [info.instance_id for info in await fleet.instances()]
        await fleet.forget(dead)
    assert [] == await Fleet.prefixes(world.backend.store())


@pytest.mark.parametrize("forgotten", [1, 2])
async def test_an_onlooker_need_not_agree_with_the_dead(world: World, forgotten: int) -> None:
    """What they have left in some parts says another number than its store."""
    dead = await _last_one_dead(world)
    await _forget_in(world, dead, *range(forgotten))
    async with Fleet.open(world.prefix, _other(world, 8)) as fleet:
        assert dict.fromkeys(KEYS, (0, 0)) == await fleet.get_all(KEYS)
        assert [dead] == [info.instance_id for info in await fleet.instances()]
        await fleet.forget(dead)
        assert [] == await fleet.instances()


async def test_an_audit_looks_at_every_part(world: World) -> None:
    a = await world.strict()
    await a.inc_all(dict.fromkeys(KEYS, 3))
    found = await audit(world.prefix, _other(world, 1))
    assert {"ok"} == {finding.level for finding in found}
    assert 1 == sum(finding.text == "1 alive" for finding in found)
    namespace(world, 2).registry.sums[KEYS[2]] = 5
    (wrong,) = [f for f in await audit(world.prefix, _other(world, 1)) if f.level == "wrong"]
    assert wrong.text.startswith(f"part 2: the cumulative of {KEYS[2]!r} is 5")


async def test_statistics_are_of_all_parts_together(world: World) -> None:
    a = await world.lax()
    assert CounterValue(1, 1) == await a.inc(KEYS[0])
    await a.flush()
    await a.set_all(dict.fromkeys(KEYS, 1))
    statistics = a.statistics()
    assert PARTS + 1 == statistics.operations_done  # one for the first read, one in each part
    assert statistics.connected
    assert 0 == statistics.reconnects
    assert None is statistics.in_flight_age
    world.wire(a).part(1).hold()
    world.wire(a).part(3).cut()
    await world.intervals(2)
    for key in KEYS:
        a.inc_nowait(key)
    await trio.sleep(1)
    statistics = a.statistics()
    assert 2 == statistics.pending_keys
    assert not statistics.connected
    assert statistics.last_heartbeat_age is not None
    assert statistics.last_heartbeat_age > world.interval
    assert statistics.in_flight_age is not None
    assert statistics.in_flight_age > 1
    world.wire(a).part(1).release()
    world.wire(a).part(3).heal()
    await a.flush()
    assert 1 == a.statistics().reconnects


async def test_bound_handles_count_in_their_part(world: World) -> None:
    a, b = await world.lax(), await world.strict()
    handles = [a.bind(key) for key in KEYS]
    for handle in handles:
        for _ in range(3):
            handle.inc_nowait()
        assert (3, 3) == await handle.get()
        assert handle.age() >= 0
    await a.flush()
    assert dict.fromkeys(KEYS, (3, 0)) == await b.get_all(KEYS)
    assert sorted(KEYS) == await a.keys()


@pytest.mark.parametrize("key", ["", 5, b"k", None, [], "\ud800", "x" * 256])
async def test_bad_keys_are_refused(world: World, key: Any) -> None:
    for counter in (await world.strict(), await world.lax()):
        for name in ("inc", "get", "slices", "delete"):
            with pytest.raises(ValueError, match="a key"):
                await getattr(counter, name)(key)
    with pytest.raises(ValueError, match="a key"):
        counter.inc_nowait(key)
