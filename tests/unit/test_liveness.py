"""The periods an instance lives by: what is allowed, and how they fit together."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distkit_actors._namespace._observed_time import longest_silence
from distkit_actors._protocol._liveness import (
    MAX_THRESHOLD,
    MIN_RETENTION,
    MIN_THRESHOLD,
    RETENTION_THRESHOLDS,
    LivenessConfig,
    next_heartbeat,
)

thresholds = st.floats(MIN_THRESHOLD, MAX_THRESHOLD)


@given(thresholds, st.none() | st.floats(min_value=1e-3, max_value=0.5))
def test_a_beat_is_never_a_blackout_and_a_blackout_never_a_beat(
    threshold: float, share: float | None
) -> None:
    """Also where an interval is half the threshold, and a sign of life is 1/64 older than it is."""
    config = LivenessConfig.of(threshold, share and threshold * share)
    periods = config.periods
    assert 0 < config.period <= config.interval <= threshold / 2
    assert periods.interval <= periods.threshold // 2 + 1
    silence = longest_silence(periods.threshold, periods.interval)
    # One microsecond for each of the numbers that are rounded.
    assert config.period * 1e6 + (periods.threshold >> 6) <= silence + 3
    assert silence <= periods.threshold - periods.interval


@given(thresholds)
def test_a_third_of_the_threshold_is_the_interval_if_none_is_given(threshold: float) -> None:
    config = LivenessConfig.of(threshold, None)
    assert config.interval == threshold / 3
    assert config.backoff_cap == config.interval / 2


@given(thresholds)
def test_a_record_outlives_its_instance_by_an_hour_or_twenty_thresholds(threshold: float) -> None:
    retention = LivenessConfig.of(threshold, None).periods.retention
    assert retention == int(max(MIN_RETENTION, RETENTION_THRESHOLDS * threshold) * 1e6)
    assert retention < 2**53


@pytest.mark.parametrize(
    "threshold", [0, -1, MIN_THRESHOLD / 2, MAX_THRESHOLD * 1.01, float("nan"), float("inf")]
)
def test_a_threshold_out_of_range_is_refused(threshold: float) -> None:
    with pytest.raises(ValueError, match="dead_instance_threshold must be"):
        LivenessConfig.of(threshold, None)


@pytest.mark.parametrize("interval", [0, -1, 5.1, float("nan"), float("inf")])
def test_an_interval_that_survives_no_lost_beat_is_refused(interval: float) -> None:
    with pytest.raises(ValueError, match="heartbeat_interval must be"):
        LivenessConfig.of(10, interval)


@given(st.floats(0, 1e9), st.floats(1e-3, 1e4))
def test_the_next_heartbeat_is_due_within_a_period(heard: float, period: float) -> None:
    due = next_heartbeat(heard, period)
    assert due <= heard + period
    assert due >= heard + 0.48 * period


@given(st.integers(0, 10**6), st.floats(0, 0.999), st.floats(0, 1), st.integers(-2, 8))
def test_who_is_idle_soon_beats_when_all_others_do(
    number: int, begun: float, late: float, period: int
) -> None:
    """Whenever it has begun, and though each heartbeat is sent a little late."""
    seconds = 2.0**period
    heard = (number + begun) * seconds
    for _ in range(3):
        heard = next_heartbeat(heard, seconds) + late * seconds / 1000
    for _ in range(3):
        before, heard = heard, next_heartbeat(heard, seconds)
        assert heard % seconds == 0
        assert heard - before <= seconds
        heard += late * seconds / 1000


@given(st.integers(1, 10**6), st.floats(1e-3, 1e4))
def test_a_heartbeat_at_its_instant_is_followed_by_the_next_instant(
    number: int, period: float
) -> None:
    """However numbers are rounded."""
    due = next_heartbeat(number * period, period)
    assert due == pytest.approx((number + 1) * period, rel=1e-9)


def test_a_heartbeat_that_was_early_is_followed_by_one_half_way() -> None:
    assert next_heartbeat(99.0, 100.0) == 149.5
    assert next_heartbeat(149.5, 100.0) == 200.0


def test_a_sign_of_life_shortly_before_a_heartbeat_stands_for_it() -> None:
    assert next_heartbeat(60.0, 100.0) == 130.0
    assert next_heartbeat(130.0, 100.0) == 200.0
    assert next_heartbeat(40.0, 100.0) == 100.0
