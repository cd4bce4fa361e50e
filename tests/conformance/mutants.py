"""Stores that break one rule each, for the conformance kit to find."""

from __future__ import annotations

import unicodedata
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import unquote

import trio

from distkit_actors import Store
from distkit_actors._namespace._entries import Step
from distkit_actors._namespace._epochs import Epochs
from distkit_actors._namespace._namespace import Namespace
from distkit_actors._namespace._observed_time import Heard, Observed
from distkit_actors._namespace._registry import Record, Registry, State
from distkit_actors._protocol._messages import (
    MAX_JOURNAL,
    Applied,
    Apply,
    Conflict,
    Entry,
    Journal,
    Kind,
    Load,
    Loaded,
    Mismatch,
    MustResume,
    Open,
    Opened,
    Periods,
    Previous,
    Rejection,
    Reply,
    Request,
    Result,
    Resume,
    Slice,
)
from distkit_actors._protocol._values import INT64_MAX, INT64_MIN, fits
from distkit_actors._stores._contract import Link


class NamespaceStore(Store):
    """As `MemoryStore`, around any namespace."""

    def __init__(
        self, make: Callable[[], Namespace] = Namespace, where: Callable[[str], str] = str
    ) -> None:
        self.connected = True
        self._make = make
        self._where = where
        self._namespaces: dict[str, Namespace] = {}

    @asynccontextmanager
    async def link(self, prefix: str) -> AsyncIterator[Link]:
        name = self._where(prefix)
        yield NamespaceLink(self, self._namespaces.setdefault(name, self._make()))


class NamespaceLink(Link):
    def __init__(self, store: NamespaceStore, namespace: Namespace) -> None:
        self._store = store
        self._namespace = namespace

    async def connect(self) -> None:
        await trio.lowlevel.checkpoint()

    async def receive(self, request: Request) -> Reply:
        await trio.lowlevel.checkpoint()
        return self._namespace.execute(request, int(trio.current_time() * 1_000_000))

    @property
    def connected(self) -> bool:
        return self._store.connected


class Changed(Namespace):
    """A namespace to which requests come changed, or from which replies do."""

    def execute(self, request: Request, now: int) -> Reply:
        if isinstance(request, Apply):
            request = self.apply(request, self.registry.records.get(request.instance))
        elif isinstance(request, Resume):
            request = self.resume(request)
        elif isinstance(request, Open):
            request = self.open(request)
        reply = super().execute(request, now)
        if isinstance(request, Apply) and isinstance(reply, Applied):
            return self.done(request, reply)
        return reply

    def apply(self, request: Apply, record: Record | None) -> Apply:
        return request

    def resume(self, request: Resume) -> Resume:
        return request

    def open(self, request: Open) -> Open:
        return request

    def done(self, request: Apply, reply: Applied) -> Applied:
        return reply


def with_registry(kind: type[Registry]) -> Callable[[], Namespace]:
    def make() -> Namespace:
        namespace = Namespace()
        namespace.registry = kind()
        return namespace

    return make


def with_epochs(kind: type[Epochs]) -> Callable[[], Namespace]:
    def make() -> Namespace:
        namespace = Namespace()
        namespace.registry.epochs = kind()
        return namespace

    return make


def with_keys(change: Callable[[str], str]) -> Callable[[], Namespace]:
    class ChangedKeys(Changed):
        def apply(self, request: Apply, record: Record | None) -> Apply:
            entries = [entry._replace(key=change(entry.key)) for entry in request.entries]
            return request._replace(entries=entries)

    return ChangedKeys


# ------------------------------------------------------------------------- exactly once


class ExecutesRepeats(Changed):
    def apply(self, request: Apply, record: Record | None) -> Apply:
        if record and record.seq == request.seq:
            record.seq = request.follows
        return request


class AnswersRepeatsAnew(Changed):
    def done(self, request: Apply, reply: Applied) -> Applied:
        if reply.journal is not None:
            return reply
        slices = self.registry.records[request.instance].slices
        anew = [
            Previous(self.registry.total(e.key), slices.get(e.key, Slice(0, 0)).value)
            for e in request.entries
        ]
        return reply._replace(results=anew)


class ExecutesLateCopies(Changed):
    def apply(self, request: Apply, record: Record | None) -> Apply:
        if record and request.seq < record.seq:
            return request._replace(seq=record.seq + 1, before=record.seq)
        return request


class IgnoresGaps(Changed):
    def apply(self, request: Apply, record: Record | None) -> Apply:
        if record and request.follows > record.seq:
            record.seq = request.follows
        return request


class IgnoresWhatWasWithdrawn(Changed):
    def apply(self, request: Apply, record: Record | None) -> Apply:
        if record and request.follows < record.seq < request.seq:
            return request._replace(before=record.seq)
        return request


class AnswersForAnother(Changed):
    def apply(self, request: Apply, record: Record | None) -> Apply:
        if record and request.follows < record.seq:
            return request._replace(seq=record.seq)
        return request


class ForgetsWhatTheDeadGot(Namespace):
    """It asks who is alive before it looks whether a batch has come before."""

    def _judge(self, request: Apply | Resume, now: int) -> Reply | None:
        record = self.registry.records.get(request.instance)
        if (
            isinstance(request, Apply)
            and record
            and record.state is State.DEAD
            and (request.incarnation, request.seq) == (record.incarnation, record.seq)
        ):
            return MustResume(record.seq, self._birth(now))
        return super()._judge(request, now)


class RemembersWhatLeaversGot(Changed):
    def done(self, request: Apply, reply: Applied) -> Applied:
        if request.leave and reply.journal:
            record = self.registry.records[request.instance]
            record.reply = record.reply._replace(results=reply.results)
        return reply


class ForgetsLeavers(Changed):
    def done(self, request: Apply, reply: Applied) -> Applied:
        if request.leave:
            self.registry.records.pop(request.instance)
            self.registry.reap_queue.pop(request.instance, None)
            self.registry.expiring.pop(request.instance, None)
        return reply


class NeverForgets(Registry):
    def expire(self, now: int) -> None:
        pass


# ------------------------------------------------------------------------------ numbers


class AnswersInDoubles(Changed):
    def done(self, request: Apply, reply: Applied) -> Applied:
        def rough(number: int) -> int:
            return min(INT64_MAX, int(float(number)))

        results = [
            Previous(rough(r.cumulative), rough(r.slice)) if isinstance(r, Previous) else r
            for r in reply.results
        ]
        return reply._replace(results=results)


class AnswersDoubles(Changed):
    def done(self, request: Apply, reply: Applied) -> Applied:
        results = [
            Previous(float(r.cumulative), r.slice) if isinstance(r, Previous) else r  # type: ignore[arg-type]
            for r in reply.results
        ]
        return reply._replace(results=results)


class SumsInDoubles(Registry):
    def add(self, key: str, amount: int) -> bool:
        total = self.total(key) + amount
        if fits(total):
            self.sums[key] = min(INT64_MAX, int(float(total)))
        return fits(total)


class Saturates(Registry):
    def add(self, key: str, amount: int) -> bool:
        self.sums[key] = max(INT64_MIN, min(INT64_MAX, self.total(key) + amount))
        return True


class WrapsAround(Registry):
    def add(self, key: str, amount: int) -> bool:
        self.sums[key] = (self.total(key) + amount - INT64_MIN) % 2**64 + INT64_MIN
        return True


class KeepsTheSliceOfWhatItRefuses(Namespace):
    def _add(self, record: Record, entry: Entry, stamp: int, before: Previous) -> Result:
        result = super()._add(record, entry, stamp, before)
        if result is Rejection.REFUSED and fits(before.slice + entry.value):
            self._write(record, entry.key, before.slice + entry.value, stamp)
        return result


class StopsAtTheFirstRefusal(Namespace):
    def _run(self, step: Step, entry: Entry) -> Result:
        if getattr(self, "stopped", 0) == step.at:
            return Rejection.REFUSED
        result = super()._run(step, entry)
        if result is Rejection.REFUSED:
            self.stopped = step.at
        return result


class TakesAwayFirst(Namespace):
    """What fits in the end may not fit on the way."""

    def first(self, old: int, new: int) -> int:
        return -old

    def _run(self, step: Step, entry: Entry) -> Result:
        own = step.record.slices.get(entry.key)
        if entry.kind is Kind.PUT and own:
            first = self.first(own.value, entry.value)
            if not fits(self.registry.total(entry.key) + first):
                return Rejection.REFUSED
        return super()._run(step, entry)


class AddsFirst(TakesAwayFirst):
    def first(self, old: int, new: int) -> int:
        return new


class NeverSplits(Changed):
    def apply(self, request: Apply, record: Record | None) -> Apply:
        return request._replace(entries=[e._replace(folded=False) for e in request.entries])


class BelievesTheInstance(Namespace):
    def _add(self, record: Record, entry: Entry, stamp: int, before: Previous) -> Result:
        result = super()._add(record, entry, stamp, before)
        if isinstance(result, Previous) and entry.after is not None:
            self._write(record, entry.key, entry.after, stamp)
        return result


class Executes500(Changed):
    def done(self, request: Apply, reply: Applied) -> Applied:
        return reply._replace(results=list(reply.results)[:500])


class RunsEntriesBackwards(Changed):
    def apply(self, request: Apply, record: Record | None) -> Apply:
        return request._replace(entries=list(request.entries)[::-1])

    def done(self, request: Apply, reply: Applied) -> Applied:
        return reply._replace(results=list(reply.results)[::-1])


# ------------------------------------------------------------------------------- epochs


class ReapsWhatWasMoved(Registry):
    """H1, H2: the dead take away what others' moves have taken away before."""

    def take_away(self, record: Record, key: str) -> bool:
        gone = self.add(key, -record.slices[key].value)
        if gone:
            del record.slices[key]
        return gone


class KeepsStaleSlices(Namespace):
    """H13, H15: an instance goes on from a slice that no longer counts."""

    def _catch_up(self, record: Record, known: int) -> tuple[Journal, bool]:
        return self.registry.epochs.since(known)


class SetsWithoutEpoch(Epochs):
    __slots__ = ()

    def move(self, key: str, at: int) -> None:
        pass


class DeletesNothingWithoutEpoch(Changed):
    def apply(self, request: Apply, record: Record | None) -> Apply:
        entries = [
            e._replace(kind=Kind.PUT)
            if e.kind is Kind.MOVE and not e.value and not self.registry.total(e.key)
            else e
            for e in request.entries
        ]
        return request._replace(entries=entries)


class ClearsWithoutEpoch(Epochs):
    """H14: what was cleared comes back."""

    __slots__ = ()

    def clear(self, at: int) -> None:
        pass


class ClearsAgain(Namespace):
    """A clear takes what is younger too, until the instance has heard of it."""

    def _catch_up(self, record: Record, known: int) -> tuple[Journal, bool]:
        record.swept = -1
        return super()._catch_up(record, known)


class TellsNoMoves(Changed):
    def done(self, request: Apply, reply: Applied) -> Applied:
        if reply.journal:
            return reply._replace(journal=reply.journal._replace(moves=()))
        return reply


class TellsAllMovesAlways(Epochs):
    __slots__ = ()

    def since(self, known: int) -> tuple[Journal, bool]:
        return super().since(0)


class TellsTheFirstMovesOnly(Epochs):
    __slots__ = ()

    def since(self, known: int) -> tuple[Journal, bool]:
        return super().since(known)[0], False


class TellsAHalfOfAStep(Epochs):
    """The rest of its moves is never told, as they have the same stamp."""

    __slots__ = ()

    def since(self, known: int) -> tuple[Journal, bool]:
        missed = [(key, self.of(key), at) for key, at in self.moved.items() if at > known]
        page = missed[:MAX_JOURNAL]
        latest = page[-1][2] if page else self.latest
        moves = tuple((key, epoch) for key, epoch, _ in page)
        return Journal(self.cleared, self.floor, latest, moves), len(missed) > len(page)


class TellsTooManyMoves(Epochs):
    __slots__ = ()

    def since(self, known: int) -> tuple[Journal, bool]:
        moves = tuple((key, self.of(key)) for key, stamp in self.moved.items() if stamp > known)
        return Journal(self.cleared, self.floor, self.latest, moves), False


class KeepsSlicesUntilItIsTold(Namespace):
    """An instance goes on from a slice that a move has made void which is not told yet."""

    def _catch_up_with(self, record: Record, entries: Sequence[Entry], journal: Journal) -> Journal:
        return journal


class TellsNotOfTheKeysOfTheBatch(Namespace):
    def _catch_up_with(self, record: Record, entries: Sequence[Entry], journal: Journal) -> Journal:
        super()._catch_up_with(record, entries, journal)
        return journal


class SaysThatItHasToldAll(Changed):
    def done(self, request: Apply, reply: Applied) -> Applied:
        return reply._replace(backlog=0)


# ------------------------------------------------------------------------- incarnations


class FencesNobody(Changed):
    def apply(self, request: Apply, record: Record | None) -> Apply:
        if record and request.incarnation < record.incarnation:
            return request._replace(
                incarnation=record.incarnation, seq=record.seq + 1, before=record.seq
            )
        return request


class OpensWithoutLooking(Changed):
    def open(self, request: Open) -> Open:
        record = self.registry.records.get(request.instance)
        return request._replace(expected=record.incarnation if record else 0, born=self.born)


class OpensAgain(Changed):
    def open(self, request: Open) -> Open:
        record = self.registry.records.get(request.instance)
        if record and record.nonce == request.nonce:
            return request._replace(nonce=request.nonce + "'", expected=record.incarnation)
        return request


class AlwaysInherits(Changed):
    def open(self, request: Open) -> Open:
        return request._replace(inherit=True)


class NeverInherits(Changed):
    def open(self, request: Open) -> Open:
        return request._replace(inherit=False)


class InheritsWhatIsOnItsWayOut(Namespace):
    def _open(self, request: Open, now: int) -> Opened | Conflict | Mismatch:
        old = self.registry.records.get(request.instance)
        if old and old.nonce != request.nonce:
            old.inherited = True
        return super()._open(request, now)


class LoadsWhatIsVoid(Namespace):
    def _load(self, request: Load, now: int) -> Any:
        reply = super()._load(request, now)
        if isinstance(reply, Loaded) and not request.cursor:
            slices = self.registry.records[request.instance].slices
            given = {key for key, _, _ in reply.slices}
            more = [(k, s.value, s.stamp) for k, s in slices.items() if k not in given]
            return Loaded(reply.cursor, [*reply.slices, *more[:5]])
        return reply


class RecordsNoLoad(Namespace):
    def _load(self, request: Load, now: int) -> Any:
        return super()._load(request._replace(seq=0), now)


class LoadsOnePage(Namespace):
    def _load(self, request: Load, now: int) -> Any:
        reply = super()._load(request, now)
        return reply._replace(cursor="") if isinstance(reply, Loaded) else reply


# ------------------------------------------------------------------------------ healing


class KeepsLeftovers(Registry):
    def purge(self, *args: Any) -> bool:
        return False


class TakesVoidClaims(Changed):
    def resume(self, request: Resume) -> Resume:
        claims = [claim._replace(stamp=self.clock) for claim in request.claims]
        return request._replace(claims=claims)


class TakesPositiveClaimsOnly(Changed):
    """H6."""

    def resume(self, request: Resume) -> Resume:
        claims = [claim._replace(value=max(0, claim.value)) for claim in request.claims]
        return request._replace(claims=claims)


class TakesNoMoves(Changed):
    def resume(self, request: Resume) -> Resume:
        return request._replace(moves=())


class TakesNoClear(Changed):
    def resume(self, request: Resume) -> Resume:
        return request._replace(cleared=0)


class TakesMovesFor(Changed):
    """A move that is known already is done once more."""

    def resume(self, request: Resume) -> Resume:
        return request._replace(moves=[(key, self.clock) for key, _ in request.moves])


class TakesResumesForOthers(Changed):
    def resume(self, request: Resume) -> Resume:
        return request._replace(born=self.born)


# ------------------------------------------------------------------------- life and death


class NeverReaps(Changed):
    def apply(self, request: Apply, record: Record | None) -> Apply:
        return request._replace(budget=0)


class ReapsWithoutBounds(Changed):
    def apply(self, request: Apply, record: Record | None) -> Apply:
        return request._replace(budget=10_000)


class ReapsLittle(Changed):
    """The keys of a batch are not the first to be free of the dead."""

    def apply(self, request: Apply, record: Record | None) -> Apply:
        return request._replace(budget=min(1, request.budget))


class ReapsHalf(Changed):
    """What a step may take away, it takes half of."""

    def apply(self, request: Apply, record: Record | None) -> Apply:
        return request._replace(budget=request.budget // 2)


class HearsNoHeartbeats(Registry):
    def beat(self, record: Record) -> None:
        if not record.deadline:
            super().beat(record)


class KnowsOneThreshold(Changed):
    def open(self, request: Open) -> Open:
        return request._replace(
            periods=request.periods._replace(threshold=500_000, interval=166_666)
        )


class KnowsHalfOfTheThreshold(Changed):
    def open(self, request: Open) -> Open:
        return request._replace(periods=_halved(request.periods))

    def resume(self, request: Resume) -> Resume:
        return request._replace(periods=_halved(request.periods))


def _halved(periods: Periods) -> Periods:
    return periods._replace(threshold=periods.threshold // 2, interval=periods.interval // 2)


class KnowsNoBlackouts(Registry):
    def __init__(self) -> None:
        super().__init__()
        self.observed = _SeesNoBlackouts()


class _SeesNoBlackouts(Observed):
    def hear(self, now: int, periods: Periods | None = None, heard: Heard | None = None) -> None:
        self.last = max(self.last, self.steady(now))


class SparesTheSilentAfterEachBlackout(Registry):
    def __init__(self) -> None:
        super().__init__()
        self.observed = _GivesAFreshThresholdEachTime()


class _GivesAFreshThresholdEachTime(Observed):
    def judge(self, periods: Periods, heard: Heard, steady: int) -> tuple[int, Heard]:
        return super().judge(periods, heard._replace(graced=0), steady)


class ForgetsMovesEarly(Namespace):
    def _forget_moves(self, now: int, retention: int, moved_now: int) -> None:
        self.registry.epochs.forget(now - retention, moved_now)


class ForgetsMovesBeforeTheirTime(Namespace):
    """All who live have heard of them; who is taken for dead has not."""

    def _forget_moves(self, now: int, retention: int, moved_now: int) -> None:
        super()._forget_moves(self.clock, 0, moved_now)


class NeverForgetsMoves(Namespace):
    def _forget_moves(self, now: int, retention: int, moved_now: int) -> None:
        pass


class BelievesThoseWhoMissedMoves(Changed):
    def resume(self, request: Resume) -> Resume:
        return request._replace(known=self.clock)


class LetsNobodyLeave(Changed):
    def apply(self, request: Apply, record: Record | None) -> Apply:
        return request._replace(leave=False)


# ---------------------------------------------------------------------------------- all


def without_braces(prefix: str) -> str:
    return prefix.replace("{", "").replace("}", "")


def first_tag(prefix: str) -> str:
    """What a server hashes of a name in which the prefix stands between braces."""
    return prefix.partition("}")[0]


class JudgesTooEarly(NamespaceLink):
    """Waits between looking whether a batch was executed and executing it."""

    async def receive(self, request: Request) -> Reply:
        record = self._namespace.registry.records.get(request.instance)
        is_new = isinstance(request, Apply) and record is not None and record.seq == request.follows
        reply = await super().receive(request)
        if is_new and isinstance(reply, Applied) and record is not None:
            if request in self._store.executed:
                record.seq = request.follows
                reply = await super().receive(request)
            self._store.executed.append(request)
        return reply


class JudgingTooEarly(NamespaceStore):
    def __init__(self) -> None:
        super().__init__()
        self.executed: list[Request] = []

    @asynccontextmanager
    async def link(self, prefix: str) -> AsyncIterator[Link]:
        yield JudgesTooEarly(self, self._namespaces.setdefault(prefix, self._make()))


def _judging_too_early() -> Store:
    return JudgingTooEarly()


def _never_connected() -> Store:
    store = NamespaceStore()
    store.connected = False
    return store


#: How to make a store, by what is wrong with it.
MUTANTS: dict[str, Callable[[], Store]] = {
    "never connected": _never_connected,
    "prefixes without braces": lambda: NamespaceStore(where=without_braces),
    "prefixes up to a brace": lambda: NamespaceStore(where=first_tag),
    "prefixes up to a colon": lambda: NamespaceStore(where=lambda name: name.partition(":")[0]),
    "prefixes unquoted": lambda: NamespaceStore(where=unquote),
    "prefixes in one case": lambda: NamespaceStore(where=str.casefold),
    "prefixes cut": lambda: NamespaceStore(where=lambda prefix: prefix[:200]),
    "one namespace": lambda: NamespaceStore(where=lambda prefix: "the one"),
    **{
        f"keys: {name}": lambda change=change: NamespaceStore(with_keys(change))
        for name, change in (
            ("normalized", lambda key: unicodedata.normalize("NFC", key)),
            ("in one case", str.casefold),
            ("stripped", str.strip),
            ("cut", lambda key: key[:254]),
            ("without a colon in front", lambda key: key.removeprefix(":")),
            ("up to a colon", lambda key: key.rpartition(":")[0] or key),
            ("cut at zero bytes", lambda key: key.partition("\0")[0]),
            ("as numbers", lambda key: str(int(key)) if key.lstrip("+-").isdecimal() else key),
        )
    },
    **{
        kind.__name__: lambda kind=kind: NamespaceStore(with_registry(kind))
        for kind in (
            *(NeverForgets, SumsInDoubles, Saturates, WrapsAround, ReapsWhatWasMoved),
            *(KeepsLeftovers, HearsNoHeartbeats, KnowsNoBlackouts),
            SparesTheSilentAfterEachBlackout,
        )
    },
    **{
        kind.__name__: lambda kind=kind: NamespaceStore(with_epochs(kind))
        for kind in (
            *(SetsWithoutEpoch, ClearsWithoutEpoch, TellsAllMovesAlways, TellsTheFirstMovesOnly),
            *(TellsTooManyMoves, TellsAHalfOfAStep),
        )
    },
    "ExecutesCopiesThatComeAtOnce": _judging_too_early,
    **{
        kind.__name__: lambda kind=kind: NamespaceStore(kind)
        for kind in (
            *(ExecutesRepeats, AnswersRepeatsAnew, ExecutesLateCopies, IgnoresGaps),
            *(IgnoresWhatWasWithdrawn, AnswersForAnother),
            *(ClearsAgain, RemembersWhatLeaversGot),
            *(ForgetsLeavers, AnswersInDoubles, AnswersDoubles, KeepsTheSliceOfWhatItRefuses),
            *(StopsAtTheFirstRefusal, TakesAwayFirst, AddsFirst, NeverSplits, BelievesTheInstance),
            *(Executes500, RunsEntriesBackwards, KeepsStaleSlices, DeletesNothingWithoutEpoch),
            *(KeepsSlicesUntilItIsTold, TellsNotOfTheKeysOfTheBatch, SaysThatItHasToldAll),
            *(TellsNoMoves, FencesNobody, OpensWithoutLooking, OpensAgain, AlwaysInherits),
            *(NeverInherits, LoadsWhatIsVoid, RecordsNoLoad, LoadsOnePage, TakesVoidClaims),
            InheritsWhatIsOnItsWayOut,
            *(TakesPositiveClaimsOnly, TakesNoMoves, TakesNoClear, TakesMovesFor),
            *(TakesResumesForOthers, NeverReaps, ReapsWithoutBounds, ReapsLittle),
            ReapsHalf,
            *(KnowsOneThreshold, LetsNobodyLeave, ForgetsMovesEarly),
            *(NeverForgetsMoves, BelievesThoseWhoMissedMoves),
        )
    },
}
