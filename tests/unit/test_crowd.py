"""Half of a crowd travels, so that this process and the store work at the same time."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distkit_actors._actor import _crowd
from distkit_actors._actor._crowd import Crowd
from distkit_actors._protocol._messages import MAX_ENTRIES

TRIPS = (0.001, 0.002, 0.004, 0.0065, 0.0072)
#: Seconds of a quick answer, and of one that takes longer than any crowd keeps a process busy.
QUICK, LONG = 0.0001, 1.0


class Processor:
    """The processor time of this thread, which each caller spends some of."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.spent = 5.0
        patch.setattr(_crowd.time, "thread_time", lambda: self.spent)


@pytest.fixture
def processor(monkeypatch: pytest.MonkeyPatch) -> Processor:
    return Processor(monkeypatch)


def measured(processor: Processor, turnaround: float, keys: int = 100) -> Crowd:
    """Return a crowd whose callers take so many seconds each."""
    crowd = Crowd()
    for _ in range(100):
        crowd.answered(keys, keys)
        processor.spent += turnaround * keys
    crowd.back()
    return crowd


def test_half_of_a_crowd_travels() -> None:
    assert Crowd().portion(100, 100, QUICK) == 50


def test_those_who_were_answered_just_now_are_the_other_half() -> None:
    crowd = Crowd()
    crowd.answered(50, 50)
    assert crowd.portion(50, 50, QUICK) == 50
    crowd.back()
    assert crowd.portion(50, 50, QUICK) == 25


@pytest.mark.parametrize("keys", [0, 1, 2, 31])
def test_a_few_travel_together(keys: int) -> None:
    assert Crowd().portion(keys, keys, QUICK) == MAX_ENTRIES


def test_before_any_answer_all_travel_together() -> None:
    assert Crowd().portion(1000, 1000, math.inf) == MAX_ENTRIES


def test_a_portion_has_128_keys_if_answers_are_quick() -> None:
    assert Crowd().portion(1000, 1000, QUICK) == 128


def test_a_longer_way_takes_larger_portions_and_then_all(processor: Processor) -> None:
    crowd = measured(processor, 10e-6)
    portions = [crowd.portion(1000, 1000, trip) for trip in TRIPS]
    assert portions == pytest.approx([128, 180, 360, 500, MAX_ENTRIES], abs=1)


def test_callers_who_take_longer_are_a_crowd_for_a_longer_way(processor: Processor) -> None:
    assert measured(processor, 10e-6).portion(100, 100, 0.002) == MAX_ENTRIES
    assert measured(processor, 50e-6).portion(100, 100, 0.002) == 50


def test_several_callers_in_a_key_take_longer(processor: Processor) -> None:
    crowd = measured(processor, 10e-6)
    assert crowd.portion(100, 100, 0.002) == MAX_ENTRIES
    assert crowd.portion(100, 1000, 0.002) == 50


def test_portions_that_are_too_large_become_smaller(processor: Processor) -> None:
    """While callers take all the time, an answer is seen only when they are done."""
    crowd, portion = measured(processor, 20e-6), 450
    for _ in range(20):
        portion = crowd.portion(1000, 1000, portion * 20e-6)
    assert portion == 128


def test_what_callers_take_is_measured_anew_each_time(processor: Processor) -> None:
    crowd = measured(processor, 50e-6)
    for turnaround, limit in ((5e-6, 1), (50e-6, 60)):  # less is believed at once, more slowly
        for _ in range(limit):
            crowd.answered(100, 100)
            processor.spent += turnaround * 100
        crowd.answered(100, 100)
        assert crowd.portion(100, 100, 0.002) == (MAX_ENTRIES if turnaround == 5e-6 else 100)


def test_what_others_did_in_between_is_not_measured(processor: Processor) -> None:
    crowd = measured(processor, 50e-6)
    crowd.answered(1, 1)
    processor.spent += 0.000001
    crowd.answered(100, 100)
    crowd.back()
    assert crowd.portion(100, 100, 0.002) == 50


def test_a_coarse_measure_will_do(processor: Processor) -> None:
    crowd = measured(processor, 0.0)
    assert crowd.portion(1000, 1000, QUICK) == 128
    assert crowd.portion(1000, 1000, 0.01) == MAX_ENTRIES


def test_an_answer_to_nobody_is_not_measured(processor: Processor) -> None:
    crowd = Crowd()
    crowd.answered(100, 100)
    crowd.answered(100, 0)
    assert crowd.portion(100, 100, QUICK) == 100
    assert processor.spent == 5.0


@given(
    keys=st.integers(0, 2000),
    more=st.integers(0, 2000),
    before=st.integers(0, 2000),
    trip=st.one_of(st.just(math.inf), st.floats(0, 10)),
)
def test_all_or_at_least_some(keys: int, more: int, before: int, trip: float) -> None:
    """Something travels, and never more than half of a crowd, or else all."""
    crowd = Crowd()
    crowd.answered(before, before)
    portion = crowd.portion(keys, keys + more if keys else 0, trip)
    assert portion == MAX_ENTRIES or 16 <= portion <= (keys + before) // 2
