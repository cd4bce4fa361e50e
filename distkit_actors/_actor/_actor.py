"""One counter's actor: a nursery with a few tasks around one conversation with the store.

::

    callers --> mailbox ---------+
                                 +--> batch loop --> link --> store
    lax counts --> write buffer -+        ^   ^
                     |                    |   |
                     +------> flush task -+   heartbeat task

Only the batch loop talks to the store, one batch at a time; what arrives meanwhile goes together in
the next one, or in the next two. A caller that is alone sends and receives in place of the loop.
The loop lives in a shielded scope, the *lifeline*, as the cancellation that stops a counter must
not cut a request off. The watch task gets that cancellation (or `stop`), closes the mailbox, and
gives the lifeline its deadline.

Who may ask, where and when, is in `_admission`; the two small tasks are in `_timers`.

This file is longer than others: it is the one place where callers, tasks and the end of a
counter meet. What each of these does has modules of its own.
"""

from __future__ import annotations

import math
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from threading import get_ident
from typing import TYPE_CHECKING, Final

import trio

from .._errors import (
    CounterClosedError,
    InstanceConflictError,
    OutcomeUnknownError,
    StoreUnavailableError,
)
from .._instance._holds import Hold
from .._instance._session import Phase, Session
from .._instance._write_buffer import WriteBuffer
from .._protocol._about import About, to_text
from .._protocol._liveness import LivenessConfig
from .._protocol._messages import MAX_ENTRIES, Entry
from .._stores._contract import Link, Store
from .._version import __version__
from ._admission import Admission
from ._batch_loop import BatchLoop, OnExit
from ._dispatch import Dispatch
from ._groups import sole
from ._life import Event, Life
from ._log import Log, LoggerKind
from ._mailbox import Mailbox
from ._operations import Operation
from ._outcomes import lost
from ._start import Start
from ._timers import Timers
from ._watches import Watches

if TYPE_CHECKING:
    from ._statistics import CounterStatistics

#: Share of the threshold for which a sign of life proves that nobody takes us for dead. The rest
#: allows for signs that the store writes down late (by a 64th of the threshold), and for clocks
#: that run at different speeds.
_LEASE_SHARE: Final = 0.75
#: Round trips that a read may take: the one on its way when it comes, one that goes before it, and
#: its own.
_TRIPS: Final = 3


class Actor(Admission):
    """Owns the session, the mailbox and (lax) the write buffer of one counter."""

    def __init__(
        self,
        store: Store,
        prefix: str,
        session: Session,
        liveness: LivenessConfig,
        *,
        mailbox_size: int,
        on_exit: OnExit,
        exit_grace: float,
        flush_interval: float | None = None,
        start_grace: float = 0.0,
        detached_start: bool = False,
        label: str | None = None,
        title: str | None = None,
    ) -> None:
        super().__init__(session)
        self.failure: Exception | None = None  # what a stop could not do
        self.crashed: Exception | None = None  # what callers are told after a bug in here
        self.refused_counts: Mapping[str, int] = {}  # that no `flush` has reported, at the end
        self.buffer = None if flush_interval is None else WriteBuffer(self._on_dirty)
        self._store = store
        self._prefix = prefix
        self._liveness = liveness
        self._exit_grace = exit_grace
        self.mailbox = Mailbox(mailbox_size)
        kind: LoggerKind = "strict" if flush_interval is None else "lax"
        self._log = log = Log(prefix, store, kind, title)
        log.label = label or ""
        self._dispatch = Dispatch(session, self.mailbox, self.buffer, log)
        self.watches = Watches(store, prefix, session.instance, self.buffer, log, self.ask)
        self._loop = BatchLoop(log, session, self._dispatch, liveness, self._course, on_exit)
        self._requester = self._loop.requester
        self.send_alone = self._loop.send_alone
        self.send_now_or_wake = self._loop.send_now_or_wake
        self.receive_alone = self._loop.receive_alone
        self._timers = Timers(self._loop, session, log, liveness.period, flush_interval or 0.0)
        self._start = Start(self._loop, start_grace)
        self._detached_start = detached_start
        self._label = label
        self._lifeline = trio.CancelScope(shield=True)
        self._stop_requested = trio.Event()
        self._stop_by = float("inf")  # when a stop that was asked for has to be over
        self._closed = trio.Event()
        self.undone = 0  # counts and operations that a stop could not finish
        self._killed = False  # for tests: it ends as if its process had been killed

    # --------------------------------------------------------------------- parts

    @property
    def parts(self) -> Sequence[Actor]:
        """The actors of all parts of the namespace: this one, as there is one part (P44, parts)."""
        return (self,)

    def of(self, key: str) -> Actor:  # noqa: ARG002 - as of `PartitionedActor`
        """Return the actor of the part that ``key`` is in."""
        return self

    async def opened(self, key: str) -> Actor:  # noqa: ARG002, ASYNC910 - as `wait_open`
        """Return the actor of the part that ``key`` is in, if it takes operations."""
        await self.wait_open()
        return self

    def admit(self, key: str) -> None:  # noqa: ARG002 - as of `PartitionedActor`
        """Raise an error unless an operation on ``key`` may start now; see `check_open`."""
        self.check_open()

    def steps(self, entries: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
        """Cut entries into what may travel in one step."""
        for start in range(0, len(entries), MAX_ENTRIES):
            yield entries[start : start + MAX_ENTRIES]

    def shares(self, keys: Sequence[str]) -> Sequence[Sequence[str]]:
        """Divide keys among the parts that they are in."""
        return [keys]

    def call(self, name: str, begun_at: float) -> None:
        """Tell this actor what is the same for all parts: its id, and when the start has begun."""
        self._session.name(name, "")
        self._start.begun_at = begun_at

    def dismiss(self) -> None:
        """End an actor that was never run."""
        self._course.happens(Event.ENDED)
        self._closed.set()

    def supersede(self) -> None:
        """End, because another counter has taken the id over in another part of the namespace.

        The store is told nothing more. The slices in this part go to whoever takes the id over
        here, or count no more after the threshold.
        """
        if self.life in (Life.RUNNING, Life.AWAY):
            self._loop.supersede()
            self._end_superseded()
            self._lifeline.cancel()
        elif self.life is Life.STARTING:
            self.stop()
            # The try under way could inherit, and leave. It may have been woken already.
            self._loop.supersede()
            self._start.call_off(-math.inf)

    @property
    def refused(self) -> bool:
        """Whether a living counter has kept the id here."""
        return self._session.phase is Phase.REFUSED

    # ------------------------------------------------------------------- callers

    @trio.lowlevel.enable_ki_protection
    async def ask(self, operation: Operation) -> tuple[int, int]:
        """Have ``operation`` executed; return the values that it found.

        A checkpoint. What a cancellation leaves behind is with `Mailbox.put`.
        """
        if get_ident() != self.thread or not self.open:
            await self.wait_open()
        try:
            alone = self.send_alone(operation)
            if not alone:
                self.mailbox.put(operation)
                if self.mailbox.length == 1:
                    self.send_now_or_wake()
        except RuntimeError:
            self.check_task()
            raise
        if alone:
            return await self.receive_alone(operation)
        values: tuple[int, int] = await trio.lowlevel.wait_task_rescheduled(operation)
        return values

    def reading(self, least: float, *, known: bool, steps: int) -> AbstractContextManager[None]:
        """Return a block for a read whose caller has an answer of its own if the store is slow.

        The block is cancelled after ``least`` seconds, or later if the store answers and needs
        longer. If a value of the key is ``known`` here, it lasts as long as answers have taken
        lately; if not, until the store counts as away.
        """
        requester = self._requester
        if known:
            trip = min(requester.overdue, requester.trip)
        elif requester.overdue < math.inf:
            trip = requester.overdue
        else:  # it never counts as away
            trip = 2 * requester.trip
        return self._loop.availability.waiting(least, steps * _TRIPS * trip)

    def own_keys(self) -> set[str]:
        """Return the keys of all own slices."""
        return set(self._session.slices)

    def own_slices(self) -> dict[str, int]:
        """Return the own slices that the store has acknowledged. Any thread may ask."""
        if self._closed.is_set() or self._taken_over or self.forked:
            return {}
        # Copied at once: the counter's thread may go on meanwhile.
        return {key: own.value for key, own in self._session.slices.copy().items()}

    def release(self, hold: Hold, *, at_once: bool = False) -> None:
        """End a hold. Once the counter has stopped there is nothing left to take back.

        ``at_once``: others wait for it, so a lax counter does not wait for its next flush.
        """
        if self._loop.accepts_releases and not self._taken_over:
            self._dispatch.releases.release(hold)
            if at_once:
                self._loop.flush()
            else:
                self._loop.wake()

    def cancel_release(self, hold: Hold) -> bool:
        """Undo `release`, if nothing of it has been sent yet; False if it is too late."""
        return self._dispatch.releases.cancel_release(hold)

    @property
    def returns(self) -> int:
        """How often the store did not know this instance any more, so that it came back."""
        return self._loop.returns

    @property
    def lease_valid(self) -> bool:
        """Whether the own slices count for certain, as nobody can have taken us for dead."""
        if not self.open or self._session.phase is not Phase.LIVE:
            return False
        age = self._age(self._requester.heard_at, trio.current_time())
        return age is not None and age < _LEASE_SHARE * self._liveness.threshold

    def _age(self, heard_at: float | None, now: float) -> float | None:
        """Return how old a sign of life is in seconds; the machine may have been suspended."""
        if heard_at is None:
            return None
        return now - heard_at + self._requester.suspensions.since(heard_at, now)

    async def flush(self) -> None:
        """Wait until everything counted before is in the store, and report what it refused."""
        await self.wait_flushed()
        if refused := self.take_refused():
            raise lost(refused)

    async def wait_flushed(self) -> None:
        """Wait until what was counted before is in the store, or was refused. A checkpoint."""
        await self.wait_open()
        assert self.buffer is not None
        unsettled = self.buffer.unsettled()
        if not unsettled:
            await trio.lowlevel.checkpoint()
        else:
            self._loop.flush(urgent=True)
            waiter = self._dispatch.flush_waiters.add(unsettled)
            try:
                await waiter.event.wait()
            finally:
                self._dispatch.flush_waiters.remove(waiter)
            if waiter.error is not None:
                raise waiter.error

    def take_refused(self) -> dict[str, int]:
        """Return the counts that the store has refused since this was asked last, by key."""
        assert self.buffer is not None
        refused, self.buffer.refused = self.buffer.refused, {}
        return refused

    def stop(self) -> None:
        """Ask for a graceful stop; `run` returns when it is done."""
        self._stop_requested.set()
        if self.life is Life.STARTING:
            self._stop_by = min(self._stop_by, trio.current_time() + self._exit_grace)
            self._start.call_off(self._stop_by)

    def leave_inherited(self) -> None:
        """Leave at a stop, as nobody has counted anything; but let what was inherited count on.

        It is for the next one who starts. Not with ``refuse``: that one would find this one alive,
        and end. If slices are to linger anyway, it is so with ``refuse``, too.
        """
        inherits = self._session.inherit and not self._session.refuse
        self._loop.keeps_inherited = inherits or self._loop.on_exit == "linger"

    def hurry(self, seconds: float) -> None:
        """Let a stop that has begun, or begins now, last ``seconds`` at most."""
        self._stop_by = min(self._stop_by, trio.current_time() + seconds)
        self._lifeline.deadline = min(self._lifeline.deadline, self._stop_by)

    async def kill(self) -> None:
        """End as if the process had been killed, for tests: nothing more is sent or logged."""
        self.check_task()
        if not self._closed.is_set():
            self._killed, self.open = True, False
            self._lifeline.cancel()
            self._start.call_off(-math.inf)
            self._stop_requested.set()
        if self.life is Life.NEW:
            await self.close()
        await self._closed.wait()
        await trio.lowlevel.checkpoint()

    async def close(self) -> None:
        """Stop and wait for the end; raise what the stop could not do."""
        self.check_task()
        if self.life is Life.NEW:
            self.dismiss()
        if self._closed.is_set() or self.forked:
            await trio.lowlevel.checkpoint()
            return
        self.stop()
        await self._closed.wait()
        if self.failure is not None:
            raise self.failure

    def statistics(self) -> CounterStatistics:
        """Return how things stand. Any thread may ask, so what may change is read once."""
        from ._statistics import CounterStatistics  # noqa: PLC0415 - not everybody asks

        requester = self._requester
        sent_at, heard_at = requester.sent_at, requester.heard_at
        availability, closed = self._loop.availability, self._closed.is_set()
        since = availability.since
        if closed:  # what was not answered then never is, and what was wrong then concerns others
            sent_at = since = None
        now = 0.0 if sent_at is heard_at is since is None else self.now()
        return CounterStatistics(
            state=self.state,
            mailbox_length=self.mailbox.length,
            mailbox_peak=self.mailbox.peak,
            operations_done=self._dispatch.operations_done,
            batches_done=requester.batches,
            in_flight_age=None if sent_at is None else now - sent_at,
            pending_keys=self.buffer.pending if self.buffer else 0,
            refused_keys=self._dispatch.refused_keys,
            withheld_slices=0 if closed else len(self._session.withheld),
            stuck_slices=0 if closed else self._session.stuck,
            connected=requester.connected,
            reconnects=max(0, requester.connections - 1),
            warnings=() if closed else availability.warnings,
            last_heartbeat_age=self._age(heard_at, now),
            outages=availability.outages,
            outage_age=None if since is None else now - since,
        )

    # ---------------------------------------------------------------------- life

    @trio.lowlevel.enable_ki_protection
    async def run(self, started: Callable[[], None]) -> None:  # noqa: ASYNC910 - internal: callers make the checkpoint
        """Live: register with the store, call ``started``, work until stopped, leave.

        If it is told to stop before it has registered, ``started`` is not called. With a detached
        start it is called at once: the session's first requests are those that register.
        """
        self.check_task()
        if self.life is not Life.NEW:
            raise CounterClosedError(f"a counter runs once, and this one is {self.life.value}")
        self._begin()
        if self._stop_requested.is_set():  # before its task ran: now there is something to stop
            self.stop()
        try:
            async with self._store.link(self._prefix) as link:
                if self._detached_start:
                    self._requester.note_patience(link)
                    self._course.happens(Event.DETACHED)
                    self._log.detached()
                    await self._live(link, started)
                elif await self._start.register(link):
                    self._check_registered()
                    self._course.happens(Event.REGISTERED)
                    self._loop.note_registered()
                    await self._live(link, started)
        except BaseException as error:  # noqa: ASYNC103 - says what the stop could not do
            stopped = sole(error) is None
            failure = self._close(None if stopped else error)
            if failure is None:
                raise
            if not stopped:
                (sole(error) or error).add_note(str(failure))
                raise
        else:
            failure = self._close(None)
        if failure is not None:
            raise failure

    @trio.lowlevel.enable_ki_protection
    async def _live(self, link: Link, started: Callable[[], None]) -> None:
        self.open = True
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch)
            nursery.start_soon(self._timers.heartbeat)
            nursery.start_soon(self.watches.run)
            if self.buffer is not None:
                nursery.start_soon(self._timers.flush_regularly)
            nursery.start_soon(self._carry, link, nursery.cancel_scope)
            if not self._stop_requested.is_set():
                started()

    def _begin(self) -> None:
        """Become an instance, with an id and a nonce.

        They are drawn here and not in the constructor: after a fork, each process that starts its
        copy of the counter becomes another instance (I11).
        """
        import uuid  # noqa: PLC0415 - programs begin sooner without

        self._course.happens(Event.BEGUN)
        self._enter_run()
        about = About(self._label, socket.gethostname(), os.getpid(), __version__)
        name = self._session.instance or str(uuid.uuid4())
        self._session.name(name, uuid.uuid4().hex, to_text(about))
        self.watches.instance = self._session.instance
        self._log.begun(self._session.instance)

    def _check_registered(self) -> None:
        match self._session.phase:
            case Phase.REFUSED:
                raise self._conflict()
            case Phase.FENCED:
                self._supersede()
                raise self._conflict()
            case _:
                pass

    @trio.lowlevel.enable_ki_protection
    async def _watch(self) -> None:
        try:
            await self._stop_requested.wait()
        finally:
            never_there = self._never_there
            self._course.happens(Event.STOPPED)
            self.open = False
            self.watches.stop_listening()
            if not self._killed:
                now = trio.current_time()
                self._lifeline.deadline = min(now + self._exit_grace, self._stop_by)
                if never_there:
                    self._lifeline.deadline = now
                self._loop.stop()

    @property
    def _never_there(self) -> bool:
        """Whether the store is away, never heard of this counter, and would be told nothing."""
        tells = self._dispatch.waiting or (self.buffer is not None and self.buffer.pending)
        return self.life is Life.AWAY and not self._session.registered and not tells

    def _close(self, crash: BaseException | None) -> Exception | None:
        """Fail all who still wait; return the error about what was left undone, if any was."""
        stopping = self.life is Life.STOPPING
        self._course.happens(Event.ENDED)
        superseded = self.life is Life.SUPERSEDED
        self._leave_run()
        self.open = self._loop.accepts_releases = self._requester.connected = False
        waiting: Exception = CounterClosedError("the counter was stopped before this was done")
        taken: Exception = OutcomeUnknownError(
            "the counter was stopped before the store had answered"
        )
        if crash is not None:
            waiting = taken = CounterClosedError(f"the counter has crashed: {crash!r}")
            waiting.__cause__ = crash
            self.crashed = waiting
        # Counted first: later counts may cancel out what was on its way, which the store may have.
        undone = 0
        if self._loop.on_exit == "linger" and not superseded:
            undone = self._dispatch.held() + (self.buffer.pending if self.buffer else 0)
        elif self.buffer is not None:  # holds go with the slices
            undone = self.buffer.counted
        undone += self._dispatch.abandon(waiting, taken)
        self.watches.close(self._conflict() if superseded else self.crashed)
        if self.buffer is not None:
            self.buffer.close()
        self.undone = undone
        end: Exception | None = None
        if superseded:
            end = self.conflict(undone)  # which has been logged
        elif not (self.forked or self._killed):
            if self.buffer is not None:
                self.refused_counts = self.buffer.refused
            end = self.unfinished(undone, self.refused_counts)
        if stopping and not (superseded or self._killed):
            self._log_end(crash, end, undone)
        if undone or self.refused_counts:
            self.failure = end
        self._closed.set()
        return end

    def _log_end(self, crash: BaseException | None, end: Exception | None, undone: int) -> None:
        left = self._session.phase is Phase.LEFT
        if crash is not None:
            self._log.crashed(crash, undone)
        elif end is not None and undone:
            self._log.unfinished(end, undone)
        elif self._loop.on_exit == "leave" and self._session.registered and not left:
            self._log.not_left(self._loop.availability.refusal)
        else:
            self._log.stopped(left=left)

    def conflict(self, void: int) -> InstanceConflictError:
        """Return the error for a counter whose id was taken over, with how many counts are void."""
        return self._conflict(
            f" ({void} counts that were not acknowledged are void)" if void else ""
        )

    def unfinished(self, count: int, refused: Mapping[str, int]) -> Exception | None:
        """Return the error for a stop, if any: ``count`` counts and operations were left undone.

        ``refused``: lax counts that the store has refused, which no `flush` has reported.
        """
        lost_ones = lost(refused) if refused else None
        if not count:
            return lost_ones
        error = StoreUnavailableError(
            f"stopped with {count} counts or operations that the store has not acknowledged; "
            f"tried for {self._exit_grace} s" + (f"; and {lost_ones}" if lost_ones else "")
        )
        error.__cause__ = self._loop.availability.refusal
        return error

    # --------------------------------------------------------------------- tasks

    def _on_dirty(self, key: str) -> None:
        self._timers.dirty.set()
        self.watches.changed({key})

    @trio.lowlevel.enable_ki_protection
    async def _carry(self, link: Link, nursery: trio.CancelScope) -> None:  # noqa: ASYNC910 - internal: callers make the checkpoint
        with self._lifeline:
            if await self._loop.run(link):
                self._end_superseded()
        nursery.cancel()

    def _end_superseded(self) -> None:
        """Send nothing more, and fail all who wait: another counter has taken the id over (I11)."""
        if self.life is Life.SUPERSEDED:
            return  # another part has heard of it first
        self._supersede()
        taken = self._conflict(" (this operation may have taken effect before)")
        self._dispatch.abandon(self._conflict(), taken)
        self.watches.close(self._conflict())
        if self.buffer is not None:
            self.buffer.close()

    def _supersede(self) -> None:
        self._course.happens(Event.SUPERSEDED)
        self.open = False
        self._log.superseded(self._conflict())

    def abandon(self) -> None:
        """Be closed in a process that was forked: the counter goes on where it was started."""
        super().abandon()
        self._loop.abandon()
        if self.buffer is not None:
            self.buffer.close()
