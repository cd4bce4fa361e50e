"""How an onlooker reads the answers of a store (P43, looking). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from .._protocol._liveness import MICROSECONDS
from .._protocol._messages import JUST_COME, QueryKind
from .._protocol._values import fits

#: Seconds of refusals without an answer after which the store refuses everything, and the longest
#: time that an answer takes while somebody is heard.
_LONG: Final = 2.0


class Observation:
    """Up to which steady time somebody has observed a namespace.

    The store's clock says it once; from there it goes on by the own clock, as long as the store
    answers. So neither an outage nor a jump of the store's clock looks like a silence.
    """

    def __init__(self) -> None:
        self._at = JUST_COME
        self._since: float | None = None  # it goes on since then, by the own clock
        self._refused: set[QueryKind] = set()  # what was refused when it was asked last
        self._refused_since: float | None = None  # nothing was answered since then

    def reached(self, now: float) -> int:
        """Return up to which steady time it goes."""
        elapsed = 0.0 if self._since is None else now - self._since
        return self._at + int(elapsed * MICROSECONDS)

    def answered(self, kind: QueryKind, asked: float, now: float, at: int) -> None:
        """Go on from ``at``, by which the store has judged, some time after ``asked``.

        Nobody knows when it has judged. A store that took very long was not there for others
        either.
        """
        self._at, self._since, self._refused_since = at, max(asked, now - _LONG), None
        self._refused.discard(kind)

    def waited(self, seconds: float) -> None:
        """Note for how long a question could not even be sent: as with a very long answer."""
        if seconds > _LONG:
            self.interrupted()

    def refused(self, kind: QueryKind, now: float) -> bool:
        """Stand still, unless it may be this question alone that the store refuses.

        Somebody may not look at everything: one kind is refused again and again, others are
        answered in between. Return whether the kind was not refused when it was asked last.
        """
        news = kind not in self._refused
        if self._refused_since is None:
            self._refused_since = now
        if news or now - self._refused_since > _LONG:
            self._refused.add(kind)
            self.interrupted()
        return news

    def interrupted(self) -> None:
        """Stand still, as the store does not answer: since its last answer nothing is known."""
        self._since = None


def without_the_dead(total: int, slices: Sequence[int]) -> int:
    """Return a sum without slices of the dead, but for those that cannot go yet (I12, overflow)."""
    left = sorted(slices)
    while left:
        # Where any of them can go, one of the ends can.
        if fits(total - left[-1]):
            total -= left.pop()
        elif fits(total - left[0]):
            total -= left.pop(0)
        else:
            break
    return total


def values_of(keys: Iterable[str], rows: Iterable[tuple[str, int, bool]]) -> Mapping[str, int]:
    """Return the cumulatives of ``keys`` without the dead, by the rows of all pages."""
    totals = dict.fromkeys(keys, 0)
    dead: dict[str, list[int]] = {}
    for key, number, of_all in rows:
        if of_all:
            totals[key] = number
        else:
            dead.setdefault(key, []).append(number)
    return {key: without_the_dead(total, dead.get(key, ())) for key, total in totals.items()}
