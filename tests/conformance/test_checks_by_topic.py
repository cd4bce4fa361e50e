"""The conformance kit finds stores that push, list prefixes or keep parts wrongly."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypeAlias

import pytest
import trio
from trio.testing import MockClock

from distkit_actors import MemoryStore, Store
from distkit_actors._errors import StoreError
from distkit_actors._namespace._namespace import Namespace
from distkit_actors._protocol._messages import Apply, Forget, Open, Reply, Request, Resume
from distkit_actors._stores import _memory
from distkit_actors._stores._contract import Link, Subscription
from distkit_actors._stores._memory import _MemorySubscription
from distkit_actors._stores._part import PartStore
from distkit_actors.testing import FaultyStore, _check_store, check_store
from distkit_actors.testing._check_store import CHECKS, check_name

Changed: TypeAlias = frozenset[str] | None
Tell: TypeAlias = Callable[[Changed], Changed]


class AsMemory(Store):
    """As `MemoryStore`, but for what subclasses do otherwise."""

    def __init__(self) -> None:
        self.inner = MemoryStore()

    def link(self, prefix: str) -> AbstractAsyncContextManager[Link]:
        return self.inner.link(prefix)

    async def prefixes(self) -> list[str]:
        return await self.inner.prefixes()


@pytest.fixture
def only_prefixes(monkeypatch: pytest.MonkeyPatch) -> None:
    only("prefixes_are_found", monkeypatch)


@pytest.fixture
def only_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    only("parts_do_not_mix", monkeypatch)


def only(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the kit consist of one check."""
    (check,) = [check for check in CHECKS if check_name(check) == name]
    monkeypatch.setattr(_check_store, "CHECKS", (check,))


# ---------------------------------------------------------------------------------- push


class Pushy(AsMemory):
    """Its subscriptions keep something to themselves."""

    def __init__(self, tell: Tell) -> None:
        super().__init__()
        self.tell = tell

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


class TellsOneOfAll(AsMemory):
    """All who watch a prefix take what is told from one queue."""

    def __init__(self) -> None:
        super().__init__()
        self.queues: dict[str, Subscription] = {}

    @asynccontextmanager
    async def subscribe(self, prefix: str) -> AsyncIterator[Subscription]:
        async with self.inner.subscribe(prefix) as subscription:
            yield self.queues.setdefault(prefix, subscription)


class TellsOfOnePart(AsMemory):
    """Whoever watches another part hears of the first one."""

    partitions = 2

    def __init__(self) -> None:
        self.inner = MemoryStore(partitions=2)

    def subscribe(self, prefix: str) -> AbstractAsyncContextManager[Subscription]:
        return self.inner.subscribe(prefix)

    def part(self, number: int) -> Store:
        part = self.inner.part(number)
        return PartStore(
            self, number, lambda prefix, _: part.link(prefix), lambda p, _: self.subscribe(p)
        )


@pytest.mark.parametrize("kind", [TellsOneOfAll, TellsOfOnePart])
async def test_changes_that_are_not_told_to_all_are_found(
    kind: type[AsMemory], autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    only("changes_are_told", monkeypatch)
    with pytest.raises(AssertionError, match="nothing was told"):
        await check_store(kind)


class Reserved(Namespace):
    """A namespace that does not tell all that a request has changed."""

    request: Request

    def execute(self, request: Request, now: int) -> Reply:
        self.request = request
        return super().execute(request, now)

    @property
    def changed(self) -> Changed:
        changed = super().changed
        return changed if changed is None else self.told(changed)

    def told(self, changed: frozenset[str]) -> frozenset[str]:
        raise NotImplementedError


class TellsOfKeysOfEntries(Reserved):
    def told(self, changed: frozenset[str]) -> frozenset[str]:
        if not isinstance(self.request, Apply):
            return changed
        return changed & {entry.key for entry in self.request.entries}


class TellsNotWhatABatchForgets(TellsOfKeysOfEntries):
    def told(self, changed: frozenset[str]) -> frozenset[str]:
        beats = isinstance(self.request, Apply) and not self.request.entries
        return changed if beats else super().told(changed)


class TellsOfNoTakeover(Reserved):
    kind: type[Request] = Open

    def told(self, changed: frozenset[str]) -> frozenset[str]:
        return frozenset() if isinstance(self.request, self.kind) else changed


class TellsOfNoReturn(TellsOfNoTakeover):
    kind = Resume


class TellsNotWhatOnlookersForget(TellsOfNoTakeover):
    kind = Forget


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        (TellsOfKeysOfEntries, "a death"),
        (TellsNotWhatABatchForgets, "one who was forgotten"),
        (TellsOfNoTakeover, "a takeover"),
        (TellsOfNoReturn, "a return"),
        (TellsNotWhatOnlookersForget, "one whom an onlooker forgot"),
    ],
)
async def test_losses_that_are_not_told_are_found(
    kind: type[Reserved], what: str, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    only("changes_are_told", monkeypatch)
    monkeypatch.setattr(_memory, "Namespace", kind)
    with pytest.raises(AssertionError, match=f"of {what} nothing was told"):
        await check_store(MemoryStore)


async def test_a_store_that_keeps_the_last_notice_only_is_found(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell = _MemorySubscription.tell

    def forgetful(self: _MemorySubscription, changed: Changed) -> None:
        self._untold = frozenset()
        tell(self, changed)

    only("changes_are_told", monkeypatch)
    monkeypatch.setattr(_MemorySubscription, "tell", forgetful)
    with pytest.raises(AssertionError, match="of one of two additions"):
        await check_store(MemoryStore)


# ------------------------------------------------------------------------------ prefixes


class Lister(AsMemory):
    """It lists others."""

    def __init__(self, listed: Callable[[MemoryStore], Awaitable[list[str]]]) -> None:
        super().__init__()
        self.listed = listed

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


@pytest.mark.usefixtures("only_prefixes")
@pytest.mark.parametrize("listed", [all_that_were_used, but_one, backwards, in_ascii])
async def test_a_store_that_lists_others_is_found(
    listed: Callable[[MemoryStore], Awaitable[list[str]]], autojump_clock: MockClock
) -> None:
    with pytest.raises(AssertionError, match="prefixes, "):
        await check_store(lambda: Lister(listed))


@pytest.mark.usefixtures("only_prefixes")
async def test_a_store_need_not_list_them(autojump_clock: MockClock) -> None:
    class Mute(Store):
        def link(self, prefix: str) -> AbstractAsyncContextManager[Link]:
            return MemoryStore().link(prefix)

    with pytest.raises(StoreError, match="a Mute cannot tell which prefixes there are"):
        await Mute().prefixes()
    await check_store(Mute)


# --------------------------------------------------------------------------------- parts


class AllInOne(AsMemory):
    def part(self, number: int) -> Store:
        return self


class FirstIsAnother(AsMemory):
    def part(self, number: int) -> Store:
        return self.inner.part(number + 1)


class OfSixteen(AsMemory):
    def part(self, number: int) -> Store:
        return self.inner.part(number % 16)


class ByName(AsMemory):
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


@pytest.mark.usefixtures("only_parts")
@pytest.mark.parametrize("kind", [AllInOne, FirstIsAnother])
async def test_parts_that_are_none_are_found(
    kind: type[AsMemory], autojump_clock: MockClock
) -> None:
    with pytest.raises(AssertionError):
        await check_store(kind)


@pytest.mark.usefixtures("only_parts")
@pytest.mark.parametrize("kind", [AsMemory, OfSixteen, ByName])
async def test_good_parts_pass(kind: type[AsMemory], autojump_clock: MockClock) -> None:
    await check_store(kind)


@pytest.mark.usefixtures("only_parts")
async def test_parts_of_our_own_stores_pass(autojump_clock: MockClock) -> None:
    for number in (1, 16):
        await check_store(lambda: MemoryStore(partitions=number))  # noqa: B023
        await check_store(lambda: FaultyStore(MemoryStore(partitions=number)))  # noqa: B023


class SomeParts(AsMemory):
    """Has so many parts, and tells nobody which prefixes there are."""

    def __init__(self, number: int, given: int) -> None:
        super().__init__()
        self._number, self._given = number, given

    @property
    def partitions(self) -> int:
        return self._number

    def part(self, number: int) -> Store:
        if number >= self._given:
            raise StoreError("it has no such part")
        return self.inner.part(number)

    async def prefixes(self) -> list[str]:
        return await Store.prefixes(self)


@pytest.mark.usefixtures("only_parts")
@pytest.mark.parametrize("number", [1, 2, 3, 16])
async def test_a_store_has_as_many_parts_as_it_says(number: int, autojump_clock: MockClock) -> None:
    await check_store(lambda: SomeParts(number, number))
    if number > 1:
        with pytest.raises(AssertionError, match="gives no part"):
            await check_store(lambda: SomeParts(number, 1))
    if number > 2:
        with pytest.raises(AssertionError, match=f"gives no part {number - 1}"):
            await check_store(lambda: SomeParts(number, number - 1))
