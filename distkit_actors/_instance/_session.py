"""The instance's half of the protocol: what to send next, and what an answer means.

A `Session` holds what the instance knows for certain: its own slices and epoch moves, as
acknowledged, and the one batch that is not acknowledged yet (P12, one request). It is driven from
outside: `request` says what to send, `lost` and `receive` say what came of it. Nothing is
forgotten before the answer that allows it. Its life is a table in ``_phases``.

The rules P12 … P27 are explained in ``docs/protocol.md``.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable
from itertools import chain, islice
from typing import Final

from .._protocol._messages import (
    FOLD_LIMIT,
    MAX_ENTRIES,
    MAX_MOVES,
    Applied,
    Apply,
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
    Periods,
    Previous,
    Rejection,
    Reply,
    Request,
    Result,
    Resume,
    Slice,
)
from .._protocol._values import fits
from ._phases import Event, Phase, ProtocolError, after
from ._session_state import Batch, Resumption, Update, Withheld

__all__ = ["Phase", "ProtocolError", "Session"]

#: Most own moves forgotten with one answer: more than a batch can make.
_SETTLED_AT_ONCE: Final = 2 * MAX_ENTRIES
#: Most slices that are looked at for one part of a resume, most of which a clear may have taken.
_SEARCHED_AT_ONCE: Final = 10 * MAX_ENTRIES
# Looked up once: before Python 3.12 a member of an enum costs as much as a call.
_LIVE: Final = Phase.LIVE


class Session:
    """One incarnation of an instance, as the instance sees it."""

    def __init__(
        self,
        instance: str,
        nonce: str,
        periods: Periods,
        *,
        inherit: bool = False,
        refuse: bool = False,
    ) -> None:
        self.instance = instance
        self.periods = periods
        self.inherit = inherit
        self.refuse = refuse  # to take the id over from one who is alive
        self.phase = Phase.PEEK
        self.incarnation = 0
        self.seq = 0  # last acknowledged
        self.used = 0  # last given to a request; none is given twice (P39, unique numbers)
        self.known = 0  # journal stamp up to which others' moves are known
        self.slices: dict[str, Slice] = {}
        self.withheld = Withheld()  # not in the store: does not fit yet (I12, overflow)
        self.moves: OrderedDict[str, int] = OrderedDict()  # own epoch moves, in order of stamps
        self.cleared = 0  # latest clear of anybody, as far as known
        self.piece = MAX_ENTRIES  # how many entries one message should have, of those that can wait
        self.stuck = 0  # slices of the dead that could not be taken away, as last heard
        self._base_nonce = nonce
        self._attempt = 0
        self._expected = 0
        self._born = 0  # of the namespace that last answered
        self._cursor = ""
        self._batch: Batch | None = None
        self._unheard: set[str] = set()  # keys written to since an answer last told of moves
        self._told_at = 0  # stamp of the step whose answer did
        self._resumption: Resumption | None = None

    def name(self, instance: str, nonce: str) -> None:
        """Give it the identity that was drawn for it; before the first request only.

        An actor draws it as it starts: one that was made before its process was forked is then
        another instance in each process.
        """
        if self._attempt or self.phase is not Phase.PEEK:
            raise ProtocolError("an instance that has begun to open keeps its name")
        self.instance, self._base_nonce = instance, nonce

    @property
    def nonce(self) -> str:
        """Name of this attempt at opening; it gets one incarnation, however often it asks."""
        return f"{self._base_nonce}.{self._attempt}"

    @property
    def idle(self) -> bool:
        """Whether `begin` may be called."""
        return self.phase is _LIVE and self._batch is None

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

        ``atomic``: where one is refused none is executed; moves, never refused, cannot be undone.
        """
        phase = after(self.phase, Event.BEGUN)
        if self._batch is not None:
            raise ProtocolError("a batch was begun before the one before it was answered")
        batch = self._with_beliefs(entries)
        if atomic and (leave or len({entry.kind is Kind.MOVE for entry in batch}) > 1):
            raise ProtocolError("a whole batch either moves epochs or does not")
        if len(batch) > 1:
            kinds = {entry.kind for entry in batch}
            if Kind.FORGET in kinds and not kinds.isdisjoint((Kind.MOVE, Kind.CLEAR)):
                raise ProtocolError("a batch that moves epochs forgets nobody")
        self.phase = phase
        self._batch = Batch(batch, budget, leave, atomic)
        self.used += 1

    def retries(self) -> list[Entry]:
        """Return entries that try again what did not fit (I12, overflow), one for each key.

        They make a batch of their own: what other entries find depends on their fate.
        """
        return [self._claim(key, piece) for key, piece in self.withheld.oldest(MAX_ENTRIES)]

    def request(self) -> Request | None:
        """Return what to send now, the same until `receive` makes progress; None when idle."""
        if self.phase is _LIVE:
            return self._apply(self._batch) if self._batch else None
        match self.phase:
            case Phase.PEEK:
                return Peek(self.instance)
            case Phase.OPEN:
                return Open(
                    self.instance,
                    self.nonce,
                    self._expected,
                    self._born,
                    self.inherit,
                    self.periods,
                    self.refuse,
                )
            case Phase.LOAD:
                return Load(self.instance, self.incarnation, self.used, self._cursor)
            case Phase.RESUME:
                return self._resume_part()
            case _:
                return None

    def _apply(self, batch: Batch) -> Apply:
        return Apply(
            self.instance,
            self.incarnation,
            self.used,
            self.known,
            self.periods,
            batch.entries,
            batch.leave,
            batch.budget,
            batch.atomic,
            self.seq,
        )

    def lost(self) -> None:
        """Note that the request may have been executed, and that no answer will come."""
        if self._batch:
            self._batch.doubt = True
        elif self.phase is Phase.LOAD:
            # The store may not be as it was: what has been loaded may be more than it has, or less.
            self._load()

    def _load(self) -> None:
        """Begin to load, under a number of its own (P25, opening)."""
        self.slices.clear()
        self._cursor = ""
        self.used += 1

    @property
    def in_doubt(self) -> bool:
        """Whether the outstanding batch may have been executed already."""
        return self._batch is not None and self._batch.doubt

    def withdraw(self) -> None:
        """Give the outstanding batch up; only where no transmission can have run (P16).

        If one has run after all, the store finds out with the next request (P39, unique numbers).
        """
        if self.in_doubt:
            raise ProtocolError("a batch that may have run was withdrawn")
        self.phase = after(self.phase, Event.WITHDRAWN)
        self._batch = None

    def abandon(self) -> None:
        """Send nothing any more: this is a copy, of an instance that goes on elsewhere."""
        self.phase = after(self.phase, Event.ABANDONED)

    def _with_beliefs(self, entries: Iterable[Entry]) -> list[Entry]:
        """Tell the store what each own slice becomes if it is what we believe (P2)."""
        batch: list[Entry] = []
        own: dict[str, int] = {}
        for entry in entries:
            key = entry.key
            if key not in own:
                own[key] = self.slices[key].value if key in self.slices else 0
            elif entry.kind is Kind.ADD and entry.value:
                # If the entry before is refused, ``after`` would be wrong.
                raise ProtocolError(f"two entries of one batch add to {key!r}")
            if entry.kind is Kind.ADD or (entry.kind is Kind.CLAIM and entry.guarded):
                own[key] = after = own[key] + entry.value
                batch.append(_with_after(entry, after if fits(after) else None))
            else:
                own[key] = entry.value
                batch.append(entry)
        return batch

    def _claim(self, key: str, piece: Slice) -> Entry:
        own = self.slices[key].value if key in self.slices else 0
        after = own + piece.value
        return Entry(
            Kind.CLAIM, key, piece.value, after if fits(after) else None, stamp=piece.stamp
        )

    # ----------------------------------------------------------------- receiving

    def receive(self, reply: Reply) -> Update:
        """Take the answer to `request` in.

        One that does not fit what was asked raises `ProtocolError`, and changes nothing.
        """
        if self.idle:
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

    def _misfit(self, reply: Reply) -> ProtocolError:
        return ProtocolError(f"{reply} in answer to {self.request()}")

    def _peeked(self, reply: Peeked) -> None:
        if self.refuse and reply.alive:
            self.phase = after(self.phase, Event.HELD)
            return
        self.phase = after(self.phase, Event.FREE)
        self._expected, self._born = reply.incarnation, reply.born
        self._attempt += 1

    def _opened(self, reply: Opened) -> None:
        if reply.inherited:
            event = Event.INHERITED
        else:
            event = Event.LEFTOVERS if reply.leftovers else Event.OPENED
        self.phase = after(self.phase, event)
        self.incarnation = self._told_at = reply.incarnation
        self.seq = self.used = 0
        self.known = reply.known
        if event is Event.LEFTOVERS:
            self._restart()
        elif event is Event.INHERITED:
            self._load()

    def _loaded(self, reply: Loaded) -> None:
        self.phase = after(self.phase, Event.PAGE if reply.cursor else Event.LAST_PAGE)
        self.slices.update((k, Slice(v, stamp)) for k, v, stamp in reply.slices)
        self._cursor = reply.cursor
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
        phase = after(self.phase, Event.GONE if batch and batch.leave else Event.DONE)
        # Of a leave nothing but that it was executed is in the record, and nobody needs more.
        unsaid = batch is not None and batch.leave and not reply.results
        if batch is None or reply.again or not (unsaid or len(reply.results) == len(batch.entries)):
            raise self._misfit(reply)
        self.phase = phase
        update = Update(reply.results, reply.at)
        for entry, result in zip(batch.entries, reply.results, strict=not unsaid):
            if isinstance(result, Previous):
                self._replay(entry, result, reply.at, update)
            elif entry.kind is Kind.CLAIM:
                self._retried(entry, result, update)
        self.seq = self.used
        self._batch = None
        update.backlog = reply.backlog
        keys = (entry.key for entry in batch.entries)
        if reply.journal:  # else it is the stored answer, which tells only of the batch
            self.stuck = reply.stuck
            if reply.journal.cleared > self.cleared:
                if reply.journal.cleared >= self._told_at:
                    self._learn_clear(reply.journal.cleared, chain(keys, self._unheard), update)
                else:
                    self._learn_late_clear(reply.journal.cleared, update)
            self._learn(reply.journal, update)
            update.ground = self.known
            self._told_at = reply.at
            if self._unheard:
                self._unheard.clear()
        else:
            update.ground = reply.at - 1
            self._unheard.update(keys)
        return update

    def _replay(self, entry: Entry, before: Previous, at: int, update: Update) -> None:
        """Do to the own copy what the store did to its own (P13, values before)."""
        key, value = entry.key, entry.value
        if not before.slice and key in self.slices and entry.kind is not Kind.FORGET:
            # A move has taken it that the journal tells of, or the next one will.
            update.dropped[key] = self.slices.pop(key).stamp
        match entry.kind:
            case Kind.ADD if value:
                self._write(key, before.slice + value, at, update)
            case Kind.PUT:
                self.withheld.drop(key)
                self._write(key, value, at, update)
            case Kind.MOVE:
                self.withheld.drop(key)
                self.moves.pop(key, None)
                self.moves[key] = at
                self.slices.pop(key, None)
                self._write(key, value, at, update)
            case Kind.CLEAR:
                self.slices.clear()
                self.withheld.clear()
                self.moves.clear()
                self.cleared = at
            case Kind.CLAIM:
                self._retried(entry, before, update)
            case _:
                pass  # it only read

    def _write(self, key: str, value: int, stamp: int, update: Update) -> None:
        """Make the own slice ``value``; a new one gets ``stamp``."""
        own = self.slices.get(key)
        if value:
            self.slices[key] = Slice(value, stamp if own is None else own.stamp)
        elif own is not None:
            del self.slices[key]
            update.stamps.setdefault(key, own.stamp)

    def _merge(self, key: str, stamp: int, update: Update) -> None:
        """What has this stamp is to become one with the own slice: as old as the older one."""
        own = self.slices.get(key)
        if own is not None and own.stamp != stamp:
            older, younger = sorted((own.stamp, stamp))
            self.slices[key] = Slice(own.value, older)
            update.merged.append((key, younger, older))
            work = self._resumption
            if work is not None and work.stamps.get(key) == younger:
                work.stamps[key] = older

    def _learn(self, journal: Journal, update: Update) -> Update:
        """Drop what others' moves made void, and own moves nobody needs any more (P10, P11)."""
        if journal.moves:
            self._learn_moves(dict(journal.moves), update)
        if journal.floor > self.known:
            self._miss(journal.floor, update)
        self.known = max(self.known, journal.latest)
        if self.moves:
            settled = max(journal.floor, self.cleared - 1)
            for _ in range(min(len(self.moves), _SETTLED_AT_ONCE)):
                key, stamp = next(iter(self.moves.items()))
                if stamp > settled:
                    break
                del self.moves[key]
        return update

    def _learn_clear(self, cleared: int, keys: Iterable[str], update: Update) -> None:
        """Drop what a clear made void, but for what ``keys`` have got since.

        An answer that tells of moves tells of each clear before it, so that what is younger is in
        the keys of the batch, or of one whose answer told of nothing. The others are not looked
        at: there may be very many.
        """
        self.cleared, update.cleared = cleared, True
        slices, self.slices = self.slices, {}
        for key in keys:
            if key in slices and slices[key].stamp >= cleared:
                self.slices[key] = slices[key]
        self._withhold_younger(cleared)

    def _withhold_younger(self, epoch: int) -> None:
        if self.withheld:
            self.withheld.drop_older(dict.fromkeys(self.withheld.keys, epoch))

    def _learn_moves(self, epochs: dict[str, int], update: Update) -> None:
        for key in epochs.keys() & self.slices.keys():
            if self.slices[key].stamp < epochs[key]:
                update.dropped[key] = self.slices.pop(key).stamp
        if self.withheld:
            self.withheld.drop_older(epochs)
        update.epochs |= epochs

    def _miss(self, floor: int, update: Update) -> None:
        """Moves have been forgotten that this instance never heard of (P21, too old)."""
        for key in [key for key, piece in self.slices.items() if piece.stamp < floor]:
            update.dropped[key] = self.slices.pop(key).stamp
        self._withhold_younger(floor)
        update.missed = floor
        work = self._resumption
        if work is not None:
            # The store would judge the parts to come by what is known from now on. Claims are
            # made of the slices that are left.
            work.retries = [claim for claim in work.retries if claim.stamp >= floor]
            work.gone.update(key for key, stamp in work.stamps.items() if stamp < floor)

    # ------------------------------------------------------------------ resuming

    def _unknown(self, reply: MustResume) -> Update:
        """The store knows us no more, or knows too little."""
        batch, gone = self._batch, False
        if batch is not None:
            gone = batch.leave and batch.doubt and reply.recorded is None
        before, self.phase = self.phase, after(self.phase, Event.GONE if gone else Event.UNKNOWN)
        if before is Phase.LOAD:
            # Reaped while it loaded: reaping has begun, so there is nothing to inherit (I11).
            self.slices.clear()
            self._cursor = ""
            return Update()
        self._born = reply.born
        if batch is None:
            self._restart()
            return Update()
        return self._must_resume(reply.recorded, batch)

    def _must_resume(self, recorded: int | None, batch: Batch) -> Update:
        """What became of the batch? (P20)."""
        # More than was acknowledged is what was withdrawn, and had run all the same (P39).
        applied_unknown = batch.doubt and (recorded is None or recorded < self.seq)
        self._batch = None
        if batch.leave:
            if self.phase is Phase.LEFT:
                return Update([Rejection.RETRY] * len(batch.entries))
            self.slices.clear()
            self.withheld.clear()
        if applied_unknown:
            resumption = Resumption()
            resumption.results = self._fold(batch, resumption)
            self._restart(resumption)
            return Update()
        self._restart()
        return Update([Rejection.RETRY] * len(batch.entries))

    def _fold(self, batch: Batch, resumption: Resumption) -> list[Result]:
        """Make operations on the own slice part of what is re-asserted; give moves up (P20)."""
        results: list[Result] = []
        for index, entry in enumerate(batch.entries):
            own = self.slices.get(entry.key)
            before = own.value if own else 0
            match entry.kind:
                case Kind.ADD if entry.value == 0:
                    results.append(Rejection.RETRY)
                    continue
                case Kind.CLAIM | Kind.FORGET:
                    results.append(Rejection.RETRY)
                    continue
                case Kind.ADD | Kind.PUT if entry.condition is not None or batch.atomic:
                    # Only the store can decide it; what it did on the own slice is replaced.
                    results.append(Rejection.RETRY)
                    continue
                case Kind.ADD:
                    after = before + entry.value
                case Kind.PUT:
                    after = entry.value
                    self.withheld.drop(entry.key)
                case _:
                    results.append(Rejection.UNKNOWN)
                    continue
            if not fits(after):
                results.append(Rejection.REFUSED)
                continue
            # A 0 is kept until it is asserted, so that its claim can tell the caller the sum.
            stamp = own.stamp if own else self.known
            self.slices[entry.key] = Slice(after, stamp)
            resumption.stamps[entry.key] = stamp
            resumption.folds.setdefault(entry.key, []).append((index, before, entry.folded))
            results.append(Rejection.UNKNOWN)
        return results

    def _restart(self, resumption: Resumption | None = None) -> None:
        """Begin to re-assert everything from the first part on (P17, resume)."""
        old = self._resumption
        fresh = resumption or Resumption()
        if old and resumption is None:
            fresh.results, fresh.folds = old.results, old.folds
            fresh.stamps, fresh.gone = old.stamps, old.gone
        fresh.moves, fresh.claims = deque(self.moves), deque(self.slices)
        fresh.retries = self.retries()
        self._resumption = fresh
        self.used += 1

    def _resume_part(self) -> Resume:
        work = self._resumption
        if work is None:
            raise ProtocolError("nothing to resume")
        if work.sent is None:
            some = list(islice(work.moves, MAX_MOVES))
            moves = [(key, self.moves[key]) for key in some if key in self.moves]
            claims: list[Entry] = []
            searched = retried = 0
            if len(some) == len(work.moves):
                claims, searched = self._claims(work)
                if not work.claims:
                    claims = work.retries[: self.piece]
                    retried = len(claims)
            work.reach = len(some), searched, retried
            work.sent = Resume(
                self.instance,
                self.incarnation,
                self.used,
                self.known,
                self.periods,
                self._born,
                work.first,
                self.cleared,
                moves,
                claims,
            )
        return work.sent

    def _claims(self, work: Resumption) -> tuple[list[Entry], int]:
        """Return the claims that are next, and of how many keys; some may have gone meanwhile."""
        claims: list[Entry] = []
        searched = 0
        for key in islice(work.claims, _SEARCHED_AT_ONCE):
            if len(claims) == min(self.piece, MAX_ENTRIES):
                break
            searched += 1
            if key in self.slices:
                value, stamp = self.slices[key]
                claims.append(Entry(Kind.CLAIM, key, value, value, stamp=stamp))
        return claims, searched

    def _resumed(self, reply: Applied) -> Update:
        work = self._resumption
        phase = after(self.phase, Event.PART)
        if work is None or work.sent is None:
            raise ProtocolError(f"{reply} in answer to a resume that was not sent")
        if not _fits(reply, work.sent):
            raise self._misfit(reply)
        self.phase = phase
        sent, work.sent = work.sent, None
        self.seq = self.used
        update = Update()
        if not reply.again:
            work.first = False
            moved, searched, retried = work.reach
            for _ in range(moved):
                work.moves.popleft()
            keys = [work.claims.popleft() for _ in range(searched)]
            del work.retries[:retried]
            for claim, result in zip(sent.claims, reply.results, strict=True):
                if retried:
                    self._retried(claim, result, update)
                else:
                    self._asserted(claim, result, work)
                    if result is Rejection.MOVED:
                        update.dropped[claim.key] = claim.stamp
            claimed = {claim.key for claim in sent.claims}
            work.gone.update(k for k in keys if k in work.folds and k not in claimed)
        if reply.journal:
            if reply.journal.cleared > self.cleared:
                self._learn_late_clear(reply.journal.cleared, update)
            self._told_at = reply.at
            self._unheard.clear()
            self._learn(reply.journal, update)
            for key, stamp in work.stamps.items():
                if stamp < max(update.epochs.get(key, 0), self.cleared):
                    work.gone.add(key)
        if work.first or work.moves or work.claims or work.retries:
            self.used += 1
            return update
        self._resumption = None
        self.phase = after(self.phase, Event.RESUMED)
        update.results, update.stamps = work.results, work.stamps
        update.gone = {key: work.stamps[key] for key in work.gone}
        update.at = update.ground = reply.at
        update.backlog = reply.backlog
        return update

    def _learn_late_clear(self, cleared: int, update: Update) -> None:
        """Drop what a clear made void that we may have missed for long, or the store lost (P22)."""
        self.cleared, update.cleared = cleared, True
        self.slices = {key: piece for key, piece in self.slices.items() if piece[1] >= cleared}
        self._withhold_younger(cleared)

    def _asserted(self, claim: Entry, result: Result, work: Resumption) -> None:
        """One own slice is back in the store, or is void, or does not fit for now."""
        key = claim.key
        if key in work.folds and result is Rejection.MOVED:
            work.gone.add(key)
        if isinstance(result, Previous):
            if not claim.value:
                self.slices.pop(key, None)
            if work.results is not None:
                for index, before, many in work.folds.get(key, ()):
                    if many and abs(result.cumulative) >= FOLD_LIMIT:
                        continue  # it took effect, but not every operation in it would have (P13)
                    work.results[index] = Previous(result.cumulative + before, before)
        elif result is Rejection.MOVED:
            self.slices.pop(key, None)
        else:
            self.withheld.add(key, self.slices.pop(key))

    def _retried(self, claim: Entry, result: Result, update: Update) -> None:
        """Something that did not fit was tried once more, or a hold has ended (P36)."""
        if result is Rejection.REFUSED:
            self.withheld.put_off(claim.key)
            return
        if not claim.guarded:
            # It may be gone: a move or a clear was quicker.
            self.withheld.remove(claim.key, Slice(claim.value, claim.stamp))
        if isinstance(result, Previous):
            self._merge(claim.key, claim.stamp, update)
            self._write(claim.key, result.slice + claim.value, claim.stamp, update)


def _fits(reply: Applied, part: Resume) -> bool:
    """Whether an answer can be one to ``part``; only a first part is repeated (P18)."""
    if reply.again:
        return part.first and not reply.results
    return len(reply.results) == len(part.claims)


def _with_after(entry: Entry, after: int | None) -> Entry:
    """Return what ``entry._replace(after=after)`` does, in half the time."""
    kind, key, value, _, folded, stamp, condition, of_own, guarded = entry
    return Entry(kind, key, value, after, folded, stamp, condition, of_own, guarded)
