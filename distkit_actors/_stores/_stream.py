"""A connection on a trio stream, with no asyncio anywhere.

redis-py still reads the URL, knows the settings and makes the TLS context; hiredis writes
commands and parses answers. What is left is to send, to receive, and to introduce ourselves.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import hiredis
import trio
from redis.asyncio.connection import AbstractConnection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.connection import Connection as TcpConnection

from ._connection import Answer, Connection, ErrorReplyError, MakeConnection, pack

if TYPE_CHECKING:
    import ssl

#: Most bytes received at once.
_CHUNK: Final = 65_536


class StreamConnection(Connection):
    """Sends and receives in the task that calls; nobody else knows the stream."""

    def __init__(self, make: MakeConnection, address: str, response_timeout: float) -> None:
        super().__init__(address, response_timeout)
        self._make = make
        self._stream: trio.abc.Stream | None = None
        self._reader = hiredis.Reader()

    @property
    def connected(self) -> bool:
        """Whether a connection is up, as far as is known."""
        return self._stream is not None

    async def drop(self) -> None:  # noqa: ASYNC910 - internal: callers make the checkpoint
        """Close the connection, if there is one, without waiting for the other side."""
        stream, self._stream = self._stream, None
        if stream is not None:
            await trio.aclose_forcefully(stream)

    async def _introduce(self) -> Answer:
        settings = self._make()
        self._stream = await _open(settings)
        self._reader = hiredis.Reader(replyError=ErrorReplyError.read)
        for words in _introduction(settings):
            await self._exchange(pack(words))
        return None

    async def _exchange(self, command: bytes) -> Answer:
        stream = self._stream
        if stream is None:
            raise trio.ClosedResourceError
        await stream.send_all(command)
        while (answer := self._reader.gets()) is False:
            received = await stream.receive_some(_CHUNK)
            if not received:
                raise trio.BrokenResourceError("closed by the server")
            self._reader.feed(bytes(received))
        if isinstance(answer, ErrorReplyError):
            raise answer
        result: Answer = answer
        return result


@asynccontextmanager
async def open_stream(
    make: MakeConnection, address: str, response_timeout: float
) -> AsyncGenerator[StreamConnection]:
    """Return a connection that is not made yet; when it is left, nothing of it remains."""
    connection = StreamConnection(make, address, response_timeout)
    try:
        yield connection
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
            await connection.drop()


async def _open(settings: AbstractConnection) -> trio.abc.Stream:
    if isinstance(settings, UnixDomainSocketConnection):
        return await trio.open_unix_socket(settings.path)
    assert isinstance(settings, TcpConnection)
    stream = await trio.open_tcp_stream(settings.host, int(settings.port))
    if isinstance(settings, SSLConnection):
        return trio.SSLStream(stream, _tls(settings), server_hostname=str(settings.host))
    return stream


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
