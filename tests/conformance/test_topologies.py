"""A cluster, and a primary that sentinels name, are stores as any other: one for all checks."""

from __future__ import annotations

from distkit_actors import RedisStore
from distkit_actors.testing import check_store
from tests.harness.cluster import RedisCluster
from tests.harness.sentinel import SentinelTrio


async def test_a_cluster_passes(cluster: RedisCluster) -> None:
    store = RedisStore(f"redis+cluster://:{cluster.password}@127.0.0.1:{cluster.ports[0]}")
    await check_store(lambda: store)


async def test_a_primary_that_sentinels_name_passes(sentinels: SentinelTrio) -> None:
    hosts = ",".join(f"{one.host}:{one.port}" for one in sentinels.sentinels)
    url = (
        f"redis+sentinel://:{sentinels.password}@{hosts}/{sentinels.service}"
        f"?sentinel_password={sentinels.sentinel_password}"
    )
    store = RedisStore(url)
    await check_store(lambda: store)
