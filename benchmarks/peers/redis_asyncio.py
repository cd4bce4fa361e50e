"""redis-py's asyncio client, which a trio program reaches through trio-asyncio."""

from __future__ import annotations

import warnings
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final, TypeAlias, cast

import redis.asyncio as redis_asyncio

with warnings.catch_warnings():
    # It subclasses asyncio's child watchers, which Python 3.12 and 3.13 deprecate.
    warnings.filterwarnings("ignore", ".*AbstractChildWatcher", DeprecationWarning)
    import trio_asyncio

from benchmarks.load import Inc
from benchmarks.server import RedisServer

#: Sends one HINCRBY for each key, all in one pipeline.
SendAll: TypeAlias = Callable[[Sequence[str]], Awaitable[object]]

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
