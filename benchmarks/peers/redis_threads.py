"""redis-py's blocking client in trio's worker threads."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import redis
import trio

from benchmarks.load import Inc
from tests.harness.server import RedisServer

NAME = "redis-py in threads"

_HASH = "redis_threads"


@asynccontextmanager
async def worker_threads(server: RedisServer) -> AsyncGenerator[Inc]:
    """Return what increments in a thread, as many at once as trio's limit allows (40)."""
    client = redis.Redis(host=server.host, port=server.port)

    async def inc(key: str) -> object:
        return await trio.to_thread.run_sync(client.hincrby, _HASH, key, 1)

    try:
        yield inc
    finally:
        client.close()
