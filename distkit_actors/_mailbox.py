"""Where operations wait until the actor takes them along.

The mailbox keeps one *lane* for each key, because the order of operations matters per key
only: everything that waits in a lane and can be folded into one entry travels together
(P13), and a lane that must stop does not hold up the others. `clear` concerns every key;
such an operation is a *barrier*, with lanes of their own before and after it.

An operation is in one of three places: waiting (a cancelled caller withdraws it, and it
never happens), taken along (its caller may go, but it stays), or done (P33).
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Mapping
from itertools import islice
from typing import TypeAlias

import trio

from ._core._messages import Before, Entry, Kind, Slice
from ._core._namespace import FOLD_LIMIT


class Barrier(enum.Enum):
    """Operations on every key."""

    CLEAR = "clear"
    CLEAR_OWN = "clear_on_instance"


class Operation:
    """One call of one caller, who sleeps in `wait` until it is done."""

    __slots__ = ("alone", "before", "error", "home", "key", "kind", "task", "value")

    def __init__(self, kind: Kind | Barrier, key: str = "", value: int = 0) -> None:
        self.kind = kind
        self.key = key
        self.value = value
        self.before: Before | None = None  # the values it found
        self.error: Exception | None = None
        self.alone = False  # the store asked for it not to be folded
        self.home: Lanes | Mailbox | None = None  # where it waits; None once taken along
        self.task: trio.lowlevel.Task | None = None

    def done(self, before: Before | None, error: Exception | None = None) -> None:
        """Give the caller its answer, if it still waits."""
        self.before = before
        self.error = error
        if self.task is not None:
            task, self.task = self.task, None
            trio.lowlevel.reschedule(task)


Lane: TypeAlias = dict[Operation, None]
Lanes: TypeAlias = dict[str, Lane]


class Parcel:
    """An entry of a batch with the operations it stands for."""

    __slots__ = ("entry", "operations")

    def __init__(self, entry: Entry, operations: list[Operation]) -> None:
        self.entry = entry
        self.operations = operations


class Mailbox:
    """Operations that wait, up to ``size`` of them; more wait in line before it."""

    def __init__(self, size: int) -> None:
        if size < 1:
            raise ValueError(f"mailbox_size must be at least 1, not {size}")
        self.size = size
        self.length = 0
        self.peak = 0
        self._queue: deque[Lanes | Operation] = deque([{}])  # lanes and barriers in turn
        self._line: Lane = {}  # operations for which there is no room yet

    # -------------------------------------------------------------------- callers

    async def ask(self, operation: Operation) -> Before:
        """Put ``operation`` in and wait for its answer.

        A checkpoint. When cancelled, an operation that still waits never happens; one
        that was taken along happens once or not at all, and nobody hears of it.
        """
        if self.length < self.size and not self._line:
            self._enter(operation)
        else:
            operation.home = self
            self._line[operation] = None
        operation.task = trio.lowlevel.current_task()

        def withdraw(_: object) -> trio.lowlevel.Abort:
            operation.task = None
            self._withdraw(operation)
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(withdraw)
        if operation.error is not None:
            raise operation.error
        return operation.before or Before(0, 0)

    def _enter(self, operation: Operation) -> None:
        self.length += 1
        self.peak = max(self.peak, self.length)
        if isinstance(operation.kind, Barrier):
            operation.home = self
            self._queue += (operation, {})
            return
        lanes = self._queue[-1]
        assert isinstance(lanes, dict)
        operation.home = lanes
        lane = lanes.get(operation.key)
        if lane is None:
            lanes[operation.key] = {operation: None}
        else:
            lane[operation] = None

    def _withdraw(self, operation: Operation) -> None:
        home, operation.home = operation.home, None
        if home is None:
            return
        if operation in self._line:
            del self._line[operation]
            return
        if isinstance(home, Mailbox):
            self._queue.remove(operation)
        else:
            lane = home[operation.key]
            del lane[operation]
            if not lane:
                del home[operation.key]
        self._leave(1)

    def _leave(self, count: int) -> None:
        """``count`` operations are gone: let as many in from the line."""
        self.length -= count
        while self._line and self.length < self.size:
            operation = next(iter(self._line))
            del self._line[operation]
            self._enter(operation)

    # ------------------------------------------------------------------ the actor

    def barrier(self) -> Operation | None:
        """Return the barrier if everything before it has been taken."""
        while len(self._queue) > 1 and self._queue[0] == {}:
            self._queue.popleft()
        first = self._queue[0]
        return first if isinstance(first, Operation) else None

    def take_barrier(self) -> Operation:
        """Take the barrier that `barrier` returned along."""
        operation = self._queue.popleft()
        assert isinstance(operation, Operation)
        operation.home = None
        self._leave(1)
        return operation

    def take(self, limit: int, own: Mapping[str, Slice]) -> list[Parcel]:
        """Take what may travel now, ``limit`` keys at most; nothing if a barrier is first."""
        if self.barrier() is not None:
            return []
        lanes = self._queue[0]
        assert isinstance(lanes, dict)
        keys = list(lanes) if len(lanes) <= limit else list(islice(lanes, limit))
        parcels = [self._pack(lanes, key, own.get(key)) for key in keys]
        self._leave(sum(len(parcel.operations) for parcel in parcels))
        return parcels

    def _pack(self, lanes: Lanes, key: str, own: Slice | None) -> Parcel:
        """Take from a lane what folds into one entry."""
        lane = lanes[key]
        first = next(iter(lane))
        bound = FOLD_LIMIT if own is None or abs(own.value) < FOLD_LIMIT else 0
        if first.kind is not Kind.ADD or first.alone or abs(first.value) >= bound:
            taken = [first]
            del lane[first]
        else:
            taken = list[Operation]()
            reach = 0
            for operation in lane:
                reach += abs(operation.value)
                if operation.kind is not Kind.ADD or operation.alone or reach >= bound:
                    break
                taken.append(operation)
            if len(taken) == len(lane):
                lane.clear()
            else:
                for operation in taken:
                    del lane[operation]
        if not lane:
            del lanes[key]
        total = 0
        for operation in taken:
            operation.home = None
            total += operation.value
        kind = first.kind
        assert isinstance(kind, Kind)
        return Parcel(Entry(kind, key, total, folded=len(taken) > 1), taken)

    def give_back(self, operations: list[Operation]) -> None:
        """Let operations wait again, before all others, unless their callers have gone."""
        waiting = [operation for operation in operations if operation.task is not None]
        self.length += len(waiting)
        if waiting and isinstance(waiting[0].kind, Barrier):
            waiting[0].home = self
            self._queue.appendleft(waiting[0])
            return
        if not isinstance(self._queue[0], dict):
            self._queue.appendleft({})
        lanes = self._queue[0]
        assert isinstance(lanes, dict)
        returned: Lanes = {}
        for operation in waiting:
            operation.home = lanes
            returned.setdefault(operation.key, {})[operation] = None
        for key, lane in returned.items():
            lanes[key] = {**lane, **lanes.get(key, {})}

    def drain(self) -> list[Operation]:
        """Take everything out, whatever it is."""
        drained: list[Operation] = []
        for item in self._queue:
            if isinstance(item, Operation):
                drained.append(item)
            else:
                drained += (operation for lane in item.values() for operation in lane)
        drained += self._line
        self._queue = deque([{}])
        self._line = {}
        self.length = 0
        for operation in drained:
            operation.home = None
        return drained
