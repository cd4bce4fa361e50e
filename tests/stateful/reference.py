"""What the counters must hold: one key, in plain Python, without a line of the package's.

Nobody knows which of the operations without an answer took effect, nor when. So the model
holds every *world* that is possible: what each instance has counted, and which of the open
operations are part of it already. An answer removes the worlds in which it could not have been
given; if none is left, the package is wrong. (For `inc` alone this is Maelstrom's pn-counter
oracle: what was acknowledged plus any subset of what is indeterminate.)

There are no epochs in here: a slice older than its key's epoch counts as absent everywhere
(I2), so a move simply empties the world. What an instance has counted stays in the world
while its process lives, reaped or not, for it comes back with all of it (I4).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import TypeAlias

LOW, HIGH = -(2**63), 2**63 - 1

Value: TypeAlias = tuple[int, int]
Slices: TypeAlias = frozenset[tuple[str, int]]
World: TypeAlias = tuple[Slices, "frozenset[tuple[Op, frozenset[object]]]"]

#: Answers other than a value (None for `clear` and `clear_on_instance`).
OVERFLOW = "overflow"  # changed nothing, for it would leave int64
NEVER = "never"  # took no effect and never will
APPLIED = "applied"  # took effect; nobody knows what it would have returned
MAYBE = "maybe"  # took effect or never will

MOVES = {"set", "delete", "clear"}


class Unexplained(AssertionError):  # noqa: N818 (what it says)
    """No order of the operations gives the answers that were given."""


@dataclass(eq=False)
class Op:
    """One operation: inc, put (set_on_instance), remove, remove_all, get or one of `MOVES`."""

    who: str
    kind: str
    count: int = 0
    pending_count: bool = False  # counted in a lax counter's memory
    sees_pending: bool = False  # a lax counter's read
    after: tuple[Op, ...] = ()  # counts that its own counter sends before it

    def __repr__(self) -> str:
        return f"{self.who}.{self.kind}({self.count})"


class Key:
    """Everything that one key may hold."""

    def __init__(self) -> None:
        self.worlds: set[World] = {(frozenset(), frozenset())}
        self.open: list[Op] = []  # operations that may still take effect
        self.loose = False  # a documented limit was passed: anything goes until the next move

    def explain(
        self, answers: Mapping[Op, object], unsure: Collection[str], absent: Collection[str]
    ) -> None:
        """Take answers in, with the slices of ``absent`` not counted and of ``unsure`` maybe."""
        possible = [op for op in self.open if answers.get(op) is not NEVER]
        here = [op for op in self.open if op in answers]
        self.open = [op for op in self.open if op not in answers]
        if self.loose:
            if len(here) == 1 and not self.open and here[0].kind in MOVES:
                op = here[0]
                if answers[op] not in (MAYBE, NEVER):
                    self.loose = False
                    self.worlds = {(_slices({op.who: op.count}), frozenset())}
            return
        worlds, fresh = set(self.worlds), list(self.worlds)
        while fresh:
            slices, done = fresh.pop()
            ready = [op for op in possible if not any(op is each for each, _ in done)]
            for op in ready:
                if not op.sees_pending and any(first in ready for first in op.after):
                    continue
                for seen in _sights(op, dict(slices), ready):
                    totals = _totals(seen, op.who, unsure, absent)
                    for after, results in _outcomes(op, seen, totals):
                        kept = slices if op.kind == "get" else _slices(after)
                        world = (kept, done | {(op, frozenset(results))})
                        if _agrees(op, results, answers) and world not in worlds:
                            worlds.add(world)
                            fresh.append(world)
        self.worlds = {
            (slices, frozenset((op, results) for op, results in done if op not in answers))
            for slices, done in worlds
            if all(_explained(op, dict(done), answers) for op in here)
        }
        if not self.worlds:
            told = {op: answers[op] for op in here}
            before = sorted({tuple(sorted(slices)) for slices, _ in worlds})
            raise Unexplained(f"{told} cannot be; open: {self.open}; known: {before}")

    def own(self, who: str) -> set[int]:
        """Return what ``who`` may see of its own slice, everything it counted included."""
        views = set()
        for slices, done in self.worlds:
            own = dict(slices).get(who, 0)
            for op in self.open:
                if op.pending_count and op.who == who and op not in dict(done):
                    own = _own(op, own)
            views.add(own)
        return views

    def drop(self, who: str, *, surely: bool = True) -> None:
        """The slice of ``who`` is gone for good."""
        worlds = {(frozenset(p for p in slices if p[0] != who), d) for slices, d in self.worlds}
        self.worlds = worlds if surely else worlds | self.worlds

    def may_not_fit(self) -> bool:
        """Whether some of the slices without the others leave int64, so that I12 applies."""
        return any(
            sum(n for _, n in slices if n > 0) > HIGH or sum(n for _, n in slices if n < 0) < LOW
            for slices, _ in self.worlds
        )


def _sights(op: Op, slices: dict[str, int], open_: list[Op]) -> Iterator[dict[str, int]]:
    """Yield what an operation may see: a lax read, what its counter has in memory too."""
    if not op.sees_pending or not any(count in op.after for count in open_):
        yield slices
    if op.sees_pending:
        mine = [count for count in open_ if count.pending_count and count.who == op.who]
        for index, count in enumerate(mine):
            slices = {**slices, op.who: _own(count, slices.get(op.who, 0))}
            if not any(later in op.after for later in mine[index + 1 :]):
                yield slices


def _own(op: Op, own: int) -> int:
    return {"inc": own + op.count, "put": op.count}.get(op.kind, 0)


def _outcomes(
    op: Op, slices: dict[str, int], totals: set[int]
) -> Iterator[tuple[dict[str, int], Collection[object]]]:
    """Yield what each operation leaves and returns (section 2 of the specification)."""
    own = slices.get(op.who, 0)
    if op.kind == "get":
        yield slices, {(total, own) for total in totals}
    elif op.kind == "set":
        yield {op.who: op.count}, {(op.count, op.count)}
    elif op.kind == "delete":
        yield {}, {(total, own) for total in totals}
    elif op.kind == "clear":
        yield {}, {None}
    else:
        new = _own(op, own)
        sums = {total - own + new for total in totals}
        whole = LOW <= op.count <= HIGH and LOW <= new <= HIGH
        fit = {each for each in sums if whole and LOW <= each <= HIGH}
        if fit:
            shown = own if op.kind == "remove" else new
            results = {None} if op.kind == "remove_all" else {(each, shown) for each in fit}
            yield {**slices, op.who: new}, results
        if fit != sums:
            yield slices, {OVERFLOW}


def _totals(
    slices: dict[str, int], who: str, unsure: Collection[str], absent: Collection[str]
) -> set[int]:
    """Return what the cumulative may be when ``who`` asks, who is there by asking."""
    sure = sum(n for i, n in slices.items() if i == who or i not in {*unsure, *absent})
    maybe = [n for i, n in slices.items() if i != who and i in unsure and i not in absent]
    some = (sum(c) for size in range(len(maybe) + 1) for c in combinations(maybe, size))
    return {sure + each for each in some if LOW <= sure + each <= HIGH}


def _slices(slices: dict[str, int]) -> Slices:
    return frozenset((i, n) for i, n in slices.items() if n)


def _agrees(op: Op, results: Iterable[object], answers: Mapping[Op, object]) -> bool:
    answer = answers.get(op, MAYBE)
    return answer in (MAYBE, APPLIED) or answer in results


def _explained(op: Op, done: Mapping[Op, Collection[object]], answers: Mapping[Op, object]) -> bool:
    if answers[op] is MAYBE:
        return True
    if op not in done:
        return answers[op] is NEVER
    return answers[op] is not NEVER and _agrees(op, done[op], answers)
