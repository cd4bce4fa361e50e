"""Who has tokens of a limit, who waits for them, and what the store was asked."""

from __future__ import annotations

import math
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import pytest
import trio

from distkit_actors import FleetLimiter
from distkit_actors._actor._operations import Operation
from distkit_actors._protocol._messages import Apply, Request
from tests.behaviour.world import Counter, World

KEY = "seats"

#: More than the steps from a call to its answer, over a store that answers.
STEPS = 24


class Gauge:
    """Counts who has a token, and complains if they are too many."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.most = total  # that may be here: more than the total, if that was set lower since
        self.now = 0
        self.peak = 0
        self.uses = 0

    @asynccontextmanager
    async def use(self, limiter: FleetLimiter) -> AsyncIterator[None]:
        """Have a token for as long as the block lasts."""
        async with limiter:
            self.now += 1
            self.uses += 1
            self.peak = max(self.peak, self.now)
            try:
                assert self.now <= self.most
                yield
            finally:
                self.now -= 1
                self.most = max(self.total, self.most - 1)

    def change(self, total: int, limiters: Sequence[FleetLimiter]) -> None:
        """Set another total in every process; whoever has a token by now keeps it."""
        self.total = total
        self.most = max(total, sum(limiter.borrowed_tokens for limiter in limiters))
        for limiter in limiters:
            limiter.total_tokens = total


class Line:
    """Tasks that want tokens, and when they got them."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.got: list[object] = []
        self._news = trio.Event()
        self._nursery = nursery
        self._scopes: dict[object, trio.CancelScope] = {}

    async def join(self, limiter: FleetLimiter, name: object) -> None:
        """Let a task wait for a token, behind those who wait already."""
        waiting = limiter.statistics().tasks_waiting
        self._nursery.start_soon(self._wait, limiter, name)
        with trio.fail_after(5):
            while limiter.statistics().tasks_waiting == waiting:
                await trio.lowlevel.checkpoint()

    async def until(self, *names: object) -> None:
        """Wait until exactly these have got a token, in this order."""
        while self.got != list(names):
            await self._news.wait()

    def give_up(self, name: object) -> None:
        """Cancel a task that waits."""
        self._scopes[name].cancel()

    async def _wait(self, limiter: FleetLimiter, name: object) -> None:
        with trio.CancelScope() as self._scopes[name]:
            await limiter.acquire_on_behalf_of(name)
            self.got.append(name)
            self._news.set()
            self._news = trio.Event()


@asynccontextmanager
async def lines() -> AsyncIterator[Line]:
    """Have a line, and end it with the block."""
    async with trio.open_nursery() as nursery:
        yield Line(nursery)
        nursery.cancel_scope.cancel()


def questions(world: World, counter: Counter) -> int:
    """How often a counter has asked the store for a token."""
    requests = world.requests(counter)
    entries = [entry for r in requests if isinstance(r, Apply) for entry in r.entries]
    return sum(entry.key == KEY and entry.condition is not None for entry in entries)


def requests(world: World, counter: Counter) -> int:
    """How often a counter has asked the store for anything, beside mere signs of life."""
    return sum(not isinstance(r, Apply) or bool(r.entries) for r in world.requests(counter))


def asks(request: Request) -> bool:
    """Whether a request asks for a token."""
    return isinstance(request, Apply) and any(e.condition is not None for e in request.entries)


def idle(limiter: FleetLimiter) -> bool:
    """Whether nobody here has tokens or waits for some, and nothing is left of those who did."""
    order = limiter._order
    left = order._places or order._first or order._shown
    now = limiter.statistics()
    return not (now.borrowed_tokens or now.borrowers or now.tasks_waiting or left)


def endless(limiter: FleetLimiter, borrower: object) -> None:
    """Let the turn of a token never be over."""
    limiter._loans[borrower].token.turn_ends = math.inf


def late_answers(
    limiter: FleetLimiter, chance: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Let some of a limiter's questions and answers take longer than others."""
    part = limiter._tokens._part
    ask = part.ask

    async def slowly(operation: Operation) -> tuple[int, int]:
        await trio.sleep(chance.choice([0, 0, 0.003, 0.02]))
        answer = await ask(operation)
        with trio.CancelScope(shield=True):  # it has come: who asked is only told of it later
            await trio.sleep(chance.choice([0, 0, 0.003, 0.02]))
        return answer

    monkeypatch.setattr(part, "ask", slowly)


async def seconds(call: Callable[[], Awaitable[object]]) -> float:
    """Return how long a call takes."""
    start = trio.current_time()
    await call()
    return trio.current_time() - start


async def in_use(world: World, counter: Counter, *expected: int) -> None:
    """Hold that so many tokens are in use, as the store sees it."""
    await world.sees(counter, KEY, *expected)
