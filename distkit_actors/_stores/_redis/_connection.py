"""The seam between the Redis store and the ways to reach a server.

A connection, not a client from a pool: a client sends again what may have been executed,
and this package must know what was sent (P16, repeat). `_stream` and `_bridge` implement it.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias, TypeVar, cast

import hiredis
import trio
from redis.asyncio.connection import AbstractConnection, SSLConnection

from ..._errors import StoreError, StoreUnavailableError
from .._contract import StoreSilentError
from .._schemes import TLS_SCHEMES, uses_tls
from ._error_lines import code_of
from ._reasons import reason, repeats, tells

#: What a connection is made with: redis-py's own object, which holds all settings.
MakeConnection: TypeAlias = Callable[[], Awaitable[AbstractConnection]]

Answer: TypeAlias = "bytes | int | list[Answer] | None"

#: Sees that the server to which a connection was made is one that serves (`Locator.check`).
Check: TypeAlias = "Callable[[Connection, float | None], Awaitable[None]]"

_T = TypeVar("_T")

#: How it is said that a connection has ended.
LOST: Final = "the connection to the store was lost"

#: A server that has not understood us, or that we have not.
_ENDED: Final = re.compile(
    "(?i)closed by|reset by peer|broken pipe|EOF occurred|connection (lost|not ready)"
)


class ErrorReplyError(Exception):
    """The server, or something in front of it, answered with an error.

    ``code``: which one (`code_of`). None: nobody knows, nor whether anything was done.
    """

    def __init__(self, code: str | None, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text

    @classmethod
    def read(cls, text: str) -> ErrorReplyError:
        """Return the error that a server's line says."""
        return cls(code_of(text), text)

    def withhold(self, secrets: tuple[str, ...]) -> None:
        """Forget the server's words if there is a part of a secret among them.

        A server that does not know a command repeats what came with it: a password, too.
        """
        if repeats(self.text, secrets):
            self.text = "its words are not repeated, as a part of a secret is among them"
            self.args = (self.text,)


def copy_of(error: StoreError) -> StoreError:
    """Return an error of somebody's own, as each is raised and changed where it is caught."""
    copy = type(error)(*error.args)
    copy.__cause__ = error.__cause__
    return copy


class Connection(ABC):
    """A connection for one task, which can be lost, and made again.

    `_lane` has what several use in turn.
    """

    def __init__(
        self,
        address: str,
        response_timeout: float,
        check: Check | None,
        extra_time: Callable[[], float] | None = None,
    ) -> None:
        # ``extra_time`` returns how many seconds longer than usual it may take to find the server.
        self._extra_time = extra_time
        self._address = address
        self._check = check
        self._response_timeout = response_timeout
        self._settings: AbstractConnection | None = None  # of the connection, or of the last one
        self._heard = False  # it has answered a call before, on this or an earlier connection
        self._reached = False  # what is under way has got a connection
        self._unsent = b""  # of the command whose answer is to be received

    @property
    @abstractmethod
    def connected(self) -> bool:
        """Whether a connection is up, as far as is known."""

    @abstractmethod
    async def drop(self) -> None:
        """Close the connection, if there is one, without waiting for the other side."""

    @abstractmethod
    async def _introduce(self) -> Answer:
        """Make a connection, and say who we are, with what is to be noted in `_settings`."""

    @abstractmethod
    async def _answer(self) -> Answer:
        """Send what is still to be sent, and receive the answer."""

    @abstractmethod
    async def _messages(self) -> list[Answer]:
        """Do as `_answer`, and return with the message those that have come behind it.

        When cancelled while it receives, it has taken none.
        """

    async def connect(self, patience: float | None = None) -> None:
        """Make a connection and introduce ourselves. A checkpoint.

        It may take ``patience`` seconds, a `response_timeout` if that is not given. Raises
        `StoreUnavailableError` or `ErrorReplyError`; when cancelled, there is no connection.
        """
        await self.drop()
        failed = f"the store at {self._address} cannot be reached"
        seconds = self._response_timeout if patience is None else patience
        seconds += 0.0 if self._extra_time is None else self._extra_time()
        await self._in_time(self._run(self._introduce(), failed), failed, seconds)
        if self._check is not None:
            try:
                await self._check(self, patience)
            except BaseException:
                await self.drop()  # noqa: ASYNC102, ASYNC120 - it shields itself, briefly
                raise

    async def call(self, *words: bytes, patience: float | None = None) -> Answer:
        """Send a command and return its answer. A checkpoint.

        It may take ``patience`` seconds, a `response_timeout` if that is not given. Raises
        `ErrorReplyError`, or `StoreUnavailableError` if there is no answer: then, and when
        cancelled, the connection is dropped, and nobody knows if it was executed.
        """
        self.send_nowait(pack(words))
        answer = await self._in_time(self.receive(), LOST, patience)
        self._heard = True
        return answer

    def send_nowait(self, command: bytes) -> None:
        """Send of what `pack` has written as much as goes without waiting; `receive` follows."""
        self._unsent = command

    async def receive(self) -> Answer:
        """Send the rest of a command, and return its answer. A checkpoint.

        It is for one who cancels it when it takes too long. Raises and is cancelled as `call`.
        """
        if not self.connected:
            await trio.lowlevel.checkpoint()
            raise StoreUnavailableError(LOST)
        return await self._run(self._answer(), LOST)

    async def listen(self) -> list[Answer]:
        """Wait for what the server sends by itself, and return what has come. A checkpoint.

        Silence is normal, but a connection can die in it and nobody would know. So the server
        is asked for a sign of life after a `response_timeout` of it; that is returned too.

        Raises as `call` does; when cancelled, the connection is dropped.
        """
        if not self.connected:
            await trio.lowlevel.checkpoint()
            raise StoreUnavailableError(LOST)
        hearing = self._run(self._hear(), LOST)
        return await self._in_time(hearing, LOST, silence=self._response_timeout)

    async def _hear(self) -> list[Answer]:
        await trio.lowlevel.checkpoint()  # there may be something already
        with trio.move_on_after(self._response_timeout):
            return await self._messages()
        self.send_nowait(pack((b"PING",)))
        return await self._messages()

    async def _run(self, conversation: Awaitable[_T], failed: str) -> _T:
        """Do something with the connection, which does not survive a failure."""
        try:
            return await conversation
        except ErrorReplyError as error:
            self.withhold(error)
            raise
        except StoreError:
            await self.drop()  # noqa: ASYNC120 - it shields itself, briefly
            raise
        except Exception as error:  # noqa: BLE001 - raised below
            await self.drop()  # noqa: ASYNC120 - it shields itself, briefly
            failure = self.failure(error, failed)
        except BaseException:  # cancelled
            await self.drop()  # noqa: ASYNC102 - it shields itself, briefly
            raise
        raise failure from failure.__cause__  # here, where it has no context

    def failure(self, error: Exception, failed: str = LOST) -> StoreUnavailableError:
        """Return what to raise for an error of the connection, which is its cause.

        What redis-py, asyncio, sockets and TLS raise is much more than OSError.
        """
        if tells(error, self._secrets()):
            return StoreUnavailableError(
                f"{failed}: {type(error).__name__} (its words are not repeated, as a part of a "
                "secret is among them)"
            )
        failure = StoreUnavailableError(f"{failed}: {self._reason(error)}")
        failure.__cause__ = error
        return failure

    def withhold(self, error: ErrorReplyError) -> None:
        """Forget a server's words if they have a part of a secret among them."""
        error.withhold(self._secrets())

    def _secrets(self) -> tuple[str, ...]:
        """Return what the server has been told that nobody else may know."""
        settings = self._settings
        if settings is None:
            return ()
        # A password that stands in the place of the name, as nothing else does, is one too.
        told = [settings.password or settings.username]
        return tuple(str(word) for word in told if word)

    def _reason(self, error: Exception) -> str:
        why = reason(error)
        if self._heard or not _ENDED.search(why):
            return why
        hint = (
            "want a certificate of ours, which ?ssl_certfile=path&ssl_keyfile=path names"
            if self._over_tls
            else f"expect TLS, which is {' or '.join(f'{scheme}://' for scheme in TLS_SCHEMES)}"
        )
        return f"{why.rstrip('.')}, before it had answered anything; does it {hint}?"

    @property
    def _over_tls(self) -> bool:
        """Whether we speak TLS. A URL says it before there are settings."""
        by_url = uses_tls(self._address.partition(":")[0])
        return by_url or isinstance(self._settings, SSLConnection)

    async def _in_time(
        self,
        conversation: Awaitable[_T],
        failed: str,
        patience: float | None = None,
        silence: float = 0,
    ) -> _T:
        seconds = self._response_timeout if patience is None else patience
        self._reached = self.connected
        with trio.move_on_after(seconds + silence):
            return await conversation
        why = f"{failed}: no answer for {seconds:g} seconds"
        if self._reached:
            raise StoreSilentError(why)
        if self._over_tls:
            why += "; does the server speak TLS there?"
        raise StoreUnavailableError(why)


#: Writes a command in Redis' protocol. hiredis' stub takes it for a function of one word.
pack: Final = cast("Callable[[tuple[bytes, ...]], bytes]", hiredis.pack_command)  # pyright: ignore[reportUnknownMemberType]


class CommandPrefix:
    """The first words of many commands, which are written only once."""

    __slots__ = ("_count", "_written")

    def __init__(self, words: tuple[bytes, ...]) -> None:
        self._count = len(words)
        written = pack(words)
        self._written = written[written.index(b"\n") + 1 :]  # without the count, which is in front

    def pack(self, words: tuple[bytes, ...]) -> bytes:
        """Write the command that goes on with ``words``."""
        written = pack(words)
        count, behind = self._count + len(words), written[written.index(b"\n") + 1 :]
        return b"*%d\r\n%b%b" % (count, self._written, behind)
