"""What a flush costs: it should follow the keys that were counted, not those that are known."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial

from benchmarks.bench import Bench
from benchmarks.load import key_names
from benchmarks.measure import interleave
from benchmarks.peers.redis_asyncio import PIPELINE_NAME, SendAll, pipeline
from benchmarks.results import compare
from benchmarks.wording import amount
from distkit_actors import LaxInstanceAwareCounter


async def measure(bench: Bench) -> None:
    """Measure."""
    many = bench.choose(10_000, 1000)
    seconds = bench.window(0.12)
    async with pipeline(bench.server) as send:
        for count in (1, 100, many):
            names = key_names(count)
            async with _counter(bench, f"flush{count}") as counter:
                seen = await interleave(
                    {
                        "ours": partial(_flush, counter, names, seconds),
                        "pipeline": partial(_pipeline, send, names, seconds),
                    },
                    bench.rounds,
                )
            bench.add(
                compare(
                    "flush",
                    amount(count, "dirty key"),
                    what="time of one flush()",
                    unit="s",
                    ours=seen["ours"],
                    peer=f"{PIPELINE_NAME} of as many HINCRBY",
                    theirs=seen["pipeline"],
                    better="less",
                )
            )
    one = key_names(1)
    async with _counter(bench, "few") as few, _counter(bench, "many") as full:
        for name in key_names(many):
            full.inc_nowait(name)
        await full.flush()
        seen = await interleave(
            {
                "ours": partial(_flush, full, one, seconds),
                "few": partial(_flush, few, one, seconds),
            },
            bench.rounds,
        )
    bench.add(
        compare(
            "flush",
            f"1 dirty key of {amount(many, 'known key')}",
            what="time of one flush()",
            unit="s",
            ours=seen["ours"],
            peer="1 dirty key of 1 known",
            theirs=seen["few"],
            better="less",
        )
    )


def _counter(bench: Bench, prefix: str) -> AbstractAsyncContextManager[LaxInstanceAwareCounter]:
    # Nothing is flushed but on demand.
    return LaxInstanceAwareCounter.open(prefix, bench.server.url, flush_interval=3600.0)


async def _flush(counter: LaxInstanceAwareCounter, names: Sequence[str], seconds: float) -> float:
    times: list[float] = []
    end = time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        for name in names:
            counter.inc_nowait(name)
        start = time.perf_counter()
        await counter.flush()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


async def _pipeline(send: SendAll, names: Sequence[str], seconds: float) -> float:
    times: list[float] = []
    end = time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        start = time.perf_counter()
        await send(names)
        times.append(time.perf_counter() - start)
    return statistics.median(times)
