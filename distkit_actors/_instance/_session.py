"""The instance's half of the protocol: what to send next, and what an answer means.

A `Session` holds what the instance knows for certain: its own slices and epoch moves, as
acknowledged (``_own_copy``), and the one batch that is not acknowledged yet (P12, one request). It
does no I/O. Its user asks `request` what to send, and reports with `lost` or `receive` what became
of it. Nothing is forgotten before the answer that allows it. The phases of a session are a table in
``_phases``; how it begins is in ``_takeover``, and how it returns to a store that lost it in
``_resumption``.

The rules (P12 and so on) are explained in ``docs/protocol.md``.

This file is a little longer than others: for each reply it has what is right in every phase, which
is seen better on one page.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from .._protocol._messages import (
    Applied,
    Apply,
    Conflict,
    Entry,
    Kind,
    Loaded,
    MustResume,
    Opened,
    Peek,
    Peeked,
    Previous,
    Rejection,
    Reply,
    Request,
    Resume,
    Slice,
    made,
)
from ._phases import Event, Phase, ProtocolError, after
from ._resumption import Resumption
from ._session_state import Batch, Update
from ._session_view import SessionView

__all__ = ["Phase", "ProtocolError", "Session"]

# Looked up once: before Python 3.12 a member of an enum costs as much as a call.
_LIVE: Final = Phase.LIVE
_BEGUN: Final = Event.BEGUN
_DONE: Final = Event.DONE


class Session(SessionView):
    """One incarnation of an instance, as the instance sees it."""

    def name(self, instance: str, nonce: str, about: str = "") -> None:
        """Give the session the id and the nonce that were drawn for it; before the first request.

        An actor draws them when it starts. So if a process is forked before that, the actor is
        another instance in each process.
        """
        if self._takeover.attempt or self.phase is not Phase.PEEK:
            raise ProtocolError("an instance that has begun to open keeps its name")
        self.instance, self._takeover.base_nonce, self.about = instance, nonce, about

    # ------------------------------------------------------------------- sending

    def begin(
        self,
        entries: Iterable[Entry],
        *,
        leave: bool = False,
        budget: int = 0,
        atomic: bool = False,
    ) -> None:
        """Make a batch of ``entries`` the outstanding one.

        With ``atomic``, none is executed if one is refused. Such a batch has either only moves of
        epochs, which are never refused, or none of them.
        """
        phase = after(self.phase, _BEGUN)
        if self._batch is not None:
            raise ProtocolError("a batch was begun before the one before it was answered")
        batch = Batch(self.own.with_beliefs(entries), budget, leave, atomic)
        batch.check()
        self.phase = phase
        self._batch = batch
        self.used += 1

    def begin_addition(self, key: str, value: int, *, budget: int) -> Entry:
        """Do as `begin` with one addition, and return its entry."""
        phase = after(self.phase, _BEGUN)
        if self._batch is not None:
            raise ProtocolError("a batch was begun before the one before it was answered")
        entry = self.own.addition(key, value)
        self.phase = phase
        self._batch = Batch((entry,), budget, False, False)
        self.used += 1
        return entry

    def request(self) -> Request | None:
        """Return what to send now; the same until `receive` gets its answer; None when idle."""
        if self.phase is _LIVE:
            return self._apply(self._batch) if self._batch else None
        match self.phase:
            case Phase.PEEK:
                return Peek(self.instance)
            case Phase.OPEN:
                return self._takeover.open(self.instance, self.periods, self.about)
            case Phase.LOAD:
                return self._takeover.load(self.instance, self.incarnation, self.used)
            case Phase.RESUME:
                return self._resume_piece()
            case _:
                return None

    def _apply(self, batch: Batch) -> Apply:
        return made(
            Apply,
            (
                self.instance,
                self.incarnation,
                self.used,
                self.own.known,
                self.periods,
                batch.entries,
                batch.leave,
                batch.budget,
                batch.atomic,
                self.seq,
            ),
        )

    def lost(self) -> None:
        """Note that the request may have been executed, and that no answer will come."""
        if self._batch:
            self._batch.doubt = True
        elif self.phase is Phase.LOAD:
            # The store may have changed: it may have more or fewer slices than have been loaded.
            self._load()

    def _load(self) -> None:
        """Begin to load the inherited slices, with a new sequence number (P25, opening)."""
        self.own.slices.clear()
        self._takeover.cursor = ""
        self.used += 1

    def withdraw(self) -> None:
        """Give the outstanding batch up, which was certainly not executed (P16, repeat).

        If it was executed after all, the store notices with the next request (P39, unique numbers).
        """
        if self.in_doubt:
            raise ProtocolError("a batch that may have run was withdrawn")
        self.phase = after(self.phase, Event.WITHDRAWN)
        self._batch = None

    def abandon(self) -> None:
        """Send nothing any more, in a forked process: the instance lives on in the other one."""
        self.phase = after(self.phase, Event.ABANDONED)

    # ----------------------------------------------------------------- receiving

    def receive(self, reply: Reply) -> Update:
        """Take the answer to `request` in, and return what it has changed.

        An answer that does not fit the request raises `ProtocolError`, and changes nothing.
        """
        if self.phase is _LIVE and self._batch is None:  # idle
            raise self._misfit(reply)
        match reply:
            case Applied():
                if self.phase is Phase.RESUME:
                    return self._resumed(reply)
                return self._done(reply)
            case MustResume():
                return self._unknown(reply)
            case Conflict():
                return self._conflict()
            case Peeked():
                self._peeked(reply)
            case Opened():
                self._opened(reply)
            case Loaded():
                self._loaded(reply)
            case _:
                raise self._misfit(reply)
        return Update()

    def receive_addition(self, reply: Applied) -> Previous | None:
        """Do as `receive` for a batch of `begin_addition`, and return what it found.

        None if the answer tells of more than that: then nothing was done, and `receive` follows. A
        lone call takes 13 000 instructions less this way, as nothing else can have changed.
        """
        batch = self._batch
        at, results, journal, backlog, stuck, again = reply
        if self.phase is not _LIVE or batch is None or journal is None or backlog or again:
            return None
        if len(results) != 1 or type(before := results[0]) is not Previous:
            return None
        (entry,) = batch.entries
        if not self.own.replay_alone(entry, before, at, journal):
            return None
        self.seq, self.stuck, self._batch = self.used, stuck, None
        return before

    def _misfit(self, reply: Reply) -> ProtocolError:
        return ProtocolError(f"{reply} in answer to {self.request()}")

    def _peeked(self, reply: Peeked) -> None:
        refuses = self._takeover.refuses(reply)
        self.phase = after(self.phase, Event.HELD if refuses else Event.FREE)
        if not refuses:
            self._takeover.peeked(reply)

    def _opened(self, reply: Opened) -> None:
        if reply.inherited:
            event = Event.INHERITED
        else:
            event = Event.LEFTOVERS if reply.leftovers else Event.OPENED
        self.phase = after(self.phase, event)
        self.incarnation = reply.incarnation
        self.own.open(reply.incarnation, reply.known)
        self.seq = self.used = 0
        if event is Event.LEFTOVERS:
            self._restart()
        elif event is Event.INHERITED:
            self._load()

    def _loaded(self, reply: Loaded) -> None:
        self.phase = after(self.phase, Event.PAGE if reply.cursor else Event.LAST_PAGE)
        self.own.slices.update((k, Slice(v, stamp)) for k, v, stamp in reply.slices)
        self._takeover.cursor = reply.cursor
        if not reply.cursor:
            self.seq = self.used

    def _conflict(self) -> Update:
        self.phase = after(self.phase, Event.CONFLICT)
        batch, self._batch = self._batch, None
        if batch is None:
            return Update()
        result = Rejection.UNKNOWN if batch.doubt else Rejection.RETRY
        return Update([result] * len(batch.entries))

    def _done(self, reply: Applied) -> Update:
        batch = self._batch
        phase = after(self.phase, Event.LEFT if batch and batch.leave else _DONE)
        if batch is None or not batch.answered_by(reply):
            raise self._misfit(reply)
        self.phase = phase
        at, results, own = reply.at, reply.results, self.own
        update = Update(results, at)
        # The store keeps no results of a batch that leaves, so a repeat brings none.
        for entry, result in zip(batch.entries, results, strict=not batch.leave):
            if isinstance(result, Previous):
                own.replay(entry, result, at, update)
            elif entry.kind is Kind.CLAIM:
                own.retry(entry, result, update)
        self.seq = self.used
        self._batch = None
        update.backlog = reply.backlog
        if reply.journal:
            self.stuck = reply.stuck
        own.hear(reply, batch.entries, update)
        return update

    # ------------------------------------------------------------------ resuming

    def _unknown(self, reply: MustResume) -> Update:
        """Take in that the store does not know this instance any more, or not all of it."""
        batch, left = self._batch, False
        if batch is not None:
            left = batch.leave and batch.doubt and reply.recorded is None
        before, self.phase = self.phase, after(self.phase, Event.LEFT if left else Event.UNKNOWN)
        if before is Phase.LOAD:
            # It was taken for dead while it loaded. Its slices are being taken away, so there is
            # nothing to inherit (I11).
            self.own.slices.clear()
            self._takeover.cursor = ""
            return Update()
        self._takeover.born = reply.born
        if batch is None:
            self._restart()
            return Update()
        return self._must_resume(reply.recorded, batch)

    def _must_resume(self, recorded: int | None, batch: Batch) -> Update:
        """Find out what became of the batch, and begin to resume (P20, doubtful batch)."""
        # If the store has recorded more than was acknowledged, it has executed a batch that was
        # withdrawn (P39, unique numbers).
        lost = recorded is None or recorded < self.seq
        # One without entries is repeated: it has changed nothing, whether it was executed or not.
        applied_unknown = batch.doubt and lost and bool(batch.entries)
        self._batch = None
        if batch.leave:
            if self.phase is Phase.LEFT:
                return Update([Rejection.RETRY] * len(batch.entries))
            self.own.slices.clear()
            self.own.withheld.clear()
        if applied_unknown:
            resumption = Resumption()
            resumption.fold(batch, self.own)
            self._restart(resumption)
            return Update()
        self._restart()
        return Update([Rejection.RETRY] * len(batch.entries))

    def _restart(self, resumption: Resumption | None = None) -> None:
        """Begin to re-assert everything from the first piece on (P17, resume)."""
        fresh = resumption or Resumption()
        fresh.begin(self.own, self.holds, self._resumption if resumption is None else None)
        self._resumption = fresh
        self.used += 1

    def _resume_piece(self) -> Resume:
        work = self._resumption
        if work is None:
            raise ProtocolError("nothing to resume")
        if work.sent is None:
            moves, claims = work.piece(self.own, self.holds, self.bulk_size)
            work.sent = Resume(
                self.instance,
                self.incarnation,
                self.used,
                self.own.known,
                self.periods,
                self._takeover.born,
                work.first,
                self.own.cleared,
                moves,
                claims,
                self.about if work.first else "",
                self._takeover.partitions if work.first else 1,
                work.since,
            )
        return work.sent

    def _resumed(self, reply: Applied) -> Update:
        work = self._resumption
        phase = after(self.phase, Event.PIECE)
        if work is None or work.sent is None or not work.answered_by(reply):
            raise ProtocolError(f"{reply} in answer to {work and work.sent}")
        self.phase = phase
        self.seq = self.used
        update, told_from = Update(), work.sent.known
        work.executed(reply, self.own, update)
        if reply.journal:
            self.own.hear_late(reply.journal, reply.at, work.since, update)
        work.follow(update, self.own, news=reply.journal is not None)
        if reply.journal:
            work.told(told_from, reply.journal.archived, self.own.known)
        if not work.done:
            self.used += 1
            return update
        self._resumption = None
        self.phase = after(self.phase, Event.RESUMED)
        update.results, update.stamps = work.results, work.stamps
        update.void = {key: work.stamps[key] for key in work.void}
        update.at = update.ground = reply.at
        update.backlog = reply.backlog
        return update
