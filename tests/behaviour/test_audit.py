"""What `check` of the command line finds, and what it must not find."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import trio

from distkit_actors import MemoryStore, Store, StoreError
from distkit_actors._fleet._audit import Finding, audit
from distkit_actors._protocol._messages import QueryPage, Reply, Request
from distkit_actors._stores._contract import Link
from tests.behaviour.world import World, on_redis


def of(found: list[Finding], about: str) -> list[tuple[str, str]]:
    return [(level, text) for level, what, text in found if what == about]


def levels(found: list[Finding]) -> set[str]:
    return {finding.level for finding in found}


@on_redis
async def test_those_who_count_meanwhile_are_no_fault(world: World) -> None:
    a, b = await world.strict(), await world.strict()
    await a.inc_all({f"key-{number}": 1 for number in range(20)})

    async def count() -> None:
        while True:
            await b.inc("key-1")
            await a.set("key-2", 5)
            await b.dec("key-1")
            await trio.sleep(0.01)  # else time would stand still

    async with trio.open_nursery() as nursery:
        nursery.start_soon(count)
        for _ in range(3):
            found = await audit(world.prefix, world.backend.store())
            assert "wrong" not in levels(found)
        nursery.cancel_scope.cancel()
    assert levels(await audit(world.prefix, world.backend.store())) == {"ok"}


async def test_a_sum_that_is_off_is_found_by_two_looks(world: World) -> None:
    a, b = await world.strict(), await world.strict()
    await a.inc_all({"k": 5, "gone": 1})
    await b.inc("other", 1)
    registry = world.backend.shared._namespaces[world.prefix].registry  # type: ignore[attr-defined]
    registry.sums["k"] = 7
    del registry.sums["gone"]
    registry.sums["nobody's"] = 3

    async def count() -> None:
        while True:
            await b.inc("other")
            await trio.sleep(0.01)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(count)
        found = await audit(world.prefix, world.backend.store())
        nursery.cancel_scope.cancel()
    told = of(found, "sums")
    assert {level for level, _ in told} == {"wrong"}
    for key, total, added in (("k", 7, 5), ("gone", 0, 1), ("nobody's", 3, 0)):
        text = f"the cumulative of {key!r} is {total}, and its slices add up to {added}:"
        assert sum(text in told for _, told in told) == 1
    assert len(told) == 3


async def test_the_dead_add_up_too(world: World) -> None:
    a = await world.strict()
    await a.inc("k", 5)
    world.kill(a)
    await trio.sleep(3 * world.threshold)
    found = await audit(world.prefix, world.backend.store())
    assert [level for level, _ in of(found, "sums")] == ["ok"]
    ((level, text),) = of(found, "dead")
    assert level == "warning"
    assert "no instance is alive" in text
    b = await world.strict()
    await trio.sleep(world.interval)
    assert of(await audit(world.prefix, world.backend.store()), "instances")
    await b.aclose()


async def test_a_clock_that_jumps_is_found(world: World) -> None:
    store = world.backend.store()
    assert isinstance(store, MemoryStore)

    async def jump() -> None:
        await trio.sleep(0.5)
        store._clock._offset += 100

    async with trio.open_nursery() as nursery:
        nursery.start_soon(jump)
        found = await audit(world.prefix, store)
    ((level, text),) = of(found, "clock")
    assert level == "warning"
    assert "went on by 101.0 s in 1.0 s" in text


class Peculiar(Store):
    """Says something of its own of how it is set up, and of slices."""

    def __init__(self, inner: Store, said: tuple[str, ...] | StoreError, restless: bool) -> None:
        self.inner = inner
        self.said = said
        self.restless = restless

    def link(self, prefix: str) -> AbstractAsyncContextManager[Link]:
        return self._link(prefix)

    @asynccontextmanager
    async def _link(self, prefix: str) -> AsyncIterator[Link]:
        async with self.inner.link(prefix) as link:
            yield PeculiarLink(self, link)


class PeculiarLink(Link):
    def __init__(self, store: Peculiar, inner: Link) -> None:
        self.store, self.inner = store, inner
        self.asked = 0

    async def connect(self) -> None:
        await self.inner.connect()

    async def send(self, request: Request) -> None:
        await self.inner.send(request)

    async def receive(self, request: Request) -> Reply:
        reply = await self.inner.receive(request)
        if self.store.restless and isinstance(reply, QueryPage):
            self.asked += 1
            rows = [(name, number + self.asked, flag) for name, number, flag in reply.rows]
            return QueryPage(reply.cursor, rows, reply.at)
        return reply

    async def inspect(self) -> tuple[str, ...]:
        await trio.lowlevel.checkpoint()
        if isinstance(self.store.said, StoreError):
            raise self.store.said
        return self.store.said

    @property
    def connected(self) -> bool:
        return True


async def test_how_the_store_is_set_up_is_told(world: World) -> None:
    inner = world.backend.store()
    evicts = await audit(world.prefix, Peculiar(inner, ("it evicts",), restless=False))
    assert of(evicts, "eviction") == [("wrong", "it evicts")]
    mute = await audit(world.prefix, Peculiar(inner, StoreError("not to you"), restless=False))
    ((level, text),) = of(mute, "eviction")
    assert level == "note"
    assert "not to you" in text


async def test_what_never_stands_still_is_not_called_wrong(world: World) -> None:
    a = await world.strict()
    await a.inc("k", 5)
    found = await audit(world.prefix, Peculiar(world.backend.store(), (), restless=True))
    assert of(found, "sums") == [("note", "'k' changes too fast to be looked at")]
