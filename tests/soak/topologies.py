"""What servers a soak has, and what goes wrong with them."""

import random
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from urllib.parse import unquote, urlsplit

import redis
import trio

from distkit_actors._stores._redis._wire import KeyNames
from tests.faults.fleet import until
from tests.faults.lens import Address
from tests.harness.cluster import ClusterNode, RedisCluster
from tests.harness.proxy import FaultProxy
from tests.harness.sentinel import SentinelTrio
from tests.harness.server import RedisServer
from tests.harness.topologies import proxied_cluster, proxied_sentinels
from tests.soak.networks import Network, OwnNetwork, SharedNetwork

TOPOLOGIES = ("single", "sentinel", "cluster")

#: Seconds a busy machine may need for what it does at once elsewhere.
PATIENCE = 60.0
_PASSWORD = "secret"

#: Does its harm, and returns once all servers are well again: whether data may be gone.
ServerFault = Callable[[], Awaitable[bool]]


@dataclass(frozen=True)
class Remote:
    """Somebody else's server: it can be reached through a bad network, and not be killed."""

    host: str
    port: int
    password: str | None

    @classmethod
    def at(cls, url: str) -> "Remote":
        """Return the server that a redis:// URL names."""
        parts = urlsplit(url)
        password = None if parts.password is None else unquote(parts.password)
        return cls(parts.hostname or "localhost", parts.port or 6379, password)


class Topology(ABC):
    """Servers that hold one namespace, and ways to break them.

    Args:
        chance: what happens by it.
        threshold: the workers' `dead_instance_threshold`.
    """

    def __init__(self, chance: random.Random, threshold: float) -> None:
        self._chance = chance
        self._threshold = threshold

    @property
    @abstractmethod
    def faults(self) -> Mapping[str, ServerFault]:
        """What can go wrong with the servers, by name."""

    @abstractmethod
    async def network(self, instance: str) -> Network:
        """Return a way to the servers for the worker that is this instance."""

    @abstractmethod
    def primary(self) -> Address:
        """Return the server that has the namespace now. It blocks until all agree about it."""

    def _some_time(self, *factors: float) -> float:
        return self._chance.choice(factors) * self._threshold


class Single(Topology):
    """One server, with a proxy for each worker.

    Args:
        server: a private one to do anything with, or somebody else's.
        nursery: where the proxies run.
    """

    def __init__(
        self,
        chance: random.Random,
        threshold: float,
        server: RedisServer | Remote,
        nursery: trio.Nursery,
    ) -> None:
        super().__init__(chance, threshold)
        self._address = server
        self._nursery = nursery

    @property
    def faults(self) -> Mapping[str, ServerFault]:
        """See `Topology.faults`."""
        faults: dict[str, ServerFault] = {"scripts forgotten": self._forget_scripts}
        if isinstance(server := self._address, RedisServer):
            faults |= {
                "clients killed": partial(_kill_clients, server),
                "server killed, file kept": partial(self._restart, server, empty=False),
                "server restarted empty": partial(self._restart, server, empty=True),
                "all data flushed": partial(_flush_all, server),
                "server suspended": partial(self._freeze, server),
            }
        return faults

    async def network(self, instance: str) -> Network:
        """See `Topology.network`."""
        proxy = FaultProxy(self._address)
        await self._nursery.start(proxy.run)
        return OwnNetwork(proxy)

    def primary(self) -> Address:
        """See `Topology.primary`."""
        return self._address

    async def _forget_scripts(self) -> bool:
        await trio.to_thread.run_sync(_ask, self._address, "SCRIPT", "FLUSH")
        return False

    async def _restart(self, server: RedisServer, *, empty: bool) -> bool:
        server.kill()
        await trio.sleep(self._some_time(0.0, 0.5, 2.0))
        if empty:
            await server.restart_async(empty=True)
        else:
            await server.start_async()
            await until(lambda: not server.command("INFO", "persistence")["loading"], PATIENCE)
        return empty

    async def _freeze(self, server: RedisServer) -> bool:
        server.pause()
        await trio.sleep(self._some_time(0.3, 1.2, 2.5))
        server.resume()
        return False


class _Proxied(Topology):
    """Servers that name their proxies to workers, so that all workers share these."""

    def __init__(
        self, chance: random.Random, threshold: float, proxies: list[FaultProxy], url: str
    ) -> None:
        super().__init__(chance, threshold)
        self._proxies = proxies
        self._url = url

    async def network(self, instance: str) -> Network:
        """See `Topology.network`."""
        await trio.lowlevel.checkpoint()
        return SharedNetwork(self._proxies, self._url, instance)

    async def _cut_all(self) -> bool:
        for _ in range(self._chance.randint(1, 5)):
            for proxy in self._proxies:
                proxy.cut_all()
            await trio.sleep(0.02)
        return False

    @staticmethod
    async def _forget_scripts(server: RedisServer) -> bool:
        await server.command_async("SCRIPT", "FLUSH")
        return False


class Cluster(_Proxied):
    """A cluster of three primaries and three replicas, with a proxy in front of each node.

    The nodes hear from each other past the proxies.
    """

    NODE_TIMEOUT = 1.5  # seconds

    def __init__(
        self,
        chance: random.Random,
        threshold: float,
        proxies: list[FaultProxy],
        cluster: RedisCluster,
        prefix: str,
    ) -> None:
        nodes = ",".join(f"127.0.0.1:{port}" for port in cluster.ports)
        super().__init__(chance, threshold, proxies, f"redis+cluster://:{_PASSWORD}@{nodes}")
        self._cluster = cluster
        self._slot = KeyNames(prefix).slot

    @property
    def faults(self) -> Mapping[str, ServerFault]:
        """See `Topology.faults`."""
        at_primary: dict[str, Callable[[ClusterNode], Awaitable[bool]]] = {
            "scripts forgotten": self._forget_scripts,
            "clients killed": _kill_clients,
            "all data flushed": _flush_all,
            "primary restarted empty": self._restart_empty,
            "primary killed": self._kill,
            "primary suspended shortly": partial(self._freeze, factor=0.5),
            "primary suspended for long": partial(self._freeze, factor=2.5),
            "primary refuses": self._refuse,
            "replica takes over": partial(self._failover, how=None),
            "replica takes over by FORCE": partial(self._failover, how="FORCE"),
            "replica takes over by TAKEOVER": partial(self._failover, how="TAKEOVER"),
            "slot moved": partial(self._migrate, back=False),
            "slot half moved, and back": partial(self._migrate, back=True),
        }
        return {name: partial(self._at_primary, fault) for name, fault in at_primary.items()} | {
            "connections cut": self._cut_all
        }

    def primary(self) -> ClusterNode:
        """See `Topology.primary`."""
        return self._cluster.node_of(self._slot)

    async def _at_primary(self, fault: Callable[[ClusterNode], Awaitable[bool]]) -> bool:
        lost = await fault(await trio.to_thread.run_sync(self.primary))
        await trio.to_thread.run_sync(self._cluster.wait_until_ok)
        return lost

    async def _restart_empty(self, node: ClusterNode) -> bool:
        """Sooner than it is missed: it stays the primary, and its replica has to forget, too."""
        await node.restart_async(empty=True)
        return True

    async def _kill(self, node: ClusterNode) -> bool:
        node.kill()
        await trio.to_thread.run_sync(self._cluster.wait_for_heir, self._slot, node)
        await trio.sleep(self._some_time(0.0, 0.5, 2.0))
        if self._chance.random() < 0.5:
            await node.start_async()
        else:
            await node.restart_async(empty=True)
        return True

    async def _freeze(self, node: ClusterNode, *, factor: float) -> bool:
        """For a multiple of the time after which the others miss it."""
        node.pause()
        await trio.sleep(factor * self.NODE_TIMEOUT)
        if factor > 1:
            await trio.to_thread.run_sync(self._cluster.wait_for_heir, self._slot, node)
        node.resume()
        return factor > 1

    async def _refuse(self, node: ClusterNode) -> bool:
        proxy = self._proxies[self._cluster.nodes.index(node)]
        proxy.refuse()
        await trio.sleep(self._some_time(0.3, 1.2, 2.5))
        proxy.accept()
        return False

    async def _failover(self, node: ClusterNode, *, how: str | None) -> bool:
        await trio.to_thread.run_sync(partial(self._cluster.failover, node, how=how))
        return how is not None

    async def _migrate(self, node: ClusterNode, *, back: bool) -> bool:
        """Key by key, while all count."""
        others = [n for n in self._cluster.nodes if n is not node]
        roles = [await n.command_async("ROLE") for n in others]
        primaries = [n for n, role in zip(others, roles, strict=True) if role[0] == "master"]
        target = self._chance.choice(primaries)
        move = await trio.to_thread.run_sync(self._cluster.begin_migration, self._slot, target)
        pause = self._chance.choice((0.0, 0.02, 0.1))
        left = len(move.keys()) // 2 if back else 1_000_000
        while left > 0 and await trio.to_thread.run_sync(move.move, 1):
            left -= 1
            await trio.sleep(pause)
        await trio.to_thread.run_sync(move.give_up if back else move.finish)
        return False


class Sentinels(_Proxied):
    """A primary with two replicas and three sentinels, with a proxy in front of each server."""

    DOWN_AFTER = 1.5  # seconds

    def __init__(
        self,
        chance: random.Random,
        threshold: float,
        proxies: list[FaultProxy],
        sentinels: SentinelTrio,
    ) -> None:
        hosts = ",".join(f"127.0.0.1:{one.port}" for one in sentinels.sentinels)
        url = (
            f"redis+sentinel://:{_PASSWORD}@{hosts}/{sentinels.service}"
            f"?sentinel_password={_PASSWORD}"
        )
        super().__init__(chance, threshold, proxies, url)
        self._sentinels = sentinels

    @property
    def faults(self) -> Mapping[str, ServerFault]:
        """See `Topology.faults`."""
        at_primary: dict[str, Callable[[RedisServer], Awaitable[bool]]] = {
            "scripts forgotten": self._forget_scripts,
            "clients killed": _kill_clients,
            "all data flushed": _flush_all,
            "primary restarted empty": self._restart_empty,
            "primary killed": self._kill,
            "primary suspended shortly": partial(self._freeze, factor=0.4),
            "primary suspended for long": partial(self._freeze, factor=2.5),
            "primary cut off for long": self._refuse,
            "failover ordered": self._failover,
            "roles swapped by hand": self._swap,
            "sentinel killed": self._kill_sentinel,
        }
        return {name: partial(self._at_primary, fault) for name, fault in at_primary.items()} | {
            "connections cut": self._cut_all
        }

    def primary(self) -> RedisServer:
        """See `Topology.primary`."""
        return self._sentinels.primary

    async def _at_primary(self, fault: Callable[[RedisServer], Awaitable[bool]]) -> bool:
        lost = await fault(await trio.to_thread.run_sync(self.primary))
        await trio.to_thread.run_sync(self._sentinels.wait_until_ok)
        return lost

    async def _restart_empty(self, server: RedisServer) -> bool:
        """Sooner than it is missed, unless the machine is slow."""
        await server.restart_async(empty=True)
        return True

    async def _kill(self, server: RedisServer) -> bool:
        server.kill()
        await trio.to_thread.run_sync(self._sentinels.wait_for_heir, server)
        await trio.sleep(self._some_time(0.0, 0.5, 2.0))
        if self._chance.random() < 0.5:
            await server.start_async()
        else:
            await server.restart_async(empty=True)
        return True

    async def _freeze(self, server: RedisServer, *, factor: float) -> bool:
        """For a multiple of the time after which the sentinels miss it."""
        server.pause()
        await trio.sleep(factor * self.DOWN_AFTER)
        if factor > 1:
            await trio.to_thread.run_sync(self._sentinels.wait_for_heir, server)
        server.resume()
        return factor > 1

    async def _refuse(self, server: RedisServer) -> bool:
        """For sentinels, replicas and workers: it goes on as a primary until it is told."""
        proxy = self._proxies[self._sentinels.servers.index(server)]
        proxy.refuse()
        await trio.to_thread.run_sync(self._sentinels.wait_for_heir, server)
        proxy.accept()
        return True

    async def _failover(self, server: RedisServer) -> bool:
        await trio.to_thread.run_sync(self._sentinels.failover)
        return True

    async def _swap(self, server: RedisServer) -> bool:
        heir = self._chance.choice([s for s in self._sentinels.servers if s is not server])
        pause = self._some_time(0.0, 0.5, 1.5)

        def swap() -> None:
            self._sentinels.swap_roles(heir)
            time.sleep(pause)
            self._sentinels.monitor(heir)

        await trio.to_thread.run_sync(swap)
        return True

    async def _kill_sentinel(self, _: RedisServer) -> bool:
        sentinel = self._chance.choice(self._sentinels.sentinels)
        sentinel.kill()
        await trio.sleep(self._some_time(0.3, 1.2))
        await sentinel.start_async()
        return False


@asynccontextmanager
async def open_topology(
    kind: str, *, chance: random.Random, threshold: float, prefix: str, url: str | None = None
) -> AsyncIterator[Topology]:
    """Start the servers of a topology for the namespace ``prefix``, and end them.

    Args:
        kind: one of `TOPOLOGIES`.
        chance: see `Topology`.
        threshold: see `Topology`.
        prefix: the namespace that the workers count in.
        url: somebody else's server, instead of a private one.
    """
    if kind == "cluster":
        make = partial(
            RedisCluster,
            persistent=True,
            node_timeout=Cluster.NODE_TIMEOUT,
            config={"requirepass": _PASSWORD},
        )
        async with proxied_cluster(make) as (cluster, proxies):
            yield Cluster(chance, threshold, proxies, cluster, prefix)
    elif kind == "sentinel":
        make_trio = partial(
            SentinelTrio,
            persistent=True,
            down_after=Sentinels.DOWN_AFTER,
            password=_PASSWORD,
            sentinel_password=_PASSWORD,
        )
        async with proxied_sentinels(make_trio) as (sentinels, proxies):
            yield Sentinels(chance, threshold, proxies, sentinels)
    else:
        async with trio.open_nursery() as nursery:
            if url is not None:
                yield Single(chance, threshold, Remote.at(url), nursery)
            else:
                with RedisServer(persistent=True) as server:
                    yield Single(chance, threshold, server, nursery)
            nursery.cancel_scope.cancel()


async def _kill_clients(server: RedisServer) -> bool:
    await server.command_async("CLIENT", "KILL", "TYPE", "normal")
    return False


async def _flush_all(server: RedisServer) -> bool:
    await server.command_async("FLUSHALL")
    return True


def _ask(server: Address, *words: str) -> None:
    client = redis.Redis(host=server.host, port=server.port, password=server.password)
    try:
        client.execute_command(*words)
    finally:
        client.close()
