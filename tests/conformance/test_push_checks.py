"""The conformance kit finds stores that promise to push, and do not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from distkit_actors import MemoryStore, Store
from distkit_actors._stores._contract import Link, Subscription
from distkit_actors.testing import check_store


class Pushy(Store):
    """As `MemoryStore`, but for what its subscriptions keep to themselves."""

    def __init__(self, silent: bool) -> None:
        self.silent = silent
        self.inner = MemoryStore()

    def link(self, prefix: str) -> AbstractAsyncContextManager[Link]:
        return self.inner.link(prefix)

    @asynccontextmanager
    async def subscribe(self, prefix: str) -> AsyncIterator[Subscription]:
        async with self.inner.subscribe(prefix) as subscription:
            assert subscription is not None
            yield Discreet(subscription, self.silent)


class Discreet(Subscription):
    def __init__(self, inner: Subscription, silent: bool) -> None:
        self.inner = inner
        self.silent = silent

    async def connect(self) -> None:
        await self.inner.connect()

    async def wait(self) -> frozenset[str] | None:
        if self.silent:
            await trio.sleep_forever()
        while not (changed := await self.inner.wait()):
            pass  # it does not tell of a clear
        return changed


@pytest.mark.parametrize("silent", [True, False])
async def test_changes_that_are_not_told_are_found(silent: bool, autojump_clock: MockClock) -> None:
    with pytest.raises(AssertionError, match="nothing was told") as caught:
        await check_store(lambda: Pushy(silent))
    assert "'changes_are_told'" in caught.value.__notes__[0]
