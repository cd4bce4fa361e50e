"""Fixtures: each way to reach a server, and servers that keep their data."""

from collections.abc import Iterator

import pytest

from distkit_actors import RedisStore
from tests.harness.server import RedisServer


@pytest.fixture(params=["trio", "asyncio"])
def transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every Redis store of the test uses it, unless it is told otherwise."""
    monkeypatch.setitem(RedisStore.__init__.__kwdefaults__, "transport", request.param)


@pytest.fixture(scope="module")
def durable_redis() -> Iterator[RedisServer]:
    """A server with an append-only file, for the tests of one module to kill."""
    with RedisServer(persistent=True) as server:
        yield server
