"""A store on a Redis server, or on one that speaks as Redis does.

This file is longer than others, as half of it is what users read of the class.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Final, Protocol, Unpack, cast, final

from redis.asyncio.connection import AbstractConnection, ConnectionPool

from ..._protocol._partitions import checked_partitions
from ..._protocol._values import checked_number
from .._contract import Link, Store, Subscription
from .._part import PartStore
from ._bridge import checked_pool, open_bridge, place_of
from ._cluster import ClusterLocator
from ._cluster_lane import cluster_lane
from ._connection import Answer, Connection, ErrorReplyError
from ._credential_provider import AsyncCredentialProvider, CredentialProvider
from ._credentials import Credentials
from ._lane import Lane, OwnLane
from ._link import RedisLink
from ._locator import FixedLocator, Locator
from ._node_table import Ways
from ._replicas import checked_replicas
from ._reply_errors import to_store_error
from ._sentinel import SentinelLocator
from ._shared import SharedConnections
from ._shared_feeds import SharedFeeds
from ._stream import open_stream
from ._subscription import RedisSubscription
from ._survey import MakeTo, Node
from ._tls_options import TlsOptions
from ._urls import ServerUrl, read_url
from ._wire import KeyNames

#: How many names of keys one step of a scan looks at, and of which keys it tells: an instance's own
#: key is a hash, whatever its id makes of the name.
_SCAN: Final = (b"COUNT", b"1000", b"TYPE", b"zset")
_SCAN_ADVICE: Final = "the user may not look for prefixes: grant it SCAN"


@final
class RedisStore(Store):
    """A Redis server (6.2 or newer), Valkey, or another that speaks and scripts as they do.

    Args:
        url: ``redis://[user:password@]host[:port][/db]``, ``rediss://…`` for TLS (which
            verifies the server; redis-py's ``ssl_…`` options may follow ``?``) or
            ``unix://[user:password@]/path[?db=…]``. ``valkey://`` and ``valkeys://`` mean the same
            as ``redis://`` and ``rediss://``. Characters with a meaning in URLs must be
            percent-encoded, in passwords too. The options
            ``client_name``, ``db``, ``password``, ``protocol`` (2 only) and ``username`` may
            follow ``?``, each once; any other is refused by its name.
            ``redis+sentinel://[user:password@]host[:port],…/service[/db]`` names sentinels, which
            are asked for the primary whenever a connection is made; ``sentinel_username`` and
            ``sentinel_password`` may follow ``?``. ``redis+cluster://[user:password@]host[:port],…``
            names nodes of a cluster, of which some are enough. ``rediss+sentinel://…`` and
            ``rediss+cluster://…`` are TLS to all of them. See ``docs/topologies.md``.
        response_timeout: a request that is unanswered for so many seconds, or a quarter more,
            is sent again. If nothing else was answered either, the connection is made again.
        credential_provider: says who we are each time a connection is made, instead of a user
            name and a password in the URL: a `CredentialProvider`, as redis-py's are. Its
            ``get_credentials`` is called in a thread. If it has only ``get_credentials_async``
            (`AsyncCredentialProvider`), that is awaited, by trio. It has ``response_timeout``
            seconds, like what else it takes to connect. A call in a thread must end by itself: four
            that never return keep the store from asking again. If it is a streaming provider, the
            store registers itself with ``on_next``, and whenever that brings new credentials a
            connection is made anew before the next request.
        partitions: over how many parts the keys of a prefix are spread, from 1 to 256. All
            instances of a prefix must give the same number. While any instance lives with another
            number, a new one is refused at its start (`StoreError`). For namespaces that are too
            much for one node of a cluster: the parts lie evenly among its slots. Each counter then
            has one conversation with each part, so that each part costs every instance a heartbeat.
            An operation on one key works as with one part; one on several keys is atomic in each
            part only. ``docs/partitions.md`` says what that means for each operation, and how
            to choose the number.
        min_replicas: how many replicas must confirm a write before the caller gets its outcome. So
            a failover loses fewer acknowledged writes. It takes one more round trip, and one to the
            replicas. If they do not confirm within a quarter of ``response_timeout`` (15 seconds at
            most), the write stands, and the caller gets its outcome. Within about a minute the log
            and ``statistics().warnings`` say so. Later waits are ten times shorter until replicas
            confirm. Writes only; reads and heartbeats do not wait. See ``docs/topologies.md``.
        tls: options of TLS, as redis-py has them, for a URL with ``rediss``: ``ssl_ca_certs``,
            ``ssl_ca_data``, ``ssl_ca_path``, ``ssl_cert_reqs``, ``ssl_certfile``,
            ``ssl_check_hostname``, ``ssl_ciphers``, ``ssl_exclude_verify_flags``,
            ``ssl_include_verify_flags``, ``ssl_keyfile``, ``ssl_min_version`` and ``ssl_password``.
            Each may stand in the URL instead.

    Raises:
        TypeError: ``partitions`` or ``min_replicas`` is no int.
        ValueError: ``partitions`` is not from 1 to 256, or ``min_replicas`` not from 0 to 100; or
            the URL is none of these, or has a user name or a password though there is a credential
            provider.
    """

    __module__ = "distkit_actors"  # which imports it when it is asked for, and so does `open_store`

    def __init__(
        self,
        url: str,
        *,
        response_timeout: float = 2.0,
        credential_provider: CredentialProvider | AsyncCredentialProvider | None = None,
        partitions: int = 1,
        min_replicas: int = 0,
        **tls: Unpack[TlsOptions],
    ) -> None:
        self._partitions = checked_partitions(partitions)
        self._min_replicas = checked_replicas(min_replicas)
        self._parts: dict[int, PartStore] = {}
        _check_timeout(response_timeout)
        self._response_timeout = response_timeout
        place = read_url(url, tls)
        self._address = place.address
        self._credentials = Credentials(
            partial(_make_connection, place.kind, place.settings), credential_provider
        )
        self._locator = _make_locator(place, self._credentials, response_timeout)
        self._ways = Ways(self._locator, self._credentials.make, self._address, response_timeout)
        self._shared = SharedConnections(self._ways, self._credentials)
        self._feeds = SharedFeeds(self._ways)
        self._pool: ConnectionPool | None = None
        self._now: Callable[[], int] | None = None

    @classmethod
    def from_pool(
        cls,
        pool: ConnectionPool,
        *,
        response_timeout: float = 2.0,
        partitions: int = 1,
        min_replicas: int = 0,
    ) -> RedisStore:
        """Return a store that is reached through the connections of a pool of redis-py's.

        For what a URL cannot say: connection classes of your own, redis-py's Sentinel pools,
        pools whose connections ask a credential provider. All of redis-py's connecting happens on
        an asyncio loop that trio-asyncio runs in the background: your tasks run in no asyncio loop.
        A lone operation takes about four times as long as with a URL.

        Each counter takes a connection of its own from the pool when it connects, and so does
        whoever watches. It gives them back closed. While they are taken they do not retry, check
        their health or time out by themselves, as that could do an operation twice; the pool's
        settings stay as they are. RESP3 and ``decode_responses`` make no difference. The pool must
        not be used in another event loop at the same time.

        A `KeyboardInterrupt` may strike in the asyncio loop, which ends with it, and then whoever
        waits there cannot be cancelled. So let a task receive SIGINT, with
        `trio.open_signal_receiver`.

        Args:
            pool: a `redis.asyncio.ConnectionPool`, or one of a class derived from it.
            response_timeout: as `RedisStore` has it; it bounds how long a pool may wait for a free
                connection, too.
            partitions: as `RedisStore` has it.
            min_replicas: as `RedisStore` has it.

        Raises:
            TypeError: it is no such pool, or ``partitions`` or ``min_replicas`` is no int.
            ImportError: trio-asyncio does not work here, as on Python 3.14. All else does.
        """
        partitions = checked_partitions(partitions)
        _check_timeout(response_timeout)
        pool = checked_pool(pool)
        store = cls.__new__(cls)
        store._partitions, store._parts = partitions, {}
        store._min_replicas = checked_replicas(min_replicas)
        store._response_timeout, store._locator = response_timeout, FixedLocator()
        store._pool, store._address, store._now = pool, place_of(pool), None
        store._credentials = Credentials(pool.make_connection, None)
        return store

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
        """Return a link to the namespace of ``prefix``; see `Store.link`.

        All links of one trio run share a connection: in a cluster, those that one node serves.
        """
        return self._link(prefix, 0)

    def subscribe(self, prefix: str) -> AbstractAsyncContextManager[Subscription]:
        """Return notice of changes in the namespace of ``prefix``; see `Store.subscribe`.

        It has another connection than links, as one that is subscribed can run no scripts. All
        subscriptions of one trio run share it: in a cluster, those of one node.
        """
        return self._subscribe(prefix, 0)

    @asynccontextmanager
    async def _link(self, prefix: str, part: int) -> AsyncGenerator[Link]:
        names = KeyNames(prefix, part)
        async with self._lane(names.slot) as lane:
            yield RedisLink(
                lane,
                names,
                self._response_timeout,
                now=self._now,
                min_replicas=self._min_replicas,
            )

    @asynccontextmanager
    async def _lane(self, slot: int) -> AsyncGenerator[Lane]:
        if self._pool is not None:
            async with self._bridge(self._pool) as connection:
                yield OwnLane(connection, self._credentials, self._response_timeout)
        elif self._locator.redirects:
            with cluster_lane(self._shared.nodes, self._ways.route(slot)) as lane:
                yield lane
        else:
            with self._shared.lane() as lane:
                yield lane

    @asynccontextmanager
    async def _subscribe(self, prefix: str, part: int) -> AsyncGenerator[Subscription]:
        names = KeyNames(prefix, part)
        if self._pool is not None:
            async with self._bridge(self._pool) as connection:
                yield RedisSubscription(connection, names.channel)
        elif self._locator.redirects:
            route = self._ways.route(names.slot)
            with self._feeds.cluster_subscription(names.channel, route) as subscription:
                yield subscription
        else:
            with self._feeds.subscription(names.channel) as subscription:
                yield subscription

    async def prefixes(self) -> list[str]:
        """Return the prefixes that are in use, as `Store.prefixes` does. Sorted.

        It looks at the names of all keys of the database (``SCAN``), a thousand in a step, so that
        the server can do other things in between. A checkpoint; cancelling it leaves nothing
        behind. Raises what `Store.prefixes` raises.
        """
        found: set[str | None] = set()
        try:
            for slot in await self._locator.servers():
                async with self._connection(slot) as connection:
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

    def _connection(self, slot: int) -> AbstractAsyncContextManager[Connection]:
        """Return a connection for somebody alone."""
        if self._pool is not None:
            return self._bridge(self._pool)
        route = self._ways.route(slot)
        return open_stream(route.make, self._address, self._response_timeout, route.check)

    def _bridge(self, pool: ConnectionPool) -> AbstractAsyncContextManager[Connection]:
        return open_bridge(pool, self._address, self._response_timeout)

    def __repr__(self) -> str:
        return f"<RedisStore at {self._address}>"


def _check_timeout(response_timeout: float) -> None:
    if not checked_number(response_timeout, "response_timeout") > 0:
        raise ValueError("response_timeout must be more than 0 seconds")


class _ConnectionClass(Protocol):
    def __call__(self, **settings: object) -> AbstractConnection: ...


def _make_locator(place: ServerUrl, credentials: Credentials, patience: float) -> Locator:
    async def to_nodes() -> MakeTo:
        make = await credentials.maker()

        def to_node(node: Node) -> AbstractConnection:
            connection = make()
            connection.host, connection.port = node  # type: ignore[attr-defined]
            return connection

        return to_node

    async def to_sentinels() -> MakeTo:  # noqa: ASYNC124 - as the other
        def to_sentinel(node: Node) -> AbstractConnection:
            return _make_connection(place.kind, {**place.to_sentinels, **node._asdict()})

        return to_sentinel  # noqa: ASYNC910 - connecting is one

    if place.service:
        return SentinelLocator(to_sentinels, place.nodes, place.service, patience)
    if place.nodes:
        return ClusterLocator(to_nodes, place.nodes, patience)
    return FixedLocator()


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
