"""Where operations wait until the actor takes them along.

The mailbox keeps one *lane* for each key, because the order of operations matters per key
only: everything that waits in a lane and can be folded into one entry travels together
(P13), and a lane that must stop does not hold up the others. `clear` concerns every key and
`inc_all` several; such an operation is a *barrier*, with lanes of their own before and after it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Final, cast

import trio

from .._core._messages import FOLD_LIMIT, Entry, Kind, Slice
from ._operations import Barrier, Operation, Release

# Looked up once, not for each operation.
_ADD: Final = Kind.ADD
_current_task: Final = trio.lowlevel.current_task
_new: Final = object.__new__


class Lane(dict[Operation, None]):
    """Operations on one key that wait for each other, in order."""

    __slots__ = ("lanes", "mailbox")

    # Where it is. Not told to an `__init__`, which would take as long as all the rest.
    lanes: Lanes
    mailbox: Mailbox

    def withdraw(self, operation: Operation) -> None:
        """Take out what waits here."""
        del self[operation]
        if not self:
            del self.lanes[operation.key]
            if not self.lanes:
                self.mailbox.emptied(self.lanes)
        self.mailbox.left(1)


class Lanes(dict[str, Lane]):
    """All lanes between two barriers. Hashable by identity, as it stands in a queue."""

    __slots__ = ()

    __hash__ = object.__hash__  # type: ignore[assignment]  # `dict` says that it has none
    __eq__ = object.__eq__


class Parcel:
    """An entry of a batch with the operations it stands for."""

    __slots__ = ("entry", "operations")

    def __init__(self, entry: Entry, operations: Sequence[Operation]) -> None:
        self.entry = entry
        self.operations = operations


class Mailbox:
    """Operations that wait, up to ``size`` of them; more wait in line before it.

    Args:
        size: How many.
        on_first: Called when a caller's operation has come into an empty mailbox.
    """

    def __init__(self, size: int, on_first: Callable[[], None]) -> None:
        if size < 1:
            raise ValueError(f"mailbox_size must be at least 1, not {size}")
        self.size = size
        self._on_first = on_first
        self.length = 0
        self._peak = 0  # when something last left
        # Lanes and barriers in turn. Lanes are there only while something is in them, but for the
        # last, which take in what comes: what is given up leaves nothing behind.
        self._lanes = Lanes()
        self._queue: OrderedDict[Lanes | Operation, None] = OrderedDict({self._lanes: None})
        # Operations for which there is no room yet. Both are ordered dicts because the first of a
        # plain one is found behind the places of all that have left.
        self._line: OrderedDict[Operation, None] = OrderedDict()

    @property
    def peak(self) -> int:
        """The most operations that ever waited."""
        return max(self._peak, self.length)

    # -------------------------------------------------------------------- callers

    @trio.lowlevel.enable_ki_protection
    def put(self, operation: Operation) -> None:
        """Put ``operation`` in for the current task, which waits for its answer.

        It does so with ``wait_task_rescheduled(operation)``. When cancelled, an
        operation that still waits never happens; one that was taken along happens once or not
        at all, and nobody hears of it.
        """
        operation.task = _current_task()
        if self.length >= self.size or self._line:
            operation.home = self
            self._line[operation] = None
            return
        self._enter(operation)
        if self.length == 1:
            self._on_first()

    @trio.lowlevel.enable_ki_protection
    def add(self, key: str, value: int) -> Operation:
        """Put a new operation in that adds ``value``, and return it; see `put`.

        All is written out here: the calls that this saves are a tenth of what an operation
        costs when there are many.
        """
        operation = _new(Operation)
        operation.kind = _ADD
        operation.key = key
        operation.value = value
        operation.folds = True
        operation.task = _current_task()
        if self.length >= self.size or self._line:
            operation.home = self
            self._line[operation] = None
            return operation
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = self._lane(self._lanes)
        lane[operation] = None
        operation.home = lane
        self.length += 1
        if self.length == 1:
            self._on_first()
        return operation

    def owe(self, operation: Operation) -> None:
        """Put in what must happen and nobody waits for; there is always room."""
        self._enter(operation)

    def _enter(self, operation: Operation) -> None:
        self.length += 1
        if isinstance(operation.kind, Barrier):
            operation.home = self
            if not self._lanes:
                del self._queue[self._lanes]
            self._queue[operation] = None
            self._lanes = Lanes()
            self._queue[self._lanes] = None
            return
        lane = self._lanes.get(operation.key)
        if lane is None:
            lane = self._lanes[operation.key] = self._lane(self._lanes)
        lane[operation] = None
        operation.home = lane

    def _lane(self, lanes: Lanes) -> Lane:
        lane = Lane()
        lane.lanes = lanes
        lane.mailbox = self
        return lane

    def __contains__(self, operation: Operation) -> bool:
        """Tell whether ``operation`` waits in line, or is a barrier that waits."""
        return operation.home is self

    def withdraw(self, operation: Operation) -> None:
        """Take a barrier out, or out of the line."""
        operation.home = None
        if operation in self._line:
            del self._line[operation]
        else:
            self._remove(operation)
            self.left(1)

    def _remove(self, barrier: Operation) -> None:
        """Take a barrier out of the queue, and the last lanes if they need not be others now."""
        del self._queue[barrier]
        if not self._lanes:
            del self._queue[self._lanes]
            last = next(reversed(self._queue), None)
            self._lanes = last if isinstance(last, Lanes) else self._lanes
            self._queue[self._lanes] = None

    def emptied(self, lanes: Lanes) -> None:
        """Nothing is left in ``lanes``: nobody needs them any more, unless they are the last."""
        if lanes is not self._lanes:
            del self._queue[lanes]

    def left(self, count: int) -> None:
        """``count`` operations are gone: let as many in from the line."""
        self._peak = max(self._peak, self.length)
        self.length -= count
        while self._line and self.length < self.size:
            operation, _ = self._line.popitem(last=False)
            self._enter(operation)

    # ------------------------------------------------------------------ the actor

    def barrier(self) -> Operation | None:
        """Return the barrier if everything before it has been taken."""
        first = next(iter(self._queue))
        return first if isinstance(first, Operation) else None

    def take_barrier(self) -> Operation:
        """Take the barrier that `barrier` returned along."""
        operation = next(iter(self._queue))
        assert isinstance(operation, Operation)
        operation.home = None
        self._remove(operation)
        self.left(1)
        return operation

    def take(self, limit: int, own: Mapping[str, Slice]) -> list[Parcel]:
        """Take what may travel now, ``limit`` keys at most; there is no `barrier` before it."""
        lanes = next(iter(self._queue))
        assert isinstance(lanes, Lanes)
        parcels: list[Parcel] = []
        count = 0
        for key in list(lanes) if len(lanes) <= limit else list(islice(lanes, limit)):
            parcel = self._pack(lanes, key, own.get(key))
            parcels.append(parcel)
            count += len(parcel.operations)
        if not lanes:
            self.emptied(lanes)
        self.left(count)
        return parcels

    def _pack(self, lanes: Lanes, key: str, own: Slice | None) -> Parcel:
        """Take from a lane what folds into one entry."""
        lane = lanes[key]
        taken = list(lane)
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
        if len(taken) == len(lane):
            lane.clear()
            del lanes[key]
        else:
            for operation in taken:
                del lane[operation]
        return Parcel(entry, taken)

    def give_back(self, operations: list[Operation]) -> None:
        """Let operations wait again, before all others, unless their callers have gone."""
        if not operations:
            return
        waiting = [op for op in operations if op.task is not None or op.owed]
        self.length += len(waiting)
        if not waiting:
            return
        if isinstance(waiting[0].kind, Barrier):
            waiting[0].home = self
            self._put_first(waiting[0])
            return
        lanes = next(iter(self._queue))
        if not isinstance(lanes, Lanes):
            lanes = Lanes()
            self._put_first(lanes)
        returned: dict[str, Lane] = {}
        for operation in waiting:
            lane = returned.setdefault(operation.key, self._lane(lanes))
            lane[operation] = None
        for key, lane in returned.items():
            lane.update(lanes.get(key, {}))
            lanes[key] = lane
            for operation in lane:
                operation.home = lane

    def _put_first(self, item: Lanes | Operation) -> None:
        self._queue[item] = None
        self._queue.move_to_end(item, last=False)

    def drain(self) -> list[Operation]:
        """Take everything out, whatever it is."""
        drained: list[Operation] = []
        for item in self._queue:
            if isinstance(item, Operation):
                drained.append(item)
            else:
                drained += (operation for lane in item.values() for operation in lane)
        drained += self._line
        self._lanes = Lanes()
        self._queue = OrderedDict({self._lanes: None})
        self._line.clear()
        self.length = 0
        for operation in drained:
            operation.home = None
        return drained


def _foreign(operations: list[Operation], own: Slice | None) -> int | None:
    """Keep the first operations that concern one slice; return its stamp if it is not the own one.

    That is releases of what was added to a slice that is gone, or that is not in the store (P36).
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
    kind = cast("Kind", first.kind)
    return Entry(kind, first.key, value, None, folded, 0, first.condition, first.of_own, guarded)
