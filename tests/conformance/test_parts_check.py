"""The conformance kit finds stores whose parts are none, and lets those pass that have one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
from trio.testing import MockClock

from distkit_actors import MemoryStore, Store
from distkit_actors._stores._contract import Link
from distkit_actors.testing import FaultyStore, _check_store, check_store
from distkit_actors.testing._checks_parts import parts_do_not_mix


class Parts(Store):
    """As `MemoryStore`, but for its parts."""

    def __init__(self) -> None:
        self.inner = MemoryStore()

    def link(self, prefix: str) -> AbstractAsyncContextManager[Link]:
        return self.inner.link(prefix)

    async def prefixes(self) -> list[str]:
        return await self.inner.prefixes()


class AllInOne(Parts):
    def part(self, number: int) -> Store:
        return self


class FirstIsAnother(Parts):
    def part(self, number: int) -> Store:
        return self.inner.part(number + 1)


class OfSixteen(Parts):
    def part(self, number: int) -> Store:
        return self.inner.part(number % 16)


class ByName(Parts):
    """The name of a part is that of a prefix."""

    def part(self, number: int) -> Store:
        return _Named(self.inner, number) if number else self


class _Named(Store):
    def __init__(self, inner: Store, number: int) -> None:
        self.inner = inner
        self.number = number

    @asynccontextmanager
    async def link(self, prefix: str) -> AsyncIterator[Link]:
        async with self.inner.link(f"{prefix}-of-{self.number % 7}") as link:
            yield link


@pytest.fixture(autouse=True)
def only_this_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_check_store, "CHECKS", (parts_do_not_mix,))


@pytest.mark.parametrize("kind", [AllInOne, FirstIsAnother])
async def test_parts_that_are_none_are_found(kind: type[Parts], autojump_clock: MockClock) -> None:
    with pytest.raises(AssertionError):
        await check_store(kind)


@pytest.mark.parametrize("kind", [Parts, OfSixteen, ByName])
async def test_good_parts_pass(kind: type[Parts], autojump_clock: MockClock) -> None:
    await check_store(kind)


async def test_so_do_those_of_our_own_stores(autojump_clock: MockClock) -> None:
    for number in (1, 16):
        await check_store(lambda: MemoryStore(partitions=number))  # noqa: B023
        await check_store(lambda: FaultyStore(MemoryStore(partitions=number)))  # noqa: B023
