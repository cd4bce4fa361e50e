"""Processes that only live, watched over a few windows of time."""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import pairwise

import trio

from benchmarks.children import Child
from benchmarks.readings import cpu_of, use_of
from tests.harness.server import RedisServer


@dataclass(frozen=True, slots=True)
class Watched:
    """What one window has shown."""

    seconds: float
    process_cpu: float
    """CPU time of the process, in seconds."""
    server_cpu: float
    """CPU time of its server, in seconds."""
    calls: int
    """Calls of the command that is its heartbeat."""


@dataclass(frozen=True, slots=True)
class _Look:
    at: float
    process_cpu: float
    server_cpu: float
    calls: int


class Resident:
    """A process and the server that it talks to.

    Args:
        child: The process, of `benchmarks.children.resting`.
        server: Its server.
        command: What a beat of it is to the server.
    """

    def __init__(self, child: Child, server: RedisServer, command: str) -> None:
        self._child = child
        self._server = server
        self._command = command

    async def watch(self, seconds: float, windows: int) -> list[Watched]:
        """Look every ``seconds``; return what happened between the looks."""
        looks = [await self._look()]
        for _ in range(windows):
            await trio.sleep_until(trio.current_time() + seconds)
            looks.append(await self._look())
        return [
            Watched(
                after.at - before.at,
                after.process_cpu - before.process_cpu,
                after.server_cpu - before.server_cpu,
                after.calls - before.calls,
            )
            for before, after in pairwise(looks)
        ]

    async def _look(self) -> _Look:
        answer = await self._child.ask("read")
        server_cpu = cpu_of(self._server)
        use = use_of(self._server, self._command)
        return _Look(time.perf_counter(), answer["cpu"], server_cpu, use.calls)


def arguments(kind: str, count: int, server: RedisServer, period: float) -> tuple[str, ...]:
    """Return the arguments of `benchmarks.children.resting`."""
    return kind, str(count), server.host, str(server.port), str(period)
