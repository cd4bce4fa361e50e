"""What a row of the table says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks.measure import Spread, ratios


@dataclass(frozen=True, slots=True)
class Aim:
    """A bound that the median of a ratio should keep."""

    kind: Literal["at least", "at most"]
    limit: float

    def held_by(self, ratio: Spread) -> bool:
        """Tell whether it does."""
        if self.kind == "at least":
            return ratio.median >= self.limit
        return ratio.median <= self.limit


@dataclass(frozen=True, slots=True)
class Figure:
    """Something else that was seen while a row was measured."""

    name: str
    spread: Spread
    unit: str


@dataclass(frozen=True, slots=True)
class Result:
    """One row: ours, the peer's, and the ratio of the two."""

    group: str
    name: str
    what: str
    unit: str
    ours: Spread
    peer: str
    theirs: Spread
    ratio: Spread
    better: Literal["more", "less"]
    """Which way the ratio should go."""
    aim: Aim | None = None
    also: tuple[Figure, ...] = ()

    @property
    def holds(self) -> bool | None:
        """Whether the aim is kept; None without one."""
        return None if self.aim is None else self.aim.held_by(self.ratio)


def compare(
    group: str,
    name: str,
    *,
    what: str,
    unit: str,
    ours: Sequence[float],
    peer: str,
    theirs: Sequence[float],
    better: Literal["more", "less"],
    aim: Aim | None = None,
    also: Sequence[Figure] = (),
) -> Result:
    """Return the row for repetitions that were taken side by side."""
    return Result(
        group=group,
        name=name,
        what=what,
        unit=unit,
        ours=Spread.of(ours),
        peer=peer,
        theirs=Spread.of(theirs),
        ratio=Spread.of(ratios(ours, theirs)),
        better=better,
        aim=aim,
        also=tuple(also),
    )
