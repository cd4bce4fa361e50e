"""What the counters must hold: one key, in plain Python, without a line of the package's.

Nobody knows which of the operations without an answer took effect, nor when. So the model
holds every *world* that is possible: what each instance has counted, and which of the open
operations are part of it already. An answer removes the worlds in which it could not have been
given; if none is left, the package is wrong. (For `inc` alone this is Maelstrom's pn-counter
oracle: what was acknowledged plus any subset of what is indeterminate.)

There are no epochs in here: a slice older than its key's epoch counts as absent everywhere
(I2), so a move simply empties the world, of holds too: what is void cannot be taken back. What
an instance has counted stays in the world while its process lives, reaped or not, for it comes
back with all of it (I4).

Where the store has lost a move, and somebody who has not heard of it may count before the mover
tells it again (L1), nobody can tell what the key holds: values mean nothing *for a while*. But what
such a *suspect* counts is either there at the end or it is not, and nothing else is: so its
operations take effect in one world and in another they do not. Of a hold that is not there nothing
is taken back (I13).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from operator import eq, ge, gt, le, lt, ne
from typing import TypeAlias

LOW, HIGH = -(2**63), 2**63 - 1

Value: TypeAlias = tuple[int, int]
Slices: TypeAlias = frozenset[tuple[str, int]]
#: Whose, and which.
Hold: TypeAlias = tuple[str, int]
#: What counts, the holds that are to be taken back, and what the open operations have returned.
World: TypeAlias = tuple[Slices, frozenset[Hold], "frozenset[tuple[Op, frozenset[object]]]"]

#: Answers other than a value (None for `clear` and `clear_on_instance`; for an operation with a
#: condition the values before and after, and whether it was applied).
LIMIT = "limit"  # nothing was added, for that would be more than the limit of a hold
OVERFLOW = "overflow"  # changed nothing, for it would leave int64
NEVER = "never"  # took no effect and never will
APPLIED = "applied"  # took effect; nobody knows what it would have returned
MAYBE = "maybe"  # took effect or never will

#: What an operation has returned whose values mean nothing, see `Key.blur`.
CHANGED, UNCHANGED = "changed", "unchanged"

MOVES = {"set", "delete", "clear"}

_COMPARE = {"==": eq, "!=": ne, "<": lt, "<=": le, ">": gt, ">=": ge}


class Unexplained(AssertionError):  # noqa: N818 (what it says)
    """No order of the operations gives the answers that were given."""


@dataclass(eq=False)
class Op:
    """One operation: inc, put (set_on_instance), remove, remove_all, get, one of `MOVES`, or
    enter and exit for the ends of a hold."""

    who: str
    kind: str
    count: int = 0
    condition: tuple[str, int] | None = None
    of_own: bool = False  # the condition is about the own slice
    hold: Hold | None = None
    pending_count: bool = False  # counted in a lax counter's memory
    sees_pending: bool = False  # a lax counter's read
    after: tuple[Op, ...] = ()  # counts that its own counter sends before it
    doomed: bool = False  # it may be lost with a void slice (L1)
    voidable: bool = False  # taken for done before the last move, if it is in doubt (L4)

    def __repr__(self) -> str:
        return f"{self.who}.{self.kind}({self.count})"


class Key:
    """Everything that one key may hold."""

    def __init__(self) -> None:
        self.worlds: set[World] = {(frozenset(), frozenset(), frozenset())}
        self.open: list[Op] = []  # operations that may still take effect
        self.loose = False  # a documented limit was passed: anything goes until the next move
        self.suspects: set[str] = set()  # who may count on a void slice (L1); values mean nothing
        self.stale: set[str] = set()  # of whom the store may have an old slice; values mean nothing
        self._early: set[Op] = set()  # loose: open ones that others may have come after
        self._retold: set[Op] = set()  # open ones of which the store has lost what it answered

    @property
    def vague(self) -> bool:
        """Whether nobody can tell what it holds, or what anybody is told of it."""
        return self.loose or bool(self.suspects or self.stale)

    def loosen(self) -> None:
        """A documented limit was passed."""
        self.loose = True
        self.suspects.clear()
        self.stale.clear()
        self._early.update(self.open)

    def lose_answers(self) -> None:
        """The store has lost everything, and so what it answered to those who still wait.

        What they did to their own slices is part of what their instances assert again, and they are
        told the sum that comes of it then.
        """
        self._retold.update(self.open)

    def blur(self, suspects: Collection[str]) -> None:
        """The store has lost a move that these have not heard of, and its mover is not back (L1).

        If they have slices after all, made since the move, these may get lost as a whole.
        """
        if self.loose:
            return
        self.suspects.update(suspects)
        for op in self.open:
            op.doomed = op.doomed or op.who in suspects
        for who in suspects:
            self.drop(who, surely=False, holds=True)

    def go_back(self, known: Collection[str]) -> None:
        """The store has of these what it had at an earlier time.

        Until all have told it what they have, or are taken for dead, its sum means nothing.
        """
        if not self.loose:
            self.stale.update(known)

    def catch_up(self, stale: Collection[str]) -> None:
        """Only of these the store may still have what it had; an open answer may be as old."""
        if self.stale.isdisjoint(stale) and not self.open:
            self.stale.clear()

    def clear_up(self) -> None:
        """All suspects have heard of the move: what is left of their counts stays."""
        if not any(op.doomed for op in self.open):
            self.suspects.clear()

    def explain(
        self, answers: Mapping[Op, object], unsure: Collection[str], absent: Collection[str]
    ) -> None:
        """Take answers in, with the slices of ``absent`` not counted and of ``unsure`` maybe."""
        possible = [op for op in self.open if answers.get(op) is not NEVER]
        here = [op for op in self.open if op in answers]
        self.open = [op for op in self.open if op not in answers]
        if self.loose:
            if len(here) == 1 and not self.open and here[0] not in self._early:
                op = here[0]
                if has_moved(op, answers[op]):
                    self.loose = False
                    self.worlds = {(_slices({op.who: op.count}), frozenset(), frozenset())}
            self._early = set(self.open) if here else self._early & set(self.open)
            return
        undecided = self.worlds | set(self._decided_anew())
        worlds = {self._told_again(world, unsure, absent) for world in undecided}
        fresh = list(worlds)
        while fresh:
            slices, held, done = fresh.pop()
            ready = [op for op in possible if not any(op is each for each, _ in done)]
            for op in ready:
                if not op.sees_pending and any(first in ready for first in op.after):
                    continue
                if self.suspects or self.stale:
                    outcomes = _vague_outcomes(op, dict(slices), held)
                else:
                    outcomes = _outcomes_seen(op, dict(slices), held, ready, unsure, absent)
                for after, holding, results in outcomes:
                    told = done | {(op, frozenset(results))}
                    world = (_slices(after), holding, told)
                    if op.kind == "get":
                        world = (slices, held, told)
                    world = self._told_again(world, unsure, absent)
                    if _agrees(op, results, answers) and world not in worlds:
                        worlds.add(world)
                        fresh.append(world)
        self.worlds = {
            (slices, held, frozenset((op, results) for op, results in done if op not in answers))
            for slices, held, done in worlds
            if all(_explained(op, dict(done), answers) for op in here)
        }
        if not self.worlds:
            told = {op: answers[op] for op in here}
            before = sorted({tuple(sorted(slices)) for slices, _, _ in worlds})
            raise Unexplained(f"{told} cannot be; open: {self.open}; known: {before}")

    def _decided_anew(self) -> Iterator[World]:
        """Let the store decide on a condition again, where a move has taken what came of it.

        It has lost what it decided, and the move has nothing to take away any more.
        """
        for slices, held, done in self.worlds:
            for op, results in done:
                if op in self._retold and op.condition and not dict(slices).get(op.who):
                    yield slices, held, done - {(op, results)}

    def _told_again(self, world: World, unsure: Collection[str], absent: Collection[str]) -> World:
        """Let those whose answers are lost be told the sum as it is now."""
        slices, held, done = world
        if not self._retold:
            return world
        told = set()
        for op, results in done:
            if op in self._retold and op.condition is None and op.kind in ("inc", "put", "enter"):
                for _, own in (each for each in results if isinstance(each, tuple)):
                    seen = {**dict(slices), op.who: own}
                    totals = _totals(seen, op.who, unsure, absent)
                    results |= {(total, own) for total in totals}
            told.add((op, results))
        return slices, held, frozenset(told)

    def own(self, who: str) -> set[int]:
        """Return what ``who`` may see of its own slice, everything it counted included."""
        views = set()
        for slices, held, done in self.worlds:
            seen, kept = dict(slices), held
            for op in self.open:
                if op.pending_count and op.who == who and op not in dict(done):
                    seen, kept = _counted(op, seen, kept)
            views.add(seen.get(who, 0))
        return views

    def untold(self, who: str) -> bool:
        """Whether ``who`` may not know of something that has changed its own slice.

        It is done, as what others were told shows, and its own answer is not there.
        """
        mine = {op for op in self.open if op.who == who and not op.pending_count}
        return any(op in mine for _, _, done in self.worlds for op, _ in done)

    def shares(self, who: str, unsure: Collection[str], absent: Collection[str]) -> set[Slices]:
        """Return whose slices ``who`` may see, while nothing is open."""
        views = set()
        for slices, _, _ in self.worlds:
            sure, maybe = _counting(dict(slices), who, unsure, absent)
            for size in range(len(maybe) + 1):
                views.update(frozenset([*sure, *some]) for some in combinations(maybe, size))
        return views

    def values(self, who: str, unsure: Collection[str]) -> set[Value]:
        """Return what ``who`` may be told, while nothing is open."""
        views = set()
        for held, _, _ in self.worlds:
            slices = dict(held)
            own = slices.get(who, 0)
            views.update((total, own) for total in _totals(slices, who, unsure, ()))
        return views

    def drop(self, who: str, *, surely: bool = True, holds: bool = False) -> None:
        """The slice of ``who`` is gone for good, and with it perhaps what is held."""
        worlds = {
            (
                frozenset(pair for pair in slices if pair[0] != who),
                frozenset(hold for hold in held if not (holds and hold[0] == who)),
                done,
            )
            for slices, held, done in self.worlds
        }
        self.worlds = worlds if surely else worlds | self.worlds

    def let_go(self, who: str) -> None:
        """Nobody is left who could take the holds of ``who`` back."""
        self.worlds = {(s, frozenset(x for x in h if x[0] != who), d) for s, h, d in self.worlds}

    def may_not_fit(self) -> bool:
        """Whether some of the slices without the others leave int64, so that I12 applies."""
        return any(
            sum(n for _, n in slices if n > 0) > HIGH or sum(n for _, n in slices if n < 0) < LOW
            for slices, _, _ in self.worlds
        )


def has_moved(op: Op, answer: object) -> bool:
    """Tell whether an operation has surely moved the epoch."""
    if op.kind not in MOVES or answer in (MAYBE, NEVER):
        return False
    return op.condition is None or not isinstance(answer, tuple) or bool(answer[2])


def _sights(
    op: Op, slices: dict[str, int], held: frozenset[Hold], open_: list[Op]
) -> Iterator[tuple[dict[str, int], frozenset[Hold]]]:
    """Yield what an operation may see: a lax read, what its counter has in memory too."""
    if not op.sees_pending or not any(count in op.after for count in open_):
        yield slices, held
    if op.sees_pending:
        mine = [count for count in open_ if count.pending_count and count.who == op.who]
        for index, count in enumerate(mine):
            slices, held = _counted(count, slices, held)
            if not any(later in op.after for later in mine[index + 1 :]):
                yield slices, held


def _counted(
    op: Op, slices: dict[str, int], held: frozenset[Hold]
) -> tuple[dict[str, int], frozenset[Hold]]:
    """Return what is left by an operation on the own slice, if that fits."""
    own = slices.get(op.who, 0)
    if op.kind == "enter" and op.hold is not None:
        held |= {op.hold}
    elif op.kind == "exit":
        own = own - op.count if op.hold in held else own
        return {**slices, op.who: own}, held - {op.hold}
    elif op.kind == "remove_all":
        held = frozenset(hold for hold in held if hold[0] != op.who)
    new = {"inc": own + op.count, "enter": own + op.count, "put": op.count}.get(op.kind, 0)
    return {**slices, op.who: new}, held


def _outcomes(
    op: Op, slices: dict[str, int], held: frozenset[Hold], totals: set[int]
) -> Iterator[tuple[dict[str, int], frozenset[Hold], Collection[object]]]:
    """Yield what each operation leaves and returns (docs/semantics.md, Operations)."""
    own = slices.get(op.who, 0)
    if op.condition is not None:
        sign, number = op.condition
        applied = {t for t in totals if _COMPARE[sign](own if op.of_own else t, number)}
        if applied != totals:
            same = {((t, own), (t, own), False) for t in totals - applied}
            yield slices, held, {LIMIT} if op.kind == "enter" else same
        totals = applied
    if not totals:
        return
    if op.kind == "get":
        yield slices, held, {(total, own) for total in totals}
    elif op.kind == "set":
        new = (op.count, op.count)
        yield {op.who: op.count}, frozenset(), {_told(op, (t, own), new) for t in totals}
    elif op.kind == "delete":
        yield {}, frozenset(), {(total, own) for total in totals}
    elif op.kind == "clear":
        yield {}, frozenset(), {None}
    else:
        after, holding = _counted(op, slices, held)
        new = after[op.who]
        atomic = LOW <= op.count <= HIGH and LOW <= new <= HIGH
        fit = {t for t in totals if atomic and LOW <= t - own + new <= HIGH}
        if fit:
            shown = own if op.kind == "remove" else new
            values = {_told(op, (t, own), (t - own + new, shown)) for t in fit}
            yield after, holding, {None} if op.kind in ("remove_all", "exit") else values
        if fit != totals:
            yield slices, held, {OVERFLOW}


def _outcomes_seen(
    op: Op,
    slices: dict[str, int],
    held: frozenset[Hold],
    open_: list[Op],
    unsure: Collection[str],
    absent: Collection[str],
) -> Iterator[tuple[dict[str, int], frozenset[Hold], Collection[object]]]:
    for seen, kept in _sights(op, slices, held, open_):
        yield from _outcomes(op, seen, kept, _totals(seen, op.who, unsure, absent))
    if op.voidable:
        yield slices, held, {None}


def _vague_outcomes(
    op: Op, slices: dict[str, int], held: frozenset[Hold]
) -> Iterator[tuple[dict[str, int], frozenset[Hold], Collection[object]]]:
    """Yield what each operation leaves while its values mean nothing (L1)."""
    if op.condition is not None:
        yield slices, held, {UNCHANGED}
    if op.kind == "get":
        yield slices, held, {CHANGED}
    elif op.kind in MOVES:
        yield {op.who: op.count}, frozenset(), {CHANGED}
    else:
        yield *_counted(op, slices, held), {CHANGED}
        if op.doomed and op.kind in ("inc", "enter"):
            yield slices, held, {CHANGED}
        elif op.doomed and op.kind != "exit":
            yield {**slices, op.who: 0}, held, {CHANGED}
        if op.voidable:
            yield slices, held, {CHANGED}


def _roughly(answer: object) -> str:
    """Return what an answer says besides values."""
    same = answer in (LIMIT, OVERFLOW) or (
        isinstance(answer, tuple) and len(answer) == 3 and not answer[2]
    )
    return UNCHANGED if same else CHANGED


def _told(op: Op, before: Value, after: Value) -> object:
    return after if op.condition is None or op.kind == "enter" else (before, after, True)


def _totals(
    slices: dict[str, int], who: str, unsure: Collection[str], absent: Collection[str]
) -> set[int]:
    """Return what the cumulative may be when ``who`` asks, who is there by asking."""
    counting, maybe = _counting(slices, who, unsure, absent)
    sure = sum(n for _, n in counting)
    some = [c for size in range(len(maybe) + 1) for c in combinations(maybe, size)]
    sums = {sure + sum(n for _, n in each) for each in some}
    return {each for each in sums if LOW <= each <= HIGH}


def _counting(
    slices: dict[str, int], who: str, unsure: Collection[str], absent: Collection[str]
) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
    """Return whose slices count for certain, and whose may."""
    sure = [(i, n) for i, n in slices.items() if i == who or i not in {*unsure, *absent}]
    maybe = [(i, n) for i, n in slices.items() if i != who and i in unsure and i not in absent]
    return sure, maybe


def _slices(slices: dict[str, int]) -> Slices:
    return frozenset((i, n) for i, n in slices.items() if n)


def _agrees(op: Op, results: Iterable[object], answers: Mapping[Op, object]) -> bool:
    answer = answers.get(op, MAYBE)
    return answer in (MAYBE, APPLIED) or answer in results or _roughly(answer) in results


def _explained(op: Op, done: Mapping[Op, Collection[object]], answers: Mapping[Op, object]) -> bool:
    if answers[op] is MAYBE:
        return True
    if op not in done:
        return answers[op] is NEVER
    return answers[op] is not NEVER and _agrees(op, done[op], answers)
