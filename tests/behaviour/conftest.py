"""The `world` fixture: see `tests.behaviour.world`."""

from collections.abc import AsyncIterator

import pytest
import trio

from tests.behaviour.world import MEMORY, Backend, MemoryBackend, RedisBackend, World


@pytest.fixture(params=[MEMORY])
def backend(request: pytest.FixtureRequest) -> Backend:
    """Where the counters of a test live: in memory, unless it says where else."""
    if request.param == "memory":
        return MemoryBackend()
    return RedisBackend(request.getfixturevalue("redis_server"))


@pytest.fixture
async def world(backend: Backend, fresh_prefix: str) -> AsyncIterator[World]:
    """A fresh namespace, and counters in it."""
    async with trio.open_nursery() as nursery:
        world = World(backend, fresh_prefix, nursery)
        yield world
        await world.close()
