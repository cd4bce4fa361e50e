"""Clusters and sentinels behind a network that fails and lies, as slots and roles change.

All servers name their proxies, so that counters know no other way. Whatever a proxy does with a
request, before it was executed or after that, each count is there once.
"""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import trio

from distkit_actors._stores._redis._wire import KeyNames
from tests.faults.counting import PATIENCE, Load, counting
from tests.faults.fleet import until
from tests.faults.test_clusters import all_there, node_of, prefixes_of
from tests.faults.test_clusters import url_of as url_of_cluster
from tests.faults.test_sentinels import url_of as url_of_sentinels
from tests.harness.cluster import RedisCluster
from tests.harness.faults import FaultBoard, is_script
from tests.harness.proxy import FaultProxy
from tests.harness.resp import Request
from tests.harness.sentinel import SentinelTrio
from tests.harness.server import RedisServer
from tests.harness.topologies import proxied_cluster, proxied_sentinels

Strike = Callable[[FaultProxy, Callable[[Request], bool]], None]

LINK: tuple[Strike, ...] = (
    lambda proxy, when: proxy.drop_request(when=when),
    lambda proxy, when: proxy.drop_reply(when=when),
    lambda proxy, when: proxy.delay(0.1, when=when),
    lambda proxy, when: proxy.delay_reply(0.1, when=when),
    lambda proxy, when: proxy.duplicate(when=when),
    lambda proxy, when: proxy.late_copy(0.2, when=when),
    lambda proxy, when: proxy.cut_reply_midframe(when=when),
    lambda proxy, when: proxy.hang_reply(when=when),
    lambda proxy, when: proxy.reply_twice(when=when),
    lambda proxy, when: proxy.answer_besides("-upstream failure", when=when),
)
AWAY = (
    "-READONLY You can't write against a read only replica.",
    "-LOADING Redis is loading the dataset in memory",
    "-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    "-NOREPLICAS Not enough good replicas to write.",
    "-UNBLOCKED force unblock from blocking operation, instance state changed",
    "-upstream failure",
)


def lines(*texts: str) -> list[Strike]:
    """Have each line answered to a request that was executed, and to one that was not."""

    def answer(
        text: str, executed: bool, proxy: FaultProxy, when: Callable[[Request], bool]
    ) -> None:
        proxy.answer(text, executed=executed, when=when)

    return [partial(answer, text, executed) for text in texts for executed in (True, False)]


def of_cluster(cluster: RedisCluster, slot: int) -> list[Strike]:
    """Return what may go wrong at a node: redirections to nodes that have the slot or not, too."""
    return [
        *LINK,
        *lines(
            *AWAY,
            *(f"-MOVED {slot} 127.0.0.1:{port}" for port in cluster.ports),
            f"-MOVED {(slot + 1) % 16_384} 127.0.0.1:{cluster.ports[0]}",
            f"-ASK {slot} 127.0.0.1:{cluster.ports[0]}",
            "-TRYAGAIN Multiple keys request during rehashing of slot",
            "-CLUSTERDOWN The cluster is down",
            "-CLUSTERDOWN Hash slot not served",
        ),
    ]


def about(prefix: str) -> Callable[[Request], bool]:
    """Match the scripts of one namespace."""
    name = f"{{p.{prefix}}}".encode()
    return lambda request: is_script(request) and name in request.frame


async def strike_all(strikes: Sequence[Strike], proxy: FaultProxy, load: Load) -> None:
    """Have each fault strike a request, and all counters count on."""
    for strike in strikes:
        strike(proxy, about(load.prefix))
        await until(lambda: not proxy.armed, PATIENCE)
    await load.more()


async def strike_amid(
    strikes: Sequence[Strike], proxies: Sequence[FaultProxy], load: Load, change: Awaitable[None]
) -> None:
    """Have faults strike at whichever server while something changes, over and over."""
    over = False

    async def go_on_striking() -> None:
        number = 0
        while not over:
            for proxy in proxies:
                if not proxy.armed:
                    strikes[number % len(strikes)](proxy, about(load.prefix))
                    number += 1
            await trio.sleep(0.25)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(go_on_striking)
        await load.more()
        await change
        await load.more()
        over = True
    for proxy in proxies:
        proxy.disarm()
    await load.more()


def struck(proxies: Sequence[FaultBoard]) -> set[str]:
    """Return the kinds of faults that have struck."""
    return {kind for proxy in proxies for kind, count in proxy.counts.items() if count}


async def test_a_cluster_whose_nodes_are_behind_a_network_that_fails_and_lies() -> None:
    make = partial(RedisCluster, config={"requirepass": "secret"})
    with trio.fail_after(3 * PATIENCE):
        async with proxied_cluster(make) as (cluster, proxies):
            prefixes = await trio.to_thread.run_sync(prefixes_of, cluster, 2)
            slot = KeyNames(prefixes[0]).slot
            strikes = of_cluster(cluster, slot)

            def node() -> RedisServer:
                return node_of(cluster, prefixes[0])

            async def move() -> None:
                target = node_of(cluster, prefixes[1])
                migration = await trio.to_thread.run_sync(cluster.begin_migration, slot, target)
                while await trio.to_thread.run_sync(migration.move, 1):
                    pass
                await trio.to_thread.run_sync(migration.finish)

            async def take_over(how: str | None) -> None:
                old = await trio.to_thread.run_sync(node)
                await trio.to_thread.run_sync(lambda: cluster.failover(old, how=how))
                await trio.to_thread.run_sync(cluster.wait_until_ok)

            async with counting(url_of_cluster(cluster, 0, 1), prefixes) as loads:
                proxy = proxies[cluster.nodes.index(await trio.to_thread.run_sync(node))]
                await strike_all(strikes, proxy, loads[0])
                assert struck([proxy]) >= {"late_copy", "answer_instead", "answer_afterwards"}
                await strike_amid(strikes, proxies, loads[0], move())
                await strike_amid(strikes[1:], proxies, loads[0], take_over(None))
                await strike_amid(strikes[::-1], proxies, loads[0], take_over("FORCE"))
                await all_there(cluster, loads)


async def test_sentinels_servers_behind_a_network_that_fails_and_lies() -> None:
    make = partial(SentinelTrio, password="secret", sentinel_password="other")
    strikes = [*LINK, *lines(*AWAY)]
    with trio.fail_after(3 * PATIENCE):
        async with proxied_sentinels(make) as (sentinels, proxies):

            def proxy_of(server: RedisServer) -> FaultProxy:
                return proxies[sentinels.servers.index(server)]

            async def failover() -> None:
                await trio.to_thread.run_sync(sentinels.failover)
                await trio.to_thread.run_sync(sentinels.wait_until_ok)

            async def cut_off() -> None:
                """Nobody reaches the primary, and it goes on to think that it is one."""
                old = await trio.to_thread.run_sync(lambda: sentinels.primary)
                proxy_of(old).refuse()
                await trio.to_thread.run_sync(sentinels.wait_for_heir, old)
                proxy_of(old).accept()
                await trio.to_thread.run_sync(sentinels.wait_until_ok)

            async def swap() -> None:
                heir = (await trio.to_thread.run_sync(lambda: sentinels.replicas))[0]
                await trio.to_thread.run_sync(sentinels.swap_roles, heir)
                await trio.sleep(0.5)
                await trio.to_thread.run_sync(sentinels.monitor, heir)
                await trio.to_thread.run_sync(sentinels.wait_until_ok)

            async with counting(url_of_sentinels(sentinels), ["links"]) as (load,):
                primary = await trio.to_thread.run_sync(lambda: sentinels.primary)
                await strike_all(strikes, proxy_of(primary), load)
                for change in (failover, cut_off, swap):
                    await strike_amid(strikes, proxies, load, change())
                await load.all_there(await trio.to_thread.run_sync(lambda: sentinels.primary))
