"""Operations that travel alone, each in as many steps as it needs.

Each knows its entries, and what their results mean for the rest of the counter.
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from itertools import chain

from .._errors import CounterOverflowError, OutcomeUnknownError
from .._instance._session import Session
from .._instance._write_buffer import WriteBuffer
from .._protocol._messages import Entry, Kind, Previous, Rejection, Result
from ._operations import AtomicBatch, ExclusiveKind, Operation
from ._outcomes import after, overflow, unknown
from ._releases import Releases


class Progress(enum.Enum):
    """How far an exclusive operation has come."""

    MORE = "there is more to send"
    AGAIN = "nothing of it was executed, so that it waits again"
    ENDED = "it has taken effect, or failed"


class ExclusiveSteps(ABC):
    """An exclusive operation on its way."""

    #: Pending lax counts of every key are void if it succeeds (P30, immediate operations).
    stages = False
    #: Its entries are executed all or none.
    atomic = False
    #: Other work may go between its steps (P41, turns).
    takes_turns = False
    #: A step of it has been executed, so it goes on to its end, whether or not somebody waits.
    begun = False
    #: Why it failed.
    error: Exception | None = None

    def __init__(self, operation: Operation) -> None:
        self.operation = operation
        self.refused: list[str] = []  # keys; what is pending there is not void

    @abstractmethod
    def next_entries(self) -> list[Entry]:
        """Return the entries to send next."""

    @property
    def known(self) -> bool:
        """Whether anybody knows what became of it."""
        return not isinstance(self.error, OutcomeUnknownError)

    def settle(self, results: Sequence[Result], at: int) -> Progress:
        """Take in what became of `next_entries`; ``at`` is as in `Update`."""
        # A step without entries has no result that could say that it was not executed.
        if not at or Rejection.RETRY in results[:1]:
            # Half of it may be done. Then it goes on, whether or not the caller waits.
            return Progress.MORE if self.begun else Progress.AGAIN
        return Progress.ENDED if self.take_in(results) else Progress.MORE

    @abstractmethod
    def take_in(self, results: Sequence[Result]) -> bool:
        """Note what the results are; True when there is nothing more to send."""

    def update_view(self, buffer: WriteBuffer, now: float) -> None:  # noqa: B027 - some have nothing to tell
        """Tell a lax counter what it found in its last step."""

    def end_holds(self, releases: Releases, at: int) -> None:  # noqa: B027 - most make none void
        """End the holds whose additions it made void."""


class ClearSteps(ExclusiveSteps):
    """`clear`: one entry, for every instance."""

    stages = True

    def next_entries(self) -> list[Entry]:
        """See `ExclusiveSteps.next_entries`."""
        return [Entry(Kind.CLEAR, "", 0)]

    def take_in(self, results: Sequence[Result]) -> bool:
        """See `ExclusiveSteps.take_in`."""
        if results[0] is Rejection.UNKNOWN:
            self.error = unknown()
        return True

    def update_view(self, buffer: WriteBuffer, now: float) -> None:
        """See `ExclusiveSteps.update_view`."""
        buffer.cleared(lambda _: 0, by_us=True, now=now)

    def end_holds(self, releases: Releases, at: int) -> None:
        """See `ExclusiveSteps.end_holds`."""
        releases.cleared(at)


class ClearOwnSteps(ExclusiveSteps):
    """`clear_on_instance`: some hundred keys in a step (I10, bounds)."""

    stages = True

    def __init__(self, operation: Operation, session: Session) -> None:
        super().__init__(operation)
        self._session = session
        self._removed: dict[str, int] = {}  # by the last step: {key: cumulative afterwards}
        self._tried: set[str] = set()
        self._left: deque[str] = deque()  # keys to be looked at before those that came meanwhile
        self._step: dict[str, None] = {}
        self._finished = False

    def next_entries(self) -> list[Entry]:
        """See `ExclusiveSteps.next_entries`."""
        self._step, self._removed = {}, {}
        while len(self._step) < self._session.bulk_size and self._any_left():
            self._step[self._left.popleft()] = None
        return [Entry(Kind.PUT, key, 0) for key in self._step]

    def take_in(self, results: Sequence[Result]) -> bool:
        """See `ExclusiveSteps.take_in`."""
        for key, result in zip(self._step, results, strict=False):
            self.begun = True
            self._tried.add(key)
            if isinstance(result, Previous):
                self._removed[key] = result.cumulative - result.slice
            elif result is Rejection.REFUSED:
                self.refused.append(key)
        if self.refused:
            self.error = _stuck(self.refused)
        self._step = {}
        self._finished = not self._any_left()
        return self._finished

    def update_view(self, buffer: WriteBuffer, now: float) -> None:
        """See `ExclusiveSteps.update_view`."""
        for key, cumulative in self._removed.items():
            buffer.read(key, cumulative, 0, now)

    def end_holds(self, releases: Releases, at: int) -> None:  # noqa: ARG002 - no epoch has moved
        """See `ExclusiveSteps.end_holds`: what they have added went with the slice."""
        if not self._finished:
            releases.removed(self._removed)
        else:  # also what was pending, and in slices that had become 0
            releases.removed([key for key in releases.holds.held() if not self._has(key)])

    def _is_due(self, key: str) -> bool:
        return key not in self._tried and key not in self._step

    def _has(self, key: str) -> bool:
        return key in self._session.slices or key in self._session.withheld.keys

    def _any_left(self) -> bool:
        """Return whether a key is left that has something, and see to it that it comes first.

        All keys are looked at once, and then those that are left: a resume in between may have
        changed which they are.
        """
        slices, withheld = self._session.slices, self._session.withheld
        while True:
            while self._left:
                key = self._left[0]
                if self._is_due(key) and self._has(key):
                    return True
                self._left.popleft()
            keys = dict.fromkeys(chain(slices, withheld.keys))
            self._left.extend(filter(self._is_due, keys))
            if not self._left:
                return False


class AtomicBatchSteps(ExclusiveSteps):
    """Several keys in one step, all or none (P34, all or none)."""

    atomic = True

    def __init__(self, batch: AtomicBatch) -> None:
        super().__init__(batch)
        self.batch = batch

    def next_entries(self) -> list[Entry]:
        """See `ExclusiveSteps.next_entries`."""
        return list(self.batch.entries)

    def take_in(self, results: Sequence[Result]) -> bool:
        """See `ExclusiveSteps.take_in`."""
        if Rejection.REFUSED in results:
            pairs = zip(self.batch.entries, results, strict=True)
            self.error = overflow([e.key for e, result in pairs if result is Rejection.REFUSED])
        elif Rejection.UNKNOWN in results:
            self.error = unknown()
        else:
            self.batch.results = results
        return True

    def update_view(self, buffer: WriteBuffer, now: float) -> None:
        """See `ExclusiveSteps.update_view`."""
        for entry, result in zip(self.batch.entries, self.batch.results, strict=False):
            if not isinstance(result, Rejection):
                buffer.read(entry.key, *after(entry, result), now)

    def end_holds(self, releases: Releases, at: int) -> None:
        """See `ExclusiveSteps.end_holds`."""
        pairs = zip(self.batch.entries, self.batch.results, strict=False)
        moved = (
            e.key for e, result in pairs if e.kind is Kind.MOVE and isinstance(result, Previous)
        )
        releases.moved(dict.fromkeys(moved, at), {})


class ForgetSteps(ExclusiveSteps):
    """`forget`: some hundred slices in a step."""

    takes_turns = True

    def next_entries(self) -> list[Entry]:
        """See `ExclusiveSteps.next_entries`."""
        return [Entry(Kind.FORGET, self.operation.key, 0)]

    def take_in(self, results: Sequence[Result]) -> bool:
        """See `ExclusiveSteps.take_in`."""
        self.begun = True
        match results[0]:
            case Previous(left, gone):
                return not (left and gone)
            case _:
                return True


def steps_for(operation: Operation, session: Session) -> ExclusiveSteps:
    """Return what carries an exclusive operation out."""
    match operation.kind:
        case ExclusiveKind.CLEAR:
            return ClearSteps(operation)
        case ExclusiveKind.CLEAR_OWN:
            return ClearOwnSteps(operation, session)
        case ExclusiveKind.FORGET:
            return ForgetSteps(operation)
        case _:
            assert isinstance(operation, AtomicBatch)
            return AtomicBatchSteps(operation)


def _stuck(keys: Sequence[str]) -> Exception:
    return CounterOverflowError(
        f"{len(keys)} slices could not be removed, because the cumulative would leave the signed "
        f"64-bit range; all others were: {', '.join(keys[:10])}"
    )
