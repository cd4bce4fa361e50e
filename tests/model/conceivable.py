"""What a slice may be under a documented limit: no limit makes counts out of nothing.

A limit (L2 to L4) excuses a slice that lacks counts, or has some that a move should have made void.
It never excuses an amount that its instance has not counted, or has counted once and has twice.
So an excused slice must be what a part of its callers' operations make, each of them done once, in
their order. What is held comes on top. An operation that puts a slice says what it is with all that
is held in it at that time, and the ends of those holds take that away again.
"""

from __future__ import annotations

from functools import cache
from itertools import product

from tests.model.oracle import Op
from tests.model.scope import Scope, menu_of, parse


def conceivable(scope: Scope, instance: str, actors: tuple[int, ...], key: str) -> frozenset[int]:
    """Return all that a slice may be apart from what is held.

    ``actors``: all who have or had the id; each may add to what it inherits.
    """
    return _of_all(scope.menu, scope.in_turn, scope.operations, instance, actors, key)


@cache
def _of_all(
    menu: tuple[str, ...],
    in_turn: bool,
    operations: int,
    instance: str,
    actors: tuple[int, ...],
    key: str,
) -> frozenset[int]:
    values, held = {0}, {0}
    for actor, turn in product(actors, range(operations)):
        items = menu_of(menu, instance, turn if in_turn else None)
        for item in items:
            if item == "leave":
                continue
            made = values
            for op in parse(item, actor):
                kind, name, value = op
                if name == key and kind.startswith("hold"):
                    held = held | {each + value for each in held}
                elif name == key:
                    made = made | _after(made, op, held)
            values = values | made
    return frozenset(values)


def _after(values: set[int], op: Op, held: set[int]) -> set[int]:
    kind, _, value = op
    if kind.startswith("add"):
        return {each + value for each in values}
    return {value - each for each in held}
