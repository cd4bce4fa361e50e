"""Fixtures: real servers, alone and together, ways to reach them, and fresh names."""

import signal
from collections.abc import Iterator

import pytest
import pytest_timeout
import trio
from hypothesis import HealthCheck, settings

from tests.harness import unique_prefix
from tests.harness.cluster import RedisCluster
from tests.harness.hang import watch_no_more, watch_over
from tests.harness.proxy import FaultProxy
from tests.harness.sentinel import SentinelTrio
from tests.harness.server import RedisServer
from tests.harness.transports import BOTH, POOLS, reach_by

# A busy machine makes no example a failure.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


# What holds where there are no pools is in tests/stores/test_without_pools.py.
collect_ignore = [] if POOLS else ["stores/test_pools.py"]


def pytest_report_header() -> list[str]:
    """Say what is left out."""
    return [] if POOLS else ["trio-asyncio does not work on this Python: pools are not tested"]


def pytest_configure() -> None:
    """Heed Control-C, which some tests send, though a shell has started us in the background."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_timeout_set_timer(item: pytest.Item, settings: pytest_timeout.Settings) -> None:
    """Have a test that hangs say what its tasks wait for, before its process is ended."""
    watch_over(item, settings.timeout)


def pytest_timeout_cancel_timer(item: pytest.Item) -> None:
    """A test has ended, or a debugger has it."""
    watch_no_more(item)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """A server for the whole session. Do not flush, kill or reconfigure it."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """The address of the session's server."""
    return redis_server.url


@pytest.fixture(params=BOTH)
def transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every Redis store of the test uses it, unless it is told otherwise."""
    reach_by(request.param, monkeypatch)


@pytest.fixture
def fresh_prefix() -> str:
    """A key prefix of the test's own."""
    return unique_prefix()


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A server of the test's own, to do anything with."""
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="module")
def cluster() -> Iterator[RedisCluster]:
    """Three primaries, each with a replica, for the tests of a module; each leaves them whole.

    Their slots and roles are wherever the test before has left them.
    """
    with RedisCluster(config={"requirepass": "secret"}) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def sentinels() -> Iterator[SentinelTrio]:
    """Three sentinels over three servers, for the tests of a module; each leaves them whole."""
    with SentinelTrio(password="secret", sentinel_password="other") as sentinels:
        yield sentinels


@pytest.fixture
async def proxy(redis_server: RedisServer, nursery: trio.Nursery) -> FaultProxy:
    """A faulty network in front of the session's server."""
    proxy = FaultProxy(redis_server)
    await nursery.start(proxy.run)
    return proxy
