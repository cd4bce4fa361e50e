"""A connection on a trio stream, with no asyncio anywhere.

redis-py still reads the URL, knows the settings and makes the TLS context; hiredis writes
commands and parses answers. What is left is to send, to receive, and to introduce ourselves.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import hiredis
import trio
from redis.asyncio.connection import AbstractConnection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.connection import Connection as TcpConnection

from ..._errors import StoreError
from ._addresses import open_tcp_stream
from ._connection import Answer, Check, Connection, ErrorReplyError, MakeConnection, pack
from ._reasons import check_tls
from ._sockets import CLOSED, SocketStream, TlsStream

if TYPE_CHECKING:
    import ssl


class StreamConnection(Connection):
    """Sends and receives in the task that calls; nobody else knows the stream."""

    def __init__(
        self,
        make: MakeConnection,
        address: str,
        response_timeout: float,
        check: Check | None = None,
        extra_time: Callable[[], float] | None = None,
    ) -> None:
        super().__init__(address, response_timeout, check, extra_time)
        self._make = make
        self._stream: SocketStream | None = None
        self._reader = hiredis.Reader()

    @property
    def connected(self) -> bool:
        """Whether a connection is up, as far as is known."""
        return self._stream is not None

    async def drop(self) -> None:  # noqa: ASYNC910 - internal: callers make the checkpoint
        """Close the connection, if there is one, without waiting for the other side."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    def take(self) -> tuple[SocketStream, hiredis.Reader]:
        """Give the connection away, to one who closes it; here it is none any more."""
        stream, self._stream = self._stream, None
        assert stream is not None
        self._heard = True
        return stream, self._reader

    async def _introduce(self) -> Answer:
        self._settings = settings = await self._make()
        check_tls(settings)
        self._stream = await _open(settings)
        self._reached = True
        self._reader = hiredis.Reader(replyError=ErrorReplyError.read)
        for words in _introduction(settings):
            self.send_nowait(pack(words))
            if await self._answer() != b"OK":
                raise StoreError(f"what answers {words[0].decode()} there is no Redis server")
        return None

    def send_nowait(self, command: bytes) -> None:
        """Send of a command what goes without waiting; see `Connection.send_nowait`."""
        if self._stream is not None:
            self._stream.write(command)

    async def _answer(self) -> Answer:
        """Return the next message; when cancelled while it receives, none was taken."""
        while (message := self._reader.gets()) is False:
            if self._stream is None:
                raise trio.ClosedResourceError
            if self._stream.unsent:
                await self._stream.flush()
                continue
            received = await self._stream.receive_some()
            if received:
                self._reader.feed(received)
            elif received is not None:
                raise trio.BrokenResourceError(CLOSED)
        return _checked(message)  # noqa: ASYNC910 - internal: callers make the checkpoint

    async def _messages(self) -> list[Answer]:
        messages = [await self._answer()]
        while (message := self._reader.gets()) is not False:
            messages.append(_checked(message))
        return messages


@asynccontextmanager
async def open_stream(
    make: MakeConnection, address: str, response_timeout: float, check: Check | None = None
) -> AsyncGenerator[StreamConnection]:
    """Return a connection that is not made yet; when it is left, nothing of it remains."""
    connection = StreamConnection(make, address, response_timeout, check)
    try:
        yield connection
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
            await connection.drop()


def _checked(message: Answer | ErrorReplyError) -> Answer:
    if isinstance(message, ErrorReplyError):
        raise message
    return message


async def _open(settings: AbstractConnection) -> SocketStream:
    if isinstance(settings, UnixDomainSocketConnection):
        return SocketStream(await trio.open_unix_socket(settings.path))
    assert isinstance(settings, TcpConnection)
    stream = await open_tcp_stream(str(settings.host), int(settings.port))
    if not isinstance(settings, SSLConnection):
        return SocketStream(stream)
    secured = TlsStream(stream, _tls(settings), str(settings.host))
    try:
        await secured.handshake()
    except BaseException:
        secured.close()
        raise
    return secured


def _tls(settings: SSLConnection) -> ssl.SSLContext:
    return settings.ssl_context.get()  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]


def _introduction(settings: AbstractConnection) -> list[tuple[bytes, ...]]:
    """Return the commands that say who we are, as redis-py would with the same settings."""
    commands: list[tuple[str, ...]] = []
    if settings.password or settings.username:
        name = (str(settings.username),) if settings.username else ()
        commands.append(("AUTH", *name, str(settings.password or "")))
    if settings.client_name:
        commands.append(("CLIENT", "SETNAME", str(settings.client_name)))
    if settings.db:
        commands.append(("SELECT", str(settings.db)))
    return [tuple(word.encode() for word in command) for command in commands]
