"""`FaultyStore` does to a link what it was told, and nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock, assert_checkpoints, wait_all_tasks_blocked

from distkit_actors import (
    LaxInstanceAwareCounter,
    MemoryStore,
    RedisStore,
    Store,
    StoreError,
    StoreUnavailableError,
    StrictInstanceAwareCounter,
)
from distkit_actors._protocol._messages import (
    Applied,
    Apply,
    MustResume,
    Peek,
    Peeked,
    Reply,
    Request,
    Stale,
)
from distkit_actors._stores._contract import Link, StoreAwayError
from distkit_actors.testing import FaultyStore, check_store

PEEK = Peek("somebody")


def is_batch(request: Request) -> bool:
    """Match what carries operations, not the registration and not heartbeats."""
    return isinstance(request, Apply) and bool(request.entries)


@pytest.fixture
def inner() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def faulty(inner: MemoryStore) -> FaultyStore:
    return FaultyStore(inner)


@pytest.fixture
async def link(faulty: FaultyStore) -> AsyncIterator[Link]:
    """A link that is connected."""
    async with faulty.link("p") as link:
        await link.connect()
        yield link


async def lose(link: Link, request: Request = PEEK) -> None:
    with pytest.raises(StoreUnavailableError) as caught:
        await link.exchange(request)
    assert caught.type is StoreUnavailableError
    assert not link.connected


# ------------------------------------------------------------------------- without faults


async def test_it_is_a_good_store_without_faults(autojump_clock: MockClock) -> None:
    await check_store(lambda: FaultyStore(MemoryStore()))


async def test_it_is_a_good_store_with_faults_that_a_counter_does_not_see(
    autojump_clock: MockClock,
) -> None:
    def make() -> FaultyStore:
        store = FaultyStore(MemoryStore())
        store.duplicate(times=None)
        store.delay(0.001)
        store.delay(0.001, replies=True)
        return store

    await check_store(make)


async def test_the_inner_store_may_be_named_by_its_url() -> None:
    assert repr(FaultyStore("memory://")) == repr(FaultyStore(MemoryStore()))
    with pytest.raises(TypeError, match="must be a Store"):
        FaultyStore(3)  # type: ignore[arg-type]


async def test_a_link_has_checkpoints(faulty: FaultyStore) -> None:
    async with faulty.link("p") as link:
        assert not link.connected
        for _ in range(2):
            with assert_checkpoints():
                await link.connect()
            assert link.connected
            with assert_checkpoints():
                assert isinstance(await link.exchange(PEEK), Peeked)
    assert faulty.counts == {"connects": 1, "requests": 2, "replies": 2}
    assert faulty.requests == [PEEK, PEEK]


async def test_errors_have_checkpoints_too(faulty: FaultyStore, link: Link) -> None:
    # Else a counter that tries again for ever would never let the clock move.
    faulty.drop_request()
    with assert_checkpoints():
        await lose(link)
    with assert_checkpoints():
        await lose(link)
    faulty.cut()
    with assert_checkpoints(), pytest.raises(StoreUnavailableError):
        await link.connect()


async def test_requests_need_a_connection(faulty: FaultyStore) -> None:
    async with faulty.link("p") as link:
        with pytest.raises(StoreUnavailableError, match="`connect` comes first"):
            await link.exchange(PEEK)


async def test_requests_are_remembered_within_bounds(faulty: FaultyStore, link: Link) -> None:
    for number in range(1010):
        await link.exchange(Peek(str(number)))
    assert [faulty.requests[0], faulty.requests[-1]] == [Peek("10"), Peek("1009")]
    assert len(faulty.requests) == 1000


def test_repr(inner: MemoryStore, faulty: FaultyStore) -> None:
    faulty.drop_request()
    assert repr(faulty) == f"<FaultyStore around {inner!r}, 1 faults planned>"


# ---------------------------------------------------------------------------------- plan


async def test_faults_strike_in_order_and_by_number(faulty: FaultyStore, link: Link) -> None:
    faulty.forward(2)
    faulty.drop_request(2)
    faulty.away()
    for _ in range(2):
        await link.exchange(PEEK)
    for _ in range(2):
        await lose(link)
        await link.connect()
    with pytest.raises(StoreAwayError):
        await link.exchange(PEEK)
    assert link.connected
    await link.exchange(PEEK)
    assert faulty.counts["forward"] == 2
    assert faulty.counts["drop_request"] == 2
    assert faulty.counts["away"] == 1
    assert faulty.counts["replies"] == 3


@pytest.mark.parametrize("executed", [True, False])
@pytest.mark.parametrize("kind", [StoreError, StoreAwayError, StoreUnavailableError])
async def test_an_answer_may_be_any_error_true_or_not(
    kind: type[StoreError],
    executed: bool,
    inner: MemoryStore,
    faulty: FaultyStore,
    link: Link,
    autojump_clock: MockClock,
) -> None:
    error = kind("no")
    faulty.answer(error, executed=executed)
    with pytest.raises(kind, match="no") as caught:
        await link.exchange(PEEK)
    assert caught.value is not error
    assert link.connected is (kind is not StoreUnavailableError)
    assert bool(inner._namespaces) is executed
    assert faulty.counts["answer"] == 1
    await link.connect()
    await link.exchange(PEEK)


async def test_faults_choose_their_requests(faulty: FaultyStore, link: Link) -> None:
    faulty.drop_request(None, when=lambda request: request == Peek("victim"))
    faulty.drop_reply(when=lambda request: request == Peek("other"))
    await link.exchange(PEEK)
    for _ in range(3):
        await lose(link, Peek("victim"))
        await link.connect()
    await lose(link, Peek("other"))
    await link.connect()
    await link.exchange(Peek("other"))
    faulty.forget_plan()
    await link.exchange(Peek("victim"))


async def test_zero_times_is_no_fault(faulty: FaultyStore, link: Link) -> None:
    faulty.drop_request(0)
    await link.exchange(PEEK)
    with pytest.raises(ValueError, match="times"):
        faulty.drop_request(-1)


async def test_each_wrapper_has_faults_of_its_own(
    inner: MemoryStore, faulty: FaultyStore, link: Link
) -> None:
    other = FaultyStore(inner)
    faulty.cut()
    async with other.link("p") as other_link:
        await other_link.connect()
        assert isinstance(await other_link.exchange(PEEK), Peeked)


# ------------------------------------------------------------- what counters make of them


async def test_dropped_requests_and_replies_count_once(
    inner: MemoryStore, faulty: FaultyStore, autojump_clock: MockClock
) -> None:
    async with (
        StrictInstanceAwareCounter.open("p", faulty) as unlucky,
        StrictInstanceAwareCounter.open("p", inner) as lucky,
    ):
        faulty.drop_request(2, when=is_batch)
        faulty.drop_reply(2, when=is_batch)
        assert await unlucky.inc("k", 5) == (5, 5)
        assert await lucky.get("k") == (5, 0)
        assert unlucky.statistics().reconnects == 1  # one outage


@pytest.mark.parametrize("fault", ["drop_request", "drop_reply", "late_copy"])
async def test_a_start_fails_fast(
    faulty: FaultyStore, fault: str, autojump_clock: MockClock
) -> None:
    """At once with the third loss in a row: one alone says nothing of the store."""
    begun = trio.current_time()
    getattr(faulty, fault)(3)
    with pytest.raises(StoreUnavailableError):
        async with StrictInstanceAwareCounter.open("p", faulty):
            pytest.fail("it started")
    assert trio.current_time() - begun < 1.0
    getattr(faulty, fault)(2)
    async with StrictInstanceAwareCounter.open("p", faulty) as counter:
        assert await counter.inc("k") == (1, 1)


async def test_late_copies_do_nothing_any_more(
    inner: MemoryStore, faulty: FaultyStore, autojump_clock: MockClock
) -> None:
    async with StrictInstanceAwareCounter.open("p", faulty) as counter:
        faulty.late_copy(2, when=is_batch)
        await counter.inc("k")
        await counter.set("k", 10)
        await counter.inc("k")
        first, second = await faulty.deliver_late_copies()
        assert isinstance(first, Stale)
        assert isinstance(second, Stale)
        assert await counter.get("k") == (11, 11)
        assert faulty.counts["late_copies_delivered"] == 2
        assert await faulty.deliver_late_copies() == []


async def test_a_late_copy_may_be_the_one_that_is_executed(
    inner: MemoryStore, faulty: FaultyStore, autojump_clock: MockClock
) -> None:
    async with StrictInstanceAwareCounter.open("p", faulty) as counter:
        async with trio.open_nursery() as nursery:
            faulty.hold()
            nursery.start_soon(counter.inc, "k", 5)
            await wait_all_tasks_blocked()
            faulty.late_copy(when=is_batch)
            faulty.release()
            faulty.hold()  # the second try
            await wait_all_tasks_blocked()
            with assert_checkpoints():
                (answer,) = await faulty.deliver_late_copies()
            assert isinstance(answer, Applied)
            faulty.release()
        assert await counter.get("k") == (5, 5)


async def with_a_late_copy(inner: MemoryStore) -> tuple[FaultyStore, FaultyStore]:
    """Return a store that has kept a request, and the one between it and ``inner``."""
    middle = FaultyStore(inner)
    outer = FaultyStore(middle)
    async with outer.link("p") as link:
        await link.connect()
        outer.late_copy()
        await lose(link)
    return outer, middle


async def test_a_late_copy_that_is_refused_is_told_of(
    inner: MemoryStore, autojump_clock: MockClock
) -> None:
    outer, middle = await with_a_late_copy(inner)
    middle.refuse(StoreError("full"))
    (answer,) = await outer.deliver_late_copies()
    assert isinstance(answer, StoreError)
    assert str(answer) == "full"


async def test_a_late_copy_stays_until_it_can_be_sent(
    inner: MemoryStore, autojump_clock: MockClock
) -> None:
    outer, middle = await with_a_late_copy(inner)
    middle.cut()
    for _ in range(2):
        with pytest.raises(StoreUnavailableError):
            await outer.deliver_late_copies()
    middle.heal()
    with trio.CancelScope() as scope:
        scope.cancel()
        await outer.deliver_late_copies()
    (answer,) = await outer.deliver_late_copies()
    assert isinstance(answer, Peeked)
    assert await outer.deliver_late_copies() == []


async def test_answers_to_late_copies_are_told_though_the_store_goes_away(
    inner: MemoryStore, autojump_clock: MockClock
) -> None:
    middle = FaultyStore(inner)
    outer = FaultyStore(middle)
    outer.late_copy(2)
    for _ in range(2):
        async with outer.link("p") as link:
            await link.connect()
            await lose(link)

    def goes_away(_: Request) -> bool:
        middle.refuse(StoreError("no"), connections=True)
        return True

    middle.forward(when=goes_away)
    assert [type(answer) for answer in await outer.deliver_late_copies()] == [Peeked]
    with pytest.raises(StoreError, match="no"):
        await outer.deliver_late_copies()
    middle.refuse(None)
    assert [type(answer) for answer in await outer.deliver_late_copies()] == [Peeked]


async def test_duplicates_count_once(
    inner: MemoryStore, faulty: FaultyStore, autojump_clock: MockClock
) -> None:
    faulty.duplicate(None)
    async with StrictInstanceAwareCounter.open("p", faulty) as counter:
        assert await counter.inc("k") == (1, 1)
        assert await counter.set("k", 7) == (7, 7)
        assert await counter.inc("k") == (8, 8)
        assert faulty.counts["duplicate"] == faulty.counts["replies"] > 3


async def test_a_copy_that_is_refused_harms_nobody(inner: MemoryStore) -> None:
    middle = FaultyStore(inner)
    outer = FaultyStore(middle)
    async with outer.link("p") as link:
        await link.connect()
        outer.duplicate()
        middle.forward()
        middle.away()
        assert isinstance(await link.exchange(PEEK), Peeked)
        assert middle.counts["away"] == 1


async def test_a_store_that_is_away_is_waited_for(
    faulty: FaultyStore, autojump_clock: MockClock
) -> None:
    async with StrictInstanceAwareCounter.open("p", faulty) as counter:
        faulty.away(5)
        assert await counter.inc("k") == (1, 1)
        assert counter.statistics().reconnects == 0


# ---------------------------------------------------------------------------- conditions


async def test_delay(faulty: FaultyStore, link: Link, autojump_clock: MockClock) -> None:
    faulty.delay(1.5)
    faulty.delay(0.5, replies=True)
    started = trio.current_time()
    await link.exchange(PEEK)
    assert trio.current_time() - started == pytest.approx(2)
    faulty.delay(0)
    faulty.delay(0, replies=True)
    started = trio.current_time()
    await link.exchange(PEEK)
    assert trio.current_time() == started
    assert faulty.counts["delay"] == 2


@pytest.mark.parametrize("replies", [False, True])
async def test_hold_and_release(
    inner: MemoryStore, faulty: FaultyStore, autojump_clock: MockClock, replies: bool
) -> None:
    async with (
        StrictInstanceAwareCounter.open("p", faulty) as held,
        StrictInstanceAwareCounter.open("p", inner) as free,
        trio.open_nursery() as nursery,
    ):
        faulty.hold(replies=replies)
        faulty.hold(replies=replies)  # no more than once
        nursery.start_soon(held.inc, "k")
        await wait_all_tasks_blocked()
        assert await free.get("k") == (int(replies), 0)
        assert held.statistics().in_flight_age is not None
        faulty.release()
        faulty.release()
        await wait_all_tasks_blocked()
        assert await free.get("k") == (1, 0)
    assert faulty.counts["hold"] == 1


@pytest.mark.parametrize("replies", [False, True])
async def test_a_cut_ends_what_is_on_its_way(
    inner: MemoryStore, faulty: FaultyStore, link: Link, nursery: trio.Nursery, replies: bool
) -> None:
    faulty.hold(replies=replies)
    nursery.start_soon(lose, link)
    await wait_all_tasks_blocked()
    faulty.cut()
    faulty.heal()  # too late for what was cut off
    await wait_all_tasks_blocked()
    assert not link.connected
    faulty.release()
    await link.connect()
    await link.exchange(PEEK)
    assert faulty.counts["cut"] == 1


class SlowStore(Store):
    """Connecting to it takes for ever."""

    @asynccontextmanager
    async def link(self, prefix: str) -> AsyncIterator[Link]:
        yield SlowLink()


class SlowLink(Link):
    connected = False

    async def connect(self) -> None:
        await trio.sleep_forever()

    async def receive(self, request: Request) -> Reply:
        raise AssertionError


async def test_a_cut_while_connecting() -> None:
    faulty = FaultyStore(SlowStore())

    async def connect(link: Link) -> None:
        with pytest.raises(StoreUnavailableError):
            await link.connect()
        assert not link.connected

    async with faulty.link("p") as link, trio.open_nursery() as nursery:
        nursery.start_soon(connect, link)
        await wait_all_tasks_blocked()
        faulty.cut()
        faulty.heal()  # too late
    assert faulty.counts == {"cut": 1}


async def test_a_partition_is_survived(
    inner: MemoryStore, faulty: FaultyStore, autojump_clock: MockClock
) -> None:
    async with (
        StrictInstanceAwareCounter.open("p", faulty, dead_instance_threshold=10) as cut_off,
        StrictInstanceAwareCounter.open("p", inner, dead_instance_threshold=10) as other,
    ):
        await cut_off.inc("k", 5)
        await other.inc("k", 1)
        faulty.cut()
        with trio.move_on_after(30) as scope:
            await cut_off.inc("k", 100)  # never sent, so it never happens
        assert scope.cancelled_caught
        assert not cut_off.statistics().connected
        assert await other.get("k") == (1, 1)
        faulty.heal()
        assert await cut_off.inc("k", 1) == (7, 6)
        assert faulty.counts["cut"] > 3
        assert any(isinstance(request, Apply) for request in faulty.requests)


async def test_a_start_while_cut(faulty: FaultyStore) -> None:
    faulty.cut()
    with pytest.raises(StoreUnavailableError, match="partitioned"):
        async with StrictInstanceAwareCounter.open("p", faulty):
            pytest.fail("it started")


async def test_refusals_last_until_they_end(faulty: FaultyStore, autojump_clock: MockClock) -> None:
    async with LaxInstanceAwareCounter.open("p", faulty) as counter:
        refusal = StoreError("OOM command not allowed")
        faulty.refuse(refusal)
        counter.inc_nowait("k", 3)
        for _ in range(2):
            with pytest.raises(StoreError, match="OOM") as caught:
                await counter.flush()
            assert caught.value is not refusal
        assert counter.statistics().connected
        faulty.refuse(None)
        await counter.flush()
        assert await counter.get("k") == (3, 3)
        assert faulty.counts["refuse"] >= 2


async def test_connections_may_be_refused_too(faulty: FaultyStore) -> None:
    faulty.refuse(StoreError("WRONGPASS"), connections=True)
    async with faulty.link("p") as link:
        with pytest.raises(StoreError, match="WRONGPASS"):
            await link.connect()
        assert not link.connected
        faulty.refuse(StoreError("NOPERM"))
        await link.connect()
        with pytest.raises(StoreError, match="NOPERM"):
            await link.exchange(PEEK)
        assert link.connected
        faulty.refuse(None)
        await link.exchange(PEEK)


# -------------------------------------------------------------------------------- settings


class Forgetful(Store):
    """A store whose settings may make it lose counts, which says so after a while."""

    def __init__(self) -> None:
        self.inner = MemoryStore()

    @asynccontextmanager
    async def link(self, prefix: str) -> AsyncIterator[Link]:
        async with self.inner.link(prefix) as link:
            yield ForgetfulLink(link)


class ForgetfulLink(Link):
    connected = True

    def __init__(self, inner: Link) -> None:
        self.inner = inner

    async def connect(self) -> None:
        await trio.lowlevel.checkpoint()

    async def receive(self, request: Request) -> Reply:
        return await self.inner.exchange(request)

    async def inspect(self) -> tuple[str, ...]:
        await trio.sleep(1)
        return ("it evicts keys",)


async def test_what_settings_the_inner_store_has_is_told(autojump_clock: MockClock) -> None:
    async with StrictInstanceAwareCounter.open("p", FaultyStore(Forgetful())) as counter:
        await trio.sleep(100)
        assert counter.statistics().warnings == ("it evicts keys",)
        assert counter.statistics().reconnects == 0


async def test_a_cut_while_the_settings_are_looked_at(autojump_clock: MockClock) -> None:
    faulty = FaultyStore(Forgetful())

    async def look() -> None:
        with pytest.raises(StoreUnavailableError, match="partitioned"):
            await link.inspect()

    async with faulty.link("p") as link:
        await link.connect()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(look)
            await wait_all_tasks_blocked()
            faulty.cut()
            faulty.heal()  # too late
        assert not link.connected
        await link.connect()
        assert await link.inspect() == ("it evicts keys",)


@pytest.mark.parametrize("replies", [False, True])
async def test_a_look_at_the_settings_is_held_up_as_requests_are(
    autojump_clock: MockClock, replies: bool
) -> None:
    faulty = FaultyStore(Forgetful())
    async with faulty.link("p") as link:
        await link.connect()
        faulty.delay(10, replies=replies)
        began = trio.current_time()
        assert await link.inspect() == ("it evicts keys",)
        assert trio.current_time() - began == pytest.approx(11)
        faulty.delay(0, replies=replies)
        faulty.hold(replies=replies)
        with trio.move_on_after(100) as scope:
            await link.inspect()
        assert scope.cancelled_caught
        assert not link.connected
        faulty.release()


async def test_a_look_at_the_settings_is_refused_as_requests_are(
    autojump_clock: MockClock,
) -> None:
    faulty = FaultyStore(Forgetful())
    async with faulty.link("p") as link:
        await link.connect()
        faulty.refuse(StoreError("OOM"))
        with pytest.raises(StoreError, match="OOM"):
            await link.inspect()
        assert link.connected
        assert faulty.counts["refuse"] == 1
        faulty.refuse(None)
        faulty.drop_request()
        assert await link.inspect() == ("it evicts keys",)


# -------------------------------------------------------------------------- cancellation


@pytest.mark.parametrize("replies", [False, True])
async def test_a_cancelled_request_leaves_no_connection(
    faulty: FaultyStore, link: Link, autojump_clock: MockClock, replies: bool
) -> None:
    faulty.delay(10, replies=replies)
    with trio.move_on_after(1) as scope:
        await link.exchange(PEEK)
    assert scope.cancelled_caught
    assert not link.connected
    faulty.delay(0, replies=replies)
    await link.connect()
    await link.exchange(PEEK)


async def test_a_request_that_is_cancelled_at_once_is_not_executed(
    faulty: FaultyStore, link: Link
) -> None:
    faulty.drop_reply()
    with trio.CancelScope() as scope:
        scope.cancel()
        await link.exchange(PEEK)
    assert scope.cancelled_caught
    assert faulty.counts["drop_reply"] == 0


async def test_a_cancelled_connect_leaves_no_connection(faulty: FaultyStore) -> None:
    async with faulty.link("p") as link:
        with trio.CancelScope() as scope:
            scope.cancel()
            await link.connect()
        assert scope.cancelled_caught
        assert not link.connected


# -------------------------------------------------------------------------- a real server


async def test_around_a_redis_server(redis_url: str, fresh_prefix: str) -> None:
    faulty = FaultyStore(RedisStore(redis_url))
    async with StrictInstanceAwareCounter.open(fresh_prefix, faulty) as counter:
        faulty.drop_request(when=is_batch)
        faulty.drop_reply(when=is_batch)
        faulty.late_copy(when=is_batch)
        faulty.duplicate(when=is_batch)
        assert await counter.inc("k", 5) == (5, 5)
        assert isinstance((await faulty.deliver_late_copies())[0], (Applied, MustResume))
        assert await counter.inc("k", 1) == (6, 6)
        assert isinstance(faulty.requests[-1], Apply)
