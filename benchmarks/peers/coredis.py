"""coredis, which runs on trio by way of anyio."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

import coredis

from benchmarks.load import Inc
from benchmarks.server import RedisServer

COREDIS: Final = "coredis on trio"


@asynccontextmanager
async def coredis_client(server: RedisServer) -> AsyncGenerator[Inc]:
    """Return what increments with coredis as it comes, connection pool included."""
    client = coredis.Redis(host=server.host, port=server.port)

    async def inc(key: str) -> object:
        return await client.hincrby("coredis", key, 1)

    async with client:
        yield inc
