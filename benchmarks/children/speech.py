"""The child's half of the conversation."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncGenerator, Iterator

import trio


def say(**answer: float) -> None:
    """Answer with a line."""
    print(json.dumps(answer), flush=True)


def questions() -> Iterator[list[str]]:
    """Return the parent's lines as words; for children that need not do anything meanwhile."""
    for line in sys.stdin:
        yield line.split()


async def questions_on_trio() -> AsyncGenerator[list[str]]:
    """Return the parent's lines as words, one at a time, without a thread that waits."""
    async with trio.lowlevel.FdStream(sys.stdin.fileno()) as stream:
        buffer = b""
        async for received in stream:
            *lines, buffer = (buffer + received).split(b"\n")
            for line in lines:
                yield line.decode().split()
