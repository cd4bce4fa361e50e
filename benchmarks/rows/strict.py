"""Strict counters under load, beside the same tasks on a pool of ten connections."""

from __future__ import annotations

from functools import partial
from typing import Final

from benchmarks.bench import Bench
from benchmarks.load import Load, drive
from benchmarks.measure import Spread, interleave
from benchmarks.peers.redis_asyncio import POOL_NAME, blocking_pool
from benchmarks.results import Aim, Figure, compare
from benchmarks.wording import amount
from distkit_actors import StrictInstanceAwareCounter

_AIMS: Final = {(1000, 1): Aim("at least", 60), (1000, 100): Aim("at least", 40)}


async def measure(bench: Bench) -> None:
    """Measure."""
    async with (
        StrictInstanceAwareCounter.open("strict", bench.server.url) as counter,
        blocking_pool(bench.server) as pool,
    ):
        for keys in (1, 100):
            for tasks in (1, 10, 100, 1000):
                # A task of a thousand waits a third of a second for its turn in the pool.
                seconds = bench.window(0.4 if tasks == 1000 else 0.15)
                load = partial(drive, tasks=tasks, keys=keys, seconds=seconds)
                seen = await interleave(
                    {"ours": partial(load, counter.inc), "pool": partial(load, pool)},
                    bench.rounds,
                )
                _row(bench, tasks, keys, seen["ours"], seen["pool"])


def _row(bench: Bench, tasks: int, keys: int, ours: list[Load], pool: list[Load]) -> None:
    bench.add(
        compare(
            "strict",
            f"{amount(tasks, 'task')} on {amount(keys, 'key')}",
            what="calls of inc in a second, each awaited by its task",
            unit="calls/s",
            ours=[load.rate for load in ours],
            peer=POOL_NAME,
            theirs=[load.rate for load in pool],
            better="more",
            aim=_AIMS.get((tasks, keys)),
            also=[
                Figure("p50", Spread.of(load.p50 for load in ours), "s"),
                Figure("p99", Spread.of(load.p99 for load in ours), "s"),
                Figure("peer's p50", Spread.of(load.p50 for load in pool), "s"),
                Figure("peer's p99", Spread.of(load.p99 for load in pool), "s"),
            ],
        )
    )
