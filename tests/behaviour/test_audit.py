"""What `check` of the command line finds, and what it must not find."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import cycle
from typing import TypeAlias

import pytest
import trio

from distkit_actors import MemoryStore, Store, StoreError
from distkit_actors._fleet._audit import _NO_ROW, Finding, audit
from distkit_actors._protocol._messages import Query, QueryKind, QueryPage, Reply, Request
from distkit_actors._stores._contract import Link
from distkit_actors.testing import FaultyStore
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


async def test_a_sum_that_is_off_is_found_by_looks_that_agree(world: World) -> None:
    a, b = await world.strict(), await world.strict()
    await a.inc_all({"k": 5, "gone": 1})
    await b.inc("other", 1)
    registry = world.registry
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
    assert "forget does" in text
    b = await world.strict()
    await trio.sleep(world.interval)
    assert of(await audit(world.prefix, world.backend.store()), "instances")
    await b.aclose()


async def test_nobody_is_to_be_forgotten_who_may_live_and_cannot_be_heard(world: World) -> None:
    a = await world.strict()
    await a.inc("k", 5)
    full = StoreError("out of memory")
    asking = FaultyStore(world.backend.store())
    for wire in (world.wire(a), asking):
        wire.answer(full, None, executed=False, when=lambda it: not isinstance(it, Query))
    await trio.sleep(3 * world.threshold)
    found = await audit(world.prefix, asking)
    ((level, text),) = of(found, "dead")
    assert level == "warning"
    assert "they may live, and not be heard" in text
    assert "forget" not in text
    ((_, text),) = of(found, "rights")
    assert "out of memory" in text
    world.wire(a).forget_plan()


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


Meddle: TypeAlias = Callable[[Query, QueryPage], Awaitable[QueryPage]]


class Peculiar(Store):
    """Says something of its own of how it is set up; somebody meddles with what goes to and fro."""

    def __init__(
        self,
        inner: Store,
        said: tuple[str, ...] | StoreError = (),
        meddle: Meddle | None = None,
        before: Callable[[Query], Awaitable[None]] | None = None,
    ) -> None:
        self.inner = inner
        self.said = said
        self.meddle = meddle
        self.before = before

    def link(self, prefix: str) -> AbstractAsyncContextManager[Link]:
        return self._link(prefix)

    @asynccontextmanager
    async def _link(self, prefix: str) -> AsyncIterator[Link]:
        async with self.inner.link(prefix) as link:
            yield PeculiarLink(self, link)


class PeculiarLink(Link):
    def __init__(self, store: Peculiar, inner: Link) -> None:
        self.store, self.inner = store, inner

    async def connect(self) -> None:
        await self.inner.connect()

    async def send(self, request: Request) -> None:
        if self.store.before is not None and isinstance(request, Query):
            await self.store.before(request)
        await self.inner.send(request)

    async def receive(self, request: Request) -> Reply:
        reply = await self.inner.receive(request)
        if self.store.meddle is None or not isinstance(reply, QueryPage):
            return reply
        assert isinstance(request, Query)
        return await self.store.meddle(request, reply)

    async def inspect(self) -> tuple[str, ...]:
        await trio.lowlevel.checkpoint()
        if isinstance(self.store.said, StoreError):
            raise self.store.said
        return self.store.said

    @property
    def connected(self) -> bool:
        return True


@pytest.mark.parametrize("late", ["question", "answer"])
@pytest.mark.parametrize("which", [-2, -1])
async def test_a_clock_is_not_wrong_because_one_answer_was_slow(
    world: World, late: str, which: int
) -> None:
    """The last two queries of no key are for the time."""
    asked: list[Query] = []
    slow = 0  # the number of that query, from 1 on

    async def ask(query: Query) -> None:
        if query.kind is QueryKind.VALUES and not query.keys:
            asked.append(query)
        if late == "question":
            await dawdle(query)

    async def answer(query: Query, page: QueryPage) -> QueryPage:
        if late == "answer":
            await dawdle(query)
        return page

    async def dawdle(query: Query) -> None:
        is_it = len(asked) == slow and query in asked[-1:]
        await trio.sleep(0.5 if is_it else 0)

    store = Peculiar(world.backend.store(), meddle=answer, before=ask)
    await audit(world.prefix, store)
    slow = len(asked) + 1 + which
    asked.clear()
    found = await audit(world.prefix, store)
    assert len(asked) == slow - 1 - which
    assert [level for level, _ in of(found, "clock")] == ["ok"]


async def test_how_the_store_is_set_up_is_told(world: World) -> None:
    inner = world.backend.store()
    evicts = await audit(world.prefix, Peculiar(inner, ("it evicts",)))
    assert of(evicts, "eviction") == [("wrong", "it evicts")]
    mute = await audit(world.prefix, Peculiar(inner, StoreError("not to you")))
    ((level, text),) = of(mute, "eviction")
    assert level == "note"
    assert "not to you" in text


async def test_a_look_over_a_slow_network_takes_its_time(world: World) -> None:
    """As many round trips as there are instances take longer than the clock is observed."""
    for number in range(12):
        await (await world.strict()).inc(f"key-{number}")
    world.registry.sums["key-3"] = 7

    async def slow(_: Query, page: QueryPage) -> QueryPage:
        await trio.sleep(0.1)
        return page

    found = await audit(world.prefix, Peculiar(world.backend.store(), meddle=slow))
    assert [level for level, _ in of(found, "sums")] == ["wrong"]
    assert [level for level, _ in of(found, "clock")] == ["ok"]


async def test_what_never_stands_still_is_not_called_wrong(world: World) -> None:
    a = await world.strict()
    await a.inc("k", 5)
    asked = 0

    async def change(_: Query, page: QueryPage) -> QueryPage:
        nonlocal asked
        await trio.lowlevel.checkpoint()
        asked += 1
        rows = [(name, number + asked**2, flag) for name, number, flag in page.rows]
        return page._replace(rows=rows)

    found = await audit(world.prefix, Peculiar(world.backend.store(), meddle=change))
    assert of(found, "sums") == [("note", "'k' changes too fast to be looked at")]


async def test_a_token_that_goes_to_and_fro_in_step_with_the_looks_is_no_fault(
    world: World,
) -> None:
    a = await world.strict()
    await a.inc("other")
    swings: list[QueryKind] = []
    reads: list[QueryKind] = []

    async def swing(query: Query, page: QueryPage) -> QueryPage:
        """Take the token behind the first read of a look, and release it behind the second."""
        await trio.lowlevel.checkpoint()
        reads.append(query.kind)
        if len(swings) < 6 and (query.kind is not QueryKind.VALUES or query.keys):
            third = reads[-2:] == [QueryKind.SLICES, QueryKind.VALUES]
            if query.kind in (QueryKind.HELD, QueryKind.VALUES) and not third:
                swings.append(query.kind)
                await a.inc("token")
            elif query.kind in (QueryKind.KEYS, QueryKind.SLICES):
                swings.append(query.kind)
                await a.dec("token")
        return page

    found = await audit(world.prefix, Peculiar(world.backend.store(), meddle=swing))
    look = [QueryKind.VALUES, QueryKind.SLICES]
    assert swings == [QueryKind.HELD, QueryKind.KEYS, *look, *look]
    assert [level for level, _ in of(found, "sums")] == ["ok"]


@pytest.mark.parametrize("off", [0, 9, -9])
@pytest.mark.parametrize("when", [{QueryKind.VALUES}, {QueryKind.VALUES, QueryKind.SLICES}])
async def test_a_busy_key_is_wrong_only_if_what_is_counted_meanwhile_is_no_reason(
    world: World, when: set[QueryKind], off: int
) -> None:
    """Somebody counts one behind each read, and in each look the same."""
    a = await world.strict()
    await a.inc("k", 20)
    world.registry.sums["k"] += off

    async def count(query: Query, page: QueryPage) -> QueryPage:
        await trio.lowlevel.checkpoint()
        if query.kind is QueryKind.HELD or (query.kind in when and (query.keys or query.key)):
            await a.inc("k")
        return page

    found = await audit(world.prefix, Peculiar(world.backend.store(), meddle=count))
    assert ("wrong" in levels(found)) == (off != 0)


def test_one_difference_fits_all_looks_in_a_row() -> None:
    """Each look tells between what the difference was, as others count meanwhile."""
    row = _NO_ROW.followed_by(2, 5).followed_by(4, 9).followed_by(4, 4)
    assert row == (4, 4, 3)
    assert row.followed_by(5, 6) == (5, 6, 1)
    assert row.followed_by(-9, -4) == (-9, -4, 1)
    for least, most in ((0, 0), (0, 4), (-4, 0), (-1, 1)):
        assert row.followed_by(least, most) == (least, most, 1)
    assert row.followed_by(0, 4).followed_by(-4, 0) == (0, 0, 2)
    assert row.followed_by(0, 4).followed_by(2, 5) == (2, 5, 1)


@pytest.mark.parametrize("counts", [[1, 0], [1], [2]])
async def test_a_busy_key_that_is_wrong_by_one_is_not_called_right(
    world: World, counts: list[int]
) -> None:
    """Looks may find it right, as some are counted behind the slices."""
    a = await world.strict()
    await a.inc("k", 20)
    world.registry.sums["k"] -= 1
    turns = cycle(counts)

    async def count(query: Query, page: QueryPage) -> QueryPage:
        await trio.lowlevel.checkpoint()
        if query.kind is QueryKind.SLICES:
            await a.inc("k", next(turns))
        return page

    found = await audit(world.prefix, Peculiar(world.backend.store(), meddle=count))
    assert ("note", "'k' changes too fast to be looked at") in of(found, "sums")


async def test_an_instance_that_is_named_twice_is_counted_once(world: World) -> None:
    a, _ = await world.strict(), await world.strict()

    async def repeat(query: Query, page: QueryPage) -> QueryPage:
        await trio.lowlevel.checkpoint()
        if query.kind is not QueryKind.INSTANCES:
            return page
        rows = [(name, age, name == a.instance_id) for name, age, _ in page.rows]
        return page._replace(rows=2 * rows)

    found = await audit(world.prefix, Peculiar(world.backend.store(), meddle=repeat))
    assert of(found, "instances") == [("ok", "1 alive")]
    ((_, text),) = of(found, "dead")
    assert text.startswith("1 dead instance is still in the store")


async def test_where_very_many_keys_are_damaged_only_some_are_looked_at_again(world: World) -> None:
    a = await world.strict()
    await a.inc_all(dict.fromkeys((f"k-{number}" for number in range(250)), 1))
    registry = world.registry
    for key in registry.sums:
        registry.sums[key] = 7
    found = of(await audit(world.prefix, world.backend.store()), "sums")
    assert {"wrong"} == {level for level, _ in found}
    texts = [text for _, text in found]
    assert len(texts) == 12
    assert texts[-2:] == ["so it is with 190 more keys", "50 more keys did not add up in one look"]


async def test_a_damaged_key_is_found_behind_many_that_only_look_like_it(world: World) -> None:
    """Those were counted between the look at the slices and that at the sums."""
    a = await world.strict()
    keys = [f"k-{number}" for number in range(250)]
    await a.inc_all(dict.fromkeys([*keys, "z"], 1))
    registry = world.registry
    registry.sums["z"] = 7

    async def count(query: Query, page: QueryPage) -> QueryPage:
        await trio.lowlevel.checkpoint()
        if query.kind is QueryKind.HELD:
            await a.inc_all(dict.fromkeys(keys, 1))
        return page

    found = await audit(world.prefix, Peculiar(world.backend.store(), meddle=count))
    assert [(level, "'z'" in text) for level, text in of(found, "sums")] == [("wrong", True)]
