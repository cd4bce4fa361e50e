"""What tasks of a counter do all the time with the newer operations, and what must come of it.

Each chore is a loop that goes on whatever the server does, checks every answer, and keeps account
of what it was told. Some can be exact only as long as the server keeps its data.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import suppress

import trio

from distkit_actors import Eq, FleetLimiter, Ge, LimitReachedError, Lt, OutcomeUnknownError
from tests.faults.fleet import Counter

#: Seconds between two rounds: leaves the processor to the others.
PAUSE = 0.004


class Chore(ABC):
    """Something that is done again and again.

    Args:
        counter: who does it.
        name: begins the keys that are its own.
        lossless: whether the server keeps its data, so that it is always known what happened.
    """

    def __init__(self, counter: Counter, name: str, *, lossless: bool) -> None:
        self.counter = counter
        self.name = name
        self.lossless = lossless
        self.rounds = 0
        self.stopping = False

    async def run(self) -> None:
        """Go on until told to stop; what was begun is finished."""
        while not self.stopping:
            await self.round()
            self.rounds += 1
            await trio.sleep(PAUSE)

    @abstractmethod
    async def round(self) -> None:
        """Do it once."""

    def slices(self) -> dict[str, int]:
        """Return what the counter's slices of the chore's own keys must be in the end."""
        return {}


class Increments(Chore):
    """`inc_all` on two keys in a fixed ratio, of which everybody always sees both or neither."""

    async def round(self) -> None:
        x, y = f"{self.name} x", f"{self.name} y"
        told = await self.counter.inc_all({x: 1, y: 2})
        assert told == {x: (self.rounds + 1,) * 2, y: (2 * self.rounds + 2,) * 2}

    def slices(self) -> dict[str, int]:
        return {f"{self.name} x": self.rounds, f"{self.name} y": 2 * self.rounds}


class Moves(Chore):
    """`set_all` on two keys, opposite to each other, of which everybody sees both or neither."""

    def __init__(self, counter: Counter, name: str, *, lossless: bool) -> None:
        super().__init__(counter, name, lossless=lossless)
        self.value = 0
        self.in_doubt = False

    async def round(self) -> None:
        p, q = f"{self.name} p", f"{self.name} q"
        number = self.rounds + 1
        try:
            told = await self.counter.set_all({p: number, q: -number})
        except OutcomeUnknownError:
            assert not self.lossless
            self.in_doubt = True
        else:
            assert told == {p: (number, number), q: (-number, -number)}
            self.value, self.in_doubt = number, False

    async def run(self) -> None:
        """Go on until told to stop, and until the last one is known to have happened."""
        await super().run()
        while self.in_doubt:
            await self.round()
            self.rounds += 1

    def slices(self) -> dict[str, int]:
        return {f"{self.name} p": self.value, f"{self.name} q": -self.value}


class Reader(Chore):
    """`get_all` of what others do to two keys: never one without the other."""

    def __init__(self, counter: Counter, name: str, *, lossless: bool) -> None:
        super().__init__(counter, name, lossless=lossless)
        self.seen: set[int] = set()

    async def round(self) -> None:
        keys = [f"{self.name} {letter}" for letter in "xypq"]
        x, y, p, q = (value.cumulative for value in (await self.counter.get_all(keys)).values())
        assert (y, q) == (2 * x, -p)
        self.seen.add(x)


class Decisions(Chore):
    """Operations with a condition, of which this counter alone knows how they must turn out."""

    def __init__(self, counter: Counter, name: str, *, lossless: bool) -> None:
        super().__init__(counter, name, lossless=lossless)
        self.latch = 0

    async def round(self) -> None:
        old, name, counter = self.rounds, self.name, self.counter
        assert await counter.inc_if(f"{name} i", Eq(old), 1) == _change(old, old + 1)
        assert await counter.set_on_instance_if(f"{name} s", Eq(old), old + 1) == _change(
            old, old + 1
        )
        told = await counter.inc_all_if(
            {f"{name} yes": (Ge(old), 1), f"{name} no": (Ge(old + 1), 1)}
        )
        assert told == {f"{name} yes": _change(old, old + 1), f"{name} no": _change(0, 0)}
        await self._move(f"{name} latch", self.latch)

    async def _move(self, key: str, old: int) -> None:
        try:
            told = await self.counter.set_if(key, Eq(old), old + 1)
        except OutcomeUnknownError:
            assert not self.lossless
            # It was lost with the store's data, and what had been set before perhaps too (L4).
            self.latch = await _set_surely(self.counter, key, old + 2)
        else:
            assert told == _change(old, old + 1)
            self.latch = old + 1

    def slices(self) -> dict[str, int]:
        counted = {f"{self.name} {what}": self.rounds for what in ("i", "s", "yes")}
        return counted | {f"{self.name} latch": self.latch}


def _change(previous: int, current: int) -> object:
    """Return a change where nobody else counts; there always is one if it applies."""
    return ((previous, previous), (current, current), previous != current)


async def _set_surely(counter: Counter, key: str, count: int) -> int:
    while True:
        with suppress(OutcomeUnknownError):
            return (await counter.set(key, count)).cumulative


class Gauge:
    """How many are inside something that has a limit."""

    def __init__(self, limit: int, *, exact: bool) -> None:
        self.limit = limit
        self.peak = 0
        self._exact = exact
        self._inside = 0

    async def use(self) -> None:
        """Be inside for a moment."""
        self._inside += 1
        self.peak = max(self.peak, self._inside)
        try:
            assert not self._exact or self._inside <= self.limit
            await trio.sleep(3 * PAUSE)  # so that others want to be in at the same time
        finally:
            self._inside -= 1


class Limited(Chore):
    """Something for which there is room for so many at once, in all counters together."""

    def __init__(self, counter: Counter, gauge: Gauge, *, lossless: bool) -> None:
        super().__init__(counter, "", lossless=lossless)
        self.gauge = gauge


class Holder(Limited):
    """Holds with a limit, and without."""

    async def round(self) -> None:
        with suppress(LimitReachedError):
            async with self.counter.hold("free", 2), self.counter.hold("held", 1, self.gauge.limit):
                await self.gauge.use()


class Seat(Limited):
    """Takes a seat if there is one, and gives it back."""

    async def round(self) -> None:
        told = await self.counter.inc_if("seats", Lt(self.gauge.limit))
        assert told.current == (
            (told.previous.cumulative + told.applied, told.previous.instance_count + told.applied)
        )
        if told.applied:
            await self.gauge.use()
            await self.counter.dec("seats")


class Borrower(Limited):
    """Uses a token of a limiter that all counters share."""

    def __init__(self, counter: Counter, gauge: Gauge, *, lossless: bool) -> None:
        super().__init__(counter, gauge, lossless=lossless)
        self.limiter = FleetLimiter(counter, "tokens", gauge.limit)

    async def round(self) -> None:
        async with self.limiter:
            await self.gauge.use()


class Intruder(Chore):
    """Asks to be let in where all the room there is has been taken for as long as it asks."""

    def __init__(self, counter: Counter, key: str, room: int, *, lossless: bool) -> None:
        super().__init__(counter, key, lossless=lossless)
        self.room = room

    async def round(self) -> None:
        try:
            async with self.counter.hold(self.name, 1, limit=self.room):
                assert not self.lossless
        except LimitReachedError:
            pass


class Follower:
    """Watches a key that only ever grows, for as long as it is let."""

    def __init__(self, counter: Counter, key: str, *, lossless: bool) -> None:
        self.last: tuple[int, int] = (-1, 0)
        self._counter = counter
        self._key = key
        self._lossless = lossless

    async def run(self) -> None:
        async with self._counter.watch(self._key) as values:
            async for value in values:
                assert not self._lossless or value.cumulative > self.last[0]
                self.last = value
