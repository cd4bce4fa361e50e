"""A store on a Redis server, or on one that speaks as Redis does."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Final, Literal, Protocol, TypeAlias, cast, final

import trio
from redis.asyncio.connection import AbstractConnection

from .._errors import StoreError, StoreUnavailableError
from .._protocol._messages import Query, Reply, Request
from ._bridge import open_bridge
from ._connection import Answer, CommandPrefix, Connection, ErrorReplyError, MakeConnection, pack
from ._contract import Link, Store, StoreAwayError, StoreSilentError, Subscription
from ._credential_provider import AsyncCredentialProvider, CredentialProvider
from ._credentials import Credentials
from ._error_lines import NO_COMMAND
from ._redis_subscription import RedisSubscription
from ._redis_urls import read_url
from ._reply_errors import ends_connection, to_store_error
from ._scripts import load_scripts
from ._stream import open_stream
from ._wire import KeyNames, decode, encode

_OLDEST: Final = (6, 2)
#: How long connecting waits for an answer at the most, in times of the usual.
_MOST_PATIENCE: Final = 4

#: How many names of keys one step of a scan looks at, and of which keys it tells: an instance's own
#: key is a hash, whatever its id makes of the name.
_SCAN: Final = (b"COUNT", b"1000", b"TYPE", b"zset")
_SCAN_ADVICE: Final = "the user may not look for prefixes: grant it SCAN"

Transport: TypeAlias = Literal["asyncio", "trio"]

_TRANSPORTS: Final[
    Mapping[
        Transport,
        Callable[[MakeConnection, str, float], AbstractAsyncContextManager[Connection]],
    ]
] = {"asyncio": open_bridge, "trio": open_stream}


@final
class RedisStore(Store):
    """A Redis server (6.2 or newer), Valkey, or another that speaks and scripts as they do.

    Args:
        url: ``redis://[user:password@]host[:port][/db]``, ``rediss://…`` for TLS (which
            verifies the server; ``?ssl_ca_certs=path`` and redis-py's other ``ssl_…``
            options may follow) or ``unix://[user:password@]/path[?db=…]``. ``valkey://`` and
            ``valkeys://`` mean the same as ``redis://`` and ``rediss://``. Characters with
            a meaning in URLs must be percent-encoded, in passwords too. The options
            ``client_name``, ``db``, ``password``, ``protocol`` (2 only) and ``username`` may
            follow ``?``, each once; any other is refused by its name.
        response_timeout: a request that is unanswered for so many seconds, or a quarter more,
            is lost, and the connection is made again.
        transport: ``"trio"`` talks to the server over a trio stream; ``"asyncio"`` lets
            redis-py do it, on an asyncio loop hidden behind trio-asyncio. Both promise
            the same; ``docs/performance.md`` compares them.
        credential_provider: says who we are each time a connection is made, instead of a user
            name and a password in the URL: a `CredentialProvider`, as redis-py's are. Its
            ``get_credentials`` is called in a thread. If it has only ``get_credentials_async``
            (`AsyncCredentialProvider`), that is awaited: by trio, or on the asyncio loop with
            ``transport="asyncio"``. It has ``response_timeout`` seconds, like what else it
            takes to connect. If it is a streaming provider, the store registers itself with
            ``on_next``, and whenever that brings new credentials a connection is made anew
            before the next request.

    Raises:
        ValueError: the URL is none of these, or has a user name or a password though there is a
            credential provider.
    """

    def __init__(
        self,
        url: str,
        *,
        response_timeout: float = 2.0,
        transport: Literal["asyncio", "trio"] = "trio",
        credential_provider: CredentialProvider | AsyncCredentialProvider | None = None,
    ) -> None:
        if transport not in _TRANSPORTS:
            raise ValueError(f"transport must be 'trio' or 'asyncio', not {transport!r}")
        if not response_timeout > 0:
            raise ValueError("response_timeout must be more than 0 seconds")
        self._response_timeout = response_timeout
        self._transport: Transport = transport
        kind, settings, self._address = read_url(url)
        self._credentials = Credentials(
            partial(_make_connection, kind, settings),
            credential_provider,
            in_asyncio=transport == "asyncio",
        )
        self._now: Callable[[], int] | None = None

    @classmethod
    def _with_clock(cls, url: str, now: Callable[[], int]) -> RedisStore:
        """Return a store with a clock of its own, in microseconds; for tests."""
        store = cls(url)
        store._now = now
        return store

    @asynccontextmanager
    async def link(self, prefix: str) -> AsyncGenerator[Link]:
        """Return a link to the namespace of ``prefix``; see `Store.link`."""
        async with self._connection() as connection:
            names = KeyNames(prefix)
            yield _RedisLink(
                connection, names, self._response_timeout, self._now, self._credentials
            )

    @asynccontextmanager
    async def subscribe(self, prefix: str) -> AsyncGenerator[Subscription]:
        """Return notice of changes in the namespace of ``prefix``; see `Store.subscribe`.

        It has a connection of its own: one that is subscribed can run no scripts.
        """
        async with self._connection() as connection:
            yield RedisSubscription(connection, KeyNames(prefix).channel)

    async def prefixes(self) -> list[str]:
        """Return the prefixes that are in use; see `Store.prefixes`.

        It looks at the names of all keys of the database (``SCAN``), a thousand in a step, so that
        the server can do other things in between.
        """
        found: set[str | None] = set()
        async with self._connection() as connection:
            try:
                await connection.connect()
                cursor: Answer = b"0"
                while True:
                    scan = (b"SCAN", cast("bytes", cursor), b"MATCH", KeyNames.ANY, *_SCAN)
                    cursor, names = cast("list[Answer]", await connection.call(*scan))
                    found.update(map(KeyNames.prefix_of, cast("list[bytes]", names)))
                    if cursor == b"0":
                        break
            except ErrorReplyError as error:
                raise to_store_error(error, {"NOPERM": _SCAN_ADVICE}) from None
        return sorted(prefix for prefix in found if prefix is not None)

    def _connection(self) -> AbstractAsyncContextManager[Connection]:
        open_connection = _TRANSPORTS[self._transport]
        return open_connection(self._credentials.make, self._address, self._response_timeout)

    def __repr__(self) -> str:
        return f"<RedisStore at {self._address}>"


class _RedisLink(Link):
    def __init__(
        self,
        connection: Connection,
        names: KeyNames,
        patience: float,
        now: Callable[[], int] | None,
        credentials: Credentials,
    ) -> None:
        self._connection = connection
        self._credentials = credentials
        self._version = 0  # of the credentials that the connection was made with
        self._in_a_row = 0  # errors that the connection has brought since the last answer
        self._by_name = True  # EVALSHA can be had
        self._only_reads = False  # the user has rights for EVALSHA_RO, and none for EVALSHA
        self._loads = True  # and SCRIPT LOAD, and where EVALSHA finds what it has loaded
        self._names = names
        self._patience = patience
        self._connect_patience = patience  # doubles while a server that is reached is silent
        self._now = now
        self._checked = False
        self._openings: dict[tuple[str, str], CommandPrefix] = {}  # by script and instance

    async def connect(self) -> None:
        if self.connected:
            await trio.lowlevel.checkpoint()
            return
        self._in_a_row, self._version = 0, self._credentials.version
        patience, begun_at = self._connect_patience, trio.current_time()
        try:
            await self._connection.connect(patience)
            if not self._checked:
                await _check_server(self._connection, patience)
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
            evicts = await _eviction(self._connection, self._patience)
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
        return self._connection.can_send_nowait and self._version == self._credentials.version

    def send_nowait(self, request: Request) -> None:
        self._connection.send_nowait(self._command(request))

    async def send(self, request: Request) -> None:  # noqa: ASYNC910 - receiving is the checkpoint
        self._connection.send_nowait(self._command(request))

    async def receive(self, request: Request) -> Reply:
        try:
            try:
                answer = await self._connection.receive()
            except ErrorReplyError as error:
                # It was not executed, so that it may be sent again.
                if error.code == "NOPERM" and isinstance(request, Query) and not self._only_reads:
                    answer = await self._as_reader(request, error)  # noqa: ASYNC120 - a cancellation says more
                elif error.code in ("NOSCRIPT", NO_COMMAND):
                    answer = await self._otherwise(request, error)  # noqa: ASYNC120 - as above
                else:
                    raise
        except ErrorReplyError as error:
            self._in_a_row += 1
            if ends_connection(error, self._in_a_row):
                await self._connection.drop()  # noqa: ASYNC120 - it shields itself, briefly
            raise to_store_error(error) from None
        try:
            reply = decode(cast("Sequence[bytes]", answer))
        except Exception as error:
            await self._connection.drop()  # noqa: ASYNC120 - it shields itself, briefly
            raise StoreUnavailableError(
                "the store, or something in front of it, answered what no script of ours replies: "
                f"{answer!r:.100}"
            ) from error
        self._in_a_row = 0
        return reply

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
        keys, instance = self._names.keys(request.instance), request.instance.encode()
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
            keys = self._names.keys(request.instance)
            verb = b"EVALSHA_RO" if reads else b"EVALSHA"
            words = (verb, load_scripts()[name].sha, b"%d" % len(keys), *keys)
            opening = CommandPrefix((*words, time, request.instance.encode()))
            if not reads:
                self._openings[name, request.instance] = opening
        return opening.pack(tuple(arguments))

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
        return self._connection.connected and self._version == self._credentials.version


async def _check_server(connection: Connection, patience: float) -> None:
    """Refuse a server that would lose counts, as far as we may ask."""
    server = await _info(connection, b"server", patience)
    version = server.get("redis_version", "")
    if version and tuple(int(n) for n in version.split(".")[:2] if n.isdigit()) < _OLDEST:
        raise StoreError(f"Redis {version} is too old: version 6.2 or newer is needed")
    evicts = await _eviction(connection, patience)
    if evicts is not None:
        raise StoreError(evicts)


async def _eviction(connection: Connection, patience: float) -> str | None:
    """Return what is wrong if the server may evict our keys, as far as it says."""
    memory = await _info(connection, b"memory", patience)
    policy = memory.get("maxmemory_policy", "")
    if not policy.startswith("allkeys-"):
        return None
    return (
        f"Redis is configured to evict any key when memory is short (maxmemory-policy "
        f"{policy}), and so would lose counts unnoticed: use noeviction or volatile-…"
    )


async def _info(connection: Connection, section: bytes, patience: float) -> dict[str, str]:
    try:
        answer = await connection.call(b"INFO", section, patience=patience)
    except ErrorReplyError as error:
        if error.code in {None, NO_COMMAND, "NOPERM"}:
            return {}  # it does not tell us, or not everybody  # noqa: ASYNC910 - internal: callers make the checkpoint
        raise
    lines = answer.decode().splitlines() if isinstance(answer, bytes) else []
    return dict(line.split(":", 1) for line in lines if ":" in line)


class _ConnectionClass(Protocol):
    def __call__(self, **settings: object) -> AbstractConnection: ...


def _make_connection(
    kind: type[AbstractConnection], settings: Mapping[str, object]
) -> AbstractConnection:
    connection = cast("_ConnectionClass", kind)(
        **settings,
        protocol=2,  # also keeps redis-py 8 from its maintenance notifications
        retry=None,
        # No timeouts but ours: with them redis-py loses cancellations on Python 3.11.
        socket_timeout=None,
        socket_connect_timeout=None,
        health_check_interval=0,
    )
    # Not to send CLIENT SETINFO; the arguments for it have changed over the versions.
    for name in ("driver_info", "lib_name", "lib_version"):
        setattr(connection, name, None)
    return connection
