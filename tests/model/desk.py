"""What is around a session in a counter: mailbox, dispatch and, if it is lax, the write buffer.

They are the product's, driven as the actor and the public classes drive them. Callers are not
tasks here: who waits for an answer is a mark on the operation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, cast

import trio

from distkit_actors._actor import _dispatch, _operations
from distkit_actors._actor._dispatch import Dispatch
from distkit_actors._actor._exclusive import AtomicBatchSteps
from distkit_actors._actor._log import Log
from distkit_actors._actor._mailbox import CoalescedEntry, Mailbox
from distkit_actors._actor._operations import AtomicBatch, Operation, Release, SpecialOperation
from distkit_actors._errors import StoreError
from distkit_actors._instance._buffered_key import BufferedKey
from distkit_actors._instance._holds import Hold
from distkit_actors._instance._session import Session
from distkit_actors._instance._session_state import Update
from distkit_actors._instance._write_buffer import WriteBuffer
from distkit_actors._protocol._messages import Entry, Kind
from distkit_actors._stores._memory import MemoryStore
from tests.model.freeze import Freeze, Thaw, entry_of, plain_entry
from tests.model.oracle import Op
from tests.model.scope import ADDS, CONDITIONS

#: Stands for the task of a caller who waits.
_CALLER: Final = cast("trio.lowlevel.Task", object())

_KINDS: Final = {"add": Kind.ADD, "put": Kind.PUT, "move": Kind.MOVE}


class Held(Hold):
    """A hold, and what the oracle says of it."""

    __slots__ = ("counts", "entered")

    def __init__(self, key: str, count: int) -> None:
        super().__init__(key, count)
        self.counts: bool | None = False  # its addition is in the slice; None: nobody can say
        self.entered = False  # its block has been


class Desk:
    """All of a counter but its session and its actor."""

    def __init__(self, session: Session, *, lax: bool) -> None:
        self.holds: list[Held] = []
        self.asks: list[Operation] = []  # whose callers wait
        self.mailbox = Mailbox(100)
        self.buffer = WriteBuffer(lambda *_: None) if lax else None
        log = Log("model", MemoryStore(), "lax" if lax else "strict")
        self.dispatch = Dispatch(session, self.mailbox, self.buffer, log)

    # ------------------------------------------------------------------- callers

    def do(self, ops: Sequence[Op], *, atomic: bool) -> None:
        """Have somebody call an operation; several make a batch."""
        if atomic:
            self._ask(AtomicBatch([_entry(op) for op in ops]))
            return
        for op in ops:
            if self.buffer is not None and is_local(op):
                self._count(self.buffer, op)
            else:
                self._call(op)

    def _count(self, buffer: WriteBuffer, op: Op) -> None:
        """Do as a lax counter does in its memory."""
        kind, key, value = op
        buffered = buffer.buffered(key, 0.0)
        if kind == "put":
            buffer.replace(buffered, value)
            return
        buffered.delta += value
        if not buffered.dirty:
            buffer.touch(buffered)
        if kind == "hold":
            hold = self._hold(key, value)
            hold.entered = True
            buffered.hold(hold)

    def _call(self, op: Op) -> None:
        kind, key, value = op
        if kind.startswith("hold"):
            hold = self._hold(key, value)
            entry = _entry(("add?" if kind == "hold?" else "add", key, value))
        else:
            hold, entry = None, _entry(op)
        if entry.condition is not None and self.buffer is not None:
            self._ask(AtomicBatch([entry], hold))
        elif entry.condition is None and hold is None:
            self._ask(Operation(entry.kind, key, value))
        else:
            self._ask(
                SpecialOperation(
                    entry.kind, key, value, entry.condition, of_own=entry.of_own, hold=hold
                )
            )

    def _hold(self, key: str, count: int) -> Held:
        hold = Held(key, count)
        self.holds.append(hold)
        return hold

    def _ask(self, operation: Operation) -> None:
        operation.task = _CALLER
        self.asks.append(operation)
        self.mailbox.enter(operation)

    def let_go(self, hold: Held) -> None:
        """Leave the block of a hold."""
        self.dispatch.releases.release(hold)
        self._tidy()

    def give_up(self, operation: Operation) -> None:
        """Cancel a caller."""
        self.asks.remove(operation)
        operation(None)
        self._tidy()

    # ----------------------------------------------------------------- the actor

    @property
    def has_work(self) -> bool:
        """Whether there is something to send."""
        return self.dispatch.waiting or self.dispatch.pending > 0

    def collect(self, *, beat: bool) -> tuple[list[Entry], bool]:
        """Return the next batch, and whether it is executed as a whole."""
        if beat:
            self.dispatch.releases.retry_deferred()
        entries = self.dispatch.collect(0.0, math.inf, flush=True)
        return entries, self.dispatch.atomic

    def settle(self, update: Update) -> None:
        """Hand out what an answer says."""
        with _Callers():
            self.dispatch.settle(update, 0.0)
        for operation in [each for each in self.asks if each.task is None]:
            self.asks.remove(operation)
            hold = operation.hold
            if isinstance(hold, Held) and hasattr(operation, "cumulative"):  # it has not failed
                hold.entered = not _declined(operation)
        self._tidy()

    def refused(self) -> None:
        """The store refuses the batch."""
        self._fail(self.dispatch.refused)

    def fail_waiting(self) -> None:
        """The store refuses what is kept, as it may have been executed; what waits fails."""
        self._fail(self.dispatch.fail_waiting)

    def _fail(self, how: Callable[[Exception], None]) -> None:
        with _Callers():
            how(StoreError("refused"))
        self.asks = [operation for operation in self.asks if operation.task is not None]
        self._tidy()

    def in_entry(self, index: int) -> tuple[list[Held], list[Held]]:
        """Return the holds that an entry of the batch begins, and those that it ends."""
        buffer, dispatch = self.buffer, self.dispatch
        if index < dispatch._counts:
            assert buffer is not None
            buffered = buffer._sent[index]
            return _held(buffered.flight_holds), _held(buffered.flight_releases)
        operations = (
            dispatch._coalesced[index - dispatch._counts].operations
            if dispatch._steps is None
            else [dispatch._steps.operation]
        )
        return (
            _held([op.hold for op in operations if op.hold is not None]),
            _held([op.ends for op in operations if isinstance(op, Release)]),
        )

    def replaced(self, key: str) -> list[Held]:
        """Return the holds of a lax counter that ended before its own slice was replaced."""
        if self.buffer is None or key not in self.buffer.buffered_keys:
            return []
        later = self.buffer.buffered_keys[key].unsent_releases
        return [h for h in self.holds if h.key == key and h.released and h not in later]

    def _tidy(self) -> None:
        """Forget holds that nobody will ever speak of again."""
        kept = _References(self).holds
        for hold in list(self.holds):
            over = hold.void or hold.released or not hold.entered
            gone = hold.counts is False or (hold.counts is None and not self._puts(hold.key))
            if hold not in kept and over and gone:
                self.holds.remove(hold)

    def _puts(self, key: str) -> bool:
        """Whether a slice is to be replaced, so that no end of a hold that it has in it is sent."""
        buffered = self.buffer and self.buffer.buffered_keys.get(key)
        return bool(buffered) and {buffered.assign, buffered.flight_assign} != {None}

    # ------------------------------------------------------------------ freezing

    def write(self, out: Freeze) -> None:
        """Write all of it down."""
        landed = set(self.dispatch.releases.holds.outstanding())
        out.plain += (self.buffer is not None, len(self.holds))
        for h in self.holds:
            mark = h.key, h.count, h.released, h.void, h.entered, h.counts, h in landed
            out.plain.append(mark)
            out.stamps.append(h.at if h in landed else 0)
        dispatch = self.dispatch
        steps = dispatch._steps
        out.plain += (
            [
                self._plain(item)
                if isinstance(item, Operation)
                else [self._plain(op) for queue in item.values() for op in queue]
                for item in self.mailbox._sections
            ],
            dispatch._counts,
            [
                (plain_entry(coalesced.entry), [self._plain(op) for op in coalesced.operations])
                for coalesced in dispatch._coalesced
            ],
            None if steps is None else self._plain(steps.operation),
            [self.holds.index(release.ends) for release in dispatch.releases.deferred],
        )
        if self.buffer is not None:
            self._write_ledger(self.buffer, out)

    def _write_ledger(self, buffer: WriteBuffer, out: Freeze) -> None:
        out.plain.append(
            [
                (
                    buffered.key,
                    buffered.assign,
                    buffered.delta,
                    buffered.in_flight,
                    buffered.flight_assign,
                    buffered.flight_delta,
                    *map(self._numbers, _holds_of(buffered)),
                )
                for _, buffered in sorted(buffer.buffered_keys.items())
            ]
        )
        out.plain += (
            list(buffer._dirty),
            [buffered.key for buffered in buffer._sent],
        )

    def _numbers(self, holds: Iterable[Hold]) -> list[int]:
        return [self.holds.index(hold) for hold in holds]

    def _plain(self, op: Operation) -> tuple[object, ...]:
        waits = op.task is not None
        if isinstance(op, Release):
            return "release", self.holds.index(op.ends), op.folds
        hold = -1 if op.hold is None else self.holds.index(op.hold)
        if isinstance(op, AtomicBatch):
            entries = list(map(plain_entry, op.entries))
            return "batch", waits, hold, entries, op.behind_counts
        assert isinstance(op.kind, Kind)
        entry = Entry(op.kind, op.key, op.value, condition=op.condition, of_own=op.of_own)
        return "ask", waits, hold, plain_entry(entry), op.folds

    @classmethod
    def read(cls, source: Thaw, session: Session) -> Desk:
        """Undo `write`."""
        plain = source.plain
        desk = cls(session, lax=next(plain))
        dispatch, mailbox = desk.dispatch, desk.mailbox
        for _ in range(next(plain)):
            key, count, released, void, entered, counts, landed = next(plain)
            hold = desk._hold(key, count)
            hold.released, hold.void, hold.entered, hold.counts = released, void, entered, counts
            stamp = next(source.stamps)
            if landed:
                dispatch.releases.holds.committed(hold, stamp)
        for item in next(plain):
            if isinstance(item, tuple):
                mailbox.enter(desk._operation(item))
                continue
            for operation in item:
                mailbox.enter(desk._operation(operation))
        dispatch._counts = next(plain)
        dispatch._coalesced = [
            CoalescedEntry(entry_of(entry), [desk._operation(op) for op in operations])
            for entry, operations in next(plain)
        ]
        steps = next(plain)
        if steps is not None:
            batch = desk._operation(steps)
            assert isinstance(batch, AtomicBatch)
            dispatch._steps, dispatch._stepping = AtomicBatchSteps(batch), True
        for number in next(plain):
            release = dispatch.releases.outstanding[desk.holds[number]] = Release(
                desk.holds[number]
            )
            dispatch.releases.deferred.append(release)
        if desk.buffer is not None:
            desk._read_ledger(desk.buffer, source)
        return desk

    def _release(self, number: int) -> Release:
        hold = self.holds[number]
        release = self.dispatch.releases.outstanding[hold] = Release(hold)
        return release

    def _operation(self, frozen: Sequence[Any]) -> Operation:  # type: ignore[explicit-any]
        what, *rest = frozen
        if what == "release":
            number, folds = rest
            release = self.dispatch.releases.outstanding[self.holds[number]] = Release(
                self.holds[number]
            )
            release.folds = folds
            return release
        waits, number, body, flag = rest
        hold = None if number < 0 else self.holds[number]
        operation: Operation
        if what == "batch":
            operation = batch = AtomicBatch(list(map(entry_of, body)), hold)
            batch.behind_counts = flag
        else:
            e = entry_of(body)
            if e.condition is None and hold is None:
                operation = Operation(e.kind, e.key, e.value)
            else:
                operation = SpecialOperation(
                    e.kind, e.key, e.value, e.condition, of_own=e.of_own, hold=hold
                )
            operation.folds = flag
        if waits:
            operation.task = _CALLER
            self.asks.append(operation)
        return operation

    def _read_ledger(self, buffer: WriteBuffer, source: Thaw) -> None:
        for row in next(source.plain):
            key, assign, delta, in_flight, flight_assign, flight_delta, *holds = row
            buffered = buffer.buffered(key, 0.0)
            buffered.assign, buffered.delta, buffered.in_flight = assign, delta, in_flight
            buffered.flight_assign, buffered.flight_delta = flight_assign, flight_delta
            (
                buffered.unsent_holds,
                buffered.flight_holds,
                buffered.unsent_releases,
                buffered.flight_releases,
                buffered.unsent_replaced,
                buffered.flight_replaced,
            ) = ({self.holds[number]: None for number in numbers} for numbers in holds)
        for key in next(source.plain):
            buffer.touch(buffer.buffered_keys[key])
        buffer._sent = [buffer.buffered_keys[key] for key in next(source.plain)]

    def copy(self, session: Session) -> Desk:
        """Return an independent copy, around a copy of the session."""
        out = Freeze()
        self.write(out)
        return Desk.read(Thaw.of(out), session)


class _References:
    """All holds that somebody may still speak of."""

    def __init__(self, desk: Desk) -> None:
        dispatch = desk.dispatch
        waiting = [op for coalesced in dispatch._coalesced for op in coalesced.operations]
        waiting += [*desk.asks, *dispatch.releases.deferred]
        for item in desk.mailbox._sections:
            if isinstance(item, Operation):
                waiting.append(item)
            else:
                waiting += [operation for queue in item.values() for operation in queue]
        if dispatch._steps is not None:
            waiting.append(dispatch._steps.operation)
        self.holds: set[Hold] = set(dispatch.releases.holds.outstanding())
        self.holds.update(op.hold for op in waiting if op.hold is not None)
        self.holds.update(op.ends for op in waiting if isinstance(op, Release))
        if desk.buffer is not None:
            for buffered in desk.buffer.buffered_keys.values():
                self.holds.update(*_holds_of(buffered))


def is_local(op: Op) -> bool:
    """Tell whether a lax counter does it in its memory."""
    return op[0] in ("add", "put", "hold")


def op_of(entry: Entry) -> Op:
    """Return what the oracle has to be told of an entry."""
    kind = {Kind.ADD: "add", Kind.PUT: "put", Kind.MOVE: "move", Kind.CLAIM: "required"}[entry.kind]
    if entry.kind is Kind.ADD and entry.guarded:
        kind = "back"
    return (kind + ("?" if entry.condition is not None else ""), entry.key, entry.value)


def _entry(op: Op) -> Entry:
    kind, key, value = op
    condition, of_own = CONDITIONS.get(kind, (None, False))
    name = "add" if kind in ADDS else kind.rstrip("?!")
    return Entry(_KINDS[name], key, value, condition=condition, of_own=of_own)


def _declined(operation: Operation) -> bool:
    if isinstance(operation, AtomicBatch):
        return not all(type(result).__name__ == "Previous" for result in operation.results)
    return operation.declined


def _held(holds: Iterable[Hold]) -> list[Held]:
    return cast("list[Held]", list(holds))


def _holds_of(buffered: BufferedKey) -> tuple[dict[Hold, None], ...]:
    return (
        buffered.unsent_holds,
        buffered.flight_holds,
        buffered.unsent_releases,
        buffered.flight_releases,
        buffered.unsent_replaced,
        buffered.flight_replaced,
    )


class _Callers:
    """Lets answers be given to callers that are no tasks.

    A mock would do, but it is made for every answer, and took half of an exploration's time.
    """

    def __enter__(self) -> None:
        for module in (_operations, _dispatch):
            vars(module)["reschedule"] = _answered

    def __exit__(self, *_: object) -> None:
        for module in (_operations, _dispatch):
            vars(module)["reschedule"] = trio.lowlevel.reschedule


def _answered(*_: object) -> None:
    """Stand for what wakes a task."""
