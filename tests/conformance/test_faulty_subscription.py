"""`FaultyStore` strikes subscriptions as it strikes a link."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from distkit_actors import MemoryStore, Store, StoreError, StoreUnavailableError
from distkit_actors._instance._session import Session
from distkit_actors._protocol._messages import Entry, Kind, Periods, Watch
from distkit_actors._stores._contract import Subscription
from distkit_actors.testing import FaultyStore

DAY = 86_400_000_000


class Writer:
    """Changes keys of a store, past all faults."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.session = Session("writer", "nonce", Periods(DAY, DAY // 3, DAY))
        self._settle()

    def change(self, key: str) -> None:
        self.store.execute("p", Watch("watcher", DAY))
        self.session.begin([Entry(Kind.ADD, key, 1)])
        self._settle()

    def _settle(self) -> None:
        while (request := self.session.request()) is not None:
            self.session.receive(self.store.execute("p", request))


@pytest.fixture
async def writer() -> Writer:
    return Writer()


@pytest.fixture
async def faulty(writer: Writer) -> FaultyStore:
    return FaultyStore(writer.store)


@pytest.fixture
async def subscription(faulty: FaultyStore) -> AsyncIterator[Subscription]:
    """One that is connected."""
    async with faulty.subscribe("p") as connected:
        assert connected is not None
        await connected.connect()
        yield connected


async def test_without_faults_they_pass(writer: Writer, subscription: Subscription) -> None:
    await subscription.connect()
    writer.change("a")
    assert await subscription.wait() == {"a"}
    writer.change("b")
    assert await subscription.wait() == {"b"}


async def test_a_store_that_cannot_push_stays_one(writer: Writer) -> None:
    class Mute(Store):
        link = writer.store.link

    async with FaultyStore(Mute()).subscribe("p") as subscription:
        assert subscription is None


async def test_a_cut_ends_what_waits_and_loses_what_comes(
    writer: Writer, faulty: FaultyStore, subscription: Subscription
) -> None:
    async with trio.open_nursery() as nursery:

        async def wait() -> None:
            with pytest.raises(StoreUnavailableError, match="partitioned"):
                await subscription.wait()

        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        faulty.cut()
    with pytest.raises(StoreUnavailableError, match="partitioned"):
        await subscription.connect()
    writer.change("lost")
    faulty.heal()
    with pytest.raises(StoreUnavailableError, match="`connect` comes first"):
        await subscription.wait()
    await subscription.connect()
    writer.change("a")
    assert await subscription.wait() == {"a"}


async def test_a_cut_that_comes_before_the_wait(
    writer: Writer, faulty: FaultyStore, subscription: Subscription
) -> None:
    faulty.cut()
    writer.change("lost")
    with pytest.raises(StoreUnavailableError, match="partitioned"):
        await subscription.wait()
    faulty.heal()
    await subscription.connect()
    writer.change("a")
    assert await subscription.wait() == {"a"}


async def test_connections_can_be_refused(faulty: FaultyStore) -> None:
    async with faulty.subscribe("p") as connected:
        assert connected is not None
        faulty.refuse(StoreError("NOPERM"), connections=True)
        with pytest.raises(StoreError, match="NOPERM"):
            await connected.connect()
        faulty.refuse(None)
        await connected.connect()


async def test_they_can_be_late(
    writer: Writer, faulty: FaultyStore, subscription: Subscription, autojump_clock: MockClock
) -> None:
    faulty.delay(3, replies=True)
    writer.change("a")
    assert await subscription.wait() == {"a"}
    assert trio.current_time() == pytest.approx(3)


async def test_they_can_be_held(
    writer: Writer, faulty: FaultyStore, subscription: Subscription, autojump_clock: MockClock
) -> None:
    faulty.hold(replies=True)
    writer.change("a")
    with trio.move_on_after(60) as scope:
        await subscription.wait()
    assert scope.cancelled_caught
    with pytest.raises(StoreUnavailableError):
        await subscription.wait()
