"""What callers ask for: one object for each call, which stands for its caller until it is done.

An operation is in one of three places: waiting (a cancelled caller withdraws it, and it
never happens), taken along (its caller may go, but it stays), or done (P33, cancelled callers).
"""

from __future__ import annotations

import enum
from collections.abc import AsyncGenerator, Generator, Sequence
from typing import ClassVar, Final, Protocol, TypeVar, final

import outcome
import trio

from .._instance._holds import Hold
from .._protocol._conditions import Condition
from .._protocol._messages import Entry, Kind, Reply, Request, Result

_Yielded = TypeVar("_Yielded")

#: Trio's own; a name here, which tests without tasks replace.
reschedule: Final = trio.lowlevel.reschedule


class ExclusiveKind(enum.Enum):
    """Operations that are not about one key, and travel alone."""

    CLEAR = "clear"
    CLEAR_OWN = "clear_on_instance"
    ATOMIC_BATCH = "several keys in one step"
    FORGET = "forget"
    QUERY = "a question about the namespace"


class Queue(Protocol):
    """Where operations wait."""

    def __contains__(self, operation: Operation, /) -> bool:
        """Tell whether ``operation``, which was put here, still waits here."""
        ...

    def withdraw(self, operation: Operation) -> None:
        """Take out what waits here."""
        ...


class Operation(outcome.Outcome[tuple[int, int]]):
    """One call of one caller, who sleeps until it is done.

    It serves as two objects that trio asks for: called, it is the ``abort_fn`` of its caller's
    sleep, and it is the outcome of that sleep if all goes well. An `outcome.Value` for each
    operation would make a crowd's operations a fifth dearer. A failure has an `outcome.Error`.
    """

    #: Nobody waits for it, and it must happen all the same.
    required: ClassVar[bool] = False

    # What only a `SpecialOperation` can have: here, so that all others need not carry it.
    condition: Condition | None = None
    of_own: bool = False
    hold: Hold | None = None
    declined: bool = False
    joint: Joint | None = None

    __slots__ = ("cumulative", "folds", "key", "kind", "own", "queue", "task", "value")

    # The values it found, once it is done.
    cumulative: int
    own: int

    def __init__(self, kind: Kind | ExclusiveKind, key: str = "", value: int = 0) -> None:
        self.kind = kind
        self.key = key
        self.value = value
        self.folds = kind is Kind.ADD  # with its neighbours, unless the store asks for it alone
        self.queue: Queue | None = None  # where it waits, or has waited last
        self.task: trio.lowlevel.Task | LoneCaller | None = None  # of its caller, until it has gone

    @property
    def writes(self) -> bool:
        """Whether it may change something."""
        return bool(self.value) or self.kind is not Kind.ADD

    @property
    def waits(self) -> bool:
        """Whether it waits to be taken along."""
        return self.queue is not None and self in self.queue

    def withdraw(self) -> bool:
        """Have it never happen; False if it was taken along."""
        queue = self.queue
        if queue is None or not self.waits:
            return False
        queue.withdraw(self)
        return True

    def done(self, cumulative: int = 0, own: int = 0) -> None:
        """Give the caller the values it found, if it still waits."""
        self.cumulative, self.own = cumulative, own
        self._wake(self)

    def fail(self, error: Exception) -> None:
        """Raise ``error`` in the caller, if it still waits."""
        self._wake(outcome.Error(error))

    def _wake(self, result: outcome.Outcome[tuple[int, int]]) -> None:
        if self.task is not None:
            task, self.task = self.task, None
            if type(task) is LoneCaller:
                task.result = result
            elif self.joint is None:
                reschedule(task, result)
            else:
                self.joint.ended(self, result)

    def unwrap(self) -> tuple[int, int]:
        """Return what the caller's sleep returns."""
        return self.cumulative, self.own

    def send(self, gen: Generator[_Yielded, tuple[int, int], object]) -> _Yielded:
        """See `outcome.Outcome.send`."""
        return gen.send(self.unwrap())

    async def asend(self, agen: AsyncGenerator[_Yielded, tuple[int, int]]) -> _Yielded:  # noqa: ASYNC910 - up to ``agen``
        """See `outcome.Outcome.asend`."""
        return await agen.asend(self.unwrap())

    # Each is equal to itself only, and is a key of dicts.
    __eq__ = object.__eq__  # pyright: ignore[reportAssignmentType] - names its parameters otherwise
    __hash__ = object.__hash__  # type: ignore[assignment]  # `Outcome` says that it has none

    def __call__(self, _: object) -> trio.lowlevel.Abort:
        """Let the caller go. If the operation still waits, it never happens."""
        self.task = None
        self.withdraw()
        return trio.lowlevel.Abort.SUCCEEDED


@final
class LoneCaller:
    """Stands for the task of a caller who is not asleep, as it waits for the store's answer itself.

    What becomes of its operation is kept here (P38, lone operation).
    """

    __slots__ = ("result",)

    def __init__(self) -> None:
        self.result: outcome.Outcome[tuple[int, int]] | None = None


class SpecialOperation(Operation):
    """One that has a condition (P35, conditions), or begins a hold (P36, guarded release)."""

    def __init__(
        self,
        kind: Kind | ExclusiveKind,
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


class Joint:
    """Operations that one caller waits for, each in a part of its own (P44, parts).

    All are put into their mailboxes at once, so that the order of calls holds in each part.
    """

    def __init__(self, operations: Sequence[SpecialOperation]) -> None:
        self.errors: dict[Operation, Exception] = {}  # of those that failed
        self._operations = operations
        self._left = len(operations)
        self._task: trio.lowlevel.Task | None = None
        for operation in operations:
            operation.joint = self

    async def wait(self) -> None:
        """Wait until all of them have ended; they are in their mailboxes.

        When cancelled, those that still wait never happen.
        """
        self._task = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(self._abort)

    def ended(self, operation: Operation, result: outcome.Outcome[tuple[int, int]]) -> None:
        """Take in that one of them has."""
        self._left -= 1
        if isinstance(result, outcome.Error):
            assert isinstance(result.error, Exception)
            self.errors[operation] = result.error
        if not self._left and self._task is not None:
            task, self._task = self._task, None
            reschedule(task, outcome.Value(None))

    def _abort(self, raise_cancel: object) -> trio.lowlevel.Abort:
        self._task = None
        for operation in self._operations:
            operation(raise_cancel)
        return trio.lowlevel.Abort.SUCCEEDED


class Release(Operation):
    """The end of a hold: takes its addition back, unless that is void (P36, guarded release)."""

    __slots__ = ("ends",)

    required: ClassVar[bool] = True

    def __init__(self, hold: Hold) -> None:
        super().__init__(Kind.ADD, hold.key, -hold.count)
        self.ends = hold


class AtomicBatch(SpecialOperation):
    """Entries for several keys, executed in one step, all or none (P34, all or none)."""

    def __init__(self, entries: Sequence[Entry], hold: Hold | None = None) -> None:
        super().__init__(ExclusiveKind.ATOMIC_BATCH, hold=hold)
        self.entries = entries
        self.results: Sequence[Result] = ()
        self.at = 0  # stamp of the step that executed it
        self.behind_counts = False  # what a lax counter had counted before has been sent

    @property
    def writes(self) -> bool:
        """Whether it may change something."""
        return any(entry.value or entry.kind is not Kind.ADD for entry in self.entries)


class QueryOperation(Operation):
    """A question about the namespace, which needs no batch."""

    __slots__ = ("reply", "request")

    def __init__(self, request: Request) -> None:
        super().__init__(ExclusiveKind.QUERY)
        self.request = request
        self.reply: Reply | None = None

    @property
    def writes(self) -> bool:
        """Whether it may change something."""
        return False
