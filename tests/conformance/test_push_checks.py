"""The conformance kit finds stores that promise to push, and do not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypeAlias

import pytest
from trio.testing import MockClock

from distkit_actors import MemoryStore, Store
from distkit_actors._stores._contract import Link, Subscription
from distkit_actors.testing import check_store

Changed: TypeAlias = frozenset[str] | None
Tell: TypeAlias = Callable[[Changed], Changed]


class Pushy(Store):
    """As `MemoryStore`, but for what its subscriptions keep to themselves."""

    def __init__(self, tell: Tell) -> None:
        self.tell = tell
        self.inner = MemoryStore()

    def link(self, prefix: str) -> AbstractAsyncContextManager[Link]:
        return self.inner.link(prefix)

    @asynccontextmanager
    async def subscribe(self, prefix: str) -> AsyncIterator[Subscription]:
        async with self.inner.subscribe(prefix) as subscription:
            assert subscription is not None
            yield Discreet(subscription, self.tell)


class Discreet(Subscription):
    def __init__(self, inner: Subscription, tell: Tell) -> None:
        self.inner = inner
        self.tell = tell

    async def connect(self) -> None:
        await self.inner.connect()

    async def wait(self) -> frozenset[str] | None:
        while True:
            changed = await self.inner.wait()
            if changed is None or changed:
                changed = self.tell(changed)
                if changed is None or changed:
                    return changed


def nothing(changed: Changed) -> Changed:
    return frozenset()


def no_clear(changed: Changed) -> Changed:
    return frozenset() if changed is None else changed


def keys_split_at_colons(changed: Changed) -> Changed:
    return changed and frozenset(":".join(changed).split(":"))


@pytest.mark.parametrize("tell", [nothing, no_clear, keys_split_at_colons])
async def test_changes_that_are_not_told_are_found(tell: Tell, autojump_clock: MockClock) -> None:
    with pytest.raises(AssertionError, match="nothing was told") as caught:
        await check_store(lambda: Pushy(tell))
    assert "'changes_are_told'" in caught.value.__notes__[0]
