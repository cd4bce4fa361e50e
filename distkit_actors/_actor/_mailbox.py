"""Where operations wait until the actor takes them along.

The mailbox keeps one *queue* for each key, because the order of operations matters per key
only: everything that waits in a queue and can be folded into one entry travels together
(P13, values before), and a queue that must stop does not hold up the others. `clear` concerns every
key and `inc_all` several; such an operation is *exclusive*, with queues of their own before and
after it.

This file is a little longer than others: `add` is written out for speed (a fifth of what an
operation costs in a crowd), and must be seen beside `put`, which does the same.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Final

import trio

from .._protocol._messages import FOLD_LIMIT, Entry, Kind, Slice, made
from .._protocol._values import checked_number
from ._operations import ExclusiveKind, Operation, Release

# Looked up once, not for each operation.
_ADD: Final = Kind.ADD
_current_task: Final = trio.lowlevel.current_task
_new: Final = object.__new__


class KeyQueue(dict[Operation, None]):
    """Operations on one key that wait for each other, in order."""

    __slots__ = ("mailbox", "queues")

    # Where this queue is. They are set from outside: an `__init__` would double its cost.
    queues: KeyQueues
    mailbox: Mailbox

    def withdraw(self, operation: Operation) -> None:
        """Take out what waits here."""
        del self[operation]
        if not self:
            del self.queues[operation.key]
            if not self.queues:
                self.mailbox.emptied(self.queues)
        self.mailbox.left(1)


class KeyQueues(dict[str, KeyQueue]):
    """All queues between two exclusive operations. Hashable by identity."""

    __slots__ = ()

    __hash__ = object.__hash__  # type: ignore[assignment]  # `dict` says that it has none
    __eq__ = object.__eq__


class CoalescedEntry:
    """An entry of a batch with the operations it stands for."""

    __slots__ = ("entry", "operations")

    def __init__(self, entry: Entry, operations: Sequence[Operation]) -> None:
        self.entry = entry
        self.operations = operations


class Mailbox:
    """Up to ``size`` operations that wait; more of them stand in line for a place.

    A caller that puts an operation in wakes the batch loop if that is the only one, so that
    ``length`` is 1.
    """

    def __init__(self, size: int) -> None:
        if not checked_number(size, "mailbox_size", "") >= 1:  # which nan is not
            raise ValueError(f"mailbox_size must be at least 1, not {size}")
        self.size = size
        self.length = 0
        self._peak = 0  # the greatest length up to when something last left
        # Queues and exclusive operations in turn. Queues that become empty are removed, so that
        # operations that are cancelled leave nothing behind; only the last ones stay, which take in
        # what comes.
        self._queues = KeyQueues()
        self._sections: OrderedDict[KeyQueues | Operation, None] = OrderedDict({self._queues: None})
        # Operations for which there is no room yet. Both are ordered dicts: in a plain one the
        # first item is found behind the places of all removed ones.
        self._line: OrderedDict[Operation, None] = OrderedDict()

    @property
    def peak(self) -> int:
        """The most operations that ever waited."""
        return max(self._peak, self.length)

    # -------------------------------------------------------------------- callers

    @trio.lowlevel.enable_ki_protection
    def put(self, operation: Operation) -> None:
        """Put ``operation`` in for the current task, which then waits for its answer.

        It waits by ``wait_task_rescheduled(operation)``. When that is cancelled, an operation that
        is still in the mailbox never happens. One that is in a batch happens once or not at all,
        and nobody is told.
        """
        operation.task = _current_task()
        if self.length >= self.size or self._line:
            operation.queue = self
            self._line[operation] = None
            return
        self.enter(operation)

    @trio.lowlevel.enable_ki_protection
    def add(self, key: str, value: int) -> Operation:
        """Put a new operation in that adds ``value``, as `put` does, and return it.

        The code of `put` and of the constructor stands here once more: the calls that this saves
        are a fifth of what an operation costs when there are many.
        """
        operation = _new(Operation)
        operation.kind = _ADD
        operation.key = key
        operation.value = value
        operation.folds = True
        operation.task = _current_task()
        if self.length >= self.size or self._line:
            operation.queue = self
            self._line[operation] = None
            return operation
        queue = self._queues.get(key)
        if queue is None:
            queue = self._queues[key] = self._new_queue(self._queues)
        queue[operation] = None
        operation.queue = queue
        self.length += 1
        return operation

    def enter(self, operation: Operation) -> None:
        """Put ``operation`` in, even if there is no room, as is due to one that must happen."""
        self.length += 1
        if isinstance(operation.kind, ExclusiveKind):
            operation.queue = self
            if not self._queues:
                del self._sections[self._queues]
            self._sections[operation] = None
            self._queues = KeyQueues()
            self._sections[self._queues] = None
            return
        queue = self._queues.get(operation.key)
        if queue is None:
            queue = self._queues[operation.key] = self._new_queue(self._queues)
        queue[operation] = None
        operation.queue = queue

    def _new_queue(self, queues: KeyQueues) -> KeyQueue:
        queue = KeyQueue()
        queue.queues = queues
        queue.mailbox = self
        return queue

    def __contains__(self, operation: Operation) -> bool:
        """Tell whether ``operation`` waits in line, or is an exclusive operation that waits."""
        return operation.queue is self

    def withdraw(self, operation: Operation) -> None:
        """Take an exclusive operation out, or out of the line."""
        operation.queue = None
        if operation in self._line:
            del self._line[operation]
        else:
            self._remove(operation)
            self.left(1)

    def _remove(self, exclusive: Operation) -> None:
        """Take an exclusive operation out; drop the last queues if those before can be the last."""
        del self._sections[exclusive]
        if not self._queues:
            del self._sections[self._queues]
            last = next(reversed(self._sections), None)
            self._queues = last if isinstance(last, KeyQueues) else self._queues
            self._sections[self._queues] = None

    def emptied(self, queues: KeyQueues) -> None:
        """Remove ``queues``, which are empty, unless they are the last."""
        if queues is not self._queues:
            del self._sections[queues]

    def left(self, count: int) -> None:
        """Note that ``count`` operations have gone, and let as many in from the line."""
        self._peak = max(self._peak, self.length)
        self.length -= count
        while self._line and self.length < self.size:
            operation, _ = self._line.popitem(last=False)
            self.enter(operation)

    # ------------------------------------------------------------------ the actor

    @property
    def keys(self) -> int:
        """In how many keys operations wait that no exclusive operation is before."""
        first = next(iter(self._sections))
        return len(first) if isinstance(first, KeyQueues) else 0

    def next_exclusive(self) -> Operation | None:
        """Return the exclusive operation if everything before it has been taken."""
        first = next(iter(self._sections))
        return first if isinstance(first, Operation) else None

    def take_exclusive(self) -> Operation:
        """Take out the exclusive operation that `next_exclusive` returns, and return it."""
        operation = next(iter(self._sections))
        assert isinstance(operation, Operation)
        operation.queue = None
        self._remove(operation)
        self.left(1)
        return operation

    def take(self, limit: int, own: Mapping[str, Slice]) -> list[CoalescedEntry]:
        """Take out the operations that may travel now, of ``limit`` keys at most.

        Those go first that were not among them for longest. No exclusive operation may be before
        them.
        """
        queues = next(iter(self._sections))
        assert isinstance(queues, KeyQueues)
        coalesced_entries: list[CoalescedEntry] = []
        count = 0
        for key in list(queues) if len(queues) <= limit else list(islice(queues, limit)):
            coalesced = self._pack(queues, key, own.get(key))
            coalesced_entries.append(coalesced)
            count += len(coalesced.operations)
        if not queues:
            self.emptied(queues)
        self.left(count)
        return coalesced_entries

    def _pack(self, queues: KeyQueues, key: str, own: Slice | None) -> CoalescedEntry:
        """Take from a queue what folds into one entry."""
        queue = queues[key]
        taken = list(queue)
        first = taken[0]
        if len(taken) > 1:
            guarded = Release in set(map(type, taken))
            if guarded and (stamp := _foreign(taken, own)) is not None:
                entry = _entry(first, sum(op.value for op in taken), guarded=True)
                entry = entry._replace(kind=Kind.CLAIM, stamp=stamp)
            else:
                bound = FOLD_LIMIT if own is None or abs(own.value) < FOLD_LIMIT else 0
                values = [operation.value for operation in taken if operation.folds]
                if len(values) < len(taken) or sum(map(abs, values)) >= bound:
                    taken = _folding(taken, bound)
                    values = [operation.value for operation in taken]
                guarded = guarded and Release in set(map(type, taken))
                folded = len(taken) > 1 and any(values)
                entry = _entry(first, sum(values), folded=folded, guarded=guarded)
        else:
            entry = _entry(first, first.value, guarded=type(first) is Release)
            if type(first) is Release and (stamp := _another(first, own)) is not None:
                entry = entry._replace(kind=Kind.CLAIM, stamp=stamp)
        if len(taken) == len(queue):
            queue.clear()
            del queues[key]
        else:
            for operation in taken:
                del queue[operation]
            # Behind all others: a queue that is never empty would keep those from travelling.
            queues[key] = queues.pop(key)
        return CoalescedEntry(entry, taken)

    def give_back(self, operations: Sequence[Operation]) -> None:
        """Put operations back, before all others, unless their callers were cancelled."""
        if not operations:
            return
        waiting = [op for op in operations if op.task is not None or op.required]
        self.length += len(waiting)
        if not waiting:
            return
        if isinstance(waiting[0].kind, ExclusiveKind):
            waiting[0].queue = self
            self._put_first(waiting[0])
            return
        queues = next(iter(self._sections))
        if not isinstance(queues, KeyQueues):
            queues = KeyQueues()
            self._put_first(queues)
        returned: dict[str, KeyQueue] = {}
        for operation in waiting:
            queue = returned.setdefault(operation.key, self._new_queue(queues))
            queue[operation] = None
        for key, queue in returned.items():
            queue.update(queues.get(key, {}))
            queues[key] = queue
            for operation in queue:
                operation.queue = queue

    def _put_first(self, item: KeyQueues | Operation) -> None:
        self._sections[item] = None
        self._sections.move_to_end(item, last=False)

    def drain(self, but: ExclusiveKind | None = None) -> list[Operation]:
        """Take out and return all operations, those in line included, ``but`` those of a kind."""
        drained: list[Operation] = []
        for item in self._sections:
            if isinstance(item, Operation):
                drained.append(item)
            else:
                drained += (operation for queue in item.values() for operation in queue)
        drained += self._line
        self._queues = KeyQueues()
        self._sections = OrderedDict({self._queues: None})
        self._line.clear()
        self._peak, self.length = self.peak, 0
        for operation in drained:
            operation.queue = None
            if operation.kind is but:
                self.enter(operation)
        return [operation for operation in drained if operation.queue is None]


def _foreign(operations: list[Operation], own: Slice | None) -> int | None:
    """Keep the first operations that concern one slice; return its stamp if it is not the own one.

    That is releases of what was added to a slice that is gone, or that is not in the store (P36,
    holds).
    """
    stamp = _another(operations[0], own)
    reach = 0
    for number, operation in enumerate(operations):
        reach += abs(operation.value)
        full = number and stamp is not None and reach >= FOLD_LIMIT
        if full or _another(operation, own) != stamp:
            del operations[number:]
            break
    return stamp


def _another(operation: Operation, own: Slice | None) -> int | None:
    if not isinstance(operation, Release) or (own is not None and operation.ends.at == own.stamp):
        return None
    return operation.ends.at


def _folding(operations: Sequence[Operation], bound: int) -> list[Operation]:
    """Return the first operations, as many as fold; that is one if it does not fold itself."""
    reach = 0
    for number, operation in enumerate(operations):
        reach += abs(operation.value)
        if reach >= bound or not operation.folds:
            return list(operations[: max(1, number)])
    return list(operations)


def _entry(first: Operation, value: int, *, folded: bool = False, guarded: bool) -> Entry:
    """Return what ``first`` is in a batch, and with ``value`` those that were folded into it."""
    condition, of_own = first.condition, first.of_own
    fields = (first.kind, first.key, value, None, folded, 0, condition, of_own, guarded)
    return made(Entry, fields)
