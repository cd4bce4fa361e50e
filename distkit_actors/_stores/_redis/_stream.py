"""A connection on a trio stream, with no asyncio anywhere.

redis-py still reads the URL, knows the settings and makes the TLS context; hiredis writes
commands and parses answers. What is left is to send, to receive, and to introduce ourselves.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import hiredis
import trio
from redis.asyncio.connection import AbstractConnection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.connection import Connection as TcpConnection

from ..._errors import StoreError
from ._connection import Answer, Check, Connection, ErrorReplyError, MakeConnection, pack
from ._reasons import check_tls

if TYPE_CHECKING:
    import ssl

#: Most bytes received at once.
_CHUNK: Final = 65_536


class StreamConnection(Connection):
    """Sends and receives in the task that calls; nobody else knows the stream."""

    def __init__(
        self, make: MakeConnection, address: str, response_timeout: float, check: Check | None
    ) -> None:
        super().__init__(address, response_timeout, check)
        self._make = make
        self._stream: _Socket | trio.abc.Stream | None = None
        self._reader = hiredis.Reader()

    @property
    def connected(self) -> bool:
        """Whether a connection is up, as far as is known."""
        return self._stream is not None

    async def drop(self) -> None:  # noqa: ASYNC910 - internal: callers make the checkpoint
        """Close the connection, if there is one, without waiting for the other side."""
        stream, self._stream, self._unsent = self._stream, None, b""
        if stream is not None:
            await trio.aclose_forcefully(stream)

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

    @property
    def can_send_nowait(self) -> bool:
        """Whether there is a connection that can be sent on without waiting: not through TLS."""
        return isinstance(self._stream, _Socket)

    def send_nowait(self, command: bytes) -> None:
        """Send of a command what goes without waiting; see `Connection.send_nowait`."""
        if isinstance(self._stream, _Socket):
            command = command[self._stream.send_nowait(command) :]
        self._unsent = command

    async def _answer(self) -> Answer:
        """Return the next message; when cancelled while it receives, none was taken."""
        if self._unsent and self._stream is not None:
            unsent, self._unsent = self._unsent, b""
            await self._stream.send_all(unsent)
        while (message := self._reader.gets()) is False:
            if self._stream is None:
                raise trio.ClosedResourceError
            received = await self._stream.receive_some(_CHUNK)
            if not received:
                raise trio.BrokenResourceError("closed by the server")
            self._reader.feed(bytes(received))
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


class _Socket(trio.abc.Stream):
    """A connected socket for one task at a time, that loses no time.

    What trio's own stream does more is a checkpoint after each `send`, and trying to receive
    before there can be an answer: together a third of the time that a request takes.
    """

    def __init__(self, stream: trio.SocketStream) -> None:
        family, kind = stream.socket.family, stream.socket.type
        self._socket = socket.socket(family, kind, fileno=stream.socket.detach())

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:  # noqa: ASYNC910 - receiving is the checkpoint
        """Send; a checkpoint only if it has to wait."""
        with memoryview(data) as rest:
            sent = 0
            while sent < len(rest):
                try:
                    sent += self._socket.send(rest[sent:])
                except BlockingIOError:
                    await trio.lowlevel.wait_writable(self._socket)

    def send_nowait(self, data: bytes) -> int:
        """Send what goes without waiting, and return how much that was."""
        try:
            return self._socket.send(data)
        except OSError:  # full, or broken, which whoever sends the rest will see
            return 0

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.wait_writable(self._socket)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Wait for data, and receive it."""
        while True:
            await trio.lowlevel.wait_readable(self._socket)
            try:
                return self._socket.recv(max_bytes or _CHUNK)
            except BlockingIOError:
                continue

    async def aclose(self) -> None:
        trio.lowlevel.notify_closing(self._socket)
        self._socket.close()
        await trio.lowlevel.checkpoint()


async def _open(settings: AbstractConnection) -> trio.abc.Stream:
    if isinstance(settings, UnixDomainSocketConnection):
        return _Socket(await trio.open_unix_socket(settings.path))
    assert isinstance(settings, TcpConnection)
    stream = await trio.open_tcp_stream(settings.host, int(settings.port))
    if isinstance(settings, SSLConnection):
        secured = trio.SSLStream(stream, _tls(settings), server_hostname=str(settings.host))
        try:
            await secured.do_handshake()
        except BaseException:
            await trio.aclose_forcefully(stream)  # noqa: ASYNC102, ASYNC120 - it waits for nothing
            raise
        return secured
    return _Socket(stream)


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
