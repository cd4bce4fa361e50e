"""A connection of a pool while it is ours. All of this runs in the asyncio loop."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final, cast

from redis.asyncio.connection import AbstractConnection, ConnectionPool, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError  # noqa: A004 - redis-py's

from .._connection import Answer, pack

#: What redis-py would do by itself: send again what may have been executed, and stop waiting in a
#: way that loses cancellations on Python 3.11.
_NEUTRAL: Final[Mapping[str, object]] = {
    "health_check_interval": 0,
    "retry": Retry(NoBackoff(), 0),
    "socket_timeout": None,
}


class Loan:
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
            await exchange(self.connection, pack((b"HELLO", b"2")))
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


async def taken(pool: ConnectionPool, late: set[asyncio.Task[None]]) -> AbstractConnection:
    """Take a connection; a cancellation ends this at once, and the connection goes back.

    The task that gives it back is among those that are ``late`` until it has ended.
    """

    async def give_up() -> None:
        taking.cancel()
        await asyncio.wait([taking])
        if not taking.cancelled() and taking.exception() is None:
            await Loan(pool, taking.result()).end()
        else:
            await _tidy(pool)

    taking = asyncio.ensure_future(pool.get_connection())
    try:
        return await asyncio.shield(taking)
    except BaseException:
        giving_up = asyncio.ensure_future(give_up())
        late.add(giving_up)
        giving_up.add_done_callback(late.discard)
        raise


async def exchange(connection: AbstractConnection, command: bytes) -> Answer:
    """Send a command, and return its answer."""
    await _send(connection, command)
    return cast("Answer", await connection.read_response(disable_decoding=True))


async def listen(connection: AbstractConnection, command: bytes) -> Answer:
    """Return what is announced next, once ``command`` has been sent, if there is one."""
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


def in_use(pool: ConnectionPool) -> set[AbstractConnection]:
    """Return the connections that a pool has lent, to us or to others."""
    return set(getattr(pool, "_in_use_connections", ()))


async def _tidy(pool: ConnectionPool) -> None:
    """Close what is idle in a pool.

    What is given up while it connects goes back as it is, open perhaps, and nobody logged in on it.
    """
    for connection in getattr(pool, "_available_connections", ()):
        _forget_files(connection)
    await pool.disconnect(inuse_connections=False)


def _forget_files(connection: AbstractConnection) -> None:
    """Have it read its certificates again when it connects: they may have been replaced."""
    if isinstance(connection, SSLConnection):
        connection.ssl_context.context = None
