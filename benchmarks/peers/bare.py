"""The least that a trio program can do: write HINCRBY to a socket, read the answer."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import hiredis
import trio

from benchmarks.load import Inc
from benchmarks.peers.resp import pack

NAME = "bare trio socket"

_HASH = "bare"


@asynccontextmanager
async def bare_socket(host: str, port: int) -> AsyncGenerator[Inc]:
    """Return what increments over one connection, for one task."""
    stream = await trio.open_tcp_stream(host, port)
    reader = hiredis.Reader()

    async def inc(key: str) -> object:
        await stream.send_all(pack("HINCRBY", _HASH, key, 1))
        while (answer := reader.gets()) is False:
            reader.feed(bytes(await stream.receive_some(65_536)))
        return answer

    async with stream:
        yield inc
