"""What a world consists of besides its store."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from distkit_actors._instance._session import Session
from distkit_actors._namespace._namespace import Namespace
from distkit_actors._protocol._messages import Reply, Request
from tests.model.desk import Desk
from tests.model.freeze import PERIODS
from tests.model.oracle import Op
from tests.model.scope import ADDS

#: A result as a plain value.
Answer: TypeAlias = str | tuple[object, ...]


@dataclass(slots=True)
class Token:
    """The operations that an actor has begun, and what is known of them."""

    ops: tuple[Op, ...] = ()
    leave: bool = False
    atomic: bool = False
    applied: bool = False
    folded: bool = False
    excused: bool = False  # the store lost its record, so their fate may be unknown
    answers: tuple[Answer | None, ...] = ()
    """What was said of each (`said`), when applied; if folded (0, slice after), where known."""
    undo: tuple[tuple[str, int], ...] = ()  # own slices before, as far as they matter still

    def was_executed(self, index: int) -> bool:
        """Whether an operation took effect, and was not declined or left out."""
        answer = self.answers[index] if self.applied else None
        return isinstance(answer, tuple) and answer[0] != "?"

    def frozen(self) -> tuple[object, ...]:
        """Return all of it as one value."""
        return (
            self.ops,
            self.leave,
            self.atomic,
            self.applied,
            self.folded,
            self.excused,
            self.answers,
            self.undo,
        )


@dataclass(slots=True)
class Actor:
    """One process, or what is left of it."""

    instance: str
    session: Session | None
    operations: int
    status: str = "running"
    todo: tuple[Op, ...] = ()  # to be sent again before anything else
    atomic: bool = False  # all or none
    leaving: bool = False
    token: Token | None = None
    desk: Desk | None = None  # the rest of its counter, if that is part of the scope


@dataclass(slots=True)
class Copy:
    """A request that may still arrive."""

    actor: int
    request: Request
    current: bool  # it carries the token that its actor still waits for
    old: bool = False  # sent before the record of its instance began to expire


@dataclass(slots=True)
class Snapshot:
    """What a rollback goes back to."""

    ns: Namespace
    applied: frozenset[int] = frozenset()  # actors whose token was applied since
    moved: frozenset[str] = frozenset()  # keys whose epoch was moved since


def is_write(op: Op) -> bool:
    return op[0] not in ADDS or op[2] != 0


def is_replaced(ops: Sequence[Op], index: int) -> bool:
    """Tell whether a new value is behind an operation on the same key, in one batch."""
    return ("put", ops[index][1]) in [(kind, key) for kind, key, _ in ops[index + 1 :]]


def say(ops: Iterable[Op]) -> str:
    return " + ".join(f"{kind} {key} {value}".replace("  0", "") for kind, key, value in ops)


def brief(message: Request | Reply) -> str:
    text = str(message)
    return text.replace(f", pace={PERIODS}", "").replace("Kind.", "")
