"""Servers that are no Redis, to be reached by a Redis URL."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

import trio

from tests.harness.ports import LOOPBACK

Handler = Callable[[trio.abc.Stream], Awaitable[None]]


async def listen(
    nursery: trio.Nursery, handler: Handler, context: ssl.SSLContext | None = None
) -> int:
    """Serve connections on loopback, with TLS if there is a context; return the port."""

    async def serve(stream: trio.abc.Stream) -> None:
        try:
            with suppress(trio.BrokenResourceError):
                await handler(stream)
        finally:
            await trio.aclose_forcefully(stream)

    if context is None:
        start = partial(trio.serve_tcp, serve, 0, host=LOOPBACK)
    else:
        start = partial(trio.serve_ssl_over_tcp, serve, 0, context, host=LOOPBACK)
    listeners = await nursery.start(start)
    listener = listeners[0]
    listener = getattr(listener, "transport_listener", listener)
    return int(listener.socket.getsockname()[1])


def leading_to(port: int, *, slowly: bool = False) -> Handler:
    """Carry everything to another port, and back; ``slowly``: there in small pieces."""

    async def carry(stream: trio.abc.Stream) -> None:
        server = await trio.open_tcp_stream(LOOPBACK, port)

        async def forward(source: trio.abc.Stream, sink: trio.abc.Stream) -> None:
            with suppress(trio.BrokenResourceError):  # a client that does not trust us
                while data := await source.receive_some(4_000 if slowly else None):
                    await sink.send_all(data)
                    if slowly and sink is server:
                        await trio.sleep(0.001)
            nursery.cancel_scope.cancel()

        async with server, trio.open_nursery() as nursery:
            nursery.start_soon(forward, stream, server)
            nursery.start_soon(forward, server, stream)

    return carry


def saying(answer: bytes) -> Handler:
    """Answer the first words with others, and close."""

    async def say(stream: trio.abc.Stream) -> None:
        await stream.receive_some()
        await stream.send_all(answer)

    return say


async def repeat(stream: trio.abc.Stream) -> None:
    """Answer with what was said."""
    while data := await stream.receive_some():
        await stream.send_all(bytes(data))


async def complain(stream: trio.abc.Stream) -> None:
    """Answer with an error that repeats what was said, as servers do that do not know it."""
    while data := bytes(await stream.receive_some()):
        words = data.split(b"\r\n")[2::2]
        said = b" ".join(words).replace(b"\n", b" ")
        await stream.send_all(b"-ERR what is `%s`?\r\n" % said)


async def babble(stream: trio.abc.Stream) -> None:
    """Answer with what was said, in no protocol."""
    words = bytes(await stream.receive_some()).split(b"\r\n")[2::2]
    await stream.send_all(b"".join(words[1:]) + b"\r\n")


async def keep_silent(stream: trio.abc.Stream) -> None:
    """Answer nothing."""
    while await stream.receive_some():
        pass
