"""What strict and lax counters have in common: their options, their life, their operations."""

from __future__ import annotations

import uuid
from abc import abstractmethod
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Self, TypedDict, Unpack, cast

import trio

from .._actor._actor import Actor
from .._actor._exchange import OnExit
from .._actor._operations import Barrier
from .._actor._statistics import CounterStatistics
from .._core._messages import Kind
from .._core._session import Session
from .._core._timing import Timing
from .._core._values import CounterValue, checked_count, checked_id, checked_name
from .._stores._contract import Store
from .._stores._urls import open_store
from ._batches import BatchOperations
from ._conditional import ConditionalOperations
from ._fleet import FleetView
from ._handle import BoundCounter
from ._hold import Holding
from ._watching import Watching

if TYPE_CHECKING:
    from types import TracebackType


class CounterOptions(TypedDict, total=False):
    """The options of `InstanceAwareCounter`, for `InstanceAwareCounter.open`."""

    instance_id: str | None
    dead_instance_threshold: float
    heartbeat_interval: float | None
    mailbox_size: int
    on_exit: OnExit
    inherit: bool
    exit_grace: float


class InstanceAwareCounter(
    BatchOperations, ConditionalOperations, FleetView, Holding, Watching, trio.abc.AsyncResource
):
    """A family of counters, one for each key, shared with every instance of the same prefix.

    This instance owns a *slice* of each key; the *cumulative* value is the sum of the
    slices of all live instances. Generic code can take this class and work with
    `StrictInstanceAwareCounter` and `LaxInstanceAwareCounter` alike; both may be used with
    one prefix at the same time, and count together.

    A counter works while its `run` does::

        async with trio.open_nursery() as nursery:
            await nursery.start(counter.run)
            await counter.inc("connections")

    or as a block, ``async with StrictInstanceAwareCounter.open("my_app", url) as counter:``.

    Args:
        prefix: Names the family; the same rules as for keys.
        store: A `Store`, or the URL of one, see `open_store`.
        instance_id: Names this instance; a fresh UUID4 by default. A second counter with
            the same id takes over from the first, which then gets
            `InstanceConflictError` (I11).
        dead_instance_threshold: Seconds of silence after which the others drop this
            instance's slices (I3). All instances of a prefix should use the same.
        heartbeat_interval: Seconds between signs of life; a third of the threshold by
            default, at most half of it.
        mailbox_size: How many operations may wait for the store; beyond it they wait in
            line for a place.
        on_exit: ``"leave"`` takes the slices away at a clean stop; ``"linger"`` lets them
            count until the threshold has passed, for a successor with the same id and
            ``inherit=True``.
        inherit: With a given ``instance_id``, continue the counts of a predecessor that is
            still alive in the store; by default they go at once.
        exit_grace: Seconds that a stop may take for what is not sent yet and for leaving,
            even under cancellation.

    Raises:
        InvalidKeyError: The prefix cannot be one.
        ValueError: Periods that do not fit together, or a bad URL.

    Every operation is a checkpoint. None takes a timeout: put a cancel scope around it.
    Cancelled before it was sent, a strict operation never happens; on its way, it happens
    exactly once or not at all (I6, P33). Cancelling disturbs neither the connection nor
    anybody else's operation. ``docs/semantics.md`` has the table.
    """

    def __init__(
        self,
        prefix: str,
        store: Store | str,
        *,
        instance_id: str | None = None,
        dead_instance_threshold: float = 30.0,
        heartbeat_interval: float | None = None,
        mailbox_size: int = 10_000,
        on_exit: OnExit = "leave",
        inherit: bool = False,
        exit_grace: float = 5.0,
        _flush_interval: float | None = None,
    ) -> None:
        self._prefix = checked_name(prefix, "prefix")
        self._instance_id = str(uuid.uuid4()) if instance_id is None else checked_id(instance_id)
        if on_exit not in ("leave", "linger"):
            raise ValueError(f"on_exit must be 'leave' or 'linger', not {on_exit!r}")
        if not exit_grace >= 0:
            raise ValueError(f"exit_grace must be seconds, not {exit_grace}")
        timing = Timing.of(dead_instance_threshold, heartbeat_interval)
        self._actor = Actor(
            open_store(store) if isinstance(store, str) else store,
            self._prefix,
            Session(self._instance_id, uuid.uuid4().hex, timing.pace, inherit=inherit),
            timing,
            mailbox_size=mailbox_size,
            on_exit=on_exit,
            exit_grace=exit_grace,
            flush_interval=_flush_interval,
        )

    # ---------------------------------------------------------------------- life

    async def run(
        self,
        *,
        task_status: trio.TaskStatus[Self] = trio.TASK_STATUS_IGNORED,  # pyright: ignore[reportArgumentType] - trips over Self
    ) -> None:
        """Live: register, beat, carry operations to the store, and leave when stopped.

        Start it with ``await nursery.start(counter.run)``, which returns the counter,
        registered and ready. It ends after `aclose`, or when it is cancelled: then too
        what is not sent yet is sent, and the slices are taken away, for at most
        ``exit_grace`` seconds (I9). A checkpoint. A store that goes away later does not
        end it.

        Raises:
            StoreUnavailableError: At start, the store cannot be reached. At the end,
                something could not be sent in time; how much is in the message.
            StoreError: At start, the store refuses us.
            InstanceConflictError: At the end, another counter has taken over, and
                something that was counted here is void.
            CounterClosedError: This counter was run or closed before.
        """
        await self._actor.run(lambda: task_status.started(self))

    @classmethod
    def open(
        cls, prefix: str, store: Store | str, **options: Unpack[CounterOptions]
    ) -> AbstractAsyncContextManager[Self]:
        """Return a block that runs a new counter; it takes what the constructor takes.

        Entering it registers the counter, leaving it stops the counter as `aclose` does;
        both are checkpoints. The nursery inside stays out of sight: a failed start and an
        exception of the body come out as they are, not in a group. A body's exception
        wins over a stop that fails; the latter is then in its notes. Cancelled, the block
        is left within ``exit_grace`` seconds. Raises what the constructor and `run` raise.
        """
        return cls(prefix, store, **options)._running()

    @asynccontextmanager
    async def _running(self) -> AsyncGenerator[Self]:
        raised: Exception | None = None
        failure: BaseException | None = None
        try:
            async with trio.open_nursery() as nursery:
                try:
                    await nursery.start(self.run)
                    yield self
                except Exception as error:  # noqa: BLE001 - the body's or the start's, raised below
                    raised = error
                self._actor.stop()
        except BaseExceptionGroup as group:
            failure = _sole(group)
        if raised is not None:
            if failure is not None and failure is not raised:
                raised.add_note(f"then the counter could not stop cleanly: {failure}")
            raise raised
        if failure is not None:
            raise failure

    async def aclose(self) -> None:
        """Stop gracefully: finish what waits, flush, leave. Idempotent, from any task.

        A checkpoint. Later operations get `CounterClosedError`. When cancelled, the stop
        goes on in `run`. A counter that was never started is closed at once.

        Raises:
            StoreUnavailableError: Something could not be sent within ``exit_grace`` seconds.
                Only calls that wait for the end get it; later ones return.
            InstanceConflictError: See `run`.
        """
        await self._actor.close()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the counter."""
        await self.aclose()

    # --------------------------------------------------------------------- looks

    @property
    def prefix(self) -> str:
        """The name of the family."""
        return self._prefix

    @property
    def instance_id(self) -> str:
        """The name of this instance."""
        return self._instance_id

    def statistics(self) -> CounterStatistics:
        """Return how things stand, at any time in a counter's life. Not a checkpoint."""
        return self._actor.statistics()

    def __repr__(self) -> str:
        """Show name and state."""
        return (
            f"<{type(self).__name__} {self._prefix!r} of instance {self._instance_id!r}, "
            f"{self._actor.life.value}>"
        )

    # ---------------------------------------------------------------- operations

    def bind(self, key: str) -> BoundCounter:
        """Return a handle with every operation on ``key``, without the key.

        Not a checkpoint. Works before the counter runs. Raises `InvalidKeyError`.
        """
        return BoundCounter(self, checked_name(key))

    @abstractmethod
    async def inc(self, key: str, count: int = 1) -> CounterValue:
        """Add ``count`` to this instance's slice; return the value after.

        A checkpoint.

        Raises:
            InvalidKeyError: Not a key; nothing was changed. So for every operation.
            TypeError: ``count`` is no int; nothing was changed. So for every operation.
            CounterOverflowError: The slice or the cumulative would leave int64; nothing was
                changed.
            StoreError: The store refuses; nothing was changed. So for every operation.
            OutcomeUnknownError: See there; so for every operation.
            InstanceConflictError: Another counter has taken over; so for every operation.
            CounterClosedError: The counter is not running; so for every operation.
        """

    @abstractmethod
    async def get(self, key: str) -> CounterValue:
        """Return the current value; ``(0, 0)`` for a key that nobody counts.

        A checkpoint; cancelling it leaves nothing behind.
        """

    @abstractmethod
    async def set_on_instance(self, key: str, count: int) -> CounterValue:
        """Make this instance's slice ``count`` and leave the others'; return the value after.

        A checkpoint. The epoch does not move. Raises what `inc` raises.
        """

    async def dec(self, key: str, count: int = 1) -> CounterValue:
        """Take ``count`` from this instance's slice; return the value after.

        The same as `inc` of ``-count``, so that −2**63 overflows by itself.
        """
        return await self.inc(key, -checked_count(count))

    async def set(self, key: str, count: int) -> CounterValue:
        """Move the epoch: the slices of all instances go, and this one's becomes ``count``.

        No older slice of the key counts ever again (I2), also if ``count`` is 0. Returns
        ``(count, count)``. A checkpoint; cancelled on its way, it happens once or not at all.
        Raises what `inc` raises, but never for overflow of the cumulative.

        Raises:
            OutcomeUnknownError: The store lost its record before it could answer; a `set`
                is not repeated, because that would wipe counts made since (P20).
        """
        await self._ask(Kind.MOVE, checked_name(key), checked_count(count))
        return CounterValue(count, count)

    async def delete(self, key: str) -> CounterValue:
        """Move the epoch: the slices of all instances go. Return the value before.

        A key that nobody counts has its epoch moved too (I2). A checkpoint; cancelled and
        failing as `set`.
        """
        return CounterValue(*await self._ask(Kind.MOVE, checked_name(key)))

    async def delete_on_instance(self, key: str) -> CounterValue:
        """Remove this instance's slice; return the cumulative after and the slice removed.

        A checkpoint. A slice from an older epoch counts as 0. Raises what `inc` raises.
        """
        cumulative, removed = await self._ask(Kind.PUT, checked_name(key))
        return CounterValue(cumulative - removed, removed)

    async def clear(self) -> None:
        """Delete every key, for every instance, in one step.

        A checkpoint; cancelled and failing as `set`.
        """
        await self._ask(Barrier.CLEAR)

    async def clear_on_instance(self) -> None:
        """Remove this instance's slices of every key.

        In steps of a thousand keys, with no other operation of this instance in between
        (I10). A checkpoint; cancelled in the midst, it goes on to its end unheard. Raises
        what `inc` raises.

        Raises:
            CounterOverflowError: The cumulative of some keys would leave int64 without this
                instance's slice; those slices stay, all others are gone.
        """
        await self._ask(Barrier.CLEAR_OWN)


def _sole(error: BaseException) -> BaseException:
    """Take nurseries that the caller does not know of off a single exception."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    group = cast("BaseExceptionGroup[BaseException]", error)
    return _sole(group.exceptions[0]) if len(group.exceptions) == 1 else group
