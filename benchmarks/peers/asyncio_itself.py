"""redis-py's asyncio client in an asyncio program: what it takes without a bridge from trio."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

from benchmarks.processes import Child, start
from benchmarks.server import RedisServer

PLAIN_ASYNCIO: Final = "redis.asyncio on asyncio itself"


@asynccontextmanager
async def plain_asyncio(server: RedisServer) -> AsyncGenerator[Child]:
    """Start a process that runs asyncio, and a client with a pool of ten connections in it."""
    async with start("benchmarks.child_asyncio", server.host, server.port) as child:
        child.greeting = await child.answer()
        yield child
