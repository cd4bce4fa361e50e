"""Sentinels watch over a primary and its replicas, and tests may swap or kill them."""

from functools import partial

import pytest
import redis
import trio
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.harness.ports import LOOPBACK
from tests.harness.sentinel import SentinelTrio
from tests.harness.server import RedisServer
from tests.harness.topologies import proxied_sentinels

#: The id of a sentinel that is no more.
_STRANGER = "0" * 40


def test_clients_find_the_primary(sentinels: SentinelTrio) -> None:
    primary = sentinels.primary
    assert sentinels.primary_address() == (LOOPBACK, primary.port)
    assert len(sentinels.replicas) == 2
    client = redis.Sentinel(
        [(sentinel.host, sentinel.port) for sentinel in sentinels.sentinels],
        sentinel_kwargs={"password": sentinels.sentinel_password, "protocol": 2},
        protocol=2,
    )
    assert client.discover_master(sentinels.service) == (LOOPBACK, primary.port)
    with client.master_for(sentinels.service, password=sentinels.password) as found:
        assert found.set("k", "v")
        assert found.wait(2, 5_000) == 2
    for replica in sentinels.replicas:
        assert replica.command("GET", "k") == "v"
        with pytest.raises(redis.ReadOnlyError):
            replica.command("SET", "k", "w")
    stranger = redis.Redis(
        port=sentinels.sentinels[0].port, protocol=2, retry=Retry(NoBackoff(), 0)
    )
    with stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()


def test_sentinels_swap_the_primary_when_told(sentinels: SentinelTrio) -> None:
    old = sentinels.primary
    with sentinels.switches() as switch:
        new = sentinels.failover()
        assert switch.wait() == (old.port, new.port)
    assert new is not old
    assert sentinels.primary_address() == (LOOPBACK, new.port)
    sentinels.wait_until_ok()
    assert old in sentinels.replicas
    assert old.command("ROLE")[:3] == ["slave", LOOPBACK, new.port]


def test_a_killed_primary_is_replaced_and_comes_back_as_a_replica(sentinels: SentinelTrio) -> None:
    with sentinels.switches() as switch:
        dead = sentinels.kill_primary()
        old, new = switch.wait()
    assert old == dead.port
    heir = sentinels.wait_for_heir(dead)
    assert heir.port == new
    heir.command("SET", "k", "w")
    dead.start()
    sentinels.wait_until_ok()
    assert dead.command("GET", "k") == "w"


def test_a_replica_is_one_again_when_it_starts_again(sentinels: SentinelTrio) -> None:
    replica = sentinels.replicas[0]
    replica.kill()
    replica.start()
    assert replica.command("ROLE")[0] == "slave"
    sentinels.wait_until_ok()


def test_a_sentinel_that_starts_again_knows_what_it_knew(sentinels: SentinelTrio) -> None:
    sentinel = sentinels.sentinels[0]
    sentinel.kill()
    assert sentinels.primary in sentinels.servers
    sentinel.start()
    sentinels.wait_until_ok()


def test_roles_are_swapped_by_hand(sentinels: SentinelTrio) -> None:
    old, heir = sentinels.primary, sentinels.replicas[0]
    sentinels.swap_roles(heir)
    assert (heir.command("ROLE")[0], old.command("ROLE")[0]) == ("master", "slave")
    assert sentinels.primary is old  # as far as the sentinels know
    sentinels.monitor(heir)
    sentinels.wait_until_ok()
    assert sentinels.primary is heir


def test_a_late_word_of_a_sentinel_that_was_replaced_is_forgotten(sentinels: SentinelTrio) -> None:
    """With a network that delays, it may come after the new ones have found each other."""
    primary, replaced = sentinels.primary, sentinels.sentinels[0]
    word = (LOOPBACK, replaced.port, _STRANGER, 0, sentinels.service, LOOPBACK, primary.port, 0)
    primary.command("PUBLISH", "__sentinel__:hello", ",".join(map(str, word)))
    listener = sentinels.sentinels[1]
    sentinels._wait("it was heard", lambda: _STRANGER in _known_to(listener, sentinels))
    sentinels.wait_until_ok()
    for sentinel in sentinels.sentinels:
        assert len(_known_to(sentinel, sentinels)) == len(sentinels.sentinels) - 1
        assert _STRANGER not in _known_to(sentinel, sentinels)


def _known_to(sentinel: RedisServer, sentinels: SentinelTrio) -> list[str]:
    others = sentinel.command("SENTINEL", "SENTINELS", sentinels.service)
    return [dict(zip(other[::2], other[1::2], strict=True))["runid"] for other in others]


async def test_each_server_behind_a_network_that_fails() -> None:
    """Sentinels, too, think that a primary is dead whose network is."""
    with trio.fail_after(60):
        async with proxied_sentinels() as (sentinels, proxies):
            assert sentinels.primary_address() == (LOOPBACK, proxies[0].port)
            old = sentinels.primary
            with sentinels.switches() as switch:
                proxies[0].refuse()
                switched = await trio.to_thread.run_sync(switch.wait)
            heir = await trio.to_thread.run_sync(partial(sentinels.wait_for_heir, old))
            assert switched == (
                proxies[0].port,
                proxies[sentinels.servers.index(heir)].port,
            )
            assert old.is_running
            proxies[0].accept()
            # The old one takes part again, as a replica, or as the primary: on a machine that
            # stands still the sentinels may swap once more.
            await trio.to_thread.run_sync(sentinels.wait_until_ok)
