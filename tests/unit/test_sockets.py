"""A socket of ours never blocks the trio thread, and sees that the other side has closed."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator
from typing import TypeAlias

import pytest
import trio
import trio.testing
import trustme

from distkit_actors._stores._redis._sockets import SocketStream, TlsStream


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


Secured: TypeAlias = tuple[TlsStream, ssl.SSLSocket]


@pytest.fixture
async def secured() -> AsyncIterator[Secured]:
    """Our end of a TLS connection, and the server's."""
    authority = trustme.CA()
    ours, theirs = ssl.create_default_context(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.configure_trust(ours)
    authority.issue_cert("here").configure_cert(theirs)
    one, other = socket.socketpair()
    one.setblocking(False)
    stream = TlsStream(trio.SocketStream(trio.socket.from_stdlib_socket(one)), ours, "here")
    with theirs.wrap_socket(other, server_side=True, do_handshake_on_connect=False) as server:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, server.do_handshake)
            await stream.handshake()
        server.setblocking(False)
        server.send(b"hello")
        while await stream.receive_some() != b"hello":  # its tickets come first
            pass
        yield stream, server
    stream.close()


def say_goodbye(server: ssl.SSLSocket) -> None:
    """Close as TLS wants it, without waiting for the same from us."""
    with pytest.raises(ssl.SSLWantReadError):
        server.unwrap()


async def test_a_tls_server_that_says_that_it_closes_has_closed(secured: Secured) -> None:
    """Its last words come first."""
    stream, server = secured
    server.send(b"last words")
    say_goodbye(server)
    server.close()
    assert await stream.receive_some() == b"last words"
    assert await stream.receive_some() == b""
    assert stream.receive_nowait() == b""


async def test_who_waits_sees_at_once_that_a_tls_server_closes(
    secured: Secured, nursery: trio.Nursery
) -> None:
    stream, server = secured

    async def close() -> None:
        await trio.testing.wait_all_tasks_blocked()
        say_goodbye(server)

    nursery.start_soon(close)
    assert await stream.receive_some() == b""


async def test_who_only_looks_leaves_it_to_others_to_see_that_a_tls_server_closes(
    secured: Secured,
) -> None:
    stream, server = secured
    say_goodbye(server)
    assert stream.receive_nowait() == b""
    assert await stream.receive_some() == b""
