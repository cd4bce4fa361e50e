"""What the next round trip is for: operations, lax counts, a sign of life, slices of the dead."""

from __future__ import annotations

from typing import Final

from .._instance._pacing import Pacing
from .._instance._session import Phase, Session
from ._availability import Availability
from ._dispatch import Dispatch
from ._operations import Operation

#: Slices of the dead that a batch of operations takes away: enough to get on, too few to be felt
#: (P23, reaper).
_REAPING_BUDGET: Final = 8
#: It takes one more for each group of so many waiting operations: a large batch is slow anyway.
_OPERATIONS_PER_SLICE: Final = 8
#: It never takes more than this.
_REAPING_BUDGET_OF_A_CROWD: Final = 128
#: Slices that a batch takes away if nobody waits for it.
_IDLE_REAPING_BUDGET: Final = 48
_NEVER: Final = float("inf")
# Looked up once, as elsewhere: see `_session`.
_FENCED: Final = Phase.FENCED
_REFUSED: Final = Phase.REFUSED


class Agenda:
    """What is due, and the batch or query that is made up of it. It waits for nothing."""

    def __init__(
        self,
        session: Session,
        dispatch: Dispatch,
        availability: Availability,
        pacing: Pacing,
        period: float,
    ) -> None:
        self.stopping = False  # the instance sends what waits, and leaves
        self.superseded = False  # another counter has the id, so nothing more is sent
        self.beat_due = False
        self.backlog = 0  # not 0: the dead have slices left, and so many who live take them away
        self._session = session
        self._dispatch = dispatch
        self._availability = availability
        self._pacing = pacing
        self._period = period
        self._flush_quota = 0  # keys that the due flush has still to send
        self._alone = False  # the last round trip was for one exclusive operation or query alone
        self._retried_at = float("-inf")  # when withheld slices were tried last
        self._retrying = False  # the batch tries them again, and nothing else
        self._deferred_at = float("-inf")  # when put off releases were tried last without a beat

    def has_work(self) -> bool:
        """Tell whether there is something to send now."""
        phase = self._session.phase
        if self.superseded or phase is _FENCED or phase is _REFUSED:
            return False
        if self._availability.refusal is not None:
            # What the store refuses is tried again with the next beat, or on demand. A query is
            # asked until it has an answer.
            wanted = self._dispatch.mailbox.length > 0 or (
                self._session.idle and self._dispatch.queries.taken is not None
            )
            return not self.stopping and (self.beat_due or wanted)
        return bool(
            self.beat_due
            or self._dispatch.waiting
            or self._flush_quota > 0
            or not self._session.idle
            or (self.stopping and self._dispatch.pending)
        )

    def flush(self, *, urgent: bool) -> None:
        """Have the pending lax counts sent; ``urgent``: also if the store refuses."""
        self._flush_quota = self._dispatch.pending
        if urgent and self._availability.refusal is not None:
            self.beat_due = True

    def refused(self) -> None:
        """Note a refusal: all that is kept waits for the next beat, even if one is due now.

        If only withheld slices were tried again, the beat that is due comes all the same.
        """
        self._flush_quota, self.backlog, self.beat_due = 0, 0, self.beat_due and self._retrying
        self._retrying = False

    def recovered(self) -> None:
        """Go on after a refusal at once, as a busy instance may have no beat for long."""
        self._dispatch.releases.retry_deferred()
        self._flush_quota = self._dispatch.pending

    # ------------------------------------------------------------------- batches

    def make_up_alone(self, operation: Operation, now: float) -> bool:
        """Make a batch of ``operation``, which is in no queue; False if `make_up` has to do it.

        `make_up` would make the same batch if there were no other work (`has_work`). But with it a
        lone operation would take a fifth more instructions.
        """
        if self.backlog or now - self._deferred_at >= self._period or self._session.withheld:
            return False
        self._alone = False
        return self._dispatch.begin_alone(operation, self._pacing.share(_REAPING_BUDGET) or 1)

    def make_up(self, now: float) -> None:
        """Make up a batch, or a query, if there is none yet (P41, turns)."""
        dispatch = self._dispatch
        if not self._session.idle:
            return  # it has been interrupted, and goes on
        self._retrying = False
        dispatch.queries.put_off()
        # What travels alone takes turns with what is shared, so that neither waits for long. Counts
        # that the store refuses wait for a beat.
        flush = self._flush_quota > 0 and self._availability.refusal is None
        shared = self._alone and (self.beat_due or flush or dispatch.shared_waits)
        if not shared and dispatch.queries.ask():
            self._alone = True
        elif self._session.withheld and not dispatch.in_steps and self._retry_due(now):
            # By itself: whether it is accepted decides what later entries find.
            self._retrying = True
            self._session.begin(self._session.retries()[: self._session.bulk_size])
        else:
            self._begin(now, shared=shared)

    def _begin(self, now: float, *, shared: bool) -> None:
        """Make a batch of what waits; it serves as the beat, if one is due."""
        dispatch = self._dispatch
        pending, crowd = dispatch.pending, dispatch.mailbox.length
        beat = self.beat_due
        if beat or self.stopping:
            self._flush_quota = pending
        # A batch after a refusal takes the refused releases along: nothing goes before them, but a
        # query that is next. A store that is full answers it.
        refused = self._availability.refusal is not None
        asks = refused and not shared and dispatch.query_is_next
        if not asks and (beat or refused or self._deferred_due(now)):
            dispatch.releases.retry_deferred()
        # At a stop nobody asks again, so there is no other half to wait for.
        trip = _NEVER if self.stopping else self._pacing.trip
        flush = self._flush_quota > 0
        entries = dispatch.collect(now, trip, flush=flush, shared=shared)
        self._alone = dispatch.alone
        if dispatch.buffer is not None:
            self._flush_quota = max(0, self._flush_quota - pending + dispatch.pending)
        if entries is None:
            return  # it became a query, which is no sign of life
        self.beat_due = False
        budget = self.idle_budget
        if entries:
            budget = _REAPING_BUDGET + crowd // _OPERATIONS_PER_SLICE
            budget = self._share(min(budget, _REAPING_BUDGET_OF_A_CROWD))
        self._session.begin(entries, budget=budget, atomic=dispatch.atomic)

    @property
    def idle_budget(self) -> int:
        """How many slices of the dead a batch takes away that no operation waits for."""
        return self._share(_IDLE_REAPING_BUDGET)

    def _share(self, budget: int) -> int:
        return max(1, self._pacing.share(budget))  # a slow store reaps less, too

    def _deferred_due(self, now: float) -> bool:
        """Whether to try deferred releases without a beat: a busy instance needs no beats."""
        due = now - self._deferred_at >= self._period
        if due:
            self._deferred_at = now
        return due

    def _retry_due(self, now: float) -> bool:
        """Whether withheld slices may be tried again: once in a period, however busy we are."""
        due = now - self._retried_at >= self._period
        if due:
            self._retried_at = now
        return due
