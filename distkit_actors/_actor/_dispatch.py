"""Between those who count and the session: what goes into a batch, and who hears of it.

No I/O and no waiting: the actor calls `collect` when it is about to send, and `settle`
when it knows what became of it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence

import trio

from .._core._holds import Hold, Holds
from .._core._ledger import Ledger, Settled
from .._core._messages import (
    Before,
    Declined,
    Entry,
    Kind,
    Reply,
    Request,
    Result,
    Verdict,
)
from .._core._session import Session
from .._core._tally import Tally
from .._core._under_way import News
from .._errors import OutcomeUnknownError
from ._errands import Errand, errand_for
from ._mailbox import Mailbox, Parcel
from ._operations import Bundle, Inquiry, Operation, Release, SpecialOperation, reschedule
from ._outcomes import after, copy_of, overflow, unknown

logger = logging.getLogger("distkit_actors")


class FlushTicket:
    """Somebody waits until everything counted so far is in the store."""

    def __init__(self, unsettled: dict[Tally, int]) -> None:
        self.unsettled = unsettled
        self.event = trio.Event()
        self.error: Exception | None = None

    def settled(self, tallies: Iterable[Tally]) -> bool:
        """Look whether these have been acknowledged; True when nothing is missing at all."""
        for tally in tallies:
            if tally.acknowledged >= self.unsettled.get(tally, tally.acknowledged + 1):
                del self.unsettled[tally]
        return not self.unsettled


class Dispatch:
    """Collects batches from the mailbox and the ledger, and hands the answers back."""

    def __init__(self, session: Session, mailbox: Mailbox, ledger: Ledger | None) -> None:
        self.session = session
        self.mailbox = mailbox
        self.ledger = ledger
        self.operations_done = 0
        self._counts = 0  # entries of the batch that come from the ledger
        self._parcels: list[Parcel] = []
        self._errand: Errand | None = None
        self._inquiry: Inquiry | None = None
        self._asking = False  # it is the turn of the inquiry
        self._tickets: list[FlushTicket] = []
        self._holds = Holds(self._on_void)
        self._releases: dict[Hold, Release] = {}  # that wait, or are on their way
        self._postponed: list[Release] = []  # that the store had to refuse

    @property
    def waiting(self) -> bool:
        """Whether there is something for the store that is no lax count."""
        return self.mailbox.length > 0 or self._errand is not None or self._inquiry is not None

    @property
    def pending(self) -> int:
        """How many keys have lax counts to send."""
        return self.ledger.dirty if self.ledger else 0

    # ------------------------------------------------------------------- sending

    def collect(self, now: float, *, flush: bool, shared: bool = False) -> list[Entry] | None:
        """Return the entries of the next batch: at most `Session.piece`, as far as they can wait.

        A *shared* batch carries single operations and lax counts. All else travels alone: the
        steps of a barrier, and an inquiry, for which this returns None. ``shared``: leave those
        for the next round trip.
        """
        barrier, most = self.mailbox.barrier(), self.session.piece
        if self._errand is not None or (barrier is not None and not shared):
            return self._collect_barrier(barrier, now, flush=flush)
        if self.ledger is None:
            self._parcels = self._take(barrier, most)
            return [parcel.entry for parcel in self._parcels]
        self._parcels = self._take(barrier, max(1, most // 2))
        entries = [parcel.entry for parcel in self._parcels]
        # An operation acts behind the counts that were made before it, in the same step.
        touched = [entry.key for entry in entries if entry.kind is not Kind.ADD]
        room = most - len(entries) if flush else 0
        counts, nothing = self.ledger.send(room, now, self.session.slices, first=touched)
        self._counts = len(counts)
        self._punch(nothing)
        if entries and (guarded := {entry.key for entry in counts if entry.guarded}):
            # What is not executed yet must not be overtaken by what came after it (P30).
            entries = [e._replace(guarded=True) if e.key in guarded else e for e in entries]
        return counts + entries

    def _take(self, barrier: Operation | None, limit: int) -> list[Parcel]:
        return [] if barrier is not None else self.mailbox.take(limit, self.session.slices)

    @property
    def alone(self) -> bool:
        """Whether what was collected last travels alone."""
        return self._errand is not None or self._asking

    @property
    def whole(self) -> bool:
        """Whether what `collect` returned must be executed all or none."""
        return self._errand is not None and self._errand.whole

    def _collect_barrier(
        self, barrier: Operation | None, now: float, *, flush: bool
    ) -> list[Entry] | None:
        if self._errand is None:
            assert barrier is not None
            if isinstance(barrier, Bundle):
                counts = self._counts_before(barrier, now, flush=flush)
                if counts:
                    return counts
            self.mailbox.take_barrier()
            if isinstance(barrier, Inquiry):
                self._inquiry, self._asking = barrier, True
                return None
            self._errand = errand_for(barrier, self.session)
            if self.ledger is not None and self._errand.seizes:
                self.ledger.seize()
        return self._errand.step()

    def _counts_before(self, bundle: Bundle, now: float, *, flush: bool) -> list[Entry]:
        """Return the counts that were made before a bundle on its keys; they go ahead.

        Only once, or whoever counts all the time would keep it from being sent; again only
        if they could not be executed. Counts that are due in any case go along.
        """
        if self.ledger is None or bundle.behind_counts:
            return []
        bundle.behind_counts = True
        keys = [entry.key for entry in bundle.entries]
        room = self.session.piece if flush else 0
        counts, nothing = self.ledger.send(room, now, self.session.slices, first=keys)
        self._counts = len(counts)
        self._punch(nothing)
        return counts

    # ----------------------------------------------------------------- inquiries

    @property
    def shared_waits(self) -> bool:
        """Whether single operations wait that no barrier holds up."""
        return self.mailbox.barrier() is None and self.mailbox.length > 0

    def question(self) -> Request | None:
        """Return what somebody wants to know of the store, while it is the turn of that."""
        return self._inquiry.request if self._asking and self._inquiry is not None else None

    def ask(self) -> bool:
        """Make it the turn of the inquiry that was taken; False if nobody waits for one."""
        if self._inquiry is not None and self._inquiry.task is None:
            self._inquiry = None
        self._asking = self._inquiry is not None
        return self._asking

    def put_off(self) -> None:
        """End the turn of the inquiry: it was not answered, and others are due first."""
        self._asking = False

    def answered(self, reply: Reply) -> None:
        """Hand the answer to `question` out."""
        inquiry, self._inquiry = self._inquiry, None
        self._asking = False
        if inquiry is not None:
            self.operations_done += 1
            inquiry.reply = reply
            inquiry.done()

    # ------------------------------------------------------------------ settling

    def settle(self, news: News, now: float) -> None:
        """Hand out what an answer says."""
        # Moves before the results: these are as young or younger.
        if news.cleared:
            self._holds.cleared(self.session.cleared)
        if news.missed:
            self._holds.cleared(news.missed)
        if news.epochs or news.dropped:
            self._holds.moved(news.epochs, news.dropped)
        for key, younger, older in news.merged:
            self._holds.merged(key, younger, older)
        if self.ledger is not None:
            if news.cleared:
                self.ledger.cleared(self._own, by_us=False, now=now)
            for key in news.epochs:
                self.ledger.moved(key, self._own(key), now)
        if news.results is not None:
            if self._errand is not None:
                self._settle_errand(self._errand, news.results, news, now)
            else:
                self._settle_batch(news.results, news, now)

    def _own(self, key: str) -> int:
        piece = self.session.slices.get(key)
        return piece.value if piece else 0

    def _stamp(self, key: str, news: News) -> int:
        """Return the stamp of the slice that the result for ``key`` is about (P36)."""
        piece = self.session.slices.get(key)
        return news.stamps.get(key, news.ground if piece is None else piece.stamp)

    def _settle_batch(self, results: Sequence[Result], news: News, now: float) -> None:
        counts, self._counts = self._counts, 0
        parcels, self._parcels = self._parcels, []
        if self.ledger is not None:
            self._settle_counts(self.ledger, results[:counts], news, now)
        again: list[Operation] = []
        for parcel, result in zip(parcels, results[counts:], strict=False):
            if isinstance(result, Before):
                self._deliver(parcel, result, news, now)
            elif isinstance(result, Declined):
                self._decline(parcel, result, now)
            elif result is Verdict.REFUSED:
                self._refuse(parcel.operations)
            elif result is Verdict.UNKNOWN:
                self._leave_unknown(parcel.operations, news)
            else:
                for operation in parcel.operations:
                    operation.folds = operation.folds and result is not Verdict.SPLIT
                    if isinstance(operation, Release) and operation.ends.void:
                        self._released(operation)
                    else:
                        again.append(operation)
        self.mailbox.give_back(again)
        # What the results have told may be void by now, in keys that have moved since.
        if news.gone:
            self._holds.moved({}, news.gone)
        if self.ledger is not None:
            for key in news.gone:
                self.ledger.moved(key, self._own(key), now)

    def _settle_counts(
        self, ledger: Ledger, results: Sequence[Result], news: News, now: float
    ) -> None:
        settled = ledger.settle(results, now)
        if Verdict.RETRY in results or Verdict.MOVED in results:
            self._counts_are_back()
        if settled.lost:
            logger.error(
                "counts of %d keys were refused by the store and are lost: %s",
                len(settled.lost),
                ", ".join(settled.lost[:10]),
            )
        self._take_in(settled, lambda key: self._stamp(key, news))

    def _take_in(self, settled: Settled, stamp: Callable[[str], int]) -> None:
        for hold in settled.landed:
            self._holds.landed(hold, stamp(hold.key))
        for hold in settled.ended:
            if hold.at > (older := stamp(hold.key)):
                self._holds.merged(hold.key, hold.at, older)  # it was taken from another slice
            self._holds.ended(hold)
        for hold in settled.postponed:
            release = self._releases[hold] = Release(hold)
            self._postponed.append(release)
        self._punch(settled.keys)

    def _counts_are_back(self) -> None:
        """Counts that were to go ahead of a bundle are pending again."""
        barrier = self.mailbox.barrier()
        if isinstance(barrier, Bundle):
            barrier.behind_counts = False

    def _deliver(self, parcel: Parcel, before: Before, news: News, now: float) -> None:
        """Give each caller the values its own operation found, as if they had run in turn."""
        cumulative, own = before
        entry, operations = parcel.entry, parcel.operations
        self.operations_done += len(operations)
        if entry.kind is Kind.ADD or entry.kind is Kind.CLAIM:
            for operation in operations:
                if type(operation) is not Operation:
                    self._settle_hold(operation, news)
                operation.cumulative, operation.own = cumulative, own
                task = operation.task
                if task is not None:
                    operation.task = None
                    reschedule(task, operation)
                value = operation.value
                cumulative += value
                own += value
        else:
            operations[0].done(cumulative, own)
            cumulative, own = after(entry, before)
            if entry.kind is Kind.MOVE:
                self._holds.moved({}, {entry.key: news.at})
        if self.ledger is not None:
            self.ledger.read(entry.key, cumulative, own, now)

    def _decline(self, parcel: Parcel, found: Declined, now: float) -> None:
        self.operations_done += 1
        (operation,) = parcel.operations
        assert isinstance(operation, SpecialOperation)
        operation.declined = True
        operation.done(*found)
        if self.ledger is not None:
            self.ledger.read(parcel.entry.key, *found, now)

    def _refuse(self, operations: Sequence[Operation]) -> None:
        for operation in operations:
            if isinstance(operation, Release):
                # The cumulative has no room for it now: with a later beat it may (I12).
                self._postponed.append(operation)
            else:
                operation.fail(overflow())

    def _leave_unknown(self, operations: Sequence[Operation], news: News) -> None:
        for operation in operations:
            if operation.hold is not None:
                # It shares the fate of the slice that it was folded into (P20).
                self._holds.landed(operation.hold, self._stamp(operation.key, news))
                self.release(operation.hold)
            elif operation.owed:
                self._released(operation)
            operation.fail(unknown())

    # -------------------------------------------------------------------- errands

    def _settle_errand(
        self, errand: Errand, results: Sequence[Result], news: News, now: float
    ) -> None:
        operation, at = errand.operation, news.at
        if results and results[0] is Verdict.RETRY:
            if errand.begun:
                return  # half of it is done: its end is owed, whether or not the caller waits
            self._errand = None
            self._end_seizure(errand, at, now, void=False)
            self.mailbox.give_back([operation])
            return
        if not errand.settle(results):
            if self.ledger is not None:
                errand.teach(self.ledger, now)
            return
        self._errand = None
        known = not isinstance(errand.error, OutcomeUnknownError)
        self._end_seizure(errand, at, now, void=known)
        if known:
            errand.end_holds(self._holds, at)
            if self.ledger is not None:
                errand.teach(self.ledger, now)
        if errand.error is not None:
            operation.fail(errand.error)
            return
        self.operations_done += 1
        if operation.hold is not None and isinstance(results[0], Before):
            self._begin(operation.hold, self._stamp(operation.hold.key, news), operation)
        operation.done()

    def _end_seizure(self, errand: Errand, at: int, now: float, *, void: bool) -> None:
        if self.ledger is not None and errand.seizes:
            settled = self.ledger.release(void=void, now=now)
            # As if they had been sent just before.
            self._take_in(settled, lambda _: at - 1)

    # ---------------------------------------------------------------------- holds

    def release(self, hold: Hold) -> None:
        """Take back what a hold has added, some time soon, unless that is void."""
        if hold.released:
            return
        hold.released = True
        if self.ledger is not None:
            self.ledger.give_back(hold)
        elif not hold.void:
            release = self._releases[hold] = Release(hold)
            self.mailbox.owe(release)

    def reclaim(self, hold: Hold) -> bool:
        """Undo `release`, if nothing of it has been sent yet; False if it is too late."""
        if hold.void or not hold.released:
            return False
        if self.ledger is not None:
            if not self.ledger.keep(hold):
                return False
        else:
            release = self._releases.get(hold)
            if release is None or not release.withdraw():
                return False
            del self._releases[hold]
        hold.released = False
        return True

    def release_all(self) -> None:
        """End every hold, because nobody can later."""
        for hold in self._holds.outstanding():
            self.release(hold)

    def revive(self) -> None:
        """Try again to take back what the store had to refuse."""
        postponed, self._postponed = self._postponed, []
        for release in postponed:
            if self.ledger is None:
                self.mailbox.owe(release)
            else:
                del self._releases[release.ends]
                self.ledger.give_back(release.ends)

    def _settle_hold(self, operation: Operation, news: News) -> None:
        if operation.hold is not None:
            self._begin(operation.hold, self._stamp(operation.key, news), operation)
        elif operation.owed:
            self._released(operation)

    def _begin(self, hold: Hold, at: int, operation: Operation) -> None:
        """An addition has been made; if its caller has gone, nobody else takes it back."""
        self._holds.landed(hold, at)
        if operation.task is None:
            self.release(hold)

    def _released(self, release: Operation) -> None:
        assert isinstance(release, Release)
        self._releases.pop(release.ends, None)
        self._holds.ended(release.ends)

    def _on_void(self, hold: Hold) -> None:
        if self.ledger is not None:
            self.ledger.void(hold)
        release = self._releases.pop(hold, None)
        if release is not None:
            release.withdraw()
            if release in self._postponed:
                self._postponed.remove(release)

    # ------------------------------------------------------------------ failures

    def refused(self, error: Exception) -> None:
        """The store refuses the batch: its operations fail, lax counts stay pending."""
        taken = self._taken()
        if not taken and isinstance(self.mailbox.barrier(), Bundle):
            # The batch was counts that had to go ahead of it: it would wait for them for ever.
            taken.append(self.mailbox.take_barrier())
        self._fail([op for op in taken if not op.owed], lambda: copy_of(error))
        self._postponed += [op for op in taken if isinstance(op, Release)]
        self._fail_tickets(error)

    def fail_waiting(self, error: Exception) -> None:
        """Give everybody who waits and was not taken along an error."""
        waiting = self.mailbox.drain()
        self._fail([op for op in waiting if not op.owed], lambda: copy_of(error))
        self._postponed += [op for op in waiting if isinstance(op, Release)]
        self._fail_tickets(error)

    def abandon(self, waiting: Exception, taken: Exception) -> int:
        """Nothing will be sent any more; return how many writes were taken along in vain."""
        operations = self._taken()
        self._fail(operations, lambda: copy_of(taken))
        self.fail_waiting(waiting)
        return sum(operation.writes for operation in operations)

    def _taken(self) -> list[Operation]:
        """Take apart what was to be the batch; its counts are pending again."""
        operations = [operation for parcel in self._parcels for operation in parcel.operations]
        if self._errand is not None:
            operations.append(self._errand.operation)
            self._errand = None
        if self._inquiry is not None:
            operations.append(self._inquiry)
            self._inquiry, self._asking = None, False
        self._counts, self._parcels = 0, []
        if self.ledger is not None:
            self.ledger.release(void=False, now=0.0)
            self.ledger.unsend()
            self._counts_are_back()
        return operations

    def _fail(self, operations: Sequence[Operation], error: Callable[[], Exception]) -> None:
        for operation in operations:
            operation.fail(error())

    # --------------------------------------------------------------------- flush

    def ticket(self, unsettled: dict[Tally, int]) -> FlushTicket:
        """Return a ticket that ends when ``unsettled`` is settled."""
        ticket = FlushTicket(unsettled)
        self._tickets.append(ticket)
        return ticket

    def drop(self, ticket: FlushTicket) -> None:
        """Forget a ticket whose holder has gone."""
        if ticket in self._tickets:
            self._tickets.remove(ticket)

    def _punch(self, settled: Sequence[str]) -> None:
        if settled and self._tickets and self.ledger is not None:
            tallies = [self.ledger.tallies[key] for key in settled]
            done = [ticket for ticket in self._tickets if ticket.settled(tallies)]
            for ticket in done:
                self._tickets.remove(ticket)
                ticket.event.set()

    def _fail_tickets(self, error: Exception) -> None:
        tickets, self._tickets = self._tickets, []
        for ticket in tickets:
            ticket.error = copy_of(error)
            ticket.event.set()
