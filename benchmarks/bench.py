"""What every group of rows gets: a server, sizes, and where to put its results."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar

from benchmarks.progress import Progress
from benchmarks.results import Result
from tests.harness.server import RedisServer

T = TypeVar("T")


@dataclass
class Bench:
    """One run.

    Attributes:
        server: A server of the group's own.
        quick: Whether small sizes will do, as only the benchmark itself is tried out.
        rounds: How often each comparison is repeated.
        progress: Where to say what happens.
        results: The rows so far.
    """

    server: RedisServer
    quick: bool
    rounds: int
    progress: Progress
    results: list[Result] = field(default_factory=list)

    def choose(self, full: T, quick: T) -> T:
        """Return the size that fits the run."""
        return quick if self.quick else full

    def window(self, full: float) -> float:
        """Return for how many seconds to sample at once."""
        return full / 5 if self.quick else full

    def add(self, result: Result) -> None:
        """Take in a row."""
        self.results.append(result)
        self.progress.row(result)
