"""How a store is set up is looked at again while counters run."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from distkit_actors import MemoryStore, RedisStore, StoreError, StrictInstanceAwareCounter
from distkit_actors._actor import _timers
from distkit_actors._errors import StoreUnavailableError
from distkit_actors._fleet._audit import audit
from distkit_actors._protocol._messages import Reply, Request
from distkit_actors._stores._contract import Link, Store
from tests.faults.fleet import until
from tests.harness.server import RedisServer
from tests.harness.transports import BOTH, Transport, store_at

EVICTS = "maxmemory-policy allkeys-lru"


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """With each heartbeat."""
    monkeypatch.setattr(_timers, "_LOOKS", 0.01)


async def beats(counter: StrictInstanceAwareCounter, number: int) -> None:
    """Wait for some signs of life."""
    enough = counter.statistics().batches_done + number
    await until(lambda: counter.statistics().batches_done >= enough, 20)


@pytest.mark.parametrize("transport", BOTH)
async def test_eviction_that_is_switched_on_is_noticed(
    transport: Transport,
    own_redis: RedisServer,
    fresh_prefix: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is said once, until it is switched off again."""
    caplog.set_level(logging.INFO, "distkit_actors")
    store = store_at(own_redis.url, transport)
    async with StrictInstanceAwareCounter.open(
        fresh_prefix, store, dead_instance_threshold=1.5, heartbeat_interval=0.05
    ) as counter:
        assert counter.statistics().warnings == ()
        for _ in range(2):
            caplog.clear()
            own_redis.command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
            await until(lambda: bool(counter.statistics().warnings), 20)
            await beats(counter, 5)
            (warning,) = counter.statistics().warnings
            assert EVICTS in warning
            own_redis.command("CONFIG", "SET", "maxmemory-policy", "noeviction")
            await until(lambda: not counter.statistics().warnings, 20)
            levels = [record.levelno for record in caplog.records]
            assert levels == [logging.ERROR, logging.ERROR]
            assert EVICTS in caplog.text
        assert await counter.inc("k") == (1, 1)


async def test_a_server_that_does_not_say_is_asked_in_vain(
    own_redis: RedisServer, fresh_prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with StrictInstanceAwareCounter.open(
        fresh_prefix, own_redis.url, dead_instance_threshold=1.5, heartbeat_interval=0.05
    ) as counter:
        own_redis.command("ACL", "SETUSER", "default", "-info")
        await beats(counter, 5)
        assert await counter.inc("k") == (1, 1)
        assert counter.statistics().warnings == ()
        assert counter.statistics().reconnects == 0
    assert not caplog.records


async def test_check_says_that_a_server_does_not_say(
    own_redis: RedisServer, fresh_prefix: str
) -> None:
    for right, level in (("+info", "ok"), ("-info", "note")):
        own_redis.command("ACL", "SETUSER", "default", right)
        found = await audit(fresh_prefix, RedisStore(own_redis.url))
        assert [one.level for one in found if one.about == "eviction"] == [level]


class Odd(Store):
    """A store that cannot be looked at."""

    def __init__(self, error: Exception) -> None:
        self.inner = MemoryStore()
        self.error = error
        self.looks = 0

    @asynccontextmanager
    async def link(self, prefix: str) -> AsyncIterator[Link]:
        async with self.inner.link(prefix) as link:
            yield OddLink(self, link)


class OddLink(Link):
    connected = True

    def __init__(self, store: Odd, inner: Link) -> None:
        self._store = store
        self._inner = inner

    async def connect(self) -> None:
        await trio.lowlevel.checkpoint()
        self.connected = True

    async def receive(self, request: Request) -> Reply:
        if not self.connected:
            raise StoreUnavailableError("not connected")
        return await self._inner.exchange(request)

    async def inspect(self) -> tuple[str, ...]:
        await trio.lowlevel.checkpoint()
        self._store.looks += 1
        self.connected = not isinstance(self._store.error, StoreUnavailableError)
        raise self._store.error


@pytest.mark.parametrize("error", [StoreError("no"), StoreUnavailableError("lost")])
async def test_a_look_that_fails_disturbs_no_count(
    error: Exception, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """If the connection is lost in it, another is made."""
    store = Odd(error)
    async with StrictInstanceAwareCounter.open("p", store) as counter:
        for number in range(1, 11):
            assert await counter.inc("k") == (number, number)
            await trio.sleep(15)
        assert store.looks >= 10
        assert counter.statistics().warnings == ()
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


class Restless(Odd):
    """A store whose links have to connect again after each second answer."""

    def __init__(self, first: int) -> None:
        super().__init__(StoreError("no"))
        self.first = first  # after which answer that begins

    @asynccontextmanager
    async def link(self, prefix: str) -> AsyncIterator[Link]:
        async with self.inner.link(prefix) as link:
            yield RestlessLink(self, link)


class RestlessLink(OddLink):
    def __init__(self, store: Restless, inner: Link) -> None:
        super().__init__(store, inner)
        self.answers = store.first

    async def receive(self, request: Request) -> Reply:
        reply = await super().receive(request)
        self.answers += 1
        self.connected = self.answers % 2 == 0
        return reply


@pytest.mark.parametrize("first", [0, 1])
async def test_a_look_that_is_due_comes_as_soon_as_it_can(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch, first: int
) -> None:
    """Not a minute later, when the same may be in its way."""
    monkeypatch.setattr(_timers, "_LOOKS", 60.0)
    store = Restless(first)
    async with StrictInstanceAwareCounter.open("p", store):
        await trio.sleep(600)
        assert store.looks >= 9


class Mute(Store):
    """A store that answers requests, and no look at its settings."""

    def __init__(self) -> None:
        self._inner = MemoryStore()

    @asynccontextmanager
    async def link(self, prefix: str) -> AsyncIterator[Link]:
        async with self._inner.link(prefix) as link:
            yield MuteLink(link)


class MuteLink(Link):
    connected = False
    patience = 2.0

    def __init__(self, inner: Link) -> None:
        self._inner = inner

    async def connect(self) -> None:
        await trio.lowlevel.checkpoint()
        self.connected = True

    async def receive(self, request: Request) -> Reply:
        return await self._inner.exchange(request)

    async def inspect(self) -> tuple[str, ...]:
        try:
            await trio.sleep_forever()
        finally:
            self.connected = False


async def test_a_look_without_an_answer_holds_nothing_up_for_long(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with StrictInstanceAwareCounter.open("p", Mute()) as counter:
        for _ in range(200):
            await trio.sleep(1)
            age = counter.statistics().last_heartbeat_age
            assert age is not None
            assert age < 15
        assert counter.statistics().reconnects >= 3
