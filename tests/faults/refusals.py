"""Why a server may refuse what it is asked, and how to make it do so and stop it."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
import redis
import trio

from distkit_actors import StoreError, StoreUnavailableError
from tests.faults.fleet import HEARTBEAT, until
from tests.harness.server import RedisServer


@dataclass(frozen=True)
class Refusal:
    """How a server begins to refuse, how it ends, and what its errors say."""

    message: str
    begin: Callable[[RedisServer], Awaitable[None]]
    end: Callable[[RedisServer], Awaitable[None]]

    @contextmanager
    def raised(self) -> Iterator[None]:
        """Expect the refusal, which is not the error of a store that is away."""
        with pytest.raises(StoreError, match=self.message) as caught:
            yield
        assert not isinstance(caught.value, StoreUnavailableError)

    async def expected(self, call: Callable[[], Awaitable[object]]) -> None:
        """Make a call that must be refused."""
        with self.raised():
            await call()


async def _run_out_of_memory(server: RedisServer) -> None:
    await server.command_async("CONFIG", "SET", "maxmemory", "1")


async def _get_memory(server: RedisServer) -> None:
    await server.command_async("CONFIG", "SET", "maxmemory", "0")


async def _fail_to_save(server: RedisServer) -> None:
    data = server.command("CONFIG", "GET", "dir")[1]
    # A directory stands where the file should go: even root cannot write it.
    server.command("CONFIG", "SET", "dbfilename", "taken")
    await trio.Path(data, "taken", "by", "a", "directory").mkdir(parents=True)
    server.command("CONFIG", "SET", "save", "3600 1")
    server.command("BGSAVE")
    await until(lambda: server.command("INFO", "persistence")["rdb_last_bgsave_status"] == "err", 5)


async def _do_without_saving(server: RedisServer) -> None:
    server.command("CONFIG", "SET", "stop-writes-on-bgsave-error", "no")


async def _take_rights_away(server: RedisServer) -> None:
    await server.command_async("ACL", "SETUSER", "default", "-evalsha")


async def _grant_rights(server: RedisServer) -> None:
    await server.command_async("ACL", "SETUSER", "default", "+evalsha")


async def _ask_for_password(server: RedisServer) -> None:
    await server.command_async("ACL", "SETUSER", "tester", "on", ">x", "~*", "+@all")
    await server.command_async("CONFIG", "SET", "requirepass", "secret")
    _as_tester(server, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    await trio.sleep(HEARTBEAT + 0.1)  # a request on a dead connection would be in doubt


async def _ask_for_none(server: RedisServer) -> None:
    _as_tester(server, "CONFIG", "SET", "requirepass", "")


def _as_tester(server: RedisServer, *words: str) -> None:
    """Run a command as a user with a password, whatever the others need."""
    client = redis.Redis(port=server.port, username="tester", password="x", protocol=2)
    client.response_callbacks.clear()
    try:
        client.execute_command(*words)
    finally:
        client.close()


REFUSALS = {
    "out of memory": Refusal("OOM", _run_out_of_memory, _get_memory),
    "cannot save": Refusal("MISCONF", _fail_to_save, _do_without_saving),
    "rights taken away": Refusal("NOPERM", _take_rights_away, _grant_rights),
    "password set": Refusal("NOAUTH", _ask_for_password, _ask_for_none),
}
