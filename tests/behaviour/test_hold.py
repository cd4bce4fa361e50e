"""`hold`: an addition that takes itself back, whatever happens meanwhile."""

# ruff: noqa: SIM300 - expected == actual, all through

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
import trio
import trio.testing

from distkit_actors import (
    CounterClosedError,
    CounterOverflowError,
    Ge,
    InstanceAwareCounter,
    InstanceConflictError,
    InvalidKeyError,
    LaxInstanceAwareCounter,
    LimitReachedError,
    OutcomeUnknownError,
    StoreError,
    StoreUnavailableError,
)
from distkit_actors._namespace import _epochs
from distkit_actors._protocol._messages import MAX_JOURNAL, Applied, Apply, Kind
from tests.behaviour.test_bad_input import BAD_NAMES, BAD_TYPES, Untouched
from tests.behaviour.test_cancellation import STEPS, cancelled_after, ticks
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
    struck,
)

PLAIN = ["set", "delete", "clear"]
MOVES = [*PLAIN, "set_all", "set_if", "set_all_if"]


async def move(counter: Any, how: str) -> int:
    """Move the epoch of "k"; return what the mover has of it then."""
    match how:
        case "set":
            await counter.set("k", 7)
        case "set_all":
            await counter.set_all({"k": 7, "else": 1})
        case "set_if":
            await counter.set_if("k", Ge(MIN), 7)
        case "set_all_if":
            await counter.set_all_if({"k": (Ge(MIN), 7)})
        case "delete":
            await counter.delete("k")
        case _:
            await counter.clear()
    return 7 if how.startswith("set") else 0


def releases(request: object) -> bool:
    """Whether a request takes back what a hold has added."""
    return isinstance(request, Apply) and any(entry.guarded for entry in request.entries)


def adds(request: object) -> bool:
    """Whether a request adds to a slice."""
    return isinstance(request, Apply) and any(
        e.kind is Kind.ADD and e.value for e in request.entries
    )


# ------------------------------------------------------------------------- what it does


@everywhere
async def test_it_counts_as_long_as_the_block_lasts(world: World, flavour: Flavour) -> None:
    a, b = await world.make(flavour), await world.strict()
    await b.inc("k", 10)
    async with a.hold("k") as value:
        assert (11, 1) == value
        await world.settle()
        assert (11, 10) == await b.get("k")
        async with a.hold("k", 5) as second:
            assert (16, 6) == second
            async with a.hold("k", -20) as third:
                assert (-4, -14) == third
            assert (16, 6) == await a.get("k")
        async with a.hold("k", 0) as fourth:
            assert (11, 1) == fourth
    assert (10, 0) == await world.value(a, "k")
    assert (10, 10) == await b.get("k")


@both_flavours
async def test_other_counts_on_the_key_stay(world: World, flavour: Flavour) -> None:
    a = await world.make(flavour)
    await a.inc("k", 3)
    async with a.hold("k", 10):
        await a.inc("k", 4)
        await a.dec("k", 1)
    assert (6, 6) == await world.value(a, "k")


@both_flavours
async def test_an_exception_in_the_block_comes_out_as_it_is(world: World, flavour: Flavour) -> None:
    a = await world.make(flavour)
    error = ValueError("mine")
    with pytest.raises(ValueError, match="mine") as info:
        async with a.hold("k"):
            raise error
    assert info.value is error
    assert (0, 0) == await world.value(a, "k")


@both_flavours
async def test_a_cancelled_block_takes_back(world: World, flavour: Flavour) -> None:
    a = await world.make(flavour)
    inside = False
    with trio.CancelScope() as scope:
        async with a.hold("k", 3):
            inside = True
            scope.cancel()
            await trio.sleep_forever()
    assert inside
    assert (0, 0) == await world.value(a, "k")


@both_flavours
@pytest.mark.parametrize("limit", [None, 5])
@pytest.mark.parametrize("fault", [None, "drop_request", "drop_reply", "late_copy", "away"])
async def test_cancelled_at_any_step(
    world: World, flavour: Flavour, limit: int | None, fault: str | None
) -> None:
    """Wherever it is cancelled, on the way in or inside, nothing is left of it."""
    a, b = await world.make(flavour), await world.strict()
    outcomes = set()
    for steps in range(20):
        entered = False

        async def call() -> None:
            nonlocal entered
            async with a.hold("k", limit=limit):
                entered = True
                await ticks(2)

        if fault is not None:
            getattr(world.wire(a), fault)(when=adds)
        await cancelled_after(steps, call)
        # If it is taken back at all, then as soon as it has been answered.
        await world.value(a, "k")
        await world.wire(a).deliver_late_copies()
        world.wire(a).forget_plan()
        assert (0, 0) == await world.value(a, "k")
        assert (0, 0) == await b.get("k")
        outcomes.add(entered)
    if fault is None:
        assert {True, False} == outcomes


@both_flavours
async def test_leaving_is_no_checkpoint(world: World, flavour: Flavour) -> None:
    """It neither waits nor fails, cancelled or not, whether there is a store or not."""
    a = await world.make(flavour)
    hold = a.hold("k")
    await hold.__aenter__()
    await world.settle()
    world.wire(a).cut()
    with trio.CancelScope() as scope:
        scope.cancel()
        # A coroutine that ends without having yielded to trio has not waited.
        leaving = hold.__aexit__(None, None, None)
        with pytest.raises(StopIteration):
            leaving.send(None)
        leaving.close()
        with trio.CancelScope(shield=True):
            await trio.sleep(world.interval)
    world.heal(a)
    assert (0, 0) == await world.value(a, "k")


@both_flavours
async def test_entering_is_a_checkpoint(world: World, flavour: Flavour) -> None:
    a = await world.make(flavour)
    for limit in (None, 5, MIN):
        with trio.CancelScope() as scope:
            scope.cancel()
            async with a.hold("k", 1, limit):
                raise AssertionError("entered")
        assert scope.cancelled_caught
    assert (0, 0) == await world.value(a, "k")


@both_flavours
async def test_it_is_for_one_block(world: World, flavour: Flavour) -> None:
    a = await world.make(flavour)
    hold = a.hold("k")
    async with hold:
        with pytest.raises(RuntimeError, match="one block"):
            await hold.__aenter__()
        assert (1, 1) == await a.get("k")
    with pytest.raises(RuntimeError, match="one block"):
        await hold.__aenter__()
    full = a.hold("k", limit=0)
    for error in (LimitReachedError, RuntimeError):
        with pytest.raises(error):
            await full.__aenter__()
    assert (0, 0) == await world.value(a, "k")


@both_flavours
async def test_what_the_instance_sets_itself(world: World, flavour: Flavour) -> None:
    """Who sets a key takes ``count`` from what that has left; who removes all ends all holds."""
    a, b = await world.make(flavour), await world.strict()
    await b.inc("k", 100)
    async with a.hold("k", 3):
        await a.set_on_instance("k", 10)
    assert (107, 7) == await world.value(a, "k")
    async with a.hold("k", 3):
        await world.settle()
        await a.set_all_on_instance({"k": 10})
        await world.settle()
    assert (107, 7) == await world.value(a, "k")
    async with a.hold("k", 3):
        assert (100, 10) == await a.delete_on_instance("k")
    assert (97, -3) == await world.value(a, "k")
    async with a.hold("k", 3):
        await a.clear_on_instance()
    assert (100, 0) == await world.value(a, "k")
    async with a.hold("k", 3):
        await world.settle()
        await a.inc("k")
        await a.clear_on_instance()
        await a.inc("k", 2)
        await world.settle()
    assert (102, 2) == await world.value(a, "k")


@both_flavours
async def test_a_hold_whose_slice_has_become_0_ends_with_the_others(
    world: World, flavour: Flavour
) -> None:
    """There is nothing to remove, and nothing to be taken back."""
    a = await world.make(flavour)
    async with a.hold("k", 3):
        await a.dec("k", 3)
        await a.inc("else")
        await world.settle()
        await a.clear_on_instance()
    assert (0, 0) == await world.value(a, "k")
    assert (0, 0) == await world.value(a, "else")


@both_flavours
async def test_i13_an_end_that_a_refused_clear_has_overtaken_takes_nothing_back(
    world: World, flavour: Flavour
) -> None:
    """Its first step has removed the slice, and its second one is refused."""
    a = await world.make(flavour)
    hold = a.hold("k", 3)
    await hold.__aenter__()
    await world.settle()
    await a.inc_all({f"k{number}": 1 for number in range(400)})
    await world.settle()
    wire, removed = world.wire(a), len(world.requests(a))

    def first_steps() -> list[Apply]:
        later = world.requests(a)[removed:]
        return [each for each in later if isinstance(each, Apply) and len(each.entries) > 100]

    async with trio.open_nursery() as nursery:
        wire.hold(replies=True)
        ends: list[object] = []

        async def clear() -> None:
            ends.append(await outcome(a.clear_on_instance))

        nursery.start_soon(clear)
        while not first_steps():  # noqa: ASYNC110 - the wire sets no event
            await trio.sleep(0.01)
        await hold.__aexit__(None, None, None)
        wire.refuse(StoreError("OOM"))
        wire.release()
    assert [StoreError] == ends
    wire.refuse(None)
    await world.settle()
    assert (0, 0) == await world.value(a, "k")


@pytest.mark.parametrize("lost", [False, True])
async def test_i7_a_hold_that_is_cleared_in_a_store_that_has_lost_everything(
    world: World, lost: bool
) -> None:
    """It is not in the store, so there is no slice to remove, and that batch has no entries."""
    a = await world.lax(flush_interval=1000)
    world.wire(a).delay(0.01)  # so that time passes, whatever is tried again and again
    async with a.hold("k", 3):
        await world.backend.wipe(world.prefix)
        if lost:
            world.wire(a).drop_reply()
        await a.clear_on_instance()
        assert (0, 0) == await world.value(a, "k")
    a.inc_nowait("k", 5)
    with trio.fail_after(world.threshold):
        await a.flush()
    assert (5, 5) == await world.value(a, "k")


# ----------------------------------------------------------------------------- the limit


@everywhere
async def test_a_limit_is_kept(world: World, flavour: Flavour) -> None:
    a, b = await world.make(flavour), await world.strict()
    await b.inc("k", 8)
    async with a.hold("k", limit=10) as first, a.hold("k", limit=10) as second:
        assert [(9, 1), (10, 2)] == [first, second]
        with pytest.raises(LimitReachedError, match="'k' would exceed its limit of 10"):
            await a.hold("k", limit=10).__aenter__()
        async with a.hold("k", -1, limit=9) as value:
            assert (9, 1) == value
        async with a.hold("k", 1) as value:  # no limit is no limit
            assert (11, 3) == value
            async with a.hold("k", -1, limit=10) as less:
                assert (10, 2) == less
            assert (11, 3) == await world.value(a, "k")
            with pytest.raises(LimitReachedError):
                await b.hold("k", 0, limit=10).__aenter__()
    assert (8, 0) == await world.value(a, "k")


@everywhere
async def test_no_more_get_in_than_may(world: World, flavour: Flavour) -> None:
    """However many try at the same time, in whatever instance."""
    counters = [await world.make(flavour) for _ in range(3)]
    inside = turned_away = 0
    all_tried = trio.Event()

    async def one(counter: Any) -> None:
        nonlocal inside, turned_away
        try:
            async with counter.hold("k", limit=4):
                inside += 1
                await all_tried.wait()
        except LimitReachedError:
            turned_away += 1
            if turned_away == 36:
                all_tried.set()

    await gather(*(each(one, counters[n % 3]) for n in range(40)))
    assert 4 == inside
    for counter in counters:
        await world.sees(counter, "k", 0, 0)


@both_flavours
async def test_limits_near_the_ends_of_int64(world: World, flavour: Flavour) -> None:
    """``limit - count`` may leave int64: then every cumulative will do, or none."""
    a, b = await world.make(flavour), await world.strict()
    await b.set("k", MAX - 1)
    async with a.hold("k", 1, limit=MAX) as value:
        assert (MAX, 1) == value
        with pytest.raises(LimitReachedError):
            await a.hold("k", 1, limit=MAX).__aenter__()
        await world.settle()
        async with a.hold("k", -5, limit=MAX) as less:
            assert (MAX - 5, -4) == less
        async with a.hold("k", -MAX, limit=2) as least:
            assert (0, 1 - MAX) == least
    await b.set("k", MIN)
    for count, limit in ((1, MIN), (MAX, -2), (2, MIN + 1)):
        with pytest.raises(LimitReachedError):
            await a.hold("k", count, limit).__aenter__()
    async with a.hold("k", MAX, limit=-1) as value:
        assert (-1, MAX) == value
    async with a.hold("k", 0, limit=MIN) as value:
        assert (MIN, 0) == value
    assert (MIN, 0) == await world.value(a, "k")


async def test_an_overflow_on_the_way_in(world: World) -> None:
    a, b = await world.strict(), await world.strict()
    await b.inc("k", MAX)
    with pytest.raises(CounterOverflowError):
        await a.hold("k").__aenter__()
    assert (MAX, 0) == await a.get("k")


@both_flavours
async def test_an_overflow_on_the_way_out_waits_for_room(world: World, flavour: Flavour) -> None:
    """What cannot be taken back now is, as soon as there is room (I12)."""
    a, b, c = await world.make(flavour), await world.strict(), await world.strict()
    async with a.hold("k", -5):
        await world.settle()
        await b.inc("k", MAX)
        await c.inc("k", 3)
    await world.settle(b)
    await world.intervals(1)
    assert (MAX - 2, 3) == await c.get("k")
    await c.set_on_instance("k", 0)
    await world.sees(b, "k", MAX, MAX)
    assert (MAX, 0) == await world.value(a, "k")


# ----------------------------------------------------------------------------- bad input


@both_flavours
async def test_bad_arguments(world: World, flavour: Flavour) -> None:
    """They raise when `hold` is called, before there is a block."""
    a = await world.make(flavour)
    async with Untouched(world, a):
        for parameter in BAD_NAMES:
            (key,) = parameter.values
            with pytest.raises(InvalidKeyError):
                a.hold(key)  # type: ignore[arg-type]
        for bad in BAD_TYPES:
            with pytest.raises(TypeError):
                a.hold("k", bad)  # type: ignore[arg-type]
            if bad is not None:
                with pytest.raises(TypeError):
                    a.hold("k", 1, limit=bad)  # type: ignore[arg-type]
        for big in (MAX + 1, MIN - 1):
            with pytest.raises(CounterOverflowError):
                a.hold("k", big)
            with pytest.raises(CounterOverflowError):
                a.hold("k", 1, limit=big)
        with pytest.raises(CounterOverflowError):
            a.hold("k", MIN)  # it could not be taken back


# --------------------------------------------------------------------------------- moves


@both_flavours
@pytest.mark.parametrize("how", MOVES)
@pytest.mark.parametrize("heard", [False, True], ids=["unheard", "heard"])
async def test_a_move_by_another_leaves_nothing_to_take_back(
    world: World, flavour: Flavour, how: str, heard: bool
) -> None:
    """Whether this instance has heard of the move or only the store has."""
    a, b = await world.make(flavour), await world.strict()
    async with a.hold("k", 3, limit=3), a.hold("k", 4):
        await world.settle()
        assert (7, 0) == await b.get("k")
        left = await move(b, how)
        if heard:
            assert (left, 0) == await world.value(a, "k")
    await world.settle()
    assert (left, 0) == await world.value(a, "k")
    assert (left, left) == await b.get("k")


@both_flavours
@pytest.mark.parametrize("how", MOVES)
async def test_a_move_by_the_holder_itself(world: World, flavour: Flavour, how: str) -> None:
    a, b = await world.make(flavour), await world.strict()
    async with a.hold("k", 3), a.hold("k", 4, limit=100):
        left = await move(a, how)
        assert (left, left) == await a.get("k")
    assert (left, left) == await world.value(a, "k")
    assert (left, 0) == await b.get("k")


@both_flavours
@pytest.mark.parametrize("how", PLAIN)
async def test_what_was_added_since_a_move_is_taken_back(
    world: World, flavour: Flavour, how: str
) -> None:
    """A move makes void what was added before it, and nothing else."""
    a, b = await world.make(flavour), await world.strict()
    async with a.hold("k", 3):
        await world.settle()
        left = await move(b, how)
        async with a.hold("k", 10):
            await world.settle()
            await a.inc("k", 100)
        assert (left + 100, 100) == await world.value(a, "k")
    assert (left + 100, 100) == await world.value(a, "k")


@both_flavours
@pytest.mark.parametrize("how", MOVES)
async def test_left_while_a_move_is_on_its_way(world: World, flavour: Flavour, how: str) -> None:
    """The holder's own move is sent, not answered yet, and the block ends."""
    a = await world.make(flavour)
    async with trio.open_nursery() as nursery:
        async with a.hold("k", 3):
            await world.settle()
            world.wire(a).hold(replies=True)
            nursery.start_soon(move, a, how)
            await struck(world.wire(a), "hold")
        world.wire(a).release()
    left = 7 if how.startswith("set") else 0
    assert (left, left) == await world.value(a, "k")


@both_flavours
@pytest.mark.parametrize("how", PLAIN)
@pytest.mark.parametrize("where", ["waiting", "sent", "executed"])
async def test_a_move_while_the_release_cannot_arrive(
    world: World, flavour: Flavour, how: str, where: str
) -> None:
    """In an outage, with the end of the block waiting, lost on the way, or done unheard."""
    a, b = await world.make(flavour), await world.strict()
    wire = world.wire(a)
    hold = a.hold("k", 3)
    await hold.__aenter__()
    await world.settle()
    if where == "waiting":
        wire.cut()
        await hold.__aexit__(None, None, None)
    else:
        fault = "drop_request" if where == "sent" else "drop_reply"
        getattr(wire, fault)(None, when=releases)
        await hold.__aexit__(None, None, None)
        await struck(wire, fault)
        assert (0 if where == "executed" else 3) == (await b.get("k")).cumulative
    left = await move(b, how)
    assert (left, left) == await b.get("k")
    wire.forget_plan()
    wire.heal()
    assert (left, 0) == await world.value(a, "k")
    await world.intervals(1)
    assert (left, left) == await b.get("k")


@both_flavours
async def test_more_moves_than_one_answer_tells(world: World, flavour: Flavour) -> None:
    """The release is not executed, and its answer says why, though it cannot tell all."""
    # No heartbeat reads them before it, however slow the machine is.
    a, b = await world.make(flavour, dead_instance_threshold=1000.0), await world.strict()
    async with a.hold("k", 3):
        await world.settle()
        await b.set_all({f"key-{n}": 1 for n in range(MAX_JOURNAL + 5)})
        await b.set("k", 7)
    await world.settle()
    assert (7, 0) == await world.value(a, "k")
    assert (7, 7) == await b.get("k")
    heard = [
        "k" in dict(reply.journal.moves)
        for _, request, reply in world.tap(a).seen
        if isinstance(reply, Applied) and reply.journal and releases(request)
    ]
    assert heard == [True]


@both_flavours
async def test_a_move_that_was_told_ahead_and_is_told_again_does_not_end_a_hold_behind_it(
    world: World, flavour: Flavour, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hold came to nothing in its step, so there is no slice to say how old it is."""
    monkeypatch.setattr(_epochs, "JOURNAL_PAGE", 5)
    a, b = await world.make(flavour, dead_instance_threshold=1000.0), await world.strict()
    for number in range(20):
        await b.set(f"key-{number}", 1)
    await b.set("k", 7)
    hold = a.hold("k")
    world.wire(a).hold()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(a.get, "else")
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(gather, hold.__aenter__, lambda: a.dec("k"))  # in one step, behind it
        await trio.testing.wait_all_tasks_blocked()
        world.wire(a).release()
    await world.settle()
    told = [
        reply.journal.moves
        for _, _, reply in world.tap(a).seen
        if isinstance(reply, Applied) and reply.journal and "k" in dict(reply.journal.moves)
    ]
    assert 6 == len(told[0])

    async def heard_of_all() -> bool:
        await world.value(a, "else")
        _, _, reply = world.tap(a).seen[-1]
        return isinstance(reply, Applied) and not reply.backlog

    await world.until(heard_of_all)
    await hold.__aexit__(None, None, None)
    await world.settle()
    assert (6, -1) == await world.value(a, "k")
    assert (6, 7) == await b.get("k")


# ------------------------------------------------------------------ outage, death, return


@both_flavours
async def test_held_and_left_in_an_outage(world: World, flavour: Flavour) -> None:
    """A block left while the store is away is taken back when it is there again."""
    a, b = await world.make(flavour), await world.strict()
    async with AsyncExitStack() as stack:
        for _ in range(5):
            await stack.enter_async_context(a.hold("k"))
        await world.settle()
        world.wire(a).cut()
    assert (5, 0) == await b.get("k")
    world.heal(a)
    await world.sees(b, "k", 0, 0)


@everywhere
@pytest.mark.parametrize("left", ["while dead", "after the return"])
async def test_after_a_return_it_is_exact(world: World, flavour: Flavour, left: str) -> None:
    """Reaped while it holds, the slice comes back with what is held, and no more (I4)."""
    a, b = await world.make(flavour), await world.strict()
    await a.inc("k", 10)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(a.hold("k", 3))
        await stack.enter_async_context(a.hold("only", 4))
        await world.cut(a)
        await world.reaped(a, by=b)
        assert {"k": (0, 0), "only": (0, 0)} == await b.get_all(["k", "only"])
        if left == "after the return":
            await world.rejoin(a)
            await world.sees(b, "k", 13, 0)
            await world.sees(b, "only", 4, 0)
    world.heal(a)
    await world.settle()
    await world.sees(b, "k", 10, 0)
    await world.sees(b, "only", 0, 0)
    assert (10, 10) == await world.value(a, "k")


@both_flavours
@pytest.mark.parametrize("how", PLAIN)
async def test_moved_while_it_was_dead(world: World, flavour: Flavour, how: str) -> None:
    """A release that waits for the return finds out that it is void."""
    a, b = await world.make(flavour), await world.strict()
    async with a.hold("k", 3):
        await world.cut(a)
        await world.reaped(a, by=b)
        left = await move(b, how)
    await world.rejoin(a)
    assert (left, 0) == await world.value(a, "k")
    await world.intervals(1)
    assert (left, left) == await b.get("k")


@both_flavours
async def test_a_wipe_while_it_holds(world: World, flavour: Flavour) -> None:
    a, b = await world.make(flavour), await world.strict()
    async with a.hold("k", 3):
        await world.settle()
        await world.backend.wipe(world.prefix)
        await world.intervals(1.5)
        await world.has(b, "k", 3, 0)
        await world.backend.wipe(world.prefix)
    await world.intervals(1.5)
    await world.has(b, "k", 0, 0)
    assert (0, 0) == await world.value(a, "k")


@both_flavours
@pytest.mark.parametrize("limit", [None, 10])
async def test_entered_in_doubt_with_the_record_lost(
    world: World, flavour: Flavour, limit: int | None
) -> None:
    """It counts once, whether it was folded into the return or decided anew.

    P20, doubtful batch.
    """
    a, b = await world.make(flavour), await world.strict()
    await a.inc("k", 1)
    await world.settle()
    values: list[object] = []

    async def call() -> None:
        async with a.hold("k", 3, limit) as value:
            values.append(value)
            await world.settle(a)
            await world.sees(b, "k", 4, 0)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(call)
        async with world.reply_lost(a, adds):
            await world.backend.wipe(world.prefix)
    assert [(4, 4)] == values
    assert (1, 1) == await world.value(a, "k")


@pytest.mark.parametrize("others", [0, 2300])
async def test_entered_in_doubt_and_moved_nobody_knows(world: World, others: int) -> None:
    """The record is lost and the key was moved: no block, and nothing left of it.

    Also if so many slices are re-asserted that it takes several messages.
    """
    a, b = await world.strict(), await world.strict()
    await a.inc("k", 1)
    await a.inc_all({f"key-{n}": 1 for n in range(others)})
    results: list[object] = []

    async def call() -> None:
        results.append(await outcome(a.hold("k", 3).__aenter__))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(call)
        async with world.reply_lost(a, adds):
            await b.inc("w")  # so that it knows the clock
            await world.backend.wipe(world.prefix)
            await b.set("k", 50)
    await world.intervals(1)
    assert [OutcomeUnknownError] == results
    assert (50, 50) == await b.get("k")
    assert (50, 0) == await a.get("k")


@pytest.mark.parametrize("how", ["delete_on_instance", "set_on_instance"])
async def test_i13_an_end_in_doubt_is_not_executed_behind_what_replaced_it(
    world: World, how: str
) -> None:
    """It was to be taken back from a slice that was gone, and the store has lost all since."""
    a, b = await world.lax(flush_interval=1000.0), await world.strict()
    hold = a.hold("k")
    await hold.__aenter__()
    await a.flush()
    a.dec_nowait("k")
    await a.flush()
    await hold.__aexit__(None, None, None)
    values: list[object] = []

    async def call() -> None:
        if how == "delete_on_instance":
            values.append(await a.delete_on_instance("k"))
        else:
            values.append(await a.strict.set_on_instance("k", 5))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(call)
        async with world.reply_lost(a, releases):
            await world.backend.wipe(world.prefix)
    left, value = (0, (0, -1)) if how == "delete_on_instance" else (5, (5, 5))
    assert [value] == values
    await a.flush()
    assert (left, left) == await a.get("k")
    assert (left, 0) == await b.get("k")


async def test_i13_counts_that_cancel_an_end_out_are_replaced_with_it(world: World) -> None:
    """Else a move would make the end void, and a count that was replaced would come back."""
    a, b = await world.lax(flush_interval=1000.0), await world.strict()
    async with a.hold("k"):
        await a.flush()
        a.inc_nowait("k")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(a.strict.set_on_instance, "k", 5)
        async with world.reply_lost(a, releases):
            await world.backend.wipe(world.prefix)
    await b.set("k", 7)
    assert (7, 0) == await a.strict.get("k")
    await a.flush()
    assert (7, 7) == await b.get("k")


@both_flavours
@pytest.mark.parametrize("fault", ["drop_request", "drop_reply", "late_copy", "duplicate", "away"])
async def test_both_ends_take_effect_once(world: World, flavour: Flavour, fault: str) -> None:
    a, b = await world.make(flavour), await world.strict()
    wire = world.wire(a)
    for limit in (None, 5):
        getattr(wire, fault)(when=adds)
        async with a.hold("k", 3, limit):
            await world.settle(a)
            await wire.deliver_late_copies()
            assert (3, 0) == await b.get("k")
            getattr(wire, fault)(when=releases)
        assert (0, 0) == await world.value(a, "k")
        await wire.deliver_late_copies()
        assert (0, 0) == await b.get("k")


# ----------------------------------------------------------------------------------- lax


async def test_begun_and_ended_between_two_flushes(world: World) -> None:
    """A lax counter sends nothing of it, and nothing wrong of what surrounds it."""
    a, b = (
        await world.lax(flush_interval=1000.0, heartbeat_interval=world.threshold / 2.1),
        (await world.strict()),
    )
    await a.get_all(["k", "j"])
    first = len(world.requests(a))
    a.inc_nowait("k", 5)
    async with a.hold("k", 2), a.hold("j"):
        a.inc_nowait("k", 1)
    async with a.hold("k", 4):
        pass
    assert (6, 6) == a.get_nowait("k")
    await a.flush()
    entries = [e for r in world.requests(a)[first:] if isinstance(r, Apply) for e in r.entries]
    assert [("k", 6, False)] == [(entry.key, entry.value, entry.guarded) for entry in entries]
    assert {"k": (6, 0), "j": (0, 0)} == await b.get_all(["k", "j"])


async def test_a_move_between_two_flushes_spares_what_was_not_sent(world: World) -> None:
    """What is pending while another moves the key counts after the move, and is taken back."""
    a, b = await world.lax(flush_interval=1000.0), await world.strict()
    async with a.hold("k", 3):
        await b.set("k", 7)
        await a.flush()
        assert (10, 7) == await b.get("k")
    await a.flush()
    assert (7, 7) == await b.get("k")


async def test_the_local_view_shows_both_ends_at_once(world: World) -> None:
    a = await world.lax(flush_interval=1000.0)
    async with a.hold("k", 3) as value:
        assert (3, 3) == value == a.get_nowait("k")
        await a.flush()
        assert (3, 3) == a.get_nowait("k")
    assert (0, 0) == a.get_nowait("k")
    await a.flush()
    assert (0, 0) == a.get_nowait("k")


# --------------------------------------------------------------------------------- folds


@both_flavours
async def test_many_holds_fold_into_few_batches(world: World, flavour: Flavour) -> None:
    """A thousand holds at the same time cost a few round trips."""
    a = await world.make(flavour, dead_instance_threshold=60.0)
    await a.get("k")
    before = a.statistics().batches_done
    release = trio.Event()
    entered = 0

    async def one() -> None:
        nonlocal entered
        async with a.hold("k"):
            entered += 1
            await release.wait()

    async with trio.open_nursery() as nursery:
        for _ in range(1000):
            nursery.start_soon(one)
        while entered < 1000:  # noqa: ASYNC110 - looked at rarely
            await trio.sleep(0.001)
        await world.settle()
        assert (1000, 1000) == await a.get("k")
        release.set()
    await world.settle()
    assert (0, 0) == await world.value(a, "k")
    assert a.statistics().batches_done - before < 20


async def test_a_void_release_among_live_operations(world: World) -> None:
    """Folded with others, only what is void is left out."""
    a, b = await world.strict(), await world.strict()
    hold = a.hold("k", 5)
    await hold.__aenter__()
    await b.set("k", 100)
    world.wire(a).hold()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(a.get, "else")  # on the wire
        await trio.sleep(0.01)
        for count in (1, 2):
            nursery.start_soon(a.inc, "k", count)
        await trio.sleep(0.01)
        await hold.__aexit__(None, None, None)
        nursery.start_soon(a.inc, "k", 4)
        await trio.sleep(0.01)
        world.wire(a).release()
    assert (107, 7) == await a.get("k")


# -------------------------------------------------------------------------------- the end


@both_flavours
async def test_a_counter_that_does_not_run(world: World, flavour: Flavour) -> None:
    a = world.build(flavour)
    for limit in (None, 5, MIN):
        with pytest.raises(CounterClosedError):
            await a.hold("k", 1, limit).__aenter__()
    await world.start(a)
    await a.aclose()
    for limit in (None, 5, MIN):
        with pytest.raises(CounterClosedError):
            await a.hold("k", 1, limit).__aenter__()


@both_flavours
@pytest.mark.parametrize("on_exit", ["leave", "linger"])
async def test_closed_while_it_holds(world: World, flavour: Flavour, on_exit: str) -> None:
    """Nothing is left of what is held, though what lingers lingers."""
    a, b = await world.make(flavour, on_exit=on_exit), await world.strict()
    await a.inc("k", 10)
    async with a.hold("k", 3), a.hold("only", 1):
        await world.settle()
        await a.aclose()
        stays = 10 if on_exit == "linger" else 0
        assert {"k": (stays, 0), "only": (0, 0)} == await b.get_all(["k", "only"])
    assert {"k": (stays, 0), "only": (0, 0)} == await b.get_all(["k", "only"])


@both_flavours
@pytest.mark.parametrize("ended", ["before", "after", "never", "never, and nothing counted"])
async def test_what_is_held_and_lingers_as_the_store_is_away_is_reported(
    world: World, flavour: Flavour, ended: str, caplog: pytest.LogCaptureFixture
) -> None:
    """An heir would find it, and nobody takes it back."""
    a = await world.make(flavour, on_exit="linger")
    world.tolerate(a)
    hold, other = a.hold("k", 3), a.hold("other")
    for one in (hold, other):
        await one.__aenter__()
    await world.settle()
    world.wire(a).cut()
    await world.intervals(2)
    if ended == "before":
        await hold.__aexit__(None, None, None)
    elif "counted" in ended and isinstance(a, LaxInstanceAwareCounter):
        a.inc_nowait("k")
        a.dec_nowait("k")
    with pytest.raises(StoreUnavailableError, match="stopped with 2 counts or operations"):
        await a.aclose()
    if ended == "after":
        await hold.__aexit__(None, None, None)
    assert "unfinished" in [record.event for record in caplog.records]


async def test_the_superseded_says_nothing_of_what_it_holds(world: World) -> None:
    """It was acknowledged, and an heir goes on with it."""
    a = await world.strict(on_exit="linger", instance_id="one")
    world.tolerate(a)
    async with a.hold("k", 3), a.hold("only"):
        await world.strict(instance_id="one", inherit=True)
        with pytest.raises(InstanceConflictError):
            await a.get("k")
        await a.aclose()


@both_flavours
async def test_an_heir_finds_nothing_of_what_was_held(world: World, flavour: Flavour) -> None:
    a = await world.make(flavour, on_exit="linger", instance_id="one")
    await a.inc("k", 10)
    async with a.hold("k", 3), a.hold("only", 1):
        await a.aclose()
        heir = await world.make(flavour, instance_id="one", inherit=True)
        assert (10, 10) == await world.value(heir, "k")
        assert (0, 0) == await world.value(heir, "only")
    assert (10, 10) == await world.value(heir, "k")


@both_flavours
async def test_left_while_the_counter_stops(world: World, flavour: Flavour) -> None:
    """A block that ends during the last steps of a stop does not make the stop fail."""
    a, b = await world.make(flavour), await world.strict()
    hold = a.hold("k", 3)
    await hold.__aenter__()
    await world.settle()

    def leaves(request: object) -> bool:
        return isinstance(request, Apply) and request.leave

    world.wire(a).hold(replies=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(a.aclose)
        while not any(map(leaves, world.requests(a))):  # noqa: ASYNC110 - it sets no event
            world.wire(a).release()
            world.wire(a).hold(replies=True)
            await trio.sleep(0.001)
        await hold.__aexit__(None, None, None)
        world.wire(a).release()
    assert (0, 0) == await b.get("k")


@both_flavours
async def test_taken_over_while_it_holds(world: World, flavour: Flavour) -> None:
    """The newer one knows nothing of it, and the older one changes nothing more."""
    a = await world.make(flavour, instance_id="one")
    world.tolerate(a)
    async with a.hold("k", 3):
        await world.settle()
        b = await world.make(flavour, instance_id="one")
        await b.inc("k", 10)
        await world.settle(b)
        with pytest.raises(InstanceConflictError):
            await a.set("else", 1)
    await world.intervals(1)
    assert (10, 10) == await world.value(b, "k")


@both_flavours
async def test_a_crash_takes_it_away_with_the_slice(world: World, flavour: Flavour) -> None:
    a, b = await world.make(flavour), await world.strict()
    async with a.hold("k", 3):
        await world.settle()
        assert (3, 0) == await b.get("k")
        await world.crash(a)
        await world.reaped(a, by=b)
        assert (0, 0) == await b.get("k")
    assert (0, 0) == await b.get("k")


async def test_cancelled_together_with_its_counter(world: World) -> None:
    """One cancellation ends the counter and those who use it, in any order."""
    for flavour in ("strict", "lax"):
        b = await world.strict()
        async with trio.open_nursery() as nursery:
            a = world.build(flavour)  # type: ignore[arg-type]
            await nursery.start(a.run)

            async def user(counter: Any) -> None:
                async with counter.hold("k"):
                    await trio.sleep_forever()

            for _ in range(3):
                nursery.start_soon(user, a)
            await world.sees(b, "k", 3, 0)
            nursery.cancel_scope.cancel()
        assert (0, 0) == await b.get("k")


@on_both
@pytest.mark.parametrize("sent", [True, False])
async def test_i12_the_end_of_a_hold_may_have_no_room_behind_what_replaced_it(
    world: World, sent: bool
) -> None:
    """It waits by itself, or is said to be lost, and disturbs nothing that travels with it."""
    a, b = await world.lax(), await world.strict()
    async with a.hold("k", -1):
        if sent:
            await a.flush()
        await a.set_on_instance("k", MAX)
        a.inc_nowait("other")
    a.inc_nowait("other")
    if sent:
        await a.flush()
    else:
        with pytest.raises(CounterOverflowError, match="k: 1"):
            await a.flush()
    assert await b.get("k") == (MAX, 0)
    assert await b.get("other") == (2, 0)
    assert await b.slices("other") == {a.instance_id: 2}
    assert a.statistics().state == "running"
    await a.dec("k", 5)
    await a.flush()
    if sent:
        await world.sees(b, "k", MAX - 4, 0)


@on_both
async def test_i12_the_end_of_a_hold_outlives_a_value_that_was_to_replace_it_and_is_refused(
    world: World,
) -> None:
    """The store has no room for the value, so what the hold has added is still there."""
    a, b = await world.lax(flush_interval=60), await world.strict()
    async with a.hold("k", 5):
        await a.flush()
        await b.inc("k", MAX - 7)
    await a.set_on_instance("k", 10)
    with pytest.raises(CounterOverflowError, match="k: 10"):
        await a.flush()
    await world.sees(b, "k", MAX - 7, MAX - 7)
    assert {b.instance_id: MAX - 7} == await b.slices("k")


# ------------------------------------------------------------------------ refused releases

#: What cannot travel with the release of a hold on "k".
BEHIND_A_RELEASE: dict[str, Callable[[InstanceAwareCounter], Awaitable[object]]] = {
    "get_all": lambda counter: counter.get_all(["x", "y"]),
    "set": lambda counter: counter.set("k", 1),
    "set_on_instance": lambda counter: counter.set_on_instance("k", 1),
    "instances": lambda counter: counter.instances(),
    "get": lambda counter: counter.get("k"),
}


@pytest.mark.parametrize("name", BEHIND_A_RELEASE)
async def test_who_comes_while_a_release_is_refused_is_told_so(world: World, name: str) -> None:
    """The release goes before all others, again and again, and nobody waits for it."""
    a = await world.strict()
    wire = world.wire(a)
    await a.get("k")
    wire.delay(0.001)
    async with a.hold("k"):
        wire.refuse(StoreError("out of memory"))
    await trio.sleep(0.05)
    sent = len(wire.requests)
    with trio.fail_after(5), pytest.raises(StoreError, match="out of memory"):
        await BEHIND_A_RELEASE[name](a)
    assert len(wire.requests) <= sent + 3
    wire.refuse(None)
    await world.sees(a, "k", 0, 0)


async def test_i9_a_stop_ends_a_hold_whose_end_was_refused_before(world: World) -> None:
    """The store accepts it again, but has not been asked since."""
    a, b = await world.strict(on_exit="linger"), await world.strict()
    await a.inc("k", 10)
    async with a.hold("k", 3):
        world.wire(a).refuse(StoreError("no room"))
    await ticks(STEPS)
    world.wire(a).refuse(None)
    await a.aclose()
    assert (10, 0) == await b.get("k")


async def test_i9_a_stop_ends_a_hold_though_another_batch_is_in_doubt(world: World) -> None:
    """That one goes again first, and its refusals have put the end of the hold off."""
    a, b = await world.strict(on_exit="linger"), await world.strict()
    wire = world.wire(a)
    async with trio.open_nursery() as nursery:
        async with a.hold("k", 3):
            wire.drop_reply(when=adds)
            wire.answer(StoreError("no room"), None, executed=False, when=adds)
            nursery.start_soon(a.inc, "k", 10)
            await struck(wire, "answer")
        await ticks(STEPS)
        wire.forget_plan()
        await a.aclose()
    assert (10, 0) == await b.get("k")


@both_flavours
async def test_i9_a_stop_ends_a_hold_for_whose_end_there_is_room_again(
    world: World, flavour: Flavour
) -> None:
    a, b, c = await world.make(flavour, on_exit="linger"), *[await world.strict() for _ in range(2)]
    await b.inc("k", MIN)
    async with a.hold("k", 3):
        await world.settle(a)
        await c.dec("k", 3)
    await world.settle(a)
    await ticks(STEPS)
    await c.inc("k", 3)
    await a.aclose()
    assert (MIN, 0) == await c.get("k")
