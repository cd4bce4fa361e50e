"""Fixtures: servers that keep their data."""

from collections.abc import Iterator

import pytest

from tests.harness.server import RedisServer


@pytest.fixture(scope="module")
def durable_redis() -> Iterator[RedisServer]:
    """A server with an append-only file, for the tests of one module to kill."""
    with RedisServer(persistent=True) as server:
        yield server
