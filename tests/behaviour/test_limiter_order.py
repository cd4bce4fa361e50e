"""First come, first served in the whole fleet, whatever becomes of those who wait."""

# ruff: noqa: SIM300 - expected == actual, all through

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from functools import partial
from itertools import combinations

import pytest
import trio
import trio.testing

from distkit_actors import (
    CounterClosedError,
    FleetLimiter,
    FleetLimiterUsage,
    MemoryStore,
    StrictInstanceAwareCounter,
)
from distkit_actors._actor._operations import AtomicBatch, Operation
from distkit_actors._instance._holds import Hold
from distkit_actors._limiter._order import LONGEST_TURN, Order, Place, order_of
from distkit_actors._limiter._token_lease import TURN
from distkit_actors._protocol._conditions import Condition
from distkit_actors._protocol._messages import Previous
from distkit_actors._stores._contract import Subscription
from tests.behaviour.limits import KEY, endless, idle, in_use, lines
from tests.behaviour.test_cancellation import ticks
from tests.behaviour.world import Flavour, World, both_flavours, everywhere

#: Seconds between two arrivals that are told apart for certain: more than some round trips.
APART = 0.05


async def test_a_notice_that_another_limiter_here_has_seen_is_news_still(world: World) -> None:
    """A token that has become free may be the first one's, who has asked just before."""
    counter = await world.strict()
    order = Order(counter, KEY)
    await order._read()  # what time it is for the store
    first = order.join()
    await trio.sleep(1)
    second = order.join()
    try:
        assert await order.is_first(first)
        assert not await order.is_first(second)
        order.look_again()
        assert not await order.is_first(second)
        with trio.fail_after(1):
            await order.wait(first)
    finally:
        for place in (first, second):
            order.leave(place)


async def test_a_process_shows_who_came_first_though_that_one_has_not_asked_yet(
    world: World,
) -> None:
    """The one before it was served just now, and somebody waits for another limiter here."""
    counter = await world.strict()
    order = Order(counter, KEY)
    await order._read()
    places = []
    for _ in range(3):
        places.append(order.join())
        await trio.sleep(1)
    served, behind, later = places
    try:
        assert await order.is_first(served)
        assert not await order.is_first(later)
        order.leave(served)
        assert not await order.is_first(later)
        await world.sees(counter, order.tickets, *2 * (order._ticket(behind),))
        assert await order.is_first(behind)
    finally:
        for place in (behind, later):
            order.leave(place)


@both_flavours
async def test_a_process_does_not_go_on_showing_who_left_as_it_was_shown(
    world: World, flavour: Flavour, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waits for another limiter here is served next, and all others look at its ticket."""
    order = Order(await world.make(flavour), KEY)
    await order._read()
    first = order.join()
    await trio.sleep(1)
    second = order.join()
    enter = order._enter_hold

    async def slowly(hold: Hold, condition: Condition | None) -> object:
        monkeypatch.setattr(order, "_enter_hold", enter)
        value = await enter(hold, condition)
        order.leave(first)
        await trio.sleep(0.5)
        return value

    monkeypatch.setattr(order, "_enter_hold", slowly)
    try:
        with trio.fail_after(2):
            while not await order.is_first(second):
                await order.wait(second)
        assert order._shown is not None
        assert order._ticket(second) == order._shown.count
    finally:
        order.leave(second)


@asynccontextmanager
async def all_taken(limiter: FleetLimiter) -> AsyncIterator[Callable[[], None]]:
    """Have all tokens, until what this gives is called."""
    await limiter.acquire_on_behalf_of("all", limiter.total_tokens)
    yield lambda: limiter.release_on_behalf_of("all")


async def fleet(world: World, flavour: Flavour, size: int, total: int = 1) -> list[FleetLimiter]:
    """Return limiters on one key, each of another process."""
    return [FleetLimiter(await world.make(flavour), KEY, total) for _ in range(size)]


# -------------------------------------------------------------------------------------------- order


@everywhere
async def test_who_comes_first_is_served_first_wherever_it_is(
    world: World, flavour: Flavour
) -> None:
    limiters = await fleet(world, flavour, 3)
    gap = APART if world.backend.name == "memory" else 0.3
    async with all_taken(limiters[2]) as free, lines() as line:
        arrivals = [0, 1, 1, 0, 2, 0, 1, 2]
        for number, where in enumerate(arrivals):
            await line.join(limiters[where], number)
            await trio.sleep(gap)
        free()
        with trio.fail_after(5 + 10 * world.slack):
            for number, where in enumerate(arrivals):
                await line.until(*range(number + 1))
                limiters[where].release_on_behalf_of(number)
    for limiter in limiters:
        assert idle(limiter)
    await in_use(world, world._counters[0], 0, 0)


@both_flavours
async def test_a_release_wakes_the_first_at_once(world: World, flavour: Flavour) -> None:
    """By a push: nothing here takes any time but what a lax counter keeps back."""
    a, b, c = await fleet(world, flavour, 3)
    async with all_taken(c) as free, lines() as line:
        await line.join(a, "first")
        await trio.sleep(APART)
        await line.join(b, "second")
        await trio.sleep(3.21)
        free()
        with trio.fail_after(0.021):
            await line.until("first")
        a.release_on_behalf_of("first")
        with trio.fail_after(0.05):
            await line.until("first", "second")


@pytest.mark.parametrize("seed", range(12))
async def test_nobody_is_overtaken_by_one_who_came_much_later(world: World, seed: int) -> None:
    """At random: processes, kinds of counters, numbers of tokens, gaps, uses, and giving up."""
    chance = random.Random(seed)
    total = chance.choice([1, 2, 5])
    limiters = [
        (await fleet(world, chance.choice(["strict", "lax"]), 1, total))[0]
        for _ in range(chance.choice([2, 4]))
    ]
    arrived, granted = dict[int, float](), dict[int, float]()
    in_use_now = 0

    async def visit(number: int) -> None:
        nonlocal in_use_now
        limiter, count = chance.choice(limiters), chance.randint(1, total)
        arrived[number] = trio.current_time()
        with trio.move_on_after(chance.choice([0.05, 60, 60, 60])):
            await limiter.acquire_on_behalf_of(number, count)
            granted[number] = trio.current_time()
            in_use_now += count
            assert in_use_now <= total
            try:
                await trio.sleep(chance.choice([0, 0.001, 0.02, 0.1]))
            finally:
                in_use_now -= count
                limiter.release_on_behalf_of(number)

    async with trio.open_nursery() as nursery:
        for number in range(60):
            nursery.start_soon(visit, number)
            await trio.sleep(chance.choice([0, 0.001, 0.01, 0.05]))
    assert len(granted) > 20
    for one, other in combinations(granted, 2):
        first, second = sorted((one, other), key=arrived.__getitem__)
        if arrived[second] - arrived[first] > TURN + APART:
            assert granted[first] <= granted[second]
    for limiter in limiters:
        assert idle(limiter)
    for key in (KEY, limiters[0]._order.tickets, limiters[0]._order.waiting):
        await world.sees(world._counters[0], key, 0, 0)


@both_flavours
async def test_newcomers_do_not_overtake_where_nobody_waits_in_their_process(
    world: World, flavour: Flavour
) -> None:
    """Not even one that asks at the very moment at which a token is free: it is let go again."""
    a, b, c = await fleet(world, flavour, 3)
    for steps in range(0, 40, 2):
        async with lines() as line:
            async with all_taken(c) as free:
                await line.join(a, "first")
                await trio.sleep(APART)
                free()
                await ticks(steps)
                await line.join(b, "second") if not line.got else None
                with trio.fail_after(1):
                    await line.until("first")
            a.release_on_behalf_of("first")
        await trio.sleep(2)


@both_flavours
async def test_nobody_overtakes_whom_its_process_has_seen_whatever_the_clocks(
    world: World, flavour: Flavour
) -> None:
    here, there, other = await fleet(world, flavour, 3)
    there._order.note = partial(_ahead, there._order)  # type: ignore[method-assign]
    async with all_taken(other) as free, lines() as line:
        await line.join(there, "first")
        await trio.sleep(1)
        await line.join(here, "gives up")
        await trio.sleep(1)
        line.give_up("gives up")
        await trio.sleep(1)
        await line.join(here, "last")
        await trio.sleep(1)
        free()
        with trio.fail_after(5):
            await line.until("first")
        there.release_on_behalf_of("first")
        with trio.fail_after(5):
            await line.until("first", "last")


@pytest.mark.parametrize("seconds", [0, 0.75 * LONGEST_TURN])
@both_flavours
async def test_a_newcomer_is_not_handed_a_token_past_whom_its_process_has_seen(
    world: World, flavour: Flavour, seconds: float
) -> None:
    """The line of its process was empty for a moment, and what it knew of others was forgotten."""
    here, there, other = await fleet(world, flavour, 3)
    async with lines() as line:
        async with all_taken(other) as free:
            await line.join(here, "first")
            await trio.sleep(APART)
            await line.join(there, "second")
            await trio.sleep(1)
            free()
            with trio.fail_after(5):
                await line.until("first")
        endless(here, "first")
        await trio.sleep(seconds)
        await line.join(here, "third")
        here.release_on_behalf_of("first")
        with trio.fail_after(5):
            await line.until("first", "second")


async def test_a_process_knows_that_the_last_of_the_others_has_left(world: World) -> None:
    """The store says so with each answer, perhaps before the notice of the change is here."""
    here, there = await world.strict(), await world.strict()
    order, rival = Order(here, KEY), Hold(order_of(there, KEY).tickets, 1)
    await order._read()
    place = order.join()
    await there._enter_hold(rival, None)
    await order._look(place)
    assert order.is_crowded
    there._actor.parts[0].release(rival, at_once=True)
    await there.get("anything")  # it has been sent before
    await order._read()
    order.leave(place)
    assert not order.is_crowded


def _ahead(order: Order, batch: AtomicBatch, asked: float, line: Previous) -> bool:
    """Take in what a batch has found, and believe that the store's clock is ten seconds ahead."""
    crowded = Order.note(order, batch, asked, line)
    assert order._clock is not None
    order._clock = order._clock[0] + 10_000, order._clock[1]
    return crowded


@both_flavours
async def test_limiters_of_one_counter_stand_in_one_line(world: World, flavour: Flavour) -> None:
    a, b = await world.make(flavour), await world.make(flavour)
    one, two, other = (FleetLimiter(counter, KEY, 1) for counter in (a, a, b))
    async with all_taken(other) as free, lines() as line:
        for name, limiter in (("1", two), ("2", other), ("3", one), ("4", two)):
            await line.join(limiter, name)
            await trio.sleep(APART)
        free()
        for names, limiter in (("1", two), ("12", other), ("123", one), ("1234", two)):
            with trio.fail_after(7):
                await line.until(*names)
            limiter.release_on_behalf_of(names[-1])


async def two_here(world: World, flavour: Flavour) -> tuple[FleetLimiter, FleetLimiter]:
    """Return limiters of one process; the first has given the only token to "x"."""
    a = await world.make(flavour)
    one, two = FleetLimiter(a, KEY, 1), FleetLimiter(a, KEY, 1)
    await one.acquire_on_behalf_of("x")
    endless(one, "x")
    return one, two


@both_flavours
async def test_a_token_is_not_handed_on_past_who_waits_for_another_limiter_here(
    world: World, flavour: Flavour
) -> None:
    one, two = await two_here(world, flavour)
    async with lines() as line:
        await line.join(two, "1")
        await trio.sleep(APART)
        await line.join(one, "2")
        await trio.sleep(APART)
        one.release_on_behalf_of("x")
        with trio.fail_after(1 + world.slack):
            await line.until("1")


@both_flavours
async def test_nobody_comes_at_once_while_somebody_waits_for_another_limiter_here(
    world: World, flavour: Flavour
) -> None:
    one, two = await two_here(world, flavour)
    async with lines() as line:
        await line.join(two, "1")
        one.release_on_behalf_of("x")
        with pytest.raises(trio.WouldBlock):
            one.acquire_on_behalf_of_nowait("2")
        with trio.fail_after(1 + world.slack):
            await line.until("1")


# ---------------------------------------------------------------------------------------- accidents


@both_flavours
async def test_one_who_died_is_waited_for_no_longer_than_its_threshold(
    world: World, flavour: Flavour
) -> None:
    a, b, c = await fleet(world, flavour, 3)
    async with all_taken(c) as free, lines() as line:

        async def wait_in_vain() -> None:
            with pytest.raises(CounterClosedError):
                await a.acquire()

        line._nursery.start_soon(wait_in_vain)
        await trio.sleep(APART + world.slack / 3)
        await line.join(b, "next")
        await trio.sleep(APART + world.slack / 3)
        await world.crash(world._counters[0])
        free()
        await trio.sleep(APART)
        assert [] == line.got
        with trio.fail_after(world.threshold + 2 * world.interval + 5 * world.slack):
            await line.until("next")


@both_flavours
@pytest.mark.parametrize("what", ["clear", "tickets", "key"])
async def test_the_line_heals_where_it_was_wiped_out(
    world: World, flavour: Flavour, what: str
) -> None:
    a, b, c = await fleet(world, flavour, 3)
    stranger = await world.strict()
    async with all_taken(c) as free, lines() as line:
        for name, limiter in (("first", a), ("second", b), ("third", a)):
            await line.join(limiter, name)
            await trio.sleep(APART)
        if what == "clear":
            await stranger.clear()
        else:
            await stranger.delete(KEY if what == "key" else a._order.tickets)
        if what == "tickets":
            await trio.sleep(APART)
            free()
        with trio.fail_after(1):
            await line.until("first")
        a.release_on_behalf_of("first")
        with trio.fail_after(1):
            await line.until("first", "second")
        b.release_on_behalf_of("second")
        with trio.fail_after(1):
            await line.until("first", "second", "third")


@both_flavours
async def test_the_order_outlives_an_outage(world: World, flavour: Flavour) -> None:
    a, b, c = await fleet(world, flavour, 3)
    counters = list(world._counters)
    async with all_taken(c) as free, lines() as line:
        await line.join(a, "first")
        await trio.sleep(APART)
        await line.join(b, "second")
        await trio.sleep(APART)
        for counter in counters:
            world.wire(counter).cut()
        await world.intervals(1.5)
        free()
        for counter in reversed(counters):
            world.heal(counter)
        with trio.fail_after(2 * world.threshold):
            await line.until("first")
        a.release_on_behalf_of("first")
        with trio.fail_after(2 * world.threshold):
            await line.until("first", "second")


class _Mute(MemoryStore):
    """Does not push."""

    def subscribe(self, prefix: str) -> AbstractAsyncContextManager[Subscription | None]:
        """There is nothing to subscribe to."""
        del prefix
        return nullcontext()


async def test_a_store_that_does_not_push_is_asked_four_times_a_second(world: World) -> None:
    del world
    store = _Mute()
    async with (
        StrictInstanceAwareCounter.open("p", store) as a,
        StrictInstanceAwareCounter.open("p", store) as b,
        lines() as line,
    ):
        here, there = FleetLimiter(a, KEY, 1), FleetLimiter(b, KEY, 1)
        await here.acquire_on_behalf_of("x")
        await line.join(there, "y")
        await trio.sleep(3)
        here.release_on_behalf_of("x")
        with trio.fail_after(0.26):
            await line.until("y")


@both_flavours
async def test_lost_word_is_made_up_for(world: World, flavour: Flavour) -> None:
    """With a look every six seconds."""
    a, b = await fleet(world, flavour, 2)
    async with all_taken(b) as free, lines() as line:
        await line.join(a, "x")
        await trio.sleep(1)
        # It never hears of this key any more.
        a._order._part.watches._listeners.tell = _deaf  # type: ignore[method-assign]
        free()
        with trio.fail_after(6.1):
            await line.until("x")


def _deaf(keys: object) -> None:
    del keys


@both_flavours
async def test_giving_up_at_any_step_leaves_nothing_in_the_line(
    world: World, flavour: Flavour
) -> None:
    a, b, c = await fleet(world, flavour, 3)
    async with all_taken(c):
        for steps in range(60):
            async with lines() as line:
                await line.join(a, "x")
                await ticks(steps)
                await line.join(b, "y")
                await ticks(steps)
                line.give_up("x")
                await ticks(2)
                line.give_up("y")
                await ticks(4)
            assert idle(a)
            assert idle(b)
            for key in (a._order.tickets, a._order.waiting):
                await world.sees(world._counters[2], key, 0, 0)
    c.release_on_behalf_of("all")


# ------------------------------------------------------------------------------------------ weights


@both_flavours
async def test_who_wants_many_is_not_overtaken_by_those_who_want_few(
    world: World, flavour: Flavour
) -> None:
    a, b = await fleet(world, flavour, 2, total=5)
    for number in range(5):
        await a.acquire_on_behalf_of(number)
    big, small = 4, 1
    async with trio.open_nursery() as nursery:
        got: list[str] = []

        async def want(limiter: FleetLimiter, name: str, count: int) -> None:
            await limiter.acquire_on_behalf_of(name, count)
            got.append(name)

        nursery.start_soon(want, b, "big", big)
        await trio.sleep(APART)
        nursery.start_soon(want, a, "small", small)
        await trio.sleep(APART)
        for number in range(3):
            a.release_on_behalf_of(number)
            await trio.sleep(APART)
            assert [] == got
        a.release_on_behalf_of(3)
        await trio.sleep(APART)
        assert ["big"] == got
        assert 4 == b.borrowed_tokens
        a.release_on_behalf_of(4)
        await trio.sleep(APART)
        assert ["big", "small"] == got
    await in_use(world, world._counters[0], 5, 1)
    b.release_on_behalf_of("big")
    a.release_on_behalf_of("small")
    await in_use(world, world._counters[0], 0, 0)


@pytest.mark.parametrize(
    ("count", "error"), [(0, ValueError), (-1, ValueError), (6, ValueError), (True, TypeError)]
)
async def test_bad_numbers(world: World, count: int, error: type[Exception]) -> None:
    limiter = FleetLimiter(await world.strict(), KEY, 5)
    with pytest.raises(error, match="token"):
        await limiter.acquire(count)
    with pytest.raises(error, match="token"):
        limiter.acquire_nowait(count)
    assert idle(limiter)


async def test_several_released_at_once_can_be_had_at_once(world: World) -> None:
    limiter = FleetLimiter(await world.strict(), KEY, 5)
    await limiter.acquire(3)
    limiter.release()
    with pytest.raises(trio.WouldBlock):
        limiter.acquire_nowait(2)
    limiter.acquire_nowait(3)
    assert 3 == limiter.borrowed_tokens


# -------------------------------------------------------------------------------------------- total


@both_flavours
async def test_more_tokens_let_in_who_waits(world: World, flavour: Flavour) -> None:
    (a,) = await fleet(world, flavour, 1)
    await a.acquire_on_behalf_of("x")
    async with lines() as line:
        await line.join(a, "y")
        await trio.sleep(1)
        a.total_tokens = 2
        assert 2 == a.total_tokens
        with trio.fail_after(0.1):
            await line.until("y")


@both_flavours
async def test_fewer_tokens_are_taken_from_nobody(world: World, flavour: Flavour) -> None:
    a, b = await fleet(world, flavour, 2, total=3)
    for number in range(3):
        await a.acquire_on_behalf_of(number)
    async with lines() as line:
        await line.join(b, "y")
        await trio.sleep(1)  # what is on its way goes by the old number
        for limiter in (a, b):
            limiter.total_tokens = 1
        assert 0 == a.available_tokens
        for number in range(2):
            a.release_on_behalf_of(number)
            await trio.sleep(1)
            assert [] == line.got
        a.release_on_behalf_of(2)
        with trio.fail_after(0.1):
            await line.until("y")


@both_flavours
async def test_too_many_tokens_are_not_handed_on(world: World, flavour: Flavour) -> None:
    """Not in a process where somebody waits, and not to who comes just after."""
    (limiter,) = await fleet(world, flavour, 1, total=3)
    for number in range(3):
        await limiter.acquire_on_behalf_of(number)
        endless(limiter, number)
    limiter.total_tokens = 2
    limiter.release_on_behalf_of(0)
    with pytest.raises(trio.WouldBlock):
        limiter.acquire_nowait()
    async with lines() as line:
        await line.join(limiter, "x")
        limiter.total_tokens = 1
        limiter.release_on_behalf_of(1)
        await trio.sleep(1)
        assert [] == line.got
        limiter.release_on_behalf_of(2)
        with trio.fail_after(0.1):
            await line.until("x")


async def test_too_many_tokens_are_not_handed_on_whatever_the_total_was_when_they_were_given(
    world: World,
) -> None:
    limiter = FleetLimiter(await world.strict(), KEY, 1)
    await limiter.acquire_on_behalf_of(0)
    endless(limiter, 0)
    limiter.total_tokens = 3
    await limiter.acquire_on_behalf_of(1, 2)
    limiter.total_tokens = 2
    async with lines() as line:
        await line.join(limiter, "x")
        limiter.release_on_behalf_of(0)
        await trio.sleep(1)
        assert [] == line.got


def lower_before_answers(
    limiter: FleetLimiter, total: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Set the total lower once after the store has decided, and before the limiter is told."""
    part = limiter._tokens._part
    ask = part.ask

    async def slowly(operation: Operation) -> tuple[int, int]:
        answer = await ask(operation)
        if operation.hold is not None and limiter.total_tokens != total:
            limiter.total_tokens = total
        return answer

    monkeypatch.setattr(part, "ask", slowly)


async def test_an_answer_that_comes_after_the_total_was_set_lower_lets_nobody_in(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = await world.strict()
    limiter = FleetLimiter(counter, KEY, 3)
    await limiter.acquire_on_behalf_of("x", 2)
    lower_before_answers(limiter, 2, monkeypatch)
    async with lines() as line:
        await line.join(limiter, "y")
        await trio.sleep(1)
        assert 2 == limiter.total_tokens
        assert [] == line.got
        await in_use(world, counter, 2, 2)
        limiter.release_on_behalf_of("x")
        with trio.fail_after(0.1):
            await line.until("y")


async def test_a_total_set_lower_holds_for_who_was_let_in_before_others_and_is_told_after_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store let in one here and then one there: both were within the total of that time."""
    here, there = await fleet(world, "strict", 2, total=2)
    part = here._tokens._part
    ask = part.ask

    async def slowly(operation: Operation) -> tuple[int, int]:
        answer = await ask(operation)
        if operation.hold is not None and not there.borrowed_tokens:
            await there.acquire_on_behalf_of("x")
            for limiter in (here, there):
                limiter.total_tokens = 1
        return answer

    monkeypatch.setattr(part, "ask", slowly)
    async with lines() as line:
        await line.join(here, "y")
        await trio.sleep(1)
        assert 1 == there.borrowed_tokens
        assert [] == line.got
        monkeypatch.undo()
        there.release_on_behalf_of("x")
        with trio.fail_after(0.1):
            await line.until("y")


async def test_who_asked_for_more_than_there_are_any_more_is_told_and_nothing_is_kept(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = await world.strict()
    limiter = FleetLimiter(counter, KEY, 3)
    lower_before_answers(limiter, 2, monkeypatch)
    with pytest.raises(ValueError, match="never"):
        await limiter.acquire(3)
    assert idle(limiter)
    await in_use(world, counter, 0, 0)


async def test_who_waits_for_more_than_there_are_any_more_is_told(world: World) -> None:
    """And does not hold up the fleet."""
    a, b = await fleet(world, "strict", 2, total=3)
    async with all_taken(b), trio.open_nursery() as nursery:

        async def wait() -> None:
            with pytest.raises(ValueError, match="never"):
                await a.acquire(3)

        nursery.start_soon(wait)
        await trio.sleep(1)
        a.total_tokens = 2
    assert idle(a)


@pytest.mark.parametrize(("total", "error"), [(0, ValueError), (2.0, TypeError), (True, TypeError)])
async def test_bad_totals_are_not_set(world: World, total: int, error: type[Exception]) -> None:
    limiter = FleetLimiter(world.build("strict"), KEY, 3)
    with pytest.raises(error, match="total_tokens"):
        limiter.total_tokens = total
    assert 3 == limiter.total_tokens


# -------------------------------------------------------------------------------------------- looks


@both_flavours
async def test_the_fleet_knows_how_many_wait(world: World, flavour: Flavour) -> None:
    a, b, c = await fleet(world, flavour, 3, total=2)
    assert FleetLimiterUsage(0, 2, 0) == await a.fleet_usage()
    async with lines() as line:
        async with all_taken(c):

            async def sees(*expected: int) -> None:
                async def equal() -> bool:
                    return await b.fleet_usage() == FleetLimiterUsage(*expected)

                await world.until(equal)

            await sees(2, 0, 0)
            for number in range(5):
                await line.join((a, b)[number % 2], number)
            await sees(2, 0, 5)
            assert 0 == b.available_tokens
            line.give_up(0)
            line.give_up(3)
            await sees(2, 0, 3)
        c.release_on_behalf_of("all")
        await sees(2, 0, 1)


async def test_how_many_are_free_by_the_last_word(world: World) -> None:
    a, b = await fleet(world, "strict", 2, total=5)
    assert 5 == a.available_tokens
    await a.acquire_on_behalf_of("x", 2)
    assert 3 == a.available_tokens
    await b.acquire_on_behalf_of("y", 2)
    assert 3 == a.available_tokens  # it has not asked since
    assert 1 == b.available_tokens
    assert FleetLimiterUsage(4, 1, 0) == await a.fleet_usage()
    assert 1 == a.available_tokens == a.statistics().available_tokens


# ------------------------------------------------------------------------------------------ fencing


async def numbers(limiters: list[FleetLimiter], rounds: int) -> list[int]:
    """Return the numbers of tokens that were had one after another."""
    found = []
    for number in range(rounds):
        limiter = limiters[number % len(limiters)]
        await limiter.acquire()
        found.append(limiter.fencing_number())
        assert found[-1] == limiter.fencing_number_of(trio.lowlevel.current_task())
        limiter.release()
    return found


@both_flavours
async def test_a_later_token_has_a_greater_number(world: World, flavour: Flavour) -> None:
    counters = [await world.make(flavour) for _ in range(2)]
    limiters = [FleetLimiter(counter, KEY, 1, fencing=True) for counter in counters]
    found = await numbers(limiters, 20)
    await world.backend.wipe(world.prefix)
    found += await numbers(limiters, 4)
    limiters += [FleetLimiter(await world.make(flavour), KEY, 1, fencing=True)]
    found += await numbers(limiters[2:], 2)
    assert sorted(set(found)) == found


async def test_numbers_rise_though_the_clock_of_the_store_jumps_back(world: World) -> None:
    limiters = [FleetLimiter(await world.strict(), KEY, 1, fencing=True) for _ in range(2)]
    await trio.sleep(100)
    found = await numbers(limiters, 3)
    world.backend.shared._clock._offset -= 50  # type: ignore[attr-defined]
    found += await numbers(limiters, 3)
    assert sorted(set(found)) == found


@both_flavours
async def test_numbers_differ_in_the_same_instant(world: World, flavour: Flavour) -> None:
    """Also where a process has tokens already, so that it has a slice: no time passes here."""
    counters = [await world.make(flavour) for _ in range(2)]
    limiters = [FleetLimiter(counter, KEY, 4, fencing=True) for counter in counters]
    for limiter in limiters:
        await limiter.acquire_on_behalf_of("x")
    found = await numbers(limiters, 10)
    assert sorted(set(found)) == found


async def test_each_use_in_a_process_has_a_number_of_its_own(world: World) -> None:
    limiter = FleetLimiter(await world.strict(), KEY, 1, fencing=True)
    await limiter.acquire_on_behalf_of("x")
    found = [limiter.fencing_number_of("x")]
    async with lines() as line:
        for number in range(3):
            await line.join(limiter, number)
        previous: object = "x"
        for number in range(3):
            limiter.release_on_behalf_of(previous)
            with pytest.raises(trio.WouldBlock):
                limiter.acquire_nowait()
            with trio.fail_after(1):
                await line.until(*range(number + 1))
            found.append(limiter.fencing_number_of(number))
            previous = number
    assert sorted(set(found)) == found


async def test_no_numbers_unless_asked_for(world: World) -> None:
    limiter = FleetLimiter(await world.strict(), KEY, 1)
    with pytest.raises(RuntimeError, match="none of"):
        limiter.fencing_number()
    async with limiter:
        with pytest.raises(RuntimeError, match="fencing=True"):
            limiter.fencing_number()


async def test_who_is_served_while_it_takes_its_place_leaves_nothing_in_the_line(
    world: World,
) -> None:
    """A token may be handed over between the store's answer and the moment that it is read."""
    counter = await world.strict()
    order = order_of(counter, KEY)
    enter = order._enter_hold
    await order._read()  # so that the store's clock is known

    async def check(step: Callable[[Place], Awaitable[object]]) -> None:
        place = order.join()
        with trio.CancelScope() as scope:

            async def served_meanwhile(hold: Hold, condition: Condition | None) -> object:
                entered = await enter(hold, condition)
                order.leave(place)
                scope.cancel()
                return entered

            order._enter_hold = served_meanwhile
            await step(place)
        assert await counter.get(order.tickets) == (0, 0)
        assert await counter.get(order.waiting) == (0, 0)

    await check(order.is_first)
    await check(order.count)
