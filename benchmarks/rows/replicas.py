"""What it costs to wait until a replica has each write."""

from __future__ import annotations

from contextlib import AsyncExitStack
from functools import partial
from typing import Final

from benchmarks.bench import Bench
from benchmarks.load import drive
from benchmarks.report import amount
from benchmarks.server import RedisServer
from distkit_actors import RedisStore, StrictInstanceAwareCounter

_PEER: Final = "the same without min_replicas"


async def replicas(bench: Bench) -> None:
    """Measure a counter whose writes a replica confirms beside one whose writes none does."""
    server = bench.server
    with RedisServer(replica_of=server) as replica:
        replica.wait_in_sync()
        server.command("WAIT", 1, 0)
        async with AsyncExitStack() as stack:

            async def counter(name: str, min_replicas: int) -> StrictInstanceAwareCounter:
                store = RedisStore(server.url, min_replicas=min_replicas)
                return await stack.enter_async_context(StrictInstanceAwareCounter.open(name, store))

            sure, plain = await counter("sure", 1), await counter("plain", 0)
            for tasks in bench.choose((1, 100), (1, 20)):
                load = partial(drive, tasks=tasks, keys=1, seconds=bench.window(0.3))
                parties = {"sure": partial(load, sure.inc), "plain": partial(load, plain.inc)}
                seen = await bench.interleave(parties)
                bench.row(
                    f"min_replicas=1, {amount(tasks, 'task')}",
                    "median time of one inc",
                    [one.p50 for one in seen["sure"]],
                    _PEER,
                    [one.p50 for one in seen["plain"]],
                    also={
                        "calls/s": ([one.rate for one in seen["sure"]], "calls/s"),
                        "peer's calls/s": ([one.rate for one in seen["plain"]], "calls/s"),
                    },
                )
