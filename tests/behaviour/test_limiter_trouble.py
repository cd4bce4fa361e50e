"""What becomes of tokens where keys move, counters end and stores are away."""

# ruff: noqa: SIM300 - expected == actual, all through

from __future__ import annotations

from contextlib import suppress

import pytest
import trio
import trio.testing

from distkit_actors import (
    CounterClosedError,
    FleetLimiter,
    InstanceConflictError,
    StoreError,
)
from distkit_actors._actor import _suspensions
from distkit_actors._limiter._token_lease import TURN
from distkit_actors._protocol._messages import Apply, Request
from tests.behaviour.limits import (
    KEY,
    asks,
    endless,
    idle,
    in_use,
    lines,
    seconds,
)
from tests.behaviour.test_cancellation import ticks
from tests.behaviour.world import Counter, Flavour, World, both_flavours, everywhere


def _carries_entries(request: Request) -> bool:
    return isinstance(request, Apply) and bool(request.entries)


# --------------------------------------------------------------------------------- the key is moved


@both_flavours
async def test_who_removes_all_that_it_has_stops_nobody(world: World, flavour: Flavour) -> None:
    """It waits and has tokens; nothing of it is left to be taken back later."""
    a, b = await world.make(flavour), await world.make(flavour)
    limiter, other = FleetLimiter(a, KEY, 2), FleetLimiter(b, KEY, 2)
    await limiter.acquire_on_behalf_of("mine")
    await other.acquire_on_behalf_of("theirs")
    endless(limiter, "mine")
    async with lines() as line:
        await line.join(limiter, "first")
        await line.join(limiter, "second")
        await trio.sleep(1)
        await a.clear_on_instance()
        await line.until("first")
        limiter.release_on_behalf_of("mine")
        line.give_up("second")
        await in_use(world, b, 2, 1)
        other.release_on_behalf_of("theirs")
        with trio.fail_after(10):
            await line.join(other, "last")
            await line.until("first", "last")
        await world.settle()
        tickets = await b.get(limiter._tokens.order.tickets)
        assert (0, 0) == tickets


@both_flavours
async def test_after_a_move_the_limit_starts_afresh(world: World, flavour: Flavour) -> None:
    """Who had a token goes on, and takes nothing back."""
    a, b = await world.make(flavour), await world.make(flavour)
    limiter, other = FleetLimiter(a, KEY, 2), FleetLimiter(b, KEY, 2)
    await limiter.acquire_on_behalf_of("x")
    await limiter.acquire_on_behalf_of("y")
    await world.settle()
    await b.delete(KEY)
    for number in range(2):
        with trio.fail_after(1 + world.slack):
            await other.acquire_on_behalf_of(number)
    limiter.release_on_behalf_of("x")  # it has not heard yet
    await in_use(world, a, 2, 0)
    limiter.release_on_behalf_of("y")
    await in_use(world, a, 2, 0)
    other.release_on_behalf_of(0)
    await in_use(world, b, 1, 1)
    with trio.fail_after(1 + world.slack):
        await limiter.acquire()
    await in_use(world, a, 2, 1)


@both_flavours
async def test_a_void_token_is_not_handed_over(world: World, flavour: Flavour) -> None:
    a, b = await world.make(flavour), await world.make(flavour)
    limiter, other = FleetLimiter(a, KEY, 1), FleetLimiter(b, KEY, 1)
    await limiter.acquire_on_behalf_of("x")
    await world.settle()
    async with lines() as line:
        async with lines() as first:
            await first.join(limiter, "w")
            await b.set(KEY, 1)
            await in_use(world, a, 1, 0)  # now it has heard
        await line.join(limiter, "y")
        limiter.release_on_behalf_of("x")
        with pytest.raises(trio.WouldBlock):
            limiter.acquire_on_behalf_of_nowait("z")
        await trio.sleep(1)
        assert [] == line.got
        await b.set_on_instance(KEY, 0)
        await world.settle()
        await trio.sleep(1)
        assert ["y"] == line.got
        assert 0 == other.borrowed_tokens


# --------------------------------------------------------------------------------------------- life


@both_flavours
async def test_the_counter_stops(world: World, flavour: Flavour) -> None:
    """Those who wait are told, those who have a token can release it."""
    a = await world.make(flavour)
    limiter = FleetLimiter(a, KEY, 1)

    async def wait() -> None:
        with pytest.raises(CounterClosedError):
            await limiter.acquire()

    await limiter.acquire()
    with trio.fail_after(0.1 + 1.1 * TURN + world.slack):
        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(wait)
            await trio.sleep(0.1)
            await a.aclose()
    with pytest.raises(CounterClosedError):
        await limiter.acquire_on_behalf_of("x")
    with pytest.raises(CounterClosedError):
        limiter.acquire_on_behalf_of_nowait("x")
    limiter.release()
    with pytest.raises(CounterClosedError):
        limiter.acquire_nowait()
    with pytest.raises(CounterClosedError):
        await limiter.acquire()
    assert idle(limiter)


@both_flavours
@pytest.mark.parametrize("replies", [True, False])
async def test_the_counter_stops_with_the_question_on_its_way(
    world: World, flavour: Flavour, replies: bool
) -> None:
    """Granted or not, it is too late: the slice goes with the counter."""
    a = await world.make(flavour)
    limiter = FleetLimiter(a, KEY, 1)
    world.wire(a).hold(replies=replies)
    async with trio.open_nursery() as nursery:

        async def wait() -> None:
            with pytest.raises(CounterClosedError):
                await limiter.acquire()

        nursery.start_soon(wait)
        await trio.sleep(0.02)
        nursery.start_soon(a.aclose)
        await trio.sleep(0.02)
        world.wire(a).release()
    assert 0 == limiter.borrowed_tokens


@both_flavours
async def test_the_counter_stops_without_its_store(world: World, flavour: Flavour) -> None:
    a = await world.make(flavour, exit_grace=0.05)
    world.tolerate(a)
    limiter = FleetLimiter(a, KEY, 1)
    async with trio.open_nursery() as nursery:

        async def wait() -> None:
            with pytest.raises(CounterClosedError):
                await limiter.acquire()

        world.wire(a).hold()
        for _ in range(2):
            nursery.start_soon(wait)
        await trio.sleep(0.02)
        with suppress(StoreError):
            await a.aclose()


@both_flavours
@pytest.mark.parametrize("what", ["ticket", "look"])
async def test_the_counter_stops_without_its_store_while_somebody_takes_a_place_or_looks(
    world: World, flavour: Flavour, what: str
) -> None:
    """Nobody knows whether the store has done that, and nobody needs to."""
    a = await world.make(flavour, exit_grace=0.05)
    world.tolerate(a)
    here, there = FleetLimiter(a, KEY, 1), FleetLimiter(await world.strict(), KEY, 1)
    await there.acquire_on_behalf_of("user")

    async def wait() -> None:
        with pytest.raises(CounterClosedError):
            await here.acquire()

    async with lines() as line, trio.open_nursery() as nursery:
        if what == "ticket":
            await line.join(there, "before")
            await trio.sleep(0.2)
            with trio.move_on_after(0.05):
                await here.acquire()  # so that it knows that others wait
            await trio.sleep(0.05)
            world.wire(a).hold()
            nursery.start_soon(wait)
        else:
            nursery.start_soon(wait)
            await trio.sleep(0.2)
            world.wire(a).hold()
            await line.join(there, "behind")
        await trio.sleep(0.02)
        assert a.statistics().in_flight_age is not None
        with suppress(StoreError):
            await a.aclose()


async def test_not_started(world: World) -> None:
    counter = world.build("strict")
    limiter = FleetLimiter(counter, KEY, 1)
    with pytest.raises(CounterClosedError):
        await limiter.acquire()
    with pytest.raises(CounterClosedError):
        limiter.acquire_nowait()
    await world.start(counter)
    async with limiter:
        pass


@both_flavours
async def test_another_counter_takes_over(world: World, flavour: Flavour) -> None:
    old = await world.make(flavour, instance_id="x")
    world.tolerate(old)
    limiter = FleetLimiter(old, KEY, 1)
    await limiter.acquire()
    async with lines() as line:
        new = await world.make(flavour, instance_id="x")
        with pytest.raises(InstanceConflictError):
            await limiter.acquire_on_behalf_of("y")
        with pytest.raises(InstanceConflictError):
            limiter.acquire_on_behalf_of_nowait("y")
        limiter.release()
        assert not line.got
    await in_use(world, new, 0, 0)


@both_flavours
async def test_the_store_refuses(world: World, flavour: Flavour) -> None:
    """Each who asks is told; a token that was released goes back later."""
    a = await world.make(flavour)
    limiter = FleetLimiter(a, KEY, 1)
    await limiter.acquire()
    await world.settle()
    world.wire(a).refuse(StoreError("out of memory"))
    with pytest.raises(StoreError, match="out of memory"):
        await limiter.acquire_on_behalf_of("x")
    limiter.release()
    await trio.sleep(0.05)
    assert idle(limiter)
    world.wire(a).refuse(None)
    await in_use(world, a, 0, 0)


async def test_a_token_whose_return_was_refused_is_not_used_again_without_asking(
    world: World,
) -> None:
    """What stands before the store may say so wrongly, and somebody else may have it by now."""
    a, b = await world.lax(), await world.strict()
    limiter, other = FleetLimiter(a, KEY, 1), FleetLimiter(b, KEY, 1)
    await limiter.acquire_on_behalf_of("x")
    wire = world.wire(a)
    wire.answer(StoreError("no room"), executed=True, when=_carries_entries)
    limiter.release_on_behalf_of("x")
    while not a.statistics().outages:  # noqa: ASYNC110 - a counter tells nobody
        await trio.sleep(0.001)
    with pytest.raises(trio.WouldBlock):
        limiter.acquire_on_behalf_of_nowait("y")
    await other.acquire_on_behalf_of("z")
    other.release_on_behalf_of("z")
    await in_use(world, a, 0, 0)


# ------------------------------------------------------------------------------------------- outage


@both_flavours
async def test_an_outage_is_waited_out(world: World, flavour: Flavour) -> None:
    a = await world.make(flavour)
    limiter = FleetLimiter(a, KEY, 2)
    await limiter.acquire_on_behalf_of("x")
    world.wire(a).cut()
    async with lines() as line:
        await line.join(limiter, "y")
        await world.intervals(1)
        assert [] == line.got
        assert ("x",) == limiter.statistics().borrowers
        world.heal(a)
        with trio.fail_after(2 * world.threshold + world.slack):
            await line.until("y")
        await in_use(world, a, 2, 2)


@both_flavours
async def test_tokens_are_handed_over_as_long_as_they_are_ours(
    world: World, flavour: Flavour
) -> None:
    """In an outage, until somebody else might have been given them."""
    a, b = await world.make(flavour), await world.make(flavour)
    limiter, other = FleetLimiter(a, KEY, 1), FleetLimiter(b, KEY, 1)
    await limiter.acquire_on_behalf_of("x")
    endless(limiter, "x")
    await world.cut(a)
    async with lines() as line:
        for name in ("y", "z"):
            await line.join(limiter, name)
        await world.intervals(1)
        limiter.release_on_behalf_of("x")
        await ticks(3)
        assert ["y"] == line.got
        await world.intervals(1.4)
        limiter.release_on_behalf_of("y")
        with pytest.raises(trio.WouldBlock):
            limiter.acquire_on_behalf_of_nowait("w")
        with trio.fail_after(world.threshold + 1 + world.slack):
            await other.acquire()
        assert ["y"] == line.got
        world.heal(a)
        await in_use(world, b, 1, 1)
        assert ["y"] == line.got
        other.release()
        with trio.fail_after(world.threshold + 1 + world.slack):
            await line.until("y", "z")


@everywhere
async def test_a_crash_frees_its_tokens(world: World, flavour: Flavour) -> None:
    a, b = await world.make(flavour), await world.make(flavour)
    limiter, other = FleetLimiter(a, KEY, 2), FleetLimiter(b, KEY, 2)
    for number in range(2):
        await limiter.acquire_on_behalf_of(number)
    await world.crash(a)
    elapsed = await seconds(other.acquire)
    assert 0.6 * world.threshold < elapsed
    assert elapsed < world.threshold + world.interval + TURN + world.slack


async def absent(
    world: World, flavour: Flavour
) -> tuple[tuple[Counter, FleetLimiter], tuple[Counter, FleetLimiter]]:
    """Have one who has a token be away until another one has it, and come back."""
    a, b = await world.make(flavour), await world.make(flavour)
    limiter, other = FleetLimiter(a, KEY, 1), FleetLimiter(b, KEY, 1)
    await limiter.acquire_on_behalf_of("x")
    await world.cut(a)
    await world.reaped(a, by=b)
    age = a.statistics().last_heartbeat_age
    assert age is not None
    assert age > 0.9 * world.threshold
    await other.acquire_on_behalf_of("y")
    endless(other, "y")
    await world.rejoin(a)
    await in_use(world, b, 2, 1)
    return (a, limiter), (b, other)


@both_flavours
async def test_one_that_was_away_for_too_long_comes_back(world: World, flavour: Flavour) -> None:
    """Nobody new gets in until enough tokens have been released (I4)."""
    (a, limiter), (b, other) = await absent(world, flavour)
    async with lines() as line:
        await line.join(other, "z")
        limiter.release_on_behalf_of("x")
        await in_use(world, b, 1, 1)
        await world.intervals(1)
        assert [] == line.got
        other.release_on_behalf_of("y")
        await ticks(3)
        assert ["z"] == line.got
        await in_use(world, a, 1, 0)


@both_flavours
async def test_a_token_from_before_the_absence_is_handed_to_nobody(
    world: World, flavour: Flavour
) -> None:
    """The lease is valid again, but somebody else has got a token meanwhile."""
    (_, limiter), (b, other) = await absent(world, flavour)
    endless(limiter, "x")
    async with lines() as line:
        await line.join(limiter, "z")
        limiter.release_on_behalf_of("x")
        await in_use(world, b, 1, 1)
        await world.intervals(1)
        assert [] == line.got
        other.release_on_behalf_of("y")
        await line.until("z")
        await in_use(world, b, 1, 0)


async def test_a_token_from_before_the_machine_was_suspended_lets_nobody_in(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock of trio stood still meanwhile, and the others' did not: they may have it."""
    asleep = 0.0
    monkeypatch.setattr(_suspensions, "suspended", lambda: asleep)
    a = await world.strict()
    limiter = FleetLimiter(a, KEY, 1)
    world.wire(a).delay(0.5, replies=True)
    async with lines() as line:
        await line.join(limiter, "x")
        while not (asked := sum(map(asks, world.requests(a)))):  # noqa: ASYNC110 - sets no event
            await trio.sleep(0.1)
        assert asked == 1
        asleep = world.threshold
        age = a.statistics().last_heartbeat_age
        assert age is not None
        assert age > world.threshold
        await line.until("x")
        assert sum(map(asks, world.requests(a))) == 2
        age = a.statistics().last_heartbeat_age
        assert age is not None
        assert age < world.threshold
        await in_use(world, a, 1, 1)
        limiter.release_on_behalf_of("x")
        await in_use(world, a, 0, 0)


@both_flavours
async def test_an_answer_that_comes_too_late_lets_nobody_in(world: World, flavour: Flavour) -> None:
    """It was granted, but the slice has been reaped, and the token is somebody else's."""
    a, b = await world.make(flavour), await world.make(flavour)
    limiter, other = FleetLimiter(a, KEY, 1), FleetLimiter(b, KEY, 1)
    await world.mark(a)
    async with lines() as line:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(line.join, limiter, "x")
            async with world.reply_lost(a, asks):
                await world.reaped(a, by=b)
                await other.acquire_on_behalf_of("y")
        await world.intervals(2)
        assert [] == line.got
        await in_use(world, b, 1, 1)
        other.release_on_behalf_of("y")
        with trio.fail_after(1 + world.slack):
            await line.until("x")
        await in_use(world, b, 1, 0)
