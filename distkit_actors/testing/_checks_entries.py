"""Checks of a store request by request: entries that depend on something."""

from __future__ import annotations

import operator
from collections.abc import Callable
from itertools import product
from typing import Final

from .._protocol._conditions import Condition, Eq, Ge, Gt, Le, Lt, Ne
from .._protocol._messages import MAX_JOURNAL, Applied, ConditionFailed, Previous, Rejection, Result
from .._protocol._values import INT64_MAX, INT64_MIN
from .._stores._contract import Store
from ._driver import (
    add,
    answers,
    clear,
    expect,
    forget,
    fresh,
    guarded,
    joined,
    move,
    only,
    put,
    read,
    same,
)

#: Every condition and what it means.
_MEANINGS: Final[dict[type[Condition], Callable[[int, int], bool]]] = {
    Eq: operator.eq,
    Ne: operator.ne,
    Lt: operator.lt,
    Le: operator.le,
    Gt: operator.gt,
    Ge: operator.ge,
}
#: Numbers that are easily taken for each other: by sign, length, digits, or as doubles.
_NUMBERS: Final = (
    *(INT64_MIN, INT64_MIN + 1, -(2**53) - 1, -(2**53), -20, -19, -10, -9, -1),
    *(0, 1, 9, 10, 19, 20, 2**53, 2**53 + 1, INT64_MAX - 1, INT64_MAX),
)


async def whole_batches_stand_or_fall(store: Store) -> None:
    """If an entry of an atomic batch is refused, none is executed; otherwise all are."""
    async with joined(store, prefix := fresh()) as a, joined(store, prefix) as b:
        await b.batch(put("full", INT64_MAX), put("k", 100), move("void", 3))
        await a.batch(add("k", 5), add("mine", -4), add("void", 2))
        entries = [add("k", 1), add("full", 1), add("mine", 4), add("new", 9), put("void", 0)]
        entries += [put("full", 1), read("k"), only(add("k2", 1), Eq(5))]
        results = await a.batch(*entries, atomic=True)
        verdicts = [Rejection.UNDONE] * len(entries)
        verdicts[1] = verdicts[5] = Rejection.REFUSED
        same(answers(results), answers(verdicts), "an atomic batch with entries that do not fit")
        keys = ("k", "full", "mine", "new", "void", "k2")
        expected = [(105, 5), (INT64_MAX, 0), (-4, -4), (0, 0), (5, 2), (0, 0)]
        same(await a.values(*keys), expected, "after it")
        # The instance and the store believe the same of every slice.
        results = await a.batch(*(add(key, 1) for key in keys if key != "full"), atomic=True)
        befores = [Previous(*pair) for pair in expected if pair != (INT64_MAX, 0)]
        same(answers(results), answers(befores), "an atomic batch that fits")
        expected = [(106, 6), (INT64_MAX, 0), (-3, -3), (1, 1), (6, 3), (1, 1)]
        same(await a.values(*keys), expected, "after all")
        same(await b.values("void", "mine"), [(6, 3), (-3, 0)], "as another sees it")
        results = await a.batch(move("k", 7), only(move("j", 1), Ne(0)), move("l"), atomic=True)
        same(
            answers(results),
            answers([Previous(106, 6), ConditionFailed(0, 0), Previous(0, 0)]),
            "moves as a whole",
        )
        same(await b.values("k", "j", "l"), [(7, 0), (0, 0), (0, 0)], "after moves as a whole")


async def what_is_undone_was_never_made(store: Store) -> None:
    """A slice that was put back counts from when it was made, a new one not at all."""
    async with joined(store, prefix := fresh()) as a, joined(store, prefix) as b:
        await b.batch(put("full", INT64_MAX))
        await a.batch(add("k", 5))
        results = await a.batch(add("k", -5), add("full", 1), add("new", 1), atomic=True)
        same(Rejection.REFUSED in results, True, "an atomic batch that does not fit is refused")
        async with joined(store, prefix, a.name, inherit=True) as heir:
            held = {key: own.value for key, own in heir.session.slices.items()}
            same(held, {"k": 5}, "what an heir finds")
            same(heir.session.slices, a.session.slices, "slices and when they were made")


async def conditions_are_decided_in_order(store: Store) -> None:
    """Each on what the entries before it left; where it does not hold nothing is changed."""
    async with joined(store, prefix := fresh()) as a, joined(store, prefix) as b:
        await b.batch(add("k", 10), add("full", INT64_MAX))
        await a.batch(add("k", 1))
        results = await a.batch(
            only(put("k", 4), Eq(1), of_own=True),
            only(put("k", 9), Eq(14), of_own=True),
            only(move("j", 5), Gt(0)),
            only(move("k", 5), Eq(14)),
            only(put("k", 3), Eq(5)),
            only(put("k", 3), Ge(4), of_own=True),
            only(add("full", 1), Lt(INT64_MAX)),
            only(add("new", 0), Ne(0)),
            only(add("other", -2), Le(0)),
        )
        expected: list[Result] = [
            Previous(11, 1),
            ConditionFailed(14, 4),
            ConditionFailed(0, 0),
            Previous(14, 4),
        ]
        expected += [
            Previous(5, 5),
            ConditionFailed(3, 3),
            ConditionFailed(INT64_MAX, 0),
            ConditionFailed(0, 0),
            Previous(0, 0),
        ]
        same(answers(results), answers(expected), "a batch with conditions")
        same(await a.values("k", "j", "other"), [(3, 3), (0, 0), (-2, -2)], "after conditions")
        reply = expect(Applied, await b.send(b.compose()), "a heartbeat")
        moved = [key for key, _ in reply.journal.moves] if reply.journal else []
        same(moved, ["k"], "moves told, of those that were decided")
        b.take(reply)
        results = await a.batch(only(add("full", 1), Eq(INT64_MAX)))
        same(answers(results), [Rejection.REFUSED], "an add past the end whose condition holds")


async def conditions_are_exact(store: Store) -> None:
    """Every comparison is that of the integers, over the whole of int64."""
    async with joined(store, prefix := fresh()) as a, joined(store, prefix) as b:
        for current in _NUMBERS:
            cases = list(product(_MEANINGS, _NUMBERS))
            await b.batch(put("sum", current // 2))
            await a.batch(put("sum", current - current // 2), put("own", current))
            for of_own, key in ((False, "sum"), (True, "own")):
                entries = [only(add(key, 0), kind(n), of_own=of_own) for kind, n in cases]
                results = await a.batch(*entries)
                for (kind, number), result in zip(cases, results, strict=True):
                    wanted = Previous if _MEANINGS[kind](current, number) else ConditionFailed
                    what = f"{current} {kind.__name__} {number}, own slice: {of_own}"
                    same(type(result), wanted, what)


async def verdicts_are_remembered(store: Store) -> None:
    """A batch that is repeated gets its first answer, whatever that said."""
    async with joined(store, prefix := fresh()) as a, joined(store, prefix) as b:
        await a.batch(add("k", 1))
        await b.batch(add("k", 5), move("gone", 1))
        for entries, atomic in (
            ((only(add("k", 1), Gt(6)), guarded(add("gone", -1)), forget(b.name)), False),
            ((add("full", INT64_MAX), only(put("k", 3), Eq(9))), True),
            ((add("full", 1), add("k", 1), only(put("j", 3), Eq(9))), True),
            ((only(move("k", 9), Ge(0)), only(move("j", 9), Gt(0))), True),
        ):
            request = a.compose(*entries, atomic=atomic)
            first = expect(Applied, await a.send(request), "a batch")
            await b.batch(add("k", 1))
            again = expect(Applied, await a.send(request), "a batch that was repeated")
            said = (again.at, answers(again.results))
            same(said, (first.at, answers(first.results)), "the answer to a repeated batch")
            a.take(first)


async def guards_stop_what_is_void(store: Store) -> None:
    """A guarded entry is not executed after a move that the instance had not heard of."""
    async with joined(store, prefix := fresh()) as a, joined(store, prefix) as b:
        await a.batch(*(add(key, 5) for key in ("k", "j", "mine", "put")))
        await b.batch(move("k", 7), add("j", 1), move("put"), move("else"))
        entries = [guarded(add("k", -5)), guarded(add("j", -5)), guarded(put("put", 2))]
        entries += [guarded(add("mine", -1)), read("k")]
        results = await a.batch(*entries)
        moved = Rejection.MOVED
        expected: list[Result] = [moved, Previous(6, 5), moved, Previous(5, 5), Previous(7, 0)]
        same(answers(results), answers(expected), "guarded entries after moves")
        keys = ("k", "j", "put", "mine")
        values = [(7, 0), (1, 0), (0, 0), (4, 4)]
        same(await a.values(*keys), values, "after guarded entries")
        results = await a.batch(*(guarded(add(key, 2)) for key in ("k", "put", "mine")))
        same(
            answers(results),
            answers([Previous(7, 0), Previous(0, 0), Previous(4, 4)]),
            "once it has heard",
        )
        # Its own moves it knows, from the answer.
        await a.batch(move("mine", 3))
        results = await a.batch(guarded(add("mine", 1)))
        same(answers(results), answers([Previous(3, 3)]), "a guarded entry after an own move")
        await b.batch(clear())
        results = await a.batch(guarded(add("k", -2)), guarded(add("never", -2)), read("k"))
        same(
            answers(results),
            answers([moved, moved, Previous(0, 0)]),
            "guarded entries after a clear",
        )
        results = await a.batch(only(guarded(add("k", 1)), Eq(0)), only(guarded(read("k")), Eq(9)))
        same(
            answers(results),
            answers([Previous(0, 0), ConditionFailed(1, 1)]),
            "a condition behind a guard",
        )


async def guards_look_beyond_what_is_told(store: Store) -> None:
    """They are judged by moves that do not fit into the answer, too, and it tells of these."""
    keys = [f"key {number}" for number in range(MAX_JOURNAL + 50)]
    async with joined(store, prefix := fresh()) as a, joined(store, prefix) as b:
        await a.batch(add("k", 5), add("kept", 5))
        for start in range(0, len(keys), MAX_JOURNAL):
            await b.batch(*map(move, keys[start : start + MAX_JOURNAL]))
        await b.batch(move("k", 7))
        request = a.compose(guarded(add("k", -5)), guarded(add("kept", -1)))
        update = a.take(expect(Applied, await a.send(request), "a batch after many moves"))
        results = update.results or ()
        same(answers(results), answers([Rejection.MOVED, Previous(5, 5)]), "guarded entries")
        assert "k" in update.epochs, "a guarded entry was stopped by a move, and it was not told"
        same(await b.values("k", "kept"), [(7, 7), (4, 0)], "after guarded entries")
        # It still does not know all, and is told so.
        await a.batch()
        results = await a.batch(guarded(add("k", 1)))
        same(answers(results), answers([Previous(7, 0)]), "once it has heard")
