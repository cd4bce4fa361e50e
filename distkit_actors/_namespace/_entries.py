"""What the entries of a batch do, one after the other (step 8; P2 … P4, P34 … P36).

In Lua: the second half of ``included/step.lua``.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from itertools import islice
from typing import NamedTuple

from .._protocol._messages import (
    FOLD_LIMIT,
    MAX_PURGE,
    Apply,
    ConditionFailed,
    Entry,
    Kind,
    Previous,
    Rejection,
    Result,
    Resume,
    Slice,
)
from ._registry import Record, Registry, State


class Step(NamedTuple):
    """What the entries of a batch are run with."""

    record: Record
    request: Apply | Resume
    at: int
    now: int
    moved: AbstractSet[str]
    """Keys of guarded entries that have moved since the batch was made up."""


def heard_by(request: Apply | Resume) -> int:
    """Return the stamp up to which the instance has heard of all moves (P45, archive)."""
    return request.heard if isinstance(request, Resume) else request.known


class Entries:
    """A namespace that runs entries."""

    def __init__(self) -> None:
        self.registry = Registry()
        self.born = 0  # when it was made: a store that lost it makes another (P17, resume)
        self.clock = 0  # the last stamp used, or a later sign of life of anybody (P6, one clock)

    def _run_all(self, step: Step, entries: Sequence[Entry]) -> tuple[Result, ...]:
        record = step.record
        atomic = isinstance(step.request, Apply) and step.request.atomic
        clock, undo = self.clock, list[tuple[str, int, Slice | None]]()
        results: list[Result] = []
        for entry in entries:
            key = entry.key
            if atomic:
                undo.append((key, self.registry.total(key), record.slices.get(key)))
            results.append(self._refusal_of(step, entry) or self._run(step, entry))
        if atomic and Rejection.REFUSED in results:
            for key, total, own in reversed(undo):
                self.registry.put(key, total)
                self._write(record, key, own.value if own else 0, own.stamp if own else 0)
            self.clock = clock
            results = [r if r is Rejection.REFUSED else Rejection.UNDONE for r in results]
        return tuple(results)

    def _moved_since(self, request: Apply) -> set[str]:
        """Return the keys whose guarded entries must not be executed (P36, guarded release)."""
        epochs = self.registry.epochs
        known = request.known
        guarded = {entry.key for entry in request.entries if entry.guarded}
        return {k for k in guarded if max(epochs.cleared, epochs.moved.get(k, 0)) > known}

    def _refusal_of(self, step: Step, entry: Entry) -> Result | None:
        """Return the result of an entry that must not be executed (P35, conditions; P36, holds)."""
        key, condition = entry.key, entry.condition
        if entry.guarded and key in step.moved:
            return Rejection.MOVED
        if condition is None:
            return None
        own = step.record.slices.get(key)
        found = ConditionFailed(self.registry.total(key), own.value if own else 0)
        holds = condition.holds(found.slice if entry.of_own else found.cumulative)
        return None if holds else found

    def _run(self, step: Step, entry: Entry) -> Result:
        record, request, at, now, _ = step
        key, value = entry.key, entry.value
        own = record.slices.get(key)
        before = Previous(self.registry.total(key), own.value if own else 0)
        match entry.kind:
            case Kind.ADD:
                if entry.folded and abs(before.cumulative) >= FOLD_LIMIT:
                    return Rejection.SPLIT
                if value == 0:
                    return before
                return self._add(record, entry, at, before)
            case Kind.PUT:
                if not self.registry.add(key, value - before.slice):
                    return Rejection.REFUSED
                self._write(record, key, value, own.stamp if own else at)
            case Kind.MOVE:
                self.registry.epochs.move(key, at)
                self.registry.add(key, value - before.cumulative)
                self.registry.note(key)  # slices have changed in any case
                self._write(record, key, value, at)
                self.clock = max(self.clock, at)
            case Kind.CLEAR:
                self.registry.epochs.clear(at)
                self.registry.forget_sums()
                record.slices, record.swept = OrderedDict(), at
                self.clock = max(self.clock, at)
            case Kind.FORGET:
                return Rejection.REFUSED if key == request.instance else self._forget(key, now)
            case Kind.CLAIM:
                forgotten = max(heard_by(request), entry.stamp) < self.registry.epochs.floor
                if forgotten or entry.stamp < self.registry.epochs.of(key):
                    return Rejection.MOVED
                return self._add(record, entry, entry.stamp, before)
        return before

    def _forget(self, instance: str, now: int) -> Previous:
        """Mark an instance dead and remove its slices, some in each step.

        Returns how many are left, and how many are gone.
        """
        registry = self.registry
        record = registry.records.get(instance)
        if record is None:
            return Previous(0, 0)
        if record.state is State.LIVE:
            registry.mark_dead(instance, record, State.DEAD, now)
        some = list(islice(record.slices, MAX_PURGE))
        gone = [key for key in some if registry.take_away(record, key)]
        if instance in registry.reap_queue and not record.slices:
            registry.retire(instance, record, now)  # a late move may have taken the last one
        return Previous(len(record.slices), len(gone))

    def _add(self, record: Record, entry: Entry, stamp: int, before: Previous) -> Result:
        own = record.slices.get(entry.key)
        after = entry.after if own else entry.value
        if after is None or not self.registry.add(entry.key, entry.value):
            return Rejection.REFUSED
        if own:
            # Two slices become one, as old as the older: a move that makes one void takes both.
            stamp = min(own.stamp, stamp)
        self._write(record, entry.key, after, stamp)
        return before

    def _write(self, record: Record, key: str, value: int, stamp: int) -> None:
        """Store a slice; a 0 is none. A stamp that is used is never given out again.

        P3, zero is absence.
        """
        if value:
            record.slices[key] = Slice(value, stamp)
            self.clock = max(self.clock, stamp)
        else:
            record.slices.pop(key, None)
