"""One run: a fresh server for each group of rows."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import trio

from benchmarks import rows
from benchmarks.bench import Bench
from benchmarks.machine import facts
from benchmarks.progress import Progress
from benchmarks.results import Result
from tests.harness.server import RedisServer


@dataclass(frozen=True)
class Report:
    """What a run has found.

    Attributes:
        machine: What the figures depend on.
        quick: Whether sizes were small.
        rounds: How often each comparison was made.
        seconds: How long each group took, by its name.
        results: The rows.
    """

    machine: dict[str, str | int]
    quick: bool
    rounds: int
    seconds: dict[str, float]
    results: Sequence[Result]


def run(groups: Sequence[str], *, quick: bool, rounds: int, progress: Progress) -> Report:
    """Measure some groups of rows. What goes wrong in one of them ends it all."""
    machine: dict[str, str | int] = {}
    seconds: dict[str, float] = {}
    results: list[Result] = []
    for number, group in enumerate(groups, 1):
        progress.group(f"{group}: {rows.GROUPS[group]}", number, len(groups))
        start = time.perf_counter()
        with RedisServer() as server:
            machine = machine or facts(server)
            bench = Bench(server, quick, rounds, progress, results)
            trio.run(rows.measure, group, bench)
        seconds[group] = time.perf_counter() - start
    return Report(machine, quick, rounds, seconds, results)
