"""Strict counters beside all the HINCRBY that the server can do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

from benchmarks.bench import Bench
from benchmarks.load import Inc, drive
from benchmarks.measure import interleave
from benchmarks.peers.ceiling import ceiling
from benchmarks.results import compare
from benchmarks.wording import amount
from distkit_actors import StrictInstanceAwareCounter


async def measure(bench: Bench) -> None:
    """Measure."""
    async with (
        StrictInstanceAwareCounter.open("ceiling", bench.server.url) as counter,
        ceiling(bench.server) as (peer, rate),
    ):
        commands = bench.choose(200_000, 20_000)
        for keys in (1, 100):
            parties: dict[str, Callable[[], Awaitable[float]]] = {
                "ours": partial(_rate, counter.inc, keys, bench.window(0.25)),
                "ceiling": partial(rate, commands),
            }
            seen = await interleave(parties, bench.rounds)
            bench.add(
                compare(
                    "ceiling",
                    f"{amount(1000, 'task')} on {amount(keys, 'key')}",
                    what="calls of inc in a second, each awaited by its task",
                    unit="calls/s",
                    ours=seen["ours"],
                    peer=peer,
                    theirs=seen["ceiling"],
                    better="more",
                )
            )


async def _rate(inc: Inc, keys: int, seconds: float) -> float:
    return (await drive(inc, tasks=1000, keys=keys, seconds=seconds)).rate
