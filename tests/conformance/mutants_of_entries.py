"""Stores that break one rule of whole batches, conditions, guards, forgetting or queries.

Each is named with the check that is there to find it, and found by that check alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from distkit_actors._namespace._entries import Step
from distkit_actors._namespace._namespace import Namespace
from distkit_actors._namespace._registry import Record, Registry, State
from distkit_actors._protocol._messages import (
    JUST_COME,
    MAX_PURGE,
    Applied,
    Apply,
    ConditionFailed,
    Conflict,
    Entry,
    Forget,
    Forgotten,
    Kind,
    Open,
    Opened,
    Peek,
    Peeked,
    Previous,
    Query,
    QueryKind,
    QueryPage,
    Rejection,
    Reply,
    Request,
    Result,
    Resume,
)
from tests.conformance.mutants import (
    Changed,
    ForgetsMovesBeforeTheirTime,
    ForgetsWhatTheDeadGot,
    KnowsHalfOfTheThreshold,
)

# --------------------------------------------------------------------------------- whole


class IgnoresWhole(Changed):
    def apply(self, request: Apply, record: Record | None) -> Apply:
        return request._replace(atomic=False)


class KeepsSlicesOfWhatIsUndone(Namespace):
    def _run_all(self, step: Step, entries: Sequence[Entry]) -> tuple[Result, ...]:
        results = super()._run_all(step, entries)
        for entry, result in zip(entries, results, strict=True):
            if result is Rejection.UNDONE and entry.kind is Kind.ADD:
                own = step.record.slices.get(entry.key)
                value = entry.value + (own.value if own else 0)
                self._write(step.record, entry.key, value, own.stamp if own else step.at)
        return results


class KeepsSumsOfWhatIsUndone(Namespace):
    def _run_all(self, step: Step, entries: Sequence[Entry]) -> tuple[Result, ...]:
        results = super()._run_all(step, entries)
        for entry, result in zip(entries, results, strict=True):
            if result is Rejection.UNDONE and entry.kind is Kind.ADD:
                self.registry.add(entry.key, entry.value)
        return results


class MakesWhatIsUndoneAnew(Namespace):
    def _run_all(self, step: Step, entries: Sequence[Entry]) -> tuple[Result, ...]:
        results = super()._run_all(step, entries)
        for entry, result in zip(entries, results, strict=True):
            own = step.record.slices.get(entry.key)
            if result is Rejection.UNDONE and own is not None:
                self._write(step.record, entry.key, own.value, step.at)
        return results


class UndoesWhereOneIsDeclined(Namespace):
    def _refusal_of(self, step: Step, entry: Entry) -> Result | None:
        result = super()._refusal_of(step, entry)
        atomic = isinstance(step.request, Apply) and step.request.atomic
        return Rejection.REFUSED if atomic and isinstance(result, ConditionFailed) else result


# ---------------------------------------------------------------------------- conditions


class IgnoresConditions(Changed):
    def apply(self, request: Apply, record: Record | None) -> Apply:
        return request._replace(entries=[e._replace(condition=None) for e in request.entries])


class LooksAtTheOtherValue(Changed):
    def apply(self, request: Apply, record: Record | None) -> Apply:
        entries = [entry._replace(of_own=not entry.of_own) for entry in request.entries]
        return request._replace(entries=entries)


class DecidesBeforeTheBatch(Namespace):
    def _run_all(self, step: Step, entries: Sequence[Entry]) -> tuple[Result, ...]:
        decided = [entry.condition and self._refusal_of(step, entry) for entry in entries]
        results: list[Result] = []
        for entry, found in zip(entries, decided, strict=True):
            results += (
                [found] if found else super()._run_all(step, [entry._replace(condition=None)])
            )
        return tuple(results)


class Compares(Namespace):
    """Compares numbers as something else."""

    def rough(self, number: int) -> float | str:
        return number

    def _refusal_of(self, step: Step, entry: Entry) -> Result | None:
        condition = entry.condition
        if condition is None:
            return super()._refusal_of(step, entry)
        own = step.record.slices.get(entry.key)
        found = ConditionFailed(self.registry.total(entry.key), own.value if own else 0)
        exact = found.slice if entry.of_own else found.cumulative
        current, number = self.rough(exact), self.rough(condition.value)
        order = (current > number) - (current < number)  # type: ignore[operator]
        return None if type(condition)(0).holds(order) else found


class ComparesAsDoubles(Compares):
    def rough(self, number: int) -> float:
        return float(number)


class ComparesAsStrings(Compares):
    def rough(self, number: int) -> str:
        return str(number)


class ComparesWithoutSigns(Compares):
    def rough(self, number: int) -> float:
        return abs(number)


class ComparesByLength(Compares):
    """Longer is more, also for negative numbers."""

    def rough(self, number: int) -> float:
        return len(str(number)) * 10**20 + number


class MovesWhatIsDeclined(Namespace):
    def _refusal_of(self, step: Step, entry: Entry) -> Result | None:
        result = super()._refusal_of(step, entry)
        if isinstance(result, ConditionFailed) and entry.kind is Kind.MOVE:
            self.registry.epochs.move(entry.key, step.at)
            self.clock = step.at
        return result


class SaysDoneOfWhatIsDeclined(Changed):
    def done(self, request: Apply, reply: Applied) -> Applied:
        results = [Previous(*r) if isinstance(r, ConditionFailed) else r for r in reply.results]
        return reply._replace(results=results)


class RemembersDoneOfWhatIsDeclined(SaysDoneOfWhatIsDeclined):
    def done(self, request: Apply, reply: Applied) -> Applied:
        return reply if reply.journal else super().done(request, reply)


# -------------------------------------------------------------------------------- guards


class IgnoresGuards(Changed):
    def apply(self, request: Apply, record: Record | None) -> Apply:
        return request._replace(entries=[e._replace(guarded=False) for e in request.entries])


class GuardsAlways(Namespace):
    def _moved_since(self, request: Apply) -> set[str]:
        return {entry.key for entry in request.entries if entry.guarded}


class GuardsAfterAnyMove(Namespace):
    def _moved_since(self, request: Apply) -> set[str]:
        latest = self.registry.epochs.latest
        return {e.key for e in request.entries if e.guarded and latest > request.known}


class GuardsNotAfterClears(Namespace):
    def _moved_since(self, request: Apply) -> set[str]:
        return {key for key in super()._moved_since(request) if key in self.registry.epochs.moved}


class GuardsByWhatIsTold(Namespace):
    def _moved_since(self, request: Apply) -> set[str]:
        journal, _ = self.registry.epochs.since(request.known)
        return super()._moved_since(request) & {key for key, _ in journal.moves}


# -------------------------------------------------------------------------------- forget


class ForgetsNobody(Namespace):
    def _forget(self, instance: str, now: int) -> Previous:
        return Previous(0, 0)


class ForgetsWhoAsks(Namespace):
    def _run(self, step: Step, entry: Entry) -> Result:
        if entry.kind is Kind.FORGET:
            return self._forget(entry.key, step.now)
        return super()._run(step, entry)


class LetsTheForgottenLive(Namespace):
    def _forget(self, instance: str, now: int) -> Previous:
        result = super()._forget(instance, now)
        if record := self.registry.records.get(instance):
            record.state = State.LIVE
        return result


class ForgetsWhoHasSlicesOnly(Namespace):
    def _forget(self, instance: str, now: int) -> Previous:
        record = self.registry.records.get(instance)
        return super()._forget(instance, now) if record and record.slices else Previous(0, 0)


class ForgetsAllAtOnce(Namespace):
    def _forget(self, instance: str, now: int) -> Previous:
        left, gone = super()._forget(instance, now)
        return (
            Previous(0, gone + self._forget(instance, now).slice)
            if left and gone
            else (Previous(left, gone))
        )


class ForgetsOneThousand(Namespace):
    def _forget(self, instance: str, now: int) -> Previous:
        return super()._forget(instance, now)._replace(cumulative=0)


class ForgetsWhatDoesNotFit(Namespace):
    def _forget(self, instance: str, now: int) -> Previous:
        left, gone = super()._forget(instance, now)
        record = self.registry.records.get(instance)
        if record and left < MAX_PURGE:
            record.slices.clear()
        return Previous(0, gone)


# ------------------------------------------------------------------------------- queries


class Queries(Namespace):
    """Answers queries otherwise."""

    def execute(self, request: Request, now: int) -> Reply:
        if isinstance(request, Query):
            self.looked(request, now)
        reply = super().execute(request, now)
        if isinstance(request, Query) and isinstance(reply, QueryPage):
            rows = self.rows(request, list(reply.rows))
            said = {row[0]: about for row, about in zip(reply.rows, reply.about, strict=False)}
            about = [said.get(row[0], (0, "")) for row in rows] if said else ()
            return reply._replace(rows=rows, about=about)
        return reply

    def looked(self, request: Query, now: int) -> None:
        pass

    def rows(
        self, request: Query, rows: list[tuple[str, int, bool]]
    ) -> list[tuple[str, int, bool]]:
        return rows


class ShowsVoidSlices(Queries):
    def rows(
        self, request: Query, rows: list[tuple[str, int, bool]]
    ) -> list[tuple[str, int, bool]]:
        if request.kind is not QueryKind.SLICES:
            return rows
        records = self.registry.records.items()
        return [
            (i, r.slices[request.key].value, True) for i, r in records if request.key in r.slices
        ]


class ShowsKeysOfAnySlice(Queries):
    def rows(
        self, request: Query, rows: list[tuple[str, int, bool]]
    ) -> list[tuple[str, int, bool]]:
        if request.kind is not QueryKind.KEYS:
            return rows
        keys = {key for record in self.registry.records.values() for key in record.slices}
        return [(key, self.registry.total(key), True) for key in keys]


class LeavesWhoAsksOut(Queries):
    def rows(
        self, request: Query, rows: list[tuple[str, int, bool]]
    ) -> list[tuple[str, int, bool]]:
        return [row for row in rows if row[0] != request.instance]


class ShowsOnePage(Queries):
    def rows(
        self, request: Query, rows: list[tuple[str, int, bool]]
    ) -> list[tuple[str, int, bool]]:
        return rows[:500]


class SaysAllAreAlive(Queries):
    def rows(
        self, request: Query, rows: list[tuple[str, int, bool]]
    ) -> list[tuple[str, int, bool]]:
        return [(name, number, True) for name, number, _ in rows]


class LeavesTheDeadOut(Queries):
    def rows(
        self, request: Query, rows: list[tuple[str, int, bool]]
    ) -> list[tuple[str, int, bool]]:
        return [row for row in rows if row[2]]


class ShowsTheDeparted(Queries):
    def rows(
        self, request: Query, rows: list[tuple[str, int, bool]]
    ) -> list[tuple[str, int, bool]]:
        if request.kind is not QueryKind.INSTANCES:
            return rows
        shown = {row[0] for row in rows}
        return rows + [(name, 0, False) for name in self.registry.records if name not in shown]


class CountsTheDead(Queries):
    def rows(
        self, request: Query, rows: list[tuple[str, int, bool]]
    ) -> list[tuple[str, int, bool]]:
        return [row for row in rows if request.kind is not QueryKind.VALUES or row[2]]


class CountsTheReapQueue(Queries):
    def rows(
        self, request: Query, rows: list[tuple[str, int, bool]]
    ) -> list[tuple[str, int, bool]]:
        queued = list(map(self.registry.records.__getitem__, self.registry.reap_queue))
        of_them = {(k, s.value) for record in queued for k, s in record.slices.items()}
        return [row for row in rows if row[2] or (row[0], row[1]) not in of_them]


class TakesVoidSlicesOff(Queries):
    def rows(
        self, request: Query, rows: list[tuple[str, int, bool]]
    ) -> list[tuple[str, int, bool]]:
        if request.kind is not QueryKind.VALUES:
            return rows
        dead = [row[0] for row in rows if not row[2]]
        void = [
            (key, piece.value, False)
            for record in self.registry.records.values()
            for key, piece in record.slices.items()
            if dead and key in request.keys and piece.stamp < self.registry.epochs.of(key)
        ]
        return rows + void


class BelievesTheClockAlways(Queries):
    def execute(self, request: Request, now: int) -> Reply:
        if isinstance(request, Query) and request.observed is not None:
            request = request._replace(observed=JUST_COME)
        return super().execute(request, now)


class SparesAllSilence(Queries):
    def execute(self, request: Request, now: int) -> Reply:
        if isinstance(request, Query) and request.observed == JUST_COME:
            request = request._replace(observed=0)
        return super().execute(request, now)


class HoldsVoidSlices(Queries):
    def rows(
        self, request: Query, rows: list[tuple[str, int, bool]]
    ) -> list[tuple[str, int, bool]]:
        record = self.registry.records.get(request.key)
        if request.kind is not QueryKind.HELD or record is None:
            return rows
        return [(key, piece.value, True) for key, piece in record.slices.items()]


class ForgetsInOneStep(Namespace):
    def execute(self, request: Request, now: int) -> Reply:
        reply = super().execute(request, now)
        while isinstance(request, Forget) and isinstance(reply, Forgotten) and reply.left:
            more = super().execute(request, now)
            assert isinstance(more, Forgotten)
            reply = Forgotten(more.left, reply.gone + more.gone)
        return reply


class OnlookersForgetNobody(Namespace):
    def execute(self, request: Request, now: int) -> Reply:
        return Forgotten(0, 0) if isinstance(request, Forget) else super().execute(request, now)


class AgesInMilliseconds(Queries):
    def rows(
        self, request: Query, rows: list[tuple[str, int, bool]]
    ) -> list[tuple[str, int, bool]]:
        if request.kind is not QueryKind.INSTANCES:
            return rows
        return [(name, number // 1000, alive) for name, number, alive in rows]


class TakesALookForABeat(Queries):
    def looked(self, request: Query, now: int) -> None:
        if record := self.registry.records.get(request.instance):
            self.registry.observed.hear(now, record.periods, record.heard)
            self.registry.beat(record)


class TakesALookForABeatOfAll(Queries):
    def looked(self, request: Query, now: int) -> None:
        if not request.instance:
            self.registry.observed.hear(now)


class ReapsWhereItLooks(Queries):
    def looked(self, request: Query, now: int) -> None:
        for name, record in list(self.registry.records.items()):
            if record.state is State.LIVE and record.deadline <= now:
                self._forget(name, now)


# ---------------------------------------------------------------------------------- about


class Says(Namespace):
    """Keeps something else than what instances say of themselves."""

    def execute(self, request: Request, now: int) -> Reply:
        said = {name: record.about for name, record in self.registry.records.items()}
        reply = super().execute(request, now)
        if isinstance(request, Open | Resume | Apply):
            record = self.registry.records.get(request.instance)
            if record is not None:
                self.keep(request, record, said.get(request.instance))
        return reply

    def keep(self, request: Open | Resume | Apply, record: Record, before: str | None) -> None:
        raise NotImplementedError


class ForgetsWhatIsSaid(Says):
    def keep(self, request: Open | Resume | Apply, record: Record, before: str | None) -> None:
        if isinstance(request, Open):
            record.about = ""


class CutsWhatIsSaid(Says):
    def keep(self, request: Open | Resume | Apply, record: Record, before: str | None) -> None:
        record.about = record.about[:65]


class ForgetsWhatIsSaidWithAClear(Says):
    def keep(self, request: Open | Resume | Apply, record: Record, before: str | None) -> None:
        if isinstance(request, Apply) and request.known < self.registry.epochs.cleared:
            record.about = ""


class KeepsWhatAPredecessorSaid(Says):
    def keep(self, request: Open | Resume | Apply, record: Record, before: str | None) -> None:
        record.about = before or record.about


class ForgetsWhatIsSaidInAResume(Says):
    def keep(self, request: Open | Resume | Apply, record: Record, before: str | None) -> None:
        if isinstance(request, Resume):
            record.about = ""


class TakesEachPartAtItsWord(Says):
    def keep(self, request: Open | Resume | Apply, record: Record, before: str | None) -> None:
        if isinstance(request, Resume):
            record.about = request.about


class SaysNothingOfIncarnations(Namespace):
    def execute(self, request: Request, now: int) -> Reply:
        reply = super().execute(request, now)
        if isinstance(reply, QueryPage):
            return reply._replace(about=[(0, about) for _, about in reply.about])
        return reply


# ------------------------------------------------------------------------------- opening


class Peeks(Namespace):
    """Says something else of who is alive to those who peek."""

    def _peek(self, request: Peek, now: int) -> Peeked:
        peeked = super()._peek(request, now)
        record = self.registry.records.get(request.instance)
        return peeked._replace(alive=record is not None and self.is_alive(record, peeked.alive))

    def is_alive(self, record: Record, alive: bool) -> bool:
        return alive


class PeeksAtNobodyAlive(Peeks):
    def is_alive(self, record: Record, alive: bool) -> bool:
        return False


class PeeksAtTheDeadAlive(Peeks):
    def is_alive(self, record: Record, alive: bool) -> bool:
        return record.state is not State.LEFT


class PeeksAtTheDepartedAlive(Peeks):
    def is_alive(self, record: Record, alive: bool) -> bool:
        return alive or record.state is State.LEFT


class PeeksAtTheOverdueAlive(Peeks):
    def is_alive(self, record: Record, alive: bool) -> bool:
        return record.state is State.LIVE


class TakesOverAlways(Changed):
    def open(self, request: Open) -> Open:
        return request._replace(refuse=False)


class TakesOverFromNobody(Namespace):
    def _open(self, request: Open, now: int) -> Opened | Conflict:
        old = self.registry.records.get(request.instance)
        if request.refuse and old:
            return Conflict(old.incarnation)
        return super()._open(request, now)


# --------------------------------------------------------------------------------- parts


class AgreesAlways(Registry):
    def agree(self, partitions: int, now: int) -> bool:
        self.partitions = partitions
        return True


class AgreesWithNobody(Registry):
    def agree(self, partitions: int, now: int) -> bool:
        return partitions == self.partitions


class LetsThemLiveOn(Registry):
    def agree(self, partitions: int, now: int) -> bool:
        before = dict(self.records)
        if not super().agree(partitions, now):
            return False
        for record in before.values():
            record.state = State.LIVE
        return True


class TellsNoNumber(Queries):
    def execute(self, request: Request, now: int) -> Reply:
        reply = super().execute(request, now)
        return reply._replace(partitions=0) if isinstance(reply, QueryPage) else reply


class AgreesWithWhoeverComesBack(Namespace):
    def _disagreement(self, request: Resume, now: int) -> Reply | None:
        return None


class _Agrees(Namespace):
    kind: type[Registry]

    def __init__(self) -> None:
        super().__init__()
        self.registry = self.kind()


class AlwaysAgrees(_Agrees):
    kind = AgreesAlways


class NeverAgrees(_Agrees):
    kind = AgreesWithNobody


class LetsTheOthersLiveOn(_Agrees):
    kind = LetsThemLiveOn


# -------------------------------------------------------------------------------- claims


class KeepsItsAge(Namespace):
    def _add(self, record: Record, entry: Entry, stamp: int, before: Previous) -> Result:
        own = record.slices.get(entry.key)
        return super()._add(record, entry, own.stamp if own else stamp, before)


class BecomesAsOldAsTheClaim(Namespace):
    def _add(self, record: Record, entry: Entry, stamp: int, before: Previous) -> Result:
        result = super()._add(record, entry, stamp, before)
        own = record.slices.get(entry.key)
        if own and entry.kind is Kind.CLAIM:
            record.slices[entry.key] = own._replace(stamp=entry.stamp)
        return result


#: Mutants, by the check that finds each.
BY_CHECK: dict[str, tuple[type[Namespace], ...]] = {
    "whole_batches_stand_or_fall": (
        *(IgnoresWhole, KeepsSlicesOfWhatIsUndone, KeepsSumsOfWhatIsUndone),
        UndoesWhereOneIsDeclined,
    ),
    "what_is_undone_was_never_made": (MakesWhatIsUndoneAnew,),
    "conditions_are_decided_in_order": (
        *(IgnoresConditions, LooksAtTheOtherValue, DecidesBeforeTheBatch),
        *(MovesWhatIsDeclined, SaysDoneOfWhatIsDeclined),
    ),
    "conditions_are_exact": (
        *(ComparesAsDoubles, ComparesAsStrings, ComparesWithoutSigns, ComparesByLength),
    ),
    "verdicts_are_remembered": (RemembersDoneOfWhatIsDeclined,),
    "guards_stop_what_is_void": (
        *(IgnoresGuards, GuardsAlways, GuardsAfterAnyMove, GuardsNotAfterClears),
    ),
    "guards_look_beyond_what_is_told": (GuardsByWhatIsTold,),
    "slices_become_one": (KeepsItsAge, BecomesAsOldAsTheClaim),
    "the_forgotten_are_dead": (
        *(ForgetsNobody, ForgetsWhoAsks, LetsTheForgottenLive, ForgetsWhoHasSlicesOnly),
    ),
    "forgetting_is_bounded": (ForgetsAllAtOnce, ForgetsOneThousand, ForgetsWhatDoesNotFit),
    "queries_tell_who_has_what": (ShowsVoidSlices, ShowsKeysOfAnySlice, LeavesWhoAsksOut),
    "looks_are_free_of_the_dead": (
        *(CountsTheDead, CountsTheReapQueue, TakesVoidSlicesOff, BelievesTheClockAlways),
        *(SparesAllSilence, HoldsVoidSlices, SaysAllAreAlive, TakesALookForABeatOfAll),
    ),
    "onlookers_forget": (ForgetsInOneStep, OnlookersForgetNobody),
    "queries_come_in_pages": (ShowsOnePage,),
    "queries_tell_who_is_there": (
        *(SaysAllAreAlive, LeavesTheDeadOut, ShowsTheDeparted, AgesInMilliseconds),
        *(TakesALookForABeat, ReapsWhereItLooks),
    ),
    "instances_say_who_they_are": (
        *(ForgetsWhatIsSaid, CutsWhatIsSaid, ForgetsWhatIsSaidWithAClear),
        *(KeepsWhatAPredecessorSaid, SaysNothingOfIncarnations),
    ),
    "the_lost_say_who_they_are": (ForgetsWhatIsSaidInAResume, TakesEachPartAtItsWord),
    "the_dead_return": (ForgetsWhatTheDeadGot, ForgetsMovesBeforeTheirTime),
    "heartbeats_keep_alive": (KnowsHalfOfTheThreshold,),
    "the_living_keep_their_ids": (
        *(PeeksAtNobodyAlive, PeeksAtTheDeadAlive, PeeksAtTheDepartedAlive),
        *(PeeksAtTheOverdueAlive, TakesOverAlways, TakesOverFromNobody),
    ),
    "the_living_agree_on_parts": (AlwaysAgrees, TellsNoNumber, AgreesWithWhoeverComesBack),
    "the_number_of_parts_may_change": (
        *(NeverAgrees, LetsTheOthersLiveOn, AgreesWithWhoeverComesBack),
    ),
    "several_keys": (IgnoresWhole,),
    "conditional_operations": (IgnoresConditions, MovesWhatIsDeclined),
    "holds_end": (IgnoresGuards, GuardsNotAfterClears, IgnoresConditions),
    "the_fleet_is_seen": (ForgetsNobody, LeavesWhoAsksOut, ShowsKeysOfAnySlice),
}
