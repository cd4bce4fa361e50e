"""What is asked of a pool before anything is connected: whether it can be used, where it leads."""

from __future__ import annotations

from typing import cast

from redis.asyncio.connection import Connection as TcpConnection
from redis.asyncio.connection import ConnectionPool, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.sentinel import SentinelConnectionPool

from ._loop import import_trio_asyncio


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
        import_trio_asyncio()
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
