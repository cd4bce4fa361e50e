"""Between those who count and the session: what goes into a batch, and who hears of it.

No I/O and no waiting: the actor calls `collect` when it is about to send, and `settle`
when it knows what became of it.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence

import trio

from ._core._ledger import Ledger
from ._core._messages import MAX_ENTRIES, Before, Entry, Kind, Result, Verdict
from ._core._session import News, Session
from ._errors import CounterOverflowError, DistkitError, OutcomeUnknownError
from ._mailbox import Barrier, Mailbox, Operation, Parcel

logger = logging.getLogger("distkit_actors")


class FlushTicket:
    """Somebody waits until everything counted so far is in the store."""

    def __init__(self, unsettled: Counter[str]) -> None:
        self.unsettled = unsettled
        self.event = trio.Event()
        self.error: Exception | None = None

    def settled(self, keys: Sequence[str]) -> bool:
        """Take in that ``keys`` were acknowledged once more; True when nothing is missing."""
        self.unsettled.subtract(keys)
        return not +self.unsettled


class Dispatch:
    """Collects batches from the mailbox and the ledger, and hands the answers back."""

    def __init__(self, session: Session, mailbox: Mailbox, ledger: Ledger | None) -> None:
        self.session = session
        self.mailbox = mailbox
        self.ledger = ledger
        self.operations_done = 0
        self._counts = 0  # entries of the batch that come from the ledger
        self._parcels: list[Parcel] = []
        self._sweep: _Sweep | None = None
        self._tickets: list[FlushTicket] = []

    @property
    def waiting(self) -> bool:
        """Whether somebody waits for an answer from the store."""
        return self.mailbox.length > 0 or self._sweep is not None

    @property
    def pending(self) -> int:
        """How many keys have lax counts to send."""
        return self.ledger.dirty if self.ledger else 0

    # ------------------------------------------------------------------- sending

    def collect(self, now: float, *, flush: bool) -> list[Entry]:
        """Return the entries of the next batch: at most `MAX_ENTRIES`."""
        barrier = self.mailbox.barrier()
        if self._sweep is not None or barrier is not None:
            return self._collect_barrier(barrier)
        if self.ledger is None:
            self._parcels = self.mailbox.take(MAX_ENTRIES, self.session.slices)
            return [parcel.entry for parcel in self._parcels]
        self._parcels = self.mailbox.take(MAX_ENTRIES // 2, self.session.slices)
        entries = [parcel.entry for parcel in self._parcels]
        # An operation acts behind the counts that were made before it, in the same step.
        touched = [entry.key for entry in entries if entry.kind is not Kind.ADD]
        room = MAX_ENTRIES - len(entries) if flush else 0
        counts, nothing = self.ledger.send(room, now, first=touched)
        self._counts = len(counts)
        self._punch(nothing)
        return counts + entries

    def _collect_barrier(self, barrier: Operation | None) -> list[Entry]:
        if self._sweep is None:
            assert barrier is not None
            self.mailbox.take_barrier()
            if self.ledger is not None:
                self.ledger.seize()
            self._sweep = _Sweep(barrier)
        return self._sweep.step(self.session)

    # ------------------------------------------------------------------ settling

    def settle(self, news: News, now: float) -> None:
        """Hand out what an answer says."""
        if self.ledger is not None:
            # Before the results: they are as young as the moves or younger.
            if news.cleared:
                self.ledger.cleared(self._own, by_us=False, now=now)
            for key in news.moved:
                self.ledger.moved(key, self._own(key), now)
        if news.results is not None:
            if self._sweep is not None:
                self._settle_barrier(self._sweep, news.results, now)
            else:
                self._settle_batch(news.results, now)

    def _own(self, key: str) -> int:
        piece = self.session.slices.get(key)
        return piece.value if piece else 0

    def _settle_batch(self, results: Sequence[Result], now: float) -> None:
        counts, self._counts = self._counts, 0
        parcels, self._parcels = self._parcels, []
        if self.ledger is not None:
            settled, lost = self.ledger.settle(results[:counts], now)
            if lost:
                logger.error(
                    "counts of %d keys were refused by the store and are lost: %s",
                    len(lost),
                    ", ".join(lost[:10]),
                )
            self._punch(settled)
        again: list[Operation] = []
        for parcel, result in zip(parcels, results[counts:], strict=False):
            if isinstance(result, Before):
                self._deliver(parcel, result, now)
            elif result is Verdict.REFUSED:
                self._fail(parcel.operations, _overflow)
            elif result is Verdict.UNKNOWN:
                self._fail(parcel.operations, _unknown)
            else:
                for operation in parcel.operations:
                    operation.alone = operation.alone or result is Verdict.SPLIT
                again += parcel.operations
        self.mailbox.give_back(again)

    def _deliver(self, parcel: Parcel, before: Before, now: float) -> None:
        """Give each caller the values its own operation found, as if they had run in turn."""
        cumulative, own = before
        operations = parcel.operations
        self.operations_done += len(operations)
        kind, key, value = parcel.entry[:3]
        if kind is Kind.ADD:
            for operation in operations:
                operation.done(Before(cumulative, own))
                cumulative += operation.value
                own += operation.value
        else:
            operations[0].done(before)
            cumulative = value if kind is Kind.MOVE else cumulative - own + value
            own = value
        if self.ledger is not None:
            self.ledger.read(key, cumulative, own, now)

    def _settle_barrier(self, sweep: _Sweep, results: Sequence[Result], now: float) -> None:
        if results and results[0] is Verdict.RETRY:
            if sweep.begun:
                return  # half of it is done: its end is owed, whether or not the caller waits
            self._sweep = None
            self._end_seizure(now, void=False)
            self.mailbox.give_back([sweep.operation])
            return
        sweep.settle(results)
        if sweep.operation.kind is Barrier.CLEAR and results[0] is Verdict.UNKNOWN:
            self._sweep = None
            self._end_seizure(now, void=False)
            self._fail([sweep.operation], _unknown)
            return
        if sweep.more(self.session):
            return
        self._sweep = None
        self._end_seizure(now, void=True)
        if self.ledger is not None:
            if sweep.operation.kind is Barrier.CLEAR:
                self.ledger.cleared(lambda _: 0, by_us=True, now=now)
            else:
                for key, cumulative in sweep.removed.items():
                    self.ledger.read(key, cumulative, 0, now)
        if sweep.refused:
            self._fail([sweep.operation], lambda: _stuck(sweep.refused))
        else:
            self.operations_done += 1
            sweep.operation.done(None)

    def _end_seizure(self, now: float, *, void: bool) -> None:
        if self.ledger is not None:
            self._punch(self.ledger.release(void=void, now=now))

    # ------------------------------------------------------------------ failures

    def refused(self, error: Exception) -> None:
        """The store refuses the batch: its operations fail, lax counts stay pending."""
        self._fail(self._taken(), lambda: _copy(error))
        self._fail_tickets(error)

    def fail_waiting(self, error: Exception) -> None:
        """Give everybody who waits and was not taken along an error."""
        self._fail(self.mailbox.drain(), lambda: _copy(error))
        self._fail_tickets(error)

    def abandon(self, waiting: Exception, taken: Exception) -> int:
        """Nothing will be sent any more; return how many writes were taken along in vain."""
        operations = self._taken()
        self._fail(operations, lambda: _copy(taken))
        self.fail_waiting(waiting)
        return sum(bool(op.value) or op.kind is not Kind.ADD for op in operations)

    def _taken(self) -> list[Operation]:
        """Take apart what was to be the batch; its counts are pending again."""
        operations = [operation for parcel in self._parcels for operation in parcel.operations]
        if self._sweep is not None:
            operations.append(self._sweep.operation)
            self._sweep = None
            if self.ledger is not None:
                self.ledger.release(void=False, now=0.0)
        self._counts, self._parcels = 0, []
        if self.ledger is not None:
            self.ledger.unsend()
        return operations

    def _fail(self, operations: Sequence[Operation], error: Callable[[], Exception]) -> None:
        for operation in operations:
            operation.done(None, error())

    # --------------------------------------------------------------------- flush

    def ticket(self, unsettled: Counter[str]) -> FlushTicket:
        """Return a ticket that ends when ``unsettled`` is settled."""
        ticket = FlushTicket(unsettled)
        self._tickets.append(ticket)
        return ticket

    def drop(self, ticket: FlushTicket) -> None:
        """Forget a ticket whose holder has gone."""
        if ticket in self._tickets:
            self._tickets.remove(ticket)

    def _punch(self, settled: Sequence[str]) -> None:
        if settled and self._tickets:
            done = [ticket for ticket in self._tickets if ticket.settled(settled)]
            for ticket in done:
                self._tickets.remove(ticket)
                ticket.event.set()

    def _fail_tickets(self, error: Exception) -> None:
        tickets, self._tickets = self._tickets, []
        for ticket in tickets:
            ticket.error = _copy(error)
            ticket.event.set()


class _Sweep:
    """A barrier on its way; `clear_on_instance` may take several steps (I10)."""

    def __init__(self, operation: Operation) -> None:
        self.operation = operation
        self.removed: dict[str, int] = {}  # {key: cumulative afterwards}
        self.refused: list[str] = []
        self._tried: set[str] = set()
        self._step: list[str] = []

    @property
    def begun(self) -> bool:
        """Whether a step of it has been executed."""
        return bool(self._tried)

    def step(self, session: Session) -> list[Entry]:
        if self.operation.kind is Barrier.CLEAR:
            return [Entry(Kind.CLEAR, "", 0)]
        self._step = self._left(session)[:MAX_ENTRIES]
        return [Entry(Kind.PUT, key, 0) for key in self._step]

    def settle(self, results: Sequence[Result]) -> None:
        for key, result in zip(self._step, results, strict=False):
            self._tried.add(key)
            if isinstance(result, Before):
                self.removed[key] = result.cumulative - result.slice
            elif result is Verdict.REFUSED:
                self.refused.append(key)

    def more(self, session: Session) -> bool:
        return self.operation.kind is Barrier.CLEAR_OWN and bool(self._left(session))

    def _left(self, session: Session) -> list[str]:
        keys = dict.fromkeys(session.slices) | dict.fromkeys(key for key, _ in session.withheld)
        return [key for key in keys if key not in self._tried]


def _overflow() -> Exception:
    return CounterOverflowError(
        "the slice or the cumulative would leave the signed 64-bit range; nothing was changed"
    )


def _stuck(keys: list[str]) -> Exception:
    return CounterOverflowError(
        f"{len(keys)} slices could not be removed, because the cumulative would leave the signed "
        f"64-bit range; all others were: {', '.join(keys[:10])}"
    )


def _unknown() -> Exception:
    return OutcomeUnknownError(
        "the store lost its record of this operation before it could answer, so nobody knows "
        "whether it took effect; it is not repeated: read the value and decide"
    )


def _copy(error: Exception) -> Exception:
    """Return an error of its own for each caller: a shared one would collect tracebacks."""
    if not isinstance(error, DistkitError):
        return error
    copy = type(error)(*error.args)
    copy.__cause__ = error.__cause__
    return copy
