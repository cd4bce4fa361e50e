"""Stores that are reached through a pool of redis-py's."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import redis
import trio
from redis.asyncio import BlockingConnectionPool, Connection, ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import ConstantBackoff
from redis.credentials import CredentialProvider

from distkit_actors import (
    Fleet,
    RedisStore,
    StoreUnavailableError,
    StrictInstanceAwareCounter,
)
from distkit_actors._protocol._messages import Peek, Peeked
from distkit_actors._stores._redis._bridge._connection import BridgeConnection
from distkit_actors._stores._redis._lane import OwnLane
from distkit_actors._stores._redis._link import RedisLink
from distkit_actors.testing import check_store
from tests.faults.fleet import until
from tests.harness.ports import LOOPBACK
from tests.harness.proxy import FaultProxy
from tests.harness.sentinel import SentinelTrio
from tests.harness.server import RedisServer

from .everything import by_counters, by_onlookers, by_watchers


def taken(pool: ConnectionPool) -> int:
    return len(list(pool._in_use_connections))


@pytest.mark.parametrize("options", ["", "?protocol=2", "?protocol=3", "?decode_responses=true"])
async def test_every_operation_works_whatever_the_pool_speaks(
    options: str, redis_url: str, fresh_prefix: str
) -> None:
    pool = ConnectionPool.from_url(redis_url + options)
    store = RedisStore.from_pool(pool)
    await by_counters(fresh_prefix, store, "one", "two")
    await by_watchers(fresh_prefix, store, "one", "two")
    await by_onlookers(fresh_prefix, store, "one")
    assert fresh_prefix not in await Fleet.prefixes(store)
    assert not taken(pool)


async def test_it_keeps_the_contract_of_a_store(redis_url: str) -> None:
    pool = ConnectionPool.from_url(redis_url)
    await check_store(lambda: RedisStore.from_pool(pool))
    assert not taken(pool)


async def test_the_pool_gets_its_connections_back_as_they_were(
    redis_url: str, fresh_prefix: str
) -> None:
    """Closed, so that nobody finds an answer that is not his; and nothing of ours about them."""
    settings: dict[str, Any] = {
        "socket_timeout": 7,
        "health_check_interval": 3,
        "retry": Retry(ConstantBackoff(0.01), 5),
    }
    pool = ConnectionPool.from_url(redis_url, **settings)
    names = [*settings, "protocol"]
    usual = {name: getattr(pool.make_connection(), name) for name in names}
    async with StrictInstanceAwareCounter.open(fresh_prefix, RedisStore.from_pool(pool)) as counter:
        await counter.inc("k")
        (connection,) = pool._in_use_connections
        assert connection.retry.get_retries() == 0
        assert (connection.socket_timeout, connection.health_check_interval) == (None, 0)
    (idle,) = pool._available_connections
    assert idle is connection
    assert not idle.is_connected
    for name in names:
        found = getattr(idle, name)
        assert found == usual[name] or name == "retry"
    assert idle.retry.get_retries() == 5
    assert not taken(pool)


@pytest.fixture
def waiting_pool(redis_url: str) -> BlockingConnectionPool:
    return BlockingConnectionPool.from_url(redis_url, max_connections=1, timeout=60)


async def is_waited_for(pool: BlockingConnectionPool, prefix: str) -> None:
    store = RedisStore.from_pool(pool, response_timeout=20)
    others = RedisStore.from_pool(pool, response_timeout=20)
    async with store.link(prefix) as one, others.link(prefix) as two:
        await one.connect()
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(two.connect)
                await until(lambda: bool(pool._condition._waiters), 20)  # type: ignore[attr-defined]
                assert not two.connected
                await one._lane._connection.drop()  # type: ignore[attr-defined]
        assert two.connected
    assert not taken(pool)


async def test_a_pool_that_waits_is_waited_for(
    waiting_pool: BlockingConnectionPool, fresh_prefix: str
) -> None:
    """Also in another loop than the first one, which has ended with its last user."""
    for _ in range(2):
        await is_waited_for(waiting_pool, fresh_prefix)


def test_a_pool_that_waits_is_waited_for_in_each_run(
    waiting_pool: BlockingConnectionPool, fresh_prefix: str
) -> None:
    async def in_asyncio() -> None:
        connection = await waiting_pool.get_connection()
        waiting = asyncio.ensure_future(waiting_pool.get_connection())
        await asyncio.sleep(0)
        await waiting_pool.release(connection)
        connection = await waiting
        await connection.disconnect()
        await waiting_pool.release(connection)

    asyncio.run(in_asyncio())
    for _ in range(2):
        trio.run(is_waited_for, waiting_pool, fresh_prefix)


async def test_a_pool_that_has_no_more_is_a_store_that_is_away(
    redis_url: str, fresh_prefix: str
) -> None:
    pool = ConnectionPool.from_url(redis_url, max_connections=1)
    store = RedisStore.from_pool(pool)
    async with store.link(fresh_prefix) as one, store.link(fresh_prefix) as two:
        await one.connect()
        with pytest.raises(StoreUnavailableError, match="Too many connections"):
            await two.connect()
        await one._lane._connection.drop()  # type: ignore[attr-defined]
        await two.connect()


async def test_giving_up_to_connect_takes_nothing_from_the_pool(
    proxy: FaultProxy, redis_url: str, fresh_prefix: str
) -> None:
    """However far it has come; and in time, whatever redis-py's own timeouts are."""
    pool = BlockingConnectionPool.from_url(proxy.url, max_connections=1, socket_timeout=30)
    store = RedisStore.from_pool(pool)
    given_up = 0
    async with store.link(fresh_prefix) as link:
        for patience in (0, *(0.0002 * 1.3**n for n in range(15))):
            with trio.move_on_after(patience) as scope:
                await link.connect()
            given_up += scope.cancelled_caught
            await link._lane._connection.drop()  # type: ignore[attr-defined]
        proxy.pause()
        begun = trio.current_time()
        with trio.move_on_after(0.1):
            await link.connect()
        assert trio.current_time() - begun < 5
        proxy.resume()
        with trio.fail_after(10):
            await link.connect()
    assert given_up
    assert not taken(pool)


async def test_nothing_is_sent_again_behind_our_back(
    proxy: FaultProxy, fresh_prefix: str, redis_url: str
) -> None:
    """A pool that retries ten times sends no batch twice."""
    retry = Retry(ConstantBackoff(0.001), 10)
    pool = ConnectionPool.from_url(
        proxy.url, retry=retry, retry_on_timeout=True, socket_timeout=0.1
    )
    store = RedisStore.from_pool(pool)
    async with StrictInstanceAwareCounter.open(fresh_prefix, store) as counter:
        for number in range(1, 11):
            proxy.drop_reply()
            assert await counter.inc("k") == (number, number)


class Slow(Connection):
    """A connection class of an application's own."""

    made = 0

    async def connect(self) -> None:
        type(self).made += 1
        await asyncio.sleep(0)
        await super().connect()


async def test_connection_classes_of_ones_own(redis_url: str, fresh_prefix: str) -> None:
    pool = ConnectionPool.from_url(redis_url, connection_class=Slow)
    async with StrictInstanceAwareCounter.open(fresh_prefix, RedisStore.from_pool(pool)) as counter:
        assert await counter.inc("k") == (1, 1)
    assert Slow.made


async def test_sentinels_say_where_the_primary_is(
    sentinels: SentinelTrio, fresh_prefix: str
) -> None:
    """Asked at each connect, so that a failover is followed."""
    sentinel = Sentinel(
        [(LOOPBACK, sentinel.port) for sentinel in sentinels.sentinels],
        sentinel_kwargs={"password": sentinels.sentinel_password},
        password=sentinels.password,
    )
    store = RedisStore.from_pool(sentinel.master_for(sentinels.service).connection_pool)
    assert sentinels.service in repr(store)
    async with StrictInstanceAwareCounter.open(fresh_prefix, store) as counter:
        assert await counter.inc("k") == (1, 1)
        await trio.to_thread.run_sync(sentinels.failover)
        with trio.fail_after(60):
            assert await counter.inc("k") == (2, 2)
    for asked in sentinel.sentinels:
        assert not any(one.is_connected for one in asked.connection_pool._available_connections)


class Provider(CredentialProvider):
    def __init__(self, password: str) -> None:
        self.password = password
        self.threads: set[int] = set()

    def get_credentials(self) -> tuple[str, str]:
        self.threads.add(threading.get_ident())
        return "app", self.password


async def test_the_pools_credential_provider_is_asked(
    own_redis: RedisServer, fresh_prefix: str
) -> None:
    own_redis.command("ACL", "SETUSER", "app", "on", ">one", "~*", "&*", "+@all")
    provider = Provider("one")
    url = f"redis://{own_redis.host}:{own_redis.port}"
    pool = ConnectionPool.from_url(url, credential_provider=provider)
    async with StrictInstanceAwareCounter.open(fresh_prefix, RedisStore.from_pool(pool)) as counter:
        assert await counter.inc("k") == (1, 1)
        own_redis.command("ACL", "SETUSER", "app", "resetpass", ">two")
        provider.password = "two"
        own_redis.command("CLIENT", "KILL", "USER", "app")
        assert await counter.inc("k") == (2, 2)
        (connection,) = pool._in_use_connections
        own_redis.command("ACL", "SETUSER", "app", "resetpass", ">three")
        connection.set_re_auth_token(Token("three"))  # as a streaming provider has it pushed
        assert await counter.inc("k") == (3, 3)
        assert connection._re_auth_token is None


class Token:
    def __init__(self, password: str) -> None:
        self.password = password

    def try_get(self, key: str) -> str:
        return "app"

    def get_value(self) -> str:
        return self.password


async def test_the_application_sees_no_asyncio(redis_url: str, fresh_prefix: str) -> None:
    store = RedisStore.from_pool(ConnectionPool.from_url(redis_url))
    with pytest.raises(ZeroDivisionError):  # noqa: PT012 - and no group of it
        async with StrictInstanceAwareCounter.open(fresh_prefix, store) as counter:
            with trio.fail_after(30) as scope:
                await counter.inc("k")
                assert trio.current_effective_deadline() == scope.deadline
                with pytest.raises(RuntimeError):
                    asyncio.get_running_loop()
                1 / 0  # noqa: B018


async def test_counters_of_one_pool_share_a_loop(redis_url: str, fresh_prefix: str) -> None:
    """A pool belongs to one."""
    pool = ConnectionPool.from_url(redis_url)
    first, second = RedisStore.from_pool(pool), RedisStore.from_pool(pool)
    async with first.link(fresh_prefix) as one:
        async with second.link(fresh_prefix) as two:
            assert one._lane._connection._loop is two._lane._connection._loop  # type: ignore[attr-defined]
            await two.connect()
        await one.connect()


def test_a_pool_serves_one_run_after_the_other(redis_url: str, fresh_prefix: str) -> None:
    pool = ConnectionPool.from_url(redis_url)
    store = RedisStore.from_pool(pool)

    async def count(expected: int) -> None:
        async with StrictInstanceAwareCounter.open(
            fresh_prefix, store, on_exit="linger"
        ) as counter:
            assert (await counter.inc("k")).cumulative == expected

    trio.run(count, 1)
    trio.run(count, 2)


@pytest.fixture
def wrong(redis_url: str) -> dict[str, object]:
    return {
        "sync pool": redis.ConnectionPool.from_url(redis_url),
        "client": Redis.from_url(redis_url),
        "sync client": redis.Redis.from_url(redis_url),
        "url": redis_url,
        "class": ConnectionPool,
        "none": None,
    }


@pytest.mark.parametrize("what", ["sync pool", "client", "sync client", "url", "class", "none"])
def test_what_is_no_pool_of_asyncios_is_refused(what: str, wrong: dict[str, object]) -> None:
    with pytest.raises(TypeError, match=r"redis\.asyncio\.ConnectionPool\.from_url") as caught:
        RedisStore.from_pool(wrong[what])  # type: ignore[arg-type]
    assert ("pass its connection_pool" in str(caught.value)) == (what in {"client", "sync client"})


@pytest.mark.parametrize(
    ("pool", "place"),
    [
        (ConnectionPool.from_url("redis://u:s3cret@h:1/2"), "redis://h:1 db 2"),
        (ConnectionPool.from_url("rediss://u:s3cret@h"), "rediss://h:6379 db 0"),
        (ConnectionPool.from_url("unix://u:s3cret@/run/r?db=3"), "unix:///run/r db 3"),
        (ConnectionPool.from_url("redis://[::1]:7"), "redis://[::1]:7 db 0"),
        (ConnectionPool(), "redis://localhost:6379 db 0"),
    ],
)
def test_it_says_where_it_leads(pool: ConnectionPool, place: str) -> None:
    assert repr(RedisStore.from_pool(pool)) == f"<RedisStore at {place}>"


def test_no_timeout_is_refused() -> None:
    with pytest.raises(ValueError, match="more than 0"):
        RedisStore.from_pool(ConnectionPool(), response_timeout=0)


async def test_no_caller_sends_its_operation_itself(
    redis_url: str, fresh_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even one who is alone (P38, lone operation)."""

    def refuse(*_: object) -> None:
        raise AssertionError("sent by its caller")

    monkeypatch.setattr(RedisLink, "send_nowait", refuse)
    store = RedisStore.from_pool(ConnectionPool.from_url(redis_url))
    async with StrictInstanceAwareCounter.open(fresh_prefix, store) as counter:
        for number in range(1, 20):
            assert await counter.inc("k") == (number, number)


@asynccontextmanager
async def linked(url: str, prefix: str) -> AsyncIterator[tuple[RedisLink, BridgeConnection]]:
    async with RedisStore.from_pool(ConnectionPool.from_url(url)).link(prefix) as link:
        assert isinstance(link, RedisLink)
        await link.connect()
        lane = link._lane
        assert isinstance(lane, OwnLane)
        assert isinstance(lane._connection, BridgeConnection)
        yield link, lane._connection


async def test_asyncio_cancelling_itself_is_a_lost_connection(
    redis_url: str, fresh_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def cancelled(*_args: object, **_kwargs: object) -> None:
        raise asyncio.CancelledError

    async with linked(redis_url, fresh_prefix) as (link, connection):
        assert connection._loan is not None
        monkeypatch.setattr(type(connection._loan.connection), "read_response", cancelled)
        with pytest.raises(StoreUnavailableError):
            await link.exchange(Peek("i"))
        assert not link.connected


async def test_what_asyncio_complains_about_is_only_logged(
    redis_url: str, fresh_prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with linked(redis_url, fresh_prefix) as (link, connection):
        loop = connection._loop._loop
        with caplog.at_level(logging.WARNING, "distkit_actors"):
            loop.call_exception_handler({"message": "odd", "exception": ValueError("x")})
        assert "odd" in caplog.text
        assert isinstance(await link.exchange(Peek("i")), Peeked)
