"""How a counter starts, works, is disturbed, and ends."""

# ruff: noqa: SIM300, PT012 - expected == actual, all through; errors come out of whole blocks

from __future__ import annotations

import dataclasses
import logging
import signal
import threading
import time
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing

from distkit_actors import (
    CounterClosedError,
    CounterStatistics,
    InstanceConflictError,
    LaxInstanceAwareCounter,
    MemoryStore,
    OutcomeUnknownError,
    RedisStore,
    StoreError,
    StoreUnavailableError,
    StrictInstanceAwareCounter,
)
from distkit_actors._actor import _availability
from distkit_actors._actor._batch_loop import BatchLoop
from distkit_actors._instance._buffered_key import BufferedKey
from distkit_actors._instance._session import Session
from distkit_actors._instance._write_buffer import WriteBuffer
from distkit_actors._protocol._messages import Apply, Query, Request, Resume
from distkit_actors.testing import FaultyStore
from tests.behaviour.world import (
    Flavour,
    Tap,
    World,
    both_flavours,
    each,
    everywhere,
    gather,
    outcome,
    struck,
)
from tests.harness.logs import events

KINDS = {"strict": StrictInstanceAwareCounter, "lax": LaxInstanceAwareCounter}


class BugError(RuntimeError):
    """A store has a bug."""


# --------------------------------------------------------------------------------- starting


@both_flavours
async def test_start_returns_the_counter_ready(world: World, flavour: Flavour) -> None:
    """`nursery.start(counter.run)` returns the counter, registered and ready."""
    counter = world.build(flavour)
    async with trio.open_nursery() as nursery:
        started = await nursery.start(counter.run)
        assert counter is started
        assert counter.statistics().connected
        assert (1, 1) == await counter.inc("k")
        await counter.aclose()


@everywhere
async def test_open_runs_a_counter_around_a_block(world: World, flavour: Flavour) -> None:
    """In the block it works, after it it is closed and has left."""
    observer = await world.strict()
    store = world.backend.store()
    async with KINDS[flavour].open(world.prefix, store, instance_id="me") as counter:
        assert "me" == counter.instance_id
        assert (2, 2) == await counter.inc("k", 2)
    with pytest.raises(CounterClosedError):
        await counter.inc("k")
    assert (0, 0) == await observer.get("k")


@both_flavours
async def test_operations_before_the_start_are_refused(world: World, flavour: Flavour) -> None:
    """A counter that does not run yet says so."""
    counter = world.build(flavour)
    await _closed_to_everything(counter, r"not started: .*nursery\.start\(counter\.run\)")
    await world.start(counter)
    assert (1, 1) == await counter.inc("k")


@both_flavours
async def test_operations_after_the_end_are_refused(world: World, flavour: Flavour) -> None:
    """So does one that has been closed; the error is trio's ClosedResourceError."""
    counter = await world.make(flavour)
    handle = counter.bind("k")
    await counter.inc("k")
    await counter.aclose()
    await _closed_to_everything(counter, "closed")
    with pytest.raises(trio.ClosedResourceError):
        await handle.inc()
    if isinstance(counter, LaxInstanceAwareCounter):
        with pytest.raises(CounterClosedError):
            counter.bind("k").inc_nowait()
        with pytest.raises(CounterClosedError):
            handle.inc_nowait()  # type: ignore[attr-defined]


async def _closed_to_everything(counter: Any, word: str) -> None:
    calls = [
        each(counter.inc, "k"),
        each(counter.dec, "k"),
        each(counter.get, "k"),
        each(counter.set, "k", 1),
        each(counter.set_on_instance, "k", 1),
        each(counter.delete, "k"),
        each(counter.delete_on_instance, "k"),
        counter.clear,
        counter.clear_on_instance,
    ]
    if isinstance(counter, LaxInstanceAwareCounter):
        calls += [
            counter.flush,
            each(_called, counter.inc_nowait, "k"),
            each(_called, counter.dec_nowait, "k"),
            each(_called, counter.get_nowait, "k"),
            each(_called, counter.age, "k"),
        ]
    for call in calls:
        with pytest.raises(CounterClosedError, match=word):
            await call()


async def _called(function: Any, *arguments: object) -> object:
    return function(*arguments)


@both_flavours
async def test_a_counter_runs_once(world: World, flavour: Flavour) -> None:
    """A second `run` is refused, and does not disturb the first."""
    counter = await world.make(flavour)
    with pytest.raises(CounterClosedError, match="once"):
        await counter.run()
    assert (1, 1) == await counter.inc("k")
    await counter.aclose()
    with pytest.raises(CounterClosedError, match="once"):
        await counter.run()


async def test_a_counter_closed_before_its_start_never_runs(world: World) -> None:
    """`aclose` of a counter that never ran is final."""
    counter = world.build("strict")
    await counter.aclose()
    with pytest.raises(CounterClosedError):
        await counter.run()
    with pytest.raises(CounterClosedError):
        await counter.get("k")


@both_flavours
@pytest.mark.parametrize(
    "error", [StoreUnavailableError("nobody there"), StoreError("NOAUTH who are you")]
)
@pytest.mark.parametrize("door", ["start", "open"])
async def test_a_failed_start_comes_out_as_it_is(
    world: World, flavour: Flavour, error: StoreError, door: str
) -> None:
    """A store that cannot be reached or used at start: the error itself, in no group."""
    wire = FaultyStore(world.backend.store())
    if isinstance(error, StoreUnavailableError):
        wire.cut()
    else:
        wire.refuse(error)
    async with trio.open_nursery() as nursery:
        with trio.fail_after(5), pytest.raises(type(error)) as info:
            if door == "start":
                await nursery.start(KINDS[flavour](world.prefix, wire).run)
            else:
                async with KINDS[flavour].open(world.prefix, wire):
                    raise AssertionError
    assert type(error) is type(info.value)


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1/0", "unix:///nowhere/redis.sock"])
async def test_a_server_that_is_not_there_fails_the_start(url: str) -> None:
    """Without a server the start fails at once, with the address in the message."""
    with trio.fail_after(5), pytest.raises(StoreUnavailableError) as info:
        async with StrictInstanceAwareCounter.open("p", url):
            raise AssertionError
    assert "127.0.0.1:1" in str(info.value) or "/nowhere/redis.sock" in str(info.value)


@both_flavours
async def test_the_bodys_exception_comes_out_as_it_is(world: World, flavour: Flavour) -> None:
    """What the block raises is raised: the same object, in no group; the counter has left."""
    observer = await world.strict()
    error = ValueError("mine")
    with pytest.raises(ValueError, match="mine") as info:
        async with KINDS[flavour].open(world.prefix, world.backend.store()) as counter:
            await counter.inc("k")
            raise error
    assert error is info.value
    assert (0, 0) == await observer.get("k")


async def test_the_bodys_own_group_stays_a_group(world: World) -> None:
    """A group of the body's is not taken apart."""
    group = ExceptionGroup("mine", [ValueError("one")])
    with pytest.raises(ExceptionGroup) as info:
        async with StrictInstanceAwareCounter.open(world.prefix, world.backend.store()):
            raise group
    assert group is info.value


async def test_a_body_that_is_cancelled(world: World) -> None:
    """Cancelling around the block leaves in good order, and is no error."""
    observer = await world.strict()
    with trio.move_on_after(0.05) as scope:
        async with StrictInstanceAwareCounter.open(
            world.prefix, world.backend.store(), exit_grace=2.0
        ) as counter:
            await counter.inc("k")
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert (0, 0) == await observer.get("k")


# --------------------------------------------------------------------------------- stopping


@both_flavours
async def test_aclose_is_idempotent(world: World, flavour: Flavour) -> None:
    """Once, twice, at the same time, from any task: the counter is closed, `run` returns."""
    counter = world.build(flavour)
    async with trio.open_nursery() as nursery:
        await nursery.start(counter.run)
        await counter.inc("k")
        await gather(counter.aclose, counter.aclose, counter.aclose)
    await counter.aclose()
    assert "closed" in repr(counter)


async def test_a_counter_is_an_async_resource(world: World) -> None:
    """`async with counter` closes it, as trio's resources do."""
    counter = await world.strict()
    assert isinstance(counter, trio.abc.AsyncResource)
    async with counter:
        await counter.inc("k")
    with pytest.raises(CounterClosedError):
        await counter.inc("k")
    await trio.aclose_forcefully(counter)


@both_flavours
async def test_operations_that_wait_are_finished_by_a_stop(world: World, flavour: Flavour) -> None:
    """A graceful stop serves everybody who waits; only newcomers are refused."""
    counter = await world.make(flavour, on_exit="linger")
    observer = await world.strict()
    world.wire(counter).hold()
    results: list[object] = []

    async def ask(n: int) -> None:
        results.append(await outcome(each(counter.set, f"k-{n}", n)))

    async with trio.open_nursery() as nursery:
        for n in range(20):
            nursery.start_soon(ask, n)
        await trio.sleep(0.01)
        nursery.start_soon(counter.aclose)
        await trio.sleep(0.01)
        with pytest.raises(CounterClosedError):
            await counter.inc("k")
        world.wire(counter).release()
    assert sorted((n, n) for n in range(20)) == sorted(results)  # type: ignore[type-var]
    for n in range(20):
        assert n == (await observer.get(f"k-{n}")).cumulative


@everywhere
async def test_leave_and_linger(world: World, flavour: Flavour) -> None:
    """A counter that leaves takes its slices along; one that lingers leaves them for a while."""
    observer = await world.strict()
    leaver = await world.make(flavour)
    lingerer = await world.make(flavour, on_exit="linger")
    await leaver.inc("k", 1)
    await lingerer.inc("k", 10)
    await leaver.aclose()
    await lingerer.aclose()
    assert (10, 0) == await observer.get("k")
    await world.sees(observer, "k", 0, 0)


async def test_exit_grace_bounds_the_stop(world: World) -> None:
    """A stop without a store takes `exit_grace`, and what waited hears that it is over."""
    counter = world.build("strict", exit_grace=0.3)
    world.tolerate(counter)
    await world.start(counter)
    await counter.inc("k")
    world.wire(counter).hold()
    results: dict[str, object] = {}

    async def ask(key: str) -> None:
        results[key] = await outcome(each(counter.inc, key))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, "sent")
        await trio.sleep(0.02)
        nursery.start_soon(ask, "waiting")
        await trio.sleep(0.02)
        began = trio.current_time()
        with pytest.raises(StoreUnavailableError):
            await counter.aclose()
        assert 0.25 < trio.current_time() - began < 1.5
    assert {"sent": OutcomeUnknownError, "waiting": CounterClosedError} == results


async def test_a_question_without_an_answer_is_no_doubtful_outcome(world: World) -> None:
    """It changes nothing, so whoever asked hears that the counter is closed."""
    counter = world.build("strict", exit_grace=0.3)
    world.tolerate(counter)
    await world.start(counter)
    world.wire(counter).hold()
    asked = 0

    async def ask() -> None:
        nonlocal asked
        with pytest.raises(CounterClosedError):
            await counter.instances()
        asked += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await trio.sleep(0.02)  # it is on its way
        nursery.start_soon(ask)
        await trio.sleep(0.02)
        await counter.aclose()
    assert 2 == asked


async def test_a_process_may_be_forked_as_a_counter_ends(world: World) -> None:
    """It has ended, and is still among those that a fork closes in the child."""
    ended, runs = await world.strict(), await world.strict()
    await ended.aclose()
    for counter in (ended, runs):
        (part,) = counter._actor.parts
        part.abandon()  # what the hook does
    assert "closed" == ended.statistics().state == runs.statistics().state
    world.kill(runs)


async def test_without_grace_the_stop_is_immediate(world: World) -> None:
    """`exit_grace=0` waits for nothing; the slices then go as those of the dead do."""
    observer = await world.strict()
    counter = world.build("strict", exit_grace=0)
    world.tolerate(counter)
    await world.start(counter)
    await counter.inc("k", 5)
    world.wire(counter).hold()
    began = trio.current_time()
    await counter.aclose()
    assert trio.current_time() - began <= world.slack
    await world.sees(observer, "k", 0, 0)


@both_flavours
async def test_cancelling_the_nursery_stops_in_good_order(world: World, flavour: Flavour) -> None:
    """Cancellation around `run` is a graceful stop too, within the grace."""
    observer = await world.strict()
    counter = world.build(flavour, on_exit="linger", exit_grace=2.0)
    async with trio.open_nursery() as nursery:
        await nursery.start(counter.run)
        await counter.inc("k", 3)
        if isinstance(counter, LaxInstanceAwareCounter):
            counter.inc_nowait("k", 4)
        else:
            await counter.inc("k", 4)
        nursery.cancel_scope.cancel()
    assert (7, 0) == await observer.get("k")
    with pytest.raises(CounterClosedError):
        await counter.get("k")


async def test_who_has_to_resume_while_leaving_takes_all_slices_along(world: World) -> None:
    """The store has lost everything before the last of several steps."""
    a = await world.strict()
    for half in range(2):
        await a.inc_all(dict.fromkeys((f"k-{half}-{number}" for number in range(750)), 1))
    world.wire(a).cut()
    await world.backend.wipe(world.prefix)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(a.aclose)
        await trio.testing.wait_all_tasks_blocked()
        world.heal(a)
    b = await world.strict()
    assert [] == await b.keys()


async def test_a_cancelled_aclose_goes_on_in_run(world: World) -> None:
    """Whoever closes may go: the stop takes its course."""
    counter = world.build("lax")
    observer = await world.strict()
    async with trio.open_nursery() as nursery:
        await nursery.start(counter.run)
        counter.inc_nowait("k")
        with trio.CancelScope() as scope:
            scope.cancel()
            await counter.aclose()
        assert scope.cancelled_caught
    assert "closed" in repr(counter)
    assert (0, 0) == await observer.get("k")


async def test_an_error_of_the_application_wins_over_a_failed_stop(world: World) -> None:
    """Both are known: the second is in the notes of the first."""
    wire = FaultyStore(world.backend.store())
    with pytest.raises(ValueError, match="mine") as info:
        async with LaxInstanceAwareCounter.open(world.prefix, wire, exit_grace=0.1) as counter:
            counter.inc_nowait("k")
            wire.cut()
            raise ValueError("mine")
    assert any("1" in note for note in info.value.__notes__)


async def test_a_block_that_cannot_stop_cleanly_says_so(world: World) -> None:
    """Without an error of the body the failed stop is raised, in no group."""
    wire = FaultyStore(world.backend.store())
    with pytest.raises(StoreUnavailableError):
        async with LaxInstanceAwareCounter.open(world.prefix, wire, exit_grace=0.1) as counter:
            counter.inc_nowait("k")
            wire.cut()


async def test_a_stop_does_not_sleep_through_its_grace(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a long outage the pauses between tries are longer than that."""
    monkeypatch.setattr(_availability.random, "uniform", lambda _, most: most)
    counter = await world.lax(dead_instance_threshold=120.0, exit_grace=2.0)
    other = await world.strict()
    counter.inc_nowait("k", 5)
    world.wire(counter).cut()
    failed = counter.statistics().outages
    for _ in range(60):
        await trio.sleep(1)
    assert counter.statistics().outages > failed
    attempts = counter._actor.parts[0]._loop.availability._attempts
    while attempts == counter._actor.parts[0]._loop.availability._attempts:  # noqa: ASYNC110 - none tells
        await trio.sleep(0.1)
    world.wire(counter).heal()  # a try has just failed, and the next one is far away
    await counter.aclose()
    assert {} == await other.slices("k")
    assert "closed" == counter.statistics().state


def test_an_interrupt_during_a_stop_is_not_lost_behind_an_error() -> None:
    """Who catches the error and goes on would never be ended."""
    wire = FaultyStore(MemoryStore())
    counters: list[StrictInstanceAwareCounter] = []

    def interrupt() -> None:
        while counters[0].statistics().state == "running":
            time.sleep(0.001)
        signal.raise_signal(signal.SIGINT)
        trio.from_thread.run_sync(wire.heal, trio_token=token)

    async def main() -> None:
        async with StrictInstanceAwareCounter.open("p", wire, exit_grace=60.0) as counter:
            nonlocal token
            token = trio.lowlevel.current_trio_token()
            counters.append(counter)
            wire.cut()
            timer.start()
            raise ValueError("of the body")

    token: trio.lowlevel.TrioToken | None = None
    timer = threading.Thread(target=interrupt, daemon=True)
    with pytest.raises(KeyboardInterrupt) as caught:
        trio.run(main)
    timer.join()
    assert isinstance(caught.value.__cause__, ValueError)


async def test_an_interrupt_that_ends_the_counter_is_not_lost_behind_an_error(
    world: World,
) -> None:
    struck = world.backend.store()

    async def strike(*_: object) -> None:
        await trio.lowlevel.checkpoint()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        async with StrictInstanceAwareCounter.open(world.prefix, struck) as counter:
            counter._actor._loop._one_batch = strike  # type: ignore[method-assign] # as a bug would
            try:
                await counter.inc("k")
            finally:
                raise ValueError("of the body")
    assert isinstance(caught.value.__cause__, ValueError)


def test_keyboard_interrupt_stops_in_good_order() -> None:
    """Control-C comes out as KeyboardInterrupt, and what was counted is in the store."""
    store = MemoryStore()

    async def main() -> None:
        async with LaxInstanceAwareCounter.open(
            "p", store, on_exit="linger", flush_interval=60.0
        ) as counter:
            counter.inc_nowait("k", 5)
            timer = threading.Timer(0.02, signal.raise_signal, [signal.SIGINT])
            timer.start()
            try:
                # Asleep: in running code it might strike coverage while it holds a lock.
                await trio.sleep(10)
            finally:
                timer.join()

    with pytest.raises(BaseException) as info:  # noqa: PT011 - which one, is looked at below
        trio.run(main)
    error: BaseException = info.value
    while isinstance(error, BaseExceptionGroup):
        (error,) = error.exceptions
    assert isinstance(error, KeyboardInterrupt)
    assert 5 == store._namespaces["p"].registry.total("k")


@pytest.mark.parametrize(
    ("owner", "name"), [(Session, "receive"), (Session, "request"), (BatchLoop, "flush")]
)
def test_keyboard_interrupt_in_the_midst_of_the_loop_stops_in_good_order(
    owner: type, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes to the program and not to the counter, which sends what is pending and leaves."""
    store, armed = MemoryStore(), list[None]()
    struck = getattr(owner, name)

    def strike(*args: Any, **options: Any) -> Any:
        if armed:
            armed.clear()
            signal.raise_signal(signal.SIGINT)
        return struck(*args, **options)

    monkeypatch.setattr(owner, name, strike)

    async def main() -> None:
        opened = LaxInstanceAwareCounter.open("p", store, on_exit="linger")
        async with opened as counter, counter.hold("k", 4):
            counter.inc_nowait("k", 1)
            await counter.flush()
            counter.inc_nowait("k", 5)
            armed.append(None)
            await trio.sleep(10)

    with pytest.raises(BaseException) as info:  # noqa: PT011 - which one, is looked at below
        trio.run(main)
    error: BaseException = info.value
    while isinstance(error, BaseExceptionGroup):
        (error,) = error.exceptions
    assert isinstance(error, KeyboardInterrupt)
    assert not armed
    assert store._namespaces["p"].registry.total("k") == 6


@pytest.mark.parametrize("kind", ["inc", "set_on_instance"])
@pytest.mark.parametrize(
    ("owner", "name"), [(WriteBuffer, "touch"), (BufferedKey, "update_bounds")]
)
async def test_i8_what_an_interrupt_leaves_in_the_view_is_sent(
    world: World, kind: str, owner: type, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = await world.lax(flush_interval=1000.0, on_exit="linger"), await world.strict()
    await a.inc("k")
    await a.flush()
    method = getattr(owner, name)

    def interrupted(*_: object) -> None:
        monkeypatch.setattr(owner, name, method)
        raise KeyboardInterrupt

    monkeypatch.setattr(owner, name, interrupted)
    with pytest.raises(KeyboardInterrupt):
        await getattr(a, kind)("k", 5)
    seen = a.get_nowait("k").instance_count
    await a.flush()
    assert (await b.get("k")).cumulative == seen


# ---------------------------------------------------------------------------------- crashes


@both_flavours
async def test_a_bug_reaches_the_nursery_and_nobody_hangs(world: World, flavour: Flavour) -> None:
    """A bug in the store or in the actor comes out of `run`; all who wait get an error."""
    counter = world.build(flavour)
    results: list[object] = []

    async def ask(call: Any) -> None:
        try:
            await call()
        except CounterClosedError as error:
            results.append(error)

    with pytest.RaisesGroup(BugError, flatten_subgroups=True):
        async with trio.open_nursery() as nursery:
            await nursery.start(counter.run)
            await counter.inc("k")
            async with trio.open_nursery() as callers:
                callers.cancel_scope.shield = True
                world.tap(counter).bug = BugError("oh")
                callers.start_soon(ask, each(counter.set, "k", 1))
                callers.start_soon(ask, each(counter.delete, "j"))
                callers.start_soon(ask, counter.clear)
                if isinstance(counter, LaxInstanceAwareCounter):
                    counter.inc_nowait("k")
                    callers.start_soon(ask, counter.flush)
    assert (4 if flavour == "lax" else 3) == len(results)
    for error in results:
        assert isinstance(error, CounterClosedError)
        assert "crashed" in str(error)
    with pytest.raises(CounterClosedError):
        await counter.inc("k")


async def test_a_bug_comes_out_of_open(world: World) -> None:
    """A crash ends the block; the body hears of it as a cancellation or as an error."""
    bug = BugError("oh")
    tap = Tap(world.backend.store())
    with pytest.raises(BugError) as info:
        async with LaxInstanceAwareCounter.open(
            world.prefix, tap, dead_instance_threshold=world.threshold
        ) as counter:
            tap.bug = bug
            counter.inc_nowait("k")
            await trio.sleep(10 * world.threshold)
    assert bug is info.value
    (note,) = bug.__notes__
    assert "1 counts" in note


# ----------------------------------------------------------------------------- backpressure


@pytest.mark.parametrize("size", [1, 2, 3])
async def test_a_full_mailbox_makes_callers_wait_in_line(world: World, size: int) -> None:
    """Beyond `mailbox_size` callers wait for a place, first come, first served."""
    counter = await world.strict(mailbox_size=size)
    world.wire(counter).hold()
    order: list[int] = []

    async def ask(n: int, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        # Each on a key of its own: nothing folds.
        await counter.set_on_instance(f"k-{n}", n)
        order.append(n)

    async with trio.open_nursery() as nursery:
        await nursery.start(ask, 0)
        await trio.sleep(0.01)  # it is on its way
        for n in range(1, 12):
            await nursery.start(ask, n)
        statistics = counter.statistics()
        assert size == statistics.mailbox_length == statistics.mailbox_peak
        assert [] == order
        first = len(world.requests(counter))
        world.wire(counter).release()
    batches = [
        [entry.value for entry in request.entries]
        for request in world.requests(counter)[first:]
        if isinstance(request, Apply)
    ]
    assert max(len(batch) for batch in batches) <= size
    assert list(range(12)) == [value for batch in batches for value in batch]
    assert 0 == counter.statistics().mailbox_length
    assert size == counter.statistics().mailbox_peak


async def test_a_cancelled_caller_leaves_the_line(world: World) -> None:
    """Whoever gives up in the line, or in the mailbox, makes room for the next."""
    counter = await world.strict(mailbox_size=1)
    world.wire(counter).hold()
    scopes = [trio.CancelScope() for _ in range(5)]

    async def ask(n: int, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        with scopes[n]:
            await counter.inc("k", 10**n)

    async with trio.open_nursery() as nursery:
        for n in range(5):
            await nursery.start(ask, n)
            await trio.sleep(0.005)
        scopes[1].cancel()  # in the mailbox
        scopes[3].cancel()  # in the line
        await trio.sleep(0.005)
        world.wire(counter).release()
    assert [False, True, False, True, False] == [scope.cancelled_caught for scope in scopes]
    assert (10101, 10101) == await counter.get("k")


# ------------------------------------------------------------------------------- statistics


@both_flavours
async def test_statistics_show_how_things_stand(world: World, flavour: Flavour) -> None:
    """Every field, at rest, under way and after an outage; a frozen object."""
    counter = await world.make(flavour)
    idle = counter.statistics()
    assert isinstance(idle, CounterStatistics)
    with pytest.raises(dataclasses.FrozenInstanceError):
        idle.connected = False  # type: ignore[misc]
    assert (0, 0, 0, None) == (
        idle.mailbox_length,
        idle.operations_done,
        idle.pending_keys,
        idle.in_flight_age,
    )
    assert (0, 0, 0, 0) == (
        idle.reconnects,
        idle.refused_keys,
        idle.withheld_slices,
        idle.stuck_slices,
    )
    assert idle.connected
    assert idle.last_heartbeat_age is not None

    for n in range(5):
        await counter.set("k", n)
    busy = counter.statistics()
    assert 5 == busy.operations_done
    assert 5 <= busy.batches_done - idle.batches_done <= 6
    assert 1 == busy.mailbox_peak

    world.wire(counter).hold()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(counter.set, "k", 1)
        await trio.sleep(0.01)
        nursery.start_soon(counter.set, "k", 2)
        nursery.start_soon(counter.set, "j", 2)
        await trio.sleep(0.05)
        if isinstance(counter, LaxInstanceAwareCounter):
            counter.inc_nowait("x")
            counter.inc_nowait("y")
        waiting = counter.statistics()
        assert 2 == waiting.mailbox_length
        assert waiting.in_flight_age is not None
        assert 0.04 < waiting.in_flight_age < 1
        assert (2 if flavour == "lax" else 0) == waiting.pending_keys
        world.wire(counter).release()

    world.wire(counter).cut()
    await world.intervals(2)
    away = counter.statistics()
    assert not away.connected
    assert away.last_heartbeat_age is not None
    assert away.last_heartbeat_age >= 1.5 * world.interval
    await world.rejoin(counter)
    back = counter.statistics()
    assert back.connected
    assert 1 == back.reconnects
    assert back.last_heartbeat_age is not None
    assert back.last_heartbeat_age < away.last_heartbeat_age
    await counter.aclose()
    closed = counter.statistics()
    assert not closed.connected
    assert 0 == closed.pending_keys == closed.mailbox_length


@both_flavours
async def test_statistics_are_no_checkpoint(world: World, flavour: Flavour) -> None:
    """They can be taken anywhere, in any state."""
    counter = world.build(flavour)
    with trio.testing.assert_no_checkpoints():
        assert counter.statistics().last_heartbeat_age is None
        assert not counter.statistics().connected
    await world.start(counter)
    with trio.testing.assert_no_checkpoints():
        assert counter.statistics().connected


async def test_nothing_is_in_flight_once_a_counter_has_ended(world: World) -> None:
    """A batch may have been on its way when the time of the stop was over."""
    counter = world.build("lax", on_exit="linger")
    world.tolerate(counter)
    await world.start(counter)
    world.wire(counter).hold()
    counter.inc_nowait("k")
    await world.intervals(0.5)
    assert counter.statistics().in_flight_age is not None
    with pytest.raises(StoreUnavailableError):
        await counter.aclose()
    assert counter.statistics().in_flight_age is None


# ------------------------------------------------------------------------------------- repr


@both_flavours
async def test_reprs_are_honest(world: World, flavour: Flavour) -> None:
    """Every object says what it is and how it is."""
    counter = world.build(flavour, instance_id="me")
    assert type(counter).__name__ in repr(counter)
    assert repr(world.prefix) in repr(counter)
    assert "'me'" in repr(counter)
    assert repr(counter).endswith(", new>")
    await world.start(counter)
    assert "running" in repr(counter)
    handle = counter.bind("key")
    assert "'key'" in repr(handle)
    assert repr(counter) in repr(handle)
    assert "CounterValue(cumulative=1, instance_count=1)" == repr(await counter.inc("k"))
    assert "mailbox_length=0" in repr(counter.statistics())
    await counter.aclose()
    assert "closed" in repr(counter)


def test_reprs_of_stores() -> None:
    """They show where, and no secrets."""
    assert "MemoryStore" in repr(MemoryStore())
    store = RedisStore("redis://user:hunter2@example.org:6380/3")
    assert "RedisStore" in repr(store)
    assert "example.org" in repr(store)
    assert "6380" in repr(store)
    assert "hunter2" not in repr(store)


# ---------------------------------------------------------------------------------- outages


async def test_strict_operations_wait_for_the_store(world: World) -> None:
    """While the store is away strict operations wait, and then have their effect."""
    a = await world.strict()
    b = await world.strict()
    await a.inc("k")
    world.wire(a).cut()
    with trio.move_on_after(2 * world.interval) as scope:
        await a.inc("k", 100)
    assert scope.cancelled_caught
    async with trio.open_nursery() as nursery:
        nursery.start_soon(a.inc, "k", 10)
        await trio.sleep(0.01)
        assert 1 == a.statistics().mailbox_length
        world.heal(a)
    assert (11, 11) == await a.get("k")
    assert (11, 0) == await b.get("k")


@pytest.mark.parametrize("outage", ["cut", "away"])
async def test_an_outage_is_logged_once(
    world: World, outage: str, caplog: pytest.LogCaptureFixture
) -> None:
    """One line when the store goes, one when it is back, however many tries between."""
    caplog.set_level(logging.INFO, "distkit_actors")
    a = await world.strict()
    await a.inc("k")
    for _ in range(2):
        caplog.clear()
        if outage == "cut":
            world.wire(a).cut()
        else:
            world.wire(a).away(None)
        await world.intervals(2)
        warnings = [r for r in caplog.records if r.levelno >= logging.WARNING]
        assert 1 == len(warnings)
        assert world.prefix in warnings[0].getMessage()
        world.wire(a).forget_plan()
        await world.rejoin(a)
        assert ["away", "back"] == events(caplog)
        assert 2 * [logging.WARNING] == [record.levelno for record in caplog.records]


@pytest.mark.parametrize("fault", ["drop_request", "drop_reply"])
async def test_a_connection_that_ends_once_is_no_outage(
    world: World, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody is told of it who does not look closely; of one that ends again, everybody."""
    caplog.set_level(logging.DEBUG, "distkit_actors")
    a = await world.strict()
    for number in range(1, 4):
        getattr(world.wire(a), fault)(1)
        assert (number, number) == await a.inc("k")
    assert 3 == a.statistics().reconnects
    assert ["registered", *3 * ["reconnecting"]] == events(caplog)
    assert 3 * [logging.DEBUG] == [record.levelno for record in caplog.records][1:]
    caplog.clear()
    getattr(world.wire(a), fault)(2)
    await a.inc("k")
    assert ["reconnecting", "away", "back"] == events(caplog)


async def test_a_refusal_is_logged_in_one_sentence(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Whether or not the store has said itself that it is one."""
    a = await world.strict()
    for words in ("the store refuses: no room", "no room"):
        world.wire(a).refuse(StoreError(words))
        with pytest.raises(StoreError):
            await a.inc("k")
        world.wire(a).refuse(None)
        await a.inc("k")
    assert 2 * ["refused", "accepted"] == events(caplog)
    expected = f"{world.prefix} (strict, {a.instance_id}): the store refuses: no room"
    assert 2 * [expected] == [r.getMessage() for r in caplog.records[::2]]


@pytest.mark.parametrize("fault", ["cut", "drop_request", "drop_reply", "away"])
async def test_reconnecting_backs_off_and_is_never_slow(world: World, fault: str) -> None:
    """Tries are neither a storm nor further apart than half a heartbeat interval."""
    a = await world.strict()
    await a.inc("k")
    wire = world.wire(a)
    if fault == "cut":
        wire.cut()
        what = "cut"
    else:
        getattr(wire, fault)(None)
        what = fault
    async with trio.open_nursery() as nursery:
        nursery.start_soon(a.inc, "k")
        await world.intervals(1)
        before, began = wire.counts[what], trio.current_time()

        async def tried() -> bool:
            return wire.counts[what] >= before + 8

        await world.until(tried)
        # Half an interval apart at the most, a quarter at the least (jitter).
        assert 7 / 4 * world.interval <= trio.current_time() - began
        assert trio.current_time() - began <= 8.5 / 2 * world.interval + world.slack
        wire.forget_plan()
        wire.heal()
    assert (2, 2) == await a.get("k")


async def test_a_refusing_store_fails_the_operations(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """What the store refuses later raises StoreError at once, and works again afterwards."""
    a = await world.strict()
    b = await world.strict()
    await a.inc("k")
    world.wire(a).refuse(StoreError("OOM command not allowed when used memory > 'maxmemory'"))
    for _ in range(3):
        with trio.fail_after(5), pytest.raises(StoreError, match="OOM") as info:
            await a.inc("k", 100)
        assert type(info.value) is StoreError
    errors = await gather(*(each(outcome, each(a.set, f"k-{n}", 1)) for n in range(5)))
    assert 5 * [StoreError] == errors
    assert 1 == len([r for r in caplog.records if r.levelno >= logging.WARNING])
    world.wire(a).refuse(None)
    assert (2, 2) == await a.inc("k")
    assert (2, 0) == await b.get("k")
    assert (0, 0) == await b.get("k-0")


@both_flavours
async def test_a_wrong_password_later_does_not_hang(world: World, flavour: Flavour) -> None:
    """A store that refuses the connection itself fails the operations, too."""
    a = await world.make(flavour)
    await a.set("k", 1)
    world.wire(a).refuse(StoreError("WRONGPASS"), connections=True)
    world.wire(a).cut()
    await trio.sleep(0.01)
    world.wire(a).heal()
    with trio.fail_after(10), pytest.raises(StoreError, match="WRONGPASS"):
        while True:
            await a.set("k", 2)
    world.wire(a).refuse(None)
    assert (3, 3) == await a.set("k", 3)


async def test_a_wrong_password_fails_an_operation_that_was_certainly_not_executed(
    world: World,
) -> None:
    """The store was away when it was sent, and refuses the connection when it is to be repeated."""
    a = await world.strict()
    wire = world.wire(a)
    await a.inc("k")
    wire.away(None)
    async with trio.open_nursery() as nursery:
        error = trio.Event()

        async def ask() -> None:
            with pytest.raises(StoreError, match="WRONGPASS"):
                await a.inc("k", 100)
            error.set()

        nursery.start_soon(ask)
        await struck(wire, "away")
        wire.cut()
        await struck(wire, "cut", wire.counts["cut"] + 1)
        wire.refuse(StoreError("WRONGPASS"), connections=True)
        wire.heal()
        wire.forget_plan()
        with trio.fail_after(10):
            await error.wait()
    wire.refuse(None)
    assert (2, 2) == await a.inc("k")


@pytest.mark.parametrize("what", [Apply, Resume])
async def test_what_waits_behind_a_refused_batch_that_nobody_may_give_up_fails(
    world: World, what: type[Request]
) -> None:
    """A question that has begun, and was put off, fails like one that has not."""
    a = await world.strict()
    wire = world.wire(a)
    refused = partial(wire.answer, StoreError("no"), None, executed=False)
    wire.hold()
    async with trio.open_nursery() as nursery:
        answers: list[object] = []

        async def look() -> None:
            answers.append(await outcome(a.instances))

        nursery.start_soon(look)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(outcome, each(a.inc, "k"))
        await trio.testing.wait_all_tasks_blocked()
        wire.drop_request(when=lambda request: isinstance(request, Query))
        if what is Apply:
            wire.drop_reply(when=lambda request: isinstance(request, Apply))
        else:
            await world.backend.wipe(world.prefix)
        refused(when=lambda request: isinstance(request, what))
        wire.release()
        await struck(wire, "answer")
        await trio.testing.wait_all_tasks_blocked()
        assert [StoreError] == answers
        wire.forget_plan()


# --------------------------------------------------------------------------------- takeover


@both_flavours
async def test_a_takeover_ends_what_waits(world: World, flavour: Flavour) -> None:
    """Operations waiting in the older one fail with InstanceConflictError; nobody hangs."""
    old = await world.make(flavour, instance_id="me")
    world.tolerate(old)
    await old.inc("k", 5)
    await world.settle()
    world.wire(old).hold()
    results: list[object] = []

    async def ask(key: str) -> None:
        results.append(await outcome(each(old.set, key, 1)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, "k")
        await trio.sleep(0.01)
        nursery.start_soon(ask, "j")
        new = await world.make(flavour, instance_id="me")
        assert (2, 2) == await new.set("k", 2)
        world.wire(old).release()
    assert 2 * [InstanceConflictError] == results
    assert (2, 2) == await world.value(new, "k")
    assert (0, 0) == await world.value(new, "j")


async def test_a_fenced_counter_stays_quiet(world: World) -> None:
    """After a takeover the older sends nothing more, until it is closed."""
    old = await world.strict(instance_id="me")
    world.tolerate(old)
    await world.strict(instance_id="me")
    await world.intervals(3)
    sent = len(world.wire(old).requests)
    await world.intervals(30)
    assert sent == len(world.wire(old).requests)
    await old.aclose()


async def test_three_in_a_row_with_one_name(world: World) -> None:
    """Each newer one takes over, and only the newest counts."""
    counters = [await world.strict(instance_id="me") for _ in range(3)]
    *old, new = counters
    for counter in old:
        world.tolerate(counter)
        with pytest.raises(InstanceConflictError):
            await counter.inc("k", 100)
    assert (1, 1) == await new.inc("k")
