"""What `docs/semantics.md` says of lax counters, sentence by sentence."""

# ruff: noqa: SIM300 - expected == actual, all through

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from math import inf
from typing import Any, Literal

import pytest
import trio
import trio.testing

from distkit_actors import (
    CounterOverflowError,
    CounterValue,
    LaxInstanceAwareCounter,
    Lt,
    MemoryStore,
    Store,
    StoreError,
    StoreUnavailableError,
    StrictInstanceAwareCounter,
)
from distkit_actors._instance._session_view import BULK, SHARED
from distkit_actors._protocol._messages import Apply, Entry, Kind, Reply, Request, Resume
from distkit_actors._protocol._partitions import part_of
from distkit_actors._stores._contract import Link
from distkit_actors.testing import FaultyStore
from tests.behaviour.world import MAX, MIN, Counter, World, each, gather, on_both


def batches(world: World, counter: Counter) -> list[Apply]:
    """Return the batches of a counter that have entries."""
    return [r for r in world.requests(counter) if isinstance(r, Apply) and r.entries]


def entries(world: World, counter: Counter) -> list[Entry]:
    """Return all entries of a counter, in order."""
    return [entry for batch in batches(world, counter) for entry in batch.entries]


# ------------------------------------------------------------------------ without waiting


async def test_inc_nowait_works_on_a_cold_key(world: World) -> None:
    """A key never used before can be counted at once, whatever the others hold."""
    a = await world.lax()
    b = await world.strict()
    await b.inc("k", 100)
    a.inc_nowait("k")
    a.inc_nowait("k", 4)
    a.dec_nowait("k", 2)
    with pytest.raises(trio.WouldBlock, match=r"what others count on 'k'.*counter\.get"):
        a.get_nowait("k")
    await a.flush()
    assert (103, 3) == a.get_nowait("k")
    assert (103, 100) == await b.get("k")


async def test_the_age_of_a_value_is_that_of_the_stores_word(world: World) -> None:
    """It grows until the store says something again, in an outage too, whatever is counted here."""
    a = await world.lax(exit_grace=0.0)
    b = await world.strict()
    handle = a.bind("k")
    assert inf == a.age("k") == handle.age()
    a.inc_nowait("k")
    assert inf == a.age("k"), "the store has said nothing of it"
    await a.flush()
    assert 0.0 == a.age("k")
    await trio.sleep(3.0)
    a.inc_nowait("k")
    assert 3.0 == pytest.approx(a.age("k")) == handle.age()
    await a.get("k")
    assert 0.0 == handle.age()
    world.wire(a).cut()
    begun = trio.current_time()
    await trio.sleep(40.0)
    await a.get("k")
    assert trio.current_time() - begun == pytest.approx(a.age("k"))
    world.heal(a)
    a.inc_nowait("k")
    await a.flush()
    assert 0.0 == a.age("k")

    await b.set("k", 7)
    await trio.sleep(1.1 * world.interval)
    assert inf == a.age("k"), "what the store had said is void"
    assert (7, 0) == await a.get("k")
    assert 0.0 == a.age("k")


async def test_an_answer_that_is_repeated_tells_old_values(world: World) -> None:
    """They are those of the first execution, and may be as old as the outage was long."""
    a = await world.lax(allowed_lag=1.0, flush_interval=1000.0, dead_instance_threshold=100.0)
    b = await world.strict(dead_instance_threshold=100.0)
    a.inc_nowait("k")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(a.flush)
        async with world.reply_lost(a, lambda request: bool(getattr(request, "entries", ()))):
            begun = trio.current_time()
            await trio.sleep(10.0)
            await b.inc("k", 1000)
    assert (1, 1) == a.get_nowait("k")
    assert a.age("k") >= trio.current_time() - begun
    assert (1001, 1) == await a.get("k")
    assert 0.0 == a.age("k")


async def test_a_repeated_answer_is_known_however_late_it_comes(world: World) -> None:
    """Nobody has had it before, so it is not idle."""
    a, b = await world.lax(), await world.strict()
    await b.inc("k", 5)
    outage = 5 * world.threshold
    async with trio.open_nursery() as nursery:
        nursery.start_soon(a.strict.get, "k")
        async with world.reply_lost(a, lambda request: bool(getattr(request, "entries", ()))):
            await world.cut(b)  # or it would find that the other one is dead
            await trio.sleep(outage)
    assert (5, 0) == a.get_nowait("k")
    assert a.age("k") >= outage
    await world.rejoin(b)


async def test_a_long_return_tells_old_values(world: World) -> None:
    """The counts in doubt are told with the first piece, and another outage comes behind it."""
    a = await world.lax(allowed_lag=1.0, flush_interval=1000.0, dead_instance_threshold=100.0)
    b = await world.strict(dead_instance_threshold=100.0)
    a.inc_nowait("k")
    await a.set_all_on_instance({f"key-{n}": 1 for n in range(2 * BULK)})
    await a.flush()
    a.inc_nowait("k")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(a.flush)
        async with world.reply_lost(a, lambda request: bool(getattr(request, "entries", ()))):
            await world.backend.wipe(world.prefix)
        async with world.reply_lost(a, lambda r: isinstance(r, Resume) and not r.first):
            begun = trio.current_time()
            await trio.sleep(10.0)
            await b.inc("k", 1000)
    assert (2, 2) == a.get_nowait("k")
    assert a.age("k") >= trio.current_time() - begun
    assert (1002, 2) == await a.get("k")


async def test_get_nowait_of_a_key_never_read_would_block(world: World) -> None:
    """There is no answer before the store has said something; then there always is."""
    a = await world.lax()
    b = await world.strict()
    with pytest.raises(trio.WouldBlock):
        a.get_nowait("k")
    with pytest.raises(trio.WouldBlock):
        a.get_nowait("k")
    assert (0, 0) == await a.get("k")
    assert (0, 0) == a.get_nowait("k")
    await b.inc("k", 5)
    await b.set("other", 6)
    # It is what was last heard, not what is.
    assert (0, 0) == a.get_nowait("k")
    await world.value(a, "k")
    assert (5, 0) == a.get_nowait("k")
    with pytest.raises(trio.WouldBlock):
        a.get_nowait("other")


async def test_counting_goes_on_during_an_outage(world: World) -> None:
    """While the store is away all lax operations answer; afterwards everything arrives once."""
    a = await world.lax(allowed_lag=0.02)
    b = await world.strict()
    assert (1, 1) == await a.inc("k")
    await a.flush()
    world.wire(a).cut()
    for n in range(2, 40):
        a.inc_nowait("k")
        a.inc_nowait("cold")
        assert (n, n) == a.get_nowait("k")
    assert (40, 40) == await a.inc("k")
    assert (39, 39) == await a.dec("k")
    assert (39, 39) == await a.get("k")
    assert (50, 50) == await a.set_on_instance("k", 50)
    assert (51, 51) == await a.inc("k")
    assert (3, 3) == await a.inc("colder", 3)
    assert (0, 0) == await a.get("never used")
    assert 3 == a.statistics().pending_keys
    await world.rejoin(a)
    await a.flush()
    assert (51, 0) == await b.get("k")
    assert (38, 0) == await b.get("cold")
    assert (3, 0) == await b.get("colder")


async def test_hours_of_outage_need_no_more_memory_than_keys(world: World) -> None:
    """What waits for the store is one sum for each key, however much was counted."""
    world.beat_slowly()
    a = await world.lax()
    b = await world.strict()
    await a.inc("k-0")
    await a.flush()
    world.wire(a).cut()
    for n in range(20_000):
        a.inc_nowait(f"k-{n % 10}")
        if n % 20 == 0:
            await trio.sleep(7)
    assert 10 == a.statistics().pending_keys
    sent = len(batches(world, a))
    await world.rejoin(a)
    await a.flush()
    assert (2001, 0) == await b.get("k-0")
    assert (2000, 0) == await b.get("k-9")
    assert len(batches(world, a)) - sent <= 3


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("lag", [0.02, 1000.0])
async def test_a_value_that_is_asked_for_is_known_through_a_whole_outage(
    world: World, together: bool, lag: float
) -> None:
    """Though this instance has no slice of it."""
    a, b = await world.lax(allowed_lag=lag), await world.strict()
    await b.inc("k", 100)
    assert (100, 0) == await a.get("k")
    await world.cut(a)
    for _ in range(30):
        await world.intervals(0.7)
        found = (await a.get_all(["k"]))["k"] if together else await a.get("k")
        assert (100, 0) == found
    assert (100, 0) == a.get_nowait("k")
    await world.intervals(20)
    with pytest.raises(trio.WouldBlock):
        a.get_nowait("k")
    world.heal(a)


async def test_several_keys_are_waited_for_no_longer_than_one(world: World) -> None:
    """Also if one of them has been moved, and the store does not answer."""
    a, b = await world.lax(), await world.strict()
    await b.inc("k", 7)
    assert (7, 0) == await a.get("k")
    await b.set("k", 0)
    await a.strict.inc("else")
    assert a.age("k") == float("inf")
    world.wire(a).hold()
    waited = []
    for read in (each(a.get, "k"), each(a.get_all, ["k"])):
        began = trio.current_time()
        await read()
        waited.append(trio.current_time() - began)
    assert waited[0] == pytest.approx(waited[1])
    world.wire(a).release()


async def test_no_value_is_made_of_two_moments_while_others_are_read(world: World) -> None:
    """The key was read just before, and its move is heard of with the answer about another one."""
    a, b = await world.lax(allowed_lag=100.0), await world.strict()
    await b.inc("known", 7)
    await a.set_on_instance("known", 3)
    await a.flush()
    assert (10, 3) == await a.get("known")
    found: list[CounterValue] = []

    async def ask() -> None:
        found.append((await a.get_all(["known", "other"]))["known"])

    async with trio.open_nursery() as nursery:
        world.wire(a).hold()
        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        await b.set("known", 0)
        world.wire(a).release()
    assert found == [(0, 0)]


@pytest.mark.parametrize("how", ["get", "inc_if", "delete"])
async def test_what_a_strict_operation_has_found_is_known(world: World, how: str) -> None:
    a, b = await world.lax(), await world.strict()
    await b.inc("k", 5)
    match how:
        case "get":
            await a.strict.get("k")
        case "inc_if":
            assert not (await a.inc_if("k", Lt(5))).applied
        case _:
            await a.delete("k")
    known = (0, 0) if how == "delete" else (5, 0)
    assert known == a.get_nowait("k")
    assert a.age("k") < 1
    await world.cut(a)
    assert known == await a.get("k")
    world.heal(a)


async def test_i10_keys_that_were_asked_for_in_an_outage_are_forgotten(world: World) -> None:
    """Though no answer comes, and there are ever new ones: rooms of visitors, say."""
    a = await world.lax()
    await a.get("k")
    await world.cut(a)
    for number in range(30):
        for room in range(20):
            await a.get(f"room-{number}-{room}")
        await world.intervals(1)
    assert 300 > len(a._buffer.buffered_keys)
    world.heal(a)


# -------------------------------------------------------------------------- the local view


async def test_operations_answer_from_the_local_view(world: World) -> None:
    """The store's last word plus what is pending or in flight."""
    a = await world.lax(flush_interval=60.0, allowed_lag=60.0)
    b = await world.strict()
    await b.inc("k", 10)
    assert (10, 0) == await a.get("k")
    await b.inc("k", 100)
    sent = len(batches(world, a))
    assert (15, 5) == await a.inc("k", 5)
    assert (12, 2) == await a.dec("k", 3)
    assert (12, 2) == await a.get("k")
    assert (17, 7) == await a.set_on_instance("k", 7)
    assert (18, 8) == await a.inc("k")
    assert sent == len(batches(world, a))
    await a.flush()
    assert (118, 8) == a.get_nowait("k")
    assert (118, 110) == await b.get("k")
    # A replacement and what was added to it went as one.
    assert 1 == len([entry for entry in entries(world, a) if entry.value])


async def test_the_first_inc_of_a_key_reads_the_store(world: World) -> None:
    """The first `await inc` of a key knows what the others hold; the next ones do not ask."""
    a = await world.lax(flush_interval=60.0, allowed_lag=60.0)
    b = await world.strict()
    await b.inc("k", 10)
    assert (11, 1) == await a.inc("k")
    sent = len(batches(world, a))
    for n in range(2, 20):
        assert (10 + n, n) == await a.inc("k")
    assert sent == len(batches(world, a))


@pytest.mark.parametrize("many", [False, True])
async def test_the_first_inc_of_a_key_reads_what_is_known_and_old(world: World, many: bool) -> None:
    """What a flush has told of the key is no reading; what was just read is not read again."""
    a = await world.lax(flush_interval=60.0, allowed_lag=1.0)
    b = await world.strict()

    async def count() -> CounterValue:
        return (await a.inc_all({"k": 1}))["k"] if many else await a.inc("k")

    a.inc_nowait("k")
    await a.flush()
    await b.inc("k", 100)
    await trio.sleep(2)
    assert (102, 2) == await count()
    sent = len(batches(world, a))
    assert (103, 3) == await count()
    assert sent == len(batches(world, a))
    await a.get("new")
    sent = len(batches(world, a))
    assert (1, 1) == await a.inc("new")
    await trio.sleep(2)
    assert (2, 2) == await a.inc("new")
    assert sent == len(batches(world, a))


async def test_a_first_inc_that_was_cancelled_leaves_the_reading_to_the_next(world: World) -> None:
    a = await world.lax(flush_interval=60.0, allowed_lag=60.0)
    b = await world.strict()
    await b.inc_all({"k": 10, "j": 10})
    with trio.CancelScope() as scope:
        scope.cancel()
        await a.inc("k")
    world.wire(a).delay(0.1)
    with trio.move_on_after(0.05):
        await a.inc("k")
    with trio.move_on_after(0.05):
        await a.inc_all({"j": 1})
    assert (11, 1) == await a.inc("k")
    assert (11, 1) == await a.inc("j")


async def test_who_comes_during_a_first_inc_waits_for_the_reading_too(world: World) -> None:
    a = await world.lax(flush_interval=60.0, allowed_lag=60.0)
    b = await world.strict()
    await b.inc("k", 10)
    world.wire(a).delay(0.1)
    values = await gather(*[partial(a.inc, "k")] * 3)
    assert sorted(values) == [(11, 1), (12, 2), (13, 3)]  # type: ignore[type-var]  # they are pairs


@on_both
async def test_get_asks_when_the_value_is_older_than_the_lag(world: World) -> None:
    """A value may serve for `allowed_lag`, and no longer."""
    lag = 0.1 + world.slack / 5
    a = await world.lax(allowed_lag=lag)
    b = await world.strict()
    assert (0, 0) == await a.get("k")
    await b.inc("k", 5)
    sent = len(batches(world, a))
    assert (0, 0) == await a.get("k")
    assert sent == len(batches(world, a))
    await trio.sleep(1.1 * lag)
    assert (5, 0) == await a.get("k")
    assert sent + 1 == len(batches(world, a))
    assert (5, 0) == await a.get("k")
    assert sent + 1 == len(batches(world, a))


async def test_a_flush_is_news_too(world: World) -> None:
    """The answer to a flush refreshes the keys it carried."""
    a = await world.lax(allowed_lag=60.0)
    b = await world.strict()
    assert (0, 0) == await a.get("k")
    await b.inc("k", 5)
    a.inc_nowait("k")
    await a.flush()
    assert (6, 1) == a.get_nowait("k")


async def test_reads_do_not_wait_in_an_outage_that_began_with_a_refusal(world: World) -> None:
    a = await world.lax(allowed_lag=0.01)
    wire = world.wire(a)
    wire.refuse(StoreError("full"))
    a.inc_nowait("k")
    while a._actor._loop.availability.refusal is None:  # noqa: ASYNC110 - nothing tells
        await trio.sleep(0.01)
    wire.refuse(None)
    wire.cut()
    while a.statistics().state != "away":
        await a.get("k")
    began = trio.current_time()
    assert (1, 1) == await a.get("k")
    assert trio.current_time() - began < 0.01 + world.slack
    wire.heal()


async def test_a_read_asks_again_where_an_outage_has_ended_in_a_refusal(world: World) -> None:
    """Nobody else would before the next heartbeat."""
    a, b = await world.lax(dead_instance_threshold=300.0), await world.strict()
    wire = world.wire(a)
    wire.cut()
    a.inc_nowait("k")
    while a.statistics().state != "away":  # noqa: ASYNC110 - nothing tells
        await trio.sleep(0.01)
    wire.heal()
    wire.refuse(StoreError("no password"), connections=True)
    while a._actor._loop.availability.refusal is None:  # noqa: ASYNC110 - as above
        await trio.sleep(0.01)
    wire.refuse(None)
    await b.inc("k", 3)
    assert (4, 1) == await a.get("k")


@pytest.mark.parametrize("fault", ["cut", "hold"])
async def test_a_read_waits_ten_times_the_lag_at_most(world: World, fault: str) -> None:
    """Then it answers from what it has: 0 for a key never read.

    It does so at once where the store is known to be away: a page is not to be slow for the whole
    of an outage.
    """
    least, most = (0.09, 0.2) if fault == "hold" else (0.0, 0.01)
    a = await world.lax(allowed_lag=0.01)
    await a.inc("known", 3)
    await a.flush()
    await trio.sleep(0.02)
    getattr(world.wire(a), fault)()
    a.inc_nowait("known")
    while fault == "cut" and a.statistics().state != "away":  # noqa: ASYNC110 - nothing tells
        await trio.sleep(0.01)
    for key, expected in (("known", (4, 4)), ("unknown", (0, 0))):
        began = trio.current_time()
        assert expected == await a.get(key)
        assert least <= trio.current_time() - began < most + world.slack
    began = trio.current_time()
    assert (2, 2) == await a.inc("cold", 2)
    assert least <= trio.current_time() - began < most + world.slack
    began = trio.current_time()
    # Once is enough: counting must not stop at every step of an outage.
    assert (3, 3) == await a.inc("cold")
    assert trio.current_time() - began < 0.05 + world.slack
    world.wire(a).release()
    world.wire(a).heal()
    await a.flush()
    assert (3, 3) == await world.value(a, "cold")


async def test_moves_by_others_are_heard_of(world: World) -> None:
    """After a `set` elsewhere, the own part starts from 0, as it does in the store."""
    a = await world.lax(allowed_lag=0.1)
    b = await world.strict()
    await a.inc("k", 10)
    await a.flush()
    await b.set("k", 100)
    a.inc_nowait("k", 1)
    await a.flush()
    assert (101, 1) == await world.value(a, "k")
    assert (101, 100) == await b.get("k")
    await b.clear()
    assert (0, 0) == await world.value(a, "k")
    a.inc_nowait("k", 2)
    await a.flush()
    assert (2, 2) == a.get_nowait("k")
    assert (2, 0) == await b.get("k")


async def test_what_a_move_elsewhere_has_taken_from_here_leaves_the_view(world: World) -> None:
    """As soon as it is heard of. What others have now is not known before the next `get`."""
    a = await world.lax()
    b = await world.strict()
    await b.inc("k", 4)
    a.inc_nowait("k", 3)
    await a.flush()
    assert (7, 4) == await b.delete("k")
    assert (7, 3) == a.get_nowait("k"), "it has not heard of it"
    await trio.sleep(1.1 * world.interval)
    assert inf == a.age("k"), "it has"
    assert (4, 0) == a.get_nowait("k"), "as the store said last, without what was counted here"
    assert (0, 0) == await a.get("k")


async def test_counts_that_are_pending_at_a_move_elsewhere_come_after_it(world: World) -> None:
    a = await world.lax(flush_interval=60.0)
    b = await world.strict()
    for move in (each(b.delete, "k"), each(b.set, "k", 0), b.clear):
        a.inc_nowait("k", 5)
        await move()
        await a.flush()
        assert (5, 5) == a.get_nowait("k")
        assert (5, 0) == await b.get("k")


@pytest.mark.parametrize("looked_at", [False, True])
async def test_i8_counts_whose_answer_was_lost_stay_in_the_view_after_an_earlier_clear(
    world: World, looked_at: bool
) -> None:
    """The stored answer does not tell of the clear; the next answer does, and is about others."""
    a = await world.lax()
    b = await world.strict()
    await a.inc("k", 1)
    await a.flush()
    await b.clear()
    a.inc_nowait("k", 5)
    world.wire(a).drop_reply()
    await a.flush()
    a.inc_nowait("other")
    await a.flush()
    if looked_at:
        assert inf == a.age("k"), "it has heard of the clear"
        assert (5, 5) == a.get_nowait("k")
    await world.intervals(10)  # so that it forgets keys without a slice
    world.wire(a).cut()
    assert (5, 5) == await a.get("k")


# ------------------------------------------------------------------------------- flushing


async def test_everything_pending_goes_as_one_batch(world: World) -> None:
    """One batch for each interval, whatever was counted in it."""
    a = await world.lax(flush_interval=0.05)
    sent = len(batches(world, a))
    for n in range(1000):
        a.inc_nowait(f"k-{n % 100}")
    await trio.sleep(0.1 + world.slack / 5)
    assert 0 == a.statistics().pending_keys
    new = batches(world, a)[sent:]
    assert 1 == len(new)
    assert {10} == {entry.value for entry in new[0].entries}
    assert 100 == len(new[0].entries)


async def test_a_busy_counter_flushes_once_per_interval(world: World) -> None:
    """A steady stream of counts is one exchange for each flush interval."""
    a = await world.lax(flush_interval=0.1)
    sent = len(batches(world, a))
    for _ in range(1000):
        a.inc_nowait("k")
        await trio.sleep(0.005)
    assert 45 <= len(batches(world, a)) - sent <= 51


async def test_flush_waits_for_what_was_counted_before(world: World) -> None:
    """`flush` returns when it is in the store, and does not wait for later counts."""
    a = await world.lax(flush_interval=1000.0)
    b = await world.strict()
    a.inc_nowait("k", 3)
    world.wire(a).delay(1.0, replies=True)
    done = trio.Event()

    async def flush() -> None:
        await a.flush()
        done.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(flush)
        await trio.sleep(0.5)
        assert not done.is_set()
        assert (3, 0) == await b.get("k")
        a.inc_nowait("k", 10)
        a.inc_nowait("j", 10)
        await trio.sleep(0.6)
        assert done.is_set()
    assert (0, 0) == await b.get("j")
    world.wire(a).delay(0, replies=True)
    await a.flush()
    assert (13, 0) == await b.get("k")
    assert (10, 0) == await b.get("j")


async def test_flush_waits_for_no_interval_though_its_counts_came_back(world: World) -> None:
    """They were refused once, as the instance had been forgotten, and it returned first."""
    a = await world.lax(flush_interval=1000.0, dead_instance_threshold=900.0)
    b = await world.strict()
    await b.forget(a.instance_id)
    a.inc_nowait("k", 3)
    with trio.fail_after(world.threshold):
        await a.flush()
    assert (3, 0) == await b.get("k")


async def test_flush_with_nothing_to_do_is_a_checkpoint(world: World) -> None:
    """It returns at once and sends nothing."""
    a = await world.lax()
    sent = len(world.requests(a))
    with trio.testing.assert_checkpoints():
        await a.flush()
    assert sent == len(world.requests(a))


async def test_flush_waits_through_an_outage(world: World) -> None:
    """`flush` waits while the store is away; its caller's scope says how long."""
    a = await world.lax()
    b = await world.strict()
    world.wire(a).cut()
    a.inc_nowait("k")
    with trio.move_on_after(0.1) as scope:
        await a.flush()
    assert scope.cancelled_caught
    assert 1 == a.statistics().pending_keys
    world.wire(a).heal()
    await a.flush()
    assert (1, 0) == await b.get("k")


async def test_many_flushes_at_once(world: World) -> None:
    """All who wait are told, each when its own counts are in the store."""
    a = await world.lax(flush_interval=60.0)
    b = await world.strict()
    world.wire(a).delay(0.01)
    seen: list[int] = []

    async def count(n: int) -> None:
        await trio.sleep(0.003 * n)
        a.inc_nowait(f"k-{n}", n)
        await a.flush()
        seen.append((await b.get(f"k-{n}")).cumulative)

    async with trio.open_nursery() as nursery:
        for n in range(1, 11):
            nursery.start_soon(count, n)
    assert list(range(1, 11)) == sorted(seen)


async def test_flush_returns_while_others_go_on_counting(world: World) -> None:
    """A stream of counts on the same key cannot keep `flush` waiting for ever."""
    a = await world.lax(flush_interval=0.005)
    stop = trio.Event()

    async def count() -> None:
        while not stop.is_set():
            a.inc_nowait("k")
            await trio.sleep(0.0005)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(count)
        await trio.sleep(0.01)
        with trio.fail_after(2):
            for _ in range(5):
                await a.flush()
        stop.set()


@on_both
async def test_counts_of_thousands_of_keys_go_in_bounded_batches(world: World) -> None:
    """More keys than a message holds go in several."""
    a = await world.lax()
    b = await world.strict()
    for n in range(2500):
        a.inc_nowait(f"k-{n}", n)
    await a.flush()
    assert 5 == len(batches(world, a))
    assert SHARED == max(len(batch.entries) for batch in batches(world, a))
    assert (2499, 0) == await b.get("k-2499")


async def test_a_flush_ends_when_its_batch_was_sent_again(world: World) -> None:
    """Reaped meanwhile: what was on its way and what was pending go as one."""
    a: Any = await world.lax(flush_interval=1000.0)
    b = await world.strict()
    await a.inc("validator", 1)
    await a.flush()
    world.wire(a).hold()
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            a.inc_nowait("k", 1)
            nursery.start_soon(a.flush)
            await trio.sleep(0.01)
            a.inc_nowait("k", 2)
            nursery.start_soon(a.flush)

            async def gone() -> bool:
                return (await b.get("validator")).cumulative == 0

            await world.until(gone)
            world.wire(a).release()
    assert await b.get("k") == (3, 0)


@pytest.mark.parametrize("how", ["delete", "clear"])
async def test_counts_after_a_move_whose_answer_was_lost_survive_the_loss_of_all(
    world: World, how: str
) -> None:
    """The answer to the repeated move tells of no moves, so the counter knows none but its own."""
    a: Any = await world.lax(flush_interval=1000.0)
    b = await world.strict()
    await b.inc("k", 5)
    move = partial(a.delete, "k") if how == "delete" else a.clear
    async with trio.open_nursery() as nursery:
        nursery.start_soon(move)
        async with world.reply_lost(a, moves):
            pass
    a.inc_nowait("k")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(a.flush)
        async with world.reply_lost(a, lambda request: getattr(request, "entries", ())):
            await world.backend.wipe(world.prefix)
            await trio.sleep(0.05)  # no outage takes no time, see A3
    assert (1, 1) == await world.value(a, "k")
    assert (1, 0) == await b.get("k")


def moves(request: Request) -> bool:
    kinds = {entry.kind for entry in request.entries} if isinstance(request, Apply) else set()
    return not kinds.isdisjoint((Kind.MOVE, Kind.CLEAR))


async def test_a_flush_waits_for_counts_that_take_three_entries(world: World) -> None:
    """Two values far apart differ by more than two int64."""
    a: Any = await world.lax(flush_interval=1000.0)
    b = await world.strict()
    a.inc_nowait("k", MIN)
    await a.flush()
    for count in (1, MAX, MAX):
        a.inc_nowait("k", count)
    await a.flush()
    assert await b.get("k") == (MAX, 0)


async def test_a_flush_does_not_wait_for_what_comes_later(world: World) -> None:
    a: Any = await world.lax(flush_interval=1000.0)
    a.inc_nowait("k")
    world.wire(a).delay(0.1)
    ended = trio.Event()

    async def flush() -> None:
        await a.flush()
        ended.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(flush)
        with trio.move_on_after(0.35):
            while not ended.is_set():
                a.inc_nowait("k")
                await trio.sleep(0.01)
        assert ended.is_set()


@pytest.mark.parametrize("registered", [True, False])
async def test_counts_that_cancel_each_other_out_are_not_pending(
    world: World, *, registered: bool
) -> None:
    """A stop has nothing to report then; where nobody knows the counter, it ends at once."""
    counter = world.build("lax", detached_start=not registered)
    if registered:
        await world.start(counter)
    world.wire(counter).cut()
    if not registered:
        await world.start(counter)
    await world.intervals(2)
    async with counter.hold("held"):
        counter.inc_nowait("k")
        assert 2 == counter.statistics().pending_keys
    counter.dec_nowait("k")
    counter.inc_nowait("j", 0)
    assert 0 == counter.statistics().pending_keys
    begun = trio.current_time()
    await counter.aclose()
    assert registered or trio.current_time() == begun
    assert 0 == counter.statistics().pending_keys


@pytest.mark.parametrize("on_exit", ["leave", "linger"])
@pytest.mark.parametrize("sent", [True, False])
async def test_the_end_of_a_hold_is_nothing_that_a_leave_could_lose(
    world: World, on_exit: Literal["leave", "linger"], sent: bool
) -> None:
    """As with a strict counter: what is held goes with the slices, unless they linger (I9)."""
    counter = world.build("lax", on_exit=on_exit)
    world.tolerate(counter)
    await world.start(counter)
    async with counter.hold("k"):
        if sent:
            await counter.flush()
        world.wire(counter).hold()
        if not sent:
            await world.intervals(0.5)  # it is on its way
    if on_exit == "linger":
        with pytest.raises(StoreUnavailableError, match="stopped with"):
            await counter.aclose()
    else:
        await counter.aclose()


async def test_a_stop_reports_what_cancels_out_a_count_on_its_way(world: World) -> None:
    """The store may have that count, and then it has too much."""
    counter = world.build("lax")
    world.tolerate(counter)
    await world.start(counter)
    await counter.inc("k")
    await counter.flush()
    world.wire(counter).hold()
    counter.inc_nowait("k")
    await world.intervals(0.5)
    counter.dec_nowait("k")
    with pytest.raises(StoreUnavailableError, match="stopped with 1 counts"):
        await counter.aclose()


# ------------------------------------------------------------------------- refused counts


@pytest.mark.parametrize("when", ["at the stop", "before"])
async def test_i9_refused_counts_that_no_flush_has_reported_are_raised_by_the_stop(
    world: World, when: str, caplog: pytest.LogCaptureFixture
) -> None:
    a, quiet = world.build("lax", flush_interval=60.0), await world.lax()
    b = await world.strict()
    await b.inc("full", MAX)
    world.tolerate(a)
    await world.start(a)
    a.inc_nowait("full", 7)
    a.inc_nowait("k", 1)
    if when == "before":
        await world.intervals(1.5)
        assert 1 == a.statistics().refused_keys
    with pytest.raises(CounterOverflowError, match="full: 7"):
        await a.aclose()
    await a.aclose()
    assert 1 == a.statistics().refused_keys
    assert "unfinished" not in [record.event for record in caplog.records]
    quiet.inc_nowait("full", 7)
    with pytest.raises(CounterOverflowError):
        await quiet.flush()
    await quiet.aclose()  # which has been said


@pytest.mark.parametrize("partitions", [1, 3])
@pytest.mark.parametrize("fails", [False, True], ids=["the body ends", "the body fails"])
async def test_i9_a_stop_that_leaves_counts_says_which_were_refused_too(
    partitions: int, fails: bool, autojump_clock: trio.testing.MockClock
) -> None:
    """However the end is told: raised, or in the notes of what the body raised."""
    inner = MemoryStore(partitions=partitions)
    wire = FaultyStore(inner)

    async def end_badly() -> None:
        async with LaxInstanceAwareCounter.open("p", wire, exit_grace=0.1) as a:
            a.inc_nowait("full", 7)
            await trio.sleep(1)
            wire.cut()
            a.inc_nowait("k")
            if fails:
                raise ValueError("the body")

    async with StrictInstanceAwareCounter.open("p", inner) as b:
        await b.set("full", MAX)
        with pytest.raises(ValueError if fails else StoreUnavailableError) as caught:
            await end_badly()
    said = [str(caught.value), *getattr(caught.value, "__notes__", ())]
    assert any("stopped with 1 counts" in text and "full: 7" in text for text in said)


async def test_a_flush_that_waits_at_a_stop_reports_what_another_part_has_refused(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """That part ends before; the end of the counter says it, too."""
    inner = MemoryStore(partitions=2)
    wire = FaultyStore(inner)
    slow = next(key for key in "abc" if part_of(key, 2) != part_of("full", 2))
    told = []

    async def is_told(work: Callable[[], Awaitable[object]]) -> None:
        with pytest.raises(CounterOverflowError, match="full: 7"):
            await work()
        told.append(work)

    async def end() -> None:
        async with LaxInstanceAwareCounter.open("p", wire) as a, trio.open_nursery() as nursery:
            a.inc_nowait("full", 7)
            a.inc_nowait(slow)
            wire.part(part_of(slow, 2)).hold()
            nursery.start_soon(is_told, a.flush)
            await trio.sleep(1)
            nursery.start_soon(is_told, a.aclose)
            await trio.sleep(1)
            wire.part(part_of(slow, 2)).release()

    async with StrictInstanceAwareCounter.open("p", inner) as b:
        await b.set("full", MAX)
        await is_told(end)
    assert len(told) == 3


async def test_refused_counts_are_reported_once(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """A count the store must refuse is dropped: logged, counted, and raised by `flush`, once."""
    a = await world.lax()
    b = await world.strict()
    await b.inc("full", MAX)
    a.inc_nowait("full", 7)  # cold: nobody knows yet that it does not fit
    a.inc_nowait("k", 1)
    with pytest.raises(CounterOverflowError, match="full"):
        await a.flush()
    await a.flush()
    assert 0 == a.statistics().pending_keys
    assert 1 == a.statistics().refused_keys
    assert 1 == len([r for r in caplog.records if r.levelno == logging.ERROR])
    assert (MAX, 0) == await world.value(a, "full")
    assert (1, 1) == await world.value(a, "k")
    assert (MAX, MAX) == await b.get("full")
    # Not for ever: it can be counted again where there is room.
    a.dec_nowait("full", 7)
    await a.flush()
    assert (MAX - 7, -7) == await world.value(a, "full")


async def test_what_was_refused_in_the_background_is_raised_by_the_next_flush(
    world: World,
) -> None:
    """A regular flush that is refused tells nobody; the next `flush` does."""
    a = await world.lax(flush_interval=0.01)
    b = await world.strict()
    await b.inc("full", MIN)
    a.dec_nowait("full", 2)
    with trio.fail_after(5):
        while a.statistics().pending_keys:  # noqa: ASYNC110 - nothing sets an event
            await trio.sleep(0.01)
    assert 1 == a.statistics().refused_keys
    a.inc_nowait("k")
    with pytest.raises(CounterOverflowError, match="full"):
        await a.flush()
    assert (1, 0) == await b.get("k")


@pytest.mark.parametrize("flushes", [False, True])
async def test_each_refusal_of_a_key_is_counted(world: World, *, flushes: bool) -> None:
    """Else what watches the number sees nothing of counts that go on being lost."""
    a, b = await world.lax(flush_interval=0.01), await world.strict()
    await b.set("full", MAX)
    for times in (1, 2, 3):
        a.inc_nowait("full", 7)
        if flushes:
            with pytest.raises(CounterOverflowError, match="full: 7"):
                await a.flush()
        with trio.fail_after(5):
            while a.statistics().pending_keys:  # noqa: ASYNC110 - nothing sets an event
                await trio.sleep(0.01)
        assert times == a.statistics().refused_keys
    if not flushes:
        with pytest.raises(CounterOverflowError, match="full: 21"):
            await a.flush()
    assert 3 == a.statistics().refused_keys


async def test_overflow_that_is_known_here_is_raised_at_once(world: World) -> None:
    """What cannot fit according to the local view is refused by the operation itself."""
    a = await world.lax(flush_interval=60.0)
    a.inc_nowait("k", MAX)
    with pytest.raises(CounterOverflowError):
        a.inc_nowait("k")
    with pytest.raises(CounterOverflowError):
        a.bind("k").inc_nowait()
    with pytest.raises(CounterOverflowError):
        await a.inc("k")
    a.dec_nowait("k", 5)
    a.inc_nowait("k", 5)
    await a.flush()
    assert (MAX, MAX) == await world.value(a, "k")


async def test_counts_far_beyond_what_one_message_carries(world: World) -> None:
    """From one end of int64 to the other: what is pending may itself exceed int64."""
    a = await world.lax(flush_interval=60.0)
    b = await world.strict()
    a.inc_nowait("k", MAX)
    await a.flush()
    a.inc_nowait("k", MIN)
    assert (-1, -1) == a.get_nowait("k")
    a.inc_nowait("k", MIN + 1)
    assert (MIN, MIN) == a.get_nowait("k")
    await a.flush()
    assert (MIN, 0) == await b.get("k")


async def test_what_the_store_refuses_altogether_stays_pending(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """While the store answers with errors, counts stay, and are tried at heartbeat pace."""
    a = await world.lax()
    b = await world.strict()
    await a.inc("k", 1)
    await a.flush()
    world.wire(a).refuse(StoreError("OOM command not allowed"))
    a.inc_nowait("k", 5)
    with pytest.raises(StoreError, match="OOM") as info:
        await a.flush()
    assert not isinstance(info.value, StoreUnavailableError)
    assert (6, 6) == a.get_nowait("k")
    assert 1 == a.statistics().pending_keys
    counts = world.wire(a).counts
    refused, began = counts["refuse"], trio.current_time()

    async def tried_again() -> bool:
        return counts["refuse"] >= refused + 4

    await world.until(tried_again)
    assert 2.9 * world.interval <= trio.current_time() - began
    assert trio.current_time() - began <= 4.3 * world.interval + world.slack
    assert 1 == len([r for r in caplog.records if r.levelno == logging.ERROR])
    world.wire(a).refuse(None)
    await world.intervals(1.5)
    await world.has(b, "k", 6, 0)
    assert 0 == a.statistics().pending_keys


# --------------------------------------------------------------------- immediate operations


@pytest.mark.parametrize(
    ("operation", "arguments", "result", "after"),
    [
        ("set", ("k", 3), (3, 3), (3, 3)),
        ("delete", ("k",), (115, 15), (0, 0)),
        ("delete_on_instance", ("k",), (100, 15), (100, 0)),
        ("clear", (), None, (0, 0)),
        ("clear_on_instance", (), None, (100, 0)),
    ],
)
async def test_immediate_operations_come_after_the_pending_counts(
    world: World,
    operation: str,
    arguments: tuple[object, ...],
    result: object,
    after: tuple[int, int],
) -> None:
    """They act at once, behind what was counted before, and before what is counted after."""
    a = await world.lax(flush_interval=60.0)
    b = await world.strict()
    await b.inc("k", 100)
    await a.inc("k", 10)
    await a.flush()
    await a.get("k")
    a.inc_nowait("k", 5)
    assert (115, 15) == a.get_nowait("k")
    sent = len(batches(world, a))
    assert result == await getattr(a, operation)(*arguments)
    # In the same atomic step.
    assert sent + 1 == len(batches(world, a))
    assert after == a.get_nowait("k")
    assert after[0] == (await b.get("k")).cumulative
    a.inc_nowait("k", 2)
    await a.flush()
    assert (after[0] + 2, after[1] + 2) == await world.value(a, "k")
    assert after[0] + 2 == (await b.get("k")).cumulative


async def test_counts_made_while_a_clear_is_on_its_way_survive(world: World) -> None:
    """What is counted after the call of `clear` is not cleared."""
    a = await world.lax(flush_interval=60.0)
    b = await world.strict()
    a.inc_nowait("k", 5)
    world.wire(a).hold()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(a.clear)
        await trio.sleep(0.01)
        a.inc_nowait("k", 2)
        world.wire(a).release()
    assert (2, 2) == await a.get("k")
    await a.flush()
    assert (2, 2) == await world.value(a, "k")
    assert (2, 0) == await b.get("k")


async def test_counts_made_while_a_set_is_on_its_way_survive(world: World) -> None:
    """What is counted after the call of `set` is added to it."""
    a = await world.lax(flush_interval=60.0)
    b = await world.strict()
    a.inc_nowait("k", 5)
    world.wire(a).hold()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(a.set, "k", 50)
        await trio.sleep(0.01)
        a.inc_nowait("k", 2)
        world.wire(a).release()
    await a.flush()
    assert (52, 52) == await world.value(a, "k")
    assert (52, 0) == await b.get("k")


# ----------------------------------------------------------------------------------- idle


async def test_an_idle_counter_costs_one_heartbeat_per_interval(world: World) -> None:
    """And wakes up for nothing else, such as a look at the store's settings."""
    a = await world.lax(heartbeat_interval=3.5, dead_instance_threshold=30.0)
    a.inc_nowait("k")
    await a.flush()
    await trio.sleep(1)
    wakeups = Wakeups()
    first = len(world.tap(a).seen)
    trio.lowlevel.add_instrument(wakeups)
    await trio.sleep(350)
    trio.lowlevel.remove_instrument(wakeups)
    beats = world.tap(a).seen[first:]
    assert 99 <= len(beats) <= 101
    assert all(isinstance(request, Apply) and not request.entries for _, request, _ in beats)
    # The clock moves when all tasks wait, so each moment of waking is one jump of it.
    assert len(wakeups.moments) <= 103


async def test_a_strict_counter_idles_as_cheaply(world: World) -> None:
    """One heartbeat per interval, and nothing else."""
    a = await world.strict(heartbeat_interval=3.0)
    await a.inc("k")
    first = len(world.tap(a).seen)
    await trio.sleep(300)
    assert 99 <= len(world.tap(a).seen) - first <= 101


async def test_what_a_finalizer_counts_in_the_midst_of_a_count_is_kept(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The collector of garbage may run between any two steps of a program."""
    counter = await world.lax()
    check = counter._check

    def collect(*args: Any) -> None:
        monkeypatch.setattr(counter, "_check", check)
        counter.inc_nowait("k", 10)
        check(*args)

    monkeypatch.setattr(counter, "_check", collect)
    counter.inc_nowait("k")
    await counter.flush()
    assert {"k": 11} == counter.own_slices()


async def test_a_busy_counter_needs_no_heartbeats(world: World) -> None:
    """Every batch is a sign of life."""
    a = await world.strict(heartbeat_interval=3.0)
    first = len(world.tap(a).seen)
    for _ in range(300):
        await a.inc("k")
        await trio.sleep(1)
    assert len(world.tap(a).seen) - first <= 301


class Wakeups(trio.abc.Instrument):
    """Notes the moments at which any task ran."""

    def __init__(self) -> None:
        self.moments: set[float] = set()

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """Note the time."""
        self.moments.add(trio.current_time())


def test_the_defaults_are_those_of_the_documentation() -> None:
    """20 ms each (docs/semantics.md, Times)."""
    counter = LaxInstanceAwareCounter("p", "memory://")
    assert 0.02 == counter._allowed_lag
    assert 0.02 == counter._actor._timers.flush_interval


@pytest.mark.parametrize("sign", [1, -1])
async def test_counting_goes_on_where_it_is_no_longer_quick(world: World, sign: int) -> None:
    """Much that is pending is counted exactly too, with and without the key."""
    counter = await world.lax()
    bound = counter.bind("k")
    total = 0
    for count in (2**30 - 3, 1, 1, 1, 1, 2**40, 1, -(2**40), -3, 1, -(2**31), 5):
        counter.inc_nowait("k", sign * count)
        bound.inc_nowait(sign * count)
        total += 2 * sign * count
        assert await counter.get("k") == (total, total)
    await counter.flush()
    assert await (await world.strict()).get("k") == (total, 0)


# ------------------------------------------------------------------------- a store far away


class Far(Store):
    """A store whose answers take their time, and are known to be late after two seconds."""

    def __init__(self, inner: Store, trip: float, kind: type[FarLink]) -> None:
        self.inner = inner
        self.trip = trip
        self._kind = kind

    @asynccontextmanager
    async def link(self, prefix: str) -> AsyncIterator[Link]:
        async with self.inner.link(prefix) as link:
            yield self._kind(self, link)


class FarLink(Link):
    patience = 2.0
    connected = True

    def __init__(self, store: Far, inner: Link) -> None:
        self._store = store
        self._inner = inner

    async def connect(self) -> None:
        await self._inner.connect()

    async def receive(self, request: Request) -> Reply:
        await trio.sleep(self._store.trip / 2)
        reply = await self._inner.exchange(request)
        await trio.sleep(self._store.trip / 2)
        return reply


class FarLinkWithoutPatience(FarLink):
    """One that does not say when an answer is late."""

    patience = float("inf")


@asynccontextmanager
async def far_away(
    trip: float, kind: type[FarLink] = FarLink
) -> AsyncIterator[tuple[Any, Any, Far]]:
    """A lax counter whose answers take ``trip`` seconds, and one whose answers take none."""
    inner = MemoryStore()
    far = Far(inner, trip, kind)
    async with (
        LaxInstanceAwareCounter.open("p", far) as a,
        StrictInstanceAwareCounter.open("p", inner) as b,
    ):
        await b.inc_all({"k": 5, "j": 6, "i": 7})
        yield a, b, far


BOTH_KINDS = pytest.mark.parametrize("kind", [FarLink, FarLinkWithoutPatience])


@BOTH_KINDS
@pytest.mark.parametrize("trip", [0.001, 0.3, 0.9])
async def test_a_first_read_waits_for_the_answer(
    trip: float, kind: type[FarLink], autojump_clock: trio.testing.MockClock
) -> None:
    """However far the store is away; also behind a request that is on its way already."""
    async with far_away(trip, kind) as (a, _, _):
        began = trio.current_time()
        found = await gather(
            each(a.get, "k"), each(a.inc, "j"), each(a.get_all, ["k", "i"]), each(a.get, "i")
        )
        assert [(5, 0), (7, 1), {"k": (5, 0), "i": (7, 0)}, (7, 0)] == found
        assert trio.current_time() - began <= 5 * trip + 0.01


async def test_a_first_read_waits_where_answers_have_become_slow(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with far_away(0.001) as (a, _, far):
        far.trip = 1.0
        assert (5, 0) == await a.get("k")


@BOTH_KINDS
async def test_a_known_value_is_read_anew_where_answers_take_long(
    kind: type[FarLink], autojump_clock: trio.testing.MockClock
) -> None:
    async with far_away(0.3, kind) as (a, b, _):
        for number in range(5, 9):
            assert (number, 0) == await a.get("k")
            await b.inc("k")
            await trio.sleep(1)


async def test_a_store_that_falls_silent_is_not_waited_for(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """For a known value not longer than ever; for others until it is known to be away."""
    async with far_away(0.001) as (a, _, far):
        assert (5, 0) == await a.get("k")
        await trio.sleep(1)
        far.trip = float("inf")
        began = trio.current_time()
        assert (5, 0) == await a.get("k")
        assert trio.current_time() - began <= 0.21
        assert (0, 0) == await a.get("j")
        assert trio.current_time() - began <= 2.51
        assert not a.statistics().connected
        for key in ("i", "j"):
            began = trio.current_time()
            assert (0, 0) == await a.get(key)
            assert trio.current_time() - began <= 0.21
        far.trip = 0.001
        await trio.sleep(20)
        assert (6, 0) == await a.get("j")
