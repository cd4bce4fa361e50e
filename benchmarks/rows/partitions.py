"""A namespace that is spread over the nodes of a cluster, beside one on a single node."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from functools import partial
from typing import Final, NamedTuple, TypeVar

import trio

from benchmarks.bench import Bench
from benchmarks.load import FOREVER, drive, key_names
from benchmarks.report import amount
from benchmarks.server import RedisCluster, RedisServer, cpu
from distkit_actors import LaxInstanceAwareCounter, RedisStore, StrictInstanceAwareCounter

_NODES: Final = 3
#: Two for each node. The parts of this prefix lie evenly, so that no node has more than its share.
_PARTS: Final = 6
_PREFIX: Final = "partitions"

C = TypeVar("C")


async def partitions(bench: Bench) -> None:
    """Measure what the nodes can do, by the CPU time that the busiest of them takes for a call.

    On one machine all nodes share what cores there are, so that no time would show what three
    machines do. They share the caches, too: a server takes up to a quarter more CPU time while two
    others work. So where nodes are kept busy, the peer is a node that has a namespace for itself
    while two others have theirs.
    """
    with (
        RedisCluster(primaries=_NODES, replicas=0) as cluster,
        RedisServer() as second,
        RedisServer() as third,
    ):
        url = f"redis+cluster://{bench.server.host}:{cluster.ports[0]}"
        whole = Nodes(cluster.nodes, [RedisStore(url, partitions=_PARTS)])
        servers = [bench.server, second, third]
        apart = Nodes(servers, [RedisStore(server.url) for server in servers])
        await _strict(bench, whole, Nodes(servers[:1], apart.stores[:1]))
        await _lax(bench, whole, apart)


class Nodes(NamedTuple):
    """Servers, and the stores on them: one on all of them, or one on each."""

    servers: Sequence[RedisServer]
    stores: Sequence[RedisStore]


async def _strict(bench: Bench, whole: Nodes, apart: Nodes) -> None:
    """Measure tasks of one process. Parts share them, and each sends batches of its own.

    The process has more to do than all servers together, so that these rarely work at once.
    """
    tasks = keys = bench.choose(1000, 100)
    load = partial(drive, tasks=tasks, keys=keys, seconds=bench.window(1.0))

    async def calls(counter: StrictInstanceAwareCounter) -> float:
        return (await load(counter.inc)).calls

    name = f"{amount(tasks, 'task')} on {amount(keys, 'key')}"
    await _row(bench, name, whole, apart, StrictInstanceAwareCounter.open, calls)


async def _lax(bench: Bench, whole: Nodes, apart: Nodes) -> None:
    """Measure batches that are full wherever they go, as those of a busy fleet are."""
    names = key_names(bench.choose(24_000, 1000))
    flushes = bench.choose(8, 1)

    async def count(counter: LaxInstanceAwareCounter) -> float:
        for _ in range(flushes):
            for name in names:
                counter.inc_nowait(name)
            await counter.flush()
        return flushes * len(names)

    name = f"lax counts of {amount(len(names), 'key')}, flushed"
    opened = partial(LaxInstanceAwareCounter.open, flush_interval=FOREVER)
    await _row(bench, name, whole, apart, opened, count)


async def _row(
    bench: Bench,
    name: str,
    whole: Nodes,
    apart: Nodes,
    opened: Callable[[str, RedisStore], AbstractAsyncContextManager[C]],
    work: Callable[[C], Awaitable[float]],
) -> None:
    async with AsyncExitStack() as stack:
        parties: dict[str, Callable[[], Awaitable[float]]] = {}
        for title, nodes in (("spread", whole), ("one", apart)):
            counters = [
                await stack.enter_async_context(opened(_PREFIX, store)) for store in nodes.stores
            ]
            parties[title] = partial(_capacity, nodes.servers, [partial(work, c) for c in counters])
        seen = await bench.interleave(parties)
    bench.row(
        f"{name}, in {_PARTS} parts on {_NODES} nodes",
        "keys counted in a second of the busiest node's CPU time",
        seen["spread"],
        "one part on one node" + (", beside two as busy" if apart.stores[1:] else ""),
        [capacity / len(apart.servers) for capacity in seen["one"]],
        unit="calls/s",
        better="more",
        aim=2.5,
    )


async def _capacity(
    servers: Sequence[RedisServer], work: Sequence[Callable[[], Awaitable[float]]]
) -> float:
    """Do some work, and return how much of it fits in a second of the busiest server."""
    before = [cpu(server) for server in servers]
    done: list[float] = []

    async def do(one: Callable[[], Awaitable[float]]) -> None:
        done.append(await one())

    async with trio.open_nursery() as nursery:
        for one in work:
            nursery.start_soon(do, one)
    used = [cpu(server) - earlier for server, earlier in zip(servers, before, strict=True)]
    return sum(done) / max([*used, 1e-6])
