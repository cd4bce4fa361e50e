"""redis-py's asyncio client in an asyncio program: what it takes without a bridge from trio."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

from benchmarks.load import Load
from benchmarks.processes import Child, start
from benchmarks.server import RedisServer

PLAIN_ASYNCIO: Final = "redis.asyncio on asyncio itself"


class PlainAsyncio:
    """A process that runs asyncio, and a client with a pool of ten connections in it."""

    def __init__(self, child: Child) -> None:
        self._child = child

    async def drive(self, *, tasks: int, keys: int, seconds: float) -> Load:
        """Do there as `benchmarks.load.drive` does with trio's tasks."""
        return Load(**await self._child.ask("load", tasks, keys, seconds))


@asynccontextmanager
async def plain_asyncio(server: RedisServer) -> AsyncGenerator[PlainAsyncio]:
    """Start the process."""
    async with start("benchmarks.child_asyncio", server.host, server.port) as child:
        child.greeting = await child.answer()
        yield PlainAsyncio(child)
