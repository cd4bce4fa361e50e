"""Holds and moves that the store has lost: what a hold added and its end share one fate (I13).

In nearly all of these A has not heard of B's move when the store loses it. A comes back first,
counts on what it believes to be there, and only then does B tell of its move again (L1).
"""

# ruff: noqa: SIM300 - expected == actual, all through

from __future__ import annotations

import trio

from tests.behaviour.test_hold import adds
from tests.behaviour.world import MAX, Counter, Flavour, World, both_flavours, gather


async def lose_a_move(world: World, b: Counter) -> None:
    """Have B delete the key, and the store lose that; B is away for a while."""
    await b.delete("k")
    world.wire(b).cut()
    await world.backend.wipe(world.prefix)
    await trio.sleep(0.05)  # no outage takes no time, see A3


async def tell_it_again(world: World, a: Counter, b: Counter) -> None:
    """Let B be back, and A hear of its move."""
    await world.rejoin(b)
    await world.value(a, "k")


async def nothing_is_left(world: World, a: Counter, b: Counter, own: int = 0) -> None:
    await world.settle()
    assert (own, own) == await world.value(a, "k")
    await world.intervals(1.5)
    assert (own, 0) == await b.get("k")


@both_flavours
async def test_i13_a_hold_on_the_wire_while_somebody_deletes(
    world: World, flavour: Flavour
) -> None:
    """Its answer is lost with the store: it is folded into a slice from before the move."""
    a, b = await world.make(flavour), await world.strict()
    left = trio.Event()

    async def call() -> None:
        async with a.hold("k", 10):
            await left.wait()

    await a.inc("k", 5)
    await world.settle()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(call)
        async with world.reply_lost(a, adds):
            await lose_a_move(world, b)
        await a.dec("k", 15)
        await world.settle(a)
        await tell_it_again(world, a, b)
        left.set()
    await nothing_is_left(world, a, b)


@both_flavours
async def test_i13_a_stored_answer_tells_of_no_move(world: World, flavour: Flavour) -> None:
    """Before A hears of the move it counts once more, on a slice that is a new one by then."""
    a, b = await world.make(flavour), await world.strict()
    async with a.hold("k"):
        await world.settle()
        await lose_a_move(world, b)
        await world.value(a, "else")
        left = trio.Event()

        async def call() -> None:
            async with a.hold("k", 10):
                await left.wait()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            async with world.reply_lost(a, adds):
                await world.rejoin(b)
            await a.inc("k", 100)
            await world.settle(a)
            left.set()
    await nothing_is_left(world, a, b, 100)


@both_flavours
async def test_i13_the_slice_came_to_nothing_before_the_move_was_told(
    world: World, flavour: Flavour
) -> None:
    a, b = await world.make(flavour), await world.strict()
    await a.inc("k", 5)
    await world.settle()
    await lose_a_move(world, b)
    async with a.hold("k", 10):
        await world.settle()
        await a.dec("k", 15)
        await world.settle()
        await tell_it_again(world, a, b)
    await nothing_is_left(world, a, b)


@both_flavours
async def test_i13_the_slice_came_to_nothing_in_the_step_of_the_hold(
    world: World, flavour: Flavour
) -> None:
    a, b = await world.make(flavour), await world.strict()
    await a.inc("k", 5)
    await world.settle()
    await lose_a_move(world, b)
    hold = a.hold("k", 10)
    await gather(hold.__aenter__, lambda: a.dec("k", 15))
    await world.settle()
    await tell_it_again(world, a, b)
    await hold.__aexit__(None, None, None)
    await nothing_is_left(world, a, b)


@both_flavours
async def test_i13_an_end_goes_with_what_it_ends(world: World, flavour: Flavour) -> None:
    """It ends before the move is told, and the slice that it was added to is no more."""
    a, b = await world.make(flavour), await world.strict()
    async with a.hold("k"):
        await world.settle()
        async with a.hold("k", -1):
            await world.settle()
            await lose_a_move(world, b)
        await world.settle()
        assert (1, 1) == await world.value(a, "k")
        await tell_it_again(world, a, b)
    await nothing_is_left(world, a, b)


@both_flavours
async def test_i13_an_end_makes_a_younger_slice_as_old_as_what_it_ends(
    world: World, flavour: Flavour
) -> None:
    """Else what A has counted since would be less by the hold: it may go, but only as a whole."""
    a, b = await world.make(flavour), await world.strict()
    async with a.hold("k"):
        await world.settle()
        await a.dec("k")
        await world.settle()
        await lose_a_move(world, b)
        await a.inc("k", 5)
        await world.settle()
        younger = a.hold("k", 20)
        await younger.__aenter__()
        await world.settle()
    await world.settle()
    assert (24, 24) == await world.value(a, "k")
    await tell_it_again(world, a, b)
    await younger.__aexit__(None, None, None)
    await nothing_is_left(world, a, b)


@both_flavours
async def test_i13_what_is_taken_back_from_another_slice_follows_what_is_put(
    world: World, flavour: Flavour
) -> None:
    """On a lax counter both may be pending at the same time."""
    a, b = await world.make(flavour), await world.strict()
    hold = a.hold("k", 3)
    await hold.__aenter__()
    await world.settle()
    await a.dec("k", 3)
    await world.settle()
    await a.set_on_instance("k", 10)
    await hold.__aexit__(None, None, None)
    assert (7, 7) == await world.value(a, "k")
    await world.settle()
    await world.sees(b, "k", 7, 0)


@both_flavours
async def test_i13_slices_that_become_one_are_as_old_as_the_older_one(
    world: World, flavour: Flavour
) -> None:
    """What did not fit for a while (I12) is void with the move, and so is what it was added to."""
    a, b, c = await world.make(flavour), await world.strict(), await world.strict()
    async with a.hold("k", 5):
        await world.settle()
        world.wire(a).cut()
        await b.delete("k")
        await c.inc("k", MAX - 2)
        world.wire(b).cut()
        await world.backend.wipe(world.prefix)
        await trio.sleep(0.05)
        await c.get("k")
        await world.rejoin(a)
        async with a.hold("k", 1):
            await world.settle(a)
            assert (MAX - 1, 1) == await world.value(a, "k")
            await c.dec("k", MAX - 2)
            await world.intervals(1.5)
            await world.sees(a, "k", 6, 6)
            await tell_it_again(world, a, b)
            assert (0, 0) == await world.value(a, "k")
    await nothing_is_left(world, a, b)


@both_flavours
async def test_i13_a_slice_from_before_all_moves(world: World, flavour: Flavour) -> None:
    """The first slice of a namespace, folded into a return, is older than anything else."""
    a, b = await world.make(flavour), await world.strict()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(a.dec, "k")
        async with world.reply_lost(a, adds):
            await lose_a_move(world, b)
        await world.settle(a)
        async with a.hold("k"):
            await world.settle(a)
        await world.settle(a)
        assert (-1, -1) == await world.value(a, "k")
        await tell_it_again(world, a, b)
    await nothing_is_left(world, a, b)


@both_flavours
async def test_i13_a_move_that_was_forgotten_before_it_was_heard_of(
    world: World, flavour: Flavour
) -> None:
    """Nobody can tell whether the hold is void, so it goes with all that old (P21, too old; L3)."""
    world.beat_slowly()
    a, b = await world.make(flavour), await world.strict()
    async with a.hold("k"):
        await world.settle()
        await a.dec("k")
        await world.settle()
        await world.cut(a)
        await world.reaped(a, by=b)
        await b.set("k", 50)
        await trio.sleep(3700)
        await b.delete("other")  # lets the store forget what is old
        await trio.sleep(100)
        await world.rejoin(a)
    await world.settle()
    assert (50, 0) == await world.value(a, "k")
    await world.intervals(1.5)
    assert (50, 50) == await b.get("k")
