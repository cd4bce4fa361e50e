"""What belongs to a run of trio and to an object that outlives it, and ends with either.

A run has sockets and a clock of its own, as it may be in another thread, or in a process that was
forked. Trio keeps each `RunVar` until its run ends, so all objects share one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Generic, TypeVar, cast
from weakref import WeakKeyDictionary

import trio

T = TypeVar("T")

#: What is kept in a run, by the `PerRun` that keeps it.
_KEPT: Final = trio.lowlevel.RunVar["WeakKeyDictionary[object, object]"]("kept by stores")


class PerRun(Generic[T]):
    """A value for each run of trio. A value must not refer to this object: both would stay.

    Args:
        make: Makes the value that a run begins with.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make

    def get(self) -> T:
        """Return the value of this run."""
        kept = _kept()
        try:
            return cast("T", kept[self])
        except KeyError:
            kept[self] = made = self._make()
            return made

    def set(self, value: T) -> None:
        """Have another value from now on in this run."""
        _kept()[self] = value


def _kept() -> WeakKeyDictionary[object, object]:
    try:
        return _KEPT.get()
    except LookupError:
        kept = WeakKeyDictionary[object, object]()
        _KEPT.set(kept)
        return kept
