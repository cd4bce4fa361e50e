"""A caller that is alone receives its answer itself: whatever happens meanwhile, it gets its own.

P38, lone operation. The store holds answers back while it is told to, so that anything can happen
while a caller waits. Real connections are in ``tests/faults/test_lone_callers.py``.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from distkit_actors import (
    CounterClosedError,
    CounterOverflowError,
    Eq,
    InstanceConflictError,
    LaxInstanceAwareCounter,
    MemoryStore,
    OutcomeUnknownError,
    Store,
    StoreError,
    StrictInstanceAwareCounter,
)
from distkit_actors._actor._operations import Operation
from distkit_actors._protocol._messages import Applied, Kind, Reply, Request, Slice
from distkit_actors._protocol._values import INT64_MAX
from distkit_actors._stores._contract import Link

#: After so many operations, one by one, the next is expected to be alone too.
STREAK = 5
PATIENCE = 2.0
#: Seconds by the tests' clock: nothing here takes as long, but one who is left waiting.
LONG = 300.0


class HeldStore(Store):
    """Executes at once what callers send, and holds the answers back if it is told to."""

    def __init__(self) -> None:
        self.inner = MemoryStore()
        self.held = False
        self.sent: list[Request] = []  # by callers
        self.received: list[Request] = []  # what the batch loop has received
        self.waiting = 0  # callers that wait for their answers
        self.trouble: Exception | None = None  # in place of an answer
        self.refusal: StoreError | None = None  # of what callers send
        self.backlog = 0  # that answers tell of
        self.bug: Exception | None = None  # in looking for an answer
        self.looks = False  # it asks where the server is before the next request
        self.in_doubt: Callable[[], bool] = lambda: False
        self.sending: Callable[[], None] = lambda: None
        self.doubts: list[bool] = []  # whether what was asked again was in doubt
        self.changed = trio.Event()

    def release(self) -> None:
        """Let the answers go."""
        self.held = False
        self.tell()

    def tell(self) -> None:
        """Let all look again who wait."""
        self.changed.set()
        self.changed = trio.Event()

    @asynccontextmanager
    async def link(self, prefix: str) -> AsyncGenerator[Link]:
        yield _HeldLink(self)


class _HeldLink(Link):
    connected = True

    def __init__(self, store: HeldStore) -> None:
        self._store = store
        self._sent: Request | None = None
        self._answer: Reply | None = None
        self._interrupted = False

    async def connect(self) -> None:
        await trio.lowlevel.checkpoint()
        self.connected = True

    @property
    def patience(self) -> float:
        return PATIENCE

    @property
    def can_send_nowait(self) -> bool:
        return True

    def send_nowait(self, request: Request) -> None:
        self._store.sent.append(request)
        self._store.sending()
        self._sent, self._answer = request, None
        if self._store.refusal is None:
            self._answer = self._store.inner.execute("app", request)

    def wait_answer(self) -> Awaitable[None] | None:
        return self._wait()

    async def _wait(self) -> None:
        self._interrupted = False
        self._store.waiting += 1
        try:
            await trio.lowlevel.checkpoint()
            while self._store.held and not self._interrupted:
                await self._store.changed.wait()
        finally:
            self._store.waiting -= 1

    def receive_nowait(self, request: Request) -> Reply | None:
        assert request is self._sent
        if self._store.bug is not None:
            raise self._store.bug
        if self._store.held or self._store.trouble:
            return None
        self.connected = not self._store.looks
        if isinstance(self._answer, Applied):
            return self._answer._replace(backlog=self._store.backlog)
        return self._answer

    def interrupt(self) -> None:
        self._interrupted = True
        self._store.tell()

    async def receive(self, request: Request) -> Reply:
        if request is not self._sent:
            if request in self._store.sent:
                self._store.doubts.append(self._store.in_doubt())
            await trio.lowlevel.checkpoint()
            return self._store.inner.execute("app", request)
        self._store.received.append(request)
        try:
            await trio.lowlevel.checkpoint()
            while self._store.held:
                await self._store.changed.wait()
        except trio.Cancelled:
            self._sent = None  # the answer is for nobody
            raise
        if self._store.trouble is not None:
            raise self._store.trouble
        if self._store.refusal is not None:
            raise self._store.refusal
        assert self._answer is not None
        return self._answer


@asynccontextmanager
async def alone(
    store: HeldStore, *, exit_grace: float = 5.0
) -> AsyncGenerator[StrictInstanceAwareCounter]:
    """Return a counter that expects that whoever comes is alone, and has counted 0."""
    with trio.fail_after(LONG):
        async with StrictInstanceAwareCounter.open(
            "app", store, instance_id="me", exit_grace=exit_grace
        ) as counter:
            for _ in range(STREAK):
                await counter.get("k")
            store.sent.clear()
            yield counter


async def one_waits(
    store: HeldStore, nursery: trio.Nursery, inc: Callable[..., Awaitable[object]], *key: str
) -> None:
    """Have one caller wait for its answer, which the store holds back from now on."""
    store.held = True
    nursery.start_soon(inc, *key)
    await trio.testing.wait_all_tasks_blocked()
    assert store.waiting == 1


async def test_it_receives_its_answer_and_the_batch_loop_sleeps(
    autojump_clock: trio.testing.MockClock,
) -> None:
    store = HeldStore()
    async with alone(store) as counter:
        for number in range(1, 20):
            assert await counter.inc("k") == (number, number)
            assert await counter.get("k") == (number, number)
        assert len(store.sent) == 2 * 19
        assert not store.received
        statistics = counter.statistics()
        assert statistics.operations_done == STREAK + 2 * 19
        assert statistics.in_flight_age is None
        assert statistics.last_heartbeat_age == 0.0


async def test_cancelled_it_leaves_its_operation_to_the_batch_loop(
    autojump_clock: trio.testing.MockClock,
) -> None:
    store = HeldStore()
    async with alone(store) as counter:
        async with trio.open_nursery() as nursery:
            await one_waits(store, nursery, counter.inc, "k")
            nursery.cancel_scope.cancel()
        assert counter.statistics().in_flight_age is not None
        store.release()
        await trio.testing.wait_all_tasks_blocked()
        assert counter.statistics().in_flight_age is None
        assert store.received == store.sent
        assert await counter.inc("k") == (2, 2)


async def test_cancelled_its_answer_has_still_taken_as_long_as_it_has(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Reads wait for as long as answers take."""
    store = HeldStore()
    async with alone(store) as counter:
        async with trio.open_nursery() as nursery:
            await one_waits(store, nursery, counter.inc, "k")
            await trio.sleep(0.2)
            nursery.cancel_scope.cancel()
        await trio.sleep(0.05)
        store.release()
        await trio.testing.wait_all_tasks_blocked()
        assert counter._actor.parts[0]._requester.trip == pytest.approx(0.25)


async def test_cancelled_it_never_happens_if_it_was_not_executed(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The store has lost everything: what it did not execute is sent again for those who wait."""
    store = HeldStore()
    async with alone(store) as counter:
        store.inner = MemoryStore()
        async with trio.open_nursery() as nursery:
            await one_waits(store, nursery, counter.inc, "k")
            nursery.cancel_scope.cancel()
        store.release()
        assert await counter.get("k") == (0, 0)


async def test_whoever_comes_meanwhile_has_the_batch_loop_take_over(
    autojump_clock: trio.testing.MockClock,
) -> None:
    store = HeldStore()
    seen: list[tuple[int, int]] = []

    async def inc() -> None:
        seen.append(await counter.inc("k"))

    async with alone(store) as counter:
        async with trio.open_nursery() as nursery:
            await one_waits(store, nursery, inc)
            for _ in range(3):
                nursery.start_soon(inc)
            await trio.testing.wait_all_tasks_blocked()
            assert not store.waiting
            assert store.received == store.sent
            assert len(store.sent) == 1
            store.release()
        assert sorted(seen) == [(1, 1), (2, 2), (3, 3), (4, 4)]


async def test_whoever_comes_when_the_answer_does_disturbs_nothing(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Which of the two tasks goes on first is up to the scheduler."""
    store = HeldStore()
    seen: list[tuple[int, int]] = []

    async def inc() -> None:
        seen.append(await counter.inc("k"))

    async with alone(store) as counter:
        for _ in range(40):
            for _ in range(STREAK):
                await counter.get("k")
            async with trio.open_nursery() as nursery:
                await one_waits(store, nursery, inc)
                store.release()
                await inc()
        assert sorted(seen) == [(number, number) for number in range(1, 81)]


async def test_a_beat_that_comes_due_has_the_batch_loop_take_over(
    autojump_clock: trio.testing.MockClock,
) -> None:
    store = HeldStore()
    async with alone(store) as counter:
        async with trio.open_nursery() as nursery:
            await one_waits(store, nursery, counter.inc, "k")
            counter._actor._loop.beat()
            await trio.testing.wait_all_tasks_blocked()
            assert store.received == store.sent
            store.release()
        assert await counter.get("k") == (1, 1)


async def test_slices_of_the_dead_that_are_left_are_taken_away_soon(
    autojump_clock: trio.testing.MockClock,
) -> None:
    store = HeldStore()
    async with alone(store) as counter:
        store.backlog = 1
        await counter.inc("k")
        before = counter.statistics().batches_done
        await trio.sleep(0.1)
        assert counter.statistics().batches_done == before + 1


async def test_a_look_at_the_store_that_is_due_has_its_turn(
    autojump_clock: trio.testing.MockClock,
) -> None:
    store = HeldStore()
    async with alone(store) as counter:
        counter._actor._loop.look_due = True
        await counter.inc("k")
        await trio.testing.wait_all_tasks_blocked()
        assert counter._actor._loop.look_due is False


async def test_without_an_answer_in_time_it_is_asked_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """What it has sent is in doubt then, so that nothing takes it for not executed."""
    store = HeldStore()
    async with alone(store) as counter:
        store.in_doubt = lambda: counter._actor._session.in_doubt
        store.held = True
        start = trio.current_time()
        assert await counter.inc("k") == (1, 1)
        assert store.doubts == [True]
        assert trio.current_time() - start >= PATIENCE
        assert await counter.get("k") == (1, 1)


@pytest.mark.parametrize("taken_over", [False, True])
async def test_a_stop_whose_grace_is_over_leaves_nobody_waiting(
    taken_over: bool,
    autojump_clock: trio.testing.MockClock,
) -> None:
    store = HeldStore()
    unknown: list[Exception] = []

    async def inc() -> None:
        try:
            await counter.inc("k")
        except OutcomeUnknownError as error:
            unknown.append(error)

    async def stop() -> None:
        nonlocal counter
        async with alone(store, exit_grace=0.0) as counter:
            await one_waits(store, nursery, inc)
            if taken_over:
                counter._actor._loop.beat()
                await trio.testing.wait_all_tasks_blocked()

    counter: StrictInstanceAwareCounter
    with trio.fail_after(LONG):
        async with trio.open_nursery() as nursery:
            with pytest.raises(StoreError, match="not acknowledged"):
                await stop()
    assert len(unknown) == 1
    assert not store.waiting


async def test_an_answer_that_ends_the_counter_is_left_to_the_batch_loop(
    autojump_clock: trio.testing.MockClock,
) -> None:
    store = HeldStore()

    async def be_superseded() -> None:
        async with (
            alone(store) as counter,
            StrictInstanceAwareCounter.open("app", store, instance_id="me"),
        ):
            with pytest.raises(InstanceConflictError):
                await counter.inc("k")
            await trio.sleep_forever()

    with pytest.raises(InstanceConflictError):
        await be_superseded()
    assert len(store.received) == 1


async def test_trouble_is_left_to_the_batch_loop(
    autojump_clock: trio.testing.MockClock,
) -> None:
    store = HeldStore()
    async with alone(store) as counter:
        store.trouble = StoreError("no")
        with pytest.raises(StoreError, match="no"):
            await counter.inc("k")
        assert len(store.received) == 1
        store.trouble = None
        for _ in range(STREAK):
            await counter.get("k")
        assert len(store.received) == 1


async def test_an_answer_that_has_come_is_taken_in_though_the_link_has_to_connect(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """As with sentinels. The answer says that nothing was done, so nothing is in doubt (P20)."""
    store = HeldStore()
    async with alone(store) as counter:
        store.inner.wipe()
        store.looks = True
        assert await counter.inc("k", 3) == (3, 3)
        assert store.received == store.sent
        assert not store.doubts


async def test_a_bug_in_receiving_ends_the_counter_and_not_only_its_caller(
    autojump_clock: trio.testing.MockClock,
) -> None:
    store = HeldStore()

    async def crash() -> None:
        async with alone(store) as counter:
            store.bug = RuntimeError("a bug")
            with pytest.raises(CounterClosedError, match="a bug"):
                await counter.inc("k")
            await trio.sleep_forever()

    with pytest.raises(RuntimeError, match="a bug"):
        await crash()


async def test_cancelled_before_it_is_sent_it_never_happens(
    autojump_clock: trio.testing.MockClock,
) -> None:
    store = HeldStore()
    async with alone(store) as counter:
        with trio.move_on_after(0) as scope:
            await counter.inc("k")
        assert scope.cancelled_caught
        assert not store.sent
        assert await counter.get("k") == (0, 0)


async def test_what_is_no_plain_addition_takes_the_usual_way(
    autojump_clock: trio.testing.MockClock,
) -> None:
    store = HeldStore()
    async with alone(store) as counter:
        assert not (await counter.inc_if("k", Eq(7))).applied
        assert await counter.set_on_instance("k", 3) == (3, 3)
        assert await counter.set_on_instance("k", 4) == (4, 4)
        assert await counter.get("k") == (4, 4)


async def test_what_was_just_sent_is_not_taken_for_unanswered(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The deadline of what was asked before it may be over before the batch loop has its turn."""
    store = HeldStore()
    async with alone(store) as counter:
        for number in range(1, 4):
            await trio.sleep(1.24 * PATIENCE)  # less than a deadline is set in advance
            store.sending = lambda: autojump_clock.jump(0.02 * PATIENCE)
            assert await counter.set_on_instance("k", number) == (number, number)
            store.sending = lambda: None
            assert await counter.set_on_instance("k", 0) == (0, 0)
        assert counter.statistics().outages == 0
        assert not store.doubts


async def test_one_that_is_refused_fails_and_the_next_goes_on(
    autojump_clock: trio.testing.MockClock,
) -> None:
    store = HeldStore()
    async with alone(store) as counter:
        for number in range(5):
            assert await counter.inc(f"other{number}", INT64_MAX) == (INT64_MAX, INT64_MAX)
            with pytest.raises(CounterOverflowError):
                await counter.inc(f"other{number}")
        assert await counter.inc("k") == (1, 1)


async def test_nobody_is_alone_while_the_store_refuses(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """However many queries were answered: the batch loop has to hear that the store accepts."""
    store = HeldStore()
    async with alone(store) as counter:
        store.refusal = StoreError("no room")
        with pytest.raises(StoreError, match="no room"):
            await counter.inc("k")
        store.refusal = None
        for _ in range(STREAK):
            await counter.instances()
        assert counter.statistics().outage_age is not None
        assert await counter.inc("k") == (1, 1)
        assert counter.statistics().outage_age is None


async def test_a_lax_counter_learns_what_it_reads(
    autojump_clock: trio.testing.MockClock,
) -> None:
    store = HeldStore()
    async with (
        alone(store) as other,
        LaxInstanceAwareCounter.open("app", store) as counter,
    ):
        for number in range(1, 10):
            await other.inc("k")
            await trio.sleep(1.0)
            assert await counter.get("k") == (number, 0)
            assert counter.age("k") < 1.0


async def test_moves_of_others_are_heard_of(autojump_clock: trio.testing.MockClock) -> None:
    """Of those who wait here holds have to know."""
    store = HeldStore()
    async with (
        alone(store) as counter,
        StrictInstanceAwareCounter.open("app", store) as other,
        counter.hold("k"),
    ):
        for _ in range(STREAK):
            await counter.get("k")
        holds = counter._actor._dispatch.releases.holds
        (hold,) = holds.outstanding()
        await other.set("k", 5)
        assert not hold.void
        assert await counter.get("other") == (0, 0)
        assert hold.void


@pytest.mark.parametrize("due", ["what is deferred", "what was withheld", "slices of the dead"])
async def test_it_is_left_to_the_batch_loop_if_something_else_is_due(
    due: str, autojump_clock: trio.testing.MockClock
) -> None:
    store = HeldStore()
    async with alone(store) as counter:
        agenda, session = counter._actor._loop._agenda, counter._actor._session
        match due:
            case "what is deferred":
                agenda._deferred_at = -1e9
            case "what was withheld":
                session.withheld.add("other", Slice(1, session.known + 1))
            case _:
                agenda.backlog = 1
        assert not counter._actor.send_alone(Operation(Kind.ADD, "k", 1))
        assert not store.sent
        assert await counter.inc("k") == (1, 1)
        assert len(store.received) == 1
        session.withheld.clear()


async def test_queries_take_turns_with_it(autojump_clock: trio.testing.MockClock) -> None:
    store = HeldStore()
    async with alone(store) as counter:
        await counter.instances()
        assert counter._actor._loop._agenda._alone
        assert await counter.inc("k") == (1, 1)
        assert not counter._actor._loop._agenda._alone
