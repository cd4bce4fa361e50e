"""A socket of ours never blocks the trio thread."""

from __future__ import annotations

import socket

import pytest
import trio

from distkit_actors._stores._redis._sockets import SocketStream


@pytest.fixture
def process_with_a_timeout() -> object:
    socket.setdefaulttimeout(30)
    yield
    socket.setdefaulttimeout(None)


async def test_a_default_timeout_of_the_process_does_not_block_it(
    process_with_a_timeout: object,
) -> None:
    one, other = socket.socketpair()
    with other:
        stream = SocketStream(trio.SocketStream(trio.socket.from_stdlib_socket(one)))
        before = trio.current_time()
        assert stream.receive_nowait() == b""
        data = b"x" * 10_000_000
        stream.write(data)
        assert 0 < len(stream.unsent) < len(data)
        assert trio.current_time() - before < 15
        stream.close()
