"""One counter's way to its namespace on a Redis server: a script for each request."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, cast

import trio

from ..._errors import StoreError, StoreUnavailableError
from ..._protocol._messages import Query, Reply, Request
from .._contract import Link, StoreAwayError, StoreSilentError
from ._connection import Answer, CommandPrefix, Connection, ErrorReplyError, pack
from ._credentials import Credentials
from ._error_lines import NO_COMMAND
from ._locator import Route
from ._reply_errors import ends_connection, to_store_error
from ._scripts import load_scripts
from ._server_check import check_server, eviction
from ._wire import KeyNames, decode, encode

#: How many redirections in a row are followed.
_REDIRECTIONS: Final = 5
#: How long connecting waits for an answer at the most, in times of the usual.
_MOST_PATIENCE: Final = 4


class RedisLink(Link):
    def __init__(
        self,
        connection: Connection,
        route: Route,
        names: KeyNames,
        patience: float,
        *,
        now: Callable[[], int] | None,
        credentials: Credentials,
    ) -> None:
        self._connection = connection
        self._route = route
        self._credentials = credentials
        self._version = 0  # of the credentials that the connection was made with
        self._in_a_row = 0  # errors that the connection has brought since the last answer
        self._by_name = True  # EVALSHA can be had
        self._only_reads = False  # the user has rights for EVALSHA_RO, and none for EVALSHA
        self._loads = True  # and SCRIPT LOAD, and where EVALSHA finds what it has loaded
        self._names = names
        # In a cluster a script must not run while its keys are on their way to another node: what
        # it does not declare may be elsewhere by then. No node runs one that declares a key that is
        # nowhere, and the channel is no key.
        self._more_keys = (names.channel,) if route.redirects else ()
        self._patience = patience
        self._connect_patience = patience  # doubles while a server that is reached is silent
        self._now = now
        self._checked = False
        self._openings: dict[tuple[str, str], CommandPrefix] = {}  # by script and instance

    async def connect(self) -> None:
        if self.connected:
            await trio.lowlevel.checkpoint()
            return
        if self._stays and await self._route.look():
            return  # noqa: ASYNC910 - looking was one
        self._in_a_row, self._version = 0, self._credentials.version
        patience, begun_at = self._connect_patience, trio.current_time()
        try:
            await self._connection.connect(patience)
            if not self._checked:
                await check_server(self._connection, patience)
                self._checked = True
        except ErrorReplyError as error:
            await self._connection.drop()  # noqa: ASYNC120 - it shields itself, briefly
            raise to_store_error(error) from None
        except StoreError as error:
            if isinstance(error, StoreSilentError):
                # To ask it again as soon would only add to what it has to do.
                self._connect_patience = min(2 * patience, _MOST_PATIENCE * self._patience)
            await self._connection.drop()  # noqa: ASYNC120 - it shields itself, briefly
            raise
        if trio.current_time() - begun_at < self._patience:
            self._connect_patience = self._patience

    async def inspect(self) -> tuple[str, ...]:
        try:
            evicts = await eviction(self._connection, self._patience)
        except ErrorReplyError as error:
            if ends_connection(error, 1):
                await self._connection.drop()  # noqa: ASYNC120 - it shields itself, briefly
            raise to_store_error(error) from None
        return () if evicts is None else (evicts,)

    @property
    def patience(self) -> float:
        return self._patience

    @property
    def can_send_nowait(self) -> bool:
        return (
            self._connection.can_send_nowait
            and self._version == self._credentials.version
            and self._route.stands
        )

    def send_nowait(self, request: Request) -> None:
        self._connection.send_nowait(self._command(request))

    async def send(self, request: Request) -> None:  # noqa: ASYNC910 - receiving is the checkpoint
        self._connection.send_nowait(self._command(request))

    async def receive(self, request: Request) -> Reply:
        try:
            answer = await self._redirected(request)
        except ErrorReplyError as error:
            self._in_a_row += 1
            if ends_connection(error, self._in_a_row):
                await self._connection.drop()  # noqa: ASYNC120 - it shields itself, briefly
            raise to_store_error(error, moves=self._route.redirects) from None
        try:
            reply = decode(cast("Sequence[bytes]", answer))
        except Exception as error:
            await self._connection.drop()  # noqa: ASYNC120 - it shields itself, briefly
            raise StoreUnavailableError(
                "the store, or something in front of it, answered what no script of ours replies: "
                f"{answer!r:.100}"
            ) from error
        self._in_a_row = 0
        if self._route.looks:
            self._route.note_time()
        return reply

    async def _redirected(self, request: Request) -> Answer:
        """Return the answer of the server that serves: a redirection says which one does."""
        for _ in range(_REDIRECTIONS):
            try:
                return await self._answer(request)
            except ErrorReplyError as error:
                if not self._route.redirect(error):
                    raise
            # It was not executed, so that it may be sent again, and at once.
            await self._connection.drop()
            await self.connect()
            self._connection.send_nowait(self._command(request))
        return await self._answer(request)

    async def _answer(self, request: Request) -> Answer:
        try:
            return await self._connection.receive()
        except ErrorReplyError as error:
            # It was not executed, so that it may be sent again.
            if error.code == "NOPERM" and isinstance(request, Query) and not self._only_reads:
                return await self._as_reader(request, error)  # noqa: ASYNC120 - a cancellation says more
            if error.code in ("NOSCRIPT", NO_COMMAND):
                return await self._otherwise(request, error)  # noqa: ASYNC120 - as above
            raise

    async def _as_reader(self, request: Request, refused: ErrorReplyError) -> Answer:
        """Ask as one who may read and not write, which servers from 7.0 on tell apart."""
        self._only_reads = True
        try:
            return await self._call(self._command(request))
        except ErrorReplyError as error:
            if error.code == "NOSCRIPT":
                return await self._otherwise(request, error)  # noqa: ASYNC120 - as above
            self._only_reads = False
            if error.code == NO_COMMAND:
                raise refused from None
            raise

    async def _otherwise(self, request: Request, error: ErrorReplyError) -> Answer:
        """Have a script run that the server, or a proxy, does not know by its name.

        It is told the scripts, or this one is sent along with what it is called with.
        """
        if error.code == NO_COMMAND:
            self._by_name = False
        elif self._loads:
            self._loads = False
            try:
                await self._load_scripts()
            except StoreUnavailableError:
                await self.connect()  # there are proxies that close the connection for it
            except ErrorReplyError as refused:
                error = refused
                if isinstance(to_store_error(error), StoreAwayError):
                    self._loads = True
                    raise
            else:
                try:
                    answer = await self._call(self._command(request))
                except ErrorReplyError as again:
                    if again.code != "NOSCRIPT":
                        self._loads = True
                        raise
                    # It was loaded somewhere else.
                else:
                    self._loads = True
                    return answer
        try:
            return await self._call(self._in_full(request))
        except ErrorReplyError as refused:
            if refused.code == NO_COMMAND or "'eval'" in refused.text:
                self._by_name = self._loads = True
                raise error from None  # which says what is missing
            raise

    def _in_full(self, request: Request) -> bytes:
        """Return the command that asks for it and brings the script along."""
        name, arguments = encode(request)
        keys, instance = self._keys(request), request.instance.encode()
        time = b"" if self._now is None else b"%d" % self._now()
        verb = b"EVAL_RO" if self._reads(request) else b"EVAL"
        words = (verb, load_scripts()[name].source, b"%d" % len(keys), *keys)
        return pack((*words, time, instance, *arguments))

    def _command(self, request: Request) -> bytes:
        """Return the command that asks for it."""
        if not self._by_name:
            return self._in_full(request)
        name, arguments = encode(request)
        reads = self._reads(request)
        opening = None if reads else self._openings.get((name, request.instance))
        if opening is None or self._now is not None:
            time = b"" if self._now is None else b"%d" % self._now()  # none: the server's own
            keys = self._keys(request)
            verb = b"EVALSHA_RO" if reads else b"EVALSHA"
            words = (verb, load_scripts()[name].sha, b"%d" % len(keys), *keys)
            opening = CommandPrefix((*words, time, request.instance.encode()))
            if not reads:
                self._openings[name, request.instance] = opening
        return opening.pack(tuple(arguments))

    def _keys(self, request: Request) -> tuple[bytes, ...]:
        return (*self._names.keys(request.instance), *self._more_keys)

    def _reads(self, request: Request) -> bool:
        """Return whether it is to be asked by the commands that only read."""
        return self._only_reads and isinstance(request, Query)

    async def _load_scripts(self) -> None:  # noqa: ASYNC910 - internal: callers make the checkpoint
        """Tell the server the scripts, which it may have forgotten."""
        for script in load_scripts().values():
            await self._call(pack((b"SCRIPT", b"LOAD", script.source)))

    async def _call(self, command: bytes) -> Answer:
        self._connection.send_nowait(command)
        return await self._connection.receive()

    @property
    def connected(self) -> bool:
        return self._stays and self._route.stands

    @property
    def _stays(self) -> bool:
        """Whether there is a connection that need not be made anew, if it leads where it should."""
        return self._connection.connected and self._version == self._credentials.version
