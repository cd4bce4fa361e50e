"""How two things are compared: in turn, several times, by medians."""

from __future__ import annotations

import gc
import statistics
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self, TypeVar

T = TypeVar("T")

Sampler = Callable[[], Awaitable[T]]


@dataclass(frozen=True, slots=True)
class Spread:
    """What several repetitions of one measurement gave."""

    median: float
    low: float
    """The lower quartile."""
    high: float
    """The upper quartile."""
    repetitions: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Self:
        """Return the spread of ``values``, of which there must be one at least."""
        found = sorted(values)
        if len(found) == 1:
            return cls(found[0], found[0], found[0], 1)
        low, median, high = statistics.quantiles(found, n=4, method="inclusive")
        return cls(median, low, high, len(found))

    def times(self, factor: float) -> Spread:
        """Return the same in another unit."""
        return Spread(self.median * factor, self.low * factor, self.high * factor, self.repetitions)


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Divide each repetition by the one of the peer that ran next to it."""
    return [mine / other for mine, other in zip(ours, theirs, strict=True)]


async def interleave(
    parties: Mapping[str, Sampler[T]], rounds: int, *, warm_up: bool = True
) -> dict[str, list[T]]:
    """Take samples of all parties in turn, so that the machine's moods hit all alike.

    Every other round goes backwards: what drifts steadily over a round then favours nobody.

    Args:
        parties: What to sample, by name.
        rounds: Samples of each.
        warm_up: Take one more of each before, and forget it.
    """
    samples: dict[str, list[T]] = {name: [] for name in parties}
    if warm_up:
        for sampler in parties.values():
            await sampler()
    for number in range(rounds):
        order = list(parties)
        for name in order if number % 2 == 0 else reversed(order):
            # So that nobody pays for another's garbage.
            gc.collect()
            samples[name].append(await parties[name]())
    return samples
