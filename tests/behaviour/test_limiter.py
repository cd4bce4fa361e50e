"""A limit on the whole fleet: never exceeded, first come first served, no token lost."""

# ruff: noqa: SIM300 - expected == actual, all through

from __future__ import annotations

import inspect
import itertools
import math
import random
import textwrap
from contextlib import suppress
from typing import Any

import pytest
import trio
import trio.testing

import distkit_actors
from distkit_actors import (
    FleetLimiter,
    FleetLimiterStatistics,
    InvalidKeyError,
    MemoryStore,
    StrictInstanceAwareCounter,
)
from distkit_actors._limiter._token_lease import TURN
from tests.behaviour.limits import (
    KEY,
    STEPS,
    Gauge,
    endless,
    idle,
    in_use,
    late_answers,
    lines,
    questions,
    requests,
    seconds,
)
from tests.behaviour.test_cancellation import ticks
from tests.behaviour.world import Flavour, World, both_flavours, everywhere, on_both


@both_flavours
async def test_one_more_than_the_limit_waits(world: World, flavour: Flavour) -> None:
    a, b = await world.make(flavour), await world.make(flavour)
    here, there = FleetLimiter(a, KEY, 2), FleetLimiter(b, KEY, 2)
    await here.acquire_on_behalf_of(1)
    await there.acquire_on_behalf_of(2)
    await in_use(world, a, 2, 1)
    with trio.move_on_after(world.interval / 2) as scope:
        await here.acquire_on_behalf_of(3)
    assert scope.cancelled_caught
    there.release_on_behalf_of(2)
    with trio.fail_after(1 + world.slack):
        await here.acquire_on_behalf_of(3)
    await in_use(world, a, 2, 2)
    here.release_on_behalf_of(1)
    here.release_on_behalf_of(3)
    await in_use(world, b, 0, 0)


@on_both
@pytest.mark.parametrize(
    ("flavours", "totals"),
    [
        (("strict", "strict"), [1]),
        (("lax", "strict"), [3]),
        (("lax", "lax"), [1]),
        (("strict", "lax"), [3, 1, 2]),
    ],
)
async def test_the_limit_is_never_exceeded_and_no_token_is_lost(
    world: World, flavours: tuple[Flavour, Flavour], totals: list[int]
) -> None:
    """Many tasks, some of which give up, wherever they are, while the limit may change."""
    counters = [await world.make(flavour) for flavour in flavours]
    limiters = [FleetLimiter(counter, KEY, max(totals)) for counter in counters]
    await many_visits(limiters, totals * 10, random.Random(f"{flavours}{max(totals)}"))
    for limiter, counter in zip(limiters, counters, strict=True):
        assert idle(limiter)
        await in_use(world, counter, 0, 0)
        for key in (limiter._order.tickets, limiter._order.waiting):
            await world.sees(counter, key, 0, 0)


@pytest.mark.parametrize("seed", [9, 69, 170, 267])
async def test_the_limit_is_never_exceeded_whenever_answers_come(
    world: World, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """What the store decided first may be told last, and after the limit was set lower."""
    chance = random.Random(seed)
    trio._core._run._r.seed(seed)  # in which order tasks run
    flavours: list[Flavour] = ["strict", chance.choice(["strict", "lax"]), "strict"]
    limiters = [FleetLimiter(await world.make(flavour), KEY, 3) for flavour in flavours]
    for limiter in limiters:
        late_answers(limiter, chance, monkeypatch)
    await many_visits(limiters, [3, 1, 2] * 50, chance)
    assert all(idle(limiter) for limiter in limiters)


async def many_visits(
    limiters: list[FleetLimiter], totals: list[int], chance: random.Random
) -> None:
    """Have many tasks take a token for a while, while the limit is set to others."""
    total = max(totals)
    gauge = Gauge(total)

    async def visitor(limiter: FleetLimiter) -> None:
        for visits in itertools.count():
            if visits >= 9 and gauge.peak == total:  # a busy machine may take longer
                break
            with trio.move_on_after(chance.choice([0, 0.0005, 0.005, 0.05, 0.5, math.inf])):
                if chance.random() < 0.3:
                    with suppress(trio.WouldBlock):
                        limiter.acquire_nowait()
                        limiter.release()
                async with gauge.use(limiter):
                    await trio.sleep(chance.choice([0, 0, 0.001, 0.01]))
            await trio.sleep(chance.choice([0, 0.001, 0.01]))

    async def manager() -> None:
        for another in [*totals, total]:
            gauge.change(another, limiters)
            await trio.sleep(chance.choice([0.001, 0.01, 0.1]))

    with trio.fail_after(300):
        async with trio.open_nursery() as nursery:
            if len(set(totals)) > 1:
                nursery.start_soon(manager)
            for limiter in limiters:
                for _ in range(10):
                    nursery.start_soon(visitor, limiter)
    assert gauge.uses > 50


@everywhere
async def test_all_tokens_can_be_had(world: World, flavour: Flavour) -> None:
    a = await world.make(flavour)
    limiter = FleetLimiter(a, KEY, 20)
    with trio.fail_after(0.5 + world.slack):  # none waits for more than an answer
        for number in range(20):
            await limiter.acquire_on_behalf_of(number)
    assert 20 == limiter.borrowed_tokens
    await in_use(world, a, 20, 20)


async def test_the_largest_limit(world: World) -> None:
    limiter = FleetLimiter(await world.strict(), KEY, 2**63 - 1)
    async with limiter:
        assert 1 == limiter.borrowed_tokens


# --------------------------------------------------------------------------------------------- line


@both_flavours
async def test_those_who_wait_are_served_in_turn(world: World, flavour: Flavour) -> None:
    limiter = FleetLimiter(await world.make(flavour), KEY, 2)
    for name in ("x", "y"):
        await limiter.acquire_on_behalf_of(name)
    async with lines() as line:
        for number in range(6):
            await line.join(limiter, number)
        for number, borrower in enumerate(["y", "x", 0, 1, 2, 3]):
            limiter.release_on_behalf_of(borrower)
            await ticks(3)
            assert list(range(number + 1)) == line.got


@both_flavours
async def test_the_next_in_line_asks_when_the_first_gives_up(
    world: World, flavour: Flavour
) -> None:
    a, b = await world.make(flavour), await world.make(flavour)
    limiter, other = FleetLimiter(a, KEY, 1), FleetLimiter(b, KEY, 1)
    await other.acquire()
    async with lines() as line:
        for number in range(4):
            await line.join(limiter, number)
        line.give_up(2)
        line.give_up(0)
        while limiter.statistics().tasks_waiting > 2:  # noqa: ASYNC110 - no event is set
            await trio.lowlevel.checkpoint()
        other.release()
        with trio.fail_after(1.1 * TURN + world.slack):
            await line.until(1)
        limiter.release_on_behalf_of(1)
        await ticks(3)
        assert [1, 3] == line.got


@both_flavours
async def test_a_token_is_handed_over_without_the_store(world: World, flavour: Flavour) -> None:
    """Also while the store does not answer, and while the first in line asks it."""
    a = await world.make(flavour)
    limiter = FleetLimiter(a, KEY, 1)
    await limiter.acquire_on_behalf_of("x")
    endless(limiter, "x")
    await world.settle()
    async with lines() as line:
        world.wire(a).hold()
        await line.join(limiter, "y")
        await line.join(limiter, "z")
        await trio.sleep(world.interval / 8)  # y asks, and hears nothing
        before = len(world.requests(a))
        limiter.release_on_behalf_of("x")
        await ticks(3)
        assert ["y"] == line.got
        limiter.release_on_behalf_of("y")
        await ticks(3)
        assert ["y", "z"] == line.got
        assert before == len(world.requests(a))
        world.wire(a).release()
        # What y had asked for is given back, if it was granted at all.
        await in_use(world, a, 1, 1)


@both_flavours
async def test_those_who_wait_in_vain_leave_the_store_alone(world: World, flavour: Flavour) -> None:
    """However many they are: one lease in two seconds, and one or two questions in six."""
    counters = [await world.make(flavour) for _ in range(4)]
    limiters = [FleetLimiter(counter, KEY, 1) for counter in counters]
    await limiters[0].acquire()
    async with lines() as line:
        for number in range(50):
            await line.join(limiters[1 + number % 3], number)
        await trio.sleep(10)
        before = [requests(world, counter) for counter in counters]
        await trio.sleep(60)
        for counter, old in list(zip(counters, before, strict=True))[1:]:
            assert requests(world, counter) - old <= 60 / 2 + 2 * 60 / 6 + 1
        asked = sum(questions(world, counter) for counter in counters)
        await trio.sleep(60)
        assert sum(questions(world, counter) for counter in counters) - asked <= 60 / 6 + 1


@both_flavours
async def test_what_was_released_here_is_asked_for_at_once(world: World, flavour: Flavour) -> None:
    """However long somebody here has asked in vain before."""
    limiter = FleetLimiter(await world.make(flavour), KEY, 1)
    await limiter.acquire_on_behalf_of("x")
    with trio.move_on_after(1):
        await limiter.acquire_on_behalf_of("y")
    limiter.release_on_behalf_of("x")
    await world.settle()
    await ticks(STEPS)
    with pytest.raises(trio.WouldBlock):
        limiter.acquire_on_behalf_of_nowait("z")  # it has been sent back
    assert 0 == await seconds(limiter.acquire)


@both_flavours
@pytest.mark.parametrize("delay", [0, 0.04])
async def test_a_busy_line_does_not_ask_more_often(
    world: World, flavour: Flavour, delay: float
) -> None:
    """Whoever is first now, and however short its wait."""
    a = await world.make(flavour)
    world.wire(a).delay(delay)
    limiter = FleetLimiter(a, KEY, 1)
    uses = 0

    async def user() -> None:
        nonlocal uses
        while True:
            async with limiter:
                uses += 1
                await trio.sleep(0.001)

    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(user)
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    assert uses > 500
    assert questions(world, a) < 5 * 1 / TURN


# ------------------------------------------------------------------------------------------ no wait


@both_flavours
async def test_what_was_just_released_can_be_had_at_once(world: World, flavour: Flavour) -> None:
    """Once only, and as if it had never been released."""
    a, b = await world.make(flavour), await world.make(flavour)
    limiter, other = FleetLimiter(a, KEY, 1), FleetLimiter(b, KEY, 1)
    with pytest.raises(trio.WouldBlock):
        limiter.acquire_nowait()
    await limiter.acquire()
    await world.settle()
    before = questions(world, a)
    for _ in range(3):
        limiter.release()
        limiter.acquire_nowait()
        with pytest.raises(trio.WouldBlock):
            limiter.acquire_on_behalf_of_nowait("x")
    with pytest.raises(trio.WouldBlock):
        other.acquire_nowait()
    await world.settle()
    await world.intervals(0.5)
    await in_use(world, b, 1, 0)
    assert before == questions(world, a)
    limiter.release()
    await in_use(world, b, 0, 0)
    with pytest.raises(trio.WouldBlock):
        limiter.acquire_nowait()


@both_flavours
async def test_what_is_on_its_way_back_cannot_be_had(world: World, flavour: Flavour) -> None:
    a = await world.make(flavour)
    limiter = FleetLimiter(a, KEY, 1)
    await limiter.acquire()
    await world.settle()
    world.wire(a).hold()
    limiter.release()
    await trio.sleep(0.05)  # longer than a flush interval
    with pytest.raises(trio.WouldBlock):
        limiter.acquire_nowait()
    world.wire(a).release()
    await in_use(world, a, 0, 0)


@both_flavours
async def test_nobody_overtakes_those_who_wait(world: World, flavour: Flavour) -> None:
    """Here the token goes back although somebody waits, as its turn is over."""
    a = await world.make(flavour)
    limiter = FleetLimiter(a, KEY, 1)
    await limiter.acquire_on_behalf_of("x")
    async with lines() as line:
        await line.join(limiter, "y")
        loan = limiter._loans["x"]
        loan.token.turn_ends = -math.inf
        limiter.release_on_behalf_of("x")
        loan.token.turn_ends = math.inf
        with pytest.raises(trio.WouldBlock):
            limiter.acquire_on_behalf_of_nowait("z")
        await trio.sleep(2 * TURN)
        assert ["y"] == line.got


# ----------------------------------------------------------------------------------------- the rest


async def test_misuse(world: World) -> None:
    limiter = FleetLimiter(await world.strict(), KEY, 1)
    with pytest.raises(RuntimeError, match="none of"):
        limiter.release()
    with pytest.raises(RuntimeError, match="none of"):
        limiter.release_on_behalf_of("x")
    async with limiter:
        with pytest.raises(RuntimeError, match="already"):
            await limiter.acquire()
        with pytest.raises(RuntimeError, match="already"):
            limiter.acquire_nowait()
        async with lines() as line:
            await line.join(limiter, "x")
            with pytest.raises(RuntimeError, match="waits"):
                await limiter.acquire_on_behalf_of("x")
            with pytest.raises(RuntimeError, match="waits"):
                limiter.acquire_on_behalf_of_nowait("x")
            with pytest.raises(RuntimeError, match="none of"):
                limiter.release_on_behalf_of("x")
    with pytest.raises(TypeError):
        await limiter.acquire_on_behalf_of([])


@pytest.mark.parametrize(
    ("total", "error"),
    [
        (0, ValueError),
        (-1, ValueError),
        (2**63, ValueError),
        (True, TypeError),
        (1.0, TypeError),
        ("1", TypeError),
        (None, TypeError),
    ],
)
async def test_bad_totals(world: World, total: int, error: type[Exception]) -> None:
    with pytest.raises(error, match="total_tokens"):
        FleetLimiter(world.build("strict"), KEY, total)
    with pytest.raises(InvalidKeyError):
        FleetLimiter(world.build("strict"), "", 1)


@pytest.mark.parametrize("counter", ["jobs", None])
def test_what_is_no_counter_is_named(counter: Any) -> None:
    with pytest.raises(TypeError, match=f"a counter is needed, not {counter!r}"):
        FleetLimiter(counter, KEY, 1)


async def test_how_things_stand(world: World) -> None:
    limiter = FleetLimiter(await world.strict(), KEY, 2)
    assert 2 == limiter.total_tokens
    async with limiter:
        await limiter.acquire_on_behalf_of("x")
        async with lines() as line:
            await line.join(limiter, "y")
            task = trio.lowlevel.current_task()
            assert FleetLimiterStatistics(2, 2, (task, "x"), 1, 0) == limiter.statistics()
            assert "<FleetLimiter 'seats', 2/2 here with 1 waiting>" == repr(limiter)
    assert 1 == limiter.borrowed_tokens


async def test_the_example_in_the_docstring(world: World) -> None:
    text = inspect.getdoc(FleetLimiter) or ""
    lines_of_it = text.partition("::\n\n")[2].splitlines()
    end = next(n for n, line in enumerate(lines_of_it) if line and not line.startswith(" "))
    example = textwrap.dedent("\n".join(lines_of_it[:end]))
    store = MemoryStore()
    namespace = dict(vars(distkit_actors)) | {"url": store}
    source = f"async def example():\n{textwrap.indent(example, '    ')}\n    return limiter"
    exec(source, namespace)
    limiter = await namespace["example"]()  # type: ignore[operator]
    async with StrictInstanceAwareCounter.open("my_app", store) as counter:
        assert (0, 0) == await counter.get(limiter._key)
