"""One instance with two faces: it counts in memory, and by `strict` it is exact.

What `docs/semantics.md` says of them, sentence by sentence.
"""

# ruff: noqa: SIM300 - expected == actual, all through

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing

from distkit_actors import (
    BoundCounter,
    CounterClosedError,
    CounterOverflowError,
    CounterValue,
    FleetLimiter,
    Gt,
    InstanceAwareCounter,
    InstanceConflictError,
    LaxInstanceAwareCounter,
    LimitReachedError,
    MemoryStore,
    OutcomeUnknownError,
    StoreError,
    StrictInstanceAwareCounter,
)
from distkit_actors._protocol._messages import Apply, Kind
from distkit_actors.testing import FaultyStore, kill, revive
from tests.behaviour.world import MAX, MIN, World, each, gather, on_both, on_memory, outcome

LONG = 60.0  # seconds, of a flush that nobody is to wait for


def batches(world: World, counter: LaxInstanceAwareCounter) -> list[list[tuple[Kind, str, int]]]:
    """Return the entries of each batch of a counter that has some."""
    return [
        [(entry.kind, entry.key, entry.value) for entry in request.entries]
        for request in world.requests(counter)
        if isinstance(request, Apply) and request.entries
    ]


# ----------------------------------------------------------------------------- one instance


async def test_both_faces_are_one_instance(world: World) -> None:
    """They have one id, one place in the fleet, one slice of each key, one sign of life."""
    a = await world.lax(flush_interval=LONG)
    b = await world.strict()
    assert a.strict is a.strict
    assert isinstance(a.strict, StrictInstanceAwareCounter)
    assert a.instance_id == a.strict.instance_id
    assert a.prefix == a.strict.prefix
    assert 2 == len(await b.instances())
    a.inc_nowait("k", 2)
    await a.strict.inc("k", 3)
    assert {a.instance_id: 5} == await b.slices("k")
    assert {"k": 5} == a.own_slices() == a.strict.own_slices()
    assert a.statistics().batches_done == a.strict.statistics().batches_done
    assert f"of instance {a.instance_id!r}, running" in repr(a.strict)
    handle = a.strict.bind("k")
    assert type(handle) is BoundCounter
    assert (6, 6) == await handle.inc()


async def test_a_strict_counter_is_its_own_strict_face(world: World) -> None:
    """So code that takes either kind asks the strict face of what it gets."""
    counters: list[InstanceAwareCounter] = [await world.lax(), await world.strict()]
    for counter in counters:
        await counter.strict.inc("k")
    assert (2, 1) == await counters[1].get("k")
    assert counters[1].strict is counters[1]


async def test_a_face_lives_as_long_as_the_other(world: World) -> None:
    """The face may be had before, works while the instance runs, and ends with it."""
    a = world.build("lax")
    strict = a.strict
    with pytest.raises(CounterClosedError, match="not started"):
        await strict.inc("k")
    await world.start(a)
    b = await world.strict()
    assert (1, 1) == await strict.inc("k")
    a.inc_nowait("k", 4)
    await strict.aclose()
    assert "closed" == a.statistics().state
    with pytest.raises(CounterClosedError):
        a.inc_nowait("k")
    with pytest.raises(CounterClosedError):
        await strict.get("k")
    assert (0, 0) == await b.get("k"), "its slices have left with it"
    await a.aclose()


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("first", ["lax", "strict"])
async def test_one_run_is_that_of_both(
    parts: int, first: str, autojump_clock: trio.testing.MockClock
) -> None:
    """Either face may be run; a second run, of whichever, is refused and disturbs nobody."""
    a = LaxInstanceAwareCounter("app", MemoryStore(partitions=parts))
    faces: list[InstanceAwareCounter] = [a, a.strict]
    face = faces[first == "strict"]
    async with trio.open_nursery() as nursery:
        assert face is await nursery.start(face.run)
        for each_face in faces:
            with pytest.raises(CounterClosedError, match=r"running: .*`strict`.*one instance"):
                await each_face.run()
        async with face:
            assert (1, 1) == await a.strict.inc("k")
        for each_face in faces:
            with pytest.raises(CounterClosedError, match=r"closed: .*`strict`.*one instance"):
                await each_face.run()


@on_memory
async def test_a_takeover_ends_both_faces(world: World) -> None:
    a = await world.lax(instance_id="me")
    world.tolerate(a)
    await a.strict.inc("k")
    await world.strict(instance_id="me")
    with pytest.raises(InstanceConflictError):
        await a.strict.inc("k")
    with pytest.raises(InstanceConflictError):
        a.inc_nowait("k")


async def test_what_is_killed_and_revived_by_one_face_has_both(
    autojump_clock: trio.testing.MockClock,
) -> None:
    a = LaxInstanceAwareCounter("app", MemoryStore(), instance_id="me", flush_interval=LONG)
    async with trio.open_nursery() as nursery:
        await nursery.start(a.run)
        await a.strict.inc("k", 5)
        await kill(a.strict)
        async with revive(a.strict, inherit=True) as strict:
            assert isinstance(strict, StrictInstanceAwareCounter)
            assert (6, 6) == await strict.inc("k")


# ------------------------------------------------------------------------- order of the faces


def _entering(counter: StrictInstanceAwareCounter, limit: int | None) -> Callable[[], Any]:
    async def enter() -> CounterValue:
        async with counter.hold("k", 7, limit) as value:
            return value

    return enter


OPERATIONS: list[tuple[str, Callable[[StrictInstanceAwareCounter], Callable[[], Any]], object]] = [
    ("get", lambda c: each(c.get, "k"), (115, 15)),
    ("inc", lambda c: each(c.inc, "k", 7), (122, 22)),
    ("dec", lambda c: each(c.dec, "k", 7), (108, 8)),
    ("set", lambda c: each(c.set, "k", 7), (7, 7)),
    ("set_on_instance", lambda c: each(c.set_on_instance, "k", 7), (107, 7)),
    ("delete", lambda c: each(c.delete, "k"), (115, 15)),
    ("delete_on_instance", lambda c: each(c.delete_on_instance, "k"), (100, 15)),
    ("inc_if", lambda c: each(c.inc_if, "k", Gt(114), 7), ((115, 15), (122, 22), True)),
    ("inc_all", lambda c: each(c.inc_all, {"k": 7}), {"k": (122, 22)}),
    ("get_all", lambda c: each(c.get_all, ["k"]), {"k": (115, 15)}),
    ("set_all", lambda c: each(c.set_all, {"k": 7}), {"k": (7, 7)}),
    ("put_all", lambda c: each(c.set_all_on_instance, {"k": 7}), {"k": (107, 7)}),
    ("hold", lambda c: _entering(c, None), (122, 22)),
    ("hold_below", lambda c: _entering(c, 122), (122, 22)),
    ("keys", lambda c: c.keys, ["k", "k2"]),
]


@on_both
@pytest.mark.parametrize(("name", "call", "result"), OPERATIONS, ids=[o[0] for o in OPERATIONS])
async def test_the_strict_face_comes_behind_what_was_counted_before(
    world: World, name: str, call: Callable[[Any], Callable[[], Any]], result: object
) -> None:
    """Whatever is asked sees the own counts made before, which have not been sent; others do not.

    When it returns, the local view has what it did.
    """
    a = await world.lax(flush_interval=LONG, allowed_lag=LONG)
    b = await world.strict()
    await b.inc("k", 100)
    await a.strict.inc("k", 10)
    a.inc_nowait("k", 5)
    a.inc_nowait("k2", 1)
    assert result == await call(a.strict)()
    await a.flush()
    assert a.get_nowait("k") == await a.strict.get("k")
    assert a.get_nowait("k").cumulative == (await b.get("k")).cumulative


async def test_slices_of_the_strict_face_are_those_of_own_reads(world: World) -> None:
    a = await world.lax(flush_interval=LONG)
    b = await world.strict()
    await b.inc("k", 2)
    a.inc_nowait("k", 3)
    assert {a.instance_id: 3, b.instance_id: 2} == await a.strict.slices("k")


@pytest.mark.parametrize("put", [False, True])
async def test_what_was_put_in_memory_comes_before_a_strict_inc(world: World, put: bool) -> None:
    """A slice that was replaced in memory is replaced in the store before anything is added."""
    a = await world.lax(flush_interval=LONG)
    await a.strict.inc("k", 10)
    await a.set_on_instance("k", 3)
    a.inc_nowait("k")
    if put:
        assert (7, 7) == await a.strict.set_on_instance("k", 7)
    else:
        assert (6, 6) == await a.strict.inc("k", 2)


async def test_the_view_has_what_the_strict_face_did_at_once(world: World) -> None:
    """Also of a key that nobody has counted on in memory, and while the store is away (I8)."""
    a = await world.lax()
    b = await world.strict()
    await b.inc("k", 100)
    assert (105, 5) == await a.strict.inc("k", 5)
    assert (105, 5) == a.get_nowait("k")
    await a.strict.set("moved", 3)
    await a.strict.inc_all({"several": 4})
    world.wire(a).cut()
    assert (106, 6) == await a.inc("k")
    assert (4, 4) == await a.inc("moved")
    assert (5, 5) == await a.inc("several")
    world.heal(a)
    await a.flush()
    assert (106, 100) == await b.get("k")


async def test_a_hold_of_the_strict_face_is_taken_back_in_the_view_at_once(world: World) -> None:
    """Its end goes with a flush, as that of any hold of a lax counter."""
    a = await world.lax(flush_interval=LONG)
    b = await world.strict()
    a.inc_nowait("k", 3)
    async with a.strict.hold("k", 5) as value:
        assert (8, 8) == value == a.get_nowait("k")
        assert (8, 0) == await b.get("k")
        with pytest.raises(LimitReachedError):
            async with a.strict.hold("k", limit=8):
                raise AssertionError("one more than the limit")
    assert (3, 3) == a.get_nowait("k")
    assert (3, 3) == await a.strict.get("k"), "the end went ahead of the question"
    assert (3, 0) == await b.get("k")


@on_memory
async def test_a_hold_of_the_strict_face_is_void_once_the_key_has_moved(world: World) -> None:
    a = await world.lax()
    b = await world.strict()
    async with a.strict.hold("k", 5):
        await b.set("k", 100)
    assert (101, 1) == await a.strict.inc("k")
    await a.flush()
    assert (101, 100) == await b.get("k")


# --------------------------------------------------------------------------- what it costs


@on_memory
async def test_an_operation_waits_for_one_batch_more_where_something_is_pending(
    world: World,
) -> None:
    """One that adds waits for the counts before it; one that does not travels with them."""
    a = await world.lax(flush_interval=LONG)
    a.inc_nowait("other")
    await a.strict.inc("k", 2)
    assert [[(Kind.ADD, "k", 2)]] == batches(world, a), "what is pending elsewhere can wait"
    a.inc_nowait("k", 3)
    await a.strict.inc("k", 4)
    await a.strict.get("k")
    counts, adds, reads = batches(world, a)[1:]
    assert [(Kind.ADD, "k", 3)] == counts
    assert [(Kind.ADD, "k", 4)] == adds
    assert [(Kind.ADD, "k", 0)] == reads
    a.inc_nowait("k", 5)
    await a.strict.get("k")
    assert [(Kind.ADD, "k", 5), (Kind.ADD, "k", 0)] == batches(world, a)[-1]
    a.inc_nowait("k")
    a.dec_nowait("k")
    done = a.statistics().batches_done
    await a.strict.inc("k")
    assert done + 1 == a.statistics().batches_done, "there was nothing to wait for"


@on_memory
async def test_a_crowd_waits_for_the_counts_before_it_together(world: World) -> None:
    """All that come behind the same counts go as one entry, and each gets its own value."""
    a = await world.lax(flush_interval=LONG)
    wire = world.wire(a)
    values: list[CounterValue] = []

    async def ask() -> None:
        values.append(await a.strict.inc("k"))

    wire.hold()
    a.inc_nowait("k", 1000)
    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        wire.release()
    assert [(1000 + n, 1000 + n) for n in range(1, 51)] == sorted(values)
    assert 3 >= len(batches(world, a)), "they went one by one"


@on_memory
async def test_i14_no_stream_of_counts_holds_an_operation_up(world: World) -> None:
    """However much is counted meanwhile, an operation goes with the batch after the next."""
    a = await world.lax(flush_interval=0.001)
    wire = world.wire(a)
    a.inc_nowait("k")
    wire.delay(0.1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_count_on, a, "k")
        await trio.sleep(1.0)
        for _ in range(10):
            with trio.fail_after(0.35):  # the batch on its way, the one with the counts, its own
                await a.strict.inc("k", 1000)
        nursery.cancel_scope.cancel()
    wire.delay(0.0)
    await a.flush()
    assert a.get_nowait("k") == await a.strict.get("k")


async def _count_on(counter: LaxInstanceAwareCounter, key: str) -> None:
    while True:
        counter.inc_nowait(key)
        await trio.sleep(0.002)


@on_memory
async def test_i14_an_operation_that_waits_behind_others_does_not_wait_for_more_counts(
    world: World,
) -> None:
    """Where there are more keys than one batch takes, it is not its turn at once."""
    a = await world.lax(flush_interval=LONG)
    wire = world.wire(a)
    wire.delay(0.1)
    a.inc_nowait("hot")
    async with trio.open_nursery() as others:
        others.start_soon(a.strict.inc, "first")
        await trio.testing.wait_all_tasks_blocked()  # it is on its way, and all others wait
        async with trio.open_nursery() as nursery:
            nursery.start_soon(a.strict.inc, "hot", 1000)
            await trio.testing.wait_all_tasks_blocked()
            for number in range(1200):
                others.start_soon(a.strict.inc, f"cold-{number}")
            others.start_soon(_count_on, a, "hot")
        others.cancel_scope.cancel()
    hot = [entry for batch in batches(world, a) for entry in batch if entry[1] == "hot"]
    ahead = hot.index((Kind.ADD, "hot", 1000))
    assert 1 == ahead, "more counts have gone before it than those that were there"


@on_memory
async def test_each_operation_sees_what_was_counted_before_it(world: World) -> None:
    """Those that come while others wait for earlier counts are not let go with them too soon."""
    a = await world.lax(flush_interval=LONG)
    wire = world.wire(a)
    results: dict[int, CounterValue] = {}

    async def count_and_ask(number: int) -> None:
        a.inc_nowait("k", 10**number)
        results[number] = await a.strict.inc("k")

    async with trio.open_nursery() as nursery:
        wire.hold()
        for number in range(2, 7):
            nursery.start_soon(count_and_ask, number)
            await trio.testing.wait_all_tasks_blocked()
            if number % 2:
                wire.release()
                wire.hold()
                await trio.testing.wait_all_tasks_blocked()
        wire.release()
    for number, value in results.items():
        counted = sum(10**n for n in range(2, number + 1))
        assert value.instance_count > counted, f"{number} was told {value}"
    assert (1_111_105, 1_111_105) == await a.strict.get("k") == a.get_nowait("k")


@on_both
async def test_a_crowd_on_both_faces_counts_exactly(world: World) -> None:
    """Many tasks on both faces of two instances: nothing is lost, nothing is doubled."""
    a, b = await world.lax(), await world.lax()

    async def work(counter: LaxInstanceAwareCounter) -> None:
        for _ in range(5):
            counter.inc_nowait("k")
            own = (await counter.get("k")).instance_count
            value = await counter.strict.inc("k", 2)
            assert value.instance_count >= own + 2
            assert counter.get_nowait("k").instance_count >= value.instance_count

    await gather(*(each(work, counter) for counter in (a, b) for _ in range(10)))
    await a.flush()
    await b.flush()
    assert (300, 150) == await a.strict.get("k")
    assert (300, 150) == await b.strict.get("k")


# ------------------------------------------------------------------- trouble and cancellation


async def test_while_the_store_is_away_one_face_waits_and_the_other_counts(world: World) -> None:
    """Afterwards all of it is there once."""
    a = await world.lax()
    b = await world.strict()
    a.inc_nowait("k")
    await a.strict.inc("k", 10)
    await world.cut(a)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(a.strict.inc, "k", 100)
        await trio.sleep(world.interval / 4)
        a.inc_nowait("k", 1000)
        assert 1011 == (await a.get("k")).instance_count
        with trio.move_on_after(world.interval / 4) as scope:
            await a.strict.get("k")
        assert scope.cancelled_caught
        world.heal(a)
    await a.flush()
    assert (1111, 1111) == await a.strict.get("k")
    assert (1111, 0) == await b.get("k")


@on_memory
async def test_a_detached_start_counts_at_once_and_is_exact_later(world: World) -> None:
    a = world.build("lax", detached_start=True)
    world.wire(a).cut()
    await world.start(a)
    a.inc_nowait("k", 3)
    with trio.move_on_after(10) as scope:
        await a.strict.inc("k", 100)
    assert scope.cancelled_caught
    world.heal(a)
    assert (4, 4) == await a.strict.inc("k")


@on_memory
@pytest.mark.parametrize("lost", ["request", "reply"])
@pytest.mark.parametrize("which", [1, 2])
async def test_i6_what_gets_lost_on_the_way_counts_once(
    world: World, lost: str, which: int
) -> None:
    """Whether the counts before it get lost or the operation itself, and whichever way."""
    a = await world.lax(flush_interval=LONG)
    b = await world.strict()
    await a.strict.inc("k", 1)
    a.inc_nowait("k", 10)
    wire = world.wire(a)
    if which == 2:
        wire.delay(0.01)
    async with trio.open_nursery() as nursery:
        values: list[CounterValue] = []

        @nursery.start_soon
        async def ask() -> None:
            values.append(await a.strict.inc("k", 100))

        if which == 2:
            await trio.testing.wait_all_tasks_blocked()
        (wire.drop_request if lost == "request" else wire.drop_reply)(1)
    assert [(111, 111)] == values
    assert (111, 111) == a.get_nowait("k")
    assert (111, 0) == await b.get("k")


@on_memory
async def test_i4_counts_that_come_back_go_ahead_once_more(world: World) -> None:
    """An instance that was reaped returns before its batch: what waits for the counts in it
    still comes behind them.
    """
    a = await world.lax(flush_interval=LONG)
    b = await world.strict()
    await a.strict.inc("k", 1)
    await world.cut(a)
    await world.reaped(a, by=b)
    a.inc_nowait("k", 10)
    async with trio.open_nursery() as nursery:
        values: list[CounterValue] = []

        @nursery.start_soon
        async def ask() -> None:
            values.append(await a.strict.inc("k", 100))

        await trio.testing.wait_all_tasks_blocked()
        world.heal(a)
    assert [(111, 111)] == values
    assert (111, 0) == await b.get("k")


@on_memory
async def test_i7_both_faces_counts_are_back_after_a_loss(world: World) -> None:
    """The store loses everything while an operation of each face is in doubt."""
    a = await world.lax(flush_interval=LONG)
    b = await world.strict()
    await a.strict.inc("k", 1)
    a.inc_nowait("k", 10)

    def counts(request: object) -> bool:
        return isinstance(request, Apply) and any(entry.value == 10 for entry in request.entries)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(a.strict.inc, "k", 100)
        async with world.reply_lost(a, counts):
            a.inc_nowait("k", 1000)
            await world.backend.wipe(world.prefix)
    await a.flush()
    assert (1111, 1111) == a.get_nowait("k") == await a.strict.get("k")
    assert (1111, 0) == await b.get("k")


@on_both
async def test_a_crash_takes_what_was_not_sent_and_nothing_else_early(world: World) -> None:
    """What the strict face was told is in the store with all counts before it."""
    a = await world.lax(flush_interval=LONG)
    b = await world.strict()
    await world.mark(a)
    a.inc_nowait("k", 10)
    await a.strict.inc("k", 1)
    a.inc_nowait("k", 100)
    world.kill(a)
    assert (11, 0) == await b.get("k")
    await world.reaped(a, by=b)
    assert (0, 0) == await b.get("k")


@on_memory
async def test_an_operation_that_is_given_up_behind_its_counts_never_happens(world: World) -> None:
    """The counts go all the same."""
    a = await world.lax(flush_interval=LONG)
    wire = world.wire(a)
    await a.strict.inc("k")
    a.inc_nowait("k", 10)
    wire.hold()
    with trio.move_on_after(0.5):
        await a.strict.inc("k", 100)
    wire.release()
    assert (11, 11) == await a.strict.get("k")
    assert [(Kind.ADD, "k", 100)] not in batches(world, a)


@on_memory
async def test_what_the_store_refuses_fails_and_leaves_the_counts(world: World) -> None:
    """Who waits behind counts that are refused gets the error at once, and is no longer there."""
    a = await world.lax(flush_interval=LONG)
    wire = world.wire(a)
    await a.strict.inc("k")
    a.inc_nowait("k", 10)
    wire.delay(0.01)
    wire.refuse(StoreError("OOM"))
    with trio.fail_after(1):
        for call in (partial(a.strict.inc, "k", 100), partial(a.strict.get, "k")):
            with pytest.raises(StoreError, match="OOM"):
                await call()
    assert 10 > wire.counts["refuse"], "it asks again and again"
    assert (11, 11) == a.get_nowait("k")
    wire.refuse(None)
    assert (12, 12) == await a.strict.inc("k")


@on_memory
async def test_a_stop_sends_the_counts_and_what_waits_behind_them(world: World) -> None:
    a = await world.lax(flush_interval=LONG, on_exit="linger")
    b = await world.strict()
    a.inc_nowait("k", 10)
    world.wire(a).hold()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(a.strict.inc, "k", 100)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(a.aclose)
        await trio.testing.wait_all_tasks_blocked()
        world.wire(a).release()
    assert (110, 0) == await b.get("k")


# ------------------------------------------------------------------------------- limits of int64


async def test_counts_that_must_be_refused_do_no_harm_to_the_operation(world: World) -> None:
    """It is judged by what the store has, and the counts are told by the next flush."""
    a = await world.lax(flush_interval=LONG)
    b = await world.strict()
    await b.inc("k", MAX - 5)
    a.inc_nowait("k", 10)
    assert (MAX - 2, 3) == await a.strict.inc("k", 3)
    assert (MAX - 2, 3) == a.get_nowait("k")
    with pytest.raises(CounterOverflowError, match="k: 10"):
        await a.flush()


async def test_an_operation_that_must_be_refused_does_no_harm_to_the_counts(world: World) -> None:
    a = await world.lax(flush_interval=LONG)
    b = await world.strict()
    await b.inc("k", MAX - 5)
    a.inc_nowait("k", 4)
    assert [CounterOverflowError, (MAX, 5)] == [
        result if isinstance(result, tuple) else type(result)
        for result in await gather(each(_caught, a.strict.inc, "k", 2), each(a.strict.inc, "k", 1))
    ]
    await a.flush()
    assert (MAX, 5) == a.get_nowait("k") == await a.strict.get("k")


async def _caught(call: Callable[..., Awaitable[object]], *arguments: object) -> object:
    try:
        return await call(*arguments)
    except CounterOverflowError as error:
        return error


@pytest.mark.parametrize(
    ("call", "after"),
    [
        (lambda c: c.set("k", -5), -5),
        (lambda c: c.set_on_instance("k", -5), -5),
        (lambda c: c.inc("k", -5), MAX - 5),
        (lambda c: c.get("k"), MAX),
        (lambda c: _of_k(c.set_all({"k": -5})), -5),
        (lambda c: _of_k(c.set_all_on_instance({"k": -5})), -5),
        (lambda c: _of_k(c.inc_all({"k": -5})), MAX - 5),
        (lambda c: _of_k(c.get_all(["k"])), MAX),
    ],
    ids=["set", "set_on_instance", "inc", "get", "set_all", "put_all", "inc_all", "get_all"],
)
async def test_an_operation_comes_behind_counts_that_take_several_entries(
    world: World, call: Callable[[StrictInstanceAwareCounter], Awaitable[CounterValue]], after: int
) -> None:
    """What is pending may exceed int64, and then goes in several batches before it."""
    a = await world.lax(flush_interval=LONG)
    b = await world.strict()
    a.inc_nowait("k", MIN)
    await a.flush()
    a.inc_nowait("k", MAX)
    a.inc_nowait("k", MAX)
    a.inc_nowait("k", 1)
    assert (MAX, MAX) == a.get_nowait("k")
    assert (after, after) == await call(a.strict)
    await a.flush()
    assert (after, after) == a.get_nowait("k")
    assert (after, 0) == await b.get("k")


@on_memory
async def test_additions_that_cancel_out_come_behind_counts_as_others_do(world: World) -> None:
    """Each of them by itself where they are large: one of them may not fit."""
    a = await world.lax(flush_interval=LONG)
    b = await world.strict()
    await b.set_on_instance("k", -MAX)
    await a.get("k")
    a.inc_nowait("k", MAX)
    calls = [each(outcome, each(a.strict.inc, "k", count)) for count in (5, -5)]
    world.wire(a).hold()
    released = each(_released, world, a, 2)
    outcomes = await gather(each(a.strict.get, "other"), *calls, released)
    assert [CounterOverflowError, (-5, MAX - 5)] == outcomes[1:3]
    assert (-5, MAX - 5) == a.get_nowait("k")


async def _released(world: World, counter: LaxInstanceAwareCounter, waiting: int) -> None:
    """Let requests go once so many operations wait behind them."""
    while counter.statistics().mailbox_length < waiting:  # noqa: ASYNC110 - a mailbox sets no event
        await trio.sleep(0.001)
    world.wire(counter).release()


async def _of_k(values: Awaitable[dict[str, CounterValue]]) -> CounterValue:
    return (await values)["k"]


@on_memory
@pytest.mark.parametrize("limited", [False, True])
async def test_an_operation_comes_behind_the_end_of_a_hold_that_takes_a_batch_of_its_own(
    world: World, limited: bool
) -> None:
    """It is of a slice that is gone, and a new value was put before it ended."""
    a = await world.lax(flush_interval=LONG)
    async with a.hold("k"):
        await a.strict.dec("k")
        await a.set_on_instance("k", 5)
    if limited:
        async with a.strict.hold("k", limit=5) as value:
            assert (5, 5) == value
    else:
        assert {"k": (4, 4)} == await a.strict.get_all(["k"])


@on_memory
async def test_who_waits_for_counts_that_take_several_entries_is_told_of_a_refusal(
    world: World,
) -> None:
    a = await world.lax(flush_interval=LONG)
    wire = world.wire(a)
    a.inc_nowait("k", MIN)
    await a.flush()
    for count in (MAX, MAX, 1):
        a.inc_nowait("k", count)
    wire.delay(0.01)
    wire.refuse(StoreError("OOM"))
    with trio.fail_after(1):
        for call in (partial(a.strict.inc, "k", -5), partial(a.strict.get, "k")):
            with pytest.raises(StoreError, match="OOM"):
                await call()
    assert 10 > wire.counts["refuse"], "it asks again and again"
    wire.refuse(None)
    assert (MAX, MAX) == await a.strict.get("k")


# ------------------------------------------------------------------------- what is built on it


@on_both
async def test_a_watch_of_the_strict_face_shows_what_both_count(world: World) -> None:
    a = await world.lax()
    async with a.strict.watch("k") as values:
        assert (0, 0) == await values.receive()
        a.inc_nowait("k", 2)
        assert (2, 2) == await values.receive()
        await a.strict.inc("k", 3)
        assert (5, 5) == await values.receive()


@on_both
async def test_a_limiter_on_the_strict_face_is_that_of_the_instance(world: World) -> None:
    a = await world.lax()
    b = await world.strict()
    limiter = FleetLimiter(a.strict, "limit", 1)
    other = FleetLimiter(b, "limit", 1)
    async with trio.open_nursery() as nursery:
        async with limiter:
            nursery.start_soon(other.acquire)
            await world.sees(b, "limit", 1, 0)
        await world.sees(b, "limit", 1, 1)
    assert (1, 0) == await a.strict.get("limit")


@on_memory
async def test_limiters_on_both_faces_share_their_line(world: World) -> None:
    """Whoever came first is first, whichever face its limiter was made with."""
    a = await world.lax()
    b = await world.strict()
    limiters = [FleetLimiter(face, "limit", 1) for face in (a, a.strict)]
    first = FleetLimiter(b, "limit", 1)
    order: list[int] = []

    async def wait(number: int) -> None:
        async with limiters[number % 2]:
            order.append(number)
            await trio.sleep(0.5)

    async with trio.open_nursery() as nursery, first:
        for number in range(6):
            nursery.start_soon(wait, number)
            await trio.sleep(1.0)
    assert [*range(6)] == order


async def test_in_several_parts_the_faces_are_one_as_well(
    autojump_clock: trio.testing.MockClock,
) -> None:
    keys = [f"key-{number}" for number in range(20)]
    store = FaultyStore(MemoryStore(partitions=3))
    async with LaxInstanceAwareCounter.open("app", store, flush_interval=LONG) as a:
        for key in keys:
            a.inc_nowait(key, 5)
        assert dict.fromkeys(keys, (6, 6)) == await a.strict.inc_all(dict.fromkeys(keys, 1))
        a.inc_nowait(keys[0])
        assert (8, 8) == await a.strict.inc(keys[0])
        assert sorted(keys) == await a.strict.keys()
        assert [a.instance_id] == [info.instance_id for info in await a.strict.instances()]


@on_memory
async def test_an_outcome_that_nobody_knows_is_told_by_the_face_that_was_asked(
    world: World,
) -> None:
    """The store loses its record, and somebody moves the key: the counts are void, silently."""
    a = await world.lax(flush_interval=LONG)
    b = await world.strict()
    await a.strict.inc("k", 1)
    errors: list[Exception] = []

    async def ask() -> None:
        try:
            await a.strict.inc("k", 100)
        except OutcomeUnknownError as error:
            errors.append(error)

    def adds(request: object) -> bool:
        return isinstance(request, Apply) and any(entry.value == 100 for entry in request.entries)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        async with world.reply_lost(a, adds):
            a.inc_nowait("k", 7)
            await world.backend.wipe(world.prefix)
            await b.set("k", 50)
    assert 1 == len(errors)
    assert (57, 7) == await a.strict.get("k")
