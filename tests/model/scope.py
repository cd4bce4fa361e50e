"""What may happen in one exploration."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Final
from unittest import mock

from distkit_actors._instance import _own_copy, _resumption
from distkit_actors._namespace import _epochs, _namespace, _registry
from distkit_actors._protocol._conditions import Eq, Gt
from distkit_actors._protocol._messages import MAX_PURGE
from tests.model.oracle import Op

#: By the kind of an operation that has one: its condition, and whether that is about the own slice.
CONDITIONS: Final = {
    "add?": (Eq(0), False),
    "move?": (Gt(0), False),
    "put?": (Eq(0), True),
}
#: What adds to the own slice; "back" is the end of a hold, and so is "required", where the slice
#: that it was added to is not the own one any more.
ADDS: Final = ("add", "add?", "back", "required")

#: Slices that one step may take away where nothing is to be left half done.
PLENTY: Final = 50
#: More than half of the largest value.
LARGE: Final = 5 * 2**60


@dataclass(frozen=True)
class Scope:
    """What may happen in one exploration."""

    name: str
    menu: tuple[str, ...] = ("inc a",)
    """Operations to choose from; "+" joins those that go in one batch, "&" those that are
    executed all or none, "A: " is for A alone."""
    in_turn: bool = False
    """Each actor does the items of its menu once, in their order, where it may do any of them."""
    desks: str = ""
    """For each instance: "s" for the rest of a strict counter around its session, "l" for that of
    a lax one, "-" for nothing."""
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
    refuse: bool = False
    """Newcomers do not take an id over from one who is alive."""
    actors: int = 3
    """Most actors, those that took an id over included."""
    closed: bool = False
    """Actors begin before they have opened, else when all have."""
    beats: bool = True
    """Heartbeats may come at any time, else only at the end."""
    pieces: bool = False
    """Messages hold no more than one claim and one move, so that there are many."""
    archives: bool = False
    """Moves go to the archive as soon as all have heard of them."""
    leftovers: int = MAX_PURGE
    """How many slices of an instance that starts afresh one step removes."""

    @contextmanager
    def limits(self) -> Iterator[None]:
        """Make messages as small as the scope wants them."""
        with ExitStack() as stack:
            if self.pieces:
                stack.enter_context(mock.patch.object(_own_copy, "MAX_ENTRIES", 1))
                stack.enter_context(mock.patch.object(_resumption, "MAX_ENTRIES", 1))
                stack.enter_context(mock.patch.object(_resumption, "MAX_MOVES", 1))
                stack.enter_context(mock.patch.object(_epochs, "JOURNAL_PAGE", 1))
            if self.archives:
                stack.enter_context(mock.patch.object(_epochs, "JOURNAL_KEPT", 0))
                stack.enter_context(mock.patch.object(_epochs, "ARCHIVE_AT_LEAST", 1))
            for module in (_namespace, _registry):
                stack.enter_context(mock.patch.object(module, "MAX_PURGE", self.leftovers))
            yield


def menu_of(menu: Sequence[str], instance: str, turn: int | None = None) -> Sequence[str]:
    """Return what is on the menu for one instance; ``turn``: how many items it has had."""
    items = []
    for line in menu:
        only, _, item = line.rpartition(": ")
        if only in ("", instance):
            items.append(item)
    return items if turn is None else items[turn : turn + 1]


def parse(item: str, actor: int) -> tuple[Op, ...]:
    """Return the operations of one item of a menu; each actor has values of its own."""
    ops = []
    weight = (1, 10, 100, 1000)[actor]
    for word in item.replace("&", "+").split("+"):
        name, _, key = word.partition(" ")
        op: Op
        match name:
            case "hold":
                op = ("hold", key, weight)
            case "hold?":
                op = ("hold?", key, weight)
            case "inc?":
                op = ("add?", key, weight)
            case "set?":
                op = ("move?", key, 7 * weight)
            case "put?":
                op = ("put?", key, 3 * weight)
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
            case "put!":  # a lax counter's, by its strict face
                op = ("put!", key, 3 * weight)
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
