"""Connections of a pool of redis-py's, on an asyncio loop that runs on trio.

All of asyncio is hidden in here: the caller's task never sees the loop. It runs in a task
of its own, shielded from the caller's cancellations. All connections of a pool share it, as a pool
belongs to one loop; it ends after the last of them.

In one file, longer than others, so that nothing else knows asyncio.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import warnings
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Final, TypeAlias, cast

import trio
from redis.asyncio.connection import (
    AbstractConnection,
    ConnectionPool,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.asyncio.connection import Connection as TcpConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.backoff import NoBackoff
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

from ..._errors import StoreUnavailableError
from ._connection import Answer, Connection, ErrorReplyError, pack
from ._reasons import check_tls

if TYPE_CHECKING:
    from redis.asyncio.sentinel import Sentinel
    from trio_asyncio import TrioEventLoop

_log = logging.getLogger("distkit_actors")

#: Longest wait for the loop to end, in seconds.
_CLEAN_UP: Final = 2.0

_AsyncioFunction: TypeAlias = "Callable[[], Awaitable[Answer]]"


def checked_pool(pool: object) -> ConnectionPool:
    """Return ``pool`` if it is one of redis-py's asyncio; raises `TypeError`.

    Raises `ImportError` where trio-asyncio does not work: better now than when connecting.
    """
    if not isinstance(pool, ConnectionPool):
        what = "pass its connection_pool" if hasattr(pool, "connection_pool") else "make one"
        raise TypeError(
            "from_pool takes a connection pool of redis.asyncio, such as "
            "redis.asyncio.ConnectionPool.from_url(...), "
            f"not {type(pool).__module__}.{type(pool).__qualname__}: {what}"
        )
    try:
        _trio_asyncio()
    except (ImportError, AttributeError) as error:
        raise ImportError(
            f"RedisStore.from_pool needs trio-asyncio, which cannot be imported here ({error}). It "
            "does not work on Python 3.14 and newer. RedisStore(url) needs nothing but trio, and "
            "has TLS, Unix sockets and credential providers, too"
        ) from error
    return pool


def place_of(pool: ConnectionPool) -> str:
    """Return where a pool leads, without secrets."""
    if isinstance(pool, SentinelConnectionPool):
        service = cast("str", pool.service_name)  # pyright: ignore[reportUnknownMemberType]
        return f"service {service} of a pool's sentinels"
    settings = pool.connection_kwargs
    if issubclass(pool.connection_class, UnixDomainSocketConnection):
        place = f"unix://{settings.get('path')}"
    elif issubclass(pool.connection_class, TcpConnection):
        scheme = "rediss" if issubclass(pool.connection_class, SSLConnection) else "redis"
        host = str(settings.get("host") or "localhost")
        host = f"[{host}]" if ":" in host else host
        place = f"{scheme}://{host}:{settings.get('port') or 6379}"
    else:
        place = f"the end of a {pool.connection_class.__name__}"
    return f"{place} db {settings.get('db') or 0}"


class BridgeConnection(Connection):
    """Has redis-py send and receive, in the loop."""

    def __init__(
        self, pool: ConnectionPool, address: str, response_timeout: float, loop: _Loop
    ) -> None:
        super().__init__(address, response_timeout, None)
        self._pool = pool
        self._loop = loop
        self._loan: _Loan | None = None

    @property
    def connected(self) -> bool:
        """Whether a connection is up, as far as is known."""
        return self._loan is not None and bool(self._loan.connection.is_connected)

    async def drop(self) -> None:  # noqa: ASYNC910 - internal: callers make the checkpoint
        """Close the connection, if there is one, and give it back to the pool."""
        loan, self._loan, self._unsent = self._loan, None, b""
        if loan is not None:
            # What goes wrong when closing changes nothing for us.
            with (
                trio.move_on_after(_CLEAN_UP, shield=True),
                contextlib.suppress(Exception, asyncio.CancelledError),
            ):
                await self._loop.run(loan.end)

    async def _introduce(self) -> Answer:
        # One that is not made, to see what the pool makes them with.
        self._settings = self._pool.make_connection()
        check_tls(self._settings)
        told = self._settings.credential_provider is not None
        failure: Exception | None = None
        try:
            await self._in_loop(self._borrow)
        except ErrorReplyError as error:
            failure = ErrorReplyError(error.code, _WITHHELD) if told else error
        except OSError:
            raise
        except Exception as error:
            # Before it was asked, it has told nobody anything.
            if not told or isinstance(error.__context__, OSError):
                raise
            kind = type(error).__name__
            failure = StoreUnavailableError(
                f"the store at {self._address} cannot be reached, or the credential provider has "
                f"failed: {kind} ({_WITHHELD})"
            )
        if failure is not None:
            raise failure  # here, where it has no context
        return None  # noqa: ASYNC910 - internal: connecting is the checkpoint

    async def _borrow(self) -> None:
        before = _in_use(self._pool)
        try:
            self._loan = _Loan(self._pool, await _taken(self._pool, self._loop))
        except BaseException:
            # What the pool has taken meanwhile; most likely for us.
            self._reached = any(one.is_connected for one in _in_use(self._pool) - before)
            raise
        self._reached = True
        await self._loan.begin()

    async def _answer(self) -> Answer:
        if self._loan is None:
            raise trio.ClosedResourceError
        command, self._unsent = self._unsent, b""
        return await self._in_loop(partial(_exchange, self._loan.connection, command))

    async def _messages(self) -> list[Answer]:
        if self._loan is None:
            raise trio.ClosedResourceError
        command, self._unsent = self._unsent, b""
        return [await self._in_loop(partial(_listen, self._loan.connection, command))]

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
    pool: ConnectionPool, address: str, response_timeout: float
) -> AsyncGenerator[BridgeConnection]:
    """Return a connection that is not made yet; when it is left, nothing of it remains."""
    var = _loops.setdefault(pool, trio.lowlevel.RunVar("loop", None))
    loop = var.get()
    if loop is None:
        loop = _Loop(pool, address)
        var.set(loop)
        trio.lowlevel.spawn_system_task(loop.host)
    loop.users += 1
    connection = BridgeConnection(pool, address, response_timeout, loop)
    try:
        await loop.started.wait()
        yield connection
    finally:
        await connection.drop()  # noqa: ASYNC102 - it shields itself, briefly
        loop.users -= 1
        if not loop.users:
            var.set(None)
            await loop.stop()  # noqa: ASYNC102 - it shields itself, briefly


# ------------------------------------------------------------------ asyncio, in the loop

_WITHHELD: Final = "its words are not repeated, as they may be a credential provider's"

#: What redis-py would do by itself: send again what may have been executed, and stop waiting in a
#: way that loses cancellations on Python 3.11.
_NEUTRAL: Final[Mapping[str, object]] = {
    "health_check_interval": 0,
    "retry": Retry(NoBackoff(), 0),
    "socket_timeout": None,
}


class _Loan:
    """A connection of a pool, while it is ours: as the pool makes it before and after."""

    def __init__(self, pool: ConnectionPool, connection: AbstractConnection) -> None:
        self.connection = connection
        self._pool = pool
        self._before = {name: getattr(connection, name) for name in (*_NEUTRAL, "protocol")}

    async def begin(self) -> None:  # noqa: ASYNC910 - asyncio's, not trio's
        """Make it what we need: it must do nothing by itself, and speak RESP2."""
        for name, value in _NEUTRAL.items():
            setattr(self.connection, name, value)
        if int(self.connection.protocol) != 2:
            await _exchange(self.connection, pack((b"HELLO", b"2")))
            self.connection.protocol = 2

    async def end(self) -> None:
        """Close it and give it back. Nobody gets a connection with answers on the way."""
        try:
            await self.connection.disconnect(nowait=True)
        finally:
            for name, value in self._before.items():
                setattr(self.connection, name, value)
            _forget_files(self.connection)
            await self._pool.release(self.connection)  # noqa: ASYNC102 - asyncio's, not trio's


def _in_use(pool: ConnectionPool) -> set[AbstractConnection]:
    return set(getattr(pool, "_in_use_connections", ()))


def _forget_files(connection: AbstractConnection) -> None:
    """Have it read its certificates again when it connects: they may have been replaced."""
    if isinstance(connection, SSLConnection):
        connection.ssl_context.context = None


async def _tidy(pool: ConnectionPool) -> None:
    """Close what is idle in a pool.

    What is given up while it connects goes back as it is, open perhaps, and nobody logged in on it.
    """
    for connection in getattr(pool, "_available_connections", ()):
        _forget_files(connection)
    await pool.disconnect(inuse_connections=False)


async def _taken(pool: ConnectionPool, loop: _Loop) -> AbstractConnection:
    """Take a connection; if that is given up, at once, whatever becomes of it is given back."""

    async def give_up() -> None:
        taking.cancel()
        await asyncio.wait([taking])
        if not taking.cancelled() and taking.exception() is None:
            await _Loan(pool, taking.result()).end()
        else:
            await _tidy(pool)

    taking = asyncio.ensure_future(pool.get_connection())
    try:
        return await asyncio.shield(taking)
    except BaseException:
        giving_up = asyncio.ensure_future(give_up())
        loop.late.add(giving_up)
        giving_up.add_done_callback(loop.late.discard)
        raise


async def _exchange(connection: AbstractConnection, command: bytes) -> Answer:
    await _send(connection, command)
    return cast("Answer", await connection.read_response(disable_decoding=True))


async def _listen(connection: AbstractConnection, command: bytes) -> Answer:
    if command:
        await _send(connection, command)
    # It survives that we give up waiting, and nothing of what has come is lost.
    return cast(
        "Answer", await connection.read_response(disable_decoding=True, disconnect_on_error=False)
    )


async def _send(connection: AbstractConnection, command: bytes) -> None:
    if not connection.is_connected:  # it would be made again, in silence
        raise ConnectionError("the pool has closed the connection")
    await connection.re_auth()  # if a credential provider has pushed something new
    await connection.send_packed_command([command], check_health=False)


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

    def __init__(self, pool: ConnectionPool, address: str) -> None:
        self._pool = pool
        self._address = address
        self._loop: TrioEventLoop | None = None
        self._stop = trio.Event()
        self._ended = trio.Event()
        self._scope = trio.CancelScope(shield=True)  # gets its deadline when stopped
        self.started = trio.Event()
        self.users = 0
        self.late: set[asyncio.Task[None]] = set()  # of which nobody waits for the end

    async def run(self, function: _AsyncioFunction) -> Answer:
        """Run an asyncio function; raises `asyncio.CancelledError` if the loop has ended."""
        if self._loop is None:
            raise asyncio.CancelledError("the loop of the store's connection has ended")
        answer: Answer = await _trio_asyncio().aio_as_trio(function, loop=self._loop)()
        return answer

    async def stop(self) -> None:  # noqa: ASYNC910 - internal: whoever leaves has had checkpoints
        """End the loop, within a bounded time."""
        self._scope.deadline = trio.current_time() + _CLEAN_UP
        self._stop.set()
        with trio.move_on_after(2 * _CLEAN_UP, shield=True):  # it ends by itself before
            await self._ended.wait()

    async def host(self) -> None:  # noqa: ASYNC910 - a task of its own
        """Run the loop until it is stopped."""
        try:
            with self._scope:
                async with _trio_asyncio().open_loop() as loop:
                    # The default handler ends the loop, and the program with it.
                    loop.set_exception_handler(partial(_log_only, self._address))
                    self._loop = loop
                    self.started.set()
                    try:
                        await self._stop.wait()
                        while self.late:
                            await self.run(partial(_done, set(self.late)))
                        await self.run(partial(_close_idle, self._pool))
                    finally:
                        self._loop = None
        except Exception as error:  # noqa: BLE001 - a system task's error would end the program
            _log_only(self._address, None, {"message": "its loop has failed", "exception": error})
        finally:
            self.started.set()
            self._ended.set()


async def _close_idle(pool: ConnectionPool) -> Answer:
    """Close what is open in this loop, which is about to end: sentinels are asked in it, too."""
    pools = [pool]
    if isinstance(pool, SentinelConnectionPool):
        manager = cast("Sentinel", pool.sentinel_manager)  # pyright: ignore[reportUnknownMemberType]
        pools += [sentinel.connection_pool for sentinel in manager.sentinels]
    for one in pools:
        await one.disconnect(inuse_connections=False)
    return None  # noqa: ASYNC910 - it is one


async def _done(tasks: set[asyncio.Task[None]]) -> Answer:
    await asyncio.wait(tasks)
    return None


#: The loop of each pool that is in use, in each trio run.
_loops: weakref.WeakKeyDictionary[ConnectionPool, trio.lowlevel.RunVar[_Loop | None]] = (
    weakref.WeakKeyDictionary()
)


def _trio_asyncio() -> ModuleType:
    """Import trio_asyncio, which patches asyncio for the whole process: not before it must."""
    with warnings.catch_warnings():
        # It subclasses asyncio's child watchers, which Python 3.12 and 3.13 deprecate.
        warnings.filterwarnings("ignore", ".*AbstractChildWatcher", DeprecationWarning)
        import trio_asyncio  # noqa: PLC0415 - as said above

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
