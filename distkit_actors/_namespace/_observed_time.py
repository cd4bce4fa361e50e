"""Which silence counts: time as the instances of a namespace have observed it (P40, observed time).

The store's clock may jump, and a silence proves nothing while nobody could be heard. So two
things are made of the clock, from the gaps between the signs of life of anybody:

* *Steady time* is the clock without its jumps back: a negative gap counts as nothing.
* *Observed time* is steady time in which a gap that was a *blackout* counts as one heartbeat
  interval at most. What is a blackout depends on the periods of the instance that is judged.

All times are in microseconds.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from .._protocol._messages import JUST_COME, Periods

#: A sign of life is not written down if the last one is younger than the threshold / this.
RECENT_PART: Final = 64
#: The longest period of beats, in tenths of the time that may pass unnoticed
#: (`LivenessConfig.period`).
PERIOD_TENTHS: Final = 9


def longest_silence(threshold: int, interval: int) -> int:
    """Return the longest gap that is no blackout, for instances of these periods.

    It lies half-way between the period of their beats and ``threshold - interval``, the longest
    silence of everybody that may pass unnoticed (I5; P24, blackout).
    """
    unnoticed = threshold - interval
    period = min(interval, unnoticed * PERIOD_TENTHS // 10)
    return (period + unnoticed) // 2


class Heard(NamedTuple):
    """When an instance was heard last, by the times of its namespace."""

    at: int
    """In steady time."""
    lost: int
    """What blackouts had taken from observed time by then."""
    graced: int = 0
    """When the blackout ended after which it has had its fresh threshold; 0: it had none."""


class Blackouts:  # noqa: PLW1641 - they change
    """What the instances of the same periods have not observed."""

    __slots__ = ("ended", "living", "lost")

    def __init__(self, lost: int = 0, ended: int = 0, living: int = 0) -> None:
        self.lost = lost  # all the steady time that was not observed
        self.ended = ended  # when the last blackout ended, in steady time
        self.living = living  # how many instances of these periods live

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Blackouts):
            return NotImplemented
        mine = (self.lost, self.ended, self.living)
        return mine == (other.lost, other.ended, other.living)


class Observed:
    """The times of one namespace."""

    __slots__ = ("by_periods", "last", "shift")

    def __init__(self) -> None:
        self.shift = 0  # by how much the store's clock has jumped back, all in all
        self.last = 0  # the last sign of life of anybody, in steady time
        self.by_periods: dict[tuple[int, int], Blackouts] = {}  # by threshold and interval

    def steady(self, now: int) -> int:
        """Return the steady time; before `last` if the clock has jumped back since."""
        return now + self.shift

    def seen_by(self, observed: int | None, now: int) -> int:
        """Return the steady time by which an onlooker judges who is silent.

        P43, looking.

        The onlooker has ``observed`` the namespace itself up to that instant. Later time proves
        nothing to it, unless some instance was heard in that time. If it has just come, it believes
        the clock. If the clock has jumped back, it does so only once an instance has been heard.
        """
        steady = self.steady(now)
        if observed is None or (observed == JUST_COME and steady >= self.last):
            return steady
        seen = max(self.last, observed)
        return seen if steady < self.last else min(steady, seen)

    @property
    def living(self) -> int:
        """How many instances live, whatever their periods are."""
        return sum(blackouts.living for blackouts in self.by_periods.values())

    def add_living(self, periods: Periods) -> None:
        """Count one more living instance of these periods."""
        self.by_periods.setdefault(periods[:2], Blackouts()).living += 1

    def remove_living(self, periods: Periods) -> None:
        """Count one living instance less; forget its periods if no other one has them."""
        blackouts = self.by_periods[periods[:2]]
        blackouts.living -= 1
        if not blackouts.living:
            del self.by_periods[periods[:2]]

    def hear(self, now: int, periods: Periods | None = None, heard: Heard | None = None) -> None:
        """Note a sign of life: of an instance that was ``heard`` before, or of a new one."""
        gap = self.steady(now) - self.last
        if gap < 0:
            self.shift -= gap
            return
        self.last += gap
        # An instance that beats at its usual pace was present all the time, and has observed the
        # gap. If it did not count, the death of all that beat faster would be put off again
        # and again. They get a fresh threshold all the same: perhaps nobody could be heard.
        present = periods and heard and self.last - heard.at <= longest_silence(*periods[:2])
        for (threshold, interval), blackouts in self.by_periods.items():
            if gap > longest_silence(threshold, interval):
                blackouts.ended = self.last
                if not present:
                    blackouts.lost += gap - min(gap, interval)

    def sign(self, periods: Periods) -> Heard:
        """Return what to remember of an instance that has just been heard."""
        return Heard(self.last, self.by_periods[periods[:2]].lost)

    def note_lateness(self, periods: Periods, heard: Heard) -> int:
        """Return how much too late an instance is heard now that was ``heard`` before.

        An instance sends a sign of life once in each period of its beats. If it is heard much
        later than that, its request stood in a queue, or it slept.

        Others may have been held up, too, and nobody knows for how long: a server reads long
        requests in pieces, so short ones overtake them. So this is like the end of a blackout, but
        nothing is taken from observed time: an instance that has been silent for too long by now
        gets one fresh threshold. This holds for all periods by which the silence is too long.
        """
        silence = self.last - heard.at - (self.by_periods[periods[:2]].lost - heard.lost)
        late = silence - longest_silence(*periods[:2])
        if late <= 0:
            return 0
        for (threshold, interval), blackouts in self.by_periods.items():
            if silence > longest_silence(threshold, interval):
                blackouts.ended = self.last
        return late

    def judge(self, periods: Periods, heard: Heard, steady: int) -> tuple[int, Heard]:
        """Return how long a living instance may still be silent; if that is 0 or less, it is dead.

        An instance that was silent for too long gets one fresh threshold if there was a blackout
        in that time, and no other one before it is heard again (I5). Also return what is to be
        remembered of it now.
        """
        blackouts = self.by_periods[periods[:2]]
        start = heard.graced or heard.at
        left = periods.threshold - (steady - start) + (blackouts.lost - heard.lost)
        if left <= 0 and not heard.graced and blackouts.ended > heard.at:
            heard = Heard(heard.at, blackouts.lost, blackouts.ended)
            left = periods.threshold - (steady - heard.graced)
        return left, heard

    def lives(self, periods: Periods, heard: Heard, steady: int, *, present: bool) -> bool:
        """Return whether a living instance would be found alive if somebody were heard just now.

        ``present``: that somebody has beaten at its usual pace up to now.
        """
        threshold, interval, _ = periods
        gap = steady - self.last
        if gap > longest_silence(threshold, interval):
            if not heard.graced:
                return True
            if not present:
                steady -= gap - min(gap, interval)
        return self.judge(periods, heard, steady)[0] > 0
