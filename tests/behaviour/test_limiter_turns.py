"""How long a process keeps a token of a limit that others want too."""

# ruff: noqa: SIM300 - expected == actual, all through

from __future__ import annotations

import pytest
import trio
import trio.testing

from distkit_actors import FleetLimiter, MemoryStore, StrictInstanceAwareCounter
from distkit_actors._limiter._order import LONGEST_TURN
from distkit_actors._limiter._token_lease import TURN
from tests.behaviour.limits import KEY, in_use, lines, questions, seconds
from tests.behaviour.world import Flavour, World, both_flavours
from tests.harness.effort import effort


@both_flavours
@pytest.mark.parametrize("users", [1, 3])
@pytest.mark.parametrize("length", [0.01, 10.0])
async def test_a_busy_process_lets_others_in(
    world: World, flavour: Flavour, users: int, length: float
) -> None:
    """However it uses its token: one task again and again, or several in turn."""
    a, b = await world.make(flavour), await world.make(flavour)
    busy, other = FleetLimiter(a, KEY, 1), FleetLimiter(b, KEY, 1)

    async def user() -> None:
        while True:
            async with busy:
                await trio.sleep(length)

    async with trio.open_nursery() as nursery:
        for _ in range(users):
            nursery.start_soon(user)
        await trio.sleep(0.1)
        for _ in range(3):
            # Those who came before us are before us, and then at most one turn.
            with trio.fail_after(users * length + 1.1 * TURN):
                await other.acquire()
            other.release()
            await trio.sleep(0.3)
        nursery.cancel_scope.cancel()


@both_flavours
async def test_who_has_come_before_is_not_overtaken_once_it_is_known(
    world: World, flavour: Flavour
) -> None:
    """The token goes to the other process, though its turn here is not over."""
    a, b = await world.make(flavour), await world.make(flavour)
    here, there = FleetLimiter(a, KEY, 1), FleetLimiter(b, KEY, 1)
    async with lines() as line:
        await here.acquire_on_behalf_of("x")
        await line.join(there, "first")
        await trio.sleep(0.03)
        await line.join(here, "second")
        await trio.sleep(0.05)
        here._loans["x"].token.turn_ends = trio.current_time() + 1
        here.release_on_behalf_of("x")
        await trio.sleep(0.05)
        assert ["first"] == line.got
        there.release_on_behalf_of("first")
        await trio.sleep(0.05)
        assert ["first", "second"] == line.got


@both_flavours
async def test_a_process_alone_is_hardly_ever_without(world: World, flavour: Flavour) -> None:
    limiter = FleetLimiter(await world.make(flavour), KEY, 1)
    busy = 0.0

    async def user() -> None:
        nonlocal busy
        while True:
            async with limiter:
                await trio.sleep(0.05)
                busy += 0.05

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(user)
        await trio.sleep(20)
        nursery.cancel_scope.cancel()
    assert busy > 19.6


@pytest.mark.parametrize("delay", [0, 0.025, 0.3])
async def test_a_turn_is_longer_where_the_store_is_slower(world: World, delay: float) -> None:
    a = await world.strict()
    world.wire(a).delay(delay)
    limiter = FleetLimiter(a, KEY, 1)
    took = await seconds(limiter.acquire)
    left = next(iter(limiter._loans.values())).token.turn_ends - trio.current_time()
    assert delay <= took
    assert pytest.approx(max(TURN, min(10 * took, LONGEST_TURN))) == left


@both_flavours
async def test_a_turn_ends(world: World, flavour: Flavour) -> None:
    """The store is asked again, whoever wants the token next."""
    a = await world.make(flavour)
    limiter = FleetLimiter(a, KEY, 1)
    await limiter.acquire_on_behalf_of("x")
    await trio.sleep(1.1 * TURN)
    before = questions(world, a)
    limiter.release_on_behalf_of("x")
    with pytest.raises(trio.WouldBlock):
        limiter.acquire_nowait()
    assert await seconds(limiter.acquire) < TURN
    assert before + 1 == questions(world, a)
    await in_use(world, a, 1, 1)


@both_flavours
async def test_where_there_is_room_nobody_waits(world: World, flavour: Flavour) -> None:
    limiter = FleetLimiter(await world.make(flavour), KEY, 2)
    for _ in range(3):
        assert await seconds(limiter.acquire) < TURN
        await trio.sleep(2 * TURN)
        limiter.release()


@both_flavours
async def test_who_comes_after_one_that_gave_up_does_not_wait_for_a_turn(
    world: World, flavour: Flavour
) -> None:
    """Nobody here has a token that could be handed on."""
    here = FleetLimiter(await world.make(flavour), KEY, 1)
    there = FleetLimiter(await world.strict(), KEY, 1)
    await there.acquire()
    with trio.move_on_after(TURN / 10):
        await here.acquire()
    there.release()
    await trio.sleep(TURN / 10)  # the store hears of it
    assert await seconds(here.acquire) < TURN / 10


@both_flavours
async def test_who_waits_for_a_turn_is_woken_if_the_token_goes_back(
    world: World, flavour: Flavour
) -> None:
    """It came in a turn that is over when the token is released."""
    limiter = FleetLimiter(await world.make(flavour), KEY, 1)
    await limiter.acquire_on_behalf_of("x")
    turn_ends = limiter._loans["x"].token.turn_ends
    await trio.sleep_until(turn_ends - TURN / 10)
    with trio.move_on_after(TURN / 20):
        await limiter.acquire()
    async with lines() as line:
        await line.join(limiter, "y")
        await trio.sleep_until(turn_ends + TURN / 10)
        limiter.release_on_behalf_of("x")
        with trio.fail_after(TURN / 10):
            await line.until("y")


async def test_who_waits_for_several_does_not_wait_for_the_turn_of_one(world: World) -> None:
    limiter = FleetLimiter(await world.strict(), KEY, 3)
    other = FleetLimiter(await world.strict(), KEY, 3)
    await limiter.acquire_on_behalf_of("x")
    await other.acquire_on_behalf_of("y", 2)
    with trio.move_on_after(TURN / 10):
        await limiter.acquire(2)
    other.release_on_behalf_of("y")
    await trio.sleep(TURN / 10)
    assert await seconds(lambda: limiter.acquire(2)) < TURN / 10


async def test_who_waits_for_a_turn_asks_once_that_is_over(world: World) -> None:
    """Its user keeps the token, and one that others have given back is free."""
    here = FleetLimiter(await world.strict(), KEY, 2)
    there = FleetLimiter(await world.strict(), KEY, 2)
    await here.acquire_on_behalf_of("x")
    await there.acquire()
    token = here._loans["x"].token
    token.turn_ends = trio.current_time() + TURN / 5
    with trio.move_on_after(TURN / 10):
        await here.acquire()
    there.release()
    assert await seconds(here.acquire) < TURN / 2


async def test_a_token_costs_as_much_however_many_its_process_has(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """To take one, to give one back and to hand one on (I10)."""
    few, many = [await costs(held) for held in (50, 2000)]
    assert [more <= 2 * less for less, more in zip(few, many, strict=True)] == [True] * 3, many


async def costs(held: int) -> list[int]:
    """How many instructions each step takes in a process that has so many tokens."""
    async with StrictInstanceAwareCounter.open(f"app{held}", MemoryStore()) as counter:
        limiter = FleetLimiter(counter, KEY, 10_000)
        async with trio.open_nursery() as nursery:
            for number in range(held):
                nursery.start_soon(limiter.acquire_on_behalf_of, number)
        now, later = [], trio.current_time() + 1.5 * TURN
        for number in range(held - 2):
            limiter.release_on_behalf_of(number)
        now.append(effort(lambda: limiter.release_on_behalf_of(held - 1)))
        now.append(effort(lambda: limiter.acquire_on_behalf_of_nowait("another")))
        async with trio.open_nursery() as nursery:
            for number in range(held):
                nursery.start_soon(limiter.acquire_on_behalf_of, f"more {number}")
        await trio.sleep_until(later + LONGEST_TURN)
        now.append(effort(lambda: limiter._tokens._hands_on_until(1)))
        return now
