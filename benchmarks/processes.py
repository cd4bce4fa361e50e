"""Processes that a measurement starts, and the conversation with them.

A program of `benchmarks.child` writes one line of JSON when it is ready, then answers each line
on its standard input with one on its output, and ends when its input does.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeAlias, cast

import trio

from benchmarks import server
from benchmarks.load import Load
from benchmarks.server import RedisServer

Answer: TypeAlias = dict[str, float]

_ROOT = Path(__file__).parents[1]


class ChildDiedError(Exception):
    """A child ended before it had answered; what it had to say is on standard error."""


class Child:
    """A process, as its parent sees it.

    Attributes:
        greeting: What it said when it was ready, if it is a program of `benchmarks.child`.
    """

    def __init__(self, process: trio.Process) -> None:
        self.greeting: Answer = {}
        self._process = process
        self._buffer = bytearray()

    async def ask(self, *words: str | float) -> Answer:
        """Send a line and return the answer."""
        assert self._process.stdin is not None
        await self._process.stdin.send_all(" ".join(map(str, words)).encode() + b"\n")
        return await self.answer()

    async def drive(self, *, tasks: int, keys: int, seconds: float) -> Load:
        """Do there as `benchmarks.load.drive` does here, if it is a program that ``load`` loads."""
        return Load(**await self.ask("load", tasks, keys, seconds))

    async def answer(self) -> Answer:
        """Return what the next line says."""
        return cast("Answer", json.loads(await self.line()))

    async def line(self) -> str:
        """Return the next line."""
        assert self._process.stdout is not None
        while b"\n" not in self._buffer:
            received = await self._process.stdout.receive_some()
            if not received:
                raise ChildDiedError(f"a child ended with {await self._process.wait()}")
            self._buffer += received
        line, _, rest = self._buffer.partition(b"\n")
        self._buffer = rest
        return line.decode()

    async def end_input(self) -> None:
        """Let it know that nothing will be asked any more."""
        assert self._process.stdin is not None
        await self._process.stdin.aclose()

    def pause(self) -> None:
        """Let it stand still."""
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it go on after a pause."""
        self._process.send_signal(signal.SIGCONT)

    async def kill(self) -> None:
        """End it at once, with no chance to say good-bye."""
        self._process.kill()
        await self._process.wait()


@asynccontextmanager
async def start(
    module: str, *arguments: str | float, env: Mapping[str, str] | None = None
) -> AsyncGenerator[Child]:
    """Start a module, and kill it in the end."""
    async with launch(sys.executable, "-m", module, *arguments, env=env) as child:
        yield child


@asynccontextmanager
async def launch(
    *words: str | float | Path, env: Mapping[str, str] | None = None
) -> AsyncGenerator[Child]:
    """Start a program, and kill it in the end."""
    process = await trio.lowlevel.open_process(
        [str(word) for word in words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=_ROOT,
        env={**os.environ, **(env or {})},
    )
    try:
        yield Child(process)
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
            for stream in (process.stdin, process.stdout):
                assert stream is not None
                await stream.aclose()


@asynccontextmanager
async def spawn(
    program: str, *arguments: str | float, env: Mapping[str, str] | None = None
) -> AsyncGenerator[Child]:
    """Start a program of `benchmarks.child`, wait until it is ready, and kill it in the end."""
    async with start("benchmarks.child", program, *arguments, env=env) as child:
        child.greeting = await child.answer()
        yield child


class Window(NamedTuple):
    """What was seen of a process and its server: at a moment, or between two."""

    seconds: float
    process_cpu: float
    server_cpu: float
    calls: int


@dataclass(frozen=True)
class Resident:
    """A process that only lives, and the server that it talks to.

    Attributes:
        child: The process, of the program ``resting``.
        server: Its server.
        command: What a beat of it is to the server.
    """

    child: Child
    server: RedisServer
    command: str

    async def watch(self, seconds: float, windows: int) -> list[Window]:
        """Look every ``seconds``; return what happened between the looks."""
        looks = [await self._look()]
        for _ in range(windows):
            await trio.sleep_until(trio.current_time() + seconds)
            looks.append(await self._look())
        return [
            Window(
                after.seconds - before.seconds,
                after.process_cpu - before.process_cpu,
                after.server_cpu - before.server_cpu,
                after.calls - before.calls,
            )
            for before, after in itertools.pairwise(looks)
        ]

    async def _look(self) -> Window:
        process_cpu = (await self.child.ask("read"))["cpu"]
        server_cpu = server.cpu(self.server)
        calls = server.use(self.server, self.command).calls
        return Window(time.perf_counter(), process_cpu, server_cpu, calls)
