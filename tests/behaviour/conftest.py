"""The `world` fixture: see `tests.behaviour.world`."""

from collections.abc import AsyncIterator

import pytest
import trio

from tests.behaviour.world import MEMORY, REDIS, Backend, MemoryBackend, RedisBackend, World


@pytest.fixture(params=[MEMORY, REDIS])
def backend(request: pytest.FixtureRequest) -> Backend:
    """Where the counters of a test live: each test runs in both."""
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
