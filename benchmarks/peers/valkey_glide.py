"""valkey-glide, whose core of Rust talks in threads of its own; it runs on trio by itself."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

import glide

from benchmarks.load import Inc
from benchmarks.server import RedisServer

GLIDE: Final = "valkey-glide on trio"


@asynccontextmanager
async def glide_client(server: RedisServer) -> AsyncGenerator[Inc]:
    """Return what does INCR with valkey-glide as it comes, over its one connection."""
    client = await glide.GlideClient.create(
        glide.GlideClientConfiguration([glide.NodeAddress(server.host, server.port)])
    )

    async def inc(key: str) -> object:
        return await client.incr(f"glide:{key}")

    try:
        yield inc
    finally:
        await client.close()
