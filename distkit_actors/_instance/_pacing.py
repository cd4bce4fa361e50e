"""How long to wait for an answer, and how much to ask at once: less if the server is slow.

A server that has too much to do answers late. An instance that then sends everything again, or asks
for a lot at once, adds to that work. So patience grows with each answer that does not come, and
large messages are cut into smaller pieces while answers are slow (P42, overload).
"""

from __future__ import annotations

from typing import Final

from .._protocol._messages import MAX_ENTRIES

#: Longest patience, as a share of the threshold: a request that got lost in an outage is sent again
#: in good time after it.
_MOST_PATIENCE: Final = 1 / 3
#: Factor by which the time of the fastest answer grows with each answer: the way to the server may
#: have become longer since.
_FORGETTING: Final = 1.01
#: The same for the fastest of the last few answers: a store that has become slow is soon known as
#: one, while a few answers that were held up here change nothing.
_FORGETTING_A_FEW: Final = 1.5
#: Seconds that are added to it, as an answer may take no time at all by a clock that stands.
_TICK: Final = 1e-6
#: Fewest entries in one piece of a large message.
_LEAST: Final = 16
#: An answer is slow above this share of the threshold: then pieces are halved.
_SLOW: Final = 1 / 16
#: An answer is quick up to this share of the threshold: then pieces double.
_QUICK: Final = 1 / 64


class Pacing:
    """What one instance has learnt of how quick its store is. Times are seconds.

    Args:
        threshold: The instance's threshold.
    """

    def __init__(self, threshold: float) -> None:
        self.piece_size = MAX_ENTRIES  # most entries in one piece of a large message
        self._most = threshold * _MOST_PATIENCE
        self._slow = threshold * _SLOW
        self._quick = threshold * _QUICK
        self._unanswered = 0  # requests in a row that had no answer in time
        self.trip = float("inf")  # seconds of the fastest of the last few answers
        self._fastest = float("inf")  # seconds of the fastest answer, which is slowly forgotten

    def patience(self, first: float) -> float:
        """Return how long to wait for the next answer; ``first`` is for a store that is quick."""
        if not self._unanswered:
            return first
        return min(first * 2.0**self._unanswered, self.longest_patience(first))

    def longest_patience(self, first: float) -> float:
        """Return how long to wait for an answer at the most, however slow the store is."""
        return max(first, self._most)

    def answered(self, waited: float) -> None:
        """Take in that an answer came ``waited`` seconds after its request was first sent."""
        self.trip = min((self.trip + _TICK) * _FORGETTING_A_FEW, waited)
        fastest = self._fastest * _FORGETTING
        self._fastest = fastest = min(fastest, waited)
        queued = waited - fastest  # a long way to the store is no sign of too much work
        if queued > self._slow:
            self.piece_size = max(_LEAST, self.piece_size // 2)
        elif queued <= self._quick:
            self._unanswered = 0
            if self.piece_size < MAX_ENTRIES:
                self.piece_size = min(MAX_ENTRIES, 2 * self.piece_size)

    def unanswered(self) -> None:
        """Take in that no answer came in time: the store is slow, or away."""
        self._unanswered = min(self._unanswered + 1, 30)
        self.piece_size = max(_LEAST, self.piece_size // 2)

    def share(self, amount: int) -> int:
        """Return as much of ``amount`` as `piece_size` is of a full request."""
        return amount * self.piece_size // MAX_ENTRIES
