"""A private redis-server that tests may kill, freeze and restart."""

import atexit
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import redis
import trio
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.harness.binary import RedisServerMissing, find_redis_server, major_version
from tests.harness.launch import (
    PortTakenError,
    RedisServerError,
    ServerDirectory,
    Started,
    arguments,
)
from tests.harness.ports import LOOPBACK, free_port, give_back
from tests.harness.processes import Guard, freeze, thaw

__all__ = ["RedisServer", "RedisServerError", "RedisServerMissing"]

_START_SECONDS = 15.0
_STOP_SECONDS = 5.0
_COMMAND_SECONDS = 5.0
# Short, so that an exit is noticed soon when the port is a silent stranger's.
_PROBE_SECONDS = 0.2
_POLL_SECONDS = 0.005


class RedisServer(Started):
    """One redis-server process on a loopback port and a unix socket.

    The port, the socket and the data directory stay the same for the life of
    the object, however often the process is stopped and started. The methods
    block the calling thread; the `_async` twins run in a worker thread, for
    tests whose other tasks must go on meanwhile.

    Args:
        persistent: keep an append-only file, synced on every write, so that
            even `kill` loses no acknowledged write.
        replica_of: follow this server, read-only.
        config: further configuration directives, for example
            `{"requirepass": "secret", "maxmemory": "3mb"}`.
        environment: what it is told beside our own environment.
        choose_port: returns the port to listen on, another one at each call;
            it goes to `give_back` in the end.
    """

    def __init__(
        self,
        *,
        persistent: bool = False,
        replica_of: "RedisServer | None" = None,
        config: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
        choose_port: Callable[[], int] = free_port,
    ) -> None:
        self._binary = find_redis_server()
        self._persistent = persistent
        self._replica_of = replica_of
        self._config = dict(config or {})
        self._environment = dict(environment or {})
        self._choose_port = choose_port
        self._port = choose_port()
        self._directory = ServerDirectory()
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: Guard | None = None
        self._ever_started = False
        self._owner = os.getpid()
        atexit.register(self.close)

    def __repr__(self) -> str:
        state = "down" if self._process is None else f"pid {self._process.pid}"
        return f"<RedisServer port {self._port} {state}>"

    @property
    def host(self) -> str:
        """The address it listens on."""
        return LOOPBACK

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._port

    @property
    def password(self) -> str | None:
        """The `requirepass` of the configuration."""
        return self._config.get("requirepass")

    @property
    def url(self) -> str:
        """The TCP address as a redis-py URL, with the password if there is one."""
        return f"redis://{self._userinfo}{LOOPBACK}:{self._port}/0"

    @property
    def unix_url(self) -> str:
        """The unix socket as a redis-py URL, with the password if there is one."""
        return f"unix://{self._userinfo}{self._directory.socket}?db=0"

    @property
    def pid(self) -> int:
        """The running process.

        Raises:
            RuntimeError: the server is down.
        """
        return self._running().pid

    @property
    def is_running(self) -> bool:
        """Whether the process exists, paused or not."""
        return self._process is not None and self._process.poll() is None

    @property
    def version(self) -> tuple[int, ...]:
        """The server's version, for example `(7, 0, 15)`."""
        text = self.command("INFO", "server")["redis_version"]
        return tuple(int(part) for part in text.split("."))

    def start(self) -> None:
        """Start the process and wait until it answers; a replica, until in sync.

        Raises:
            RedisServerError: it exited or did not answer in time.
        """
        if self.is_running:
            return
        self.kill()
        while True:
            try:
                self._spawn()
            except PortTakenError:
                # Somebody listens there who did not ask `free_port`.
                # Later the address is known to clients and must not change.
                if self._ever_started:
                    raise
                give_back(self._port)
                self._port = self._choose_port()
            else:
                break
        self._ever_started = True
        if self._replica_of is not None:
            self.wait_in_sync()

    def stop(self) -> None:
        """End the process in good order (SIGTERM); the data directory stays."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        # A stopped process handles nothing but SIGKILL.
        self._process.send_signal(signal.SIGCONT)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_STOP_SECONDS)
        self.kill()

    def kill(self) -> None:
        """End the process at once (SIGKILL); the data directory stays."""
        if self._process is None:
            return
        self._process.kill()
        if self._guard is not None:
            self._guard.dismiss()
            self._guard = None
        self._process.wait()
        self._process = None

    def restart(self, *, empty: bool) -> None:
        """Kill the process if it runs and start another on the same port.

        Args:
            empty: lose all data. Otherwise the server must be `persistent`.

        Raises:
            ValueError: data was to be kept by a server that keeps none.
            RedisServerError: the new process did not start.
        """
        if not empty and not self._persistent:
            raise ValueError("only a persistent server keeps data over a restart")
        self.kill()
        if empty:
            self._directory.wipe_data()
        self.start()

    def pause(self) -> None:
        """Freeze the process (SIGSTOP): connections stay open and silent."""
        freeze(self.pid)

    def resume(self) -> None:
        """Let a paused process go on (SIGCONT)."""
        thaw(self.pid)

    def close(self) -> None:
        """End the process and remove its files; idempotent."""
        # A forked child inherits the exit handler, but not the server.
        if os.getpid() != self._owner:
            return
        atexit.unregister(self.close)
        self.kill()
        self._directory.remove()
        give_back(self._port)

    def command(self, *args: str | float | bytes) -> Any:
        """Run one command on a connection of its own and return the reply.

        Replies are decoded and shaped as redis-py does it, for example a dict
        for INFO.

        Raises:
            redis.RedisError: the server is down, silent for 5 seconds, or
                refused the command.
        """
        return self._ask(_COMMAND_SECONDS, *args)

    def wait_in_sync(self) -> None:
        """Wait until this replica has everything its primary has written.

        Raises:
            RedisServerError: it took too long.
            ValueError: this server was not made with `replica_of`.
        """
        if self._replica_of is None:
            raise ValueError("not a replica")
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            info = self.command("INFO", "replication")
            if info.get("master_link_status") == "up":
                wanted = self._replica_of.command("INFO", "replication")
                offset = self.command("INFO", "replication")["slave_repl_offset"]
                if offset >= wanted["master_repl_offset"]:
                    return
            time.sleep(_POLL_SECONDS)
        raise RedisServerError(f"replica is not in sync\n{self._directory.log_tail()}")

    def promote(self) -> None:
        """Make this replica a primary, as a failover does."""
        self.command("REPLICAOF", "NO", "ONE")

    async def start_async(self) -> None:
        """Like `start`, in a thread; a checkpoint, not cancellable once begun."""
        await trio.to_thread.run_sync(self.start)

    async def stop_async(self) -> None:
        """Like `stop`, in a thread; a checkpoint, not cancellable once begun."""
        await trio.to_thread.run_sync(self.stop)

    async def restart_async(self, *, empty: bool) -> None:
        """Like `restart`, in a thread; a checkpoint, not cancellable once begun."""
        await trio.to_thread.run_sync(partial(self.restart, empty=empty))

    async def command_async(self, *args: str | float | bytes) -> Any:
        """Like `command`, in a thread; a checkpoint, not cancellable once begun."""
        return await trio.to_thread.run_sync(self.command, *args)

    @property
    def _userinfo(self) -> str:
        return "" if self.password is None else f":{self.password}@"

    def _ask(self, timeout: float, *args: str | float | bytes) -> Any:
        client = redis.Redis(
            host=LOOPBACK,
            port=self._port,
            password=self.password,
            # Also keeps newer clients from asking for maintenance notifications.
            protocol=2,
            decode_responses=True,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
        )
        try:
            execute: Callable[..., Any] = client.execute_command
            return execute(*args)
        finally:
            client.close()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("the server is not running")
        return self._process

    def _arguments(self) -> list[str]:
        """Return the command line, without the program; asked at every start."""
        primary = self._replica_of
        return arguments(
            self._port,
            self._directory,
            self._config,
            major_version=major_version(self._binary),
            persistent=self._persistent,
            primary=None if primary is None else (primary.port, primary.password),
        )

    def _spawn(self) -> None:
        """Start the process and wait for its first answer."""
        words = self._arguments()
        with self._directory.log.open("wb") as log:
            # No session of its own: whoever ends the tests' process group
            # (a terminal, a CI runner) ends the server with it.
            self._process = subprocess.Popen(
                [self._binary, *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._directory.data,
                env={**os.environ, **self._environment},
            )
        try:
            self._guard = Guard(self._process.pid, self._directory.path)
            self._wait_until_answering(self._process)
        except BaseException:
            self.kill()
            raise

    def _wait_until_answering(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if process.poll() is not None:
                log = self._directory.log_tail()
                error = PortTakenError if "already in use" in log else RedisServerError
                raise error(f"redis-server exited ({process.returncode})\n{log}")
            try:
                # Not PING: a stranger on the port could answer that, too.
                if self._ask(_PROBE_SECONDS, "INFO", "server")["process_id"] == process.pid:
                    return
            except redis.RedisError:
                # Not yet listening, or still loading its data.
                pass
            time.sleep(_POLL_SECONDS)
        raise RedisServerError(f"redis-server does not answer\n{self._directory.log_tail()}")
