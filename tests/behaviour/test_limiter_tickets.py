"""What a process shows of its line: one ticket, and nothing of those who do not wait any more."""

# ruff: noqa: SIM300 - expected == actual, all through

from __future__ import annotations

from itertools import accumulate

import pytest
import trio
import trio.testing

from distkit_actors import FleetLimiter, StoreError
from distkit_actors._limiter._names import TICKETS, companion
from distkit_actors._protocol._messages import Apply, Entry, Request
from tests.behaviour.limits import KEY, lines
from tests.behaviour.test_cancellation import ticks
from tests.behaviour.world import Counter, World

_TICKETS = companion(KEY, TICKETS, 1)


def _tickets(request: Request) -> list[Entry]:
    entries = request.entries if isinstance(request, Apply) else ()
    return [entry for entry in entries if entry.key == _TICKETS and entry.value]


def shows(request: Request) -> bool:
    """Whether a request changes which ticket a process shows."""
    return bool(_tickets(request))


async def only_tickets(world: World, counter: Counter) -> None:
    """Hold that a counter has never shown more than the time at which somebody came."""
    added = [entry.value for request in world.requests(counter) for entry in _tickets(request)]
    await trio.lowlevel.checkpoint()
    assert max(accumulate(added)) <= trio.current_time() * 1000


async def two(world: World) -> tuple[FleetLimiter, FleetLimiter]:
    """Return the limiters of two processes; their only token is taken, by the second."""
    a, b = [FleetLimiter(await world.strict(), KEY, 1) for _ in range(2)]
    await b.acquire_on_behalf_of("user")
    await trio.sleep(10)  # so that a ticket is far from 0
    return a, b


async def test_who_takes_the_place_of_one_that_gave_up_shows_its_own_ticket_only(
    world: World,
) -> None:
    """Though the other's was on its way, and something else is to go between the two."""
    a, b = await two(world)
    counter = world._counters[0]
    async with lines() as line:
        await line.join(b, "before")
        await trio.sleep(0.05)
        await line.join(a, "x")
        while not any(map(shows, world.requests(counter))):
            world.wire(counter).release()
            world.wire(counter).hold(replies=True)
            await trio.sleep(0.001)
        await line.join(a, "y")
        line.give_up("x")
        await ticks(10)
        line._nursery.start_soon(a.fleet_usage)
        await ticks(10)
        world.wire(counter).release()
        await trio.sleep(1)
        await only_tickets(world, counter)
    await world.sees(counter, _TICKETS, 0, 0)


@pytest.mark.parametrize("others", [True, False])
async def test_a_ticket_that_the_store_would_not_take_back_is_not_shown_with_the_next(
    world: World, others: bool
) -> None:
    """Whether others wait behind that of the ticket, who are told, or nobody."""
    a, b = await two(world)
    counter = world._counters[0]

    async def told() -> None:
        with pytest.raises(StoreError, match="out of memory"):
            await a.acquire()

    async with lines() as line:
        await line.join(b, "before")
        await trio.sleep(0.05)
        await line.join(a, "x")
        await trio.sleep(0.05)
        if others:
            line._nursery.start_soon(told)
            await trio.sleep(0.05)
        world.wire(counter).answer(StoreError("out of memory"), executed=False, when=shows)
        line.give_up("x")
        await line.join(a, "y") if others else await trio.sleep(0.05)
        await line.join(a, "z")
        await trio.sleep(1)
        assert 1 == world.wire(counter).counts["answer"]
        await only_tickets(world, counter)
    await world.sees(counter, _TICKETS, 0, 0)


async def test_a_ticket_that_nobody_has_any_more_holds_nobody_up(world: World) -> None:
    """Though its counter is lax, and tells other things of its own some time later."""
    slow = 2.0
    here, there, other = [
        FleetLimiter(counter, KEY, 2)
        for counter in (
            await world.lax(flush_interval=slow),
            await world.strict(),
            await world.strict(),
        )
    ]
    for name in ("x", "y"):
        await other.acquire_on_behalf_of(name)
    async with lines() as line:
        await line.join(here, "1")
        await trio.sleep(0.05)
        await line.join(there, "2")
        await trio.sleep(0.05)
        for name in ("x", "y"):
            other.release_on_behalf_of(name)
        with trio.fail_after(slow / 4):
            await line.until("1", "2")


async def test_a_token_taken_out_of_turn_is_there_for_whoever_is_first(world: World) -> None:
    """Though the counter that gives it back is lax."""
    slow = 2.0
    here = FleetLimiter(await world.lax(flush_interval=slow), KEY, 1)
    there, other = [FleetLimiter(await world.strict(), KEY, 1) for _ in range(2)]
    await other.acquire_on_behalf_of("x")
    async with lines() as line:
        await line.join(there, "first")
        await trio.sleep(0.05)
        world.wire(world._counters[1]).hold()  # it hears of the token later than others do
        other.release_on_behalf_of("x")
        await trio.sleep(0.05)
        await line.join(here, "second")
        await trio.sleep(0.05)
        world.wire(world._counters[1]).release()
        with trio.fail_after(slow / 4):
            await line.until("first")
