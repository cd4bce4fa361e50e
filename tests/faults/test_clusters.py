"""Counters whose server is whichever node of a cluster has the slot of their prefix."""

from collections.abc import Sequence

import pytest
import trio

from distkit_actors import Fleet, InstanceInfo, RedisStore, StoreError, StrictInstanceAwareCounter
from distkit_actors._stores._redis._wire import KeyNames
from tests.faults.counting import PATIENCE, Load, counting
from tests.faults.fleet import strict, until
from tests.harness import unique_prefix
from tests.harness.cluster import ClusterNode, RedisCluster
from tests.harness.server import RedisServer


@pytest.fixture(autouse=True)
def whole(cluster: RedisCluster) -> None:
    """The test before may have failed and left a node that is away."""
    for node in cluster.nodes:
        node.start()
    cluster.wait_until_ok()


def url_of(cluster: RedisCluster, *nodes: int) -> str:
    hosts = ",".join(f"127.0.0.1:{cluster.ports[node]}" for node in nodes or [0])
    return f"redis+cluster://:{cluster.password}@{hosts}"


def node_of(cluster: RedisCluster, prefix: str) -> ClusterNode:
    return cluster.node_of(KeyNames(prefix).slot)


def prefixes_of(cluster: RedisCluster, count: int = 3) -> list[str]:
    """Return prefixes whose slots are at as many nodes."""
    found: dict[int, str] = {}
    while len(found) < count:
        prefix = unique_prefix()
        found[node_of(cluster, prefix).port] = prefix
    return list(found.values())


async def all_there(cluster: RedisCluster, loads: Sequence[Load]) -> None:
    for load in loads:
        load.stop()
    for load in loads:
        await load.all_there(await trio.to_thread.run_sync(node_of, cluster, load.prefix))


@pytest.mark.parametrize("first", range(6))
async def test_any_node_will_do_for_a_start(cluster: RedisCluster, first: int) -> None:
    """A replica, too; every prefix is found, and lives where the cluster says."""
    prefixes = prefixes_of(cluster)
    store = RedisStore(url_of(cluster, first))
    with trio.fail_after(PATIENCE):
        for prefix in prefixes:
            async with StrictInstanceAwareCounter.open(prefix, store) as counter:
                assert await counter.inc("k", 3) == (3, 3)
                assert node_of(cluster, prefix).command("EXISTS", f"dk:{{p.{prefix}}}:n") == 1
                assert prefix in await Fleet.prefixes(store)


async def test_a_start_is_not_held_up_by_nodes_that_are_away(
    cluster: RedisCluster, fresh_prefix: str
) -> None:
    dead = next(node for node in cluster.nodes if node.command("ROLE")[0] == "slave")
    number = cluster.nodes.index(dead)
    dead.kill()
    try:
        with trio.fail_after(PATIENCE):
            url = url_of(cluster, number, (number + 1) % 6)
            async with strict(url, fresh_prefix, response_timeout=1.0) as counter:
                assert await counter.inc("k") == (1, 1)
    finally:
        dead.start()


async def test_a_slot_moves_while_all_count(cluster: RedisCluster) -> None:
    """Nobody is served while some keys are here and some there; then all go on, and none lost."""
    with trio.fail_after(PATIENCE):
        prefixes = prefixes_of(cluster)
        async with counting(url_of(cluster), prefixes) as loads:
            for load in loads:
                source = node_of(cluster, load.prefix)
                target = next(n for n in (node_of(cluster, p) for p in prefixes) if n is not source)
                move = await trio.to_thread.run_sync(
                    cluster.begin_migration, KeyNames(load.prefix).slot, target
                )
                while await trio.to_thread.run_sync(move.move, 1):
                    pass
                await trio.to_thread.run_sync(move.finish)
                await load.more()
            await all_there(cluster, loads)


async def test_a_slot_that_does_not_move_after_all_goes_on_where_it_was(
    cluster: RedisCluster,
) -> None:
    with trio.fail_after(PATIENCE):
        prefixes = prefixes_of(cluster, 2)
        async with counting(url_of(cluster), prefixes[:1]) as loads:
            move = await trio.to_thread.run_sync(
                cluster.begin_migration,
                KeyNames(prefixes[0]).slot,
                node_of(cluster, prefixes[1]),
            )
            await trio.to_thread.run_sync(move.move, 2)
            await trio.to_thread.run_sync(move.give_up)
            await loads[0].more()
            await all_there(cluster, loads)


async def test_no_script_is_stopped_half_way_though_all_it_declares_is_there(
    cluster: RedisCluster,
) -> None:
    """It would be where it reads another instance, which is at the other node already."""
    prefix, other = prefixes_of(cluster, 2)
    url = url_of(cluster)
    with trio.fail_after(PATIENCE):
        async with strict(url, prefix, threshold=60.0) as a, strict(url, prefix) as b:
            await a.set("k", 1)
            # What there is in bad times only.
            node = node_of(cluster, prefix)
            node.command("HSET", f"dk:{{p.{prefix}}}:l", "nobody's", 1)
            node.command("ZADD", f"dk:{{p.{prefix}}}:d", 1, "nobody")
            names = [key.decode() for key in KeyNames(prefix).keys(a.instance_id)]
            assert node.command("EXISTS", *names) == len(names)
            move = cluster.begin_migration(KeyNames(prefix).slot, node_of(cluster, other))
            move.move_keys([f"dk:{{p.{prefix}}}:i:{b.instance_id}"])
            found: list[InstanceInfo] = []

            async def look() -> None:
                found.extend(await a.instances())

            async with trio.open_nursery() as nursery:
                nursery.start_soon(look)
                await until(lambda: a.statistics().state == "away", PATIENCE)
                await trio.to_thread.run_sync(move.finish)
            assert {info.instance_id for info in found} == {a.instance_id, b.instance_id}


@pytest.mark.parametrize("how", [None, "FORCE", "TAKEOVER"])
async def test_a_replica_takes_over_while_all_count(cluster: RedisCluster, how: str | None) -> None:
    with trio.fail_after(PATIENCE):
        prefixes = prefixes_of(cluster)
        async with counting(url_of(cluster), prefixes) as loads:
            old = node_of(cluster, prefixes[0])
            await trio.to_thread.run_sync(lambda: cluster.failover(old, how=how))
            for load in loads:
                await load.more()
            await trio.to_thread.run_sync(cluster.wait_until_ok)
            await all_there(cluster, loads)


async def test_a_primary_dies_while_all_count(cluster: RedisCluster) -> None:
    """Back again it is a replica, and nobody has it do anything."""
    with trio.fail_after(PATIENCE):
        prefixes = prefixes_of(cluster)
        await trio.to_thread.run_sync(cluster.wait_until_ok)
        async with counting(url_of(cluster, 0, 1), prefixes) as loads:
            dead = node_of(cluster, prefixes[0])
            dead.kill()
            slot = KeyNames(prefixes[0]).slot
            await trio.to_thread.run_sync(cluster.wait_for_heir, slot, dead)
            await loads[0].more()
            await trio.to_thread.run_sync(lambda: dead.restart(empty=True))
            await trio.to_thread.run_sync(cluster.wait_until_ok)
            for load in loads:
                await load.more()
            await all_there(cluster, loads)
            assert "cmdstat_evalsha:" not in dead.command("INFO", "commandstats")


async def test_a_watch_goes_on_where_the_slot_has_moved(cluster: RedisCluster) -> None:
    prefix, other = prefixes_of(cluster, 2)
    store = RedisStore(url_of(cluster), response_timeout=1.0)
    with trio.fail_after(PATIENCE):
        async with (
            StrictInstanceAwareCounter.open(prefix, store) as a,
            StrictInstanceAwareCounter.open(prefix, store) as b,
            b.watch("k") as seen,
        ):
            await a.inc("k", 1)
            while (await seen.receive()).cumulative != 1:
                pass
            target = node_of(cluster, other)
            await trio.to_thread.run_sync(
                lambda: cluster.migrate_slot(KeyNames(prefix).slot, target)
            )
            await a.inc("k", 1)
            while (await seen.receive()).cumulative != 2:
                pass


async def test_who_stops_to_watch_as_the_slot_moves_harms_no_other(cluster: RedisCluster) -> None:
    """The word that it has moved is not read yet."""
    prefix, elsewhere = prefixes_of(cluster, 2)
    source, target = node_of(cluster, prefix), node_of(cluster, elsewhere)
    other = next(name for name in iter(unique_prefix, "") if node_of(cluster, name) is source)
    publish = "SPUBLISH" if source.version >= (7, 0) else "PUBLISH"
    store = RedisStore(url_of(cluster))
    with trio.fail_after(PATIENCE):
        async with store.subscribe(other) as lasting:
            assert lasting is not None
            await lasting.connect()
            async with store.subscribe(prefix) as leaving:
                assert leaving is not None
                await leaving.connect()
                cluster.migrate_slot(KeyNames(prefix).slot, target)
            for key in ("k", "l"):
                source.command(publish, KeyNames(other).channel, key)
                assert await lasting.wait() == {key}


async def test_a_server_that_is_no_node_is_refused(
    redis_server: RedisServer, fresh_prefix: str
) -> None:
    url = f"redis+cluster://{redis_server.host}:{redis_server.port}"
    with pytest.raises(StoreError, match="no node of a cluster"):
        async with StrictInstanceAwareCounter.open(fresh_prefix, url):
            pass


async def test_a_url_of_one_server_says_that_it_is_a_cluster(cluster: RedisCluster) -> None:
    away, here = prefixes_of(cluster, 2)
    node = node_of(cluster, here)
    with pytest.raises(StoreError, match=r"begin the store's URL with redis\+cluster://"):
        async with StrictInstanceAwareCounter.open(away, node.url):
            pass
