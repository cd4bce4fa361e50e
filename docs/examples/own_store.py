"""A store of one's own: namespaces in a server process of ours, reached over any trio stream."""

from __future__ import annotations

import pickle
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import trio

from distkit_actors import Store, StoreUnavailableError
from distkit_actors.abc import Link, Namespace, Reply, Request


class Server:
    """Keeps the namespaces; `serve` is a handler for `trio.serve_tcp` and the like.

    A restart must not put its ``clock`` back.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._namespaces: defaultdict[str, Namespace] = defaultdict(Namespace)

    async def serve(self, stream: trio.abc.Stream) -> None:
        """Answer the requests of one link, one after another."""
        with suppress(trio.BrokenResourceError):  # it has hung up
            async with stream:
                while (message := await receive(stream)) is not None:
                    prefix, request = pickle.loads(message)  # only those we trust can connect
                    now = int(self._clock() * 1_000_000)
                    # It does not wait for anything, so each request is one atomic step.
                    reply = self._namespaces[prefix].execute(request, now)
                    await send(stream, pickle.dumps(reply))


class OwnStore(Store):
    """Where a `Server` is: ``connect`` makes a stream to it, or raises `OSError`."""

    def __init__(
        self, connect: Callable[[], Awaitable[trio.abc.Stream]], response_timeout: float = 2.0
    ) -> None:
        self._connect = connect
        self._response_timeout = response_timeout

    @asynccontextmanager
    async def link(self, prefix: str) -> AsyncGenerator[Link]:
        """Give one counter its link; it has a connection of its own."""
        link = OwnLink(self._connect, prefix, self._response_timeout)
        try:
            yield link
        finally:
            await link.drop()


class OwnLink(Link):
    """One connection, made again after each failure."""

    def __init__(
        self,
        connect: Callable[[], Awaitable[trio.abc.Stream]],
        prefix: str,
        response_timeout: float,
    ) -> None:
        self._connect = connect
        self._prefix = prefix
        self._response_timeout = response_timeout
        self._stream: trio.abc.Stream | None = None

    @property
    def connected(self) -> bool:
        """Whether there is a connection that has not failed."""
        return self._stream is not None

    async def connect(self) -> None:
        """Make a connection if there is none."""
        await trio.lowlevel.checkpoint()
        if self._stream is None:
            try:
                with trio.fail_after(self._response_timeout):
                    self._stream = await self._connect()
            except (OSError, trio.TooSlowError) as error:
                raise StoreUnavailableError("our server cannot be reached") from error

    async def receive(self, request: Request) -> Reply:
        """Send a request, as there is no `send` before it, and wait for its answer."""
        stream = self._stream
        if stream is None:
            await trio.lowlevel.checkpoint()
            raise StoreUnavailableError("there is no connection")
        answer: bytes | None = None
        try:
            with suppress(trio.BrokenResourceError), trio.move_on_after(self._response_timeout):
                await send(stream, pickle.dumps((self._prefix, request)))
                answer = await receive(stream)
        finally:
            if answer is None:  # cancelled, too: its answer must not be taken for another's
                await self.drop()
        if answer is None:
            # Perhaps it was executed: the counter sends it again, and the store knows repeats.
            raise StoreUnavailableError("the connection to our server was lost")
        reply: Reply = pickle.loads(answer)
        return reply

    async def drop(self) -> None:
        """Close the connection, at once."""
        stream, self._stream = self._stream, None
        if stream is not None:
            await trio.aclose_forcefully(stream)


async def send(stream: trio.abc.Stream, message: bytes) -> None:
    """Send a message behind its length."""
    await stream.send_all(len(message).to_bytes(4, "big") + message)


async def receive(stream: trio.abc.Stream) -> bytes | None:
    """Return the next message; None at the end."""
    header = await receive_exactly(stream, 4)
    return header and await receive_exactly(stream, int.from_bytes(header, "big"))


async def receive_exactly(stream: trio.abc.Stream, count: int) -> bytes | None:
    """Return so many bytes; None if the stream ends before."""
    parts = bytearray()
    while len(parts) < count:
        part = await stream.receive_some(count - len(parts))
        if not part:
            return None
        parts += part
    return bytes(parts)
