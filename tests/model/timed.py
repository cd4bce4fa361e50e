"""Observed time (P40), explored with real times: every pattern of suspensions on a grid of ticks.

Each instance beats at the package's own pace unless it is suspended, and may be suspended at any
tick for any number of ticks. Whatever the pattern:

* nobody is declared dead who was heard within its threshold;
* after a silence of everybody that was longer than threshold - interval, nobody is declared
  dead for one more threshold who was heard since the last time that this was so (I5);
* who stays silent is dead after threshold + interval, as long as somebody beats normally (I3).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import permutations
from typing import Final

from distkit_actors._core._messages import Pace, Slice
from distkit_actors._core._namespace import Namespace
from distkit_actors._core._observed import Blackouts, Heard
from distkit_actors._core._registry import Record, State
from distkit_actors._core._session import Phase, Session
from distkit_actors._core._timing import MICROSECONDS, Timing
from tests.model.oracle import Violation

#: Some time long after the beginning.
_NOW: Final = 10**12
#: What blackouts had taken from observed time when an exploration begins.
_LOST: Final = 10**9
#: The one slice that everybody has.
_PIECE: Final = Slice(1, 1)


@dataclass(frozen=True)
class Grid:
    """Periods in ticks of a second."""

    instances: int
    threshold: int
    interval: int

    def __post_init__(self) -> None:
        """Check that beats fall on ticks."""
        if self.period * MICROSECONDS != int(self.timing.period * MICROSECONDS + 0.5):
            raise ValueError(f"beats every {self.timing.period} are off the grid")

    @property
    def timing(self) -> Timing:
        """The package's arithmetic."""
        return Timing.of(self.threshold, self.interval)

    @property
    def period(self) -> int:
        """Ticks between two beats."""
        return round(self.timing.period)

    @property
    def silence(self) -> float:
        """Ticks of silence that are taken for no blackout, half-way between what must differ."""
        return (self.period + self.threshold - self.interval) / 2

    @property
    def horizon(self) -> int:
        """Ages from here on are the same."""
        return self.threshold + self.interval + self.period + 1


#: Explored by the tests: intervals of a tenth, a third and half of the threshold.
GRIDS: Final = (Grid(2, 10, 1), Grid(2, 6, 2), Grid(2, 20, 10))
#: Explored by ``make modelcheck`` too.
LONG_GRIDS: Final = (Grid(3, 3, 1), Grid(3, 4, 1), Grid(3, 5, 1), Grid(2, 12, 4))


@dataclass(frozen=True, slots=True)
class One:
    """One instance, as the store and we see it; times are ticks ago."""

    age: int = 0  # heard last
    watched: tuple[bool, ...] = ()  # by whom who has beaten without a pause ever since
    blackouts: int = 0  # how many it was given time for since it was heard; 2 is many
    # What the store knows, in microseconds.
    heard: int = 0  # ago, as far as it matters
    silent: int = 0  # observed since then, or since a blackout ended after which it has had time
    graced: bool = False  # it has had that
    deadline: int = 0  # from now
    live: bool = True


@dataclass(frozen=True, slots=True)
class Timed:
    """One state."""

    ones: tuple[One, ...]
    fresh: int  # a blackout ended
    last: int  # somebody was heard, in microseconds ago
    ended: int  # the last blackout, in microseconds ago


def explore(grid: Grid) -> int:
    """Visit every state; return how many there are, or raise `Violation`."""
    pace = grid.timing.pace
    one = One(watched=(True,) * grid.instances, deadline=pace.threshold)
    first = Timed((one,) * grid.instances, grid.threshold, 0, 2 * pace.threshold)
    history: tuple[tuple[int, ...], ...] = ()
    seen, queue = {first}, deque([(first, history)])
    while queue:
        state, history = queue.popleft()
        for order in _orders(state, grid):
            past = (*history, order)
            try:
                new = _tick(state, order, grid, pace)
            except AssertionError as error:
                error.add_note(f"who beat in each tick: {past}")
                raise
            if new not in seen:
                seen.add(new)
                queue.append((new, past))
    return len(seen)


def _orders(state: Timed, grid: Grid) -> Iterator[tuple[int, ...]]:
    """Give who may beat in this tick, in every order: of those whose beat is due, any."""
    due = [n for n, one in enumerate(state.ones) if one.age + 1 >= grid.period]
    for awake in range(len(due) + 1):
        yield from permutations(due, awake)


def _tick(state: Timed, order: tuple[int, ...], grid: Grid, pace: Pace) -> Timed:
    ns = _thaw(state, pace)
    now = _NOW + MICROSECONDS
    ones = [replace(one, age=one.age + 1) for one in state.ones]
    fresh = state.fresh + 1
    for number in order:
        silence = min(one.age for one in ones)
        if silence > grid.threshold - grid.interval:
            fresh = 0
        if silence > grid.silence:
            ones = [replace(one, blackouts=min(2, one.blackouts + 1)) for one in ones]
        ones[number] = replace(ones[number], age=0, blackouts=0, watched=(True,) * grid.instances)
        _beat(ns, number, pace, now)
        for other, one in enumerate(ones):
            if one.live and ns.registry.records[str(other)].state is not State.LIVE:
                ones[other] = replace(one, live=False)
                if one.age < grid.threshold:
                    raise Violation(f"{other} was heard {one.age} ticks ago and declared dead")
                if fresh < grid.threshold and one.blackouts == 1:
                    raise Violation(f"{other} died {fresh} ticks after a blackout")
        ones[number] = replace(ones[number], live=True)
    steady = [one.age < grid.period for one in ones]
    for number, one in enumerate(ones):
        watched = tuple(w and s for w, s in zip(one.watched, steady, strict=True))
        ones[number] = replace(one, watched=watched)
        if one.live and any(watched) and one.age >= grid.threshold + grid.interval:
            raise Violation(f"{number} was heard {one.age} ticks ago and is not dead")
    return _freeze(ns, ones, fresh, now, grid)


def _beat(ns: Namespace, number: int, pace: Pace, now: int) -> None:
    session = Session(str(number), "", pace)
    session.phase, session.incarnation = Phase.LIVE, number + 1
    session.seq = session.used = 1
    session.slices["k"] = _PIECE
    session.begin((), budget=50)
    while (request := session.request()) is not None:
        session.receive(ns.execute(request, now))
    if ns.registry.records[str(number)].state is not State.LIVE:
        raise Violation(f"{number} beats and is not alive")
    total = sum(record.state is State.LIVE for record in ns.registry.records.values())
    if ns.registry.total("k") != total:
        raise Violation(f"{total} are alive, and the sum is {ns.registry.total('k')}")


def _thaw(state: Timed, pace: Pace) -> Namespace:
    ns = Namespace()
    registry = ns.registry
    ns.born, ns.clock, registry.observed.last = 1, _NOW - state.last, _NOW - state.last
    blackouts = registry.observed.paces[pace[:2]] = Blackouts(_LOST, _NOW - state.ended)
    for number, one in enumerate(state.ones):
        record = registry.records[str(number)] = Record(number + 1, "", pace, 0)
        record.seq = 1
        record.deadline = _NOW + one.deadline
        if one.graced:
            record.heard = Heard(_NOW - one.heard, _LOST, _NOW - one.silent)
        else:
            record.heard = Heard(_NOW - one.heard, _LOST - (one.heard - one.silent))
        if one.live:
            blackouts.living += 1
            record.slices["k"] = _PIECE
            registry.add("k", 1)
        else:
            record.state = State.DEAD
            registry.expiring[str(number)] = 2 * _NOW
    if not blackouts.living:
        del registry.observed.paces[pace[:2]]
    return ns


def _freeze(ns: Namespace, ones: list[One], fresh: int, now: int, grid: Grid) -> Timed:
    observed, pace = ns.registry.observed, grid.timing.pace
    blackouts = observed.paces.get(pace[:2], Blackouts())
    longest = 2 * pace.threshold  # nobody is silent for longer without being dead
    frozen = []
    for number, one in enumerate(ones):
        age, watched = min(one.age, grid.horizon), one.watched
        if not one.live:
            frozen.append(One(age, watched, live=False))
            continue
        record = ns.registry.records[str(number)]
        heard = record.heard
        silent = now - (heard.graced or heard.at) - (blackouts.lost - heard.lost)
        silent = min(silent, longest)
        ago = min(now - heard.at, max(pace.threshold, silent))
        deadline = max(record.deadline - now, -MICROSECONDS)
        graced = bool(heard.graced)
        frozen.append(One(age, watched, one.blackouts, ago, silent, graced, deadline, live=True))
    return Timed(
        tuple(frozen),
        min(fresh, grid.threshold),
        min(now - observed.last, longest),
        min(now - blackouts.ended, longest - 1),
    )
