"""A primary with replicas and the sentinels that watch over them, on loopback."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import redis

from tests.harness.launch import PATIENCE, Started, wait_until
from tests.harness.ports import LOOPBACK
from tests.harness.server import RedisServer

SERVICE = "service"


class SentinelError(RuntimeError):
    """The sentinels did not do as they were told."""


class WatchedServer(RedisServer):
    """A server with a configuration file, in which sentinels have it note its primary."""

    def _arguments(self) -> list[str]:
        file = self._directory.path / "server.conf"
        file.touch()
        return [str(file), *super()._arguments()]


class Sentinel(RedisServer):
    """A sentinel; it keeps what it learns over a restart.

    Args:
        lines: its configuration at its first start.
        password: what clients and other sentinels have to say to it.
    """

    def __init__(self, lines: Sequence[str], password: str | None) -> None:
        super().__init__(config={} if password is None else {"requirepass": password})
        self._lines = list(lines)
        self._is_new = True

    def forget(self, lines: Sequence[str]) -> None:
        """Let it know nothing but this from its next start on."""
        self._lines = list(lines)
        self._is_new = True

    def _arguments(self) -> list[str]:
        file = self._directory.path / "sentinel.conf"
        # The port may be another one until it has started for the first time.
        if self._is_new or not self._ever_started:
            self._is_new = False
            own = [f"port {self.port}", f"bind {LOOPBACK}", f"dir {self._directory.data}"]
            if self.password is not None:
                own += [f"requirepass {self.password}", f"sentinel sentinel-pass {self.password}"]
            file.write_text("\n".join([*own, *self._lines, ""]))
        return [str(file), "--sentinel"]


class Switch:
    """Hears from one sentinel which server is the primary from now on."""

    def __init__(self, pubsub: Any) -> None:
        self._pubsub = pubsub

    def wait(self) -> tuple[int, int]:
        """Wait for the next ``+switch-master`` and return the old and the new port.

        Raises:
            SentinelError: it took too long.
        """
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            message = self._pubsub.get_message(timeout=PATIENCE)
            if message is not None and message["type"] == "message":
                _, _, old, _, new = message["data"].split()
                return int(old), int(new)
        raise SentinelError(f"no +switch-master in {PATIENCE:g} s")


class SentinelTrio(Started):
    """One primary, replicas and sentinels; they know each other once the `with` is entered.

    Methods block the calling thread; in trio call them with
    `trio.to_thread.run_sync`. Servers and sentinels may be killed, paused,
    resumed and started again by their own methods.

    A primary that is away for longer than ``down_after`` loses its place. Some
    10 s after it is back, or has given its place away, the sentinels make it a
    replica; `wait_until_ok` does so at once.

    Args:
        replicas: how many.
        sentinels: how many.
        down_after: seconds of silence after which a server is taken for down.
        password: of the servers.
        sentinel_password: of the sentinels.
        persistent: have the servers keep an append-only file.
        config: further directives for each server.
        announced_ports: what clients and sentinels are told instead of the
            ports on which the servers listen, one for each server: those of
            proxies.

    Attributes:
        servers: the primary of the beginning, then the replicas.
        sentinels: the sentinels.
        service: under which name they watch over the servers.
        password: as given.
        sentinel_password: as given.
    """

    def __init__(
        self,
        *,
        replicas: int = 2,
        sentinels: int = 3,
        down_after: float = 1.0,
        password: str | None = None,
        sentinel_password: str | None = None,
        persistent: bool = False,
        config: Mapping[str, str] | None = None,
        announced_ports: Sequence[int] | None = None,
    ) -> None:
        if announced_ports is not None and len(announced_ports) != 1 + replicas:
            raise ValueError(f"{1 + replicas} servers need as many announced ports")
        self.service = SERVICE
        self.password = password
        self.sentinel_password = sentinel_password
        self._count = sentinels
        self._down_after = round(down_after * 1000)
        self._announced = announced_ports
        common = {"repl-ping-replica-period": "1"} | dict(config or {})
        if password is not None:
            common |= {"requirepass": password, "masterauth": password}
        self.servers = [
            WatchedServer(
                persistent=persistent,
                config=common
                if announced_ports is None
                else common | {"replica-announce-port": str(announced_ports[number])},
            )
            for number in range(1 + replicas)
        ]
        self.sentinels: list[Sentinel] = []

    @property
    def ports(self) -> list[int]:
        """Where clients find each server: its announced port, or else its own."""
        return list(self._announced or [server.port for server in self.servers])

    @property
    def primary(self) -> RedisServer:
        """The server that the sentinels call the primary."""
        return self.servers[self.ports.index(self.primary_address()[1])]

    @property
    def replicas(self) -> list[RedisServer]:
        """The other servers, whether they run or not."""
        primary = self.primary
        return [server for server in self.servers if server is not primary]

    def start(self) -> None:
        """Start all and wait until they know each other; for once.

        Raises:
            RedisServerError: one did not start.
            SentinelError: they did not find each other in time.
        """
        with ThreadPoolExecutor(max(len(self.servers), self._count)) as threads:
            list(threads.map(RedisServer.start, self.servers))
            port = self.ports[0]
            for replica in self.servers[1:]:
                replica.command("REPLICAOF", LOOPBACK, port)
                replica.command("CONFIG", "REWRITE")
            self._wait("the replicas are in sync", self._in_sync)
            lines = self._lines(port)
            self.sentinels += [Sentinel(lines, self.sentinel_password) for _ in range(self._count)]
            list(threads.map(RedisServer.start, self.sentinels))
        self._wait("the sentinels know each other", self._nobody_missed)

    def close(self) -> None:
        """End all and remove their files; idempotent."""
        with ExitStack() as stack:
            for server in (*self.servers, *self.sentinels):
                stack.callback(server.close)

    def primary_address(self) -> tuple[str, int]:
        """Return host and port of the primary, once all running sentinels say the same."""
        said: list[Any] = []

        def agreed() -> bool:
            said[:] = [
                sentinel.command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.service)
                for sentinel in self.sentinels
                if sentinel.is_running
            ]
            return all(one == said[0] for one in said)

        self._wait("the sentinels agree", agreed)
        host, port = said[0]
        return str(host), int(port)

    def failover(self) -> RedisServer:
        """Have the sentinels swap the primary for a replica, and return the new one.

        It returns once the new one takes writes and all sentinels know. The
        old one goes on to take writes for a moment, and loses them.

        Raises:
            SentinelError: they cannot, or it took too long.
        """
        old = self.primary
        sentinel = next(sentinel for sentinel in self.sentinels if sentinel.is_running)

        def ordered() -> bool:
            try:
                sentinel.command("SENTINEL", "FAILOVER", self.service)
            except redis.ResponseError as error:
                # It asks servers how they are every 10 s only, and may know of no good replica;
                # or it is about another failover still.
                if not str(error).startswith(("NOGOODSLAVE", "INPROG")):
                    raise
                return False
            return True

        with self.switches() as switch:
            self._wait("the order is taken", ordered)
            switch.wait()
        return self.wait_for_heir(old)

    def kill_primary(self) -> RedisServer:
        """Kill the primary, and return it; nothing waits for another one."""
        primary = self.primary
        primary.kill()
        return primary

    def wait_for_heir(self, old: RedisServer) -> RedisServer:
        """Wait until another server is the primary for all sentinels and itself; return it.

        Raises:
            SentinelError: it took too long.
        """

        def replaced() -> bool:
            primary = self.primary
            return primary is not old and primary.command("ROLE")[0] == "master"

        self._wait(f"another server instead of {old}", replaced)
        return self.primary

    def swap_roles(self, heir: RedisServer) -> None:
        """Make another server the primary with REPLICAOF, of which the sentinels know nothing.

        They find out after some 20 s; `monitor` tells them. It returns once the others follow.
        """
        heir.promote()
        heir.command("CONFIG", "REWRITE")
        self._follow(heir)
        self._wait("the replicas are in sync", self._in_sync)

    def monitor(self, primary: RedisServer) -> None:
        """Start the sentinels again, with this primary, and no memory of another one.

        All end before any starts: one that remembers would have the others take over what it knows.
        """
        lines = self._lines(self.ports[self.servers.index(primary)])
        for sentinel in self.sentinels:
            sentinel.kill()
            sentinel.forget(lines)
        with ThreadPoolExecutor(self._count) as threads:
            list(threads.map(RedisServer.start, self.sentinels))

    def wait_until_ok(self) -> None:
        """Wait until nobody is missed, and the others follow the primary, in sync.

        All servers and sentinels have to run. Servers that follow another one
        or nobody are told to follow the primary.

        Raises:
            SentinelError: it took too long.
        """
        followed: list[RedisServer] = []

        def in_sync() -> bool:
            # On a slow machine the sentinels may swap once more.
            if [primary := self.primary] != followed:
                self._follow(primary)
                followed[:] = [primary]
            return self._in_sync()

        reset: set[Sentinel] = set()

        def nobody_missed() -> bool:
            for sentinel in set(self.sentinels) - reset:
                if self._knows_too_many(sentinel):
                    sentinel.command("SENTINEL", "RESET", self.service)
                    reset.add(sentinel)
            return self._nobody_missed()

        self._wait("the replicas are in sync", in_sync)
        self._wait("the sentinels miss nobody", nobody_missed)

    @contextmanager
    def switches(self) -> Iterator[Switch]:
        """Listen for changes of the primary, as the first sentinel that runs tells them."""
        sentinel = next(sentinel for sentinel in self.sentinels if sentinel.is_running)
        with (
            redis.Redis(
                host=LOOPBACK,
                port=sentinel.port,
                password=sentinel.password,
                protocol=2,
                decode_responses=True,
            ) as client,
            client.pubsub() as pubsub,
        ):
            pubsub.subscribe("+switch-master")
            # Once it is confirmed, nothing is missed.
            assert pubsub.get_message(timeout=PATIENCE)
            yield Switch(pubsub)

    def _lines(self, port: int) -> list[str]:
        """Return the configuration of a sentinel, if the primary has this port."""
        lines = [
            f"sentinel monitor {self.service} {LOOPBACK} {port} {self._count // 2 + 1}",
            f"sentinel down-after-milliseconds {self.service} {self._down_after}",
            f"sentinel failover-timeout {self.service} {max(4 * self._down_after, 5_000)}",
        ]
        if self.password is not None:
            lines.append(f"sentinel auth-pass {self.service} {self.password}")
        return lines

    def _follow(self, primary: RedisServer) -> None:
        port = self.ports[self.servers.index(primary)]
        for replica in self.servers:
            if replica is primary:
                continue
            role = replica.command("ROLE")
            if role[0] == "master" or role[2] != port:
                replica.command("REPLICAOF", LOOPBACK, port)
                replica.command("CONFIG", "REWRITE")

    def _in_sync(self) -> bool:
        roles = [server.command("ROLE") for server in self.servers]
        primaries = [number for number, role in enumerate(roles) if role[0] == "master"]
        if len(primaries) != 1:
            return False
        return all(
            role[0] == "master" or (role[2] == self.ports[primaries[0]] and role[3] == "connected")
            for role in roles
        )

    def _nobody_missed(self) -> bool:
        for sentinel in self.sentinels:
            primary = _fields(sentinel.command("SENTINEL", "MASTER", self.service))
            replicas = sentinel.command("SENTINEL", "REPLICAS", self.service)
            others = sentinel.command("SENTINEL", "SENTINELS", self.service)
            if len(replicas) != len(self.servers) - 1 or len(others) != self._count - 1:
                return False
            if any(map(_is_missed, [primary, *map(_fields, replicas), *map(_fields, others)])):
                return False
        return True

    def _knows_too_many(self, sentinel: Sentinel) -> bool:
        """Tell whether it knows of somebody who is no more.

        A late word of a sentinel that `monitor` has ended is believed, and then remembered for
        ever. To forget somebody takes a RESET, after which it finds all others again.
        """
        replicas = sentinel.command("SENTINEL", "REPLICAS", self.service)
        others = sentinel.command("SENTINEL", "SENTINELS", self.service)
        return len(replicas) > len(self.servers) - 1 or len(others) > self._count - 1

    def _wait(self, what: str, met: Callable[[], bool]) -> None:
        wait_until(what, met, lambda why: SentinelError(f"{why}\n{self._logs()}"))

    def _logs(self) -> str:
        return "\n".join(
            f"{one}:\n{one._directory.log_tail()}" for one in (*self.servers, *self.sentinels)
        )


def _fields(words: Sequence[str]) -> dict[str, str]:
    """Return what a sentinel says of a server: names and values take turns."""
    return dict(zip(words[::2], words[1::2], strict=True))


def _is_missed(seen: Mapping[str, str]) -> bool:
    return bool({"s_down", "o_down", "disconnected"} & set(seen["flags"].split(",")))
