"""A namespace in several parts on a real server (P44, parts)."""

from __future__ import annotations

from collections import Counter

import pytest
import trio

from distkit_actors import (
    Eq,
    Fleet,
    LaxInstanceAwareCounter,
    RedisStore,
    StoreError,
    StrictInstanceAwareCounter,
)
from distkit_actors._stores._redis._parts import hash_tag, slot_of
from distkit_actors._stores._redis._wire import KeyNames
from tests.harness.cluster import RedisCluster
from tests.harness.server import RedisServer

COUNTS = {f"key-{number}": number for number in range(1, 41)}


async def test_counters_share_a_namespace_in_parts(redis_url: str, fresh_prefix: str) -> None:
    store = RedisStore(redis_url, partitions=4)
    async with (
        StrictInstanceAwareCounter.open(fresh_prefix, store) as a,
        LaxInstanceAwareCounter.open(fresh_prefix, RedisStore(redis_url, partitions=4)) as b,
    ):
        await a.inc_all(COUNTS)
        for key in COUNTS:
            b.inc_nowait(key, 100)
        await b.flush()
        assert await a.get_all(COUNTS) == {key: (100 + n, n) for key, n in COUNTS.items()}
        assert await a.keys() == sorted(COUNTS)
        assert len(await b.instances()) == 2
        assert fresh_prefix in await Fleet.prefixes(redis_url)
        async with a.watch("key-7") as values:
            assert await values.receive() == (107, 7)
            await b.set("key-7", 3)
            assert await values.receive() == (3, 0)
        async with Fleet.open(fresh_prefix, redis_url) as fleet:
            assert fleet.partitions == 4
            assert await fleet.get("key-8") == (108, 0)
        await a.clear()
        assert await a.wait_until("key-9", Eq(0)) == (0, 0)


@pytest.mark.parametrize("number", [1, 8])
async def test_who_has_another_number_is_refused(
    redis_url: str, fresh_prefix: str, number: int
) -> None:
    async with StrictInstanceAwareCounter.open(fresh_prefix, RedisStore(redis_url, partitions=4)):
        with pytest.raises(StoreError, match="spread over 4 parts"):
            async with StrictInstanceAwareCounter.open(
                fresh_prefix, RedisStore(redis_url, partitions=number)
            ):
                raise AssertionError
    other = RedisStore(redis_url, partitions=number)
    async with StrictInstanceAwareCounter.open(fresh_prefix, other) as counter:
        assert await counter.inc("k") == (1, 1)


async def test_each_part_is_in_a_slot_of_its_own(own_redis: RedisServer) -> None:
    async with StrictInstanceAwareCounter.open(
        "app", RedisStore(own_redis.url, partitions=16)
    ) as counter:
        await counter.inc_all(COUNTS)
        names = [name.encode() for name in await own_redis.command_async("KEYS", "*")]
    tags = Counter(name.partition(b"{")[2].partition(b"}")[0] for name in names)
    assert set(tags) == {hash_tag(b"app", part) for part in range(16)}
    slots = sorted(slot_of(tag) for tag in tags)
    assert [slot // 1024 for slot in slots] == list(range(16))


def test_a_cluster_finds_parts_where_we_think_they_are() -> None:
    with RedisCluster(replicas=0) as cluster:
        nodes = Counter[int]()
        for part in range(48):
            names = KeyNames("my app", part).keys("me")
            found = {int(cluster.nodes[0].command("CLUSTER", "KEYSLOT", name)) for name in names}
            assert found == {slot_of(hash_tag(b"my app", part))}
            nodes[cluster.node_of(found.pop()).port] += 1
    assert len(nodes) == 3
    assert max(nodes.values()) - min(nodes.values()) <= 2


async def test_a_crash_is_noticed_in_every_part(redis_url: str, fresh_prefix: str) -> None:
    store = RedisStore(redis_url, partitions=4)
    async with (
        StrictInstanceAwareCounter.open(fresh_prefix, store, dead_instance_threshold=1.5) as a,
        trio.open_nursery() as nursery,
    ):
        b = StrictInstanceAwareCounter(
            fresh_prefix, store, dead_instance_threshold=0.5, on_exit="linger"
        )
        await nursery.start(b.run)
        await b.inc_all(COUNTS)
        await b.aclose()
        for key in COUNTS:
            await a.wait_until(key, Eq(0))
