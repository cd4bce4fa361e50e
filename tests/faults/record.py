"""What was done to some counters, and which values may follow from it.

Every operation that adds something to a key adds a power of 4 of its own, so that a sum says
exactly which operations are counted in it: a digit 1 is one that took effect, a digit 2 one
that took effect twice. Each operation has an interval, from its call to its answer; between
operations whose intervals overlap, either order is right, and an operation without an answer
never ends: it may take effect at any time, or never.

A hold adds its power of 4 as any other, and its end takes just that away again. Nobody answers
to an end, so it ends when all has been quiet for a while. An operation on two keys is one on
each, which take effect both or neither.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Effect = Literal[
    "inc",
    "inc_if",
    "inc_all",
    "hold",
    "exit",
    "set",
    "delete",
    "set_on_instance",
    "delete_on_instance",
    "clear",
]
Outcome = Literal["pending", "done", "unknown", "refused"]

#: Powers of 4 that fit into a slice.
DIGITS = 30

_ADDS = frozenset({"inc", "inc_if", "inc_all", "hold", "set", "set_on_instance"})
_MOVES = frozenset({"set", "delete", "clear"})
_REPLACES = frozenset({"set_on_instance", "delete_on_instance"})


@dataclass(eq=False)
class Life:
    """One counter: an incarnation of an instance in one process."""

    name: str
    lax: bool = False
    alive: bool = True
    """Its slices must count."""
    running: bool = True
    """Its process remembers its own moves."""
    heir: "Life | None" = None
    """Who may have inherited its slices."""

    def counts(self) -> bool | None:
        """Return whether its slices count: True, False or None for maybe."""
        if self.alive:
            return True
        return None if self.heir is not None and self.heir.counts() is not False else False


@dataclass(eq=False)
class Operation:
    """One operation of one counter on one key (`clear`: on every key)."""

    life: Life
    key: str
    effect: Effect
    digit: int | None
    start: float
    end: float = math.inf
    outcome: Outcome = "pending"
    counted: float = math.inf
    """Lax: when it was counted in memory, behind everything that had been answered."""
    ends: "Operation | None" = None
    """The end of a hold: of which."""
    twin: "Operation | None" = None
    """The other half of an operation on two keys."""

    def __repr__(self) -> str:
        digit = "" if self.digit is None else f" 4^{self.digit}"
        return (
            f"{self.life.name} {self.effect} {self.key}{digit} "
            f"[{self.start:.3f}, {self.end:.3f}] {self.outcome}"
        )

    def voids(self, other: "Operation") -> bool:
        """Return whether what ``other`` added is gone if this takes effect after it."""
        if self.effect == "exit":
            return other is self.ends
        if other is self or (self.effect != "clear" and self.key != other.key):
            return False
        return self.effect in _MOVES or (self.effect in _REPLACES and self.life is other.life)

    def surely_before(self, other: "Operation") -> bool:
        """Return whether this took effect before ``other``, if both did."""
        if other.ends is self:
            return True
        end = min(self.end, self.counted) if self.life is other.life else self.end
        if self.life is other.life and not self.life.lax:
            # It waits in line behind what was called before.
            return self.start < other.start
        return end < other.start


@dataclass
class Record:
    """All operations, and the times at which the store lost its data."""

    operations: list[Operation] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    _used: dict[str, int] = field(default_factory=dict)

    def begin(self, life: Life, key: str, effect: Effect, now: float) -> Operation | None:
        """Note that an operation is called; None if its key has no power of 4 left."""
        digit = None
        if effect in _ADDS:
            digit = self._used.get(key, 0)
            if digit == DIGITS:
                return None
            self._used[key] = digit + 1
        operation = Operation(life, key, effect, digit, now)
        self.operations.append(operation)
        return operation

    def begin_twins(
        self, life: Life, keys: tuple[str, str], effect: Effect, now: float
    ) -> tuple[Operation, Operation] | None:
        """Note that an operation on two keys is called, as `begin` does."""
        if any(self._used.get(key, 0) == DIGITS for key in keys):
            return None
        first, second = (self.begin(life, key, effect, now) for key in keys)
        assert first is not None
        assert second is not None
        first.twin, second.twin = second, first
        return first, second

    def end(self, hold: Operation, now: float) -> None:
        """Note that a hold is left, or that its caller went away before it was entered."""
        exit_ = Operation(hold.life, hold.key, "exit", None, now, outcome="done", ends=hold)
        self.operations.append(exit_)

    def settle_exits(self, now: float) -> None:
        """Note that all has been quiet: what lives has told the store of every end."""
        for operation in self.operations:
            if operation.effect == "exit" and operation.life.alive:
                operation.end = min(operation.end, now)

    def check(
        self,
        key: str,
        total: int,
        *,
        before: float = math.inf,
        reader: Life | None = None,
        quiet: bool = True,
    ) -> None:
        """Assert that ``total`` may be the cumulative of ``key``.

        Args:
            key: the key.
            total: what was read, with the key's sign taken off.
            before: when the read was called.
            reader: who read; must find its own counts in any case.
            quiet: whether all lives have been in touch with the store for a while, so that
                nothing may be missing.
        """
        assert total >= 0, f"{key}: {total} is less than nothing"
        digits = _digits(total)
        for operation in self.operations:
            if operation.key != key or operation.digit is None:
                continue
            digit = digits.pop(operation.digit, 0)
            assert digit <= 1, f"took effect {digit} times: {operation}"
            if digit:
                reason = self._must_be_absent(operation, before, quiet=quiet)
                assert not reason, f"counts, though {reason}: {operation}"
            elif quiet or reader is operation.life:
                assert not self._must_be_present(operation, before), f"is lost: {operation}"
        assert not any(digits.values()), f"{key}: nobody counted {digits}"

    def check_twins(self, totals: Mapping[str, int]) -> None:
        """Assert, while all is quiet, that operations on two keys took effect both or neither."""
        digits = {key: _digits(total) for key, total in totals.items()}
        for operation in self.operations:
            twin = operation.twin
            if twin is not None and digits[operation.key].get(operation.digit or 0):
                lost = self._must_be_kept(twin) and not digits[twin.key].get(twin.digit or 0)
                assert not lost, f"took effect without its twin: {operation}, {twin}"

    def _must_be_absent(self, added: Operation, before: float, *, quiet: bool) -> str:
        if added.outcome == "refused":
            return "it was refused"
        if quiet and added.life.counts() is False:
            return "its counter is gone"
        for mover in self.operations:
            if not (mover.voids(added) and mover.outcome == "done" and mover.end < before):
                continue
            if not added.surely_before(mover):
                continue
            lost = any(loss > mover.start for loss in self.losses)
            if lost and not (quiet and mover.life.running):
                continue  # a documented limit: data loss, and nobody who remembers the move
            return f"voided by {mover}"
        return ""

    def _must_be_present(self, added: Operation, before: float) -> bool:
        return added.outcome == "done" and added.end <= before and self._must_be_kept(added)

    def _must_be_kept(self, added: Operation) -> bool:
        """Return whether it counts if it took effect."""
        if added.life.counts() is not True:
            return False
        for mover in self.operations:
            if not mover.voids(added) or mover.outcome == "refused":
                continue
            if not mover.surely_before(added):
                return False
            if mover.life is not added.life and any(
                mover.start < loss < added.end for loss in self.losses
            ):
                return False  # a documented limit: counted before it had learned of the move
            if mover.outcome != "done":
                return False
        return True


def _digits(total: int) -> dict[int, int]:
    digits = {}
    place = 0
    while total:
        total, digit = divmod(total, 4)
        digits[place] = digit
        place += 1
    return digits
