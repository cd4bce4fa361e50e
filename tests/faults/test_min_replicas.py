"""Writes whose outcome is told once replicas have them (``min_replicas``)."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
import redis
import trio

from distkit_actors import RedisStore, StrictInstanceAwareCounter
from distkit_actors._actor import _timers
from distkit_actors._stores._redis import _replicas
from tests.faults.fleet import PATIENCE, lax, proxied, strict, until
from tests.faults.lens import Lens
from tests.harness.proxy import FaultProxy, named
from tests.harness.server import RedisServer
from tests.harness.transports import BOTH, Transport, store_at

WANTED = 1


@pytest.fixture
def pair() -> Iterator[tuple[RedisServer, RedisServer]]:
    """A primary, and its replica."""
    with RedisServer() as primary, RedisServer(replica_of=primary) as replica:
        with redis.Redis.from_url(primary.url, single_connection_client=True) as client:
            # A server waits for what was written on the same connection; for a replica that is new
            # this takes up to a second.
            client.set("written", 1)
            assert client.wait(WANTED, 0) == WANTED
        yield primary, replica


@asynccontextmanager
async def confirmed(
    url: str, prefix: str, response_timeout: float = 2.0, min_replicas: int = WANTED
) -> AsyncIterator[StrictInstanceAwareCounter]:
    """Run a counter whose writes a replica confirms."""
    store = RedisStore(url, response_timeout=response_timeout, min_replicas=min_replicas)
    async with StrictInstanceAwareCounter.open(
        prefix, store, dead_instance_threshold=60.0, heartbeat_interval=0.1
    ) as counter:
        yield counter


async def test_an_outcome_is_told_once_a_replica_has_it(
    pair: tuple[RedisServer, RedisServer], fresh_prefix: str
) -> None:
    """Each write is there when it is told; and what only reads waits for nobody."""
    primary, replica = pair
    lens = Lens(replica, fresh_prefix)
    async with proxied(primary) as proxy, confirmed(proxy.url, fresh_prefix) as counter:
        for number in range(1, 50):
            assert await counter.inc("k") == (number, number)
            assert lens.look().of(counter.instance_id) == {"k": number}
        asked = proxy.commands["WAIT"]
        assert asked == 49
        assert await counter.get("k") == (49, 49)
        await counter.get_all(["k", "l"])
        assert proxy.commands["WAIT"] == asked
        await counter.set("k", 3)
        assert lens.look().of(counter.instance_id) == {"k": 3}
        await counter.delete("k")
        assert lens.look().of(counter.instance_id) == {}
        assert counter.statistics().warnings == ()


async def test_nobody_is_asked_for_unless_that_is_wanted(
    pair: tuple[RedisServer, RedisServer], fresh_prefix: str
) -> None:
    async with proxied(pair[0]) as proxy, strict(proxy.url, fresh_prefix) as counter:
        await counter.inc("k")
        assert not proxy.commands["WAIT"]


async def test_a_write_stands_though_no_replica_confirms_it(
    pair: tuple[RedisServer, RedisServer],
    fresh_prefix: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is told, and said once that the store may lose it, until replicas confirm again."""
    monkeypatch.setattr(_timers, "_LOOKS", 0.01)
    monkeypatch.setattr(_replicas, "_REMEMBERED", 0.5)
    primary, replica = pair
    async with confirmed(primary.url, fresh_prefix, 1.0) as counter:
        replica.pause()
        with trio.fail_after(PATIENCE):
            for number in range(1, 6):
                assert await counter.inc("k") == (number, number)
            await until(lambda: bool(counter.statistics().warnings), PATIENCE)
            (warning,) = counter.statistics().warnings
            assert "min_replicas=1" in warning
            assert counter.statistics().state == "running"
            assert not counter.statistics().reconnects
            replica.resume()
            await until(lambda: not counter.statistics().warnings, PATIENCE)
            assert await counter.inc("k") == (6, 6)
    assert [record.event for record in caplog.records] == ["misconfigured", "configured"]  # type: ignore[attr-defined]


async def test_a_server_that_does_not_say_is_one_that_may_lose(
    own_redis: RedisServer, fresh_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_timers, "_LOOKS", 0.01)
    own_redis.command("ACL", "SETUSER", "default", "-wait")
    with trio.fail_after(PATIENCE):
        async with confirmed(own_redis.url, fresh_prefix) as counter:
            assert await counter.inc("k") == (1, 1)
            await until(lambda: bool(counter.statistics().warnings), PATIENCE)
            assert "wait" in counter.statistics().warnings[0]


async def test_what_is_lost_while_it_waits_for_replicas_is_asked_again(
    pair: tuple[RedisServer, RedisServer], fresh_prefix: str
) -> None:
    """And counts once."""
    async with proxied(pair[0]) as proxy, confirmed(proxy.url, fresh_prefix) as counter:
        await counter.inc("k")
        for fault in (FaultProxy.drop_request, FaultProxy.drop_reply, FaultProxy.hang_reply):
            fault(proxy, when=named("WAIT"))
            await counter.inc("k")
        assert await counter.get("k") == (4, 4)
        assert not proxy.armed


@pytest.mark.parametrize("command", ["WAIT", "INFO"])
@pytest.mark.parametrize("executed", [False, True])
async def test_an_error_line_of_a_proxy_is_no_answer_to_what_is_asked_beside_the_scripts(
    pair: tuple[RedisServer, RedisServer], fresh_prefix: str, command: str, executed: bool
) -> None:
    """Whoever said it, the server's own answer may follow: the connection is made anew."""
    async with proxied(pair[0]) as proxy:
        proxy.answer("-a proxy has had enough", 2, executed=executed, when=named(command))
        async with confirmed(proxy.url, fresh_prefix) as counter:
            with trio.fail_after(PATIENCE):
                for number in range(1, 4):
                    assert await counter.inc("k") == (number, number)
            assert not proxy.armed
            assert Lens(pair[1], fresh_prefix).look().of(counter.instance_id) == {"k": 3}


async def test_many_counters_wait_for_a_missing_replica_together(
    own_redis: RedisServer, fresh_prefix: str, proxy: FaultProxy, nursery: trio.Nursery
) -> None:
    """Not one behind another, until the connection seems dead."""
    proxy.point_at(own_redis)
    store = RedisStore(proxy.url, min_replicas=WANTED)
    counters: list[StrictInstanceAwareCounter] = [
        await nursery.start(
            StrictInstanceAwareCounter(
                f"{fresh_prefix}{number}", store, dead_instance_threshold=60.0
            ).run
        )
        for number in range(40)
    ]

    async def count(counter: StrictInstanceAwareCounter) -> None:
        for number in range(1, 4):
            assert await counter.inc("k") == (number, number)

    async with trio.open_nursery() as counting:
        for counter in counters:
            counting.start_soon(count, counter)
    assert 3 <= proxy.commands["WAIT"] <= 20
    assert not sum(counter.statistics().reconnects for counter in counters)


@pytest.mark.parametrize("transport", BOTH)
async def test_each_way_to_a_server_can_wait(
    transport: Transport, pair: tuple[RedisServer, RedisServer], fresh_prefix: str
) -> None:
    store = store_at(pair[0].url, transport)
    store._min_replicas = WANTED
    async with StrictInstanceAwareCounter.open(fresh_prefix, store) as counter:
        assert await counter.inc("k") == (1, 1)
        assert Lens(pair[1], fresh_prefix).look().of(counter.instance_id) == {"k": 1}


async def test_lax_counts_wait_at_a_flush(
    pair: tuple[RedisServer, RedisServer], fresh_prefix: str
) -> None:
    async with proxied(pair[0]) as proxy, lax(proxy.url, fresh_prefix) as other:
        await other.inc("k")
        store = RedisStore(proxy.url, min_replicas=WANTED)
        async with type(other).open(fresh_prefix, store) as counter:
            counter.inc_nowait("k", 2)
            await counter.flush()
            assert Lens(pair[1], fresh_prefix).look().of(counter.instance_id) == {"k": 2}


@pytest.mark.parametrize("min_replicas", [True, 1.0, "1"])
def test_a_number_of_replicas_is_an_int(min_replicas: object) -> None:
    with pytest.raises(TypeError, match="min_replicas"):
        RedisStore("redis://localhost", min_replicas=min_replicas)  # type: ignore[arg-type]


@pytest.mark.parametrize("min_replicas", [-1, 101])
def test_a_number_of_replicas_is_not_absurd(min_replicas: int) -> None:
    with pytest.raises(ValueError, match="min_replicas"):
        RedisStore("redis://localhost", min_replicas=min_replicas)
