"""Cancelling whoever waits for a token, or has one: nothing is lost or doubled."""

# ruff: noqa: SIM300 - expected == actual, all through

from __future__ import annotations

import pytest
import trio
import trio.testing

from distkit_actors import (
    FleetLimiter,
)
from tests.behaviour.limits import (
    KEY,
    STEPS,
    idle,
    in_use,
    lines,
)
from tests.behaviour.test_cancellation import ticks
from tests.behaviour.world import Flavour, World, both_flavours


@both_flavours
@pytest.mark.parametrize("free", [True, False])
async def test_cancelled_at_every_step(world: World, flavour: Flavour, free: bool) -> None:
    """Acquired or not, and in either case exactly."""
    a, b = await world.make(flavour), await world.make(flavour)
    outcomes = set[bool]()
    for steps in range(STEPS):
        limiter, other = FleetLimiter(a, KEY, 1), FleetLimiter(b, KEY, 1)
        if not free:
            await other.acquire()
        async with lines() as line:
            await line.join(limiter, "x")
            await ticks(steps)
            line.give_up("x")
            await ticks(4)
            assert 0 == limiter.statistics().tasks_waiting
            outcomes.add(bool(line.got))
            if not free:
                assert not line.got
                other.release()
            await in_use(world, a, len(line.got), len(line.got))
            if line.got:
                limiter.release_on_behalf_of("x")
        await in_use(world, b, 0, 0)
        assert idle(limiter)
        for key in (limiter._order.tickets, limiter._order.waiting):
            await world.sees(a, key, 0, 0)
    assert outcomes == ({True, False} if free else {False})


@both_flavours
async def test_cancelled_as_a_token_is_handed_over(world: World, flavour: Flavour) -> None:
    """The one behind gets it, or the store; in whichever order the two happen."""
    a = await world.make(flavour)
    for waiters in (1, 2, 3):
        for release_first in (True, False):
            limiter = FleetLimiter(a, KEY, 1)
            await limiter.acquire_on_behalf_of("x")
            async with lines() as line:
                for number in range(waiters):
                    await line.join(limiter, number)
                await ticks(STEPS)
                if release_first:
                    limiter.release_on_behalf_of("x")
                line.give_up(0)
                if not release_first:
                    limiter.release_on_behalf_of("x")
                await ticks(3)
                if waiters == 1:
                    assert [] == line.got
                    await in_use(world, a, 0, 0)
                else:
                    assert [1] == line.got
                    await in_use(world, a, 1, 1)
                    assert (1,) == limiter.statistics().borrowers
                    line.give_up(2) if waiters == 3 else None
                    await ticks(3)
                    limiter.release_on_behalf_of(1)
            await in_use(world, a, 0, 0)


@both_flavours
async def test_handed_over_as_the_store_gives_another(world: World, flavour: Flavour) -> None:
    """One of the two is for the next in line, or goes back."""
    a = await world.make(flavour)
    for waiters in (1, 2):
        for steps in 4 * [*range(STEPS)]:
            limiter = FleetLimiter(a, KEY, 2)
            await limiter.acquire_on_behalf_of("x")
            async with lines() as line:
                for number in range(waiters):
                    await line.join(limiter, number)
                await ticks(steps)
                limiter.release_on_behalf_of("x")
                with trio.fail_after(1):
                    await line.until(*range(waiters))
                await in_use(world, a, waiters, waiters)
                for number in range(waiters):
                    limiter.release_on_behalf_of(number)
            await in_use(world, a, 0, 0)


async def test_handed_over_released_by_another_and_cancelled(world: World) -> None:
    """The token of one who was too slow is not given away twice."""
    a = await world.strict()
    limiter = FleetLimiter(a, KEY, 1)
    await limiter.acquire_on_behalf_of("x")
    async with lines() as line:
        await line.join(limiter, "y")
        limiter.release_on_behalf_of("x")  # to y, whose task does not know it yet
        limiter.release_on_behalf_of("y")
        limiter.acquire_on_behalf_of_nowait("y")  # by somebody else
        line.give_up("y")
        await ticks(3)
        assert [] == line.got
        assert ("y",) == limiter.statistics().borrowers
        await in_use(world, a, 1, 1)


@both_flavours
async def test_cancelled_with_the_question_on_its_way(world: World, flavour: Flavour) -> None:
    """Prompt, and what the store grants comes back by itself."""
    a = await world.make(flavour)
    limiter = FleetLimiter(a, KEY, 1)
    world.wire(a).hold(replies=True)
    with trio.move_on_after(world.interval / 4) as scope:
        await limiter.acquire()
    assert scope.cancelled_caught
    assert trio.current_time() - scope.deadline <= world.slack / 2
    assert idle(limiter)
    world.wire(a).release()
    await in_use(world, a, 0, 0)
    with trio.fail_after(1 + world.slack):
        await limiter.acquire()


@both_flavours
async def test_a_failing_body_gives_its_token_back(world: World, flavour: Flavour) -> None:
    a = await world.make(flavour)
    limiter = FleetLimiter(a, KEY, 1)
    with pytest.raises(ZeroDivisionError):
        async with limiter:
            raise ZeroDivisionError
    with trio.CancelScope() as scope:
        async with limiter:
            scope.cancel()
            await trio.sleep_forever()
    assert 0 == limiter.borrowed_tokens
    await in_use(world, a, 0, 0)


async def test_it_is_a_checkpoint_each_time(world: World) -> None:
    limiter = FleetLimiter(await world.strict(), KEY, 1)
    for _ in range(2):  # from the store, then one that was not sent back yet
        with trio.testing.assert_checkpoints():
            await limiter.acquire()
        with trio.testing.assert_no_checkpoints():
            limiter.release()
    with trio.CancelScope() as scope:
        scope.cancel()
        await limiter.acquire()
    assert scope.cancelled_caught
    assert 0 == limiter.borrowed_tokens
