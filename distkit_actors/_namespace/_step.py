"""One step: what a batch, or a piece of a resume, does to a namespace (P4, P5, P10 … P17).

The parts of a step run in the order that ``docs/protocol.md`` gives them. In Lua:
``included/step.lua``, with ``apply.lua`` and ``resume.lua``.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from .._protocol._messages import (
    Applied,
    Apply,
    Conflict,
    Entry,
    Journal,
    Kind,
    Mismatch,
    MustResume,
    Reply,
    Resume,
    Slice,
    Stale,
)
from . import _reaper
from ._entries import Step, heard_by
from ._healing import Healing
from ._observed_time import RECENT_PART
from ._registry import Record, State


class Execution(Healing):
    """A namespace that executes batches and resumes."""

    def _execute(self, request: Apply | Resume, now: int) -> Reply:
        refusal = self._judge(request, now)
        if refusal is None and isinstance(request, Resume) and request.first:
            refusal = self._disagreement(request, now)
        return refusal or self._step(request, now)

    def _disagreement(self, request: Resume, now: int) -> Reply | None:
        """Answer an instance that comes back and disagrees with the living (P44, parts)."""
        registry = self.registry
        return None if registry.agree(request.partitions, now) else Mismatch(registry.partitions)

    def _birth(self, now: int) -> int:
        """Return when this namespace was made, which is now if it holds nothing yet."""
        if not self.born:
            self.born = self.clock = max(self.clock + 1, now)
        return self.born

    def _judge(self, request: Apply | Resume, now: int) -> Reply | None:
        """Answer a request that must not be executed."""
        record = self.registry.records.get(request.instance)
        born = self._birth(now)
        restarts = isinstance(request, Resume) and request.first
        same_birth = isinstance(request, Resume) and request.born == born
        if record is None or request.incarnation > record.incarnation:
            return None if restarts and same_birth else MustResume(None, born)
        if request.incarnation < record.incarnation:
            return Conflict(record.incarnation)
        if request.seq == record.seq:
            if record.state is State.LIVE:
                self._refresh(record, now)  # it was sent once more, so its instance lives
            return record.reply
        if request.seq < record.seq:
            return Stale()
        if restarts:
            return None if same_birth else MustResume(record.seq, born)
        if record.state is not State.LIVE or record.seq != request.follows:
            return MustResume(record.seq, born)
        return None

    def _step(self, request: Apply | Resume, now: int) -> Applied:
        epochs = self.registry.epochs
        record, refreshed, late = self._touch(request, now)
        at = max(self.clock + 1, now)
        entries = request.entries if isinstance(request, Apply) else request.claims
        budget = request.budget if isinstance(request, Apply) else 0
        reaped = _reaper.reap(self.registry, now, late, budget, (e.key for e in entries))

        journal, more = self._catch_up(record, request.known)
        if more:
            journal = self._catch_up_with(record, entries, journal)
        moved = self._moved_since(request) if isinstance(request, Apply) else set[str]()
        moved_before = epochs.latest
        again = isinstance(request, Resume) and self._reassert(request, record, at, now)
        if not again:  # else it may still have leftovers (P11, forgetting moves)
            record.known = max(record.known, heard_by(request))
        step = Step(record, request, at, now, moved)
        results = () if again else self._run_all(step, entries)
        if isinstance(request, Apply) and request.leave:
            self.registry.mark_dead(request.instance, record, State.LEFT, now)

        record.seq = request.seq
        leaves = isinstance(request, Apply) and request.leave
        record.reply = Applied(at, () if leaves else results, again=again)
        moved_now = len(entries) if epochs.latest != moved_before else 0
        if refreshed or moved_now:
            self._forget_moves(now, request.periods.retention, moved_now)
        latest = journal.latest if more else epochs.latest
        archived = epochs.archived if isinstance(request, Resume) else 0
        journal = Journal(epochs.cleared, epochs.floor, latest, journal.moves, archived)
        backlog = 1 if more else reaped.backlog
        return Applied(at, results, journal, backlog, reaped.stuck, again)

    def _touch(self, request: Apply | Resume, now: int) -> tuple[Record, bool, int]:
        """Write a sign of life down, unless the last one is recent.

        Returns the record, whether it did, and for how long the step was held up (P42, overload).
        """
        registry = self.registry
        record = registry.records.get(request.instance)
        if not (isinstance(request, Resume) and request.first):
            assert record is not None  # else it must resume
            return record, *self._refresh(record, now)
        registry.observed.hear(now)
        if record is None or record.incarnation != request.incarnation:
            old = record
            periods, known = request.periods, heard_by(request)
            if old:  # it may have leftovers of an older incarnation, which knew less
                known = min(known, old.known)
            record = Record(request.incarnation, "", periods, known, request.about)
            record.swept = registry.epochs.cleared
            if old:
                record.slices, record.swept = old.slices, old.swept
        registry.revive(request.instance, record, request.periods)
        # An incarnation is a used stamp, and so is ``known``. No stamp up to these is given out
        # again (P6, one clock).
        self.clock = max(self.clock, now, request.incarnation, request.known)
        return record, True, 0

    def _refresh(self, record: Record, now: int) -> tuple[bool, int]:
        """Write a sign of life of a living instance down, unless the last one is recent."""
        observed, periods, heard = self.registry.observed, record.periods, record.heard
        steady = observed.steady(now)
        # After a jump back of the clock, nothing is recent: the jump has to be taken down first.
        if steady >= observed.last and steady - heard.at < periods.threshold // RECENT_PART:
            return False, 0
        observed.hear(now, periods, heard)
        late = observed.note_lateness(periods, heard)
        self.registry.beat(record)
        self.clock = max(self.clock, now)
        return True, late

    def _catch_up(self, record: Record, known: int) -> tuple[Journal, bool]:
        """Drop the instance's slices that others' moves made void (P10, learning moves)."""
        epochs = self.registry.epochs
        if known < epochs.cleared and record.swept < epochs.cleared:
            # Only its own steps make its slices. This is the first one since: all go at once.
            record.slices, record.swept = OrderedDict[str, Slice](), epochs.cleared
        journal, more = epochs.since(known)
        for key, epoch in journal.moves:
            if key in record.slices and record.slices[key].stamp < epoch:
                del record.slices[key]
        return journal, more

    def _catch_up_with(self, record: Record, entries: Sequence[Entry], journal: Journal) -> Journal:
        """Judge the own slices in the keys of ``entries`` by moves that are told later.

        P10, learning moves.

        Returns the journal with these moves added, so that the instance hears of them now.
        """
        epochs = self.registry.epochs
        keys = dict.fromkeys(e.key for e in entries if e.kind is not Kind.FORGET)
        moves = [(k, epochs.in_journal(k)) for k in keys if epochs.moved.get(k, 0) > journal.latest]
        for key, epoch in moves:
            if key in record.slices and record.slices[key].stamp < epoch:
                del record.slices[key]
        return journal._replace(moves=(*journal.moves, *moves))

    def _forget_moves(self, now: int, retention: int, moved_now: int) -> None:
        """Forget or archive moves that all have heard of (P11, forgetting moves; P45, archive)."""
        known_by_all = min((record.known for _, record in self.registry.contributors()), default=0)
        epochs = self.registry.epochs
        epochs.forget(min(now - retention, known_by_all), moved_now)
        epochs.put_away(known_by_all, retention)
