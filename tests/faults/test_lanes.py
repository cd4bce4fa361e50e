"""All counters of a store share one connection to each node of a cluster, or to the primary."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

import pytest
import trio

from distkit_actors import Fleet, InstanceConflictError, RedisStore, StrictInstanceAwareCounter
from distkit_actors._stores._redis._wire import KeyNames
from tests.faults.counting import PATIENCE, all_more, counting
from tests.faults.fleet import UNHURRIED, becomes, until
from tests.faults.lens import Lens
from tests.faults.test_clusters import node_of
from tests.faults.together import FAULTS, count, counters, names
from tests.harness import unique_prefix
from tests.harness.cluster import ClusterNode, RedisCluster
from tests.harness.sentinel import SentinelTrio
from tests.harness.server import RedisServer
from tests.harness.topologies import proxied_cluster


@pytest.fixture(autouse=True)
def whole(request: pytest.FixtureRequest) -> None:
    """The test before may have failed and left a server that is away."""
    for name in {"cluster", "sentinels"} & set(request.fixturenames):
        topology: RedisCluster | SentinelTrio = request.getfixturevalue(name)
        for server in topology.nodes if isinstance(topology, RedisCluster) else topology.servers:
            server.start()
        topology.wait_until_ok()


def cluster_url(cluster: RedisCluster) -> str:
    who = f":{cluster.password}@" if cluster.password else ""
    return f"redis+cluster://{who}127.0.0.1:{cluster.ports[0]}?client_name=us"


def sentinel_url(sentinels: SentinelTrio) -> str:
    hosts = ",".join(f"{one.host}:{one.port}" for one in sentinels.sentinels)
    return (
        f"redis+sentinel://:{sentinels.password}@{hosts}/{sentinels.service}"
        f"?sentinel_password={sentinels.sentinel_password}&client_name=us"
    )


def primaries(cluster: RedisCluster) -> list[ClusterNode]:
    return [node for node in cluster.nodes if node.command("ROLE")[0] == "master"]


def neighbours(cluster: RedisCluster, number: int) -> list[str]:
    """Return prefixes in different slots of one node."""
    prefixes = [unique_prefix()]
    first = node_of(cluster, prefixes[0])
    while len(prefixes) < number:
        prefix = unique_prefix()
        if node_of(cluster, prefix) is first:
            prefixes.append(prefix)
    return prefixes


def ours(server: RedisServer) -> list[str]:
    """Return the connections that have our name, as the server lists them."""
    return [
        line for line in str(server.command("CLIENT", "LIST")).split("\n") if "name=us " in line
    ]


def listening(server: RedisServer) -> int:
    """Return how many of ours are subscribed to something: from 7.0 on there are two kinds."""
    return sum(bool(re.search(r" s?sub=[1-9]", line)) for line in ours(server))


def ids(server: RedisServer) -> list[str]:
    return [line.split()[0] for line in ours(server)]


# ------------------------------------------------------------------------ how many there are


async def test_a_hundred_prefixes_have_one_connection_to_each_node(cluster: RedisCluster) -> None:
    prefixes = names(unique_prefix(), 100)
    with trio.fail_after(PATIENCE):
        async with counters(RedisStore(cluster_url(cluster)), prefixes) as many:
            assert {node_of(cluster, prefix) for prefix in prefixes[:20]} == set(primaries(cluster))
            for _ in range(2):
                async with trio.open_nursery() as nursery:
                    for counter in many:
                        nursery.start_soon(counter.inc, "k")
                assert [len(ours(node)) for node in primaries(cluster)] == [1, 1, 1]
            assert not [counter for counter in many if counter.statistics().reconnects]
        assert not [node for node in cluster.nodes if ours(node)]


async def test_a_hundred_prefixes_have_one_connection_to_the_primary(
    sentinels: SentinelTrio,
) -> None:
    store = RedisStore(sentinel_url(sentinels))
    with trio.fail_after(PATIENCE):
        async with counters(store, names(unique_prefix(), 100)) as many:
            async with trio.open_nursery() as nursery:
                for counter in many:
                    nursery.start_soon(count, counter, 5)
            assert len(ours(sentinels.primary)) == 1
            assert not [counter for counter in many if counter.statistics().reconnects]


@pytest.mark.parametrize("topology", ["cluster", "sentinels"])
async def test_all_who_watch_have_one_connection_more_to_each(
    topology: str, request: pytest.FixtureRequest
) -> None:
    where = request.getfixturevalue(topology)
    if isinstance(where, RedisCluster):
        url, servers = cluster_url(where), list[RedisServer](primaries(where))
    else:
        url, servers = sentinel_url(where), [where.primary]
    with trio.fail_after(PATIENCE):
        async with counters(RedisStore(url), names(unique_prefix(), 30)) as many:
            async with AsyncExitStack() as watching:
                seen = [await watching.enter_async_context(one.watch("k")) for one in many]
                for counter in many:
                    await counter.inc("k")
                for one in seen:
                    while await one.receive() != (1, 1):
                        pass
                for server in servers:
                    assert (len(ours(server)), listening(server)) == (2, 1)
                    sharded = isinstance(where, RedisCluster) and server.version >= (7,)
                    channels = "SHARDCHANNELS" if sharded else "CHANNELS"
                    assert server.command("PUBSUB", channels)
            await until(lambda: not any(map(listening, servers)), PATIENCE)
            assert {len(ours(server)) for server in servers} == {1}


async def test_whoever_starts_makes_one_anew_that_was_closed_and_nobody_noticed(
    cluster: RedisCluster,
) -> None:
    """Nodes close connections that are idle. One who starts finds only then whose it uses."""
    store, (one, two, three) = RedisStore(cluster_url(cluster)), neighbours(cluster, 3)
    node = node_of(cluster, one)

    def close_all() -> None:
        node.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        assert not ours(node)

    with trio.fail_after(PATIENCE):
        async with counters(store, [one]) as (first,):
            assert await first.inc("k") == (1, 1)
            close_all()
            async with StrictInstanceAwareCounter.open(two, store) as second:
                assert await second.inc("k") == (1, 1)
            close_all()
            async with Fleet.open(three, store) as fleet:
                assert await fleet.get("k") == (0, 0)
            assert len(ours(node)) == 1
            assert await first.inc("k") == (2, 2)


# ------------------------------------------------------------------------ harming nobody


async def test_a_slot_that_moves_concerns_nobody_else(cluster: RedisCluster) -> None:
    prefixes = neighbours(cluster, 4)
    with trio.fail_after(PATIENCE):
        async with counters(RedisStore(cluster_url(cluster)), prefixes) as many:
            source = node_of(cluster, prefixes[0])
            target = next(node for node in primaries(cluster) if node is not source)
            before = ids(source)
            async with trio.open_nursery() as nursery:
                for counter in many:
                    nursery.start_soon(count, counter, 100)
                move = await trio.to_thread.run_sync(
                    cluster.begin_migration, KeyNames(prefixes[0]).slot, target
                )
                await trio.to_thread.run_sync(move.move, 1)
                await until(lambda: many[0].statistics().state == "away", PATIENCE)
                while await trio.to_thread.run_sync(move.move, 1):
                    pass
                await trio.to_thread.run_sync(move.finish)
            assert ids(source) == before
            assert len(ours(target)) == 1
            assert [counter.statistics().reconnects for counter in many[1:]] == [0, 0, 0]
            for prefix, counter in zip(prefixes, many, strict=True):
                there = target if counter is many[0] else source
                assert Lens(there, prefix).look().slices == {counter.instance_id: {"k": 100}}


async def test_one_that_is_superseded_or_has_large_requests_harms_no_other(
    cluster: RedisCluster,
) -> None:
    prefixes = neighbours(cluster, 3)
    store = RedisStore(cluster_url(cluster))
    keys = {f"a key with a long name, number {number}": number for number in range(900)}
    with trio.fail_after(PATIENCE):
        async with counters(store, prefixes[1:]) as (large, small):
            await large.inc_all(keys)
            before = ids(node_of(cluster, prefixes[0]))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(count, small, 100)
                for _ in range(5):
                    async with _superseded(prefixes[0], store):
                        assert len(await large.get_all(keys)) == 900
            assert ids(node_of(cluster, prefixes[0])) == before
            assert (large.statistics().reconnects, small.statistics().reconnects) == (0, 0)


@asynccontextmanager
async def _superseded(prefix: str, store: RedisStore) -> AsyncIterator[None]:
    """Have a counter count until another one takes its id over."""

    def open_one() -> AbstractAsyncContextManager[StrictInstanceAwareCounter]:
        return StrictInstanceAwareCounter.open(
            prefix, store, instance_id="one", dead_instance_threshold=UNHURRIED
        )

    async def supersede() -> None:
        async with open_one() as newer:
            await newer.inc("k")

    async with trio.open_nursery() as nursery:
        with pytest.raises(InstanceConflictError):  # noqa: PT012 - it may be found out anywhere
            async with open_one() as older:
                await older.inc("k")
                nursery.start_soon(supersede)
                while True:
                    await older.inc("k")
        yield


# ------------------------------------------------------------------------ losing it together


async def test_all_count_exactly_whatever_becomes_of_the_connection_to_a_node() -> None:
    with trio.fail_after(5 * PATIENCE):
        async with proxied_cluster() as (cluster, proxies):
            store = RedisStore(cluster_url(cluster), response_timeout=0.4)
            prefixes = names(unique_prefix(), 12)
            hosts = [await trio.to_thread.run_sync(node_of, cluster, one) for one in prefixes]
            proxy = proxies[cluster.nodes.index(hosts[0])]
            async with counters(store, prefixes) as many:
                done = 0

                async def count_noting(counter: StrictInstanceAwareCounter, upto: int) -> None:
                    nonlocal done
                    for number in range(upto - 19, upto + 1):
                        assert await counter.inc("k") == (number, number)
                        done += 1

                for turn, strike in enumerate(FAULTS.values(), 1):
                    begun = done
                    async with trio.open_nursery() as nursery:
                        for counter in many:
                            nursery.start_soon(count_noting, counter, 20 * turn)
                        for part in (1, 2):
                            await until(lambda: done >= begun + part * 60, PATIENCE)  # noqa: B023
                            strike(proxy)
                    proxy.disarm()
                for prefix, host, counter in zip(prefixes, hosts, many, strict=True):
                    found = await trio.to_thread.run_sync(Lens(host, prefix).look)
                    assert found.slices == {counter.instance_id: {"k": 20 * len(FAULTS)}}


async def test_a_connection_that_is_lost_is_lost_for_those_alone_who_use_it(
    cluster: RedisCluster,
) -> None:
    with trio.fail_after(PATIENCE):
        store = RedisStore(cluster_url(cluster), response_timeout=PATIENCE)
        prefixes = names(unique_prefix(), 12)
        async with counters(store, prefixes) as many:
            lost = node_of(cluster, prefixes[0])
            async with trio.open_nursery() as nursery:
                for counter in many:
                    nursery.start_soon(count, counter, 50)
                await until(lambda: many[0].statistics().operations_done > 5, PATIENCE)
                (before,) = ids(lost)
                lost.command("CLIENT", "KILL", "ID", before.removeprefix("id="))
            assert len(ours(lost)) == 1
            assert ids(lost) != [before]
            for prefix, counter in zip(prefixes, many, strict=True):
                here = node_of(cluster, prefix)
                assert here is lost or not counter.statistics().reconnects
                assert Lens(here, prefix).look().slices == {counter.instance_id: {"k": 50}}


@pytest.mark.parametrize("how", ["told", "killed"])
async def test_twenty_prefixes_go_on_where_a_replica_has_taken_over(
    cluster: RedisCluster, how: str
) -> None:
    prefixes = names(unique_prefix(), 20)
    with trio.fail_after(2 * PATIENCE):
        async with counting(cluster_url(cluster), prefixes, pause=0.03) as loads:
            old = node_of(cluster, prefixes[0])
            if how == "killed":
                old.kill()
                slot = KeyNames(prefixes[0]).slot
                await trio.to_thread.run_sync(cluster.wait_for_heir, slot, old)
                await trio.to_thread.run_sync(lambda: old.restart(empty=True))
            else:
                await trio.to_thread.run_sync(lambda: cluster.failover(old))
            await trio.to_thread.run_sync(cluster.wait_until_ok)
            await all_more(loads)
            for load in loads:
                load.stop()
            for load in loads:
                await load.all_there(await trio.to_thread.run_sync(node_of, cluster, load.prefix))
            assert {len(ours(node)) for node in primaries(cluster)} == {1}
            assert not ours(old)


@pytest.mark.parametrize("how", ["told", "killed"])
async def test_twenty_prefixes_go_on_at_the_primary_that_sentinels_name(
    sentinels: SentinelTrio, how: str
) -> None:
    with trio.fail_after(2 * PATIENCE):
        prefixes = names(unique_prefix(), 20)
        async with counting(sentinel_url(sentinels), prefixes, pause=0.03) as loads:
            if how == "told":
                new = await trio.to_thread.run_sync(sentinels.failover)
            else:
                dead = sentinels.kill_primary()
                new = await trio.to_thread.run_sync(sentinels.wait_for_heir, dead)
                await dead.start_async()
                await trio.to_thread.run_sync(sentinels.wait_until_ok)
            await all_more(loads)
            for load in loads:
                load.stop()
            for load in loads:
                await load.all_there(new)
            await becomes(lambda: [len(ours(one)) for one in sentinels.servers if one is new], [1])
            assert not [one for one in sentinels.servers if one is not new and ours(one)]
