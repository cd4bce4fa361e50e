"""What the reference implementation gets wrong, one scenario for each of H1 to H17.

`test_defects_are_caught.py` runs these scenarios with the defects put back.
"""

# ruff: noqa: SIM300 - expected == actual, all through

from __future__ import annotations

import pytest
import trio
import trio.lowlevel
import trio.testing

from distkit_actors import LaxInstanceAwareCounter
from distkit_actors._protocol._messages import Applied, Apply
from tests.behaviour.world import MAX, MIN, Flavour, World, each, everywhere, gather, on_both


@everywhere
async def test_h1_death_after_a_set_takes_nothing(world: World, flavour: Flavour) -> None:
    """A inc 10, B set 100, A dies: 100, not 90."""
    a = await world.make(flavour)
    b = await world.make(flavour)
    await a.inc("k", 10)
    await world.settle()
    assert (100, 100) == await b.set("k", 100)
    world.kill(a)
    # Its slice of "k" was void when it died: what shows the death is another one.
    c = await world.make(flavour)
    await c.inc("k", 1)
    await world.crash(c)
    await world.reaped(c, by=b)
    await world.intervals(1)
    assert (100, 100) == await world.value(b, "k")


@everywhere
async def test_h2_death_after_a_delete_takes_nothing(world: World, flavour: Flavour) -> None:
    """A inc 10, B delete, B inc 1, A dies: 1, not -9."""
    a = await world.make(flavour)
    b = await world.make(flavour)
    await a.inc("k", 10)
    await world.settle()
    assert (10, 0) == await b.delete("k")
    assert (1, 1) == await b.inc("k", 1)
    world.kill(a)
    c = await world.make(flavour)
    await world.crash(c)
    await world.reaped(c, by=b)
    await world.intervals(1)
    assert (1, 1) == await world.value(b, "k")


@everywhere
async def test_h3_the_first_one_back_does_not_reap_the_rest(world: World, flavour: Flavour) -> None:
    """All are silent past the threshold: the first one back leaves the others their slices."""
    a = await world.make(flavour)
    b = await world.make(flavour)
    await a.inc("k", 75)
    await world.settle()
    await b.inc("k", 25)
    await world.settle()
    await world.cut(a)
    await world.cut(b)
    await trio.sleep(2 * world.threshold)
    await world.rejoin(b)
    assert (100, 25) == await world.value(b, "k")
    await world.rejoin(a)
    assert (100, 75) == await world.value(a, "k")
    assert (100, 25) == await world.value(b, "k")


@everywhere
async def test_h4_thousands_of_keys_on_a_dead_instance(world: World, flavour: Flavour) -> None:
    """A dead instance with more keys than `unpack` can take stops nobody, and goes."""
    keys = [f"key-{n}" for n in range(8200)]
    a = await world.lax()
    b = await world.make(flavour)
    for key in keys:
        a.inc_nowait(key, 2)
    await a.flush()
    await b.inc(keys[-1], 5)
    await world.settle(b)
    await world.crash(a)
    await world.reaped(a, by=b)
    assert (5, 5) == await world.value(b, keys[-1])

    async def all_gone() -> bool:
        return (await world.value(b, keys[0])).cumulative == 0 == len(await left())

    async def left() -> list[str]:
        some = keys[::500]
        return [key for key in some if (await world.value(b, key)).cumulative]

    await world.until(all_gone)
    assert (6, 6) == await b.inc(keys[-1])


@everywhere
@pytest.mark.parametrize("start", [2**53, MAX - 10, -(2**53) - 2, MIN + 10])
async def test_h5_values_beyond_the_floats_are_exact(
    world: World, flavour: Flavour, start: int
) -> None:
    """Above 2**53 every value is exact, alone and as a sum."""
    a = await world.make(flavour)
    b = await world.make(flavour)
    assert (start + 1, start + 1) == await a.inc("k", start + 1)
    await world.settle()
    assert (start + 3, 2) == await b.inc("k", 2)
    await world.settle()
    assert (start + 3, start + 1) == await world.value(a, "k")
    assert (start + 3, start + 1) == await a.delete("k")
    assert (start + 7, start + 7) == await a.set("k", start + 7)
    assert (start + 7, 0) == await world.value(b, "k")


@everywhere
async def test_h6_negative_slices_return_too(world: World, flavour: Flavour) -> None:
    """An instance that was reaped while it lived gets its negative slices back as well."""
    a = await world.make(flavour)
    b = await world.make(flavour)
    await a.inc("plus", 7)
    await a.dec("minus", 7)
    await world.cut(a)
    await world.reaped(a, by=b)
    assert (0, 0) == await world.value(b, "plus")
    assert (0, 0) == await world.value(b, "minus")
    await world.rejoin(a)
    assert (7, 7) == await world.value(a, "plus")
    assert (-7, -7) == await world.value(a, "minus")
    assert (-7, 0) == await world.value(b, "minus")


@everywhere
@pytest.mark.parametrize("fault", ["drop_request", "drop_reply"])
@pytest.mark.parametrize("move", ["set", "delete", "delete_on_instance", "clear"])
async def test_h7_a_failed_flush_neither_loses_nor_doubles(
    world: World, flavour: Flavour, fault: str, move: str
) -> None:
    """Counts before an immediate operation arrive once, whatever fails on the way."""
    a = await world.make(flavour)
    b = await world.make(flavour)
    await b.inc("k", 100)
    await world.settle()
    await a.inc("k", 5)
    await a.inc("other", 3)
    await world.settle()
    await a.inc("k", 10)
    getattr(world.wire(a), fault)()
    if move == "set":
        assert (7, 7) == await a.set("k", 7)
        expected = (7, 7)
    elif move == "delete":
        assert (115, 15) == await a.delete("k")
        expected = (0, 0)
    elif move == "delete_on_instance":
        assert (100, 15) == await a.delete_on_instance("k")
        expected = (100, 0)
    else:
        await a.clear()
        expected = (0, 0)
    assert expected == await world.value(a, "k")
    getattr(world.wire(a), fault)()
    await a.inc("k", 4)
    await world.settle()
    assert (expected[0] + 4, expected[1] + 4) == await world.value(a, "k")
    assert expected[0] + 4 == (await world.value(b, "k")).cumulative


@on_both
async def test_h8_reads_do_not_dip_during_a_flush(world: World) -> None:
    """While a flush is on its way, a lax read shows what was counted before."""
    a = await world.lax()
    b = await world.strict()
    await a.inc("k", 5)
    await a.flush()
    a.inc_nowait("k", 10)
    world.wire(a).hold()
    for _ in range(20):
        assert (15, 15) == a.get_nowait("k")
        await trio.sleep(0.005)
    a.inc_nowait("k", 1)
    assert (16, 16) == a.get_nowait("k")
    world.wire(a).release()
    for _ in range(20):
        assert (16, 16) == a.get_nowait("k")
        await trio.sleep(0.005)
    await a.flush()
    assert (16, 16) == a.get_nowait("k")
    assert (16, 0) == await b.get("k")


@on_both
async def test_h8_the_last_counts_are_flushed_at_the_end(world: World) -> None:
    """A lax counter that stops has told the store everything."""
    # Lingering, so that the slices are still there to be seen.
    a = await world.lax(on_exit="linger", flush_interval=60.0)
    b = await world.strict()
    a.inc_nowait("k", 5)
    await a.aclose()
    assert (5, 0) == await b.get("k")


@everywhere
async def test_h9_the_dead_are_taken_away_in_small_steps(world: World, flavour: Flavour) -> None:
    """No operation does more than a bounded bit of reaping, however many dead keys wait."""
    ghosts = [await world.lax() for _ in range(4)]
    b = await world.make(flavour)
    for ghost in ghosts:
        for n in range(250):
            ghost.inc_nowait(f"key-{n}")
        await ghost.flush()
    world.kill(*ghosts)
    first = len(world.tap(b).seen)

    async def all_gone() -> bool:
        return all([(await world.value(b, f"key-{n}")).cumulative == 0 for n in range(0, 250, 50)])

    await world.until(all_gone)
    await world.intervals(1)
    steps = [
        (request, reply)
        for _, request, reply in world.tap(b).seen[first:]
        if isinstance(request, Apply) and isinstance(reply, Applied)
    ]
    assert max(request.budget for request, _ in steps) <= 50
    # A thousand slices, and nobody waited for all of them at once.  (On a busy machine the ghosts
    # may have done some of it, to each other.)
    assert any(reply.backlog for _, reply in steps)
    if world.backend.name == "memory":
        assert len([reply for _, reply in steps if reply.backlog]) >= 1000 / 50 - 1


@on_both
@pytest.mark.parametrize("crowd", [1, 7, 80, 3000])
async def test_h9_a_long_batch_takes_more_of_the_dead_away(world: World, crowd: int) -> None:
    """An operation that is alone hardly feels the dead; where many wait, more can go."""
    a = await world.strict(mailbox_size=crowd)
    world.wire(a).hold()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(a.get, "on its way while they come")
        await trio.testing.wait_all_tasks_blocked()
        first = len(world.requests(a))
        for n in range(crowd):
            nursery.start_soon(a.inc, f"key-{n % 10}")
        await trio.testing.wait_all_tasks_blocked()
        world.wire(a).release()
    steps = [r for r in world.requests(a)[first:] if isinstance(r, Apply) and r.entries]
    budget = max(request.budget for request in steps)
    assert {1: 8, 7: 8, 80: 18, 3000: 128}[crowd] == budget


@everywhere
@pytest.mark.parametrize("fault", ["drop_request", "drop_reply", "late_copy"])
async def test_h10_a_big_batch_repeated_counts_once(
    world: World, flavour: Flavour, fault: str
) -> None:
    """A batch of hundreds of keys whose answer is lost is repeated, and counts once."""
    a = await world.make(flavour)
    b = await world.strict()
    keys = [f"key-{n}" for n in range(300)]
    getattr(world.wire(a), fault)(2)
    if isinstance(a, LaxInstanceAwareCounter):
        for key in keys:
            a.inc_nowait(key, 3)
        await a.flush()
    else:
        assert [(3, 3)] * 300 == await gather(*(each(a.inc, key, 3) for key in keys))
    if fault == "late_copy":
        await world.wire(a).deliver_late_copies()
    values = await gather(*(each(b.get, key) for key in keys))
    assert {(3, 0)} == set(values)


@everywhere
async def test_h11_a_batch_as_first_step_back_brings_everything(
    world: World, flavour: Flavour
) -> None:
    """A reaped instance whose first step back is a batch of counts gets its old slices back."""
    a = await world.make(flavour)
    b = await world.make(flavour)
    await a.inc("old", 10)
    await a.inc("both", 20)
    await world.settle()
    await world.cut(a)
    await world.reaped(a, by=b)
    async with trio.open_nursery() as nursery:
        if isinstance(a, LaxInstanceAwareCounter):
            a.inc_nowait("new", 1)
            a.inc_nowait("both", 1)
        else:
            nursery.start_soon(a.inc, "new", 1)
            nursery.start_soon(a.inc, "both", 1)
        await trio.lowlevel.checkpoint()
        world.heal(a)
    await world.settle(a)
    assert (10, 0) == await world.value(b, "old")
    assert (21, 0) == await world.value(b, "both")
    assert (1, 0) == await world.value(b, "new")
    assert (21, 21) == await world.value(a, "both")


@everywhere
async def test_h12_all_keys_return_not_only_the_touched_one(world: World, flavour: Flavour) -> None:
    """After an absence one operation on one key brings all keys back."""
    a = await world.make(flavour)
    b = await world.make(flavour)
    for n in range(20):
        await a.inc(f"key-{n}", n + 1)
    await world.cut(a)
    await world.reaped(a, by=b)
    await world.rejoin(a)
    assert (8, 8) == await world.value(a, "key-7")
    for n in range(20):
        assert (n + 1, 0) == await world.value(b, f"key-{n}")


@everywhere
async def test_h13_a_stale_slice_is_absent_for_its_owner(world: World, flavour: Flavour) -> None:
    """A inc 10, B set 100: A gets (100, 0), and its next inc starts from 0."""
    a = await world.make(flavour)
    b = await world.make(flavour)
    await a.inc("k", 10)
    await world.settle()
    await b.set("k", 100)
    assert (100, 0) == await world.value(a, "k")
    assert (101, 1) == await a.inc("k", 1)
    await world.settle()
    assert (101, 100) == await world.value(b, "k")


@everywhere
async def test_h14_clear_stays_cleared(world: World, flavour: Flavour) -> None:
    """The next operation of another instance does not bring back what `clear` took."""
    a = await world.make(flavour)
    b = await world.make(flavour)
    await a.inc("k", 10)
    await a.inc("j", 20)
    await world.settle()
    await b.clear()
    assert (0, 0) == await world.value(a, "k")
    assert (1, 1) == await a.inc("j", 1)
    await world.settle()
    assert (0, 0) == await world.value(b, "k")
    assert (1, 0) == await world.value(b, "j")


@everywhere
async def test_h15_a_stale_slice_is_not_removed_again(world: World, flavour: Flavour) -> None:
    """A inc 10, B set 100: A's clear_on_instance and delete_on_instance take nothing away."""
    a = await world.make(flavour)
    b = await world.make(flavour)
    for key in ("k", "j"):
        await a.inc(key, 10)
        await world.settle()
        await b.set(key, 100)
    assert (100, 0) == await a.delete_on_instance("k")
    await a.clear_on_instance()
    assert (100, 100) == await world.value(b, "k")
    assert (100, 100) == await world.value(b, "j")


@everywhere
async def test_h16_an_idle_instance_with_a_short_threshold_lives(
    world: World, flavour: Flavour
) -> None:
    """An instance that does nothing beats often enough for its own threshold."""
    a = await world.make(flavour)
    b = await world.make(flavour)
    await a.inc("k", 10)
    await world.settle()
    until = trio.current_time() + 3 * world.threshold
    while trio.current_time() < until:
        assert 10 == (await world.value(b, "k")).cumulative
        await world.intervals(1 / 4)


@on_both
async def test_h17_an_idle_reader_sees_what_others_count(world: World) -> None:
    """A lax reader that counts nothing itself lags by `allowed_lag` at most."""
    a = await world.lax(allowed_lag=0.05)
    b = await world.strict()
    assert (0, 0) == await a.get("k")
    for n in range(1, 4):
        await b.inc("k")
        await trio.sleep(0.06)
        assert (n, 0) == await a.get("k")
