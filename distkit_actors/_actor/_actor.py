"""One counter's actor: a nursery with a few tasks around one conversation with the store.

::

    callers --> mailbox --+
                          +--> exchange task --> link --> store
    lax counts --> ledger-+        ^   ^
                     |             |   |
                     +--> flush task   heartbeat task

Only the exchange task talks to the store, one batch at a time; what arrives meanwhile
goes together in the next one. It lives in a shielded scope, the *lifeline*, because a
request must not be cut off by the cancellation that asks for its end: the watch task gets
that cancellation (or `stop`), closes the mailbox, and gives the lifeline its deadline.
"""

from __future__ import annotations

import enum
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Final, Literal, TypeAlias, cast

import trio

from .._core._holds import Hold
from .._core._ledger import Ledger
from .._core._messages import MAX_ENTRIES, Before, Behind, Done, Entry, Kind
from .._core._session import News, Phase, Session
from .._core._timing import Timing
from .._core._values import CounterValue
from .._errors import (
    CounterClosedError,
    CounterOverflowError,
    InstanceConflictError,
    OutcomeUnknownError,
    StoreError,
    StoreUnavailableError,
)
from .._stores._contract import Link, Store, StoreAwayError
from ._dispatch import Dispatch
from ._mailbox import Mailbox, Operation
from ._statistics import CounterStatistics
from ._watches import Watches

logger = logging.getLogger("distkit_actors")

OnExit: TypeAlias = Literal["leave", "linger"]

#: Slices of the dead that one batch takes away: enough to get on, too few to be felt (P23).
_REAPING_BUDGET: Final = 32
#: The same for a batch that nobody waits for.
_IDLE_REAPING_BUDGET: Final = 48
#: Seconds without an operation after which such a batch is sent, while there are slices of the
#: dead. A caller who does one operation after the other must not find one on the way each time.
_REAPING_PAUSE: Final = 0.0005
#: First pause after a lost connection, in seconds; it doubles up to `Timing.backoff_cap`.
_FIRST_BACKOFF: Final = 0.02
_NEVER: Final = float("inf")
#: How long an answer may take at the most, in times of the link's patience.
_LENIENCE: Final = 1.25
#: Share of the threshold for which a sign of life holds. The rest is for what the store writes
#: down late (a 64th of the threshold), and for clocks that do not go alike.
_UNDISPUTED: Final = 0.75
#: A key without a slice is forgotten after this many thresholds without use.
_IDLE_THRESHOLDS: Final = 2


class Life(enum.Enum):
    """Where in its life an actor is; it only moves downwards."""

    NEW = "not started"
    OPENING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    CLOSED = "closed"


class Actor:
    """Owns the session, the mailbox and (lax) the ledger of one counter."""

    def __init__(
        self,
        store: Store,
        prefix: str,
        session: Session,
        timing: Timing,
        *,
        mailbox_size: int,
        on_exit: OnExit,
        exit_grace: float,
        flush_interval: float | None = None,
    ) -> None:
        self.life = Life.NEW
        self.open = False  # to operations: it runs, and is not superseded
        self.failure: Exception | None = None  # what a stop could not do
        self.ledger = None if flush_interval is None else Ledger(self._on_dirty)
        self._store = store
        self._prefix = prefix
        self._session = session
        self._timing = timing
        self._on_exit = on_exit
        self._exit_grace = exit_grace
        self._flush_interval = flush_interval or 0.0
        self._mailbox = Mailbox(mailbox_size)
        self._dispatch = Dispatch(session, self._mailbox, self.ledger)
        self.watches = Watches(store, prefix, session.instance, self.ask, self._view)
        self._lifeline = trio.CancelScope(shield=True)
        self._patience = trio.CancelScope()  # ends when an answer is overdue
        self._stop_requested = trio.Event()
        self._closed = trio.Event()
        self._sleeper: trio.lowlevel.Task | None = None  # the exchange task, if it has no work
        self._dirty = trio.Event()
        self._flush_quota = 0  # keys that the flush that is due has still to send
        self._beat_due = False
        self._backlog = False  # the dead have slices, and taking them away makes progress
        self._away = False  # the outage has been logged
        self._retried_at = float("-inf")  # when withheld slices were tried last
        self._revived_at = float("-inf")  # when postponed releases were, if no beat did it
        self._attempts = 0  # failed ones since the last answer
        self._refusal: StoreError | None = None  # the store's last refusal, while it lasts
        self._sent_at: float | None = None
        self._heard_at: float | None = None
        self._connected = False
        self._connections = 0
        self._batches = 0
        self._refused_keys = 0  # reported by `flush` already
        self._lets_go = True  # the end of a hold is told to the store

    # ------------------------------------------------------------------- callers

    @trio.lowlevel.enable_ki_protection
    async def ask(self, operation: Operation) -> tuple[int, int]:
        """Have ``operation`` done; return the values it found. A checkpoint; see `Mailbox.put`."""
        if not self.open:
            await self.wait_open()
        self.put(operation)
        await trio.lowlevel.wait_task_rescheduled(operation.abort)
        if operation.error is not None:
            raise operation.error
        return operation.before

    @trio.lowlevel.enable_ki_protection
    def put(self, operation: Operation) -> None:
        """Take ``operation`` in for the current task; see `Mailbox.put`."""
        self._mailbox.put(operation)
        if self._sleeper is not None:
            self.wake()

    def _view(self, key: str, found: Before) -> CounterValue:
        """Return a value as own reads show it (I8)."""
        tally = self.ledger.tallies.get(key) if self.ledger is not None else None
        return CounterValue(*found) if tally is None or not tally.known else tally.value

    def own_keys(self) -> set[str]:
        """Return the keys of all own slices."""
        return set(self._session.slices)

    def release(self, hold: Hold) -> None:
        """End a hold. Once the counter has stopped there is nothing left to take back."""
        if self._lets_go and self._session.phase is not Phase.FENCED:
            self._dispatch.release(hold)
            self.wake()

    def reclaim(self, hold: Hold) -> bool:
        """Undo `release`, if nothing of it has been sent yet; False if it is too late."""
        return self._dispatch.reclaim(hold)

    @property
    def undisputed(self) -> bool:
        """Whether the own slices count for certain, as nobody can have taken us for dead."""
        return (
            self.life is Life.RUNNING
            and self._session.phase is Phase.LIVE
            and self._heard_at is not None
            and trio.current_time() - self._heard_at < _UNDISPUTED * self._timing.threshold
        )

    async def wait_open(self) -> None:  # noqa: ASYNC910 - internal: callers make the checkpoint
        """Do as `check_open`, but a cancelled caller gets its `Cancelled` first.

        One cancellation may end both the counter and those who use it, in any order.
        """
        if self.life is not Life.RUNNING:
            await trio.lowlevel.checkpoint_if_cancelled()
        self.check_open()

    def check_open(self) -> None:
        """Raise what an operation gets that comes too early, too late, or to the wrong one."""
        if self._session.phase is Phase.FENCED:
            raise self._conflict()
        if self.life is not Life.RUNNING:
            raise CounterClosedError(
                f"the counter is {self.life.value}: operations need `run` or `open` around them"
            )

    async def flush(self) -> None:
        """Wait until everything counted before is in the store, and report what it refused."""
        await self.wait_open()
        assert self.ledger is not None
        unsettled = self.ledger.unsettled()
        if not unsettled:
            await trio.lowlevel.checkpoint()
        else:
            self._flush_quota = self.ledger.dirty
            self._beat_due = self._beat_due or self._refusal is not None
            self.wake()
            ticket = self._dispatch.ticket(unsettled)
            try:
                await ticket.event.wait()
            finally:
                self._dispatch.drop(ticket)
            if ticket.error is not None:
                raise ticket.error
        refused, self.ledger.refused = self.ledger.refused, {}
        if refused:
            self._refused_keys += len(refused)
            raise CounterOverflowError(
                "the store had to refuse counts that would leave the signed 64-bit range; they "
                f"are lost: {', '.join(f'{key}: {count}' for key, count in refused.items())}"
            )

    def stop(self) -> None:
        """Ask for a graceful stop; `run` returns when it is done."""
        self._stop_requested.set()

    async def close(self) -> None:
        """Stop and wait for the end; raise what the stop could not do."""
        if self.life is Life.NEW:
            self.life = Life.CLOSED
            self._closed.set()
        if self.life is Life.CLOSED:
            await trio.lowlevel.checkpoint()
            return
        self.stop()
        await self._closed.wait()
        if self.failure is not None:
            raise self.failure

    def statistics(self) -> CounterStatistics:
        """Return how things stand."""
        now = trio.current_time()
        refused = len(self.ledger.refused) if self.ledger else 0
        return CounterStatistics(
            mailbox_length=self._mailbox.length,
            mailbox_peak=self._mailbox.peak,
            operations_done=self._dispatch.operations_done,
            batches_done=self._batches,
            in_flight_age=None if self._sent_at is None else now - self._sent_at,
            pending_keys=len(self.ledger.unsettled()) if self.ledger else 0,
            refused_keys=self._refused_keys + refused,
            withheld_slices=len(self._session.withheld),
            stuck_slices=self._session.stuck,
            connected=self._connected,
            reconnects=max(0, self._connections - 1),
            last_heartbeat_age=None if self._heard_at is None else now - self._heard_at,
        )

    # ---------------------------------------------------------------------- life

    async def run(self, started: Callable[[], None]) -> None:  # noqa: ASYNC910 - internal: callers make the checkpoint
        """Live: register with the store, call ``started``, work until stopped, leave."""
        if self.life is not Life.NEW:
            raise CounterClosedError(f"a counter runs once, and this one is {self.life.value}")
        self.life = Life.OPENING
        try:
            async with self._store.link(self._prefix) as link:
                await self._register(link)
                self.life = Life.RUNNING
                self.open = True
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._watch)
                    nursery.start_soon(self._heartbeat)
                    nursery.start_soon(self.watches.run)
                    if self.ledger is not None:
                        nursery.start_soon(self._flush_regularly)
                    nursery.start_soon(self._exchange, link, nursery.cancel_scope)
                    started()
        except BaseException as error:  # noqa: ASYNC103 - says what the stop could not do
            stopped = _only_cancelled(error)
            failure = self._close(None if stopped else error)
            if failure is None:
                raise
            if not stopped:
                error.add_note(str(failure))
                raise
        else:
            failure = self._close(None)
        if failure is not None:
            raise failure

    async def _register(self, link: Link) -> None:
        """Take the id; any trouble fails the start."""
        await link.connect()
        self._connections = 1
        self._connected = True
        while (request := self._session.request()) is not None:
            self._session.receive(await link.exchange(request))
        self._heard_at = trio.current_time()

    async def _watch(self) -> None:
        try:
            await self._stop_requested.wait()
        finally:
            self.life = Life.STOPPING
            self.open = False
            self._refusal = None  # one more try
            self._lifeline.deadline = trio.current_time() + self._exit_grace
            self.wake()

    def _close(self, crash: BaseException | None) -> Exception | None:
        """Leave nobody waiting; return what has to be said about things left undone."""
        self.life = Life.CLOSED
        self.open = self._lets_go = self._connected = False
        waiting: Exception = CounterClosedError("the counter was stopped before this was sent")
        taken: Exception = OutcomeUnknownError(
            "the counter was stopped before the store had answered"
        )
        if crash is not None:
            waiting = taken = CounterClosedError(f"the counter has crashed: {crash!r}")
            waiting.__cause__ = crash
        undone = self._dispatch.abandon(waiting, taken)
        self.watches.close(self._conflict() if self._session.phase is Phase.FENCED else None)
        if self.ledger is not None:
            undone += len(self.ledger.unsettled())
            self.ledger.close()
        if undone:
            self.failure = self._unfinished(undone)
            logger.error("%s: %s", self._prefix, self.failure)
        self._closed.set()
        return self.failure

    def _unfinished(self, count: int) -> Exception:
        if self._session.phase is Phase.FENCED:
            return self._conflict()
        error = StoreUnavailableError(
            f"stopped with {count} counts or operations that the store has not acknowledged; "
            f"tried for {self._exit_grace} s"
        )
        error.__cause__ = self._refusal
        return error

    def _conflict(self, remark: str = "") -> InstanceConflictError:
        return InstanceConflictError(
            f"another counter with instance_id {self._session.instance!r} has taken over; "
            f"this one changes nothing more{remark}"
        )

    # --------------------------------------------------------------------- tasks

    async def _heartbeat(self) -> None:
        period = self._timing.period
        while True:
            now = trio.current_time()
            due = (now if self._heard_at is None else self._heard_at) + period
            if due <= now + period / 100:  # not worth another wake-up
                self._beat_due = True
                self.wake()
                due = now + period
            await trio.sleep_until(due)

    def _on_dirty(self, key: str) -> None:
        self._dirty.set()
        self.watches.changed({key})

    async def _flush_regularly(self) -> None:
        assert self.ledger is not None
        while True:
            await self._dirty.wait()
            await trio.sleep(self._flush_interval)
            self._dirty = trio.Event()
            self._flush_quota = self.ledger.dirty
            self.wake()

    async def _exchange(self, link: Link, nursery: trio.CancelScope) -> None:  # noqa: ASYNC910 - internal: callers make the checkpoint
        with self._lifeline:
            while self._has_work() or self.life is Life.RUNNING:
                if self._has_work():
                    await self._patiently(self._work, link)
                else:
                    await self._rest()
            finish = self._leave if self._on_exit == "leave" else self._let_go
            while not await self._patiently(finish, link):
                pass
        nursery.cancel()

    async def _patiently(self, talk: Callable[[Link], Awaitable[None]], link: Link) -> bool:
        """Talk to the store as long as it answers in time; False if it has not."""
        with trio.CancelScope() as self._patience:
            await talk(link)
        if self._patience.cancelled_caught and self._sent_at is not None:
            error = StoreUnavailableError(f"no answer from the store for {link.patience:g} seconds")
            self._connected = False
            self._log_away(error)
            await self._pause()
        return not self._patience.cancelled_caught

    async def _expect_answer(self, link: Link, now: float) -> None:  # noqa: ASYNC910 - internal: asking is the checkpoint
        """See to it that what is asked now is given up when the link's patience is over.

        Deadlines cost more than a batch, so one serves all that is asked within a while.
        """
        deadline, least = self._patience.deadline, now + link.patience
        if now >= deadline:
            await trio.sleep_forever()  # it is over already, so nothing must be asked
        if least < _NEVER and not least <= deadline < _NEVER:
            self._patience.deadline = now + _LENIENCE * link.patience

    async def _work(self, link: Link) -> None:  # noqa: ASYNC910 - internal: callers make the checkpoint
        """Send batches while there is something to send.

        After operations there soon may be more, so that it pays to wait for them here, until
        patience is over; after a heartbeat it does not.
        """
        while self._has_work():
            done = self._dispatch.operations_done
            await self._one_batch(link)
            if done != self._dispatch.operations_done and self.open and not self._has_work():
                await self._rest()

    def wake(self) -> None:
        """Let the exchange task look for work."""
        if self._sleeper is not None:
            task, self._sleeper = self._sleeper, None
            trio.lowlevel.reschedule(task)

    async def _rest(self) -> None:
        """Sleep until there is work; while the dead have slices that is soon."""
        if not self._backlog:
            await self._sleep()
            return
        with trio.move_on_after(_REAPING_PAUSE) as pause:
            await self._sleep()
        if pause.cancelled_caught:
            self._beat_due = True

    async def _sleep(self) -> None:
        def abort(_: object) -> trio.lowlevel.Abort:
            self._sleeper = None
            return trio.lowlevel.Abort.SUCCEEDED

        self._sleeper = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(abort)

    def _has_work(self) -> bool:
        if self._session.phase is Phase.FENCED:
            return False
        if self._refusal is not None:
            # What the store refuses is tried again with the next beat, or on demand.
            return self.life is Life.RUNNING and (self._beat_due or self._mailbox.length > 0)
        return bool(
            self._beat_due
            or self._dispatch.waiting
            or self._flush_quota > 0
            or not self._session.idle
            or (self.life is Life.STOPPING and self._dispatch.pending)
        )

    # ---------------------------------------------------------------- one batch

    async def _one_batch(self, link: Link) -> None:
        # A batch is made up only once it can be sent: until then callers may withdraw (P33).
        beat, self._beat_due = self._beat_due, False
        if not (link.connected or await self._connect(link)):
            return  # noqa: ASYNC910 - connecting failed
        now = trio.current_time()
        if not self._session.idle:
            pass  # it has been interrupted, and goes on
        elif self._dispatch.question() is not None:
            self._beat_due = self._beat_due or beat  # so has this, but it is no sign of life
        elif self._session.withheld and self._retry_due(now):
            self._beat_due = beat
            # By itself: whether it is accepted decides what later entries find.
            self._session.begin(self._session.retries())
        else:
            pending = self._dispatch.pending
            if beat or self.life is Life.STOPPING:
                self._flush_quota = pending
            if beat or self.life is Life.STOPPING or self._revival_due(now):
                self._dispatch.revive()
            entries = self._dispatch.collect(now, flush=self._flush_quota > 0)
            self._flush_quota = max(0, self._flush_quota - pending + self._dispatch.pending)
            if self._dispatch.question() is None:
                whole = self._dispatch.whole
                budget = _REAPING_BUDGET if entries else _IDLE_REAPING_BUDGET
                self._session.begin(entries, budget=budget, whole=whole)
            else:
                self._beat_due = self._beat_due or beat
        await self._converse(link, now)

    def _revival_due(self, now: float) -> bool:
        """Whether to try again though no beat is due, as one who is busy needs none."""
        due = now - self._revived_at >= self._timing.period
        if due:
            self._revived_at = now
        return due

    def _retry_due(self, now: float) -> bool:
        """Whether what did not fit may be tried again: once in a period, however busy we are."""
        due = now - self._retried_at >= self._timing.period
        if due:
            self._retried_at = now
        return due

    async def _converse(self, link: Link, now: float) -> None:  # noqa: ASYNC910 - internal: callers make the checkpoint
        """Exchange requests and answers until the outstanding batch, or inquiry, has ended."""
        session = self._session
        while (request := session.request() or self._dispatch.question()) is not None:
            if not (link.connected or await self._connect(link)):
                return  # noqa: ASYNC910 - connecting failed
            await self._expect_answer(link, now)
            if self._sent_at is None:
                self._sent_at = now
            try:
                reply = await link.exchange_untimed(request)
            except StoreAwayError as error:
                self._log_away(error)
                await self._pause()
                now = trio.current_time()
            except StoreUnavailableError as error:
                session.lost()
                self._connected = False
                self._log_away(error)
                await self._pause()
                now = trio.current_time()
            except StoreError as error:
                self._refused(error)
                return
            except BaseException:
                session.lost()
                raise
            else:
                now = trio.current_time()
                first_sent_at, self._sent_at = self._sent_at, None
                if isinstance(reply, Done | Behind):
                    # A repeat may have been answered from the record (P16), and is then no sign
                    # of life itself. Other answers tell of none.
                    self._heard_at = first_sent_at
                self._batches += 1
                if not self._connected:
                    self._connected = True
                    self._connections += 1
                self._log_back()
                if session.idle:
                    self._dispatch.answered(reply)
                else:
                    self._settle(session.receive(reply), now)
        self._sent_at = None

    def _refused(self, error: StoreError) -> None:
        """The store refuses what was sent: fail what can be failed, keep what is in doubt."""
        self._log_refusal(error)
        self._flush_quota, self._backlog = 0, False
        if self._session.phase is Phase.LIVE and not self._session.in_doubt:
            self._sent_at = None
            self._session.withdraw()
            self._dispatch.refused(error)
        else:
            self._dispatch.fail_waiting(error)

    def _settle(self, news: News, now: float) -> None:
        self._backlog = news.backlog
        if self._session.phase is Phase.FENCED:
            self.open = False
            logger.warning("%s: %s", self._prefix, self._conflict())
            taken = self._conflict(" (this operation may have taken effect before)")
            self._dispatch.abandon(self._conflict(), taken)
            self.watches.close(self._conflict())
            if self.ledger is not None:
                self.ledger.close()
            return
        self._dispatch.settle(news, now)
        if self.ledger is not None:
            self.ledger.forget_idle(now, _IDLE_THRESHOLDS * self._timing.threshold)

    async def _connect(self, link: Link) -> bool:
        """Make sure that there is a connection, however long it takes."""
        self._patience.deadline = _NEVER
        while True:  # noqa: ASYNC913 - connecting is one
            try:
                await link.connect()
            except StoreUnavailableError as error:
                self._connected = False
                self._log_away(error)
                await self._pause()
            except StoreError as error:
                self._connected = False
                self._log_refusal(error)
                self._flush_quota = 0
                self._dispatch.fail_waiting(error)
                return False  # noqa: ASYNC910 - internal: callers make the checkpoint
            else:
                return True

    async def _pause(self) -> None:
        """Wait before trying again: longer each time, never as long as a fresh threshold.

        The first try comes at once, for a connection that just was cut.
        """
        self._patience.deadline = _NEVER
        longest = min(self._timing.backoff_cap, _FIRST_BACKOFF * 2 ** min(self._attempts, 20))
        await trio.sleep(longest * random.uniform(0.5, 1.0) if self._attempts else 0)
        self._attempts += 1

    async def _leave(self, link: Link) -> None:  # noqa: ASYNC910 - internal: callers make the checkpoint
        """Take the own slices back and say good-bye, in bounded steps (P27)."""
        self._lets_go = False
        session = self._session
        while session.phase not in (Phase.LEFT, Phase.FENCED) and self._refusal is None:
            keys = list(session.slices)
            for start in range(0, max(1, len(keys)), MAX_ENTRIES):
                if session.idle:
                    some = keys[start : start + MAX_ENTRIES]
                    entries = [Entry(Kind.PUT, key, 0) for key in some]
                    session.begin(entries, leave=start + MAX_ENTRIES >= len(keys))
                await self._converse(link, trio.current_time())

    async def _let_go(self, link: Link) -> None:  # noqa: ASYNC910 - internal: callers make the checkpoint
        """End the holds: the slices stay, and nobody will come back to take these off (P36)."""
        self._dispatch.release_all()
        while (
            self._session.phase is not Phase.FENCED and self._refusal is None and self._has_work()
        ):
            await self._one_batch(link)

    # ---------------------------------------------------------------------- logs

    def _log_away(self, error: StoreUnavailableError) -> None:
        if not self._away:
            self._away = True
            logger.warning("%s: the store is away, trying again: %s", self._prefix, error)

    def _log_refusal(self, error: StoreError) -> None:
        if self._refusal is None:
            logger.error("%s: the store refuses: %s", self._prefix, error)
        self._refusal = error

    def _log_back(self) -> None:
        if self._away or self._refusal is not None:
            logger.info("%s: the store is back", self._prefix)
        if self._refusal is not None:
            self._dispatch.revive()
        self._away = False
        self._attempts = 0
        self._refusal = None


def _only_cancelled(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        return all(_only_cancelled(member) for member in group.exceptions)
    return isinstance(error, trio.Cancelled)
