"""The servers of a run, and what they tell of themselves. The only module that knows the tests.

The calls block, so that what is being measured stands still meanwhile.
"""

from __future__ import annotations

import os
import shlex
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from unittest import mock

from tests.harness.binary import ENV_VAR, find_redis_server
from tests.harness.cluster import RedisCluster
from tests.harness.server import RedisServer

__all__ = [
    "RedisCluster",
    "RedisServer",
    "Use",
    "calls",
    "cpu",
    "forget_use",
    "memory",
    "tool",
    "use",
    "wrapped",
]


class Use(NamedTuple):
    """How often a command was called, and the server time it took in all."""

    calls: int
    microseconds: float


def use(server: RedisServer, command: str) -> Use:
    """Return the use of a command since the start, or since `forget_use`.

    What a script calls counts as well.
    """
    info = server.command("INFO", "commandstats")
    found = info.get(f"cmdstat_{command}", {"calls": 0, "usec": 0})
    return Use(int(found["calls"]), float(found["usec"]))


def forget_use(server: RedisServer) -> None:
    """Let all uses begin at 0."""
    server.command("CONFIG", "RESETSTAT")


def calls(server: RedisServer) -> int:
    """Return how many commands were called, by clients and by scripts, since `forget_use`.

    Those by which a benchmark asks and resets do not count.
    """
    info = server.command("INFO", "commandstats")
    own = ("cmdstat_info", "cmdstat_config", "cmdstat_client", "cmdstat_hello")
    return sum(int(found["calls"]) for name, found in info.items() if not name.startswith(own))


def cpu(server: RedisServer) -> float:
    """Return the CPU time of a server in seconds, user's and system's."""
    info = server.command("INFO", "cpu")
    return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])


def memory(server: RedisServer) -> int:
    """Return the bytes that a server has allocated, without the garbage of its Lua.

    Redis 8 counts what Lua takes, and more of that is garbage than some things weigh.
    """
    server.command("EVAL", "collectgarbage()", 0)
    return int(server.command("INFO", "memory")["used_memory"])


def tool(name: str) -> Path | None:
    """Return a program that is installed beside the server which runs, such as redis-benchmark."""
    found = find_redis_server().with_name(name)
    return found if found.is_file() else None


@contextmanager
def wrapped(*words: str) -> Generator[RedisServer]:
    """Run a server by another program, such as valgrind; it is ended in good order."""
    binary = shlex.quote(str(find_redis_server()))
    with tempfile.TemporaryDirectory() as directory:
        script = Path(directory) / "redis-server"
        # A question for the version is for the server itself.
        script.write_text(
            f'#!/bin/sh\n[ "$1" = --version ] && exec {binary} "$1"\n'
            f'exec {shlex.join(words)} {binary} "$@"\n'
        )
        script.chmod(0o700)
        with mock.patch.dict(os.environ, {ENV_VAR: str(script)}):
            server = RedisServer()
        with server:
            yield server
            server.stop()
