"""A Redis Cluster on loopback whose slots and primaries tests may move.

One file of more than 300 lines: all of it reads what the nodes say about each other.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass

import redis
from redis.crc import key_slot

from tests.harness.launch import POLL_SECONDS, Started, wait_until
from tests.harness.ports import LOOPBACK, free_cluster_port
from tests.harness.server import RedisServer

SLOTS = 16_384

_MIGRATE_MILLISECONDS = 5_000

#: Each key with its body and the milliseconds that it has left to live.
_COME_BACK = """
for i = 1, #ARGV, 3 do
  redis.call('RESTORE', ARGV[i], ARGV[i + 2], ARGV[i + 1])
end
"""


class ClusterError(RuntimeError):
    """The cluster did not do as it was told; the message says what its nodes think."""


@dataclass(frozen=True)
class _View:
    """What one node thinks of the cluster.

    Attributes:
        primaries: the id of the primary of each node by the node's id; a
            primary is its own.
        slots: owners' ids by (first, last) slot.
        failing: ids of the nodes that do not answer it.
        epochs: the epoch of each primary that has slots, by its id.
    """

    primaries: dict[str, str]
    slots: dict[tuple[int, int], str]
    failing: frozenset[str]
    epochs: dict[str, int]


class ClusterNode(RedisServer):
    """A server that remembers its cluster, even if it is restarted empty.

    Attributes:
        is_paused: whether it stands still.
    """

    is_paused = False

    def kill(self) -> None:
        """End the process at once (SIGKILL); the data directory stays."""
        super().kill()
        self.is_paused = False

    def pause(self) -> None:
        """Freeze the process (SIGSTOP): connections stay open and silent."""
        super().pause()
        self.is_paused = True

    def resume(self) -> None:
        """Let a paused process go on (SIGCONT)."""
        super().resume()
        self.is_paused = False

    def _arguments(self) -> list[str]:
        return [
            *super()._arguments(),
            "--cluster-config-file",
            str(self._directory.path / "nodes.conf"),
        ]


class RedisCluster(Started):
    """Primaries with replicas, each a `RedisServer`.

    It serves once the `with` block is entered. Nodes may be killed, paused, resumed and
    restarted by their own methods, in which nothing waits for the cluster; see
    `wait_until_ok` and `wait_for_heir`.

    Methods block the calling thread; in trio call them with
    `trio.to_thread.run_sync`. Each returns once every running node agrees,
    unless it says otherwise.

    Args:
        primaries: how many; slots are spread evenly over them, in order.
        replicas: of each primary.
        node_timeout: seconds of silence after which a node is taken for dead.
        persistent: keep an append-only file, as `RedisServer` does.
        config: further directives for each node; a `requirepass` is the
            nodes' password for each other, too.
        announced_ports: what clients and nodes are told instead of the ports
            on which the nodes listen, one for each node: those of proxies.

    Attributes:
        nodes: the primaries of the beginning, then the replicas: first one of
            each primary, in order, then the second ones.
        password: of each of them, if they have one.
    """

    def __init__(
        self,
        *,
        primaries: int = 3,
        replicas: int = 1,
        node_timeout: float = 1.5,
        persistent: bool = False,
        config: Mapping[str, str] | None = None,
        announced_ports: Sequence[int] | None = None,
    ) -> None:
        count = primaries * (1 + replicas)
        if announced_ports is not None and len(announced_ports) != count:
            raise ValueError(f"{count} nodes need as many announced ports")
        common = {
            "cluster-enabled": "yes",
            "cluster-node-timeout": str(round(node_timeout * 1000)),
            # A replica takes over however long it has been without its primary, as tests wait
            # for that.
            "cluster-replica-validity-factor": "0",
            "repl-ping-replica-period": "1",
        } | dict(config or {})
        self.password = common.get("requirepass")
        if self.password is not None:
            common["masterauth"] = self.password
        self._primaries = primaries
        self._announced = announced_ports
        self.nodes = [
            ClusterNode(
                persistent=persistent,
                config=common
                if announced_ports is None
                else common | {"cluster-announce-port": str(announced_ports[number])},
                choose_port=free_cluster_port,
            )
            for number in range(count)
        ]
        self._ids: dict[str, ClusterNode] = {}

    @property
    def ports(self) -> list[int]:
        """Where clients find each node: its announced port, or else its own."""
        return list(self._announced or [node.port for node in self.nodes])

    @property
    def running(self) -> list[ClusterNode]:
        """The nodes that are neither down nor paused."""
        return [node for node in self.nodes if node.is_running and not node.is_paused]

    def start(self) -> None:
        """Start the nodes and make them a cluster; for once.

        Raises:
            RedisServerError: a node did not start.
            ClusterError: they did not find each other in time.
        """
        with ThreadPoolExecutor(len(self.nodes)) as threads:
            list(threads.map(ClusterNode.start, self.nodes))
        self._ids = {node.command("CLUSTER", "MYID"): node for node in self.nodes}
        first, *others = self.nodes
        primaries = self.nodes[: self._primaries]
        for number, primary in enumerate(primaries):
            begin = number * SLOTS // self._primaries
            end = (number + 1) * SLOTS // self._primaries
            primary.command("CLUSTER", "ADDSLOTS", *range(begin, end))
            # Otherwise they have to find out that they have the same.
            primary.command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for other in others:
            other.command("CLUSTER", "MEET", LOOPBACK, first.port)
        self._wait("they know each other", self._all_met)
        for number, replica in enumerate(self.nodes[self._primaries :]):
            replica.command("CLUSTER", "REPLICATE", self.id_of(primaries[number % self._primaries]))
        self.wait_until_ok()

    def close(self) -> None:
        """End all nodes and remove their files; idempotent."""
        with ExitStack() as stack:
            for node in self.nodes:
                stack.callback(node.close)

    def id_of(self, node: ClusterNode) -> str:
        """Return by which name the nodes know a node."""
        return next(name for name, one in self._ids.items() if one is node)

    def slot_of(self, key: str | bytes) -> int:
        """Return the slot of a key; only what is in braces counts, if there are any."""
        return int(key_slot(key.encode() if isinstance(key, str) else key))

    def node_of(self, slot: int | str | bytes) -> ClusterNode:
        """Return the primary of a slot, or of a key's slot.

        Raises:
            ClusterError: nobody has the slot.
        """
        number = slot if isinstance(slot, int) else self.slot_of(slot)
        for (first, last), owner in self._consensus().slots.items():
            if first <= number <= last:
                return self._ids[owner]
        raise ClusterError(f"nobody has slot {number}\n{self._opinions()}")

    def replicas_of(self, primary: ClusterNode) -> list[ClusterNode]:
        """Return the running replicas of a primary."""
        wanted = self.id_of(primary)
        view = self._consensus()
        return [
            self._ids[name]
            for name, follows in view.primaries.items()
            if follows == wanted and name != wanted and self._ids[name] in self.running
        ]

    def begin_migration(self, slot: int | str | bytes, to: ClusterNode) -> "SlotMigration":
        """Begin to move a slot, and leave the rest to the caller.

        From now on the old node answers ASK for keys that it does not have.
        """
        number = slot if isinstance(slot, int) else self.slot_of(slot)
        return SlotMigration(self, number, self.node_of(number), to)

    def migrate_slot(self, slot: int | str | bytes, to: ClusterNode, *, step: int = 10) -> int:
        """Move a slot with its keys, ``step`` at a time, and return how many there were."""
        migration = self.begin_migration(slot, to)
        moved = 0
        while count := migration.move(step):
            moved += count
        migration.finish()
        return moved

    def assign(self, slot: int, to: ClusterNode) -> None:
        """Give a slot, which has no keys elsewhere, to a primary."""
        name = self.id_of(to)
        # First the new owner, so that there is one whatever happens; a replica is told by its
        # primary.
        view = self._consensus()
        others = [n for n in self.running if view.primaries[self.id_of(n)] == self.id_of(n)]
        for node in [to, *(other for other in others if other is not to)]:
            node.command("CLUSTER", "SETSLOT", slot, "NODE", name)
        self._wait(f"slot {slot} is at {to}", lambda: self.node_of(slot) is to)

    def failover(self, primary: ClusterNode, *, how: str | None = None) -> ClusterNode:
        """Have a replica take the place of a primary, and return the replica.

        Args:
            primary: whose place; it becomes a replica if it runs.
            how: None, so that nothing is lost; FORCE, which does without the
                primary; or TAKEOVER, which does without a majority.

        Raises:
            ClusterError: nobody can, or it took too long.
        """
        name = self.id_of(primary)
        replicas = self.replicas_of(primary)
        if not replicas:
            raise ClusterError(f"{primary} has no running replica\n{self._opinions()}")
        heir = replicas[0]
        words = () if how is None else (how,)

        def followed() -> bool:
            return all(
                name not in view.slots.values() and view.primaries[self.id_of(heir)] != name
                for view in self._views(self.running)
            )

        def taken_over() -> bool:
            # A replica forgets the order if it finds no majority in 5 s.
            if was := heir.command("ROLE")[0] == "slave":
                heir.command("CLUSTER", "FAILOVER", *words)
            until = time.monotonic() + 6
            while time.monotonic() < until:
                if (now := heir.command("ROLE")[0] == "slave") and not was:
                    return False  # of two with one epoch, after another failover, the other has won
                if not now and followed():
                    return True
                was = now
                time.sleep(POLL_SECONDS)
            return False

        self._wait(f"{heir} takes over, and all follow it", taken_over)
        return heir

    def wait_for_heir(self, slot: int | str | bytes, dead: ClusterNode) -> ClusterNode:
        """Wait until all running nodes have another primary for a slot, and return it.

        Raises:
            ClusterError: it took too long.
        """
        self._wait(f"{dead} has an heir", lambda: self.node_of(slot) is not dead)
        return self.node_of(slot)

    def wait_until_ok(self) -> None:
        """Wait until all running nodes agree, all slots are served and all replicas in sync.

        They agree about epochs, too, and no two primaries have the same. Where a primary dies that
        has just given itself a new epoch, its heir may have an older one, and is never heard.

        Raises:
            ClusterError: it took too long.
        """
        self._wait("all is well", self._is_ok)

    def _is_ok(self) -> bool:
        running = self.running
        views = self._views(running)
        first = views[0]
        names = {self.id_of(node) for node in running}
        return all(
            view.slots == first.slots
            and view.primaries == first.primaries
            and view.epochs == first.epochs
            and len(set(view.epochs.values())) == len(view.epochs)
            and names <= view.primaries.keys()
            and not view.failing & names
            for view in views
        ) and all(self._does_its_part(node, first) for node in running)

    def _does_its_part(self, node: ClusterNode, view: _View) -> bool:
        state = node.command("CLUSTER", "INFO").split()
        if not {"cluster_state:ok", f"cluster_slots_ok:{SLOTS}"} <= set(state):
            return False
        name = self.id_of(node)
        primary = view.primaries[name]
        role = node.command("ROLE")
        if primary == name:
            return role[0] == "master"
        if self._ids[primary] not in self.running:
            return role[0] == "slave"
        return role[0] == "slave" and role[3] == "connected"

    def _all_met(self) -> bool:
        names = set(self._ids)
        owners = {self.id_of(node) for node in self.nodes[: self._primaries]}
        return all(
            view.primaries.keys() == names
            and not view.failing
            and set(view.slots.values()) == owners
            for view in self._views(self.nodes)
        )

    def _consensus(self) -> _View:
        """Return what all running nodes think about slots, once they think the same."""
        found: list[_View] = []

        def agreed() -> bool:
            found[:] = self._views(self.running)
            return bool(found) and all(view.slots == found[0].slots for view in found)

        self._wait("the nodes agree about slots", agreed)
        return found[0]

    def _views(self, nodes: Sequence[ClusterNode]) -> list[_View]:
        return [_parse(node.command("CLUSTER", "NODES")) for node in nodes]

    def _wait(self, what: str, met: Callable[[], bool]) -> None:
        wait_until(what, met, lambda why: ClusterError(f"{why}\n{self._opinions()}"))

    def _opinions(self) -> str:
        return "\n".join(f"{node}:\n{node.command('CLUSTER', 'NODES')}" for node in self.running)


class SlotMigration:
    """A slot on its way from one primary to another.

    Made by `RedisCluster.begin_migration`. Until `finish` or `give_up` the old
    node owns the slot. It serves the keys that it has, and answers ASK for
    others. The new one serves whoever says ASKING. Of a request whose keys are
    at both, the new one says TRYAGAIN, and so does the old one from version 7
    on, which before says ASK.

    Attributes:
        slot: which.
        source: the old node.
        target: the new one.
        is_over: whether the slot has its place again.
    """

    def __init__(
        self, cluster: RedisCluster, slot: int, source: ClusterNode, target: ClusterNode
    ) -> None:
        self._cluster = cluster
        self.slot = slot
        self.source = source
        self.target = target
        self.is_over = False
        target.command("CLUSTER", "SETSLOT", slot, "IMPORTING", cluster.id_of(source))
        source.command("CLUSTER", "SETSLOT", slot, "MIGRATING", cluster.id_of(target))

    def keys(self, limit: int = 1_000_000) -> list[str]:
        """Return the keys that are at the old node still."""
        found: list[str] = self.source.command("CLUSTER", "GETKEYSINSLOT", self.slot, limit)
        return found

    def move(self, count: int) -> int:
        """Move up to so many keys, and return how many."""
        return self.move_keys(self.keys(count))

    def move_keys(self, keys: Sequence[str]) -> int:
        """Move these keys, and return how many; those that are gone do not matter."""
        if keys:
            password = self.target.password
            self.source.command(
                *("MIGRATE", self.target.host, self.target.port, "", 0, _MIGRATE_MILLISECONDS),
                *(() if password is None else ("AUTH", password)),
                "KEYS",
                *keys,
            )
        return len(keys)

    def finish(self) -> None:
        """Move what is left, and give the slot to the new node."""
        while self.move(100):
            pass
        self._cluster.assign(self.slot, self.target)
        self.is_over = True

    def give_up(self) -> None:
        """Leave the slot where it was; keys that have moved move back.

        In one step at the old node, which serves the slot from then on: who asks for it has all
        keys again, and makes none anew that are on their way.
        """
        back = self.target.command("CLUSTER", "GETKEYSINSLOT", self.slot, 1_000_000)
        words: list[str | bytes] = []
        with _client(self.target) as client:
            for key in back:
                pipeline = client.pipeline(transaction=False)
                for command in ("DUMP", "PTTL", "DEL"):
                    pipeline.execute_command("ASKING")
                    pipeline.execute_command(command, key)
                _, body, _, left, *_ = pipeline.execute()
                words += [key, body, str(max(left, 0))]
        with _client(self.source) as client:
            # Valkey 8.1 crashes if this is part of a script or a transaction. There it is two
            # steps, and a counter that comes in between fails the test.
            valkey = "valkey_version" in client.info("server")
            step = client.pipeline(transaction=not valkey)
            step.execute_command("CLUSTER SETSLOT", self.slot, "STABLE")
            step.execute_command("EVAL", _COME_BACK, 0, *words)
            step.execute()
        self.target.command("CLUSTER", "SETSLOT", self.slot, "STABLE")
        self.is_over = True


def _client(node: ClusterNode) -> redis.Redis:
    return redis.Redis(host=node.host, port=node.port, password=node.password, protocol=2)


def _parse(nodes: str) -> _View:
    """Read the reply to CLUSTER NODES."""
    primaries: dict[str, str] = {}
    slots: dict[tuple[int, int], str] = {}
    failing = set()
    epochs: dict[str, int] = {}
    for line in nodes.splitlines():
        name, _, flags, primary, _, _, epoch, _ = line.split()[:8]
        primaries[name] = name if primary == "-" else primary
        if {"fail", "fail?"} & set(flags.split(",")):
            failing.add(name)
        for word in line.split()[8:]:
            if not word.startswith("["):  # one that moves
                first, _, last = word.partition("-")
                slots[int(first), int(last or first)] = name
                epochs[name] = int(epoch)
    return _View(primaries, slots, frozenset(failing), epochs)
