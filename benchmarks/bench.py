"""How two things are compared: in turn, several times, by medians."""

from __future__ import annotations

import gc
import statistics
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Self, TypeAlias, TypeVar

from benchmarks.server import RedisServer

T = TypeVar("T")

Sampler: TypeAlias = Callable[[], Awaitable[T]]

#: Something else that was seen while a row was measured: values, and their unit.
Figure: TypeAlias = tuple[Iterable[float], str]


@dataclass(frozen=True, slots=True)
class Spread:
    """What several repetitions of one measurement gave: the median and the quartiles."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Self:
        """Return the spread of ``values``, of which there must be one at least."""
        found = sorted(values)
        if len(found) == 1:
            return cls(found[0], found[0], found[0])
        low, median, high = statistics.quantiles(found, n=4, method="inclusive")
        return cls(median, low, high)


@dataclass(frozen=True, slots=True)
class Row:
    """One row: repetitions of ours and of the peer's, taken side by side.

    Attributes:
        group: The group of rows it belongs to.
        name: What was done.
        what: What was measured of it.
        unit: Of both values; seconds are ``"s"``.
        ours: What each repetition gave.
        peer: What it is compared with.
        theirs: What each repetition of the peer gave.
        better: Which way the ratio should go.
        aims: The bounds that the median of the ratio should keep.
        also: What else was seen, by name, with its unit.
        absent: Why the peer was not measured; empty if it was.
    """

    group: str
    name: str
    what: str
    unit: str
    ours: tuple[float, ...]
    peer: str
    theirs: tuple[float, ...]
    better: Literal["more", "less"]
    aims: tuple[float, ...]
    also: Mapping[str, tuple[Spread, str]]
    absent: str = ""

    @property
    def ratio(self) -> Spread:
        """Each repetition divided by that of the peer which ran next to it."""
        return Spread.of(mine / other for mine, other in zip(self.ours, self.theirs, strict=True))

    @property
    def holds(self) -> bool | None:
        """Whether all aims are kept; None without one, and without a peer."""
        if not self.aims or self.absent:
            return None
        return all(map(self.keeps, self.aims))

    def keeps(self, aim: float) -> bool:
        """Return whether the median of the ratio keeps a bound."""
        found = self.ratio.median
        return found >= aim if self.better == "more" else found <= aim


@dataclass
class Bench:
    """What a group of rows gets: a server, sizes, and where to put its rows.

    Attributes:
        group: The name of the group.
        server: A server of the group's own.
        quick: Whether small sizes will do, as only the benchmark itself is tried out.
        rounds: How often each comparison is repeated.
        say: Tells what goes on.
        whole_fleet: Whether what has a size of its own for that is measured in it: it takes long,
            and gigabytes.
        rows: The rows so far.
        absent: Peers that cannot be measured here, and why. Their rows say so.
    """

    group: str
    server: RedisServer
    quick: bool
    rounds: int
    say: Callable[[str], None]
    whole_fleet: bool = False
    rows: list[Row] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)

    def choose(self, full: T, quick: T) -> T:
        """Return the size that fits the run."""
        return quick if self.quick else full

    def window(self, full: float) -> float:
        """Return for how many seconds to sample at once."""
        return full / 10 if self.quick else full

    async def interleave(
        self, parties: Mapping[str, Sampler[T]], *, times: int = 1
    ) -> dict[str, list[T]]:
        """Take samples of all parties in turn, so that the machine's moods hit all alike.

        Each is sampled once before, and that is forgotten. Every other round goes backwards: what
        drifts steadily over a round then favours nobody.

        Args:
            parties: What to sample, by name.
            times: So many times the samples that a comparison takes otherwise.
        """
        samples: dict[str, list[T]] = {name: [] for name in parties}
        for sampler in parties.values():
            await sampler()
        for number in range(times * self.rounds):
            order = list(parties)
            for name in order if number % 2 == 0 else reversed(order):
                # So that nobody pays for another's garbage.
                gc.collect()
                samples[name].append(await parties[name]())
        return samples

    def row(
        self,
        name: str,
        what: str,
        ours: Iterable[float],
        peer: str,
        theirs: Iterable[float],
        *,
        unit: str = "s",
        better: Literal["more", "less"] = "less",
        aim: float | tuple[float, ...] | None = None,
        also: Mapping[str, Figure] | None = None,
    ) -> None:
        """Take in a row; see `Row`. A peer that is `absent` has no values."""
        found = tuple(theirs)
        absent = self.absent.get(peer, "")
        if bool(absent) == bool(found):
            raise ValueError(f"{peer} has values, or else is absent")
        seen = {title: (Spread.of(values), of) for title, (values, of) in (also or {}).items()}
        aims = aim if isinstance(aim, tuple) else () if aim is None else (aim,)
        mine = tuple(ours)
        self.rows.append(
            Row(self.group, name, what, unit, mine, peer, found, better, aims, seen, absent)
        )


def scaled(values: Sequence[float], factor: float) -> list[float]:
    """Return the same values in another unit."""
    return [value * factor for value in values]
