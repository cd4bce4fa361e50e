"""The counter whose every answer comes from the store."""

from __future__ import annotations

from threading import get_ident
from typing import Final, final

import trio

from .._actor._operations import Operation
from .._protocol._messages import Kind, made
from .._protocol._values import CounterValue, checked_count, checked_name
from ._counter import InstanceAwareCounter

# Looked up once, not for each operation.
_ADD: Final = Kind.ADD
_wait_task_rescheduled: Final = trio.lowlevel.wait_task_rescheduled


@final
class StrictInstanceAwareCounter(InstanceAwareCounter):
    """Every operation is one atomic step in the store, and returns the value it made.

    Operations that arrive while a batch is on its way travel together in the next one or two,
    and those on one key as one entry; each caller still gets the value of its own
    operation, as if all had run one after another.

    Every operation is a checkpoint. While the store is away operations wait, for as long
    as their callers do. A cancelled operation that was not sent yet never happens; one
    on the wire happens once or not at all.

    Options and errors are those of `InstanceAwareCounter`.

    One that `LaxInstanceAwareCounter.strict` gives is a face of that counter: the same instance,
    with one id, one heartbeat and one end for both.
    """

    _face_of: InstanceAwareCounter | None = None

    @property
    def strict(self) -> StrictInstanceAwareCounter:
        """The counter itself."""
        return self

    @classmethod
    def _of(cls, whole: InstanceAwareCounter) -> StrictInstanceAwareCounter:
        """Return the strict face of a lax counter."""
        face = cls.__new__(cls)
        face._share(whole)
        face._face_of = whole
        return face

    @property
    def _whole(self) -> InstanceAwareCounter:
        return self._face_of or self

    def _another(self, **changes: object) -> StrictInstanceAwareCounter:
        if self._face_of is None:
            return super()._another(**changes)
        return self._face_of._another(**changes).strict

    def _own_slice(self, key: str, stored: int) -> int:
        whole = self._whole
        return stored if whole is self else whole._own_slice(key, stored)

    def _own_keys(self) -> set[str]:
        whole = self._whole
        return super()._own_keys() if whole is self else whole._own_keys()

    @trio.lowlevel.enable_ki_protection
    async def inc(self, key: str, count: int = 1) -> CounterValue:
        """Add ``count`` to this instance's slice; return the value after.

        A checkpoint. Cancelled before it was sent, it never happens; on its way, it happens
        exactly once or not at all.

        Raises:
            InvalidKeyError: Not a key; nothing was changed.
            TypeError: ``count`` is no int; nothing was changed.
            CounterOverflowError: The slice or the cumulative would leave int64; nothing was
                changed.
            StoreError: The store refuses; nothing was changed.
            OutcomeUnknownError: The store lost its record before it could answer, and
                somebody moved the key's epoch, or the slice does not fit for now; or
                the counter was stopped before the answer.
            InstanceConflictError: Another counter has taken over.
            CounterClosedError: The counter is not running.
        """
        key, count = checked_name(key), checked_count(count)
        # This is `Actor.ask`: on the hottest of all paths, a frame less is a few percent. It waits
        # inside the `try`, as to keep what it waits for until after it takes 20 to 50 instructions
        # more. A RuntimeError that comes while it waits passes `check_task`, and goes on as it is.
        actor = self._actor
        if get_ident() != actor.thread or not actor.open:
            actor = await actor.opened(key)  # itself, if the namespace has one part
        try:
            if not actor.mailbox.length and actor.send_alone(
                operation := Operation(_ADD, key, count)
            ):
                cumulative, own = await actor.receive_alone(operation)
            else:
                operation = actor.mailbox.add(key, count)
                if actor.mailbox.length == 1:
                    actor.send_now_or_wake()
                cumulative, own = await _wait_task_rescheduled(operation)
        except RuntimeError:
            actor.check_task()
            raise
        return made(CounterValue, (cumulative + count, own + count))

    async def get(self, key: str) -> CounterValue:
        """Return the store's value; ``(0, 0)`` for a key that nobody counts.

        A checkpoint; cancelling it leaves nothing behind. Raises what `inc` raises.
        """
        return CounterValue(*await self._ask(Kind.ADD, checked_name(key)))

    async def set_on_instance(self, key: str, count: int) -> CounterValue:
        """Make this instance's slice ``count`` and leave the others'; return the value after.

        A checkpoint, cancelled and failing as `inc`. It is judged by the final values.
        """
        count = checked_count(count)
        cumulative, own = await self._ask(Kind.PUT, checked_name(key), count)
        return CounterValue(cumulative - own + count, count)
