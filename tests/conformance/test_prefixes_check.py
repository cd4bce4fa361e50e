"""The conformance kit finds stores that list prefixes wrongly."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager

import pytest
import trio
from trio.testing import MockClock

from distkit_actors import MemoryStore, Store
from distkit_actors._errors import StoreError
from distkit_actors._stores._contract import Link
from distkit_actors.testing import _check_store, check_store
from distkit_actors.testing._check_store import CHECKS, check_name


class Lister(Store):
    """As `MemoryStore`, but for which prefixes it lists."""

    def __init__(self, listed: Callable[[MemoryStore], Awaitable[list[str]]]) -> None:
        self.listed = listed
        self.inner = MemoryStore()

    def link(self, prefix: str) -> AbstractAsyncContextManager[Link]:
        return self.inner.link(prefix)

    async def prefixes(self) -> list[str]:
        return await self.listed(self.inner)


async def all_that_were_used(store: MemoryStore) -> list[str]:
    await trio.lowlevel.checkpoint()
    return sorted(store._namespaces)


async def but_one(store: MemoryStore) -> list[str]:
    return (await store.prefixes())[1:]


async def backwards(store: MemoryStore) -> list[str]:
    return (await store.prefixes())[::-1]


async def in_ascii(store: MemoryStore) -> list[str]:
    return [prefix for prefix in await store.prefixes() if prefix.isascii()]


@pytest.fixture(autouse=True)
def only_this_check(monkeypatch: pytest.MonkeyPatch) -> None:
    (check,) = [check for check in CHECKS if check_name(check) == "prefixes_are_found"]
    monkeypatch.setattr(_check_store, "CHECKS", (check,))


@pytest.mark.parametrize("listed", [all_that_were_used, but_one, backwards, in_ascii])
async def test_a_store_that_lists_others_is_found(
    listed: Callable[[MemoryStore], Awaitable[list[str]]], autojump_clock: MockClock
) -> None:
    with pytest.raises(AssertionError, match="prefixes, "):
        await check_store(lambda: Lister(listed))


async def test_a_store_need_not_list_them(autojump_clock: MockClock) -> None:
    class Mute(Store):
        def link(self, prefix: str) -> AbstractAsyncContextManager[Link]:
            return MemoryStore().link(prefix)

    with pytest.raises(StoreError, match="a Mute cannot tell which prefixes there are"):
        await Mute().prefixes()
    await check_store(Mute)
