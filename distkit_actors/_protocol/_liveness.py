"""How often to beat, and how long to be remembered."""

from __future__ import annotations

from math import floor
from typing import Final

from ._immutable import Immutable
from ._messages import Periods
from ._values import checked_number

MICROSECONDS: Final = 1_000_000

#: Part of the period by which rounding may put a time before a multiple of the period.
_ROUNDING: Final = 1e-6

#: A record outlives its instance by this, or by `RETENTION_THRESHOLDS`, whichever is longer.
MIN_RETENTION: Final = 3600.0  # seconds
RETENTION_THRESHOLDS: Final = 20

#: The store counts in microseconds, and writes a sign of life down once in a 64th of the threshold.
MIN_THRESHOLD: Final = 0.001  # seconds
#: Stamps and instants, retentions among them, must stay below 2**53 microseconds.
MAX_THRESHOLD: Final = 100_000_000.0


class LivenessConfig(Immutable):
    """The periods of one counter, in seconds, checked against each other."""

    __slots__ = __match_args__ = ("threshold", "interval")

    threshold: float
    interval: float

    def __init__(self, threshold: float, interval: float) -> None:
        self._put("threshold", threshold)
        self._put("interval", interval)

    @classmethod
    def of(cls, threshold: float, interval: float | None) -> LivenessConfig:
        """Return checked periods; ``interval`` defaults to a third of ``threshold``.

        A beat every third of the threshold survives one lost beat (H16).
        """
        checked_number(threshold, "dead_instance_threshold")
        if not MIN_THRESHOLD <= threshold <= MAX_THRESHOLD:
            raise ValueError(
                f"dead_instance_threshold must be {MIN_THRESHOLD:g} to {MAX_THRESHOLD:g} seconds, "
                f"not {threshold}"
            )
        if interval is None:
            interval = threshold / 3
        if not 0 < checked_number(interval, "heartbeat_interval") <= threshold / 2:
            raise ValueError(
                "heartbeat_interval must be positive seconds and at most half of "
                f"dead_instance_threshold ({threshold / 2}), not {interval}"
            )
        return cls(threshold, interval)

    @property
    def period(self) -> float:
        """Seconds between two beats: the interval, or a little less where that is long.

        A silence of ``threshold - interval`` must not pass for a normal pause (I5, blackout). If
        the interval is near half the threshold, there is no room between the two.
        """
        return min(self.interval, 0.9 * (self.threshold - self.interval))

    @property
    def backoff_cap(self) -> float:
        """Longest pause between two tries to reconnect: it fits into a fresh threshold."""
        return self.interval / 2

    @property
    def periods(self) -> Periods:
        """What the store has to know of it."""
        retention = max(MIN_RETENTION, RETENTION_THRESHOLDS * self.threshold)
        return Periods(*(int(t * MICROSECONDS) for t in (self.threshold, self.interval, retention)))


def next_heartbeat(heard: float, period: float) -> float:
    """Return when the next heartbeat is due after a sign of life at ``heard``: a period at most.

    All counters with this period beat at the multiples of it, by the clock that they share. So
    their heartbeats can travel together. A multiple that is less than half a period away is too
    soon. Then the heartbeat is due half-way to the next multiple. All times are seconds of the
    clock.
    """
    instant = (floor(heard / period + _ROUNDING) + 1) * period
    away = instant - heard
    if away < period / 2:
        return heard + (away + period) / 2
    return min(instant, heard + period)
