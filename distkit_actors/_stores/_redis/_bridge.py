"""A connection that is redis-py's, on an asyncio loop that runs on trio.

All of asyncio is hidden in here: the caller's task never sees the loop. It runs in a task
of its own, shielded from the caller's cancellations, and ends after the last request.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import warnings
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Final, TypeAlias, cast

import trio
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import (
    AskError,
    AuthenticationError,
    BusyLoadingError,
    ClusterCrossSlotError,
    ClusterDownError,
    ConnectionError,  # noqa: A004 - redis-py's
    MasterDownError,
    MovedError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
    TryAgainError,
)

from ._connection import Answer, Check, Connection, ErrorReplyError, MakeConnection
from ._reasons import check_tls

if TYPE_CHECKING:
    from trio_asyncio import TrioEventLoop

_log = logging.getLogger("distkit_actors")

#: Longest wait for the loop to end, in seconds.
_CLEAN_UP: Final = 2.0

_AsyncioFunction: TypeAlias = "Callable[[], Awaitable[Answer]]"


class BridgeConnection(Connection):
    """Has redis-py send and receive, in the loop."""

    def __init__(
        self,
        make: MakeConnection,
        address: str,
        response_timeout: float,
        check: Check | None,
        loop: _Loop,
    ) -> None:
        super().__init__(address, response_timeout, check)
        self._make = make
        self._loop = loop
        self._connection: AbstractConnection | None = None

    @property
    def connected(self) -> bool:
        """Whether a connection is up, as far as is known."""
        return self._connection is not None and bool(self._connection.is_connected)

    async def drop(self) -> None:  # noqa: ASYNC910 - internal: callers make the checkpoint
        """Close the connection, if there is one, without waiting for the other side."""
        connection, self._connection, self._unsent = self._connection, None, b""
        if connection is not None:
            # What goes wrong when closing changes nothing for us.
            with (
                trio.move_on_after(_CLEAN_UP, shield=True),
                contextlib.suppress(Exception, asyncio.CancelledError),
            ):
                await self._loop.run(partial(_close, connection))

    async def _introduce(self) -> Answer:
        self._settings = self._connection = await self._make()
        check_tls(self._connection)
        self._connection.redis_connect_func = self._on_connected
        return await self._in_loop(partial(_connect, self._connection))

    async def _on_connected(self, connection: AbstractConnection) -> None:  # noqa: ASYNC910 - asyncio's, not trio's
        self._reached = True
        await connection.on_connect()

    async def _answer(self) -> Answer:
        if self._connection is None:
            raise trio.ClosedResourceError
        command, self._unsent = self._unsent, b""
        return await self._in_loop(partial(_exchange, self._connection, command))

    async def _messages(self) -> list[Answer]:
        if self._connection is None:
            raise trio.ClosedResourceError
        command, self._unsent = self._unsent, b""
        return [await self._in_loop(partial(_listen, self._connection, command))]

    async def _in_loop(self, function: _AsyncioFunction) -> Answer:
        try:
            return await self._loop.run(function)
        except ResponseError as error:
            reply = _error_reply(error)
        except ConnectionError as error:
            if not (isinstance(error, (AuthenticationError, BusyLoadingError)) or _is_full(error)):
                raise
            # They are answers, though redis-py files them under connection errors, and closes.
            await self.drop()  # noqa: ASYNC120 - it shields itself, briefly
            reply = _error_reply(error)
        except asyncio.CancelledError as error:
            raise trio.BrokenResourceError("cancelled by asyncio") from error  # noqa: ASYNC104 - asyncio's, not trio's
        # Here, where it has no context: redis-py's has the server's words, whatever they are.
        raise reply


@asynccontextmanager
async def open_bridge(
    make: MakeConnection, address: str, response_timeout: float, check: Check | None = None
) -> AsyncGenerator[BridgeConnection]:
    """Return a connection that is not made yet; when it is left, nothing of it remains."""
    raised: Exception | None = None
    async with trio.open_nursery() as nursery:
        loop = _Loop(address)
        connection = BridgeConnection(make, address, response_timeout, check, loop)
        try:
            await loop.start(nursery)
            yield connection
        except Exception as error:  # noqa: BLE001 - raised below, out of the hidden nursery
            raised = error
        finally:
            await connection.drop()  # noqa: ASYNC102 - it shields itself, briefly
            loop.stop()
    if raised is not None:
        raise raised


# ------------------------------------------------------------------ asyncio, in the loop


async def _connect(connection: AbstractConnection) -> Answer:
    await connection.connect()
    return None


async def _exchange(connection: AbstractConnection, command: bytes) -> Answer:
    await connection.send_packed_command([command], check_health=False)
    return cast("Answer", await connection.read_response())


async def _listen(connection: AbstractConnection, command: bytes) -> Answer:
    if command:
        await connection.send_packed_command([command], check_health=False)
    # It survives that we give up waiting, and nothing of what has come is lost.
    return cast("Answer", await connection.read_response(disconnect_on_error=False))


async def _close(connection: AbstractConnection) -> Answer:
    await connection.disconnect(nowait=True)
    return None


#: The codes that redis-py turns into classes, and takes off the text.
_CODES: Final[Mapping[type[Exception], str]] = {
    AskError: "ASK",
    AuthenticationError: "NOAUTH",
    BusyLoadingError: "LOADING",
    ClusterCrossSlotError: "CROSSSLOT",
    ClusterDownError: "CLUSTERDOWN",
    MasterDownError: "MASTERDOWN",
    MovedError: "MOVED",
    NoPermissionError: "NOPERM",
    NoScriptError: "NOSCRIPT",
    OutOfMemoryError: "OOM",
    ReadOnlyError: "READONLY",
    TryAgainError: "TRYAGAIN",
}


def _is_full(error: Exception) -> bool:
    return str(error) == "max number of clients reached"


def _error_reply(error: Exception) -> ErrorReplyError:
    code = getattr(error, "status_code", None)  # which not every version keeps
    if isinstance(code, str):
        return ErrorReplyError.read(f"{code} {error}")
    for kind, code in _CODES.items():
        if isinstance(error, kind):
            return ErrorReplyError(code, str(error))
    return ErrorReplyError.read(str(error))


# ------------------------------------------------------------------------------ the loop


class _Loop:
    """An asyncio loop on trio, in a task that outlives the cancellation of its users."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._loop: TrioEventLoop | None = None
        self._started = trio.Event()
        self._stop = trio.Event()
        self._scope = trio.CancelScope(shield=True)  # gets its deadline when stopped

    async def start(self, nursery: trio.Nursery) -> None:
        """Run the loop in ``nursery``.

        Not by ``nursery.start``: a shielded task that is cancelled while it starts would
        stay where it is, and never be stopped.
        """
        nursery.start_soon(self._host)
        await self._started.wait()

    async def run(self, function: _AsyncioFunction) -> Answer:
        """Run an asyncio function; raises `asyncio.CancelledError` if the loop has ended."""
        if self._loop is None:
            raise asyncio.CancelledError("the loop of the store's connection has ended")
        answer: Answer = await _trio_asyncio().aio_as_trio(function, loop=self._loop)()
        return answer

    def stop(self) -> None:
        """End the loop, within a bounded time."""
        self._scope.deadline = trio.current_time() + _CLEAN_UP
        self._stop.set()

    async def _host(self) -> None:
        with self._scope:
            async with _trio_asyncio().open_loop() as loop:
                # The default handler ends the loop, and the program with it.
                loop.set_exception_handler(partial(_log_only, self._address))
                self._loop = loop
                self._started.set()
                try:
                    await self._stop.wait()
                finally:
                    self._loop = None


def _trio_asyncio() -> ModuleType:
    """Import trio_asyncio, which patches asyncio for the whole process: not before it must."""
    with warnings.catch_warnings():
        # It subclasses asyncio's child watchers, which Python 3.12 and 3.13 deprecate.
        warnings.filterwarnings("ignore", ".*AbstractChildWatcher", DeprecationWarning)
        import trio_asyncio  # noqa: PLC0415

    return trio_asyncio


def _log_only(address: str, _loop: object, context: Mapping[str, object]) -> None:
    # Not the error's own words: nobody knows here what must not be repeated.
    error = type(context.get("exception")).__name__
    _log.warning(
        "asyncio, under a connection to %s: %s (%s)",
        address,
        context.get("message"),
        error,
        extra={
            "event": "asyncio",
            "prefix": "",
            "instance": "",
            "store": f"<RedisStore at {address}>",
            "kind": "store",
            "error": error,
        },
    )
