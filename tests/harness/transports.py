"""The two ways to reach a server: by a URL, over trio, and through a pool of redis-py's."""

from __future__ import annotations

import inspect
import sys
from typing import Any, Final, Literal, TypeAlias

import pytest
from redis.asyncio import ConnectionPool
from redis.asyncio.connection import AbstractConnection

from distkit_actors import RedisStore
from distkit_actors._stores._redis._urls import read_url

Transport: TypeAlias = Literal["asyncio", "trio"]

#: Whether trio-asyncio works here, without which there are no pools.
POOLS: Final = sys.version_info < (3, 14)

BOTH: Final[tuple[Transport, ...]] = ("trio", "asyncio") if POOLS else ("trio",)
#: What some of a mixed fleet reach their server by.
OTHER: Final[Transport] = BOTH[-1]


def pool_at(url: str) -> ConnectionPool:
    """Return a pool that leads where the URL of a store does.

    It speaks RESP2 and does not tell its version, so that it asks nothing when it connects: half a
    second is a long time here. `tests/stores/test_pools.py` has what else a pool may do.
    """
    place = read_url(url)
    known = inspect.signature(AbstractConnection).parameters
    names = ("driver_info",) if "driver_info" in known else ("lib_name", "lib_version")
    quiet: dict[str, Any] = {"protocol": 2, **dict.fromkeys(names)}
    return ConnectionPool(connection_class=place.kind, **quiet, **place.settings)


def store_at(
    url: str, transport: Transport, response_timeout: float = 2.0, partitions: int = 1
) -> RedisStore:
    """Return a store that reaches a server in one of the two ways."""
    if transport == "trio":
        return RedisStore(url, response_timeout=response_timeout, partitions=partitions)
    return RedisStore.from_pool(
        pool_at(url), response_timeout=response_timeout, partitions=partitions
    )


def reach_by(transport: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every store of a test that is made with a URL reach its server in this way."""
    if transport == "trio":
        return

    def made_with_a_pool(
        self: RedisStore, url: str, *, response_timeout: float = 2.0, partitions: int = 1
    ) -> None:
        store = store_at(url, transport, response_timeout, partitions)
        vars(self).update(vars(store), _address=read_url(url).address)

    monkeypatch.setattr(RedisStore, "__init__", made_with_a_pool)
