"""How a connection is made: as often as it takes, and once with a look at the server."""

from __future__ import annotations

from typing import Final

import trio

from ..._errors import StoreError
from .._contract import StoreSilentError
from ._connection import Connection, ErrorReplyError
from ._reply_errors import to_store_error
from ._server_check import ServerInfo, check_server

#: How long connecting waits for an answer at the most, in times of the usual.
_MOST_PATIENCE: Final = 4


class Connector:
    """Makes a connection again and again, more patiently while a server that is reached is silent.

    Args:
        connection: What it makes.
        patience: Seconds that it may take to connect, usually.
    """

    def __init__(self, connection: Connection, patience: float) -> None:
        self._connection = connection
        self._usual_patience = patience
        self._patience = patience  # doubles while a server that is reached is silent
        self._checked = False
        self._mute = False  # something in front of the server says that it knows no questions
        self.server = ServerInfo(standalone=False, tells=True)  # what it has said of itself

    async def connect(self) -> None:
        """Make a connection. A checkpoint. Raises `StoreError`, as a link does.

        When cancelled there is none.
        """
        connection, patience, begun_at = self._connection, self._patience, trio.current_time()
        try:
            await connection.connect(patience)
            if not self._checked:
                await self._check(connection, patience)
        except ErrorReplyError as error:
            await connection.drop()  # noqa: ASYNC120 - it shields itself, briefly
            raise to_store_error(error) from None
        except StoreError as error:
            if isinstance(error, StoreSilentError):
                # To ask it again as soon would only add to what it has to do.
                self._patience = min(2 * patience, _MOST_PATIENCE * self._usual_patience)
            await connection.drop()  # noqa: ASYNC120 - it shields itself, briefly
            raise
        if trio.current_time() - begun_at < self._usual_patience:
            self._patience = self._usual_patience

    async def _check(self, connection: Connection, patience: float) -> None:
        """Look at the server; connect once more if something in front of it has answered."""
        self.server = await check_server(connection, patience)
        if not (self.server.tells or self._mute):
            # Perhaps only this once: next time the server itself may answer.
            await connection.drop()
            await connection.connect(patience)
            self.server = await check_server(connection, patience)
            self._mute = not self.server.tells
        self._checked = self.server.tells
