"""For how long the machine was suspended: trio's clock stands still meanwhile."""

from __future__ import annotations

import time
from typing import Final

#: The same as the clock that Python and trio use on Linux, but it goes on while the machine is
#: suspended. Elsewhere there is none, and nobody tells.
_BOOT_CLOCK: Final[int | None] = getattr(time, "CLOCK_BOOTTIME", None)
#: The two clocks are read one after the other. Shorter suspensions than this harm nobody.
_SHORTEST: Final = 0.1


def suspended() -> float:
    """Return for how many seconds the machine was suspended since it was started, if it tells."""
    if _BOOT_CLOCK is None:
        return 0.0
    return time.clock_gettime(_BOOT_CLOCK) - time.clock_gettime(time.CLOCK_MONOTONIC)


class Suspensions:
    """The suspensions of the machine that were noticed.

    One is noticed by whoever asks first after it, and counts for everything that came before that.
    """

    def __init__(self) -> None:
        self._all: float = suspended()
        self._noticed_at: float = float("-inf")
        self._seconds: float = 0.0  # that count for what was before

    def since(self, instant: float, now: float) -> float:
        """Return for how many seconds the machine was suspended since ``instant``, or more."""
        in_all = suspended()
        more = in_all - self._all
        if more > _SHORTEST:
            before = self._seconds if instant <= self._noticed_at else 0.0
            self._all, self._noticed_at, self._seconds = in_all, now, before + more
        return self._seconds if instant <= self._noticed_at else 0.0
