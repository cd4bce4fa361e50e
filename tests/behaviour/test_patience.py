"""A store that does not answer: when the actor gives a request up, and when it must not."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from distkit_actors import (
    CounterClosedError,
    Fleet,
    MemoryStore,
    Store,
    StoreUnavailableError,
    StrictInstanceAwareCounter,
)
from distkit_actors._protocol._messages import Apply, Forget, Query, Reply, Request
from distkit_actors._stores._contract import Link

PATIENCE = 2.0
#: The latest at which a request without an answer is given up.
LATEST = 1.25 * PATIENCE


class SlowStore(Store):
    """Executes what it is asked, and answers only if it likes."""

    def __init__(self) -> None:
        self._inner = MemoryStore()
        self.mute = 0  # answers still to be swallowed
        self.away = False  # ends connections, and takes no new ones
        self.connecting = 0.0  # seconds that it takes
        self.trip = 0.0  # seconds from a request to its answer
        self.asked: list[Request] = []
        self.dropped = 0  # requests that were given up
        self.sent_by_caller = False  # sends what it can at once, and then is cut off
        self.bug: Exception | None = None  # in sending at once
        self.executed: list[Request] = []  # before anybody waited for an answer
        self.doubts: list[bool] = []
        self.in_doubt: Callable[[], bool] = lambda: False

    def execute(self, request: Request) -> Reply:
        return self._inner.execute("app", request)

    @asynccontextmanager
    async def link(self, prefix: str) -> AsyncGenerator[Link]:
        async with self._inner.link(prefix) as link:
            yield _SlowLink(self, link)


class _SlowLink(Link):
    def __init__(self, store: SlowStore, inner: Link) -> None:
        self._store = store
        self._inner = inner
        self._up = False

    @property
    def connected(self) -> bool:
        return self._up

    @property
    def patience(self) -> float:
        return PATIENCE

    async def connect(self) -> None:
        await trio.sleep(self._store.connecting)
        if self._store.away:
            raise StoreUnavailableError("nobody listens")
        self._up = True
        self._store.doubts.append(self._store.in_doubt())

    @property
    def can_send_nowait(self) -> bool:
        return self._store.sent_by_caller

    def send_nowait(self, request: Request) -> None:
        if self._store.bug is not None:
            raise self._store.bug
        self._store.execute(request)
        self._store.executed.append(request)
        self._up = False

    async def receive(self, request: Request) -> Reply:
        self._up = self._up and not self._store.away
        if not self._up:
            await trio.lowlevel.checkpoint()
            raise StoreUnavailableError("the connection is lost")
        self._store.asked.append(request)
        try:
            reply = await self._inner.exchange(request)
            await trio.sleep(self._store.trip)
            if self._store.mute and isinstance(request, Apply):
                self._store.mute -= 1
                await trio.sleep_forever()
        except trio.Cancelled:
            self._up = False
            self._store.dropped += 1
            raise
        return reply


async def test_what_is_not_answered_in_time_is_asked_again_and_counts_once(
    autojump_clock: trio.testing.MockClock,
) -> None:
    store = SlowStore()
    async with StrictInstanceAwareCounter.open("app", store) as counter:
        assert await counter.inc("k") == (1, 1)
        for lost in (1, 3):
            store.mute = lost
            before, start = await counter.get("k"), trio.current_time()
            store.mute = lost
            assert before.cumulative + 1 == (await counter.inc("k")).cumulative
            # Patience grows to a third of the threshold; a pause is half an interval at most.
            assert lost * PATIENCE <= trio.current_time() - start <= lost * (1.25 * 10 + 5)
        assert store.dropped == 2 * (1 + 3)
        assert counter.statistics().reconnects == 4  # as often as it was away


async def test_what_is_asked_again_after_an_outage_has_its_time(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The time in which there was no connection is no time in which the store did not answer."""
    store = SlowStore()
    async with (
        StrictInstanceAwareCounter.open("app", store) as counter,
        trio.open_nursery() as nursery,
    ):
        store.away, store.trip = True, 0.001
        nursery.start_soon(counter.inc, "k")
        await trio.sleep(60)
        store.away, back = False, trio.current_time()
        assert await counter.get("k") == (1, 1)
        assert trio.current_time() <= back + 5  # the longest pause: half an interval
        assert not store.dropped
        # Reads wait for as long as answers take, which is not as long as the outage.
        assert counter._actor.parts[0]._requester.trip < 0.1


async def test_patience_is_short_again_with_a_store_that_is_quick_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    store = SlowStore()
    async with StrictInstanceAwareCounter.open("app", store) as counter:
        store.mute = 3
        await counter.inc("k")  # patience has grown
        for _ in range(2):
            await counter.get("k")
        store.mute, began = 1, trio.current_time()
        await counter.inc("k")
        assert trio.current_time() <= began + LATEST + 0.1


async def test_an_answer_that_came_while_the_loop_was_blocked_is_no_outage(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The application did that, not the store. The same is asked once more, and counts once."""
    store = SlowStore()
    async with StrictInstanceAwareCounter.open("app", store) as counter:
        store.trip = 1.0
        values = []

        async def inc() -> None:
            values.append(await counter.inc("k"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(inc)
            await trio.sleep(0.5)
            autojump_clock.jump(8.0)
        assert values == [(1, 1)]
        assert store.dropped == 1
    assert not caplog.records


async def test_connecting_gets_more_time_with_each_try(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """It may take several servers and a credential provider, one after the other."""
    store = SlowStore()
    async with StrictInstanceAwareCounter.open("app", store) as counter:
        store.away, store.connecting = True, 15.0  # more than a third of the threshold
        with trio.move_on_after(1):
            await counter.inc("k")  # it is on its way
        store.away = False
        with trio.fail_after(120):
            assert await counter.get("k") == (1, 1)


async def test_patience_that_ends_while_nothing_is_asked_ends_nothing(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    store = SlowStore()
    async with StrictInstanceAwareCounter.open("app", store, heartbeat_interval=10.0) as counter:
        for number in range(1, 5):
            assert (number, number) == await counter.inc("k")
            await trio.sleep(100)
        asked = len(store.asked)
        assert not store.dropped
        assert not counter.statistics().reconnects
        assert counter.statistics().in_flight_age is None
    assert 40 <= asked <= 50  # to register, a beat every ten seconds, and the operations
    assert not caplog.records


async def test_what_is_asked_at_the_very_moment_is_asked_once(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Patience ends after there is work, and before the actor gets to it."""

    async def time_passes() -> None:
        autojump_clock.jump(2e-6)

    store = SlowStore()
    async with StrictInstanceAwareCounter.open("app", store) as counter:
        for number in range(1, 20, 2):
            start = trio.current_time()
            assert await counter.inc("k") == (number, number)
            await trio.sleep_until(start + LATEST - 1e-6)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(counter.inc, "k")
                nursery.start_soon(time_passes)
        assert not store.dropped
        batches = [request for request in store.asked if isinstance(request, Apply)]
        assert len(batches) == len({batch.seq for batch in batches})


async def test_a_stop_is_patient_for_as_long_as_its_grace(
    autojump_clock: trio.testing.MockClock,
) -> None:
    store = SlowStore()
    async with StrictInstanceAwareCounter.open("app", store) as other:
        async with StrictInstanceAwareCounter.open("app", store) as counter:
            await counter.inc("k", 5)
            store.mute = 1
        assert store.dropped == 1
        assert await other.get("k") == (0, 0)


async def test_what_was_sent_at_once_is_in_doubt_if_the_connection_is_lost(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Even if that was before anybody waited for its answer; it is asked again.

    P16, repeat; P38, lone operation.
    """
    store = SlowStore()
    async with StrictInstanceAwareCounter.open("app", store) as counter:
        store.in_doubt = lambda: counter._actor._session.in_doubt
        for number in range(1, 6):
            assert await counter.inc("k") == (number, number)
        store.sent_by_caller = True
        for number in range(6, 20):
            asked, executed = len(store.asked), len(store.executed)
            assert await counter.inc("k") == (number, number)
            assert store.asked[asked:] == store.executed[executed:]
        assert len(store.executed) == 14
        assert store.doubts == [False] + [True] * 14


async def test_a_beat_that_was_due_follows_what_is_asked_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """What was executed before its answer got lost is no new sign of life (P16, repeat)."""
    store = SlowStore()
    async with StrictInstanceAwareCounter.open(
        "app", store, dead_instance_threshold=3.0, heartbeat_interval=1.0
    ) as counter:
        for _ in range(20):
            store.mute = 1
            counted = await counter.inc("k")
            await trio.sleep(0.05)
            last = store.asked[-1]
            assert isinstance(last, Apply)
            assert not last.entries, "it has been silent for as long as it waited"
            (me,) = await counter.instances()
            assert me.heartbeat_age <= 0.1
            await trio.sleep(0.37)
        assert counted == (20, 20)


async def test_a_bug_in_sending_at_once_ends_the_counter_and_not_only_its_caller(
    autojump_clock: trio.testing.MockClock,
) -> None:
    store = SlowStore()
    counter = StrictInstanceAwareCounter("app", store)
    failed: list[BaseException] = []

    async def run(task_status: trio.TaskStatus[None]) -> None:
        try:
            await counter.run(task_status=task_status)
        except* RuntimeError as group:
            failed.extend(group.exceptions)

    async with trio.open_nursery() as nursery:
        await nursery.start(run)
        for number in range(1, 6):
            assert await counter.inc("k") == (number, number)
        store.sent_by_caller, store.bug = True, RuntimeError("a bug")
        with pytest.raises(CounterClosedError, match="a bug"):
            await counter.inc("k")
    assert failed


async def test_an_onlooker_is_patient_with_a_slow_store(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """It does not throw each answer away and ask for another one."""
    store = SlowStore()
    async with StrictInstanceAwareCounter.open("app", store) as counter:
        await counter.inc("k", 5)
        store.trip = 3.0
        with trio.fail_after(60):
            async with Fleet.open("app", store) as fleet:
                store.asked.clear()
                for _ in range(3):
                    assert await fleet.get("k") == (5, 0)
                assert sum(isinstance(request, Query) for request in store.asked) == 3


async def test_a_forgetting_that_is_given_up_while_it_connects_is_not_sent(
    autojump_clock: trio.testing.MockClock,
) -> None:
    store = SlowStore()
    async with StrictInstanceAwareCounter.open("app", store, instance_id="victim") as counter:
        await counter.inc("k", 5)
        async with Fleet.open("app", store) as fleet:
            store.connecting = 1.5
            with trio.move_on_after(1) as given_up:
                await fleet.forget("victim")
            assert given_up.cancelled_caught
            await trio.sleep(5)
            assert await fleet.get("k") == (5, 0)
            assert not [request for request in store.asked if isinstance(request, Forget)]
