"""coredis, which speaks to Redis on trio by itself (by way of anyio)."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import coredis

from benchmarks.load import Inc
from tests.harness.server import RedisServer

NAME = "coredis on trio"

_HASH = "coredis"


@asynccontextmanager
async def coredis_client(server: RedisServer) -> AsyncGenerator[Inc]:
    """Return what increments with its client as it comes, connection pool included."""
    client = coredis.Redis(host=server.host, port=server.port)

    async def inc(key: str) -> object:
        return await client.hincrby(_HASH, key, 1)

    async with client:
        yield inc
