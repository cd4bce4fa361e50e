"""Additions that somebody will take back, and whether there still is something to take (P36).

A hold's addition is void once the epoch of its key has moved: then its end takes nothing
back. The store knows of a move first; until this instance has heard of it, a *guarded*
entry keeps a release from being executed after it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping


class Hold:
    """One addition to the own slice that is to be taken back."""

    __slots__ = ("at", "count", "key", "released", "void")

    def __init__(self, key: str, count: int) -> None:
        self.key = key
        self.count = count
        self.at = 0  # stamp of the step that added it, once that is known
        self.released = False  # its end has begun
        self.void = False  # there is nothing to take back any more


class Holds:
    """The holds of one instance whose additions are in the store."""

    def __init__(self, on_void: Callable[[Hold], None]) -> None:
        self._on_void = on_void
        self._by_key: dict[str, dict[Hold, None]] = {}

    def landed(self, hold: Hold, at: int) -> None:
        """The addition has been made in a step at ``at``."""
        hold.at = at
        self._by_key.setdefault(hold.key, {})[hold] = None

    def ended(self, hold: Hold) -> None:
        """It has been taken back."""
        holds = self._by_key.get(hold.key)
        if holds is not None and holds.pop(hold, self) is None and not holds:
            del self._by_key[hold.key]

    def outstanding(self) -> list[Hold]:
        """Return all that have not ended."""
        return [hold for holds in self._by_key.values() for hold in holds]

    def moved(self, epochs: Mapping[str, int], dropped: Iterable[str]) -> None:
        """Take in moves: to these epochs, and those that took the own slice with them."""
        for key in dropped if self._by_key else ():
            for hold in self._by_key.pop(key, ()):
                self._void(hold)
        for key in epochs.keys() & self._by_key.keys():
            self._older(key, epochs[key])

    def cleared(self, stamp: int) -> None:
        """Take in a clear at ``stamp``."""
        for key in list(self._by_key):
            self._older(key, stamp)

    def _older(self, key: str, epoch: int) -> None:
        holds = self._by_key[key]
        # A step that adds to an existing slice does not use its stamp up, so the move that comes
        # next may have the same one; never the other way round.
        for hold in [hold for hold in holds if hold.at <= epoch]:
            del holds[hold]
            self._void(hold)
        if not holds:
            del self._by_key[key]

    def _void(self, hold: Hold) -> None:
        hold.void = True
        self._on_void(hold)
