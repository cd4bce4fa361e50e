"""Holds (P36): additions that somebody will take back, while there is something to take.

A hold's addition is void once the epoch of its key has moved: then its end takes nothing
back. It shares the fate of the slice that it was added to, so whether a move made it void is judged
by the stamp of that slice (P8, stale slices). The store knows of a move before this instance does.
So a release is a *guarded* entry, which the store does not execute after such a move.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

_EVER: Final = 2**63  # is above every stamp


class Hold:
    """One addition to the own slice that is to be taken back."""

    __slots__ = ("at", "count", "end_refused", "key", "released", "void")

    def __init__(self, key: str, count: int) -> None:
        self.key = key
        self.count = count
        self.at = 0  # stamp of the slice that it was added to, once that is known
        self.released = False  # its end has begun
        # The store has refused its end, which may have been executed all the same (P39, unique
        # numbers).
        self.end_refused = False
        self.void = False  # there is nothing to take back any more


class Holds:
    """The holds of one instance whose additions are in the store."""

    def __init__(self) -> None:
        self._by_key: dict[str, dict[Hold, None]] = {}

    def committed(self, hold: Hold, at: int) -> None:
        """Note that the addition has been made, to a slice with the stamp ``at``."""
        hold.at = at
        self._by_key.setdefault(hold.key, {})[hold] = None

    def released(self, hold: Hold) -> None:
        """Note that the addition has been taken back."""
        holds = self._by_key.get(hold.key)
        if holds is not None and holds.pop(hold, self) is None and not holds:
            del self._by_key[hold.key]

    def outstanding(self) -> list[Hold]:
        """Return all that have not ended."""
        return [hold for holds in self._by_key.values() for hold in holds]

    def merged(self, key: str, younger: int, older: int) -> None:
        """Note that slices with these stamps have become one, which has the older stamp."""
        for hold in self._by_key.get(key, ()):
            if hold.at == younger:
                hold.at = older

    def moved(self, epochs: Mapping[str, int], dropped: Mapping[str, int]) -> list[Hold]:
        """Take in moves: to these epochs, and those that took slices with these stamps.

        Return the holds that are void for it.
        """
        void: list[Hold] = []
        for key in dropped.keys() & self._by_key.keys():
            void += self._older(key, dropped[key] + 1)
        for key in epochs.keys() & self._by_key.keys():
            void += self._older(key, epochs[key])
        return void

    def cleared(self, stamp: int) -> list[Hold]:
        """Take in a clear at ``stamp``; return the holds that are void for it."""
        return [hold for key in list(self._by_key) for hold in self._older(key, stamp)]

    def removed(self, keys: Iterable[str]) -> list[Hold]:
        """Take in that the slices of these keys are gone; return the holds that are void for it."""
        held = [key for key in keys if key in self._by_key]
        return [hold for key in held for hold in self._older(key, _EVER)]

    def held(self) -> Iterable[str]:
        """Return the keys that have some."""
        return self._by_key.keys()

    def stamps(self, key: str) -> list[int]:
        """Return the stamps of the slices that the holds of ``key`` are in, oldest first."""
        return sorted({hold.at for hold in self._by_key.get(key, ())})

    def _older(self, key: str, epoch: int) -> list[Hold]:
        holds = self._by_key[key]
        void = [hold for hold in holds if hold.at < epoch]
        for hold in void:
            del holds[hold]
            hold.void = True
        if not holds:
            del self._by_key[key]
        return void
