"""What may happen in one exploration."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from tests.model.oracle import Op

#: Slices that one step may take away where nothing is to be left half done.
PLENTY: Final = 50
#: More than half of the largest value.
LARGE: Final = 5 * 2**60


@dataclass(frozen=True)
class Scope:
    """What may happen in one exploration."""

    name: str
    menu: tuple[str, ...] = ("inc a",)
    """Operations to choose from; "+" joins those that go in one batch, "A: " is for A alone."""
    instances: int = 2
    operations: int = 1
    """For each actor."""
    faults: dict[str, int] = field(default_factory=dict)
    """How often each may happen."""
    total: int = 3
    """How many faults together."""
    keys: tuple[str, ...] = ("a",)
    budgets: tuple[int, ...] = (0, PLENTY)
    """How many slices of the dead one step may take away, where there are any."""
    lazy: bool = False
    """Signs of life are recent, so that steps do not write new ones down."""
    still: bool = False
    """The store's clock stands still, so that stamps run ahead of it."""
    inherit: tuple[bool, ...] = (False,)
    actors: int = 3
    """Most actors, those that took an id over included."""
    closed: bool = False
    """Actors begin before they have opened, else when all have."""
    beats: bool = True
    """Heartbeats may come at any time, else only at the end."""


def parse(item: str, actor: int) -> tuple[Op, ...]:
    """Return the operations of one item of a menu; each actor has values of its own."""
    ops = []
    weight = (1, 10, 100, 1000)[actor]
    for word in item.split("+"):
        name, _, key = word.partition(" ")
        op: Op
        match name:
            case "inc":
                op = ("add", key, weight)
            case "dec":
                op = ("add", key, -weight)
            case "get":
                op = ("add", key, 0)
            case "set":
                op = ("move", key, 7 * weight)
            case "delete":
                op = ("move", key, 0)
            case "put":
                op = ("put", key, 3 * weight)
            case "drop":
                op = ("put", key, 0)
            case "big" | "little":  # two of them do not fit into 64 bits
                op = ("add", key, LARGE if name == "big" else -LARGE)
            case "clear":
                op = ("clear", "", 0)
            case _:
                raise ValueError(item)
        ops.append(op)
    return tuple(ops)
