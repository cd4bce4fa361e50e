"""redis-py's blocking client in trio's worker threads."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

import redis
import trio

from benchmarks.load import Inc
from benchmarks.server import RedisServer

THREADS: Final = "redis-py in threads"


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
