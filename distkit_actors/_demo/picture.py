"""What there is to be seen of the demo: its instances at one moment, and the books beside them."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass


class State(enum.Enum):
    """What a viewer is told about an instance."""

    LIVE = "live"
    CUT_OFF = "cut off"
    CRASHED = "crashed"
    REAPED = "reaped"
    LEFT = "left"


class Books:
    """What the cumulative ought to be, by plain addition; asks no counter."""

    def __init__(self) -> None:
        self.slices: dict[str, int] = {}  # {instance: its slice}
        self.absent: set[str] = set()  # instances whose slices do not count at present

    def count(self, name: str, count: int) -> None:
        """Note that ``name`` counted."""
        self.slices[name] = self.slices.get(name, 0) + count

    def set(self, name: str, count: int) -> None:
        """Note that ``name`` set the key: nothing older counts, of anybody."""
        self.slices = {name: count}

    def erase(self, name: str) -> None:
        """Note that the slice of ``name`` is gone for good."""
        self.slices.pop(name, None)

    @property
    def cumulative(self) -> int:
        """The sum of what counts."""
        return sum(count for name, count in self.slices.items() if name not in self.absent)


@dataclass(frozen=True, slots=True)
class Row:
    """One instance at the moment of a picture."""

    name: str
    kind: str
    state: State
    slice: int
    counts: bool
    """Whether the slice is part of the cumulative."""
    heartbeat_age: float | None
    sees: int | None
    """The cumulative as this instance last read it."""


@dataclass(frozen=True, slots=True)
class Picture:
    """The fleet at one moment."""

    rows: Sequence[Row]
    books: int

    @property
    def agreed(self) -> bool:
        """Whether every live instance sees what the books say."""
        return all(row.sees == self.books for row in self.rows if row.state is State.LIVE)
