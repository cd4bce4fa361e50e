"""An instance to which others move epochs faster than it can hear of them (I14)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count

import pytest
import trio

from distkit_actors import (
    InstanceAwareCounter,
    LaxInstanceAwareCounter,
    MemoryStore,
    Store,
    StrictInstanceAwareCounter,
)
from distkit_actors._namespace import _epochs
from distkit_actors._namespace._namespace import Namespace
from distkit_actors._protocol._messages import Reply, Request
from distkit_actors._stores._contract import Link

#: Moves that one answer tells of, here.
PAGE = 3
#: Round trips in which whatever is asked has to be done.
ENOUGH = 20


class Far(Store):
    """So far away that others move epochs between any two requests, more than one answer tells."""

    def __init__(self, store: Store, near: InstanceAwareCounter) -> None:
        self._store = store
        self._near = near
        self._numbers = count()
        self.near_moves = True
        self.requests = 0

    @asynccontextmanager
    async def link(self, prefix: str) -> AsyncIterator[Link]:
        """Return a link to the store."""
        async with self._store.link(prefix) as link:
            yield _FarLink(self, link)

    async def have_moved(self) -> None:
        """Let others move epochs."""
        self.requests += 1
        assert self.requests < 1000, "no end"
        for _ in range(3 if self.near_moves else 0):  # no step moves more than one answer tells
            await self._near.set_all({f"busy-{next(self._numbers)}": 1 for _ in range(PAGE)})


class _FarLink(Link):
    def __init__(self, far: Far, link: Link) -> None:
        self._far = far
        self._link = link

    async def connect(self) -> None:
        await self._link.connect()

    async def receive(self, request: Request) -> Reply:
        await self._far.have_moved()
        return await self._link.exchange(request)

    @property
    def connected(self) -> bool:
        return self._link.connected


class Place:
    """A store, a strict counter near it, and the way to it from far away."""

    def __init__(self, store: MemoryStore, near: StrictInstanceAwareCounter) -> None:
        self.store = store
        self.near = near
        self.far = Far(store, near)

    @property
    def namespace(self) -> Namespace:
        return self.store._namespaces["p"]

    async def strict(self, nursery: trio.Nursery) -> StrictInstanceAwareCounter:
        counter: StrictInstanceAwareCounter = await nursery.start(
            StrictInstanceAwareCounter("p", self.far).run
        )
        return counter

    async def lax(self, nursery: trio.Nursery) -> LaxInstanceAwareCounter:
        counter: LaxInstanceAwareCounter = await nursery.start(
            LaxInstanceAwareCounter("p", self.far).run
        )
        return counter


@pytest.fixture
async def place(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> AsyncIterator[Place]:
    monkeypatch.setattr(_epochs, "JOURNAL_PAGE", PAGE)
    store = MemoryStore()
    async with StrictInstanceAwareCounter.open("p", store) as near:
        yield Place(store, near)


async def test_i14_an_operation_is_executed_however_many_moves_others_make(
    place: Place, nursery: trio.Nursery
) -> None:
    a = await place.strict(nursery)
    before = place.far.requests
    assert await a.inc("mine") == (1, 1)
    assert await a.inc("mine", 2) == (3, 3)
    await place.near.set("mine", 100)
    assert await a.get("mine") == (100, 0)
    assert await a.inc("mine") == (101, 1)
    assert await a.delete("mine") == (101, 1)
    assert place.far.requests - before <= ENOUGH
    place.far.near_moves = False
    await a.aclose()


async def test_i14_counts_of_a_lax_counter_are_flushed_however_many_moves_others_make(
    place: Place, nursery: trio.Nursery
) -> None:
    a = await place.lax(nursery)
    before = place.far.requests
    a.inc_nowait("mine", 5)
    await a.flush()
    await place.near.set("mine", 100)
    a.inc_nowait("mine", 1)
    await a.flush()
    assert await place.near.get("mine") == (101, 100)
    assert place.far.requests - before <= ENOUGH
    place.far.near_moves = False
    await a.aclose()


async def test_i14_a_hold_ends_however_many_moves_others_make(
    place: Place, nursery: trio.Nursery
) -> None:
    """Whether its key is moved meanwhile, which makes it void, or not."""
    a = await place.strict(nursery)
    before = place.far.requests
    async with a.hold("kept", 3), a.hold("void", 3):
        await place.near.set("void", 100)
        assert await place.near.get("kept") == (3, 0)
    while (await place.near.get("kept")).cumulative:
        assert place.far.requests - before <= ENOUGH
        await trio.sleep(0.001)
    assert await place.near.get("void") == (100, 100)
    assert await a.get("void") == (100, 0)
    place.far.near_moves = False
    await a.aclose()


async def test_i10_who_has_missed_many_moves_hears_of_all_at_once(
    place: Place, nursery: trio.Nursery
) -> None:
    """Not only at its next heartbeats: until then nobody may forget the moves."""
    a = await place.strict(nursery)
    place.far.near_moves = False
    await a.inc_all({f"k{n}": 1 for n in range(20 * PAGE)})
    for n in range(20 * PAGE):
        await place.near.set(f"k{n}", 7)
    await a.inc("other")
    await trio.sleep(1)  # no heartbeat yet
    record = place.namespace.registry.records[a.instance_id]
    assert set(record.slices) == {"other"}
    await a.get("other")
    assert record.known == place.namespace.registry.epochs.latest
    await a.aclose()
