"""How a crowd of callers is cut, so that this process and the store work at the same time.

If all who wait travelled in one batch, this process would wait while the store works, and the store
would wait while the callers get their answers and ask again. So half of them travel: meanwhile the
other half gets its answers. Where the way to the store takes longer than that half keeps this
process busy, all travel together.

On a lax counter all travel together, too: an operation there waits for one round trip at most until
the counts before it are sent (P30, immediate operations).
"""

from __future__ import annotations

import time
from typing import Final

from .._protocol._messages import MAX_ENTRIES

#: Fewest keys in a portion: a batch by itself costs as much as some entries.
_LEAST: Final = 16
#: Keys in a portion, unless the way to the store is long. A batch of 256 has Python look for
#: garbage so often that 1000 tasks on 1000 keys do a quarter less. With 1000 they do half as much,
#: and some wait for 50 ms.
_USUAL: Final = 128
#: A portion should keep this process busy for this part of an answer's time. It is less than all of
#: it: a large portion makes the answer late by itself, and would stay large.
_SHARE: Final = 0.9
#: Half of a crowd travels, even if up to so many times as much would be right: the measured answer
#: may be one to all, and the answer to a half comes sooner.
_LENIENCE: Final = 1.25
#: Factor by which the measured time of a caller grows with each batch: callers may do more now.
_FORGETTING: Final = 1.05
#: Seconds of the processor for each caller, before they have been measured; and the least of them,
#: as some systems measure coarsely.
_FIRST_GUESS: Final = 10e-6
_LEAST_TURNAROUND: Final = 1e-6


class Crowd:
    """Those who wait, and those who got their answers just now and may ask again at once."""

    def __init__(self) -> None:
        self._answered = 0  # keys of those who got their answers just now
        self._turnaround = _FIRST_GUESS  # seconds of the processor for an answer and the next call
        self._measured_at: float | None = None  # in the thread's processor time; None: not lately

    def answered(self, keys: int, operations: int) -> None:
        """Note that a batch has been answered, with so many operations in so many keys."""
        self._answered = keys
        if keys < _LEAST or not operations:
            self._measured_at = None
            return
        # What a processor has spent is no time that passes, so trio's clock does not know it.
        now = time.thread_time()
        if self._measured_at is not None:
            measured = max(_LEAST_TURNAROUND, (now - self._measured_at) / operations)
            self._turnaround = min(self._turnaround * _FORGETTING, measured)
        self._measured_at = now

    def back(self) -> None:
        """Note that whoever got an answer has had the time to ask again."""
        self._answered = 0

    def portion(self, keys: int, operations: int, trip: float) -> int:
        """Return in how many keys operations travel now, if so many wait in so many keys.

        ``trip``: seconds that an answer takes, lately.
        """
        half = (keys + self._answered) // 2
        if not keys or half < _LEAST:
            return MAX_ENTRIES
        needed = _SHARE * trip / (self._turnaround * operations / keys)
        return min(half, max(_USUAL, int(needed))) if needed <= _LENIENCE * half else MAX_ENTRIES
