"""The task that talks to the store: what to send, and when to rest.

Whatever arrives while a batch is on its way goes together in the next one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, Literal, TypeAlias

import trio

from .._instance._pacing import Pacing
from .._instance._session import Phase, Session
from .._instance._session_state import Update
from .._protocol._liveness import LivenessConfig
from .._protocol._messages import Entry, Kind
from .._stores._contract import Link
from ._availability import Availability
from ._dispatch import Dispatch
from ._request_loop import RequestLoop

OnExit: TypeAlias = Literal["leave", "linger"]

#: Slices of the dead that one batch takes away: enough to get on, too few to be felt (P23) …
_REAPING_BUDGET: Final = 12
#: … and one more for each so many operations that wait, which take their time in any case …
_OPERATIONS_PER_SLICE: Final = 8
#: … up to so many in all.
_REAPING_BUDGET_OF_A_CROWD: Final = 128
#: The same for a batch that nobody waits for.
_IDLE_REAPING_BUDGET: Final = 48
#: Seconds without an operation after which such a batch is sent, while there are slices of the
#: dead. A caller who does one operation after the other must not find one on the way each time.
_REAPING_PAUSE: Final = 0.0005
#: After so many operations that came one by one, the next is expected to be alone too.
_SOLO_STREAK: Final = 4
# Looked up once, as elsewhere: see `_session`.
_FENCED: Final = Phase.FENCED
#: A key without a slice is forgotten after this many thresholds without use.
_IDLE_THRESHOLDS: Final = 2


class BatchLoop:
    """Sends one batch after the other while there is work, and sleeps while there is none."""

    def __init__(
        self,
        prefix: str,
        session: Session,
        dispatch: Dispatch,
        liveness: LivenessConfig,
        *,
        superseded: Callable[[], None],
    ) -> None:
        self.stopping = False  # what waits is still sent, then the instance leaves
        self.accepts_releases = True  # the end of a hold is told to the store
        self.availability = Availability(prefix, liveness.backoff_cap)
        self._pacing = Pacing(liveness.threshold)
        self.requests = RequestLoop(
            session,
            dispatch,
            self.availability,
            self._pacing,
            settle=self._settle,
            refused=self._on_refusal,
            recovered=self._on_recovery,
        )
        self._session = session
        self._dispatch = dispatch
        self._liveness = liveness
        self._on_superseded = superseded
        self.sleeper: trio.lowlevel.Task | None = None  # the task, if it has no work
        self._solo_streak = 0  # batches of one operation each, in a row
        self._sent_by_caller = False  # the outstanding batch, which is for one operation
        self._solo_link: Link | None = None  # on which the next operation is sent by its caller
        self._failure: Exception | None = None  # of that, for the task to die of
        self._flush_quota = 0  # keys that the flush that is due has still to send
        self._alone = False  # the last round trip was for one exclusive operation or query alone
        self._beat_due = False
        self._backlog = False  # the dead have slices, and taking them away makes progress
        self._retried_at = float("-inf")  # when withheld slices were tried last
        self._deferred_at = float("-inf")  # when postponed releases were, if no beat did it

    # -------------------------------------------------------------------- orders

    def wake(self) -> None:
        """Let the task look for work."""
        if self.sleeper is not None:
            task, self.sleeper = self.sleeper, None
            trio.lowlevel.reschedule(task)

    def send_now_or_wake(self) -> None:
        """Wake the task for an operation that has come; one that is alone is sent on the spot.

        Its caller's task needs no turn of the scheduler for that, and what else is to be done is
        done while the store works (P38, lone operation).
        """
        link = self._solo_link
        if link is not None and link.can_send_nowait and self.sleeper is not None:
            now = trio.current_time()
            if trio.current_effective_deadline() > now:  # else it must never happen (P33)
                self._sent_by_caller = True
                try:
                    self._make_up(now)
                    self.requests.begin(link)
                except Exception as error:  # noqa: BLE001 - raised by the task, which all depend on
                    self._failure = error
        self.wake()

    def beat(self) -> None:
        """Send a sign of life."""
        self._beat_due = True
        self.wake()

    def flush(self, *, urgent: bool = False) -> None:
        """Send the lax counts that are pending; ``urgent``: also to a store that refuses."""
        self._flush_quota = self._dispatch.pending
        if urgent and self.availability.refusal is not None:
            self._beat_due = True
        self.wake()

    def stop(self) -> None:
        """Send what waits, and end."""
        self.stopping = True
        self.availability.refusal = None  # one more try
        self.wake()

    # ---------------------------------------------------------------------- task

    async def run(self, link: Link, on_exit: OnExit) -> None:  # noqa: ASYNC910 - internal: callers make the checkpoint
        """Work until stopped, then take leave of the store."""
        while self._has_work() or not self.stopping:
            if self._has_work():
                await self.requests.with_response_deadline(self._work, link)
            else:
                await self._rest()
        finish = self._leave if on_exit == "leave" else self._end_holds
        while not await self.requests.with_response_deadline(finish, link):
            pass

    async def _work(self, link: Link) -> None:  # noqa: ASYNC910 - internal: callers make the checkpoint
        """Send batches while there is something to send.

        After operations there soon may be more, so that it pays to wait for them here, until
        patience is over; after a heartbeat it does not.
        """
        while self._has_work():
            done = self._dispatch.operations_done
            await self._one_batch(link)
            answered = self._dispatch.operations_done - done
            sent_by_caller, self._sent_by_caller = self._sent_by_caller, False
            if answered:
                self._solo_streak = self._solo_streak + 1 if answered == 1 else 0
            if sent_by_caller and self._dispatch.waiting:
                # It was not alone. Whoever has its answer joins those who wait, if it goes on: else
                # they would take turns for ever.
                for _ in range(2):
                    await trio.lowlevel.cancel_shielded_checkpoint()
            elif answered and not (self.stopping or self._has_work()):
                self._solo_link = link if self._solo_streak >= _SOLO_STREAK else None
                try:
                    await self._rest()
                finally:
                    self._solo_link = None
                if self._failure is not None:
                    raise self._failure

    def _has_work(self) -> bool:
        if self._session.phase is _FENCED:
            return False
        if self.availability.refusal is not None:
            # What the store refuses is tried again with the next beat, or on demand.
            return not self.stopping and (self._beat_due or self._dispatch.mailbox.length > 0)
        return bool(
            self._beat_due
            or self._dispatch.waiting
            or self._flush_quota > 0
            or not self._session.idle
            or (self.stopping and self._dispatch.pending)
        )

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
            self.sleeper = None
            return trio.lowlevel.Abort.SUCCEEDED

        self.sleeper = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(abort)

    # ------------------------------------------------------------------- batches

    async def _one_batch(self, link: Link) -> None:
        # A batch is made up only once it can be sent: until then callers may withdraw (P33).
        if not (link.connected or await self.requests.connect(link)):
            self._beat_due = False  # with the next one it is tried again
            return  # noqa: ASYNC910 - connecting failed
        now = trio.current_time()
        self._make_up(now)
        await self.requests.complete(link, now)
        if self.requests.look_due:
            await self.requests.inspect(link)

    def _make_up(self, now: float) -> None:
        """Make up a batch, or a query, if there is none yet (P41, turns)."""
        dispatch = self._dispatch
        if not self._session.idle:
            return  # it has been interrupted, and goes on
        dispatch.put_off()
        # What travels alone takes turns with what is shared, so that neither waits for long.
        shared = self._alone and (self._beat_due or self._flush_quota > 0 or dispatch.shared_waits)
        if not shared and dispatch.ask():
            self._alone = True
        elif self._session.withheld and self._retry_due(now):
            # By itself: whether it is accepted decides what later entries find.
            self._session.begin(self._session.retries())
        else:
            self._begin(now, shared=shared)

    def _begin(self, now: float, *, shared: bool) -> None:
        """Make up a batch of what waits, which is the beat that is due."""
        dispatch = self._dispatch
        pending, crowd = dispatch.pending, dispatch.mailbox.length
        beat = self._beat_due
        if beat or self.stopping:
            self._flush_quota = pending
        if beat or self.stopping or self._deferred_due(now):
            dispatch.retry_deferred()
        entries = dispatch.collect(now, flush=self._flush_quota > 0, shared=shared)
        self._alone = dispatch.alone
        if dispatch.buffer is not None:
            self._flush_quota = max(0, self._flush_quota - pending + dispatch.pending)
        if entries is None:
            return  # it became a query, which is no sign of life
        self._beat_due = False
        budget = _IDLE_REAPING_BUDGET
        if entries:
            budget = _REAPING_BUDGET + crowd // _OPERATIONS_PER_SLICE
            budget = min(budget, _REAPING_BUDGET_OF_A_CROWD)
        budget = max(1, self._pacing.share(budget))  # a slow store reaps less, too
        self._session.begin(entries, budget=budget, atomic=dispatch.atomic)

    def _deferred_due(self, now: float) -> bool:
        """Whether to try again though no beat is due, as one who is busy needs none."""
        due = now - self._deferred_at >= self._liveness.period
        if due:
            self._deferred_at = now
        return due

    def _retry_due(self, now: float) -> bool:
        """Whether what did not fit may be tried again: once in a period, however busy we are."""
        due = now - self._retried_at >= self._liveness.period
        if due:
            self._retried_at = now
        return due

    def _settle(self, update: Update, now: float) -> None:
        self._backlog = update.backlog
        if self._session.phase is _FENCED:
            self._on_superseded()
            return
        self._dispatch.settle(update, now)
        if self._dispatch.buffer is not None:
            patience = _IDLE_THRESHOLDS * self._liveness.threshold
            self._dispatch.buffer.forget_idle(now, patience)

    def _on_refusal(self) -> None:
        """Try again with the next beat: one that came due meanwhile stands behind what is kept."""
        self._flush_quota, self._backlog, self._beat_due = 0, False, False

    def _on_recovery(self) -> None:
        """Make up for what a refusal called off: whoever is busy has no beat to do it."""
        self._dispatch.retry_deferred()
        self._flush_quota = self._dispatch.pending

    # ---------------------------------------------------------------------- exit

    async def _leave(self, link: Link) -> None:  # noqa: ASYNC910 - internal: callers make the checkpoint
        """Take the own slices back and say good-bye, in bounded steps (P27, leaving)."""
        self.accepts_releases = False
        session, left = self._session, deque[str]()
        while session.phase not in (Phase.LEFT, Phase.FENCED) and self.availability.refusal is None:
            if session.idle:
                left = left or deque(session.slices)  # once more, after a return to the store
                some = [left.popleft() for _ in range(min(session.piece, len(left)))]
                session.begin([Entry(Kind.PUT, key, 0) for key in some], leave=not left)
            await self.requests.complete(link, trio.current_time())

    async def _end_holds(self, link: Link) -> None:  # noqa: ASYNC910 - internal: callers make the checkpoint
        """End the holds: the slices stay, and nobody will come back to take these off (P36)."""
        self._dispatch.release_all()
        while self.availability.refusal is None and self._has_work():
            await self._one_batch(link)
