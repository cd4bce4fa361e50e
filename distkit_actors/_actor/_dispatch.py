"""Between callers and the session: what goes into a batch, and who is told what became of it.

No I/O and no waiting: the actor calls `collect` when it is about to send, and `settle`
when it knows what became of it.

This file is longer than others: collecting, settling and failing work on the same few lists, which
are seen better on one page. Exclusive operations, queries, the ends of holds and the waiters of a
flush have modules of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Final

from .._instance._session import Session
from .._instance._session_state import Update
from .._instance._write_buffer import Settled, WriteBuffer
from .._protocol._messages import (
    ConditionFailed,
    Entry,
    Kind,
    Previous,
    Rejection,
    Result,
)
from ._counts_first import CountsFirst
from ._crowd import Crowd
from ._exclusive import ExclusiveSteps, Progress, steps_for
from ._flush_waiters import FlushWaiters
from ._log import Log
from ._mailbox import CoalescedEntry, Mailbox
from ._operations import (
    AtomicBatch,
    ExclusiveKind,
    LoneCaller,
    Operation,
    QueryOperation,
    Release,
    SpecialOperation,
    reschedule,
)
from ._outcomes import after, copy_of, overflow, unknown
from ._queries import Queries
from ._releases import Releases

_ADD: Final = Kind.ADD  # looked up once, not for each operation


class Dispatch:
    """Collects batches from the mailbox and the write buffer, and hands the answers back."""

    def __init__(
        self, session: Session, mailbox: Mailbox, buffer: WriteBuffer | None, log: Log
    ) -> None:
        self.session = session
        self.mailbox = mailbox
        self.buffer = buffer
        self.operations_done = 0
        self.refused_keys = 0  # a key once for each batch in which counts of it were refused
        self._log = log
        self._counts = 0  # entries of the batch that come from the write buffer
        self._coalesced: list[CoalescedEntry] = []
        self.crowd = Crowd()
        self._counts_first = CountsFirst()
        self._steps: ExclusiveSteps | None = None  # of the exclusive operation that has begun
        self._stepping = False  # the batch is one of them
        self.queries = Queries()
        self.flush_waiters = FlushWaiters()
        self.releases = Releases(mailbox, buffer, session.holds)

    @property
    def waiting(self) -> bool:
        """Whether operations wait, or an exclusive operation or a query is under way."""
        return self.mailbox.length > 0 or self._steps is not None or self.queries.taken is not None

    def kept(self) -> tuple[int, int]:
        """Return how many keys have unacknowledged counts, and how many operations no answer."""
        operations = self.mailbox.length + sum(len(c.operations) for c in self._coalesced)
        operations += (self._steps is not None) + (self.queries.taken is not None)
        return self.buffer.pending if self.buffer else 0, operations

    @property
    def pending(self) -> int:
        """How many keys have lax counts to send."""
        return self.buffer.dirty if self.buffer else 0

    # ------------------------------------------------------------------- sending

    def collect(
        self, now: float, trip: float, *, flush: bool, shared: bool = False
    ) -> list[Entry] | None:
        """Return the entries of the next batch, or None if a query is next.

        A *shared* batch carries single operations and lax counts. Of those that can wait it has
        `Session.shared_size` at most. The steps of an exclusive operation and queries travel
        alone; with ``shared`` they are left for the next round trip, unless nothing may come
        between those steps. ``trip``: see `Crowd`.
        """
        exclusive, most = self.mailbox.next_exclusive(), self.session.shared_size
        waits = self._steps is not None or exclusive is not None
        if self.in_steps or (waits and not shared):
            return self._collect_exclusive(exclusive, now, flush=flush)
        if self.buffer is None:
            portion = self.crowd.portion(self.mailbox.keys, self.mailbox.length, trip)
            self._coalesced = self._take(exclusive, min(most, portion))
            return [coalesced.entry for coalesced in self._coalesced]
        # An operation acts behind the counts that were made before it.
        # An operation that takes counts along is two entries. Half of the batch is for other keys.
        limit = most // 4 if flush else most // 2
        turn = self._counts_first.sort(self._take(exclusive, max(1, limit)), self.buffer)
        room = most - len(turn.now) if flush else 0
        counts, nothing = self.buffer.send(
            room, now, self.session.slices, first=turn.counted, apart=turn.apart
        )
        self.mailbox.give_back(self._counts_first.sent(turn, self.buffer))
        self._coalesced = turn.now
        entries = [coalesced.entry for coalesced in turn.now]
        self._counts = len(counts)
        self.flush_waiters.notify(self.buffer, nothing)
        if entries and (guarded := {entry.key for entry in counts if entry.guarded}):
            # If these counts are not executed, the operations behind them must not be either (P30,
            # immediate operations).
            entries = [e._replace(guarded=True) if e.key in guarded else e for e in entries]
        return counts + entries

    def begin_alone(self, operation: Operation, budget: int) -> bool:
        """Make a batch of ``operation``, while nothing waits; False if it is no plain addition."""
        plain = type(operation) is Operation and operation.kind is _ADD
        if not plain or self.buffer is not None:
            return False
        entry = self.session.begin_addition(operation.key, operation.value, budget=budget)
        self._coalesced = [CoalescedEntry(entry, (operation,))]
        return True

    def _take(self, exclusive: Operation | None, limit: int) -> list[CoalescedEntry]:
        return [] if exclusive is not None else self.mailbox.take(limit, self.session.slices)

    @property
    def in_steps(self) -> bool:
        """Whether an exclusive operation is under way between whose steps nothing may come."""
        return self._steps is not None and not self._steps.takes_turns

    @property
    def alone(self) -> bool:
        """Whether what was collected last travels alone."""
        return self._stepping or self.queries.asking

    @property
    def atomic(self) -> bool:
        """Whether what `collect` returned must be executed all or none."""
        return self._stepping and self._steps is not None and self._steps.atomic

    def _collect_exclusive(
        self, exclusive: Operation | None, now: float, *, flush: bool
    ) -> list[Entry] | None:
        if self._steps is None:
            assert exclusive is not None
            if isinstance(exclusive, AtomicBatch):
                counts = self._counts_before(exclusive, now, flush=flush)
                if counts:
                    return counts
            self.mailbox.take_exclusive()
            if isinstance(exclusive, QueryOperation):
                self.queries.take(exclusive)
                return None
            self._steps = steps_for(exclusive, self.session)
            if self.buffer is not None and self._steps.stages:
                self.buffer.stage()
        self._stepping = True
        return self._steps.next_entries()

    def _counts_before(self, batch: AtomicBatch, now: float, *, flush: bool) -> list[Entry]:
        """Return the counts that were made before an atomic batch on its keys; they go ahead.

        They go ahead only once; otherwise somebody who counts all the time would keep it from being
        sent. They go again only if they could not be executed, or if they are more than an entry
        can carry. Counts that are due go along.
        """
        if self.buffer is None or batch.behind_counts:
            return []
        keys = [entry.key for entry in batch.entries]
        room = self.session.shared_size if flush else 0
        counts, nothing = self.buffer.send(room, now, self.session.slices, first=keys)
        batch.behind_counts = not any(map(self.buffer.has_pending, keys))
        self._counts = len(counts)
        self.flush_waiters.notify(self.buffer, nothing)
        return counts

    @property
    def query_is_next(self) -> bool:
        """Whether a query waits, and nothing before it."""
        return isinstance(self.mailbox.next_exclusive(), QueryOperation)

    @property
    def shared_waits(self) -> bool:
        """Whether single operations wait, and no exclusive operation is before them."""
        return self.mailbox.next_exclusive() is None and self.mailbox.length > 0

    # ------------------------------------------------------------------ settling

    def settle(self, update: Update, now: float) -> None:
        """Tell holds, the write buffer and callers what an answer says."""
        # Moves come before the results: no result is older than the moves that came with it.
        if update.cleared:
            self.releases.cleared(self.session.cleared)
        if update.missed:
            self.releases.cleared(update.missed)
        if update.epochs or update.dropped:
            self.releases.moved(update.epochs, update.dropped)
        for key, younger, older in update.merged:
            self.releases.holds.merged(key, younger, older)
        if self.buffer is not None:
            if update.cleared:
                self.buffer.cleared(self._own, by_us=False, now=now, left=self.session.slices)
            for key in chain(update.epochs, update.dropped):
                self.buffer.moved(key, self._own(key), now)
        if update.results is not None:
            if self._stepping:
                assert self._steps is not None
                self._settle_steps(self._steps, update.results, update, now)
            else:
                self._settle_batch(update.results, update, now)
            self.releases.send_unwanted_first()

    def settle_alone(self) -> None:
        """Note that the only operation of the batch is done, and that its caller has its answer."""
        self._coalesced = []
        self.operations_done += 1

    def _own(self, key: str) -> int:
        """Return the own slice without what is still in flight in the write buffer."""
        return self.session.undoubted(key)

    def _stamp(self, key: str, update: Update) -> int:
        """Return the stamp of the slice that the result for ``key`` is about (P36, holds)."""
        if key in update.stamps:
            return update.stamps[key]
        own = self.session.slices.get(key)
        if own is not None:
            return own.stamp
        # Moves of the key may have been told ahead of their turn, in which they are told again
        # (P10, learning moves).
        return max(update.ground, update.epochs.get(key, 0), self.session.moves.get(key, 0))

    def _settle_batch(self, results: Sequence[Result], update: Update, now: float) -> None:
        counts, self._counts = self._counts, 0
        coalesced_entries, self._coalesced = self._coalesced, []
        if self.buffer is not None:
            self._settle_counts(self.buffer, results[:counts], update, now)
        again: list[Operation] = []
        done = self.operations_done
        for coalesced, result in zip(coalesced_entries, results[counts:], strict=False):
            if isinstance(result, Previous):
                self._deliver(coalesced, result, update, now)
            elif isinstance(result, ConditionFailed):
                self._decline(coalesced, result, now)
            elif result is Rejection.REFUSED:
                self._refuse(coalesced.operations)
            elif result is Rejection.UNKNOWN:
                # A read has changed nothing, so it can be done again.
                again += [op for op in coalesced.operations if not op.writes]
                self._leave_unknown([op for op in coalesced.operations if op.writes], update)
            else:
                for operation in coalesced.operations:
                    operation.folds = operation.folds and result is not Rejection.SPLIT
                    if isinstance(operation, Release) and operation.ends.void:
                        self.releases.end(operation)
                    else:
                        again.append(operation)
        self.mailbox.give_back(again)
        self.crowd.answered(len(coalesced_entries), self.operations_done - done)
        # The results are void in keys whose epoch has moved since.
        if update.void:
            self.releases.moved({}, update.void)
        if self.buffer is not None:
            for key in update.void:
                self.buffer.moved(key, self._own(key), now)

    def _settle_counts(
        self, buffer: WriteBuffer, results: Sequence[Result], update: Update, now: float
    ) -> None:
        settled = buffer.settle(results, now)
        if Rejection.RETRY in results or Rejection.MOVED in results:
            self._counts_are_back()
        if settled.dropped:
            self.refused_keys += len(settled.dropped)
            self._log.counts_refused(settled.dropped)
        self._record_outcome(buffer, settled, lambda key: self._stamp(key, update))

    def _record_outcome(
        self, buffer: WriteBuffer, settled: Settled, stamp: Callable[[str], int]
    ) -> None:
        self.releases.record(settled, stamp)
        self.flush_waiters.notify(buffer, settled.keys)

    def _counts_are_back(self) -> None:
        """Note that counts which were to go ahead of operations are pending again."""
        self._counts_first.undone()
        exclusive = self.mailbox.next_exclusive()
        if isinstance(exclusive, AtomicBatch):
            exclusive.behind_counts = False

    def _deliver(
        self, coalesced: CoalescedEntry, before: Previous, update: Update, now: float
    ) -> None:
        """Give each caller the values its own operation found, as if they had run in turn."""
        cumulative, own = before
        entry, operations = coalesced.entry, coalesced.operations
        self.operations_done += len(operations)
        if entry.kind is Kind.ADD or entry.kind is Kind.CLAIM:
            for operation in operations:
                if type(operation) is not Operation:
                    self.releases.settle(operation, self._stamp(operation.key, update))
                operation.cumulative, operation.own = cumulative, own
                task = operation.task
                if task is not None:
                    operation.task = None
                    if type(task) is LoneCaller:
                        task.result = operation
                    else:
                        reschedule(task, operation)
                value = operation.value
                cumulative += value
                own += value
        else:
            operations[0].done(cumulative, own)
            cumulative, own = after(entry, before)
            if entry.kind is Kind.MOVE:
                self.releases.moved({}, {entry.key: update.at})
        if self.buffer is not None:
            self.buffer.read(entry.key, cumulative, own, now)

    def _decline(self, coalesced: CoalescedEntry, found: ConditionFailed, now: float) -> None:
        self.operations_done += 1
        (operation,) = coalesced.operations
        assert isinstance(operation, SpecialOperation)
        operation.declined = True
        operation.done(*found)
        if self.buffer is not None:
            self.buffer.read(coalesced.entry.key, *found, now)

    def _refuse(self, operations: Sequence[Operation]) -> None:
        # The cumulative has no room for them now; releases are tried again later (I12, overflow).
        self.releases.defer(operations)
        for operation in operations:
            if not operation.required:
                operation.fail(overflow())

    def _leave_unknown(self, operations: Sequence[Operation], update: Update) -> None:
        for operation in operations:
            if operation.hold is not None:
                # It shares the fate of the slice that it was folded into (P20, doubtful batch).
                self.releases.holds.committed(operation.hold, self._stamp(operation.key, update))
                self.releases.release(operation.hold, unwanted=True)
            elif operation.required:
                self.releases.end(operation)
            operation.fail(unknown())

    # ------------------------------------------------------- exclusive operations

    def _settle_steps(
        self, steps: ExclusiveSteps, results: Sequence[Result], update: Update, now: float
    ) -> None:
        self._stepping = False
        operation, at = steps.operation, update.at
        progress = steps.settle(results, at)
        done = progress is Progress.ENDED and steps.known
        if progress is not Progress.MORE:
            self._steps = None
            if self.buffer is not None and steps.stages:
                # As if they had been sent just before.
                settled = self.buffer.end_stage(void=done, now=now, but=steps.refused)
                self._record_outcome(self.buffer, settled, lambda _: at - 1)
        if done or progress is Progress.MORE:
            steps.end_holds(self.releases, at)
            if self.buffer is not None:
                steps.update_view(self.buffer, now)
        if progress is Progress.AGAIN:
            self.mailbox.give_back([operation])
        elif progress is Progress.ENDED:
            self._end(operation, steps.error, results, update)

    def _end(
        self,
        operation: Operation,
        error: Exception | None,
        results: Sequence[Result],
        update: Update,
    ) -> None:
        if error is not None:
            operation.fail(error)
            return
        self.operations_done += 1
        if operation.hold is not None and isinstance(results[0], Previous):
            self.releases.begin(operation.hold, self._stamp(operation.hold.key, update), operation)
        if isinstance(operation, AtomicBatch):
            operation.at = update.at
        operation.done()

    # ------------------------------------------------------------------ failures

    def refused(self, error: Exception) -> None:
        """Take in that the store refuses the batch: operations fail, lax counts stay pending.

        Queries wait on, as they need no batch: a store that is full answers them.
        """
        behind = self._counts_first.withdraw()  # they would wait for these counts for ever
        steps = self._steps
        taken = self._taken() + behind
        if not taken and isinstance(self.mailbox.next_exclusive(), AtomicBatch):
            # The counts that have to go ahead of the next one may have been in this batch. The next
            # one would wait for ever.
            taken.append(self.mailbox.take_exclusive())
        self._fail([op for op in taken if not op.required], error, steps)
        self.releases.defer(taken)
        self.flush_waiters.fail(error)
        if taken and all(op.required for op in taken):
            # These are releases, which go before all that waits for a batch. Nobody waits for them,
            # so nobody was told; those behind them would wait for ever.
            self.fail_waiting(error, queries=False)

    def fail_waiting(self, error: Exception, *, queries: bool = True) -> None:
        """Give an error to all whose operations are in no batch: they wait, or are between turns.

        A question whose turn was put off has begun, and so has a `forget` between two steps.
        Without ``queries`` all questions wait on.
        """
        steps = self._steps
        waiting = self.mailbox.drain(but=None if queries else ExclusiveKind.QUERY)
        if not self._stepping:
            waiting += self._begun()
        if queries:
            self.queries.fail(error)
        self._fail([op for op in waiting if not op.required], error, steps)
        self.releases.defer(waiting)
        self.flush_waiters.fail(error)

    def held(self) -> int:
        """Return how many holds count in the store, and are not on their way to be taken back."""
        batch = [operation for coalesced in self._coalesced for operation in coalesced.operations]
        ending = {operation.ends for operation in batch if isinstance(operation, Release)}
        keys = {} if self.buffer is None else self.buffer.unsettled()
        pending = {b.key for b in keys if b.pending or b.in_flight}  # counted there
        holds = self.releases.holds.outstanding()
        return sum(hold not in ending and hold.key not in pending for hold in holds)

    def abandon(self, waiting: Exception, taken: Exception) -> int:
        """Fail all operations, as nothing more is sent; return how many writes were in the batch.

        ``waiting`` is the error of those that still wait, and of a question, which changes nothing
        whether it was answered or not. ``taken`` is the error of those in the batch.
        """
        steps = self._steps
        operations = self._taken()
        self._fail(operations, taken, steps)
        self.queries.fail(waiting)
        self.fail_waiting(waiting)
        return sum(operation.writes for operation in operations)

    def _taken(self) -> list[Operation]:
        """Take the batch apart, return its operations, and make its counts pending again."""
        operations = [
            operation for coalesced in self._coalesced for operation in coalesced.operations
        ]
        # Though the batch may be another one: a `forget` between two steps ends with it, too.
        operations += self._begun()
        self._counts, self._coalesced = 0, []
        if self.buffer is not None:
            self.buffer.unsend()
            self._counts_are_back()
        return operations

    def _begun(self) -> list[Operation]:
        """Take out the exclusive operation that has begun, if there is one."""
        if self._steps is None:
            return []
        operation = self._steps.operation
        self._steps, self._stepping = None, False
        if self.buffer is not None:
            self.buffer.end_stage(void=False, now=0.0)
        return [operation]

    def _fail(
        self,
        operations: Sequence[Operation],
        error: Exception,
        steps: ExclusiveSteps | None = None,
    ) -> None:
        for operation in operations:
            failure = copy_of(error)
            if steps is not None and steps.begun and operation is steps.operation:
                failure.add_note("some of its steps have taken effect; called again, it goes on")
            operation.fail(failure)
