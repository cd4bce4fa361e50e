"""What a server tells of itself.

The calls block, so that what is being measured stands still meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.harness.server import RedisServer


@dataclass(frozen=True, slots=True)
class Use:
    """How often a command was called, and the server time it took in all."""

    calls: int
    microseconds: float


def use_of(server: RedisServer, command: str) -> Use:
    """Return the use of a command since the start, or since `forget_use`.

    What a script calls counts as well.
    """
    info = server.command("INFO", "commandstats")
    found = info.get(f"cmdstat_{command}", {"calls": 0, "usec": 0})
    return Use(int(found["calls"]), float(found["usec"]))


def forget_use(server: RedisServer) -> None:
    """Let all uses begin at 0."""
    server.command("CONFIG", "RESETSTAT")


def cpu_of(server: RedisServer) -> float:
    """Return the CPU time of a server in seconds, user's and system's."""
    info = server.command("INFO", "cpu")
    return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])


def memory_of(server: RedisServer) -> int:
    """Return the bytes that a server has allocated."""
    info = server.command("INFO", "memory")
    return int(info["used_memory"])
