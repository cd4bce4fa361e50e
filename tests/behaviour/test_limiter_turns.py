"""How long a process keeps a token of a limit that others want too."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from distkit_actors import (
    FleetLimiter,
)
from distkit_actors._limiter._token_lease import COURTESY, LONGEST_TURN, SHORTEST_TURN
from tests.behaviour.limits import (
    KEY,
    in_use,
    lines,
    seconds,
)
from tests.behaviour.world import Flavour, World, both_flavours, on_memory


@on_memory
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
            # A token that comes back is taken by the one who asks just then: by us, if anybody
            # in the other process is kept from it for long enough.
            with trio.fail_after(LONGEST_TURN + length + COURTESY):
                await other.acquire()
            other.release()
            await trio.sleep(COURTESY)
        nursery.cancel_scope.cancel()


@on_memory
async def test_a_turn_lasts_long_enough_to_be_worth_it(world: World) -> None:
    """A process alone does not go without for more than a seventh of the time."""
    limiter = FleetLimiter(await world.strict(), KEY, 1)
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
        await trio.sleep(50)
        nursery.cancel_scope.cancel()
    assert busy > 50 * SHORTEST_TURN / (SHORTEST_TURN + COURTESY) - 1
    assert busy < 50 * LONGEST_TURN / (LONGEST_TURN + COURTESY) + 1


@on_memory
@both_flavours
async def test_a_turn_goes_on_where_a_token_is_taken_again(world: World, flavour: Flavour) -> None:
    """Though it has been back in the store."""
    a = await world.make(flavour)
    limiter = FleetLimiter(a, KEY, 1)
    start = trio.current_time()
    with trio.fail_after(LONGEST_TURN + 3 * COURTESY):
        while await seconds(limiter.acquire) < COURTESY / 2:
            limiter.release()
            await world.settle()
            await in_use(world, a, 0, 0)
            await trio.sleep(COURTESY / 4)
    assert SHORTEST_TURN <= trio.current_time() - start <= LONGEST_TURN + 2 * COURTESY


@on_memory
@both_flavours
async def test_a_courtesy_is_not_longer_than_it_must_be(world: World, flavour: Flavour) -> None:
    limiter = FleetLimiter(await world.make(flavour), KEY, 1)
    await limiter.acquire_on_behalf_of("x")
    async with lines() as line:
        await line.join(limiter, "y")
        await trio.sleep(2 * LONGEST_TURN)
        start = trio.current_time()
        limiter.release_on_behalf_of("x")
        await line.until("y")
        assert pytest.approx(trio.current_time() - start) == COURTESY


@on_memory
@both_flavours
async def test_where_there_is_room_nobody_waits_for_a_courtesy(
    world: World, flavour: Flavour
) -> None:
    limiter = FleetLimiter(await world.make(flavour), KEY, 2)
    for _ in range(3):
        assert await seconds(limiter.acquire) < COURTESY / 2
        await trio.sleep(2 * LONGEST_TURN)
        limiter.release()
