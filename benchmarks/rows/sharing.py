"""Many prefixes on one store, whose counters share a connection."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

import trio

from benchmarks.bench import Bench
from benchmarks.load import FOREVER, key_names
from benchmarks.report import amount
from benchmarks.server import RedisServer, cpu
from distkit_actors import RedisStore, StrictInstanceAwareCounter

_NAME: Final = "benchmark"
#: Seconds; starting must not be taken for silence, however busy the machine is.
_PATIENCE: Final = 30.0
#: How often in a sample, as a server counts its time in steps that are not that small.
_TIMES: Final = 10


async def sharing(bench: Bench) -> None:
    """Measure how long many take to start, and what their signs of life cost."""
    count = bench.choose(300, 20)
    prefixes = [f"sharing{number}" for number in range(count)]
    starts: list[float] = []
    connections: list[float] = []
    for _ in range(bench.rounds):
        began = time.perf_counter()
        async with _running(bench.server, prefixes):
            starts.append(time.perf_counter() - began)
            connections.append(_connections(bench.server))
    bench.row(
        f"start of {amount(count, 'prefix', plural='es')} on one store",
        "time until all have started that start at once",
        starts,
        "a second",
        [1.0 for _ in starts],
        aim=1,
        also={"connections": (connections, "")},
    )
    async with _running(bench.server, prefixes[:1]):
        alone = _connections(bench.server)
    bench.row(
        f"connections of {amount(count, 'prefix', plural='es')} on one store",
        "as the server counts them",
        connections,
        "one prefix",
        [alone for _ in connections],
        unit="connections",
        aim=1,
    )
    async with _running(bench.server, prefixes) as counters:
        keys = dict.fromkeys(key_names(count), 1)

        async def each() -> tuple[float, float]:
            return await _cost(bench.server, lambda: _all_get(counters))

        async def one() -> tuple[float, float]:
            return await _cost(bench.server, lambda: counters[0].inc_all(keys))

        seen = await bench.interleave({"each": each, "one": one}, times=5)
    for number, whose in enumerate(("all of it", "the server")):
        bench.row(
            f"a batch of each of {amount(count, 'prefix', plural='es')}: {whose}",
            ("time until all are answered", "CPU time")[number],
            [sample[number] for sample in seen["each"]],
            f"one batch of {amount(count, 'entr', plural='ies')}",
            [sample[number] for sample in seen["one"]],
        )
    await _beats(bench, prefixes)


async def _beats(bench: Bench, prefixes: list[str]) -> None:
    """Measure signs of life as they come, in CPU time of both sides, less that of an idle server.

    They go on all the time, so the batch is measured when they have ended.
    """
    count, seconds = len(prefixes), bench.window(2.0)
    keys = dict.fromkeys(key_names(count), 1)
    _, its = _spent(bench.server)
    await trio.sleep(seconds)
    idle = _spent(bench.server)[1] - its
    period = bench.choose(0.5, 0.1)
    async with _running(bench.server, prefixes, period=period) as counters:
        await trio.sleep(3 * period)  # until all beat at the same instants

        async def beats() -> tuple[float, float]:
            done = _batches(counters)
            ours, its = _spent(bench.server)
            await trio.sleep(seconds)
            ours_after, its_after = _spent(bench.server)
            each = count / max(_batches(counters) - done, 1)
            return (ours_after - ours) * each, max(its_after - its - idle, 1e-6) * each

        seen = await bench.interleave({"beats": beats})
    async with StrictInstanceAwareCounter.open(
        "alone", RedisStore(bench.server.url), dead_instance_threshold=FOREVER
    ) as alone:

        async def batch() -> tuple[float, float]:
            ours, its = _spent(bench.server)
            for _ in range(_TIMES):
                await alone.inc_all(keys)
            ours_after, its_after = _spent(bench.server)
            return (ours_after - ours) / _TIMES, max(its_after - its, 1e-6) / _TIMES

        seen |= await bench.interleave({"one": batch})
    for number, (whose, aim) in enumerate({"this process": None, "the server": 3}.items()):
        bench.row(
            f"a heartbeat of each of {amount(count, 'prefix', plural='es')}: {whose}",
            "CPU time of all of them",
            [sample[number] for sample in seen["beats"]],
            f"one batch of {amount(count, 'entr', plural='ies')}",
            [sample[number] for sample in seen["one"]],
            aim=aim,
        )


def _spent(server: RedisServer) -> tuple[float, float]:
    """Return the CPU time of this process and of the server."""
    return time.process_time(), cpu(server)


def _batches(counters: list[StrictInstanceAwareCounter]) -> int:
    return sum(counter.statistics().batches_done for counter in counters)


@asynccontextmanager
async def _running(
    server: RedisServer, prefixes: list[str], *, period: float | None = None
) -> AsyncGenerator[list[StrictInstanceAwareCounter]]:
    """Start a counter under each prefix, all at once and on one store.

    ``period`` is the time between two beats in seconds; without one there are none.
    """
    url = f"redis://{server.host}:{server.port}/0?client_name={_NAME}"
    store = RedisStore(url, response_timeout=_PATIENCE)
    counters = [
        StrictInstanceAwareCounter(
            prefix, store, dead_instance_threshold=FOREVER, heartbeat_interval=period
        )
        for prefix in prefixes
    ]
    async with trio.open_nursery() as running:
        async with trio.open_nursery() as starting:
            for counter in counters:
                starting.start_soon(running.start, counter.run)
        yield counters
        for counter in counters:
            running.start_soon(counter.aclose)


async def _all_get(counters: list[StrictInstanceAwareCounter]) -> None:
    async with trio.open_nursery() as nursery:
        for counter in counters:
            nursery.start_soon(counter.get, "k")


async def _cost(server: RedisServer, work: Callable[[], Awaitable[object]]) -> tuple[float, float]:
    """Return the seconds that some work takes, in all and of the server."""
    before, began = cpu(server), time.perf_counter()
    for _ in range(_TIMES):
        await work()
    took = time.perf_counter() - began
    return took / _TIMES, max(cpu(server) - before, 1e-6) / _TIMES


def _connections(server: RedisServer) -> int:
    return str(server.command("CLIENT", "LIST")).count(_NAME)
