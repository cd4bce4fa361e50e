"""The invariants I1 to I12, one after the other.

Faults in every order and number are the business of the model check and of the fault tier;
here each invariant has its plainest scenarios, in both stores.
"""

# ruff: noqa: SIM300 - expected == actual, all through

from __future__ import annotations

import logging
from itertools import cycle
from math import inf
from typing import Any

import pytest
import trio

from distkit_actors import (
    InstanceConflictError,
    LaxInstanceAwareCounter,
    OutcomeUnknownError,
    StoreUnavailableError,
)
from distkit_actors._actor._agenda import Agenda
from distkit_actors._instance._session_view import BULK
from distkit_actors._namespace._epochs import ARCHIVE_AT_LEAST, JOURNAL_KEPT
from distkit_actors._protocol._messages import Applied, Apply, Kind, Resume
from tests.behaviour.world import (
    MAX,
    MIN,
    Flavour,
    World,
    each,
    everywhere,
    gather,
    on_both,
    on_redis,
    outcome,
)

# ------------------------------------------------------------------------------ I1 sum


@on_both
async def test_i1_the_cumulative_is_the_sum_of_the_slices(world: World) -> None:
    """`C[k]` is the sum of the slices; every view agrees once it is quiet."""
    counters = [
        await world.strict(),
        await world.lax(),
        await world.strict(),
        await world.lax(),
    ]
    for step in range(12):
        counter = counters[step % 4]
        await counter.inc("k", (-1) ** step * (step + 1))
        await counter.dec("j", step)
    await world.settle()
    slices = [1 + 5 + 9, -2 - 6 - 10, 3 + 7 + 11, -4 - 8 - 12]
    assert [(sum(slices), own) for own in slices] == [
        await world.value(counter, "k") for counter in counters
    ]
    assert {-66} == {(await world.value(counter, "j")).cumulative for counter in counters}


@everywhere
async def test_i1_leaving_takes_the_own_slices(world: World, flavour: Flavour) -> None:
    """After a clean stop the sum is that of the others, at once."""
    a = await world.make(flavour)
    b = await world.make(flavour)
    await a.inc("k", 5)
    await a.inc("gone", -5)
    await world.settle()
    await b.inc("k", 2)
    await world.settle()
    await a.aclose()
    assert (2, 2) == await world.value(b, "k")
    assert (0, 0) == await world.value(b, "gone")


# ---------------------------------------------------------------------------- I2 epoch


@everywhere
@pytest.mark.parametrize("moves", ["set and delete", "clear"])
@pytest.mark.parametrize("fate", ["lives", "leaves", "dies", "returns"])
async def test_i2_older_slices_never_count_again(
    world: World, flavour: Flavour, moves: str, fate: str
) -> None:
    """After a move no older slice counts: not when its owner counts, leaves, dies or returns."""
    a = await world.make(flavour)
    b = await world.make(flavour)
    for key in ("x", "y", "z"):
        await a.inc(key, 10)
    await world.settle()
    if fate == "returns":
        await world.cut(a)
    if moves == "clear":
        await b.clear()
        expected = {"x": 0, "y": 0, "z": 0}
    else:
        await b.set("x", 100)
        await b.delete("y")
        expected = {"x": 100, "y": 0, "z": 10}
    if fate == "lives":
        for key in ("x", "y"):
            assert expected[key] == (await world.value(a, key)).cumulative
            assert (expected[key] + 1, 1) == await a.inc(key, 1)
            expected[key] += 1
        await world.settle()
    elif fate == "leaves":
        await a.aclose()
        expected["z"] = 0
    elif fate == "dies":
        await world.crash(a)
        await world.reaped(a, by=b)
        await world.intervals(1)
        expected["z"] = 0
    else:
        if moves != "clear":
            await world.reaped(a, by=b)
        await world.rejoin(a)
        assert (expected["x"], 0) == await world.value(a, "x")
    assert expected == {key: (await world.value(b, key)).cumulative for key in expected}


# ---------------------------------------------------------------------------- I3 death


@everywhere
async def test_i3_the_next_operation_is_free_of_the_dead(world: World, flavour: Flavour) -> None:
    """The first operation after the threshold reaps the keys it touches before it answers."""
    a = await world.make(flavour)
    # This one beats rarely enough not to reap by itself meanwhile.
    b = await world.make(flavour)
    for n in range(100):
        await a.inc(f"key-{n}", 3)
    await world.settle()
    await b.inc("key-77", 1)
    await world.settle()
    world.kill(a)
    await world.sees(b, "key-77", 1, 1)


@everywhere
async def test_i3_the_living_are_left_alone(world: World, flavour: Flavour) -> None:
    """Instances that beat keep their slices, however long, while others die."""
    a = await world.make(flavour)
    b = await world.make(flavour)
    c = await world.make(flavour)
    await a.inc("k", 1)
    await world.settle()
    await c.inc("k", 4)
    await world.settle()
    await world.crash(c)
    await world.reaped(c, by=b)
    assert (1, 0) == await world.value(b, "k")
    assert (1, 1) == await world.value(a, "k")


async def test_i3_silence_is_judged_by_each_ones_own_threshold(world: World) -> None:
    """Each instance is judged by the threshold it was made with."""
    short = await world.strict(dead_instance_threshold=6.0)
    long = await world.strict(dead_instance_threshold=60.0)
    b = await world.strict(dead_instance_threshold=6.0)
    await short.inc("k", 1)
    await long.inc("k", 2)
    world.kill(short, long)
    await trio.sleep(5.9)
    assert (3, 0) == await b.get("k")
    await trio.sleep(0.2)
    assert (2, 0) == await b.get("k")
    await trio.sleep(53.8)
    assert (2, 0) == await b.get("k")
    await trio.sleep(0.2)
    assert (0, 0) == await b.get("k")


async def test_i3_a_heartbeat_reaps_as_well(world: World) -> None:
    """The dead go although nobody operates."""
    a = await world.strict()
    await world.strict()
    for n in range(300):
        await a.inc(f"key-{n}")
    world.kill(a)
    await trio.sleep(world.threshold + 2 * world.interval)
    registry = world.registry
    assert {} == registry.sums


async def test_i3_a_thousand_dead_instances(world: World) -> None:
    """A thousand instances die at once; the survivor answers and the sums come right."""
    store = world.backend.store()
    b = await world.strict()
    async with trio.open_nursery() as nursery:
        for n in range(1000):
            ghost = type(b)(world.prefix, store, on_exit="linger", dead_instance_threshold=9.0)
            await nursery.start(ghost.run)
            await ghost.inc("k")
            await ghost.inc(f"key-{n}")
            await ghost.aclose()
    assert (1000, 0) == await b.get("k")
    await b.inc("k", 5)
    await trio.sleep(world.threshold + 1)
    assert (6, 6) == await b.inc("mine", 6)
    await world.sees(b, "k", 5, 5)
    registry = world.registry
    await world.intervals(2)
    assert {"k": 5, "mine": 6} == registry.sums


# --------------------------------------------------------------------------- I4 return


@everywhere
@pytest.mark.parametrize("first", ["operation", "heartbeat"])
async def test_i4_an_instance_that_returns_gets_everything_back(
    world: World, flavour: Flavour, first: str
) -> None:
    """All slices of a reaped instance return, before any of its operations."""
    a = await world.make(flavour)
    b = await world.make(flavour)
    await a.inc("plus", 3)
    await a.inc("minus", -4)
    await a.inc("huge", MAX)
    await a.inc("moved", 5)
    await world.settle()
    await world.cut(a)
    await world.reaped(a, by=b)
    for key in ("plus", "minus", "huge"):
        assert (0, 0) == await world.value(b, key)
    assert (8, 8) == await b.set("moved", 8)
    if first == "operation":
        async with trio.open_nursery() as nursery:
            nursery.start_soon(a.inc, "plus", 1)
            await trio.sleep(0.001)
            world.heal(a)
        await world.settle()
        await world.sees(b, "plus", 4, 0)
    else:
        world.heal(a)
        await world.sees(b, "plus", 3, 0)
    await world.sees(b, "minus", -4, 0)
    assert (MAX, 0) == await world.value(b, "huge")
    assert (8, 8) == await world.value(b, "moved")
    assert (8, 0) == await world.value(a, "moved")
    assert (-4, -4) == await world.value(a, "minus")


@everywhere
async def test_i4_thousands_of_keys_return(world: World, flavour: Flavour) -> None:
    """A return with more keys than one message holds is complete before the next operation."""
    a = await world.make(flavour)
    b = await world.strict()
    await gather(*(each(a.inc, f"key-{n}", n + 1) for n in range(2300)))
    await world.settle()
    await world.cut(a)
    await world.reaped(a, by=b)
    await world.rejoin(a)
    await a.inc("key-0", 1)
    await world.settle()
    assert (2, 0) == await b.get("key-0")
    for n in range(1, 2300, 230):
        assert (n + 1, 0) == await b.get(f"key-{n}")
    resumes = [r for r in world.requests(a) if isinstance(r, Resume)]
    assert 2 <= len(resumes)
    assert max(len(resume.claims) for resume in resumes) <= BULK


async def test_i4_holds_for_an_absence_of_almost_an_hour(world: World) -> None:
    """An absence up to the retention is survived, moves by others included."""
    a = await world.lax()
    b = await world.strict()
    await a.inc("k", 3)
    await a.inc("moved", 4)
    await world.cut(a)
    await world.reaped(a, by=b)
    await b.set("moved", 50)
    await trio.sleep(3590)
    a.inc_nowait("k", 1)
    await world.rejoin(a)
    assert (4, 0) == await b.get("k")
    assert (50, 50) == await b.get("moved")
    assert (50, 0) == await world.value(a, "moved")


@everywhere
async def test_i4_who_returns_is_judged_by_what_is_archived(world: World, flavour: Flavour) -> None:
    """Others have moved so many epochs meanwhile that the journal has only the last of them."""
    a, b = await world.make(flavour), await world.strict()
    for key in ("moved", "stays", "deleted"):
        await a.inc(key, 3)
    await a.inc("came to nothing", 1)
    hold = a.hold("came to nothing", 2)
    await hold.__aenter__()
    await a.dec("came to nothing", 3)
    await world.settle()
    await world.cut(a)
    await world.reaped(a, by=b)
    await b.set("moved", 50)
    await b.delete("deleted")
    await b.set("came to nothing", 7)
    for first in range(0, JOURNAL_KEPT + 2 * ARCHIVE_AT_LEAST, ARCHIVE_AT_LEAST):
        await b.set_all({f"room {first + n}": 0 for n in range(ARCHIVE_AT_LEAST)})
    await world.rejoin(a)
    await hold.__aexit__(None, None, None)
    await world.settle()
    assert (3, 3) == await world.value(a, "stays")
    for key, value in (("moved", 50), ("deleted", 0), ("came to nothing", 7)):
        assert (value, value) == await b.get(key)
        assert (value, 0) == await world.value(a, key)


async def test_i4_after_the_retention_forgotten_moves_take_the_slices(world: World) -> None:
    """Nothing that a forgotten move has made void comes back, after however long."""
    world.beat_slowly()
    a = await world.strict()
    b = await world.strict()
    await a.inc("k", 3)
    await world.cut(a)
    await world.reaped(a, by=b)
    await b.set("k", 50)
    await trio.sleep(3700)
    await b.delete("other")  # lets the store forget what is old
    await trio.sleep(100)
    await world.rejoin(a)
    assert (50, 50) == await b.get("k")
    assert (50, 0) == await a.get("k")


async def test_i8_own_reads_show_no_slice_that_a_forgotten_move_has_taken(world: World) -> None:
    """Not of a lax counter either, which shows what it has read before."""
    world.beat_slowly()
    a, b = await world.lax(), await world.strict()
    for key in ("k", "still"):
        await a.inc(key, 3)
        await a.get(key)
    await world.cut(a)
    await world.reaped(a, by=b)
    await b.set("k", 50)
    await trio.sleep(3700)
    await b.delete("other")  # lets the store forget what is old
    await trio.sleep(100)
    await world.rejoin(a)
    assert (0, 0) == (a.get_nowait("k").instance_count, a.get_nowait("still").instance_count)
    assert 1 == (await a.inc("k")).instance_count
    assert (51, 1) == await world.value(a, "k")
    assert ["k"] == await a.keys()


async def test_i4_so_they_do_however_many_messages_it_takes(world: World) -> None:
    """By the second part of its return an instance has read what is left of the journal."""
    world.beat_slowly()
    a, b = await world.strict(), await world.strict()
    keys = [f"key-{number}" for number in range(2300)]
    await a.inc_all(dict.fromkeys(keys, 1))
    await world.cut(a)
    await world.reaped(a, by=b)
    await b.set_all(dict.fromkeys(keys, 50))
    await trio.sleep(3700)
    for number in range(30):
        await b.delete(f"other-{number}")
    await trio.sleep(100)
    await world.rejoin(a)
    assert dict.fromkeys(keys, (50, 50)) == await b.get_all(keys)


# ------------------------------------------------------------------------- I5 blackout


@everywhere
async def test_i5_after_a_blackout_everyone_gets_a_fresh_threshold(
    world: World, flavour: Flavour
) -> None:
    """When all were silent, the first ones back do not reap the others; the dead go later."""
    a = await world.make(flavour)
    b = await world.make(flavour)
    ghost = await world.make(flavour)
    for counter, count in ((a, 1), (b, 2), (ghost, 4)):
        await counter.inc("k", count)
        await world.settle()
    await world.crash(ghost)
    await world.cut(a)
    await world.cut(b)
    await trio.sleep(1.5 * world.threshold)
    await world.rejoin(a)
    assert (7, 1) == await world.value(a, "k")
    await world.rejoin(b)
    assert (7, 2) == await world.value(b, "k")
    await world.reaped(ghost, by=a)
    assert (3, 1) == await world.value(a, "k")


async def test_i5_holds_for_any_length_of_silence(world: World) -> None:
    """Whatever the silence, no instance that comes back within a threshold is reaped."""
    a = await world.strict()
    b = await world.strict()
    await a.inc("k", 1)
    await b.inc("k", 2)
    for tenths in range(1, 31):
        await world.cut(a)
        await world.cut(b)
        await trio.sleep(tenths / 10 * world.threshold)
        await world.rejoin(a)
        assert (3, 1) == await a.get("k"), f"after {tenths / 10} thresholds"
        await world.rejoin(b)
        assert (3, 2) == await b.get("k")


@on_both
async def test_i5_the_ghosts_of_an_old_namespace_get_a_threshold_too(world: World) -> None:
    """A first instance that starts after long silence finds the old slices for a while."""
    a = await world.strict()
    await a.inc("k", 5)
    await world.crash(a)
    await trio.sleep(1.5 * world.threshold)
    b = await world.strict()
    assert (5, 0) == await b.get("k")
    await world.sees(b, "k", 0, 0)


# --------------------------------------------------------------------- I6 exactly once


@everywhere
@pytest.mark.parametrize("fault", ["drop_request", "drop_reply", "late_copy", "duplicate", "away"])
async def test_i6_every_operation_takes_effect_once(
    world: World, flavour: Flavour, fault: str
) -> None:
    """Whatever is lost or repeated on the way, each operation happens once."""
    a = await world.make(flavour)
    b = await world.make(flavour)
    await b.inc("k", 1000)
    await world.settle()
    wire = world.wire(a)

    async def struck() -> None:
        await wire.deliver_late_copies()
        getattr(wire, fault)()

    await struck()
    await a.inc("k", 1)
    await world.settle(a)
    await struck()
    await a.dec("k", 20)
    await world.settle(a)
    assert (981, 1000) == await world.value(b, "k")
    await struck()
    await a.set_on_instance("k", 7)
    await world.settle(a)
    await struck()
    assert (1000, 7) == await a.delete_on_instance("k")
    await struck()
    assert (5, 5) == await a.set("k", 5)
    assert (6, 1) == await world_inc(world, b)
    await struck()
    assert (6, 5) == await a.delete("k")
    assert (1, 1) == await world_inc(world, b)
    await struck()
    await a.clear()
    assert (1, 1) == await world_inc(world, b)
    await wire.deliver_late_copies()
    assert (1, 1) == await world.value(b, "k")
    assert (1, 0) == await world.value(a, "k")


async def world_inc(world: World, counter: object) -> object:
    """Count one, and have it in the store."""
    await world.value(counter, "k")  # type: ignore[arg-type]
    value = await counter.inc("k")  # type: ignore[attr-defined]
    await world.settle()
    return value


@everywhere
async def test_i6_an_unanswered_batch_outlives_its_senders_death(
    world: World, flavour: Flavour
) -> None:
    """A batch that was applied is recognised after its sender was reaped in between."""
    a = await world.make(flavour)
    b = await world.make(flavour)
    await b.inc("k", 100)
    await world.mark(a)
    await world.settle()
    async with trio.open_nursery() as nursery:
        if isinstance(a, LaxInstanceAwareCounter):
            a.inc_nowait("k", 10)
        else:
            nursery.start_soon(a.inc, "k", 10)
        async with world.reply_lost(a, _counts):
            assert (110, 100) == await world.value(b, "k")
            await world.reaped(a, by=b)
            assert (100, 100) == await world.value(b, "k")
    # The answer came from the record; the slices return with the next contact.
    await world.settle()
    await world.sees(b, "k", 110, 100)
    assert (110, 10) == await world.value(a, "k")


@on_both
async def test_i6_a_read_is_read_again_where_nobody_knows_what_became_of_its_batch(
    world: World,
) -> None:
    """It travels with a count on the same key, of which the store has lost the record."""
    a = await world.strict()
    b = await world.strict()
    await a.inc("k", 1)
    results: dict[str, object] = {}

    async def call(name: str, operation: Any) -> None:
        results[name] = await outcome(operation)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(call, "inc", each(a.inc, "k", 10))
        nursery.start_soon(call, "get", each(a.get, "k"))
        async with world.reply_lost(a, _counts):
            await world.backend.wipe(world.prefix)
            await b.set("k", 100)
    together = [e for r in world.requests(a) if isinstance(r, Apply) for e in r.entries if e.folded]
    assert [10] == list({entry.value for entry in together})
    assert {"inc": OutcomeUnknownError, "get": (100, 0)} == results


@on_both
@pytest.mark.parametrize("operation", ["set", "delete", "clear"])
async def test_i6_a_move_whose_record_is_lost_is_not_repeated(world: World, operation: str) -> None:
    """If the store lost its record of an unanswered move, the caller is told that nobody knows."""
    a = await world.strict()
    b = await world.strict()
    await a.inc("k", 1)
    await b.inc("k", 10)
    calls = {"set": each(a.set, "k", 50), "delete": each(a.delete, "k"), "clear": a.clear}
    results: list[object] = []

    async def call() -> None:
        results.append(await outcome(calls[operation]))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(call)
        async with world.reply_lost(a, _moves):
            await world.backend.wipe(world.prefix)
    assert [OutcomeUnknownError] == results
    executed = [
        request
        for _, request, reply in world.tap(a).seen
        if _moves(request) and isinstance(reply, Applied)
    ]
    assert 1 == len(executed)
    assert (3, 3) == await a.set("k", 3)
    await world.sees(b, "k", 3, 0)


def _moves(request: object) -> bool:
    return isinstance(request, Apply) and any(
        entry.kind in (Kind.MOVE, Kind.CLEAR) for entry in request.entries
    )


def _counts(request: object) -> bool:
    return isinstance(request, Apply) and any(
        entry.kind is Kind.ADD and entry.value for entry in request.entries
    )


@everywhere
async def test_i6_counts_whose_record_is_lost_are_folded_into_the_return(
    world: World, flavour: Flavour
) -> None:
    """If the store lost its record of unanswered counts, they are counted once all the same."""
    a = await world.make(flavour)
    b = await world.make(flavour)
    await a.inc("k", 1)
    await a.inc("removed", 5)
    await world.settle()
    results: list[object] = []

    async def count() -> None:
        results.append(await a.inc("k", 10))
        await world.settle(a)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(count)
        async with world.reply_lost(a, _counts):
            await world.backend.wipe(world.prefix)
    assert [(11, 11)] == results
    await world.sees(b, "k", 11, 0)
    assert (11, 11) == await world.value(a, "k")
    assert (5, 5) == await world.value(a, "removed")


# -------------------------------------------------------------------------- I7 healing


@everywhere
async def test_i7_after_a_loss_the_living_say_it_again(world: World, flavour: Flavour) -> None:
    """When the store has lost everything, one heartbeat of each brings the sums back."""
    a = await world.make(flavour)
    b = await world.make(flavour)
    await a.inc("k", 10)
    await a.inc("minus", -3)
    await world.settle()
    await b.inc("k", 5)
    await b.set("moved", 7)
    await world.settle()
    await world.backend.wipe(world.prefix)
    await world.intervals(1.5)
    c = await world.make(flavour)
    await world.has(c, "k", 15, 0)
    await world.has(c, "minus", -3, 0)
    await world.has(c, "moved", 7, 0)
    await world.has(a, "k", 15, 10)
    await world.has(b, "k", 15, 5)


@everywhere
@pytest.mark.parametrize("move", ["set", "delete", "clear"])
async def test_i7_a_loss_brings_no_invalidated_slice_back(
    world: World, flavour: Flavour, move: str
) -> None:
    """While the mover lives, what it made void stays void, though the store forgot the move."""
    a = await world.make(flavour)
    b = await world.make(flavour)
    await a.inc("k", 10)
    await world.settle()
    # A does not hear of the move before the store has forgotten it.
    await world.cut(a)
    if move == "set":
        await b.set("k", 4)
    elif move == "delete":
        await b.delete("k")
    else:
        await b.clear()
    await world.backend.wipe(world.prefix)
    await world.rejoin(a)
    await world.intervals(2.5)
    expected = 4 if move == "set" else 0
    await world.sees(a, "k", expected, 0)
    await world.has(b, "k", expected, expected)


@everywhere
async def test_i7_a_rollback_is_healed(world: World, flavour: Flavour) -> None:
    """A failover that loses acknowledged writes: they come back, and removed slices do not."""
    a = await world.make(flavour)
    b = await world.make(flavour)
    await a.inc("k", 10)
    await a.inc("removed", 3)
    await world.settle()
    await b.inc("k", 5)
    await world.settle()
    await world.backend.snapshot(world.prefix)
    await world.value(a, "k")
    await a.inc("k", 1)
    await a.delete_on_instance("removed")
    await b.set("moved", 9)
    await world.settle()
    await world.backend.roll_back(world.prefix)
    await world.intervals(1.5)
    await world.has(a, "k", 16, 11)
    await world.has(b, "k", 16, 5)
    await world.has(b, "removed", 0, 0)
    await world.has(a, "moved", 9, 0)


# ------------------------------------------------------------------------ I8 own reads


@everywhere
async def test_i8_an_instance_sees_its_own_writes(world: World, flavour: Flavour) -> None:
    """Whatever an instance has just written, its next read shows it."""
    a = await world.make(flavour)
    for n in range(1, 30):
        assert (n, n) == await a.inc("k")
        assert (n, n) == await a.get("k")
        if n % 10 == 0:
            await world.settle()
    await a.set("k", 5)
    assert (5, 5) == await a.get("k")
    await a.set_on_instance("k", 3)
    assert (3, 3) == await a.get("k")
    await a.delete("k")
    assert (0, 0) == await a.get("k")


@on_both
async def test_i8_a_lax_read_never_dips(world: World) -> None:
    """Through flushes, refusals, lost requests and lost replies the own count only grows."""
    a = await world.lax(flush_interval=0.005, allowed_lag=0.005)
    await a.inc("k")
    await a.flush()
    wire = world.wire(a)
    last = 1
    for step in range(120):
        if step % 20 == 5:
            wire.drop_reply()
        if step % 20 == 15:
            wire.drop_request()
        a.inc_nowait("k")
        last += 1
        assert (last, last) == a.get_nowait("k")
        await trio.sleep(0.001)
        assert (last, last) == a.get_nowait("k")
    await a.flush()
    assert (last, last) == await world.value(a, "k")


# ----------------------------------------------------------------------------- I9 stop


@on_both
async def test_i9_a_clean_stop_leaves_nothing_unflushed(world: World) -> None:
    """What was counted up to the stop is in the store after it."""
    a = await world.lax(
        on_exit="linger", flush_interval=100.0, dead_instance_threshold=100 * world.threshold
    )
    b = await world.strict()
    for n in range(1500):
        a.inc_nowait(f"key-{n}", 2)
    await a.aclose()
    assert 0 == a.statistics().pending_keys
    for n in range(0, 1500, 300):
        assert (2, 0) == await b.get(f"key-{n}")


@on_both
async def test_i9_what_could_not_be_flushed_is_reported(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a store the stop ends after the grace: logged, in the statistics, and raised."""
    a = world.build("lax", exit_grace=0.2)
    world.tolerate(a)
    await world.start(a)
    a.inc_nowait("x")
    await a.flush()
    world.wire(a).cut()
    a.inc_nowait("x")
    a.inc_nowait("y")
    began = trio.current_time()
    with pytest.raises(StoreUnavailableError, match="2"):
        await a.aclose()
    assert 0.15 < trio.current_time() - began < 2
    assert 2 == a.statistics().pending_keys
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert 1 == len(errors)


# --------------------------------------------------------------------------- I10 bounds


@on_both
async def test_i10_churn_of_keys_leaves_nothing(world: World) -> None:
    """Keys that come and go leave nothing behind in the store once their slices are 0."""
    a = await world.strict()
    lax = await world.lax()
    await a.inc("base")
    lax.inc_nowait("base")
    await lax.flush()
    before = await world.backend.footprint(world.prefix)
    for n in range(200):
        await a.inc(f"key-{n}")
        lax.inc_nowait(f"other-{n}")
    await lax.flush()
    assert before + 800 <= await world.backend.footprint(world.prefix)
    for n in range(200):
        await a.dec(f"key-{n}")
        lax.dec_nowait(f"other-{n}")
    await lax.flush()
    # A busy machine may not be heard for a while, and the store writes down when that ended.
    assert await world.backend.footprint(world.prefix) - before in (0, 1)


async def test_i10_epochs_of_deleted_keys_are_forgotten(world: World) -> None:
    """The moves of keys that are gone do not pile up, in the store or in the instances."""
    world.beat_slowly()
    a = await world.strict()
    b = await world.lax()
    before = await world.backend.footprint(world.prefix)
    for n in range(1000):
        await a.set(f"key-{n}", 1)
        await a.delete(f"key-{n}")
        if n % 20 == 0:
            await trio.sleep(30)
            b.inc_nowait(f"key-{n}")
            b.dec_nowait(f"key-{n}")
    await trio.sleep(3600)
    for _ in range(20):
        await a.delete("last")
        await trio.sleep(60)
    assert await world.backend.footprint(world.prefix) <= before + 100
    await b.get("last")
    assert len(a._actor._session.moves) <= 200
    assert len(b._buffer.buffered_keys) <= 10


async def test_i10_departed_instances_are_forgotten(world: World) -> None:
    """Instances that left or died leave one small record, and after the retention nothing."""
    b = await world.strict()
    before = await world.backend.footprint(world.prefix)
    for n in range(30):
        a = await world.strict()
        for k in range(20):
            await a.inc(f"key-{k}")
        if n % 2:
            await a.aclose()
        else:
            world.kill(a)
    await trio.sleep(2 * world.threshold)
    assert before + 30 == await world.backend.footprint(world.prefix)
    await trio.sleep(3700)
    for _ in range(30):
        await b.get("k")
    assert before == await world.backend.footprint(world.prefix)


@pytest.mark.parametrize("keys", [0, 1000])
async def test_i10_the_last_who_leaves_takes_along_who_has_died(world: World, keys: int) -> None:
    """No heartbeat comes any more that would find the death: the namespace would stay for ever."""
    a = await world.strict()
    b = await world.strict()
    await trio.sleep(world.interval / 2)
    await a.inc_all({f"key-{n}": 1 for n in range(40)})
    world.kill(a)
    if keys:
        await b.inc_all({f"key-{n}": 1 for n in range(keys)})
    await trio.sleep(world.threshold + world.interval / 4)
    assert world.registry.total("key-1") == 1 + bool(keys)
    await b.aclose()
    assert world.registry.sums == world.registry.reap_queue == {}
    assert world.registry.expiring.keys() == {a.instance_id, b.instance_id}


@on_redis
@pytest.mark.parametrize("end", ["leaves", "dies"])
async def test_i10_one_key_remains_of_a_departed_instance(world: World, end: str) -> None:
    """In Redis a departed instance leaves one key at most, and that has a time to live."""
    a = await world.strict(instance_id="the-departed")
    b = await world.strict()
    for n in range(50):
        await a.inc(f"key-{n}")
    if end == "leaves":
        await a.aclose()
    else:
        await world.crash(a)
        await world.reaped(a, by=b)
        await world.intervals(2)
    names = await world.backend.names(world.prefix)  # type: ignore[attr-defined]
    remains = [name for name in names if "the-departed" in name]
    assert len(remains) <= 1
    for name in remains:
        ttl = await world.backend.server.command_async("TTL", name)  # type: ignore[attr-defined]
        assert 0 < ttl <= 3600


@everywhere
async def test_i10_others_moves_come_back_with_the_heartbeat(
    world: World, flavour: Flavour
) -> None:
    """An idle instance hears of moves, and drops what they made stale, here and there."""
    a = await world.make(flavour)
    b = await world.strict()
    await b.inc("base")
    before = await world.backend.footprint(world.prefix)
    for n in range(50):
        await a.inc(f"key-{n}")
    await world.settle()
    for n in range(50):
        await b.delete(f"key-{n}")
    await world.intervals(2)

    async def dropped() -> bool:
        return not any(key.startswith("key") for key in a._actor._session.slices)

    if world.backend.name == "memory":
        assert await dropped()
    await world.until(dropped)
    # One epoch for each key (in a table, perhaps) remains until the retention is over.
    assert await world.backend.footprint(world.prefix) <= before + 50 + 3


@everywhere
async def test_i10_big_removals_go_in_bounded_steps(world: World, flavour: Flavour) -> None:
    """No step of a big clear or leave removes more than some hundred slices."""
    a = await world.make(flavour)
    b = await world.strict()
    await gather(*(each(a.inc, f"key-{n}") for n in range(2200)))
    await world.settle()
    await a.clear_on_instance()
    await gather(*(each(a.inc, f"key-{n}") for n in range(2200)))
    await world.settle()
    await a.aclose()
    sizes = [
        len(r.entries)
        for r in world.requests(a)
        if isinstance(r, Apply) and any(entry.kind is Kind.PUT for entry in r.entries)
    ]
    assert BULK >= max(sizes)
    if world.backend.name == "memory":  # elsewhere the time decides what comes together
        assert BULK == max(sizes)
    for n in range(0, 2200, 440):
        assert (0, 0) == await b.get(f"key-{n}")


# ------------------------------------------------------------------------ I11 one owner


@everywhere
async def test_i11_the_newer_takes_over_and_starts_empty(world: World, flavour: Flavour) -> None:
    """The older gets InstanceConflictError and changes nothing more; its slices go at once."""
    old = await world.make(flavour, instance_id="me")
    b = await world.make(flavour)
    await old.inc("k", 5)
    await world.settle()
    await b.inc("k", 1)
    await world.settle()
    new = await world.make(flavour, instance_id="me")
    assert (1, 1) == await world.value(b, "k")
    assert (1, 0) == await world.value(new, "k")
    await world.value(new, "k")
    assert (3, 2) == await new.inc("k", 2)
    await world.settle(new)
    world.tolerate(old)
    with pytest.raises(InstanceConflictError):
        await old.set("k", 50)
    for _ in range(2):
        with pytest.raises(InstanceConflictError):
            await old.inc("k", 50)
        with pytest.raises(InstanceConflictError):
            await old.get("k")
        with pytest.raises(InstanceConflictError):
            await old.clear()
    await old.aclose()
    assert (3, 2) == await world.value(new, "k")
    assert (3, 1) == await world.value(b, "k")


@everywhere
async def test_i11_with_inherit_the_newer_continues(world: World, flavour: Flavour) -> None:
    """With inherit=True the newcomer continues its predecessor's counts."""
    old = await world.make(flavour, instance_id="me", on_exit="linger")
    b = await world.make(flavour)
    await old.inc("k", 5)
    await old.inc("minus", -2)
    await world.settle()
    await b.delete("moved")
    await old.aclose()
    assert (5, 0) == await world.value(b, "k")
    new = await world.make(flavour, instance_id="me", inherit=True)
    assert (5, 5) == await world.value(new, "k")
    assert (6, 6) == await new.inc("k")
    assert (-2, -2) == await world.value(new, "minus")
    await world.settle(new)
    assert (6, 0) == await world.value(b, "k")
    assert (0, -2) == await new.delete_on_instance("minus")


@on_both
async def test_i11_inherit_of_thousands_of_keys_without_the_stale(world: World) -> None:
    """What is inherited is complete, and does not contain what a move has made void."""
    old = await world.lax(instance_id="me", on_exit="linger")
    b = await world.strict()
    for n in range(2300):
        old.inc_nowait(f"key-{n}", n + 1)
    await old.flush()  # which takes as long as it takes
    await old.aclose()
    await b.set("key-5", 1000)
    new = await world.strict(instance_id="me", inherit=True)
    for n in (0, 1, 999, 1000, 1999, 2299):
        assert (n + 1, n + 1) == await new.get(f"key-{n}")
    assert (1000, 0) == await new.get("key-5")


@on_both
async def test_i11_nothing_is_inherited_once_reaping_has_begun(world: World) -> None:
    """From a predecessor that was found dead the newcomer inherits nothing."""
    old = await world.strict(instance_id="me")
    b = await world.strict()
    await old.inc("k", 5)
    await world.crash(old)
    await world.reaped(old, by=b)
    new = await world.strict(instance_id="me", inherit=True)
    assert (0, 0) == await new.get("k")
    assert (1, 1) == await new.inc("k")


@on_both
async def test_i11_nothing_is_inherited_from_one_that_left(world: World) -> None:
    """Whoever left has taken its slices along."""
    old = await world.strict(instance_id="me")
    await old.inc("k", 5)
    await old.aclose()
    new = await world.strict(instance_id="me", inherit=True)
    assert (0, 0) == await new.get("k")


@everywhere
async def test_i11_the_fence_outlives_the_newer(world: World, flavour: Flavour) -> None:
    """After the newer has left again the older still may change nothing."""
    old = await world.make(flavour, instance_id="me")
    b = await world.strict()
    await old.inc("k", 5)
    await world.settle()
    world.wire(old).cut()
    world.tolerate(old)
    new = await world.make(flavour, instance_id="me")
    await new.aclose()
    world.wire(old).heal()
    with pytest.raises(InstanceConflictError):
        await old.delete("k")
    assert (0, 0) == await b.get("k")


@on_both
async def test_i11_a_fenced_lax_counter_loses_what_it_counted_and_says_so(world: World) -> None:
    """Counts that were pending when the newer took over are refused, and flush says so."""
    old = await world.lax(instance_id="me", flush_interval=100.0)
    world.tolerate(old)
    new = await world.strict(instance_id="me")
    old.inc_nowait("k", 5)
    with pytest.raises(InstanceConflictError):
        await old.flush()
    with pytest.raises(InstanceConflictError):
        old.inc_nowait("k", 5)
    with pytest.raises(InstanceConflictError):
        old.get_nowait("k")
    assert (0, 0) == await new.get("k")


# ------------------------------------------------------------------------- I12 overflow


@on_both
async def test_i12_a_death_that_would_overflow_waits(world: World) -> None:
    """A dead slice that the sum cannot do without waits until it can; statistics show it."""
    a = await world.strict()
    b = await world.strict()
    c = await world.strict()
    await a.inc("k", MIN)
    await a.inc("other", 3)
    await b.inc("k", MAX)
    await c.inc("k", MAX)
    await world.crash(a)
    await world.reaped(a, by=b)
    assert (MAX - 1, MAX) == await b.get("k")
    assert (0, 0) == await b.get("other")
    assert 1 == b.statistics().stuck_slices
    await c.dec("k", MAX)
    await world.sees(b, "k", MAX, MAX)
    await world.intervals(2)
    assert 0 == b.statistics().stuck_slices


@on_both
async def test_i12_a_leave_that_would_overflow_waits(world: World) -> None:
    """A leaver's slice that the sum cannot do without stays behind until it can go."""
    a = await world.strict()
    b = await world.strict()
    c = await world.strict()
    await a.inc("k", MIN)
    await a.inc("other", 3)
    await b.inc("k", MAX)
    await c.inc("k", MAX)
    await a.aclose()
    assert (MAX - 1, MAX) == await b.get("k")
    assert (0, 0) == await b.get("other")
    await c.dec("k", MAX)
    await world.sees(b, "k", MAX, MAX)


@on_both
async def test_i12_a_return_that_would_overflow_waits(world: World) -> None:
    """A slice that does not fit when its owner returns waits with its owner."""
    a = await world.strict()
    b = await world.strict()
    await a.inc("k", MAX)
    await a.inc("other", 3)
    await world.cut(a)
    await world.reaped(a, by=b)
    await b.inc("k", 10)
    await world.rejoin(a)
    assert (10, 0) == await a.get("k")
    assert (3, 3) == await a.get("other")
    assert 1 == a.statistics().withheld_slices
    assert (11, 1) == await a.inc("k")
    await b.dec("k", 11)
    await world.intervals(2)
    # 1 counted meanwhile and MAX from before do not fit into one slice: it still waits.
    assert (0, 1) == await a.get("k")
    assert 1 == a.statistics().withheld_slices
    await a.dec("k")
    await world.sees(a, "k", MAX - 1, MAX)
    assert 0 == a.statistics().withheld_slices


async def test_i12_what_waits_for_room_is_not_tried_between_the_steps_of_an_operation(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its results would be taken for those of a step."""
    a = await world.strict()
    b = await world.strict()
    keys = [f"key {number}" for number in range(2500)]
    await a.inc("k", MAX)
    await a.set_all_on_instance(dict.fromkeys(keys, 1))
    await world.cut(a)
    await world.reaped(a, by=b)
    await b.inc("k", 10)
    await world.rejoin(a)
    await a.get("k")
    assert 1 == a.statistics().withheld_slices
    turns = cycle([True, False])
    monkeypatch.setattr(Agenda, "_retry_due", lambda *_: next(turns))
    await a.clear_on_instance()
    assert not [key for key in await b.keys() if key != "k"]
    assert (10, 0) == await a.get("k")


async def test_i9_a_stop_does_not_try_again_and_again_what_has_no_room(world: World) -> None:
    """Holds that have ended, of which none can be taken back now."""
    a = await world.strict(on_exit="linger", exit_grace=inf)
    b = await world.strict()
    c = await world.strict()
    world.tolerate(a)

    async def stop() -> None:
        with pytest.raises(StoreUnavailableError, match="stopped with 2 counts"):
            await a.aclose()

    await b.inc("k", MIN)
    async with a.hold("k", 3), a.hold("k", 4):
        await c.inc("k", -7)
        world.wire(a).hold()
    sent = len(world.requests(a))
    with trio.fail_after(world.threshold):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stop)
            await trio.sleep(0.1)
            world.wire(a).release()
    assert len(world.requests(a)) - sent < 10


@on_both
async def test_i12_healing_that_would_overflow_waits(world: World) -> None:
    """A slice that does not fit when the store has lost everything waits with its owner."""
    a = await world.strict()
    b = await world.strict()
    await b.inc("k", MIN)
    await a.inc("k", MAX)
    c = await world.strict()
    await c.inc("k", 1)
    world.wire(b).cut()
    await world.backend.wipe(world.prefix)
    # Without b's there is no room for both of the others.
    await world.until(lambda: _withheld(a, c))
    world.wire(b).heal()
    await world.sees(b, "k", 0, MIN)
    await world.until(lambda: _none_withheld(a, c))
    assert (0, MAX) == await a.get("k")
    assert (0, 1) == await c.get("k")


async def _withheld(*counters: object) -> bool:
    return 1 == sum(c.statistics().withheld_slices for c in counters)  # type: ignore[attr-defined]


async def _none_withheld(*counters: object) -> bool:
    return 0 == sum(c.statistics().withheld_slices for c in counters)  # type: ignore[attr-defined]
