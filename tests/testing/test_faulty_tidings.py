"""`FaultyStore` strikes tidings as it strikes a link."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from distkit_actors import MemoryStore, Store, StoreError, StoreUnavailableError
from distkit_actors._core._messages import Entry, Kind, Pace, Watch
from distkit_actors._core._session import Session
from distkit_actors._stores._contract import Tidings
from distkit_actors.testing import FaultyStore

DAY = 86_400_000_000


class Writer:
    """Changes keys of a store, past all faults."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.session = Session("writer", "nonce", Pace(DAY, DAY // 3, DAY))
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
async def tidings(faulty: FaultyStore) -> AsyncIterator[Tidings]:
    """Tidings that are connected."""
    async with faulty.tidings("p") as tidings:
        assert tidings is not None
        await tidings.connect()
        yield tidings


async def test_without_faults_they_pass(writer: Writer, tidings: Tidings) -> None:
    await tidings.connect()
    writer.change("a")
    assert await tidings.wait() == {"a"}
    writer.change("b")
    assert await tidings.wait() == {"b"}


async def test_a_store_that_cannot_push_stays_one(writer: Writer) -> None:
    class Mute(Store):
        link = writer.store.link

    async with FaultyStore(Mute()).tidings("p") as tidings:
        assert tidings is None


async def test_a_cut_ends_what_waits_and_loses_what_comes(
    writer: Writer, faulty: FaultyStore, tidings: Tidings
) -> None:
    async with trio.open_nursery() as nursery:

        async def wait() -> None:
            with pytest.raises(StoreUnavailableError, match="partitioned"):
                await tidings.wait()

        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        faulty.cut()
    with pytest.raises(StoreUnavailableError, match="partitioned"):
        await tidings.connect()
    writer.change("lost")
    faulty.heal()
    with pytest.raises(StoreUnavailableError, match="`connect` comes first"):
        await tidings.wait()
    await tidings.connect()
    writer.change("a")
    assert await tidings.wait() == {"a"}


async def test_a_cut_that_comes_before_the_wait(
    writer: Writer, faulty: FaultyStore, tidings: Tidings
) -> None:
    faulty.cut()
    writer.change("lost")
    with pytest.raises(StoreUnavailableError, match="partitioned"):
        await tidings.wait()
    faulty.heal()
    await tidings.connect()
    writer.change("a")
    assert await tidings.wait() == {"a"}


async def test_connections_can_be_refused(faulty: FaultyStore) -> None:
    async with faulty.tidings("p") as tidings:
        assert tidings is not None
        faulty.refuse(StoreError("NOPERM"), connections=True)
        with pytest.raises(StoreError, match="NOPERM"):
            await tidings.connect()
        faulty.refuse(None)
        await tidings.connect()


async def test_they_can_be_late(
    writer: Writer, faulty: FaultyStore, tidings: Tidings, autojump_clock: MockClock
) -> None:
    faulty.delay(3, replies=True)
    writer.change("a")
    assert await tidings.wait() == {"a"}
    assert trio.current_time() == pytest.approx(3)


async def test_they_can_be_held(
    writer: Writer, faulty: FaultyStore, tidings: Tidings, autojump_clock: MockClock
) -> None:
    faulty.hold(replies=True)
    writer.change("a")
    with trio.move_on_after(60) as scope:
        await tidings.wait()
    assert scope.cancelled_caught
    with pytest.raises(StoreUnavailableError):
        await tidings.wait()
