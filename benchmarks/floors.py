"""The floors: counting on a bare socket, and with nothing behind it but CPython."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Final, cast

import hiredis
import trio

from benchmarks.load import Inc

BARE: Final = "bare trio socket"


def pack(*words: str | int) -> bytes:
    """Write a command in Redis' protocol."""
    # hiredis' stub takes it for a function of one word.
    return cast("Callable[[tuple[str | int, ...]], bytes]", hiredis.pack_command)(words)


@asynccontextmanager
async def bare_socket(host: str, port: int) -> AsyncGenerator[Inc]:
    """Return what writes HINCRBY to a socket and reads the answer, for one task."""
    stream = await trio.open_tcp_stream(host, port)
    reader = hiredis.Reader()

    async def inc(key: str) -> object:
        await stream.send_all(pack("HINCRBY", "bare", key, 1))
        while (answer := reader.gets()) is False:
            reader.feed(bytes(await stream.receive_some(65_536)))
        return answer

    async with stream:
        yield inc


PLAIN: Final = "plain method"
PLAIN_ASYNC: Final = "plain async method"
PLAIN_DICT: Final = "item of a dict"
PLAIN_GET: Final = "plain method that reads"


class Plain:
    """Counts in an attribute: the floor that CPython itself sets."""

    def __init__(self) -> None:
        self.n = 0

    def inc(self, count: int = 1) -> None:
        self.n += count

    def get(self) -> int:
        return self.n

    async def inc_async(self, count: int = 1) -> int:
        """Do as `inc`, and be a checkpoint, as every async function of trio's style is."""
        await trio.lowlevel.checkpoint()
        self.n += count
        return self.n
