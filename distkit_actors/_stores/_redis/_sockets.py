"""Sockets that lose no time, and nothing when somebody who uses them is cancelled.

What trio's own streams do more is a checkpoint after each `send`, and trying to receive before
there can be an answer: together a third of the time that a request takes. And a TLS stream of
trio's is broken when a task is cancelled that sends on it, which would harm all others on it.
"""

from __future__ import annotations

import socket
import ssl
from contextlib import suppress
from typing import Final

import trio

#: What a connection has died of that the other side has closed.
CLOSED: Final = "closed by the server"

#: Most bytes received, or sent from a backlog, at once.
_CHUNK: Final = 65_536


class SocketStream:
    """A connected socket: one task may receive while another one sends what is left unsent."""

    def __init__(self, stream: trio.SocketStream) -> None:
        family, kind = stream.socket.family, stream.socket.type
        self._socket = socket.socket(family, kind, fileno=stream.socket.detach())
        self._socket.setblocking(False)  # else `socket.setdefaulttimeout` says how long it blocks
        self.unsent = bytearray()  # what was written and did not fit, for `flush`

    def write(self, data: bytes) -> None:
        """Send what goes without waiting, and keep the rest.

        It raises nothing: who flushes, or receives, will see that the connection is broken.
        """
        if self.unsent:
            self.unsent += data
            return
        sent = self.send_nowait(data)
        if sent < len(data):
            self.unsent += data[sent:]

    def send_nowait(self, data: bytes) -> int:
        """Send what goes without waiting, and return how much that was."""
        try:
            return self._socket.send(data)
        except OSError:  # full, or broken
            return 0

    async def flush(self) -> None:  # noqa: ASYNC910 - receiving is the checkpoint
        """Send of what is kept as much as goes, and wait until more would go, if there is more.

        A checkpoint only if it has to wait. When cancelled, what is not sent is still kept, so that
        another task can go on. `interrupt` ends it.
        """
        try:
            while self.unsent:
                del self.unsent[: self._socket.send(self.unsent[:_CHUNK])]
        except BlockingIOError:
            await trio.lowlevel.wait_writable(self._socket)

    async def receive_some(self) -> bytes | None:
        """Wait for data once, and receive it. A checkpoint.

        Nothing (``b""``) if the other side has closed; None if there was no data after all. When
        cancelled, it has received none. `interrupt` ends it.
        """
        await trio.lowlevel.wait_readable(self._socket)
        try:
            return self._socket.recv(_CHUNK)
        except BlockingIOError:
            return None

    def receive_nowait(self) -> bytes:
        """Receive what has come, and nothing if nothing has, or never will."""
        try:
            return self._socket.recv(_CHUNK)
        except OSError:
            return b""

    def interrupt(self) -> None:
        """Let whoever waits in `flush` or `receive_some` raise `trio.ClosedResourceError`."""
        trio.lowlevel.notify_closing(self._socket)

    def close(self) -> None:
        """Close it at once, without a word to the other side."""
        trio.lowlevel.notify_closing(self._socket)
        self._socket.close()


class TlsStream(SocketStream):
    """The same through TLS. What is written is encrypted at once, so that no command is torn."""

    def __init__(self, stream: trio.SocketStream, context: ssl.SSLContext, name: str) -> None:
        super().__init__(stream)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name)

    async def handshake(self) -> None:
        """Agree with the other side on how to speak. A checkpoint."""
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._send_encrypted()
                while self.unsent:
                    await self.flush()
                self._take(await super().receive_some())
            except ssl.SSLError:
                self._send_encrypted()  # what we think of it
                raise
            else:
                self._send_encrypted()
                await trio.lowlevel.checkpoint()
                return

    def write(self, data: bytes) -> None:
        """Send what goes without waiting, and keep the rest."""
        try:
            self._tls.write(data)
        except ssl.SSLError:
            # Nothing may follow what is missing. Who receives will see that there is no more.
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
        else:
            self._send_encrypted()

    async def receive_some(self) -> bytes | None:
        """Wait for data once, and receive it; see `SocketStream.receive_some`."""
        self._take(await super().receive_some())
        try:
            return self._decrypted() or None
        except ssl.SSLZeroReturnError:
            return b""

    def receive_nowait(self) -> bytes:
        """Receive what has come; see `SocketStream.receive_nowait`."""
        if received := super().receive_nowait():
            self._take(received)
            with suppress(ssl.SSLError):  # as who receives will see
                return self._decrypted()
        return b""

    def _take(self, received: bytes | None) -> None:
        if received:
            self._incoming.write(received)
        elif received is not None:
            self._incoming.write_eof()

    def _decrypted(self) -> bytes:
        """Return all that can be read; an error only if there is nothing before it."""
        data = b""
        try:
            while piece := self._tls.read(_CHUNK):
                data += piece
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError:
            if not data:
                raise
        else:  # the other side has said that it closes
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RD)  # so that the next one sees it, too
            if not data:
                raise ssl.SSLZeroReturnError
        self._send_encrypted()  # keys may be changed
        return data

    def _send_encrypted(self) -> None:
        if encrypted := self._outgoing.read():
            super().write(encrypted)
