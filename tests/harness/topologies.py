"""Clusters and sentinels with a faulty network in front of each server."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from typing import TypeVar

import trio

from tests.harness.cluster import RedisCluster
from tests.harness.ports import free_port
from tests.harness.proxy import FaultProxy
from tests.harness.sentinel import SentinelTrio
from tests.harness.server import RedisServer

_Topology = TypeVar("_Topology", bound=AbstractContextManager[object])


@asynccontextmanager
async def proxied_cluster(
    make: Callable[..., RedisCluster] = RedisCluster,
) -> AsyncIterator[tuple[RedisCluster, list[FaultProxy]]]:
    """Start a cluster whose nodes name their proxies' ports to clients and each other.

    Only what nodes tell each other about the cluster, and moved keys, go past
    the proxies; what a primary tells its replicas goes through its own.

    Args:
        make: makes it, of six nodes, given ``announced_ports``.
    """
    ports = [free_port() for _ in range(6)]
    cluster = make(announced_ports=ports)
    async with _proxied(cluster, cluster.nodes, ports) as proxies:
        yield cluster, proxies


@asynccontextmanager
async def proxied_sentinels(
    make: Callable[..., SentinelTrio] = SentinelTrio,
) -> AsyncIterator[tuple[SentinelTrio, list[FaultProxy]]]:
    """Start servers that sentinels, clients and each other know by their proxies' ports only.

    Sentinels themselves have no proxies. One that shuts a primary's proxy
    makes them have another primary.

    Args:
        make: makes them, a primary and two replicas, given ``announced_ports``.
    """
    ports = [free_port() for _ in range(3)]
    trio_of_sentinels = make(announced_ports=ports)
    async with _proxied(trio_of_sentinels, trio_of_sentinels.servers, ports) as proxies:
        yield trio_of_sentinels, proxies


@asynccontextmanager
async def in_thread(topology: _Topology) -> AsyncIterator[_Topology]:
    """Enter and leave a topology in a worker thread, so that other tasks go on meanwhile."""
    await trio.to_thread.run_sync(topology.__enter__)
    try:
        yield topology
    finally:
        # Ending processes takes no time that matters; they must end in any case.
        topology.__exit__(None, None, None)


@asynccontextmanager
async def _proxied(
    topology: AbstractContextManager[object], servers: "list[RedisServer]", ports: list[int]
) -> AsyncIterator[list[FaultProxy]]:
    proxies = [FaultProxy(server, port=port) for server, port in zip(servers, ports, strict=True)]
    async with trio.open_nursery() as nursery:
        for proxy in proxies:
            await nursery.start(proxy.run)
        async with in_thread(topology):
            yield proxies
        nursery.cancel_scope.cancel()
