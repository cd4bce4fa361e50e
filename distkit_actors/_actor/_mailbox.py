"""Where operations wait until the actor takes them along.

The mailbox keeps one *lane* for each key, because the order of operations matters per key
only: everything that waits in a lane and can be folded into one entry travels together
(P13), and a lane that must stop does not hold up the others. `clear` concerns every key and
`inc_all` several; such an operation is a *barrier*, with lanes of their own before and after it.

An operation is in one of three places: waiting (a cancelled caller withdraws it, and it
never happens), taken along (its caller may go, but it stays), or done (P33).
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import ClassVar, Final, TypeAlias, cast

import trio

from .._core._conditions import Condition
from .._core._holds import Hold
from .._core._messages import FOLD_LIMIT, Entry, Kind, Reply, Request, Result, Slice

_NOTHING: Final = (0, 0)


class Barrier(enum.Enum):
    """Operations that are not about one key, and travel alone."""

    CLEAR = "clear"
    CLEAR_OWN = "clear_on_instance"
    BUNDLE = "several keys in one step"
    FORGET = "forget"
    INQUIRY = "a question about the namespace"


class Operation:
    """One call of one caller, who sleeps until it is done.

    Called, it is what trio wants to have as ``abort_fn``: an object less for each that waits.
    """

    #: Nobody waits for it, and it must happen all the same.
    owed: ClassVar[bool] = False

    # What only a `SpecialOperation` can have: here, so that all others need not carry it.
    condition: Condition | None = None
    of_own: bool = False
    hold: Hold | None = None
    declined: bool = False

    __slots__ = ("before", "error", "folds", "home", "key", "kind", "mailbox", "task", "value")

    mailbox: Mailbox  # that it waits in, or has waited in

    def __init__(self, kind: Kind | Barrier, key: str = "", value: int = 0) -> None:
        self.kind = kind
        self.key = key
        self.value = value
        self.before: tuple[int, int] = _NOTHING  # the values it found
        self.error: Exception | None = None
        self.folds = kind is Kind.ADD  # with its neighbours, unless the store asks for it alone
        self.home: Lanes | Mailbox | None = None  # where it waits; None once taken along
        self.task: trio.lowlevel.Task | None = None

    @property
    def writes(self) -> bool:
        """Whether it may change something."""
        return bool(self.value) or self.kind is not Kind.ADD

    def done(self, before: tuple[int, int] = _NOTHING, error: Exception | None = None) -> None:
        """Give the caller its answer, if it still waits."""
        self.before = before
        self.error = error
        if self.task is not None:
            task, self.task = self.task, None
            trio.lowlevel.reschedule(task)

    def __call__(self, _: object) -> trio.lowlevel.Abort:
        """Let the caller go; if it still waits, it never happens."""
        self.task = None
        if self.home is not None:
            self.mailbox.withdraw(self)
        return trio.lowlevel.Abort.SUCCEEDED


class SpecialOperation(Operation):
    """One that has a condition (P35), or begins a hold (P36)."""

    def __init__(
        self,
        kind: Kind | Barrier,
        key: str = "",
        value: int = 0,
        condition: Condition | None = None,
        *,
        of_own: bool = False,
        hold: Hold | None = None,
    ) -> None:
        super().__init__(kind, key, value)
        self.folds = self.folds and condition is None
        self.condition = condition
        self.of_own = of_own  # what the condition is about
        self.hold = hold
        self.declined = False  # the condition did not hold


class Release(Operation):
    """The end of a hold: takes its addition back, unless that is void (P36)."""

    __slots__ = ("ends",)

    owed: ClassVar[bool] = True

    def __init__(self, hold: Hold) -> None:
        super().__init__(Kind.ADD, hold.key, -hold.count)
        self.ends = hold


class Bundle(SpecialOperation):
    """Entries for several keys, executed in one step, all or none (P34)."""

    def __init__(self, entries: Sequence[Entry], hold: Hold | None = None) -> None:
        super().__init__(Barrier.BUNDLE, hold=hold)
        self.entries = entries
        self.results: Sequence[Result] = ()
        self.behind_counts = False  # what a lax counter had counted before has been sent

    @property
    def writes(self) -> bool:
        """Whether it may change something."""
        return any(entry.value or entry.kind is not Kind.ADD for entry in self.entries)


class Inquiry(Operation):
    """A question about the namespace, which needs no batch."""

    __slots__ = ("reply", "request")

    def __init__(self, request: Request) -> None:
        super().__init__(Barrier.INQUIRY)
        self.request = request
        self.reply: Reply | None = None

    @property
    def writes(self) -> bool:
        """Whether it may change something."""
        return False


Lane: TypeAlias = dict[Operation, None]
Lanes: TypeAlias = dict[str, Lane]


class Parcel:
    """An entry of a batch with the operations it stands for."""

    __slots__ = ("entry", "operations")

    def __init__(self, entry: Entry, operations: list[Operation]) -> None:
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
        self._lanes: Lanes = {}  # behind the last barrier
        self._queue: deque[Lanes | Operation] = deque([self._lanes])  # and barriers, in turn
        self._line: Lane = {}  # operations for which there is no room yet

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
        operation.task = trio.lowlevel.current_task()
        if self.length >= self.size or self._line:
            operation.mailbox = operation.home = self
            self._line[operation] = None
            return
        self._enter(operation)
        if self.length == 1:
            self._on_first()

    def owe(self, operation: Operation) -> None:
        """Put in what must happen and nobody waits for; there is always room."""
        self._enter(operation)

    def _enter(self, operation: Operation) -> None:
        operation.mailbox = self
        self.length += 1
        if type(operation.kind) is Barrier:
            operation.home = self
            self._lanes = {}
            self._queue += (operation, self._lanes)
            return
        lanes = operation.home = self._lanes
        key = operation.key
        if key in lanes:
            lanes[key][operation] = None
        else:
            lanes[key] = {operation: None}

    def withdraw(self, operation: Operation) -> None:
        """Take out what still waits, if it does."""
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
        self._peak = self.peak
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
        """Take what may travel now, ``limit`` keys at most; there is no `barrier` before it."""
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
        if len(lane) == 1:
            del lanes[key]
            first.home = None
            return Parcel(_entry(first, first.value, guarded=type(first) is Release), [first])
        bound = FOLD_LIMIT if own is None or abs(own.value) < FOLD_LIMIT else 0
        taken: list[Operation] = []
        total, reach, guarded = 0, 0, False
        for operation in lane:
            value = operation.value
            reach += abs(value)
            if reach >= bound or not operation.folds:
                break
            taken.append(operation)
            operation.home = None
            total += value
            guarded = guarded or type(operation) is Release
        if not taken:  # the first does not fold
            taken.append(first)
            first.home = None
            total, guarded = first.value, type(first) is Release
        if len(taken) == len(lane):
            del lanes[key]
        else:
            for operation in taken:
                del lane[operation]
        folded = len(taken) > 1 and any(operation.value for operation in taken)
        return Parcel(_entry(first, total, folded=folded, guarded=guarded), taken)

    def give_back(self, operations: list[Operation]) -> None:
        """Let operations wait again, before all others, unless their callers have gone."""
        if not operations:
            return
        waiting = [op for op in operations if op.task is not None or op.owed]
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
        self._lanes = {}
        self._queue = deque([self._lanes])
        self._line = {}
        self.length = 0
        for operation in drained:
            operation.home = None
        return drained


def _entry(first: Operation, value: int, *, folded: bool = False, guarded: bool) -> Entry:
    """Return what ``first`` is in a batch, and with ``value`` those that were folded into it."""
    return Entry(
        cast("Kind", first.kind),
        first.key,
        value,
        folded=folded,
        condition=first.condition,
        of_own=first.of_own,
        guarded=guarded,
    )
