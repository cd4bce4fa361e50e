"""A namespace that is spread over the nodes of a cluster, beside one on a single node."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final

from benchmarks.bench import Bench
from benchmarks.load import FOREVER, drive, key_names
from benchmarks.report import amount
from benchmarks.server import RedisCluster, RedisServer, cpu
from distkit_actors import LaxInstanceAwareCounter, RedisStore, StrictInstanceAwareCounter

_NODES: Final = 3
#: Two for each node. The parts of this prefix lie evenly, so that no node has more than its share.
_PARTS: Final = 6
_PREFIX: Final = "partitions"


async def partitions(bench: Bench) -> None:
    """Measure what the nodes can do, by the CPU time that the busiest of them takes for a call.

    On one machine all nodes share what cores there are, so that no time would show what three
    machines do.
    """
    with RedisCluster(primaries=_NODES, replicas=0) as cluster:
        url = f"redis+cluster://{bench.server.host}:{cluster.ports[0]}"
        spread, one = RedisStore(url, partitions=_PARTS), RedisStore(bench.server.url)
        await _strict(bench, spread, one, cluster.nodes)
        await _lax(bench, spread, one, cluster.nodes)


async def _strict(
    bench: Bench, spread: RedisStore, one: RedisStore, nodes: Sequence[RedisServer]
) -> None:
    """Measure tasks of one process. Parts share them, and each sends batches of its own."""
    tasks = keys = bench.choose(1000, 100)
    load = partial(drive, tasks=tasks, keys=keys, seconds=bench.window(0.5))
    async with (
        StrictInstanceAwareCounter.open(_PREFIX, spread) as over_nodes,
        StrictInstanceAwareCounter.open(_PREFIX, one) as on_one,
    ):

        async def calls(counter: StrictInstanceAwareCounter) -> float:
            return (await load(counter.inc)).calls

        await _row(
            bench,
            f"{amount(tasks, 'task')} on {amount(keys, 'key')}",
            partial(_capacity, nodes, partial(calls, over_nodes)),
            partial(_capacity, [bench.server], partial(calls, on_one)),
        )


async def _lax(
    bench: Bench, spread: RedisStore, one: RedisStore, nodes: Sequence[RedisServer]
) -> None:
    """Measure batches that are full wherever they go, as those of a busy fleet are."""
    names = key_names(bench.choose(24_000, 1000))
    flushes = bench.choose(3, 1)
    opened = partial(LaxInstanceAwareCounter.open, _PREFIX, flush_interval=FOREVER)
    async with opened(spread) as over_nodes, opened(one) as on_one:

        async def count(counter: LaxInstanceAwareCounter) -> float:
            for _ in range(flushes):
                for name in names:
                    counter.inc_nowait(name)
                await counter.flush()
            return flushes * len(names)

        await _row(
            bench,
            f"lax counts of {amount(len(names), 'key')}, flushed",
            partial(_capacity, nodes, partial(count, over_nodes)),
            partial(_capacity, [bench.server], partial(count, on_one)),
        )


async def _row(
    bench: Bench,
    name: str,
    spread: Callable[[], Awaitable[float]],
    one: Callable[[], Awaitable[float]],
) -> None:
    seen = await bench.interleave({"spread": spread, "one": one})
    bench.row(
        f"{name}, in {_PARTS} parts on {_NODES} nodes",
        "keys counted in a second of the busiest node's CPU time",
        seen["spread"],
        "one part on one node",
        seen["one"],
        unit="calls/s",
        better="more",
        aim=2.5,
    )


async def _capacity(nodes: Sequence[RedisServer], work: Callable[[], Awaitable[float]]) -> float:
    """Do some work, and return how much of it fits in a second of the busiest node."""
    before = [cpu(node) for node in nodes]
    done = await work()
    used = [cpu(node) - earlier for node, earlier in zip(nodes, before, strict=True)]
    return done / max(*used, 1e-6)
