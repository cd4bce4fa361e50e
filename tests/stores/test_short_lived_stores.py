"""An application may make a store for each of its jobs: nothing of them is left in its run."""

from __future__ import annotations

import gc
from collections.abc import Callable
from contextlib import suppress
from weakref import WeakKeyDictionary, ref

import pytest
import trio
from redis.asyncio import ConnectionPool
from redis.credentials import CredentialProvider

from distkit_actors import RedisStore, StoreUnavailableError
from tests.harness.ports import free_port
from tests.harness.transports import POOLS


class Provider(CredentialProvider):
    def get_credentials(self) -> tuple[str, str]:
        return "user", "password"


def at(kind: str) -> RedisStore:
    """A store that nobody answers."""
    place = f"127.0.0.1:{free_port()}"
    if kind == "pool":
        return RedisStore.from_pool(ConnectionPool.from_url(f"redis://{place}"))
    url = f"redis+sentinel://{place}/service" if kind == "+sentinel" else f"redis{kind}://{place}"
    return RedisStore(url, credential_provider=Provider())


async def use(store: RedisStore) -> None:
    async with store.link("p") as link, store.subscribe("p") as subscription:
        assert subscription is not None
        for connect in (link.connect, subscription.connect):
            with suppress(StoreUnavailableError):
                await connect()


def kept() -> int:
    """How much is kept in the run: trio's variables stay until it ends."""
    runner = trio._core._run.GLOBAL_RUN_CONTEXT.runner
    tables = [kept for kept in runner._locals.values() if isinstance(kept, WeakKeyDictionary)]
    return len(runner._locals) + sum(map(len, tables))


@pytest.mark.parametrize("kind", ["", "+sentinel", "+cluster", *(["pool"] if POOLS else [])])
async def test_nothing_stays_in_the_run_of_a_store_that_is_gone(kind: str) -> None:
    async def many(number: int) -> list[Callable[[], RedisStore | None]]:
        stores = [at(kind) for _ in range(number)]
        for store in stores:
            await use(store)
        return [ref(store) for store in stores]

    await many(1)
    gc.collect()
    before = kept()
    stores = await many(10)
    gc.collect()
    assert not [store for store in stores if store() is not None]
    assert kept() == before
