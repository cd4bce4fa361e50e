"""One counter's way to its namespace on a Redis server: a script for each request.

This file is a little longer than others: a server may refuse a request in several ways, each has
another way of asking for it, and these ways are read together.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final, cast

import trio

from ..._errors import StoreError, StoreUnavailableError
from ..._protocol._messages import Apply, Load, Loaded, Query, QueryPage, Reply, Request
from .._contract import CursorLostError, Link, NotConnectedError, StoreAwayError
from ._connection import Answer, CommandPrefix, ErrorReplyError, pack
from ._correlation import new_id, reply_of
from ._cursors import Cursors
from ._error_lines import NO_COMMAND, is_from_script
from ._heartbeats import NOT_DONE, Heartbeat
from ._lane import Lane
from ._replicas import may_have_changed
from ._reply_errors import concerns_slot, ends_connection, to_store_error
from ._scripts import load_scripts
from ._server_check import eviction, eviction_policy
from ._wire import KeyNames, around, decode, encode

#: Errors that nobody knows, in answer to heartbeats, until it is known that a proxy makes them.
_STRAYS_OF_A_PROXY: Final = 2
#: How often in a row scripts are loaded in vain until it is known that a proxy has it so: it closes
#: the connection, or has them loaded by another server.
_VAIN_LOADS_OF_A_PROXY: Final = 2
#: How many redirections in a row are followed.
_REDIRECTIONS: Final = 5


class RedisLink(Link):
    def __init__(
        self,
        lane: Lane,
        names: KeyNames,
        patience: float,
        *,
        now: Callable[[], int] | None,
        min_replicas: int,
    ) -> None:
        self._lane = lane
        self._in_a_row = 0  # errors that a connection has brought since the last answer …
        self._number = 0  # … that has this number
        self._by_name = True  # EVALSHA can be had
        self._only_reads = False  # the user has rights for EVALSHA_RO, and none for EVALSHA
        self._loads = True  # and SCRIPT LOAD, and where EVALSHA finds what it has loaded
        self._vain_loads = 0  # times in a row that it was of no use
        self._strays = 0  # errors that nobody knows, in answer to heartbeats
        self._names = names
        # In a cluster a script must not run while its keys are on their way to another node: what
        # it does not declare may be elsewhere by then. No node runs it then if a declared name is
        # missing, as the channel always is.
        self._more_keys = (names.channel,) if lane.redirects else ()
        self._in_cluster = False  # though the server had said that it is in none
        self._patience = patience
        self._now = now
        self._min_replicas = min_replicas
        self._id = b""  # of the request that was sent last; its answer repeats it
        self._openings: dict[tuple[str, str], CommandPrefix] = {}  # by script and instance
        self._gathered = False  # what was sent last is a heartbeat that went with others
        self._cursors = Cursors()

    async def connect(self) -> None:
        await self._lane.connect()

    async def inspect(self) -> tuple[str, ...]:
        await trio.lowlevel.checkpoint_if_cancelled()
        policy: str | None = None
        try:
            if self._lane.tells:
                policy = await eviction_policy(self._lane, self._patience)
        except ErrorReplyError as error:
            if ends_connection(error, 1):
                await self._lane.drop()  # noqa: ASYNC120 - it shields itself, briefly
            raise to_store_error(error) from None
        if policy is None and not self._min_replicas:
            raise StoreError("the server does not tell its maxmemory-policy; INFO would")
        missing, evicts = self._lane.replicas.warnings(), eviction(policy or "")
        return missing if evicts is None else (evicts, *missing)

    @property
    def patience(self) -> float:
        return self._patience

    @property
    def can_send_nowait(self) -> bool:
        return self._lane.sends_nowait and self._lane.connected

    def send_nowait(self, request: Request) -> None:
        self._gathered = False
        self._lane.send_nowait(self._command(request))

    async def send(self, request: Request) -> None:  # noqa: ASYNC910 - receiving is the checkpoint
        self._gathered = False
        if isinstance(request, Apply) and self._gathers and _is_heartbeat(request):
            self._gathered = True
            await self._lane.send_heartbeat(self._heartbeat(request))
        else:
            self._lane.send_nowait(self._command(request))

    @property
    def _gathers(self) -> bool:
        """Whether heartbeats may go together with those of others."""
        return (
            self._lane.gathers
            and self._by_name
            and self._loads
            and self._strays < _STRAYS_OF_A_PROXY
            and not self._in_cluster
            and not self._min_replicas
        )

    def _heartbeat(self, request: Apply) -> Heartbeat:
        _, (before, after, limits) = encode(request)
        _, behind = self._around("apply", request)
        keys = self._names.main_keys(request.instance)
        self._id = request_id = new_id()
        alone = partial(self._written, request, request_id)
        return Heartbeat(keys, request_id, (before, after), limits, behind, alone)

    async def receive(self, request: Request) -> Reply:
        try:
            try:
                answer = await self._lane.receive()
                if self._gathered:
                    self._strays = 0
                    if answer == self._id + NOT_DONE:
                        self._gathered = False
                        answer = await self._call(self._command(request))
            except ErrorReplyError as error:
                answer = await self._after(request, error)  # noqa: ASYNC120 - a cancellation says more
        except ErrorReplyError as error:
            if self._number != self._lane.number:
                self._in_a_row, self._number = 0, self._lane.number
            self._in_a_row += 1
            if concerns_slot(error):
                self._in_cluster = True
                self._openings.clear()
            if self._lane.looks:
                self._lane.note_time(look=True)
            if ends_connection(error, self._in_a_row):
                if self._lane.redirects and concerns_slot(error):
                    self._lane.leave()
                else:
                    await self._lane.drop()  # noqa: ASYNC120 - it shields itself, briefly
            raise to_store_error(error, moves=self._lane.redirects) from None
        try:
            reply = self._read(answer)
        except Exception as error:
            await self._lane.drop()  # noqa: ASYNC120 - it shields itself, briefly
            raise StoreUnavailableError(
                "the store, or something in front of it, answered what no script of ours replies "
                f"to this request: {answer!r:.100}"
            ) from error
        self._note(reply)
        if self._min_replicas and may_have_changed(request, reply):
            lane = self._lane
            await lane.replicas.confirm(lane, lane.number, self._min_replicas, self._patience)
        return self._handed(request, reply)

    def wait_answer(self) -> Awaitable[None] | None:
        # What has to wait for replicas is received by the one who can wait again.
        return None if self._min_replicas else self._lane.wait_answer()

    def receive_nowait(self, request: Request) -> Reply | None:
        answer = self._lane.receive_nowait()
        if answer is None:
            return None
        try:
            reply = self._read(answer)
        except Exception:  # noqa: BLE001 - `receive` finds and says the same
            return None
        self._note(reply)
        return self._handed(request, reply)

    def _read(self, answer: Answer) -> Reply:
        """Read an answer. Raises if it is none, or not to the request that was sent last."""
        return decode(cast("bytes | Sequence[bytes]", reply_of(answer, self._id)))

    def _note(self, reply: Reply) -> None:
        self._in_a_row = 0
        if self._lane.looks:
            # Not between two pages of a load, as that begins anew on each new connection.
            self._lane.note_time(look=not (type(reply) is Loaded and reply.cursor))

    def interrupt(self) -> None:
        self._lane.interrupt()

    async def _after(self, request: Request, error: ErrorReplyError) -> Answer:
        """Return an answer that can be had in spite of ``error``; raise that if there is none.

        The request was not executed, so that it may be sent again, and at once.
        """
        for _ in range(_REDIRECTIONS):
            moved = self._lane.redirect(error)
            try:
                if not moved:
                    return await self._otherwise_asked(request, error)
                await self._connect_again(request)
                return await self._call(self._command(request))
            except ErrorReplyError as again:
                if again is error or not (moved or again.code == "MOVED"):
                    raise
                error = again
        raise error

    async def _connect_again(self, request: Request) -> None:
        """Connect, for a request that was certainly not executed. Raises `StoreError`."""
        _check_cursor(request)
        try:
            await self.connect()
        except StoreAwayError:
            raise
        except StoreUnavailableError as error:
            raise NotConnectedError(*error.args) from error.__cause__

    async def _connect_in_doubt(self) -> None:
        """Connect, for a request that may have been executed, whatever is said to the connection.

        Raises `StoreUnavailableError`.
        """
        try:
            await self.connect()
        except StoreError as error:
            raise StoreUnavailableError(*error.args) from error.__cause__

    async def _otherwise_asked(self, request: Request, error: ErrorReplyError) -> Answer:
        """Ask in another way, if the server refuses this one."""
        if error.code == "NOPERM" and isinstance(request, Query) and not is_from_script(error.text):
            return await self._by_other_right(request, error)  # noqa: ASYNC120 - a cancellation says more
        if error.code in ("NOSCRIPT", NO_COMMAND):
            return await self._otherwise(request, error)  # noqa: ASYNC120 - as above
        if self._gathered:  # it may be about one of the others
            self._gathered = False
            if error.code is None:
                # Something in front of the server may have said it, and the answer may come yet.
                self._strays += 1
                await self._lane.drop()  # noqa: ASYNC120 - it shields itself, briefly
                await self._connect_in_doubt()  # noqa: ASYNC120 - a cancellation says more
            return await self._call(self._command(request))
        raise error

    async def _by_other_right(self, request: Request, refused: ErrorReplyError) -> Answer:
        """Ask as one who may read and not write, or who may do both.

        Servers from 7.0 on tell them apart, and may be told at any time who is which.
        """
        self._only_reads = not self._only_reads
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
                await self._lane.prepare(self._load_scripts)
            except StoreUnavailableError:
                # There are proxies that close the connection for it. They do so each time.
                self._note_vain_load()
                await self._connect_again(request)
            except trio.Cancelled:
                self._loads = True
                raise
            except ErrorReplyError as refused:
                error = refused
                if isinstance(to_store_error(error), StoreAwayError):
                    self._loads = True
                    raise
            else:
                self._loads = True
                try:
                    answer = await self._call(self._command(request))
                except ErrorReplyError as again:
                    if again.code != "NOSCRIPT":
                        raise
                    self._note_vain_load()  # loaded somewhere else, or forgotten once more
                else:
                    self._vain_loads = 0
                    return answer
        try:
            self._id = new_id()
            return await self._call(self._in_full(request, self._id))
        except ErrorReplyError as refused:
            if refused.code in (NO_COMMAND, "NOPERM") and not is_from_script(refused.text):
                self._by_name = self._loads = True  # the other way may be open again
                if error.code != NO_COMMAND:
                    raise error from None  # which says what is missing, or that it is not for long
            raise

    def _note_vain_load(self) -> None:
        self._vain_loads += 1
        self._loads = self._vain_loads < _VAIN_LOADS_OF_A_PROXY

    def _in_full(self, request: Request, request_id: bytes) -> bytes:
        """Return the command that asks for it and brings the script along."""
        name, arguments = self._encode(request)
        keys, (before, behind) = self._keys(request), self._around(name, request)
        verb = b"EVAL_RO" if self._reads(request) else b"EVAL"
        words = (verb, load_scripts()[name].source, b"%d" % len(keys), *keys)
        return pack((*words, *before, *arguments, *behind, request_id))

    def _command(self, request: Request) -> bytes:
        """Return the command that asks for it. The next answer must be to this one."""
        self._id = new_id()
        return self._written(request, self._id)

    def _written(self, request: Request, request_id: bytes) -> bytes:
        """Return the command that asks for it, with its id."""
        if not self._by_name:
            return self._in_full(request, request_id)
        name, arguments = self._encode(request)
        reads = self._only_reads and self._reads(request)
        opening = None if reads else self._openings.get((name, request.instance))
        behind: tuple[bytes, ...] = ()
        if opening is None or self._now is not None:
            before, behind = self._around(name, request)
            keys = self._keys(request)
            verb = b"EVALSHA_RO" if reads else b"EVALSHA"
            words = (verb, load_scripts()[name].sha, b"%d" % len(keys), *keys)
            opening = CommandPrefix((*words, *before))
            if not reads:
                self._openings[name, request.instance] = opening
        return opening.pack((*arguments, *behind, request_id))

    def _encode(self, request: Request) -> tuple[str, list[bytes]]:
        if type(request) is Query:
            request = self._cursors.asked(request, self._lane.number)
        return encode(request)

    def _handed(self, request: Request, reply: Reply) -> Reply:
        if type(reply) is QueryPage and type(request) is Query:
            return self._cursors.answered(request, reply)
        return reply

    def _around(self, name: str, request: Request) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
        """Return what stands before the arguments of a script, and what behind them."""
        time = b"" if self._now is None else b"%d" % self._now()  # none: the server's own
        return around(name, time, request.instance)

    def _keys(self, request: Request) -> tuple[bytes, ...]:
        """Return what a script is to declare: only clusters read that, and each costs it time."""
        if self._lane.standalone and not self._in_cluster:
            return self._names.main_keys(request.instance)
        return (*self._names.keys(request.instance), *self._more_keys)

    def _reads(self, request: Request) -> bool:
        """Return whether it is to be asked by the commands that only read."""
        return self._only_reads and isinstance(request, Query)

    async def _load_scripts(self) -> None:  # noqa: ASYNC910 - internal: callers make the checkpoint
        """Tell the server the scripts, which it may have forgotten."""
        for script in load_scripts().values():
            await self._call(pack((b"SCRIPT", b"LOAD", script.source)))

    async def _call(self, command: bytes) -> Answer:
        self._lane.send_nowait(command)
        return await self._lane.receive()

    @property
    def connected(self) -> bool:
        return self._lane.connected

    def unanswered(self, patience: float) -> None:
        self._lane.unanswered(patience)


def _check_cursor(request: Request) -> None:
    """Raise if a request must not be sent on another connection: it may lead to another server."""
    if isinstance(request, Load) and request.cursor:
        raise CursorLostError("the namespace may be at another server, so it is read anew")


def _is_heartbeat(request: Apply) -> bool:
    return not (request.entries or request.leave or request.atomic)
