"""Processes that a measurement starts, and the conversation with them.

A child is a module of this package. It writes one line of JSON when it is ready, then
answers each line on its standard input with one on its output, and ends when its input does.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeAlias, cast

import trio

Answer: TypeAlias = dict[str, float]

_ROOT = Path(__file__).parents[2]


class ChildDiedError(Exception):
    """A child ended before it had answered; what it had to say is on standard error."""


class Child:
    """A process, as its parent sees it.

    Attributes:
        greeting: What it said when it was ready.
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

    async def answer(self) -> Answer:
        """Return the next line."""
        assert self._process.stdout is not None
        while b"\n" not in self._buffer:
            received = await self._process.stdout.receive_some()
            if not received:
                raise ChildDiedError(f"a child ended with {await self._process.wait()}")
            self._buffer += received
        line, _, rest = self._buffer.partition(b"\n")
        self._buffer = rest
        return cast("Answer", json.loads(line))

    async def kill(self) -> None:
        """End it at once, with no chance to say good-bye."""
        self._process.kill()
        await self._process.wait()


@asynccontextmanager
async def spawn(
    module: str, *arguments: str, env: Mapping[str, str] | None = None
) -> AsyncGenerator[Child]:
    """Start a module of this package, wait until it is ready, and kill it in the end."""
    process = await trio.lowlevel.open_process(
        [sys.executable, "-m", f"{__name__}.{module}", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=_ROOT,
        env={**os.environ, **(env or {})},
    )
    try:
        child = Child(process)
        child.greeting = await child.answer()
        yield child
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
            for stream in (process.stdin, process.stdout):
                assert stream is not None
                await stream.aclose()
