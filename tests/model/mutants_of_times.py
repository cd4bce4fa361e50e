"""Observed time with one rule taken out or a defect put back, each of which a grid must notice."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final
from unittest import mock

from distkit_actors._namespace import _observed_time
from distkit_actors._namespace._namespace import Namespace
from distkit_actors._namespace._observed_time import Heard, Observed
from distkit_actors._namespace._registry import Record
from distkit_actors._protocol._messages import Periods
from tests.model.mutants import Patch, Rule, no_blackout
from tests.model.timed import Grid, alike


@dataclass(frozen=True)
class MutantOfTimes(Rule):
    """One rule taken out, and on what grid that shows."""

    grid: Grid
    violation: str
    """What is found, as a regular expression."""


_hear = Observed.hear
_judge = Observed.judge


def _gap(observed: Observed, now: int) -> int:
    return observed.steady(now) - observed.last


def _present(observed: Observed, now: int, periods: Periods | None, heard: Heard | None) -> bool:
    at = max(observed.last, observed.steady(now))
    return bool(periods and heard and at - heard.at <= _observed_time.longest_silence(*periods[:2]))


def _newcomers_have_been_there() -> Sequence[Patch]:
    def hear(
        self: Observed, now: int, periods: Periods | None = None, heard: Heard | None = None
    ) -> None:
        by_periods = self.by_periods
        if periods is None:
            self.by_periods = {}
        _hear(self, now, periods, heard)
        self.by_periods = by_periods

    return [(Observed, "hear", hear)]


def _a_fresh_threshold_each_time() -> Sequence[Patch]:
    def judge(self: Observed, periods: Periods, heard: Heard, steady: int) -> tuple[int, Heard]:
        left, heard = _judge(self, periods, heard, steady)
        blackouts = self.by_periods[periods[:2]]
        if left <= 0 and blackouts.ended > heard.graced:
            heard = Heard(heard.at, blackouts.lost, blackouts.ended)
            left = periods.threshold - (steady - heard.graced)
        return left, heard

    return [(Observed, "judge", judge)]


def _judged_by_one_pace(which: Callable[[Iterable[int]], int]) -> Patch:
    """Return a patch by which a gap is a blackout for all or for nobody."""

    def hear(
        self: Observed, now: int, periods: Periods | None = None, heard: Heard | None = None
    ) -> None:
        if _present(self, now, periods, heard) and which is min:
            return _hear(self, now, periods, heard)
        silence = which(
            _observed_time.longest_silence(*each) for each in self.by_periods or [(2, 1)]
        )
        with mock.patch.object(_observed_time, "longest_silence", return_value=silence):
            return _hear(self, now, periods, heard)

    return Observed, "hear", hear


def _judged_by_the_slowest() -> Sequence[Patch]:
    return [_judged_by_one_pace(max)]


def _judged_by_the_fastest() -> Sequence[Patch]:
    return [_judged_by_one_pace(min)]


def _usual_for_one_is_no_blackout_for_all() -> Sequence[Patch]:
    def hear(
        self: Observed, now: int, periods: Periods | None = None, heard: Heard | None = None
    ) -> None:
        by_periods = self.by_periods
        if _present(self, now, periods, heard):
            self.by_periods = {}
        _hear(self, now, periods, heard)
        self.by_periods = by_periods

    return [(Observed, "hear", hear)]


def _nobody_watches() -> Sequence[Patch]:
    def hear(
        self: Observed, now: int, periods: Periods | None = None, heard: Heard | None = None
    ) -> None:
        _hear(self, now)

    return [(Observed, "hear", hear)]


def _jumps_back_are_not_taken_down() -> Sequence[Patch]:
    def hear(
        self: Observed, now: int, periods: Periods | None = None, heard: Heard | None = None
    ) -> None:
        if _gap(self, now) >= 0:
            _hear(self, now, periods, heard)

    return [(Observed, "hear", hear)]


def _time_runs_backward() -> Sequence[Patch]:
    def hear(
        self: Observed, now: int, periods: Periods | None = None, heard: Heard | None = None
    ) -> None:
        self.last = min(self.last, self.steady(now))
        _hear(self, now, periods, heard)

    return [(Observed, "hear", hear)]


def _recent_before_the_jump() -> Sequence[Patch]:
    refresh = Namespace._refresh

    def changed(self: Namespace, record: Record, now: int) -> tuple[bool, int]:
        silent = self.registry.observed.steady(now) - record.heard.at
        if 0 <= silent < record.periods.threshold >> 6:
            return False, 0
        return refresh(self, record, now)

    return [(Namespace, "_refresh", changed)]


_PAIR: Final = ((3, 1), (3, 1))
#: The second beats so rarely that its usual pause is a silence that the first one dies of.
_MIXED: Final = ((3, 1), (9, 3))

MUTANTS_OF_TIMES: Final = (
    MutantOfTimes("no blackout guard", no_blackout, alike(2, 6, 2), "after a blackout"),
    MutantOfTimes(
        "a job hides the blackout that it ends",
        _newcomers_have_been_there,
        Grid(_PAIR, job=(3, 1)),
        "after a blackout",
    ),
    MutantOfTimes(
        "each job gives the dead a fresh threshold",
        _a_fresh_threshold_each_time,
        Grid(((3, 1),), job=(3, 1)),
        "observed ticks",
    ),
    MutantOfTimes(
        "what is a blackout for the slowest is one for all",
        _judged_by_the_slowest,
        Grid(_MIXED),
        "after a blackout",
    ),
    MutantOfTimes(
        "what is a blackout for the fastest is one for all",
        _judged_by_the_fastest,
        Grid(((3, 1), (6, 2))),
        "after a blackout",
    ),
    MutantOfTimes(
        "the usual pause of one is nobody's blackout",
        _usual_for_one_is_no_blackout_for_all,
        Grid(_MIXED),
        "after a blackout",
    ),
    MutantOfTimes(
        "the usual pause of one was observed by nobody",
        _nobody_watches,
        Grid(_MIXED),
        "is not dead",
    ),
    MutantOfTimes(
        "a jump forward kills who lives", no_blackout, Grid(_PAIR, jumps=(20,)), "declared dead"
    ),
    MutantOfTimes(
        "a jump back keeps the dead",
        _jumps_back_are_not_taken_down,
        Grid(_PAIR, jumps=(-20,)),
        "is not dead",
    ),
    MutantOfTimes(
        "a jump back makes a silence negative",
        _time_runs_backward,
        Grid(_PAIR, jumps=(-20,)),
        "is not dead|after a blackout",
    ),
    MutantOfTimes(
        "a sign of life is recent by a clock that was put back",
        _recent_before_the_jump,
        Grid(_PAIR, jumps=(-9,)),
        "declared dead",
    ),
)
