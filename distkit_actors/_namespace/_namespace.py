"""The store's half of the protocol: what each request does to a namespace.

This is the reference for every store: `MemoryStore` runs it as it stands, the Lua scripts
of `RedisStore` say the same in Redis' terms and are tested against it step by step. The
rules (P1 and so on) are explained in ``docs/protocol.md``.

A `Namespace` is made of four classes, each in a module of its own that adds one idea to the one
before: `Entries` runs what a batch has in it, `Healing` takes in what was lost, `Execution` does
what is around both, and `Namespace` has the rest: an id is taken over, questions are answered.
"""

from __future__ import annotations

from itertools import islice

from .._protocol._messages import (
    MAX_PURGE,
    Apply,
    Conflict,
    Forget,
    Forgotten,
    Load,
    Loaded,
    Mismatch,
    MustResume,
    Open,
    Opened,
    Peek,
    Peeked,
    Query,
    Reply,
    Request,
    Resume,
    Watch,
    Watched,
)
from . import _query
from ._registry import Record, State
from ._step import Execution


class Namespace(Execution):
    """Everything a store holds for one prefix, and what each request does to it.

    Every store is compared with it, and a store may run it: it keeps a namespace for each prefix,
    and gives it one request at a time. It does no I/O, reads no clock and takes bounded time for a
    request.

    `execute` and `changed` are its interface. Everything else may change.
    """

    def __init__(self) -> None:
        super().__init__()
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
                # It makes no namespace: who only watches must leave nothing behind (P43, looking).
                self.watched = max(self.watched, now + request.lease)
                return Watched()
            case Forget():
                return Forgotten(*self._forget(request.target, now))
            case Apply() | Resume():
                return self._execute(request, now)

    @property
    def changed(self) -> frozenset[str] | None:
        """The keys that the last request has changed, or None if any key may have.

        There are none while nobody watches. A store that can push hands them on to its
        subscriptions, see `Subscription`.
        """
        changed = self.registry.changed
        return None if changed is None else frozenset(changed)

    def _peek(self, request: Peek, now: int) -> Peeked:
        record = self.registry.records.get(request.instance)
        born = self._birth(now)
        if record is None:
            return Peeked(0, born)
        return Peeked(record.incarnation, born, self.registry.alive(record, now))

    def _open(self, request: Open, now: int) -> Opened | Conflict | Mismatch:
        registry = self.registry
        old = registry.records.get(request.instance)
        if old and old.nonce == request.nonce:
            return self._opened(old)
        holder = old.incarnation if old else 0
        # No namespace (born is 0): there is none to join.
        if holder != request.expected or request.born != self.born or not self.born:
            return Conflict(holder)
        if request.refuse and old and registry.alive(old, now):
            return Conflict(holder)
        if not registry.agree(request.partitions, now):
            return Mismatch(registry.partitions)
        registry.observed.hear(now)
        self.clock = at = max(self.clock + 1, now)
        inherited = (
            request.inherit
            and old is not None
            and old.state is State.LIVE
            and not old.starts_afresh
        )
        known = registry.epochs.latest
        if old and (inherited or len(old.slices) > MAX_PURGE):
            # Its slices are still judged by moves after ``old.known`` (P18, empty ground).
            known = old.known
        record = Record(at, request.nonce, request.periods, known, request.about)
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
        return Opened(record.incarnation, record.known, record.inherited, leftovers)

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
        # The cursor says how many slices are left. Late moves may take some away between two pages,
        # wherever they are, and none are added: so none is left out, and some may come twice.
        count = len(record.slices)
        start = max(0, count - int(request.cursor)) if request.cursor else 0
        end = start + MAX_PURGE
        page = [
            (key, own.value, own.stamp)
            for key, own in islice(record.slices.items(), start, end)
            if own.stamp >= self.registry.epochs.in_journal(key)
        ]
        if end < count:
            return Loaded(str(count - end), page)
        record.seq = max(record.seq, request.seq)
        return Loaded("", page)
