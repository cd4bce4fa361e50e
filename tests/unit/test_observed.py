"""Observed time: what a silence proves, whatever the clock does."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distkit_actors._namespace._observed_time import Heard, Observed, longest_silence
from distkit_actors._protocol._liveness import LivenessConfig
from distkit_actors._protocol._messages import Periods

SECOND: Final = 1_000_000
HOUR: Final = 3600 * SECOND
START: Final = 1_700_000_000 * SECOND
PERIODS: Final = Periods(30 * SECOND, 10 * SECOND, HOUR)
SHORT: Final = Periods(SECOND, SECOND // 3, HOUR)
PACES: Final = (
    PERIODS,
    SHORT,
    Periods(30 * SECOND, 15 * SECOND, HOUR),
    Periods(10 * SECOND, SECOND, HOUR),
)


def period(periods: Periods) -> int:
    """The longest pause between two signs of life that are written down."""
    liveness = LivenessConfig(periods.threshold / SECOND, periods.interval / SECOND)
    return int(liveness.period * SECOND) + (periods.threshold >> 6)


@dataclass
class One:
    """One instance, and its silence by the definition of observed time."""

    periods: Periods
    heard: Heard
    silent: int = 0
    """Steady time since it was heard."""
    observed: int = 0
    """Observed time since it was heard."""
    blackout: int | None = None
    """How much that was when the last blackout ended; None: there was none."""
    start: int = 0
    """How much it was when its threshold began."""
    graced: bool = False
    alive: bool = True

    def expect(self) -> bool:
        """Return whether it lives; called at every sign of life of anybody."""
        if self.observed - self.start < self.periods.threshold:
            return True
        if self.graced or self.blackout is None:
            return False
        self.start, self.graced = self.blackout, True
        return self.expect()


@dataclass
class Fleet:
    """Some instances, a clock that may jump, and what the definition says of it all."""

    now: int = START
    observed: Observed = field(default_factory=Observed)
    last: int = START
    """When anybody was heard last, by the clock."""
    instances: dict[str, One] = field(default_factory=dict)

    def hear(self, name: str, periods: Periods = PERIODS) -> list[str]:
        """Have an instance heard, and return who is found dead then."""
        one = self.instances.get(name)
        if one is None or not one.alive:
            self._pass(None)
            self.observed.hear(self.now)
            self.observed.add_living(periods)
            one = One(periods, Heard(0, 0))
        else:
            self._pass(one)
            self.observed.hear(self.now, one.periods, one.heard)
        self.last = self.now
        self.instances[name] = One(one.periods, self.observed.sign(one.periods))
        return [other for other in self.instances if other != name and self._judge(other)]

    def _pass(self, by: One | None) -> None:
        gap = max(0, self.now - self.last)
        present = by is not None and by.silent + gap <= longest_silence(*by.periods[:2])
        for one in self.instances.values():
            threshold, interval, _ = one.periods
            blackout = gap > longest_silence(threshold, interval)
            one.silent += gap
            one.observed += min(gap, interval) if blackout and not present else gap
            if blackout:
                one.blackout = one.observed

    def _judge(self, name: str) -> bool:
        one = self.instances[name]
        if not one.alive:
            return False
        left, one.heard = self.observed.judge(
            one.periods, one.heard, self.observed.steady(self.now)
        )
        one.alive = one.expect()
        assert (left > 0) == one.alive
        if not one.alive:
            self.observed.remove_living(one.periods)
        return not one.alive

    def leave(self, name: str) -> None:
        """Have an instance leave."""
        one = self.instances.pop(name)
        if one.alive:
            self.observed.remove_living(one.periods)

    def living(self) -> set[str]:
        """Who counts as alive."""
        return {name for name, one in self.instances.items() if one.alive}


# ---------------------------------------------------------------------------- examples


def test_steady_time_is_the_clock_until_that_jumps_back() -> None:
    observed = Observed()
    observed.hear(START)
    assert observed.steady(START + 5) == START + 5
    observed.hear(START + 5)
    observed.hear(START - HOUR)
    assert observed.steady(START - HOUR) == START + 5
    assert observed.steady(START - HOUR + 7) == START + 12


@pytest.mark.parametrize("periods", PACES)
def test_a_pause_between_beats_is_no_blackout_and_what_may_not_pass_unnoticed_is(
    periods: Periods,
) -> None:
    silence = longest_silence(*periods[:2])
    assert period(periods) <= silence < periods.threshold - periods.interval


@given(st.integers(2, 10**13), st.data())
def test_the_longest_silence_lies_between_for_any_pace(threshold: int, data: st.DataObject) -> None:
    interval = data.draw(st.integers(1, threshold // 2))
    silence = longest_silence(threshold, interval)
    assert min(interval, (threshold - interval) * 9 // 10) <= silence <= threshold - interval


def test_who_is_silent_for_its_threshold_is_dead() -> None:
    fleet = Fleet()
    fleet.hear("gone")
    for _ in range(2):
        fleet.now += 10 * SECOND
        assert not fleet.hear("a")
    fleet.now += 10 * SECOND - 1
    assert not fleet.hear("a")
    fleet.now += 1
    assert fleet.hear("a") == ["gone"]


def test_after_a_blackout_each_has_one_fresh_threshold() -> None:
    fleet = Fleet()
    for name in ("a", "b", "gone"):
        fleet.hear(name)
    fleet.now += HOUR
    assert not fleet.hear("a")
    for _ in range(2):
        fleet.now += 10 * SECOND
        assert not fleet.hear("a")
    fleet.now += 10 * SECOND - 1
    assert not fleet.hear("b")
    fleet.now += 1
    assert fleet.hear("a") == ["gone"]
    fleet.now += 10 * SECOND
    assert not fleet.hear("a")


def test_further_blackouts_give_none() -> None:
    """Jobs that live for an instant, and then nobody is there: a crashed one does not stay."""
    fleet = Fleet()
    fleet.hear("gone")
    jobs = 0
    while "gone" in fleet.living():
        fleet.now += HOUR
        fleet.hear("job")
        fleet.leave("job")
        jobs += 1
    # Each blackout counts as one interval: two thresholds, and what the first one ended.
    assert jobs == 6


def test_a_jump_forward_counts_as_one_interval() -> None:
    fleet = Fleet()
    fleet.hear("a")
    fleet.hear("b")
    fleet.now += 9 * SECOND
    fleet.hear("a")
    fleet.now += SECOND + HOUR
    assert not fleet.hear("a")
    assert fleet.instances["b"].observed == 19 * SECOND
    assert not fleet.hear("b")


def test_a_jump_back_counts_as_nothing() -> None:
    fleet = Fleet()
    fleet.hear("gone")
    fleet.hear("a")
    for jump in (0, -HOUR, 0, 0):
        fleet.now += 10 * SECOND + jump
        dead = fleet.hear("a")
    assert dead == ["gone"]


def test_paces_are_forgotten_with_the_last_of_them() -> None:
    fleet = Fleet()
    for name, periods in (("a", PERIODS), ("b", PERIODS), ("c", SHORT)):
        fleet.hear(name, periods)
    assert {periods: b.living for periods, b in fleet.observed.by_periods.items()} == {
        PERIODS[:2]: 2,
        SHORT[:2]: 1,
    }
    for name in ("a", "b", "c"):
        fleet.leave(name)
    assert fleet.observed.by_periods == {}


def test_one_who_comes_often_keeps_nobody() -> None:
    """A threshold of a second joins every two: the dead of thirty seconds go as ever."""
    fleet = Fleet()
    fleet.hear("gone")
    for _ in range(14):
        fleet.now += 2 * SECOND
        assert not fleet.hear("job", SHORT)
        fleet.leave("job")
    fleet.now += 2 * SECOND
    assert fleet.hear("job", SHORT) == ["gone"]


def test_one_who_beats_rarely_keeps_nobody_for_longer_than_a_fresh_threshold() -> None:
    """Whose pace is slow has been here all the time: its usual pause counts in full."""
    fleet = Fleet()
    fleet.hear("a")
    fleet.hear("gone", SHORT)
    fleet.now += 10 * SECOND
    assert not fleet.hear("a")
    fleet.now += 10 * SECOND
    assert fleet.hear("a") == ["gone"]


@pytest.mark.parametrize("pause", [SECOND, 9 * SECOND])
def test_who_beats_often_survives_a_pause_that_one_who_beats_rarely_does_not_notice(
    pause: int,
) -> None:
    """The store was away, or its clock has jumped; and the slow one is the first to be heard."""
    fleet = Fleet()
    for name, periods in (("a", PERIODS), ("b", SHORT), ("c", SHORT)):
        fleet.hear(name, periods)
    fleet.now += pause
    assert not fleet.hear("a")
    fleet.now += SECOND // 3
    assert not fleet.hear("b")
    assert not fleet.hear("c")


def test_who_looks_after_a_blackout_or_a_jump_sees_nobody_dead_who_may_live() -> None:
    fleet = Fleet()
    for name in ("a", "b"):
        fleet.hear(name)
    observed, later = fleet.observed, observed_at(fleet, HOUR)
    for present in (False, True):
        assert observed.lives(PERIODS, fleet.instances["b"].heard, later, present=present)
    fleet.now += HOUR
    assert not fleet.hear("a")
    for _ in range(3):  # nor is one seen alive who has had its fresh threshold
        fleet.now += 10 * SECOND
        dead = fleet.hear("a")
    assert dead == ["b"]


def test_who_has_had_its_fresh_threshold_is_seen_dead_when_it_would_be_found_so() -> None:
    fleet = Fleet()
    for name in ("a", "b"):
        fleet.hear(name)
    for step in (HOUR, 10 * SECOND, 10 * SECOND, 9 * SECOND):
        fleet.now += step
        assert not fleet.hear("a")
    for silence, lives in ((0, True), (SECOND - 1, True), (SECOND, False), (HOUR, False)):
        heard = fleet.instances["b"].heard
        at = observed_at(fleet, silence)
        assert fleet.observed.lives(PERIODS, heard, at, present=False) == lives


def observed_at(fleet: Fleet, later: int) -> int:
    """Return the steady time so much later."""
    return fleet.observed.steady(fleet.now + later)


# -------------------------------------------------------------------------- properties

#: More examples than usual, as each is cheap.
often = settings(max_examples=200, deadline=None)


@often
@given(st.data())
def test_nobody_who_beats_in_time_is_dead(data: st.DataObject) -> None:
    """Whatever the others do, and with a jump of the clock of any size in each interval."""
    by_periods = data.draw(st.lists(st.sampled_from(PACES), min_size=1, max_size=3))
    if data.draw(st.booleans()):
        by_periods = by_periods[:1]
    names = [f"i{number}" for number in range(data.draw(st.integers(1, 3)))]
    pace_of = {name: data.draw(st.sampled_from(by_periods)) for name in names}
    jumps = st.one_of(st.integers(-2 * HOUR, 2 * HOUR), st.integers(-SECOND, 30 * SECOND))
    fleet, real, heard, jumped = Fleet(), 0, dict.fromkeys(names, 0), -HOUR
    for name in names:
        fleet.hear(name, pace_of[name])
    for _ in range(data.draw(st.integers(1, 40))):
        due = min(heard[name] + period(pace_of[name]) for name in names)
        step = data.draw(st.integers(0, due - real))
        real += step
        fleet.now += step
        if real - jumped > max(map(period, by_periods)) and data.draw(st.booleans()):
            jumped = real
            fleet.now += data.draw(jumps)
        late = [name for name in names if heard[name] + period(pace_of[name]) <= real]
        name = data.draw(st.sampled_from(late or [*names, "guest"]))
        assert not fleet.hear(name, pace_of.get(name, by_periods[0]))
        if name == "guest":
            fleet.leave(name)
        else:
            heard[name] = real


@often
@given(st.data())
def test_whoever_is_silent_is_gone_within_the_bound(data: st.DataObject) -> None:
    """Before the third threshold of observed time, whoever comes and goes, whatever jumps.

    The second one may begin as late as one is heard who beats more rarely.
    """
    by_periods = data.draw(st.lists(st.sampled_from(PACES), min_size=1, max_size=3))
    gaps = st.one_of(
        st.integers(0, HOUR),
        st.sampled_from([-HOUR, -SECOND, HOUR]),
        st.sampled_from([longest_silence(*p[:2]) + more for p in by_periods for more in (0, 1)]),
        st.sampled_from([p.threshold - p.interval + more for p in by_periods for more in (0, 1)]),
    )
    fleet = Fleet()
    fleet.hear("gone", by_periods[0])
    gone = fleet.instances["gone"]
    threshold, interval, _ = gone.periods
    bound = 2 * threshold + max(
        interval, *(longest_silence(*periods[:2]) for periods in by_periods)
    )
    for _ in range(data.draw(st.integers(0, 40))):
        fleet.now += data.draw(gaps)
        name, periods = data.draw(st.sampled_from(list(zip("abc", by_periods, strict=False))))
        fleet.hear(name, periods)
        if data.draw(st.booleans()):
            fleet.leave(name)
        assert not gone.alive or gone.observed < bound
        assert gone.alive or gone.observed >= threshold
    while gone.alive:
        fleet.now += interval
        fleet.hear("z", by_periods[0])
        assert not gone.alive or gone.observed < bound


@often
@given(st.data())
def test_after_a_blackout_whoever_is_back_in_time_lives(data: st.DataObject) -> None:
    """Of any length, again and again; and whoever was silent before it has had its time."""
    periods = data.draw(st.sampled_from(PACES))
    names = [f"i{number}" for number in range(data.draw(st.integers(1, 4)))]
    fleet = Fleet()
    for name in names:
        fleet.hear(name, periods)
    for _ in range(data.draw(st.integers(1, 5))):
        fleet.now += data.draw(st.integers(periods.threshold - periods.interval + 1, HOUR))
        order = data.draw(st.permutations(names))
        back = sorted(data.draw(st.integers(0, periods.threshold - 1)) for _ in order[1:])
        ended = fleet.now
        assert not fleet.hear(order[0], periods)
        for name, at in zip(order[1:], back, strict=True):
            while fleet.now < ended + at:  # meanwhile the first one beats
                fleet.now = min(fleet.now + period(periods), ended + at)
                assert not fleet.hear(order[0], periods)
            assert not fleet.hear(name, periods)
