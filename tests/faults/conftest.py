"""Fixtures: each way to reach a server, and servers that keep their data."""

from collections.abc import Iterator

import pytest

from tests.harness.server import RedisServer
from tests.harness.transports import BOTH, reach_by


@pytest.fixture(params=BOTH)
def transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every Redis store of the test uses it, unless it is told otherwise."""
    reach_by(request.param, monkeypatch)


@pytest.fixture(scope="module")
def durable_redis() -> Iterator[RedisServer]:
    """A server with an append-only file, for the tests of one module to kill."""
    with RedisServer(persistent=True) as server:
        yield server
