"""What comes out of the block of `open`, whatever happens to its start, its body and its stop."""

# ruff: noqa: SIM300 - expected == actual, all through

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext
from typing import Any, Literal

import pytest
import trio
import trio.testing

from distkit_actors import (
    CounterClosedError,
    Fleet,
    FleetLimiter,
    InstanceAwareCounter,
    InstanceConflictError,
    LaxInstanceAwareCounter,
    MemoryStore,
    RedisStore,
    StoreUnavailableError,
    StrictInstanceAwareCounter,
)
from distkit_actors._stores._contract import Link
from distkit_actors.abc import Reply, Request
from distkit_actors.testing import FaultyStore
from tests.behaviour.world import Tap, World

Body = Literal["fine", "raises", "raises a group", "cancelled", "cancelled and raises", "exits"]
BODIES = ["fine", "raises", "raises a group", "cancelled", "cancelled and raises", "exits"]


class MineError(Exception):
    """The body's."""


async def _do(body: Body, scope: trio.CancelScope) -> None:
    """Do what a body does, and raise what it raises."""
    if "cancelled" in body:
        scope.cancel()
    match body:
        case "raises":
            raise MineError
        case "raises a group":
            raise ExceptionGroup("mine", [MineError()])
        case "cancelled":
            await trio.sleep_forever()
        case "cancelled and raises":
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep_forever)
                raise MineError
        case "exits":
            raise SystemExit(3)
        case _:
            pass


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("stop", ["stop is fine", "stop fails", "actor has a bug"])
async def test_nothing_shows_the_nursery_inside(world: World, body: Body, stop: str) -> None:
    """The body's error comes out as it was raised; else the stop's, by itself and in no group."""
    tap = Tap(world.backend.store())
    wire = FaultyStore(tap)
    error: BaseException | None = None
    counter = None
    try:
        with trio.CancelScope() as scope:
            async with LaxInstanceAwareCounter.open(
                world.prefix, wire, exit_grace=0.5, dead_instance_threshold=world.threshold
            ) as counter:
                counter.inc_nowait("k")
                if stop == "stop fails":
                    wire.cut()
                elif stop == "actor has a bug":
                    tap.bug = ZeroDivisionError("oh")
                await _do(body, scope)
    except BaseException as raised:  # noqa: BLE001 - looked at below
        error = raised
    assert counter is not None
    assert "closed" == counter.statistics().state
    own = {
        "raises": MineError,
        "raises a group": ExceptionGroup,
        "cancelled and raises": ExceptionGroup,
        "exits": SystemExit,
    }.get(body)
    failure = {"stop fails": StoreUnavailableError, "actor has a bug": ZeroDivisionError}.get(stop)
    assert type(error) is (own or failure or type(None))
    notes = getattr(error, "__notes__", [])
    if own and failure:
        assert any("1 counts" in note or "oh" in note for note in notes), notes
    if isinstance(error, BaseExceptionGroup):
        assert [MineError] == [type(member) for member in error.exceptions]
    assert scope.cancelled_caught == (
        body == "cancelled and raises" or (body == "cancelled" and failure is None)
    )


@pytest.mark.parametrize("start", ["cannot connect", "is cancelled", "has a bug"])
async def test_a_start_that_fails_enters_no_block(world: World, start: str) -> None:
    """Its error comes out by itself, and a cancellation is caught where it was made."""
    tap = Tap(world.backend.store())
    wire = FaultyStore(tap)
    expected: dict[str, type[BaseException]] = {
        "cannot connect": StoreUnavailableError,
        "has a bug": ZeroDivisionError,
    }
    if start == "is cancelled":
        wire.hold()
    elif start == "cannot connect":
        wire.cut()
    else:
        tap.bug = ZeroDivisionError("oh")
    raises: Any = pytest.raises(expected[start]) if start in expected else nullcontext()
    async with trio.open_nursery() as nursery:

        async def end() -> None:
            await trio.sleep(0.1)
            scope.cancel()

        nursery.start_soon(end)
        scope = trio.CancelScope()
        with raises, scope:
            async with StrictInstanceAwareCounter.open(world.prefix, wire):
                raise AssertionError
        nursery.cancel_scope.cancel()
    assert scope.cancelled_caught == (start == "is cancelled")


BLOCKS = pytest.mark.parametrize(
    "block", [StrictInstanceAwareCounter, LaxInstanceAwareCounter, Fleet]
)


@contextmanager
def _in_no_group() -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        if type(error) is not trio.Cancelled:
            pytest.fail(f"what came out is {error!r}")
        raise


@pytest.mark.parametrize("partitions", [1, 2])
@BLOCKS
async def test_a_cancellation_comes_out_of_the_end_in_no_group(block: Any, partitions: int) -> None:
    """Where there is a checkpoint: an end that waits for nothing need not be one."""
    with trio.CancelScope() as scope, _in_no_group():
        async with block.open("p", MemoryStore(partitions=partitions)):
            scope.cancel()


@pytest.mark.parametrize("held", [0, 1])
@BLOCKS
async def test_a_cancellation_comes_out_of_the_start_in_no_group(block: Any, held: int) -> None:
    wire = FaultyStore(MemoryStore(partitions=2))
    wire.part(held).hold()
    with trio.move_on_after(0.1), _in_no_group():
        async with block.open("p", wire):
            raise AssertionError


class _Unreachable(MemoryStore):
    """Connects as trio does: in a nursery, which is cancelled with a group."""

    @asynccontextmanager
    async def link(self, prefix: str) -> AsyncGenerator[Link]:
        """Return a link that never connects."""

        async def connect() -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep_forever)

        async with super().link(prefix) as link:
            link.connect = connect  # type: ignore[method-assign] # all else is as it was
            yield link


@BLOCKS
async def test_a_cancellation_comes_out_of_connecting_in_no_group(block: Any) -> None:
    with trio.move_on_after(0.1), _in_no_group():
        async with block.open("p", _Unreachable()):
            raise AssertionError


# -------------------------------------------------------------------------- what is not a block


KINDS = pytest.mark.parametrize("kind", [StrictInstanceAwareCounter, LaxInstanceAwareCounter])


@KINDS
async def test_a_counter_that_does_not_run_is_no_block(kind: type[InstanceAwareCounter]) -> None:
    """`async with Counter(…)` would give one that does nothing: it says what to write instead."""
    with pytest.raises(RuntimeError, match=rf"{kind.__name__}\.open.* nursery\.start"):
        async with kind("p", MemoryStore()):
            raise AssertionError


@KINDS
async def test_a_counter_that_still_starts_is_no_block(kind: type[InstanceAwareCounter]) -> None:
    """Begun with `start_soon` it may not be registered yet, so that no operation would work."""
    store = FaultyStore(MemoryStore())
    counter = kind("p", store)
    async with trio.open_nursery() as nursery:
        store.hold()
        nursery.start_soon(counter.run)
        await trio.testing.wait_all_tasks_blocked()
        assert counter.statistics().state == "starting"
        with pytest.raises(RuntimeError, match=r"nursery\.start\(counter\.run\)"):
            async with counter:
                raise AssertionError
        nursery.cancel_scope.cancel()


@KINDS
async def test_a_counter_that_runs_is_closed_at_the_end_of_a_block(
    kind: type[InstanceAwareCounter],
) -> None:
    store = MemoryStore()
    async with kind.open("p", store) as other:
        async with trio.open_nursery() as nursery:
            counter = await nursery.start(kind("p", store).run)
            async with counter as same:
                assert same is counter
                await counter.inc("k")
            assert counter.statistics().state == "closed"
        assert len(await other.instances()) == 1


@KINDS
async def test_a_counter_that_has_ended_is_no_block(kind: type[InstanceAwareCounter]) -> None:
    async with kind.open("p", MemoryStore()) as counter:
        pass
    with pytest.raises(CounterClosedError, match="closed"):
        async with counter:
            raise AssertionError
    with trio.CancelScope() as scope:  # who is cancelled with it hears of that alone
        scope.cancel()
        async with counter:
            raise AssertionError
    assert scope.cancelled_caught


async def _superseded(
    counter: InstanceAwareCounter, task_status: trio.TaskStatus[InstanceAwareCounter]
) -> None:
    with pytest.raises(InstanceConflictError):
        await counter.run(task_status=task_status)


@KINDS
async def test_a_counter_that_was_superseded_is_no_block(kind: type[InstanceAwareCounter]) -> None:
    store = MemoryStore()
    counter = kind("p", store, instance_id="a")
    async with trio.open_nursery() as nursery:
        await nursery.start(_superseded, counter)
        async with kind.open("p", store, instance_id="a"):
            with pytest.raises(InstanceConflictError):
                await counter.set("k", 1)
            with pytest.raises(InstanceConflictError):
                async with counter:
                    raise AssertionError


@pytest.mark.parametrize("kind", [StrictInstanceAwareCounter, LaxInstanceAwareCounter])
@pytest.mark.parametrize("store", [object(), None, b"redis://localhost", MemoryStore, 1])
def test_what_is_no_store_is_refused_at_once(kind: Any, store: object) -> None:
    """With what is expected instead."""
    with pytest.raises(TypeError, match=r"RedisStore\(url\).*redis://localhost"):
        kind("p", store)


def test_a_client_of_redis_is_no_store() -> None:
    """Nor is anything of a library for Redis."""
    redis = pytest.importorskip("redis")
    with pytest.raises(TypeError, match="not Redis"):
        StrictInstanceAwareCounter("p", redis.Redis())  # type: ignore[arg-type]
    assert StrictInstanceAwareCounter("p", RedisStore("redis://localhost")).prefix == "p"


def test_nothing_is_inherited_by_nobody() -> None:
    """`inherit=True` continues the counts of an id, which must be given."""
    with pytest.raises(ValueError, match="inherit=True needs an instance_id"):
        StrictInstanceAwareCounter("p", MemoryStore(), inherit=True)
    with pytest.raises(ValueError, match="inherit=True needs an instance_id"):
        LaxInstanceAwareCounter("p", MemoryStore(), inherit=True)


@pytest.mark.parametrize("threshold", [0, -1, 1e-7, 0.0009, 1e9, float("inf"), float("nan")])
def test_a_threshold_that_no_store_can_keep_is_refused(threshold: float) -> None:
    """With the smallest and the largest that are allowed."""
    with pytest.raises(ValueError, match=r"dead_instance_threshold must be 0\.001 to 1e\+08"):
        StrictInstanceAwareCounter("p", MemoryStore(), dead_instance_threshold=threshold)


async def test_the_smallest_and_the_largest_threshold_work() -> None:
    """To the end of a life."""
    for threshold in (0.001, 1e8):
        async with StrictInstanceAwareCounter.open(
            "p", MemoryStore(), dead_instance_threshold=threshold
        ) as counter:
            assert (1, 1) == await counter.inc("k")


@pytest.mark.parametrize("partitions", [1, 2])
async def test_a_cancelled_body_counts_until_it_has_ended(
    autojump_clock: trio.testing.MockClock, partitions: int
) -> None:
    """What is shielded in it, such as the end of a request, is still going on (I1)."""
    store = MemoryStore(partitions=partitions)
    observer = StrictInstanceAwareCounter.open("app", store)
    opened = StrictInstanceAwareCounter.open("app", store, exit_grace=1, dead_instance_threshold=9)
    async with observer as other:
        with trio.CancelScope() as scope:
            async with opened as counter, counter.hold("k"):
                scope.cancel()
                with trio.CancelScope(shield=True):
                    await trio.sleep(60)
                    assert "running" == counter.statistics().state
                    assert (2, 2) == await counter.inc("k")
                    assert (2, 0) == await other.get("k")
        assert scope.cancelled_caught
        assert "closed" == counter.statistics().state
        assert (0, 0) == await other.get("k")


async def test_a_limit_holds_while_a_cancelled_body_ends(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The tokens of a process that was told to end belong to it until its tasks have ended."""
    store, running, most = MemoryStore(), 0, 0

    async def work() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        with trio.CancelScope(shield=True):
            await trio.sleep(4)
        running -= 1

    async def worker(limiter: FleetLimiter) -> None:
        async with limiter:
            await work()

    async def process(seconds: float) -> None:
        with trio.move_on_after(seconds):
            async with (
                StrictInstanceAwareCounter.open("app", store) as counter,
                trio.open_nursery() as nursery,
            ):
                limiter = FleetLimiter(counter, "k", 2)
                for _ in range(4):
                    nursery.start_soon(worker, limiter)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(process, 1)
        await trio.sleep(0.5)
        nursery.start_soon(process, 100)
    assert 2 == most


@pytest.mark.parametrize("partitions", [1, 2])
@pytest.mark.parametrize("detached", [True, False])
async def test_a_scope_that_is_cancelled_already_opens_nothing(
    autojump_clock: trio.testing.MockClock, partitions: int, detached: bool
) -> None:
    tap = Tap(MemoryStore(partitions=partitions))
    with trio.CancelScope() as scope:
        scope.cancel()
        async with LaxInstanceAwareCounter.open("app", tap, detached_start=detached):
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert not tap.requests


async def test_an_interrupt_between_the_body_and_the_stop_ends_it_all(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), trio.fail_after(60):
        async with StrictInstanceAwareCounter.open("app", MemoryStore()) as counter:
            monkeypatch.setattr(type(counter._actor), "stop", interrupted)


class _Cancelling(list[tuple[float, Request, Reply]]):
    """Cancels a scope in the turn of an answer."""

    def __init__(self, scope: trio.CancelScope, last: int) -> None:
        self._scope, self._last = scope, last

    def append(self, answer: tuple[float, Request, Reply]) -> None:
        super().append(answer)
        if len(self) == self._last:
            self._scope.cancel()


@pytest.mark.parametrize("number", [1, 2, 3])
async def test_a_start_that_is_cancelled_in_the_turn_of_an_answer_ends(
    world: World, number: int
) -> None:
    """Nothing is shielded before the body runs."""
    tap, scope = Tap(world.backend.store()), trio.CancelScope()
    tap.seen = _Cancelling(scope, number)
    with scope:
        async with StrictInstanceAwareCounter.open(
            world.prefix, tap, exit_grace=0.5, dead_instance_threshold=world.threshold
        ):
            await trio.sleep_forever()
    assert scope.cancelled_caught


class _CancelsInTheTurn(trio.abc.Instrument):
    """Cancels a scope at the end of the turn in which a counter has started."""

    def __init__(self, scope: trio.CancelScope) -> None:
        self._scope = scope

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if task.name.endswith("_host"):
            self._scope.cancel()


@pytest.mark.parametrize("number", range(20))  # whose turn is next is left to chance
async def test_a_body_that_has_begun_is_counted(
    autojump_clock: trio.testing.MockClock, number: int
) -> None:
    """Even if it is cancelled as it begins."""
    scope = trio.CancelScope()
    instrument = _CancelsInTheTurn(scope)
    trio.lowlevel.add_instrument(instrument)
    with scope:
        async with LaxInstanceAwareCounter.open("p", MemoryStore(), detached_start=True) as counter:
            with trio.CancelScope(shield=True):
                await trio.sleep(1)
                counter.inc_nowait("k", number)
    trio.lowlevel.remove_instrument(instrument)
    assert scope.cancelled_caught
