"""Fixtures: a client of the session's server, and a namespace that is kept twice."""

from collections.abc import Iterator

import pytest
import redis

from tests.harness import unique_prefix
from tests.harness.server import RedisServer
from tests.stores.twin import Twin, connect


@pytest.fixture(scope="module")
def client(redis_server: RedisServer) -> Iterator[redis.Redis]:
    with connect(redis_server.url) as client:
        yield client


@pytest.fixture
def twin(client: redis.Redis) -> Iterator[Twin]:
    twin = Twin(client, unique_prefix())
    yield twin
    twin.wipe()
