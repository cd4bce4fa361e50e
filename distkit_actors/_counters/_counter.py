"""What strict and lax counters have in common: their options, their life, their operations.

This file is longer than others: more than half of it is what users read of the class. Operations
by topic are in modules of their own, whose classes it is made of.
"""

from __future__ import annotations

from abc import abstractmethod
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Protocol, Self, TypeVar, cast

import trio

from .._actor._actor import Actor
from .._actor._batch_loop import OnExit
from .._actor._groups import bare
from .._actor._life import Life
from .._actor._operations import ExclusiveKind
from .._errors import CounterClosedError, DistkitError
from .._instance._session import Session
from .._protocol._liveness import LivenessConfig
from .._protocol._messages import Kind
from .._protocol._values import (
    CounterValue,
    checked_count,
    checked_id,
    checked_name,
    checked_number,
)
from .._stores._contract import Store
from .._stores._urls import checked_store
from ._batches import BatchMixin
from ._block import running
from ._conditional import ConditionalMixin
from ._fleet import FleetMixin
from ._handle import BoundCounter
from ._hold import HoldMixin
from ._options import OnConflict
from ._watching import WatchMixin

if TYPE_CHECKING:
    from types import TracebackType

    from .._actor._partitioned import AnyActor
    from .._actor._statistics import CounterStatistics
    from ._strict import StrictInstanceAwareCounter

_Made_co = TypeVar("_Made_co", covariant=True)


class _Make(Protocol[_Made_co]):
    def __call__(self, prefix: str, store: Store, **options: object) -> _Made_co: ...


class InstanceAwareCounter(
    BatchMixin, ConditionalMixin, FleetMixin, HoldMixin, WatchMixin, trio.abc.AsyncResource
):
    """A family of counters, one for each key, shared with every instance of the same prefix.

    This instance owns a *slice* of each key; the *cumulative* value is the sum of the
    slices of all live instances. Generic code can take this class and work with
    `StrictInstanceAwareCounter` and `LaxInstanceAwareCounter` alike; both may be used with
    one prefix at the same time, and count together. One instance can be both: see
    `LaxInstanceAwareCounter.strict`.

    A counter works while its `run` does::

        async with trio.open_nursery() as nursery:
            await nursery.start(counter.run)
            await counter.inc("connections")

    or as a block, ``async with StrictInstanceAwareCounter.open("my_app", url) as counter:``.

    Args:
        prefix: The name that all instances share whose counts are summed; the rules for it are
            those for keys.
        store: A `Store`, or the URL of one, see `open_store`.
        instance_id: Names this instance; by default a fresh UUID4, drawn when it starts. Give
            one only to a process that can be told from every other that may run at the same
            time, and that a successor is to take over from: a host name and a slot of its own,
            say. Never one to several workers (``"web"``, an environment variable that all of
            them inherit): each that starts would end the one before. See ``on_conflict``.
        dead_instance_threshold: Seconds of silence after which the others drop this
            instance's slices. All instances of a prefix should use the same.
        heartbeat_interval: Seconds between signs of life; a third of the threshold by
            default, at most half of it.
        mailbox_size: How many operations may wait for the store, or for each part of it; beyond
            it they wait in line for a place.
        on_exit: ``"leave"`` takes the slices away at a clean stop; ``"linger"`` lets them
            count until the threshold has passed, for a successor with the same id and
            ``inherit=True``.
        inherit: Continue the counts of a predecessor with the same ``instance_id``, which must
            be given, if its slices still count and nobody has begun to take them away; by
            default they go at once.
        exit_grace: Seconds that a stop may take for what is not sent yet and for leaving,
            even under cancellation. Blocks inside each other stop one after the other, each with
            a grace of its own; counters that run in one nursery stop at the same time.
        on_conflict: What to do if another counter has the ``instance_id`` when this one starts.
            ``"take_over"`` ends the other one, whose `run` then raises `InstanceConflictError`.
            ``"refuse"`` raises it here, and changes nothing, if the store heard the other one
            within its threshold. So the id stays taken for so long after a crash or a "linger".
        start_grace: Seconds for which a start goes on trying while the store is away; by default
            it fails at once. ``inf`` waits for as long as it takes. A store that refuses, because
            the password is wrong say, is not tried again.
        label: Tells people which instance this is, in `InstanceInfo`: a role or a slot, say. As
            long as a key may be.

    Raises:
        InvalidKeyError: The prefix or the label cannot be one.
        TypeError: ``store`` is neither a `Store` nor a URL, or what must be a number is none.
        ValueError: Periods that do not fit together, a bad URL, or ``inherit`` without an
            ``instance_id``.

    Every operation is a checkpoint. None takes a timeout: put a cancel scope around it.
    Cancelled before it was sent, a strict operation never happens; on its way, it happens
    exactly once or not at all. Cancelling disturbs neither the connection nor
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
        on_conflict: OnConflict = "take_over",
        start_grace: float = 0.0,
        label: str | None = None,
        _flush_interval: float | None = None,
        _detached_start: bool = False,
    ) -> None:
        self._prefix = checked_name(prefix, "prefix")
        # Else it is drawn at the start, as the nonce always is: what is made now may be copied.
        name = "" if instance_id is None else checked_id(instance_id)
        if inherit and not name:
            raise ValueError(
                "inherit=True needs an instance_id: that of the predecessor whose counts go on"
            )
        if on_conflict not in ("take_over", "refuse"):
            raise ValueError(f"on_conflict must be 'take_over' or 'refuse', not {on_conflict!r}")
        if on_exit not in ("leave", "linger"):
            raise ValueError(f"on_exit must be 'leave' or 'linger', not {on_exit!r}")
        if not checked_number(exit_grace, "exit_grace") >= 0:
            raise ValueError(f"exit_grace must be seconds, not {exit_grace}")
        if not checked_number(start_grace, "start_grace") >= 0:
            raise ValueError(f"start_grace must be seconds, not {start_grace}")
        liveness = LivenessConfig.of(dead_instance_threshold, heartbeat_interval)
        self._options: dict[str, object] = {  # for another one like it
            "instance_id": instance_id,
            "dead_instance_threshold": dead_instance_threshold,
            "heartbeat_interval": heartbeat_interval,
            "mailbox_size": mailbox_size,
            "on_exit": on_exit,
            "inherit": inherit,
            "exit_grace": exit_grace,
            "on_conflict": on_conflict,
            "start_grace": start_grace,
            "label": label,
        }
        label = None if label is None else checked_name(label, "label")
        refuse = on_conflict == "refuse"
        self._store = whole = checked_store(store)
        partitions = whole.partitions

        def part(store: Store, title: str) -> Actor:
            return Actor(
                store,
                prefix,
                Session(
                    *(name, "", liveness.periods),
                    inherit=inherit,
                    refuse=refuse,
                    partitions=partitions,
                ),
                liveness,
                mailbox_size=mailbox_size,
                on_exit=on_exit,
                exit_grace=exit_grace,
                flush_interval=_flush_interval,
                start_grace=start_grace,
                detached_start=_detached_start,
                label=label,
                title=title,
            )

        self._actor: AnyActor
        if partitions == 1:
            self._actor = part(whole, prefix)
        else:
            from .._actor._partitioned import PartitionedActor  # noqa: PLC0415 - few have parts

            parts = [part(whole.part(n), f"{prefix} (part {n})") for n in range(partitions)]
            self._actor = PartitionedActor(parts, detached_start=_detached_start)

    @property
    @abstractmethod
    def strict(self) -> StrictInstanceAwareCounter:
        """The strict face of this instance, for code that takes either kind and must be exact.

        A strict counter is its own; what a lax one gives is with `LaxInstanceAwareCounter.strict`.
        Not a checkpoint; it may be had before the counter runs.
        """

    def _share(self, whole: InstanceAwareCounter) -> None:
        """Become a face of ``whole``: the same instance, with other operations."""
        self._prefix, self._store = whole._prefix, whole._store
        self._options, self._actor = whole._options, whole._actor

    @property
    def _whole(self) -> InstanceAwareCounter:
        """The counter that this is a face of; itself if it is none."""
        return self

    def _check_new(self) -> None:
        """Raise what a second `run` gets."""
        life = self._actor.life
        if life is not Life.NEW and self._actor.buffer is not None:
            raise CounterClosedError(
                f"a counter runs once, and this one is {life.value}: a lax counter and what its "
                "`strict` gives are one instance, and one `run` is that of both"
            )

    # ---------------------------------------------------------------------- life

    async def run(
        self,
        *,
        task_status: trio.TaskStatus[Self] = trio.TASK_STATUS_IGNORED,  # pyright: ignore[reportArgumentType] - trips over Self
    ) -> None:
        """Run the counter: register, send heartbeats and operations, and leave when stopped.

        Start it with ``await nursery.start(counter.run)``, which returns the counter,
        registered and ready. It ends after `aclose`, or when it is cancelled: then too
        what is not sent yet is sent, and the slices are taken away, for at most
        ``exit_grace`` seconds. A checkpoint. A store that goes away later does not
        end it. Cancelled while it starts, it ends at once. With several parts, those that have
        registered already have half a second to leave.

        The counter becomes an instance now, and draws its id if none was given. So a counter that
        was made before the process was forked is another instance in each process. If the process
        is forked while the counter runs, the counter is closed in the child.

        A `DistkitError` at start comes without what has led to it in this package; its message or
        a note has the reason.

        Raises:
            StoreUnavailableError: At start, the store cannot be reached, nor could it be for
                ``start_grace`` seconds. At the end, something could not be sent in time; how
                much is in the message.
            CounterOverflowError: At the end: the store had to refuse lax counts, and no `flush`
                has said so.
            StoreError: At start, the store refuses us.
            InstanceConflictError: Another counter has taken the ``instance_id`` over, which is
                noticed with the next heartbeat, and ends this one: what it counts is void. At
                start: a living one has the id, and ``on_conflict`` is ``"refuse"``.
            CounterClosedError: This counter was run or closed before. To `trio.Nursery.start`
                alone: it was closed while it was starting.
            RuntimeError: Not called in a task of trio.
        """
        started = False

        def start() -> None:
            nonlocal started
            started = True
            task_status.started(self)

        self._actor.check_task()
        self._check_new()
        try:
            await self._actor.run(start)
        except DistkitError as error:
            if started:
                raise
            raise bare(error) from None
        if not started and task_status is not trio.TASK_STATUS_IGNORED:
            raise CounterClosedError("the counter was closed while it was starting")

    @classmethod
    def open(
        cls,
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
        on_conflict: OnConflict = "take_over",
        start_grace: float = 0.0,
        label: str | None = None,
    ) -> AbstractAsyncContextManager[Self]:
        """Return a block that runs a new counter; it takes what the constructor takes.

        Entering it registers the counter, leaving it stops the counter as `aclose` does;
        both are checkpoints. The nursery inside stays out of sight: a failed start and an
        exception of the body come out as they are, not in a group. If another counter takes the
        ``instance_id`` over, the body is cancelled and `InstanceConflictError` comes out. If
        the body raises, its exception comes out, with the error of `run` in its notes. If the
        block is cancelled, the counter counts until the body has ended, and then stops within
        ``exit_grace`` seconds; an error of the stop then replaces the cancellation. Raises what
        the constructor and `run` raise.
        """
        counter = cls(
            prefix,
            store,
            instance_id=instance_id,
            dead_instance_threshold=dead_instance_threshold,
            heartbeat_interval=heartbeat_interval,
            mailbox_size=mailbox_size,
            on_exit=on_exit,
            inherit=inherit,
            exit_grace=exit_grace,
            on_conflict=on_conflict,
            start_grace=start_grace,
            label=label,
        )
        return counter._running()

    def _running(self) -> AbstractAsyncContextManager[Self]:
        return running(self, self._actor)

    def _another(self, **changes: object) -> Self:
        """Return a counter that was made as this one, but for ``changes``; for tests."""
        make = cast("_Make[Self]", type(self))
        return make(self._prefix, self._store, **{**self._options, **changes})

    async def aclose(self) -> None:
        """Stop gracefully: finish what waits, flush, leave. Idempotent, from any task.

        A checkpoint. Later operations get `CounterClosedError`. When cancelled, the stop
        goes on in `run`. A counter that was never started is closed at once.

        Raises:
            StoreUnavailableError: Something could not be sent within ``exit_grace`` seconds.
                Only calls that wait for the end get it; later ones return.
            CounterOverflowError: The store had to refuse lax counts, and no `flush` has said so;
                the same callers.
            InstanceConflictError: Another counter has taken over, and something that was counted
                and not acknowledged is void; the same callers.
            RuntimeError: Not called in a task of trio, or in another thread.
        """
        await self._actor.close()

    async def __aenter__(self) -> Self:  # noqa: ASYNC910 - there is nothing to wait for
        """Return the counter, which `aclose` ends with the block; it must run already.

        Not a checkpoint, unless it raises. Nothing is started here: to run a counter for as long
        as a block lasts is what `open` does.

        Raises:
            RuntimeError: It does not run yet, or is not registered yet.
            CounterClosedError: It runs no longer.
            InstanceConflictError: Another counter has taken over.
        """
        if self._actor.life in (Life.NEW, Life.STARTING):
            raise RuntimeError(
                f"this counter does not run yet: use `async with {type(self).__name__}.open(…)`, "
                "or `await nursery.start(counter.run)` before the block"
            )
        await self._actor.wait_open()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Do as `aclose`: a checkpoint; when cancelled, the stop goes on in `run`."""
        await self.aclose()

    # --------------------------------------------------------------------- looks

    @property
    def prefix(self) -> str:
        """The prefix that it was made with."""
        return self._prefix

    @property
    def instance_id(self) -> str:
        """The name of this instance.

        Raises CounterClosedError as long as it is not drawn: before the start, if none was given.
        """
        name = self._actor.instance_id
        if name is None:
            raise CounterClosedError(
                "the instance_id is drawn at the start, and the counter is not started: give it "
                "one if it must be known before"
            )
        return name

    def own_slices(self) -> dict[str, int]:
        """Return this instance's slices as the store has acknowledged them, ``{key: slice}``.

        At any time, and from any thread; not a checkpoint, and nobody is asked. So it is what the
        instance contributes to the cumulatives, as far as it knows: what a lax counter has not
        sent yet, and what waits for room, is not in it. Slices of 0 are left out. Empty before the
        start, and once the counter has ended or another one has taken over.
        """
        return self._actor.own_slices()

    def statistics(self) -> CounterStatistics:
        """Return how things stand: at any time in a counter's life, from any thread.

        Before `trio.run`, too, and after it. Not a checkpoint.
        """
        return self._actor.statistics()

    def __repr__(self) -> str:
        """Show name and state; see `CounterStatistics.state`."""
        name = self._actor.instance_id
        instance = "" if name is None else f" of instance {name!r}"
        return f"<{type(self).__name__} {self._prefix!r}{instance}, {self._actor.state}>"

    # ---------------------------------------------------------------- operations

    def bind(self, key: str) -> BoundCounter:
        """Return a handle with every operation on ``key``, without the key.

        Not a checkpoint. Works before the counter runs. Raises `InvalidKeyError`.
        """
        return BoundCounter(self, checked_name(key))

    @abstractmethod
    async def inc(self, key: str, count: int = 1) -> CounterValue:
        """Add ``count`` to this instance's slice; return the value after.

        A checkpoint. Cancelled, it has counted once or not at all; not at all if it was not sent
        yet, or on a lax counter.

        Raises:
            InvalidKeyError: Not a key; nothing was changed. So for every operation.
            TypeError: ``count`` is no int; nothing was changed. So for every operation.
            CounterOverflowError: The slice or the cumulative would leave int64; nothing was
                changed.
            StoreError: The store refuses; nothing was changed. So for every operation.
            OutcomeUnknownError: Nobody can know whether it took effect; so for every operation.
            InstanceConflictError: Another counter has taken over; so for every operation.
            CounterClosedError: The counter is not running; so for every operation.
        """

    @abstractmethod
    async def get(self, key: str) -> CounterValue:
        """Return the current value; ``(0, 0)`` for a key that nobody counts.

        On a lax counter it may be ``allowed_lag`` seconds old, and older while the store is away.
        A checkpoint; cancelling it leaves nothing behind. Raises what `inc` raises.
        """

    @abstractmethod
    async def set_on_instance(self, key: str, count: int) -> CounterValue:
        """Make this instance's slice ``count`` and leave the others'; return the value after.

        The epoch does not move. A checkpoint; cancelled and failing as `inc`.
        """

    async def dec(self, key: str, count: int = 1) -> CounterValue:
        """Take ``count`` from this instance's slice; return the value after.

        The same as `inc` of ``-count``, so that −2**63 overflows by itself. A checkpoint; cancelled
        and failing as `inc`.
        """
        return await self.inc(key, -checked_count(count))

    async def set(self, key: str, count: int) -> CounterValue:
        """Make the cumulative ``count``: this instance's slice becomes that, all others go.

        It moves the epoch of the key: no older slice counts ever again, also if ``count`` is 0.
        Returns ``(count, count)``. A checkpoint; cancelled on its way, it happens once or not at
        all. Raises what `inc` raises, but never for overflow of the cumulative.

        Raises:
            OutcomeUnknownError: The store lost its record before it could answer; a `set`
                is not repeated, because that would wipe counts made since.
        """
        count = checked_count(count)
        await self._ask(Kind.MOVE, checked_name(key), count)
        return CounterValue(count, count)

    async def delete(self, key: str) -> CounterValue:
        """Remove the slices of all instances; return the value before.

        It moves the epoch of the key, also of one that nobody counts. A checkpoint; cancelled and
        failing as `set`.
        """
        return CounterValue(*await self._ask(Kind.MOVE, checked_name(key)))

    async def delete_on_instance(self, key: str) -> CounterValue:
        """Remove this instance's slice; return the cumulative after and the slice removed.

        A slice from an older epoch counts as 0. A checkpoint; cancelled on its way, it happens once
        or not at all. Raises what `inc` raises.
        """
        cumulative, removed = await self._ask(Kind.PUT, checked_name(key))
        return CounterValue(cumulative - removed, removed)

    async def clear(self) -> None:
        """Delete every key, for every instance, in one step.

        If the store spreads the prefix over several parts, it is one step in each part, at the same
        time. Others may see some parts cleared before the rest. If one part fails, the others stay
        cleared, and a note of the error says so. It ends when every part has answered. A
        checkpoint; cancelled and failing as `set`, in each part by itself.
        """
        await self._ask(ExclusiveKind.CLEAR)

    async def clear_on_instance(self) -> None:
        """Remove this instance's slices of every key, and end its holds.

        What was held is gone with the slices, so leaving the blocks of `hold` takes nothing back;
        tokens of a `FleetLimiter` of this counter are free, though their users go on.

        In steps of up to 300 keys, with no other operation of this instance in between; in
        every part by itself, if there are several. If a step is refused, those before it have
        taken effect, and a note of the error says so.
        A checkpoint; cancelled in the midst, it goes on to its end unheard. Raises
        what `inc` raises.

        Raises:
            CounterOverflowError: The cumulative of some keys would leave int64 without this
                instance's slice; those slices stay, all others are gone.
        """
        await self._ask(ExclusiveKind.CLEAR_OWN)
