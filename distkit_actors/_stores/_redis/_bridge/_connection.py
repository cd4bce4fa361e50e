"""A connection of a pool's as trio's side has it: like any other of the package."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

import trio
from redis.asyncio.connection import ConnectionPool
from redis.exceptions import ConnectionError, ResponseError  # noqa: A004 - redis-py's

from ...._errors import StoreUnavailableError
from .._connection import Answer, Connection, ErrorReplyError
from .._reasons import check_tls
from ._error_replies import error_reply, is_reply
from ._loan import Loan, exchange, in_use, listen, taken
from ._loop import CLEAN_UP, AsyncioFunction, AsyncioLoop, loop_of

_WITHHELD: Final = "its words are not repeated, as they may be a credential provider's"


class BridgeConnection(Connection):
    """Has redis-py send and receive, in the loop."""

    def __init__(
        self, pool: ConnectionPool, address: str, response_timeout: float, loop: AsyncioLoop
    ) -> None:
        super().__init__(address, response_timeout, None)
        self._pool = pool
        self._loop = loop
        self._loan: Loan | None = None

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
                trio.move_on_after(CLEAN_UP, shield=True),
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
            # An OSError has no words of the provider's.
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
        before = in_use(self._pool)
        try:
            self._loan = Loan(self._pool, await taken(self._pool, self._loop.late))
        except BaseException:
            # What the pool has taken meanwhile; most likely for us.
            self._reached = any(one.is_connected for one in in_use(self._pool) - before)
            raise
        self._reached = True
        await self._loan.begin()

    async def _answer(self) -> Answer:
        if self._loan is None:
            raise trio.ClosedResourceError
        command, self._unsent = self._unsent, b""
        return await self._in_loop(partial(exchange, self._loan.connection, command))

    async def _messages(self) -> list[Answer]:
        if self._loan is None:
            raise trio.ClosedResourceError
        command, self._unsent = self._unsent, b""
        return [await self._in_loop(partial(listen, self._loan.connection, command))]

    async def _in_loop(self, function: AsyncioFunction) -> Answer:
        try:
            return await self._loop.run(function)
        except ResponseError as error:
            reply = error_reply(error)
        except ConnectionError as error:
            if not is_reply(error):
                raise
            # redis-py has closed the connection.
            await self.drop()  # noqa: ASYNC120 - it shields itself, briefly
            reply = error_reply(error)
        except asyncio.CancelledError as error:
            raise trio.BrokenResourceError("cancelled by asyncio") from error  # noqa: ASYNC104 - asyncio's, not trio's
        # Here, where it has no context: redis-py's has the server's words, whatever they are.
        raise reply


@asynccontextmanager
async def open_bridge(
    pool: ConnectionPool, address: str, response_timeout: float
) -> AsyncGenerator[BridgeConnection]:
    """Return a connection that is not made yet; when it is left, nothing of it remains."""
    async with loop_of(pool, address) as loop:
        connection = BridgeConnection(pool, address, response_timeout, loop)
        try:
            yield connection
        finally:
            await connection.drop()  # noqa: ASYNC102 - it shields itself, briefly
