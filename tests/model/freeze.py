"""States of the core as short byte strings, equal where nothing can ever tell them apart.

Only the order of stamps matters to the rules, so they are replaced by their ranks; of sequence
numbers only whether they are equal, adjacent or further apart. Times of the store's clock
(deadlines and the like) are not kept but made up again by `Thaw`, see `tests.model.world`: an
instance is overdue or is not. Thus histories of any length meet in a bounded number of states.
"""

from __future__ import annotations

import marshal
from collections import OrderedDict, deque
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final, TypeVar

from distkit_actors._instance._holds import Holds
from distkit_actors._instance._own_copy import OwnCopy
from distkit_actors._instance._resumption import Resumption
from distkit_actors._instance._session import Phase, Session
from distkit_actors._instance._session_state import Batch
from distkit_actors._instance._withheld import Withheld
from distkit_actors._namespace._epochs import Epochs, Segment
from distkit_actors._namespace._namespace import Namespace
from distkit_actors._namespace._observed_time import Heard, Observed
from distkit_actors._namespace._registry import Record, State
from distkit_actors._protocol._conditions import Eq, Ge, Gt, Le, Lt, Ne
from distkit_actors._protocol._messages import (
    Applied,
    Apply,
    ConditionFailed,
    Entry,
    Kind,
    Load,
    Open,
    Peek,
    Periods,
    Previous,
    Rejection,
    Request,
    Result,
    Resume,
    Slice,
)

#: So long that nobody dies of old age between two actions.
THRESHOLD: Final = 2**40
#: Forgetting takes an action of its own, too.
RETENTION: Final = 2**45
PERIODS: Final = Periods(THRESHOLD, THRESHOLD // 3, RETENTION)
#: Before everything, and longer ago than the threshold.
LONG_AGO: Final = -2 * THRESHOLD
UNHEARD: Final = Heard(LONG_AGO, 0)
#: So long ago that a sign of life is written down once more, and not too long to judge others.
NOT_LATE: Final = THRESHOLD // 8

T = TypeVar("T")

_KINDS = {kind.value: kind for kind in Kind}
_STATES = {state.value: state for state in State}
_PHASES = {phase.value: phase for phase in Phase}
_VERDICTS = {verdict.value: verdict for verdict in Rejection}
_CONDITIONS = {kind.sign: kind for kind in (Eq, Ne, Lt, Le, Gt, Ge)}


def digest(key: bytes) -> bytes:
    """Return what stands for a state in the memory of an exploration."""
    return blake2b(key, digest_size=16).digest()


class Freeze:
    """Writes a state down: plain values, stamps and sequence numbers apart."""

    __slots__ = ("plain", "seqs", "stamps", "whose")

    def __init__(self) -> None:
        self.plain: list[object] = []
        self.stamps: list[int] = []
        self.seqs: list[int] = []
        self.whose: list[str] = []  # the instances that the sequence numbers belong to

    def key(self) -> bytes:
        """Return what was written, with ranks in place of stamps."""
        rank = {0: 0}
        for stamp in sorted(set(self.stamps)):
            if stamp:
                rank[stamp] = len(rank)
        stamps = [rank[stamp] for stamp in self.stamps]
        by_owner: dict[str, set[int]] = {}
        for owner, seq in zip(self.whose, self.seqs, strict=True):
            by_owner.setdefault(owner, set()).add(seq)
        steps = {owner: _close_up(sorted(seqs)) for owner, seqs in by_owner.items()}
        seqs = [steps[owner][seq] for owner, seq in zip(self.whose, self.seqs, strict=True)]
        # Version 2 depends on the values alone, newer ones on which of them are shared.
        return marshal.dumps((self.plain, stamps, seqs), 2)

    def seq(self, instance: str, seq: int) -> None:
        """Write a sequence number of ``instance``."""
        self.seqs.append(seq)
        self.whose.append(instance)

    def slices(self, slices: Mapping[str, Slice]) -> None:
        """Write slices."""
        self.plain.append([(key, slices[key].value) for key in sorted(slices)])
        self.stamps += [slices[key].stamp for key in sorted(slices)]

    def pairs(self, pairs: Mapping[str, int]) -> None:
        """Write stamps of keys, in their order."""
        self.plain.append(list(pairs))
        self.stamps += pairs.values()

    def entries(self, entries: Sequence[Entry]) -> None:
        """Write entries of a batch."""
        self.plain.append(list(map(plain_entry, entries)))
        self.stamps += [entry.stamp for entry in entries]

    def namespace(self, ns: Namespace, *, still: bool) -> None:
        """Write the store's half; ``still`` if its clock is the only one that moves."""
        registry = ns.registry
        epochs = registry.epochs
        # Where time moves on, the next stamp is the time, whatever the clock says.
        clock = ns.clock if still else 0
        self.stamps += (ns.born, clock, epochs.cleared, epochs.floor, epochs.latest)
        self.pairs(epochs.moved)
        self.plain.append(sorted(epochs.late))
        self.stamps += [epochs.late[key] for key in sorted(epochs.late)]
        self.plain.append(len(epochs.archive))
        for segment in epochs.archive:
            self.stamps += (segment.first, segment.last)
            self.pairs({key: segment.epochs[key] for key in sorted(segment.epochs)})
        self.plain += (sorted(registry.sums.items()), list(registry.reap_queue))
        self.plain += (list(registry.expiring), sorted(registry.records))
        for instance in sorted(registry.records):
            record = registry.records[instance]
            self.plain += (
                record.nonce,
                record.inherited,
                record.state.value,
                record.state is State.LIVE and record.deadline <= 0,
                record.swept >= epochs.cleared,
            )
            self.stamps += (record.incarnation, record.known)
            self.done(record.reply)
            self.seq(instance, record.seq)
            self.slices(record.slices)

    def done(self, reply: Applied) -> None:
        """Write a stored answer."""
        self.stamps.append(reply.at if reply.results else 0)  # else nobody reads it
        self.plain += (list(map(said, reply.results)), reply.again)

    def session(self, s: Session) -> None:
        """Write the instance's half."""
        opening = s.phase in (Phase.PEEK, Phase.OPEN)
        taking = s._takeover
        self.plain += (s.instance, taking.base_nonce, taking.inherit, taking.refuse)
        self.plain += (s.phase.value, taking.attempt, taking.cursor)
        self.stamps += (s.incarnation, s.known, s.cleared)
        self.seq(s.instance, s.seq)
        self.seq(s.instance, s.used)
        # Elsewhere they are set before they are read again.
        self.stamps += (
            taking.expected if opening else 0,
            0 if s.phase is Phase.LIVE else taking.born,
        )
        self.slices(s.slices)
        self.plain.append([(key, own.value) for key, own in s.withheld])
        self.stamps += [own.stamp for _, own in s.withheld]
        self.pairs(s.moves)
        self.plain.append(sorted(s.own._unheard))
        self.stamps.append(s.own._told_at)
        if s._batch is None:
            self.plain.append(None)
        else:
            self.plain += (1, s._batch.doubt, s._batch.leave, s._batch.atomic)
            self.entries(s._batch.entries)
        work = s._resumption
        if work is None:
            self.plain.append(None)
            return
        # `sent` is what would be made again: nothing that it depends on changes before its answer.
        self.plain += (1, work.first, list(work.moves), list(work.claims))
        self.stamps.append(work.since)
        self.pairs(dict(work.held))
        self.entries(work.retries)
        self.plain.append(None if work.results is None else list(map(said, work.results)))
        self.plain.append([(key, work.folds[key]) for key in sorted(work.folds)])
        self.plain += (sorted(work.stamps), sorted(work.void))
        self.stamps += [work.stamps[key] for key in sorted(work.stamps)]

    def request(self, request: Request) -> None:
        """Write a request that is still under way."""
        match request:
            case Apply():
                self.plain += ("A", request.instance, request.leave, request.atomic)
                self.stamps += (request.incarnation, request.known)
                self.seq(request.instance, request.seq)
                self.seq(request.instance, request.follows)
                self.entries(request.entries)
            case Resume():
                self.plain += ("R", request.instance, request.first)
                self.stamps += (request.incarnation, request.known, request.born, request.cleared)
                self.stamps.append(request.heard)
                self.seq(request.instance, request.seq)
                self.pairs(dict(request.moves))
                self.entries(request.claims)
            case Open():
                self.plain += ("O", request.instance, request.nonce, request.inherit)
                self.plain.append(request.refuse)
                self.stamps += (request.expected, request.born)
            case Load():
                self.plain += ("L", request.instance, request.cursor)
                self.stamps.append(request.incarnation)
                self.seq(request.instance, request.seq)
            case Peek():
                self.plain += ("P", request.instance)


def plain_entry(entry: Entry) -> tuple[object, ...]:
    """Return an entry as a plain value, but for its stamp."""
    condition = entry.condition and (entry.condition.sign, entry.condition.value)
    return (
        entry.kind.value,
        entry.key,
        entry.value,
        entry.after,
        entry.folded,
        condition,
        entry.of_own,
        entry.guarded,
    )


def said(result: Result) -> str | tuple[object, ...]:
    """Return a result as a plain value: a verdict is a string, and so begins what is declined."""
    if isinstance(result, Rejection):
        return result.value
    return tuple(result) if isinstance(result, Previous) else ("?", *result)


def _close_up(seqs: Sequence[int]) -> dict[int, int]:
    """Renumber, keeping 0, and who is equal, adjacent, or further apart."""
    steps: dict[int, int] = {}
    step = before = 0
    for seq in seqs:
        step += min(seq - before, 2)
        steps[seq] = step
        before = seq
    return steps


class Thaw:
    """Reads what `Freeze` wrote, in the same order."""

    __slots__ = ("latest", "now", "plain", "rest", "seqs", "stamps")

    def __init__(self, key: bytes) -> None:
        plain, stamps, seqs = marshal.loads(key)
        self.latest: int = max(stamps, default=0)
        # The values are of the types that `Freeze` wrote, in its order: nobody can tell mypy.
        self.plain: Iterator[Any] = iter(plain)  # type: ignore[explicit-any]
        self.stamps: Iterator[int] = iter(stamps)
        self.seqs: Iterator[int] = iter(seqs)

    @classmethod
    def of(cls, out: Freeze) -> Thaw:
        """Return a reader of what has just been written."""
        new = cls.__new__(cls)
        new.latest = max(out.stamps, default=0)
        new.plain, new.stamps, new.seqs = iter(out.plain), iter(out.stamps), iter(out.seqs)
        return new

    def slices(self) -> dict[str, Slice]:
        """Read slices."""
        return {key: Slice(value, next(self.stamps)) for key, value in next(self.plain)}

    def pairs(self) -> dict[str, int]:
        """Read stamps of keys."""
        return {key: next(self.stamps) for key in next(self.plain)}

    def entries(self) -> list[Entry]:
        """Read entries."""
        return [entry_of(plain, next(self.stamps)) for plain in next(self.plain)]

    def namespace(self, now: int, *, lazy: bool) -> Namespace:
        """Read the store's half; ``lazy`` if the last signs of life are recent."""
        stamps, plain = self.stamps, self.plain
        ns = Namespace()
        registry = ns.registry
        epochs = registry.epochs
        ns.born, clock = next(stamps), next(stamps)
        ns.clock = clock or self.latest
        epochs.cleared, epochs.floor, epochs.latest = next(stamps), next(stamps), next(stamps)
        epochs.moved = self.pairs()
        epochs.late = self.pairs()
        for _ in range(next(plain)):
            segment = Segment(next(stamps))
            segment.last, segment.epochs = next(stamps), self.pairs()
            epochs.archive.append(segment)
        registry.sums = dict(next(plain))
        registry.reap_queue = dict.fromkeys(next(plain), 0)
        registry.expiring = dict.fromkeys(next(plain), RETENTION)
        registry.observed.last = now
        anybody = bool(registry.reap_queue)
        for instance in next(plain):
            nonce, inherited, state, overdue = next(plain), next(plain), next(plain), next(plain)
            swept = next(plain)
            record = Record(next(stamps), nonce, PERIODS, next(stamps))
            record.swept = epochs.cleared if swept else -1
            record.inherited = inherited
            record.state = _STATES[state]
            if record.state is State.LIVE:
                registry.observed.add_living(PERIODS)
                registry.observed.by_periods[PERIODS[:2]].ended = LONG_AGO
            record.reply = self.done()
            record.seq = next(self.seqs)
            record.slices = self.slices()
            record.heard = UNHEARD if overdue else Heard(now if lazy else now - NOT_LATE, 0)
            record.deadline = 0 if overdue else THRESHOLD
            anybody |= overdue
            registry.records[instance] = record
        registry.due = 0 if anybody else THRESHOLD
        return ns

    def done(self) -> Applied:
        """Read a stored answer."""
        at, results = next(self.stamps), next(self.plain)
        return Applied(at, tuple(map(_result, results)), again=next(self.plain))

    def session(self) -> Session:
        """Read the instance's half."""
        stamps, plain = self.stamps, self.plain
        s = Session(next(plain), next(plain), PERIODS, inherit=next(plain), refuse=next(plain))
        own, taking = s.own, s._takeover
        s.phase, taking.attempt, taking.cursor = _PHASES[next(plain)], next(plain), next(plain)
        s.incarnation, own.known, own.cleared = next(stamps), next(stamps), next(stamps)
        s.seq, s.used = next(self.seqs), next(self.seqs)
        taking.expected, taking.born = next(stamps), next(stamps)
        own.slices = self.slices()
        own.withheld = Withheld((key, Slice(value, next(stamps))) for key, value in next(plain))
        own.moves = OrderedDict(self.pairs())
        own._unheard, own._told_at = set(next(plain)), next(stamps)
        if next(plain):
            doubt, leave, atomic = next(plain), next(plain), next(plain)
            s._batch = Batch(self.entries(), 0, leave, atomic)
            s._batch.doubt = doubt
        if next(plain):
            work = s._resumption = Resumption()
            work.first, work.since = next(plain), next(stamps)
            work.moves, work.claims = deque(next(plain)), deque(next(plain))
            work.held = deque(self.pairs().items())
            work.retries = self.entries()
            results = next(plain)
            work.results = None if results is None else [_result(r) for r in results]
            work.folds = {key: list(folds) for key, folds in next(plain)}
            folded, work.void = next(plain), set(next(plain))
            work.stamps = {key: next(stamps) for key in folded}
        return s

    def request(self) -> Request:
        """Read a request."""
        stamps, plain = self.stamps, self.plain
        kind, instance = next(plain), next(plain)
        match kind:
            case "A":
                leave, atomic = next(plain), next(plain)
                incarnation, known = next(stamps), next(stamps)
                seq, before, entries = next(self.seqs), next(self.seqs), self.entries()
                return Apply(
                    instance,
                    incarnation,
                    seq,
                    known,
                    PERIODS,
                    entries,
                    leave,
                    atomic=atomic,
                    before=before,
                )
            case "R":
                first, incarnation, known = next(plain), next(stamps), next(stamps)
                born, cleared, since = next(stamps), next(stamps), next(stamps)
                seq = next(self.seqs)
                moves = list(self.pairs().items())
                return Resume(
                    instance,
                    incarnation,
                    seq,
                    known,
                    PERIODS,
                    born,
                    first,
                    cleared,
                    moves,
                    self.entries(),
                    since=since,
                )
            case "O":
                nonce, inherit, refuse = next(plain), next(plain), next(plain)
                return Open(instance, nonce, next(stamps), next(stamps), inherit, PERIODS, refuse)
            case "L":
                return Load(instance, next(stamps), next(self.seqs), next(plain))
            case _:
                return Peek(instance)


def entry_of(plain: Sequence[Any], stamp: int = 0) -> Entry:  # type: ignore[explicit-any]
    """Undo `plain_entry`."""
    kind, key, value, after, folded, condition, of_own, guarded = plain
    return Entry(
        _KINDS[kind],
        key,
        value,
        after,
        folded,
        stamp,
        condition and _CONDITIONS[condition[0]](condition[1]),
        of_own,
        guarded,
    )


def _result(frozen: str | Sequence[Any]) -> Result:  # type: ignore[explicit-any]
    if isinstance(frozen, str):
        return _VERDICTS[frozen]
    return ConditionFailed(*frozen[1:]) if frozen[0] == "?" else Previous(*frozen)


# ------------------------------------------------------------------------------- copies


def _with_the_same(old: T) -> T:
    """Return a copy that shares what it has; `copy.copy` takes three times as long."""
    new: T = object.__new__(type(old))
    for name in type(old).__slots__:  # type: ignore[attr-defined]  # as those have that are copied
        setattr(new, name, getattr(old, name))
    return new


def copy_namespace(old: Namespace) -> Namespace:
    """Return an independent copy; messages are shared, nobody changes them."""
    new = Namespace()
    new.born, new.clock = old.born, old.clock
    a, b = old.registry, new.registry
    b.epochs = copy_epochs(a.epochs)
    b.sums, b.reap_queue, b.expiring = a.sums.copy(), a.reap_queue.copy(), a.expiring.copy()
    b.due, b.observed = a.due, copy_observed(a.observed)
    for instance, record in a.records.items():
        twin = Record(record.incarnation, record.nonce, record.periods, record.known, record.about)
        twin.inherited, twin.seq, twin.reply = record.inherited, record.seq, record.reply
        twin.state, twin.heard, twin.deadline = record.state, record.heard, record.deadline
        twin.slices, twin.swept = record.slices.copy(), record.swept
        b.records[instance] = twin
    return new


def copy_epochs(old: Epochs) -> Epochs:
    """Return an independent copy."""
    new = Epochs()
    new.cleared, new.floor, new.latest = old.cleared, old.floor, old.latest
    new.moved, new.late = old.moved.copy(), old.late.copy()
    new.archive = [copy_segment(segment) for segment in old.archive]
    return new


def copy_segment(old: Segment) -> Segment:
    """Return an independent copy."""
    new = Segment(old.first)
    new.last, new.epochs = old.last, old.epochs.copy()
    return new


def copy_observed(old: Observed) -> Observed:
    """Return an independent copy."""
    new = _with_the_same(old)
    new.by_periods = {each: _with_the_same(times) for each, times in old.by_periods.items()}
    return new


def copy_own(old: OwnCopy) -> OwnCopy:
    """Return an independent copy."""
    new = _with_the_same(old)
    new.slices, new.moves = old.slices.copy(), old.moves.copy()
    new.withheld = Withheld(old.withheld)
    new._unheard = old._unheard.copy()
    return new


def copy_session(old: Session) -> Session:
    """Return an independent copy."""
    new = Session.__new__(Session)
    new.__dict__.update(old.__dict__)
    new.own, new._takeover = copy_own(old.own), _with_the_same(old._takeover)
    new.holds = Holds()  # whoever copies the desk writes them down
    if old._batch:
        batch = old._batch
        new._batch = Batch(batch.entries, batch.budget, batch.leave, batch.atomic)
        new._batch.doubt = batch.doubt
    if old._resumption:
        a, b = old._resumption, Resumption()
        b.first, b.since, b.moves, b.held = a.first, a.since, a.moves.copy(), a.held.copy()
        b.claims = a.claims.copy()
        b.retries = a.retries.copy()
        b.results = None if a.results is None else list(a.results)
        b.folds = {key: list(folds) for key, folds in a.folds.items()}
        b.stamps, b.void = a.stamps.copy(), a.void.copy()
        new._resumption = b
    return new
