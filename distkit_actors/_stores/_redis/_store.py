"""A store on a Redis server, or on one that speaks as Redis does."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Final, Literal, Protocol, TypeAlias, cast, final

from redis.asyncio.connection import AbstractConnection

from ..._protocol._partitions import checked_partitions
from .._contract import Link, Store, Subscription
from .._part import PartStore
from ._bridge import open_bridge
from ._connection import Answer, Connection, ErrorReplyError, MakeConnection
from ._credential_provider import AsyncCredentialProvider, CredentialProvider
from ._credentials import Credentials
from ._link import RedisLink
from ._reply_errors import to_store_error
from ._stream import open_stream
from ._subscription import RedisSubscription
from ._urls import read_url
from ._wire import KeyNames

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
        partitions: over how many parts the keys of a prefix are spread, from 1 to 256. All who
            share a prefix must give the same number, or are refused (`StoreError`) when they
            start, as long as anybody lives by another one. For namespaces that are too much for
            one node of a cluster: the parts lie evenly among its slots. Each counter then has one
            conversation with each part, so that each part costs every instance a heartbeat.
            Whatever is about one key is as with one part; what is about several is atomic within
            each part only. ``docs/partitions.md`` says what that means for each operation, and how
            to choose the number.

    Raises:
        TypeError: ``partitions`` is no int.
        ValueError: ``partitions`` is not from 1 to 256; or the URL is none of these, or has a user
            name or a password though there is a credential provider.
    """

    __module__ = "distkit_actors"  # which imports it when it is asked for, and so does `open_store`

    def __init__(
        self,
        url: str,
        *,
        response_timeout: float = 2.0,
        transport: Literal["asyncio", "trio"] = "trio",
        credential_provider: CredentialProvider | AsyncCredentialProvider | None = None,
        partitions: int = 1,
    ) -> None:
        self._partitions = checked_partitions(partitions)
        self._parts: dict[int, PartStore] = {}
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

    @property
    def partitions(self) -> int:
        """Over how many parts the keys of a prefix are spread; see `Store.partitions`."""
        return self._partitions

    def part(self, number: int) -> Store:
        """Return the store of a part of each namespace; see `Store.part`."""
        if number not in self._parts:
            self._parts[number] = PartStore(self, number, self._link, self._subscribe)
        return self._parts[number]

    def link(self, prefix: str) -> AbstractAsyncContextManager[Link]:
        """Return a link to the namespace of ``prefix``; see `Store.link`."""
        return self._link(prefix, 0)

    def subscribe(self, prefix: str) -> AbstractAsyncContextManager[Subscription]:
        """Return notice of changes in the namespace of ``prefix``; see `Store.subscribe`.

        It has a connection of its own: one that is subscribed can run no scripts.
        """
        return self._subscribe(prefix, 0)

    @asynccontextmanager
    async def _link(self, prefix: str, part: int) -> AsyncGenerator[Link]:
        async with self._connection() as connection:
            names = KeyNames(prefix, part)
            yield RedisLink(connection, names, self._response_timeout, self._now, self._credentials)

    @asynccontextmanager
    async def _subscribe(self, prefix: str, part: int) -> AsyncGenerator[Subscription]:
        async with self._connection() as connection:
            yield RedisSubscription(connection, KeyNames(prefix, part).channel)

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
