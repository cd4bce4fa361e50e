"""The store's clock in a history: trio's, but for its jumps (P40, observed time)."""

from __future__ import annotations

import trio


class StoreClock:
    """What the time is to the store, and what it would be if nobody had put the clock back."""

    def __init__(self) -> None:
        self.backs = 0  # how often it was put back
        self._ahead = 0.0  # of trio's clock
        self._forward = 0.0  # the same without the jumps back
        self._most = 0.0  # that it ever was ahead

    def now(self) -> float:
        """Return seconds, by the store's clock."""
        return trio.current_time() + self._ahead

    def steady(self) -> float:
        """Return seconds that never go back, and go on by each jump forward."""
        return trio.current_time() + self._forward

    def jump(self, seconds: float) -> None:
        """Put the clock forward, or back if that is negative."""
        self.backs += seconds < 0
        self._ahead += seconds
        self._forward += max(0.0, seconds)
        self._most = max(self._most, self._ahead)

    def set_right(self) -> None:
        """Put it to where it would be without jumps back, as it is wherever data is lost (L6)."""
        self.jump(self._most - self._ahead)
