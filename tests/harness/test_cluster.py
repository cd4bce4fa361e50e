"""The private cluster serves, moves slots, and survives its primaries."""

import itertools
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import redis
import trio
from redis.crc import key_slot

from tests.harness.cluster import SLOTS, ClusterError, ClusterNode, RedisCluster, SlotMigration
from tests.harness.faults import named
from tests.harness.ports import LOOPBACK
from tests.harness.resp import FrameSplitter
from tests.harness.test_server import is_running
from tests.harness.topologies import proxied_cluster


@pytest.fixture
def migration(cluster: RedisCluster) -> Iterator[SlotMigration]:
    """Keys {k}1 and {k}2 on their way."""
    source = cluster.node_of("{k}")
    target = next(node for node in cluster.nodes if cluster.replicas_of(node) and node != source)
    for key in ("{k}1", "{k}2"):
        source.command("SET", key, key)
    migration = cluster.begin_migration("{k}", target)
    yield migration
    if not migration.is_over:
        migration.finish()
    cluster.node_of("{k}").command("DEL", "{k}1", "{k}2")


def ask(port: int, *commands: tuple[str, ...], password: str | None = None) -> list[bytes]:
    """Return the raw replies to commands on one connection.

    Raises:
        ConnectionError: it was closed before the last reply.
    """
    login = () if password is None else (("AUTH", password),)
    words = [*login, *commands]
    splitter = FrameSplitter()
    with socket.create_connection((LOOPBACK, port), timeout=5) as sock:
        sock.sendall(b"".join(b" ".join(map(str.encode, command)) + b"\r\n" for command in words))
        replies: list[bytes] = []
        while len(replies) < len(words):
            data = sock.recv(4096)
            if not data:
                raise ConnectionError("closed")
            replies += splitter.feed(data)
    return [reply.rstrip() for reply in replies[len(login) :]]


def tell(node: ClusterNode, *commands: tuple[str, ...]) -> list[bytes]:
    """Return what a node answers."""
    return ask(node.port, *commands, password=node.password)


def key_of(slot: int) -> str:
    """Return a key of a slot."""
    return next(key for key in map(str, itertools.count()) if key_slot(key.encode()) == slot)


def test_clients_find_every_slot(cluster: RedisCluster) -> None:
    assert len(cluster.running) == 6
    assert {cluster.node_of(slot) for slot in range(0, SLOTS, 1000)} == set(cluster.nodes[:3])
    client = redis.RedisCluster(
        host="127.0.0.1", port=cluster.nodes[4].port, password=cluster.password, protocol=2
    )
    with client:
        for number in range(30):
            client.set(f"key{number}", number)
        assert client.get("key7") == b"7"
        client.delete(*(f"key{number}" for number in range(30)))
    assert cluster.node_of("key7").command("EXISTS", "key7") == 0
    assert cluster.slot_of("{k}1") == cluster.slot_of("k")


def test_every_primary_has_a_replica_that_takes_no_writes(cluster: RedisCluster) -> None:
    for primary in cluster.nodes[:3]:
        (replica,) = cluster.replicas_of(primary)
        assert replica not in cluster.nodes[:3]
        assert replica.command("ROLE")[2] == primary.port
        assert cluster.replicas_of(replica) == []


def test_a_slot_moves_with_its_keys(cluster: RedisCluster) -> None:
    source = cluster.node_of("{k}")
    for number in range(25):
        source.command("SET", f"{{k}}{number}", number)
    target = next(node for node in cluster.nodes if cluster.replicas_of(node) and node != source)
    assert cluster.migrate_slot("{k}", target) == 25
    assert cluster.node_of("{k}") is target
    assert target.command("GET", "{k}7") == "7"
    moved = f"-MOVED {cluster.slot_of('k')} 127.0.0.1:{target.port}".encode()
    assert tell(source, ("GET", "{k}7")) == [moved]
    assert cluster.migrate_slot("{k}", source) == 25
    source.command("DEL", *(f"{{k}}{number}" for number in range(25)))


def test_half_way_a_node_sends_clients_to_the_other(migration: SlotMigration) -> None:
    both, other = ("MGET", "{k}1", "{k}2"), ("GET", "{k}3")
    elsewhere = f"-ASK {migration.slot} 127.0.0.1:{migration.target.port}".encode()
    assert tell(migration.source, both, other) == [b"*2\r\n$4\r\n{k}1\r\n$4\r\n{k}2", elsewhere]
    assert migration.move(1) == 1
    (left,) = migration.keys()
    (gone,) = {"{k}1", "{k}2"} - {left}
    kept, sent, neither = tell(migration.source, ("GET", left), ("GET", gone), both)
    assert kept.endswith(left.encode())
    assert sent == elsewhere
    assert neither == sent or neither.startswith(b"-TRYAGAIN")
    asking = ("ASKING",)
    moved, _, found, _, neither = tell(
        migration.target, ("GET", gone), asking, ("GET", gone), asking, both
    )
    assert moved.startswith(b"-MOVED")
    assert found.endswith(gone.encode())
    assert neither.startswith(b"-TRYAGAIN")
    migration.finish()
    assert tell(migration.target, both)[0].startswith(b"*2")


def test_half_way_nobody_serves_a_request_that_names_a_key_that_is_nowhere(
    migration: SlotMigration,
) -> None:
    """Though all that there is be at one node: before at the old one, then at the new one."""
    asked = ("MGET", "{k}1", "{k}nowhere")
    (before,) = tell(migration.source, asked)
    assert before.startswith((b"-ASK", b"-TRYAGAIN"))
    migration.move(2)
    assert migration.keys() == []
    assert tell(migration.source, asked)[0].startswith(b"-ASK")
    assert tell(migration.target, ("ASKING",), asked)[1].startswith(b"-TRYAGAIN")
    migration.finish()
    assert tell(migration.target, asked) == [b"*2\r\n$4\r\n{k}1\r\n$-1"]


def test_a_migration_can_be_given_up(cluster: RedisCluster, migration: SlotMigration) -> None:
    migration.move(1)
    migration.give_up()
    assert cluster.node_of("{k}") is migration.source
    assert migration.source.command("MGET", "{k}1", "{k}2") == ["{k}1", "{k}2"]
    assert tell(migration.target, ("GET", "{k}1"))[0].startswith(b"-MOVED")


@pytest.mark.parametrize("how", [None, "FORCE", "TAKEOVER"])
def test_a_replica_takes_over_when_told(cluster: RedisCluster, how: str | None) -> None:
    old = cluster.node_of("{f}")
    old.command("SET", "{f}", "v")
    old.command("WAIT", 1, 5_000)
    heir = cluster.failover(old, how=how)
    assert heir is not old
    assert cluster.node_of("{f}") is heir
    assert heir.command("GET", "{f}") == "v"
    cluster.wait_until_ok()
    assert cluster.replicas_of(heir) == [old]


def test_a_killed_primary_is_replaced_and_comes_back_as_a_replica(cluster: RedisCluster) -> None:
    dead = cluster.node_of("{d}")
    dead.kill()
    heir = cluster.wait_for_heir("{d}", dead)
    heir.command("SET", "{d}", "v")
    dead.restart(empty=True)
    cluster.wait_until_ok()
    assert cluster.replicas_of(heir) == [dead]
    with pytest.raises(ClusterError, match="no running replica"):
        cluster.failover(dead)


def test_a_paused_primary_is_replaced(cluster: RedisCluster) -> None:
    paused = cluster.node_of("{p}")
    paused.pause()
    assert paused not in cluster.running
    heir = cluster.wait_for_heir("{p}", paused)
    paused.resume()
    cluster.wait_until_ok()
    assert cluster.node_of("{p}") is heir


def test_without_a_replica_the_slots_of_a_dead_primary_are_down() -> None:
    with RedisCluster(replicas=0, node_timeout=0.5) as small:
        small.nodes[1].kill()
        while not tell(small.nodes[0], ("GET", "x"))[0].startswith(b"-CLUSTERDOWN"):
            time.sleep(0.02)


async def test_each_node_behind_a_network_that_fails() -> None:
    with trio.fail_after(30):
        async with proxied_cluster() as (cluster, proxies):
            assert cluster.ports == [proxy.port for proxy in proxies]
            node, other, *_ = cluster.nodes
            proxy = proxies[0]
            moved = f"-MOVED 0 {LOOPBACK}:{proxy.port}".encode()
            assert tell(other, ("GET", key_of(0))) == [moved]
            assert tell(cluster.nodes[3], ("GET", key_of(0))) == [moved]
            # Replicas come through it, too.
            assert proxy.commands["PSYNC"]
            get = partial(trio.to_thread.run_sync, ask, proxy.port, ("GET", key_of(0)))
            proxy.drop_request(when=named("GET"))
            with pytest.raises(ConnectionError):
                await get()
            assert await get() == [b"$-1"]
            heir = await trio.to_thread.run_sync(cluster.failover, node)
            await trio.to_thread.run_sync(cluster.wait_until_ok)
            assert await get() == [
                f"-MOVED 0 {LOOPBACK}:{cluster.ports[cluster.nodes.index(heir)]}".encode()
            ]


def test_nothing_is_left_of_a_cluster_whose_test_is_killed() -> None:
    program = (
        "import os, signal\n"
        "from tests.harness.cluster import RedisCluster\n"
        "cluster = RedisCluster(replicas=0)\n"
        "cluster.start()\n"
        "cluster.nodes[0].pause()\n"
        "print(*(node.pid for node in cluster.nodes), flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    pids = [int(word) for word in done.stdout.split()]
    assert len(pids) == 3
    assert os.getpid() not in pids
    while any(map(is_running, pids)):
        time.sleep(0.01)
