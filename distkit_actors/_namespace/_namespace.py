"""The store's half of the protocol: what each request does to a namespace.

This is the reference for every store: `MemoryStore` runs it as it stands, the Lua scripts
of `RedisStore` say the same in Redis' terms and are tested against it step by step. The
rules P1 … P27 are explained in ``docs/protocol.md``.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from itertools import islice
from typing import NamedTuple

from .._protocol._messages import (
    FOLD_LIMIT,
    MAX_PURGE,
    Applied,
    Apply,
    ConditionFailed,
    Conflict,
    Entry,
    Journal,
    Kind,
    Load,
    Loaded,
    MustResume,
    Open,
    Opened,
    Peek,
    Peeked,
    Previous,
    Query,
    Rejection,
    Reply,
    Request,
    Result,
    Resume,
    Slice,
    Stale,
    Watch,
    Watched,
)
from . import _query, _reaper
from ._registry import Record, Registry, State


class _Step(NamedTuple):
    """What the entries of a batch are run with."""

    record: Record
    request: Apply | Resume
    at: int
    now: int
    moved: AbstractSet[str]
    """Keys of guarded entries that have moved since the batch was made up."""


class Namespace:
    """Everything a store holds for one prefix, and what each request does to it.

    The reference that every store is compared with, and what one may run: a store that keeps a
    namespace for each prefix, and gives it one request at a time, has all that a store needs.
    It does no I/O, reads no clock and takes bounded time for a request.

    `execute` and `changed` are its interface. What else it has is the way it is made, and may
    change.
    """

    def __init__(self) -> None:
        self.registry = Registry()
        self.born = 0  # when it was made: a store that lost it makes another (P17, resume)
        self.clock = 0  # the last stamp used, or a later sign of life of anybody (P6, one clock)
        self.watched = 0  # until when changes are announced (P37, notifications)

    def execute(self, request: Request, now: int) -> Reply:
        """Run one request at store time ``now``: atomic, and at most once for each seq.

        ``now`` is microseconds by any clock that moves, such as the system's. It may jump: a
        jump neither kills the living nor keeps the dead.
        """
        self.registry.expire(now)
        self.registry.watched, self.registry.changed = now < self.watched, set()
        match request:
            case Peek():
                return self._peek(request, now)
            case Open():
                return self._open(request, now)
            case Load():
                return self._load(request, now)
            case Query():
                return _query.answer(self.registry, request, now)
            case Watch():
                self._birth(now)
                self.watched = max(self.watched, now + request.lease)
                return Watched()
            case Apply() | Resume():
                refusal = self._judge(request, now)
                return refusal or self._step(request, now)

    @property
    def changed(self) -> frozenset[str] | None:
        """The keys that the last request has changed, if somebody watches; None: any may have.

        A store that can push hands it on to those who have subscribed, see `Subscription`.
        """
        changed = self.registry.changed
        return None if changed is None else frozenset(changed)

    # --------------------------------------------------------- taking an id over

    def _peek(self, request: Peek, now: int) -> Peeked:
        record = self.registry.records.get(request.instance)
        born = self._birth(now)
        if record is None:
            return Peeked(0, born)
        return Peeked(record.incarnation, born, self.registry.alive(record, now))

    def _open(self, request: Open, now: int) -> Opened | Conflict:
        registry = self.registry
        old = registry.records.get(request.instance)
        if old and old.nonce == request.nonce:
            return self._opened(old)
        holder = old.incarnation if old else 0
        if holder != request.expected or request.born != self.born:
            return Conflict(holder)
        if request.refuse and old and registry.alive(old, now):
            return Conflict(holder)
        registry.observed.hear(now)
        self.clock = at = max(self.clock + 1, now)
        inherited = request.inherit and old is not None and old.state is State.LIVE
        known = old.hold if old and inherited else registry.epochs.latest
        record = Record(at, request.nonce, request.periods, known)
        record.inherited = inherited
        record.swept = registry.epochs.cleared
        if old:
            record.slices, record.swept = old.slices, old.swept
        registry.revive(request.instance, record, request.periods)
        if not inherited:
            registry.purge(request.instance, record, at, now)
        return self._opened(record)

    def _opened(self, record: Record) -> Opened:
        leftovers = bool(record.slices) and not record.inherited
        return Opened(record.incarnation, record.hold, record.inherited, leftovers)

    def _load(self, request: Load, now: int) -> Loaded | MustResume | Conflict:
        record = self.registry.records.get(request.instance)
        if record and request.incarnation < record.incarnation:
            return Conflict(record.incarnation)
        if (
            not record
            or record.incarnation != request.incarnation
            or record.state is not State.LIVE
        ):
            # Also where an older incarnation has come back after a data loss (P26, fencing).
            return MustResume(None, self._birth(now))
        start = int(request.cursor or 0)
        end = start + MAX_PURGE
        page = [
            (key, piece.value, piece.stamp)
            for key, piece in islice(record.slices.items(), start, end)
            if piece.stamp >= self.registry.epochs.of(key)
        ]
        if end < len(record.slices):
            return Loaded(str(end), page)
        record.seq = max(record.seq, request.seq)
        return Loaded("", page)

    # ------------------------------------------------------------------ the step

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
        answers_us = isinstance(request, Resume) and request.born == born
        if record is None or request.incarnation > record.incarnation:
            return None if restarts and answers_us else MustResume(None, born)
        if request.incarnation < record.incarnation:
            return Conflict(record.incarnation)
        if request.seq == record.seq:
            if record.state is State.LIVE:
                self._refresh(
                    record, request, now
                )  # it was sent once more, so that its instance lives
            return record.reply
        if request.seq < record.seq:
            return Stale()
        if restarts:
            return None if answers_us else MustResume(record.seq, born)
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
        step = _Step(record, request, at, now, moved)
        results = () if again else self._run_all(step, entries)
        if isinstance(request, Apply) and request.leave:
            self.registry.mark_dead(request.instance, record, State.LEFT, now)

        record.seq = request.seq
        leaves = isinstance(request, Apply) and request.leave
        record.reply = Applied(at, () if leaves else results, again=again)
        moved_now = len(entries) if epochs.latest != moved_before else 0
        if refreshed or moved_now:
            self._forget_moves(now - request.periods.retention, moved_now)
        latest = journal.latest if more else epochs.latest
        journal = Journal(epochs.cleared, epochs.floor, latest, journal.moves)
        return Applied(at, results, journal, reaped.backlog or more, reaped.stuck, again)

    def _touch(self, request: Apply | Resume, now: int) -> tuple[Record, bool, int]:
        """Write a sign of life down, unless the last one is recent.

        Returns the record, whether it did, and for how long the step was held up (P42, overload).
        """
        registry = self.registry
        record = registry.records.get(request.instance)
        if not (isinstance(request, Resume) and request.first):
            assert record is not None  # else it must resume
            return record, *self._refresh(record, request, now)
        registry.observed.hear(now)
        if record is None or record.incarnation != request.incarnation:
            old = record
            record = Record(request.incarnation, "", request.periods, request.known)
            record.swept = registry.epochs.cleared
            if old:
                record.slices, record.swept = old.slices, old.swept
        registry.revive(request.instance, record, request.periods)
        # An incarnation is a stamp that is used, too: it is not given out again (P6, one clock).
        self.clock = max(self.clock, now, request.incarnation)
        return record, True, 0

    def _refresh(self, record: Record, request: Apply | Resume, now: int) -> tuple[bool, int]:
        """Write a sign of life of a living instance down, unless the last one is recent."""
        observed, periods, heard = self.registry.observed, record.periods, record.heard
        steady = observed.steady(now)
        # After a jump back of the clock, nothing is recent: the jump has to be taken down first.
        if steady >= observed.last and steady - heard.at < request.periods.threshold >> 6:
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
            # Slices are made in own steps, of which this is the first since: all go at once.
            record.slices, record.swept = OrderedDict[str, Slice](), epochs.cleared
        journal, more = epochs.since(known)
        for key, epoch in journal.moves:
            if key in record.slices and record.slices[key].stamp < epoch:
                del record.slices[key]
        record.hold = max(record.hold, known)
        return journal, more

    def _catch_up_with(self, record: Record, entries: Sequence[Entry], journal: Journal) -> Journal:
        """Judge the own slices in the keys of ``entries`` by moves that are told later (P10).

        Returns the journal with these moves added, so that the instance hears of them now.
        """
        epochs = self.registry.epochs
        keys = dict.fromkeys(e.key for e in entries if e.kind is not Kind.FORGET)
        moves = [(k, epochs.of(k)) for k in keys if epochs.moved.get(k, 0) > journal.latest]
        for key, epoch in moves:
            if key in record.slices and record.slices[key].stamp < epoch:
                del record.slices[key]
        return journal._replace(moves=(*journal.moves, *moves))

    def _forget_moves(self, horizon: int, moved_now: int) -> None:
        """Forget moves that are old and that nobody has still to hear of (P11)."""
        heard = min((record.hold for _, record in self.registry.holders()), default=0)
        self.registry.epochs.forget(min(horizon, heard), moved_now)

    # ------------------------------------------------------------------- entries

    def _run_all(self, step: _Step, entries: Sequence[Entry]) -> tuple[Result, ...]:
        record = step.record
        atomic = isinstance(step.request, Apply) and step.request.atomic
        clock, undo = self.clock, list[tuple[str, int, Slice | None]]()
        results: list[Result] = []
        for entry in entries:
            key = entry.key
            if atomic:
                undo.append((key, self.registry.total(key), record.slices.get(key)))
            results.append(self._unless(step, entry) or self._run(step, entry))
        if atomic and Rejection.REFUSED in results:
            for key, total, own in reversed(undo):
                self.registry.put(key, total)
                self._write(record, key, own.value if own else 0, own.stamp if own else 0)
            self.clock = clock
            results = [r if r is Rejection.REFUSED else Rejection.UNDONE for r in results]
        return tuple(results)

    def _moved_since(self, request: Apply) -> set[str]:
        """Return the keys whose guarded entries must not be executed (P36, guarded release)."""
        epochs = self.registry.epochs
        known = request.known
        guarded = {entry.key for entry in request.entries if entry.guarded}
        return {k for k in guarded if max(epochs.cleared, epochs.moved.get(k, 0)) > known}

    def _unless(self, step: _Step, entry: Entry) -> Result | None:
        """Return why an entry must not be executed (P35, P36)."""
        key, condition = entry.key, entry.condition
        if entry.guarded and key in step.moved:
            return Rejection.MOVED
        if condition is None:
            return None
        own = step.record.slices.get(key)
        found = ConditionFailed(self.registry.total(key), own.value if own else 0)
        holds = condition.holds(found.slice if entry.of_own else found.cumulative)
        return None if holds else found

    def _run(self, step: _Step, entry: Entry) -> Result:
        record, request, at, now, _ = step
        key, value = entry.key, entry.value
        own = record.slices.get(key)
        before = Previous(self.registry.total(key), own.value if own else 0)
        match entry.kind:
            case Kind.ADD:
                if entry.folded and abs(before.cumulative) >= FOLD_LIMIT:
                    return Rejection.SPLIT
                if value == 0:
                    return before
                return self._add(record, entry, at, before)
            case Kind.PUT:
                if not self.registry.add(key, value - before.slice):
                    return Rejection.REFUSED
                self._write(record, key, value, own.stamp if own else at)
            case Kind.MOVE:
                self.registry.epochs.move(key, at)
                self.registry.add(key, value - before.cumulative)
                self.registry.note(key)  # slices have changed in any case
                self._write(record, key, value, at)
                self.clock = max(self.clock, at)
            case Kind.CLEAR:
                self.registry.epochs.clear(at)
                self.registry.forget_sums()
                record.slices, record.swept = OrderedDict(), at
                self.clock = max(self.clock, at)
            case Kind.FORGET:
                return Rejection.REFUSED if key == request.instance else self._forget(key, now)
            case Kind.CLAIM:
                forgotten = max(request.known, entry.stamp) < self.registry.epochs.floor
                if forgotten or entry.stamp < self.registry.epochs.of(key):
                    return Rejection.MOVED
                return self._add(record, entry, entry.stamp, before)
        return before

    def _forget(self, instance: str, now: int) -> Previous:
        """Take an instance for dead and its slices away, some in each step.

        Returns how many are left, and how many are gone.
        """
        registry = self.registry
        record = registry.records.get(instance)
        if record is None:
            return Previous(0, 0)
        if record.state is State.LIVE:
            registry.mark_dead(instance, record, State.DEAD, now)
        some = list(islice(record.slices, MAX_PURGE))
        gone = [key for key in some if registry.take_away(record, key)]
        if gone and not record.slices:
            registry.release(instance, record, now)
        return Previous(len(record.slices), len(gone))

    def _add(self, record: Record, entry: Entry, stamp: int, before: Previous) -> Result:
        own = record.slices.get(entry.key)
        after = entry.after if own else entry.value
        if after is None or not self.registry.add(entry.key, entry.value):
            return Rejection.REFUSED
        if own:
            # What becomes one is as old as the older: a move that makes void a part takes it all.
            stamp = min(own.stamp, stamp)
        self._write(record, entry.key, after, stamp)
        return before

    def _write(self, record: Record, key: str, value: int, stamp: int) -> None:
        """Store a slice; a 0 is none (P3). A stamp that is used is never given out again."""
        if value:
            record.slices[key] = Slice(value, stamp)
            self.clock = max(self.clock, stamp)
        else:
            record.slices.pop(key, None)

    # ------------------------------------------------------------------- healing

    def _reassert(self, request: Resume, record: Record, at: int, now: int) -> bool:
        """Take in what the store had lost, before any claim; True if leftovers remain."""
        registry = self.registry
        if request.first:
            if registry.purge(request.instance, record, at, now):
                self.clock = max(self.clock, at)
            if record.slices:
                return True
        if request.cleared > registry.epochs.cleared:
            self._clear_late(request.instance, request.cleared, now)
        for key, epoch in request.moves:
            if epoch > registry.epochs.of(key) and epoch > registry.epochs.floor:
                self._move_late(key, epoch, at, now)
        return False

    def _clear_late(self, caller: str, cleared: int, now: int) -> None:
        """Start again from the clear: everybody else must re-assert against it (P22)."""
        registry = self.registry
        registry.epochs.clear_late(cleared)
        self.clock = max(self.clock, cleared)  # a slice made from now on is younger
        registry.forget_sums()
        for instance, record in list(registry.holders()):
            record.slices, record.swept = OrderedDict(), cleared
            if instance != caller:
                state = State.DEAD if record.state is State.LIVE else record.state
                registry.reap_queue.pop(instance, None)
                registry.mark_dead(instance, record, state, now)

    def _move_late(self, key: str, epoch: int, at: int, now: int) -> None:
        """Remove what a lost move had made void; younger slices survive (P22, late moves)."""
        registry = self.registry
        counted_from = registry.epochs.of(key)
        registry.sums.pop(key, None)
        registry.note(key)
        holders = sorted(registry.holders(), key=lambda pair: (pair[1].hold, pair[0]))
        for instance, record in holders:
            own = record.slices.get(key)
            if own is None or own.stamp < counted_from:
                continue
            if own.stamp < epoch:
                del record.slices[key]
            elif not registry.add(key, own.value):
                # It waits with its owner until it fits (I12): the owner must re-assert it.
                del record.slices[key]
                if record.state is State.LIVE:
                    registry.mark_dead(instance, record, State.DEAD, now)
        registry.epochs.move_late(key, epoch, at)
        self.clock = max(self.clock, at, epoch)  # a slice made from now on is younger
