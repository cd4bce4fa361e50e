"""Which operations have to wait until the lax counts made before them are sent (P30).

A counter that counts in memory may be asked for exact answers, too, by its strict face. An
operation there acts behind what is pending on its key. One that reads or replaces travels with
those counts, behind them in the same batch. One that adds cannot, as a batch adds to a key once
(P13, values before). So the counts go first, and the operation goes with the next batch, whatever
has been counted since. It waits for one round trip at most, however much is counted; or for some
more, where the counts are more than one entry can carry.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import NamedTuple

from .._instance._write_buffer import WriteBuffer
from .._protocol._messages import Kind
from ._mailbox import CoalescedEntry
from ._operations import Operation


class Turn(NamedTuple):
    """What becomes of operations that could travel now."""

    now: list[CoalescedEntry]
    """Go with this batch."""
    counted: list[str]
    """Keys whose pending counts go along, before all else."""
    apart: set[str]
    """Keys whose pending counts must not go along."""
    later: list[Operation]
    """Go with the next batch."""


class CountsFirst:
    """Remembers whose counts have gone ahead."""

    def __init__(self) -> None:
        self._ready: set[Operation] = set()  # what was counted before them has been sent
        self._behind: list[Operation] = []  # wait for counts of the batch on its way

    def sort(self, taken: Sequence[CoalescedEntry], buffer: WriteBuffer) -> Turn:
        """Decide which of ``taken`` go now, and which counts go along."""
        turn = Turn([], [], set(), [])
        ready = self._ready
        for coalesced in taken:
            entry, operations = coalesced.entry, coalesced.operations
            if not buffer.has_pending(entry.key):
                turn.now.append(coalesced)
            # Additions that cancel each other out are no read: each of them may not fit.
            elif entry.kind is not Kind.ADD or not (entry.value or entry.folded):
                turn.now.append(coalesced)
                turn.counted.append(entry.key)
            elif first := list(takewhile(ready.__contains__, operations)):
                turn.now.append(_only(first, coalesced))
                turn.apart.add(entry.key)
                turn.later.extend(operations[len(first) :])
            else:
                turn.counted.append(entry.key)
                turn.later.extend(operations)
        # Operations that were taken do not wait any more, nor do those whose callers have gone.
        self._ready = {operation for operation in ready if operation.waits}
        return turn

    def sent(self, turn: Turn, buffer: WriteBuffer) -> list[Operation]:
        """Take in that the counts were put in flight; return what waits for the next batch.

        Where more is pending than one entry can carry, operations wait for the rest, too.
        """
        left = {key for key in turn.counted if buffer.has_pending(key)}
        counted = {key for key in turn.counted if key not in left}
        self._ready.update(each for each in turn.later if each.key in counted)
        behind = [each for each in turn.now if each.entry.key in left]
        if behind:
            turn.now[:] = [each for each in turn.now if each.entry.key not in left]
        self._behind = [*(op for each in behind for op in each.operations), *turn.later]
        return self._behind

    def undone(self) -> None:
        """Note that the counts which were sent are pending again, so that they have to go first."""
        self._ready.clear()
        self._behind = []

    def withdraw(self) -> list[Operation]:
        """Take out those that wait for the counts on their way."""
        waiting = dict.fromkeys([*self._behind, *self._ready])
        return [each for each in waiting if each.withdraw()]


def _only(operations: Sequence[Operation], coalesced: CoalescedEntry) -> CoalescedEntry:
    """Return what stands for the first operations of ``coalesced`` only."""
    values = [operation.value for operation in operations]
    folded = len(values) > 1 and any(values)
    entry = coalesced.entry._replace(value=sum(values), folded=folded)
    return CoalescedEntry(entry, operations)
