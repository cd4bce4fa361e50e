"""A counter's operations on one key."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

import trio

from .._protocol._conditions import Condition
from .._protocol._values import Change, CounterValue

if TYPE_CHECKING:
    from ._counter import InstanceAwareCounter


class BoundCounter:
    """Every operation of a counter on one key, without the key. Made by ``counter.bind``.

    Each is a checkpoint where the counter's own is, and fails and is cancelled as that.
    """

    __slots__ = ("_counter", "key")

    def __init__(self, counter: InstanceAwareCounter, key: str) -> None:
        self._counter = counter
        self.key = key

    async def inc(self, count: int = 1) -> CounterValue:
        """Add ``count`` to this instance's slice; return the value after.

        A checkpoint. Cancelled, it has counted once or not at all; not at all if it was not sent
        yet, or on a lax counter.

        Raises:
            TypeError: ``count`` is no int; nothing was changed.
            CounterOverflowError: The slice or the cumulative would leave int64; nothing was
                changed.
            StoreError: The store refuses; nothing was changed. So for every operation.
            OutcomeUnknownError: The store lost its record before it could answer.
            InstanceConflictError: Another counter has taken over; so for every operation.
            CounterClosedError: The counter is not running; so for every operation.
        """
        return await self._counter.inc(self.key, count)

    async def dec(self, count: int = 1) -> CounterValue:
        """Take ``count`` from this instance's slice; return the value after.

        A checkpoint; the same as `inc` of ``-count``, cancelled and failing as that.
        """
        return await self._counter.dec(self.key, count)

    async def get(self) -> CounterValue:
        """Return the current value; ``(0, 0)`` if nobody counts.

        On a lax counter it may be ``allowed_lag`` seconds old, and older while the store is away.
        A checkpoint; cancelling it leaves nothing behind. Raises what `inc` raises.
        """
        return await self._counter.get(self.key)

    async def set(self, count: int) -> CounterValue:
        """Move the epoch: all slices go, and this instance's becomes ``count``.

        Returns ``(count, count)``. A checkpoint. Cancelled before it was sent, it never happens; on
        its way, it happens once or not at all. Raises what `inc` raises, but never for overflow of
        the cumulative.

        Raises:
            OutcomeUnknownError: The store lost its record before it could answer; it is not
                repeated.
        """
        return await self._counter.set(self.key, count)

    async def set_on_instance(self, count: int) -> CounterValue:
        """Make this instance's slice ``count`` and leave the others'; return the value after.

        A checkpoint, cancelled as `inc`. The epoch does not move. Raises what `inc` raises.
        """
        return await self._counter.set_on_instance(self.key, count)

    async def delete(self) -> CounterValue:
        """Move the epoch: all slices go. Return the value before.

        A checkpoint, cancelled and failing as `set`.
        """
        return await self._counter.delete(self.key)

    async def delete_on_instance(self) -> CounterValue:
        """Remove this instance's slice; return the cumulative after and the slice removed.

        A checkpoint. Cancelled before it was sent, it never happens; on its way, it happens once or
        not at all. Raises what `inc` raises.
        """
        return await self._counter.delete_on_instance(self.key)

    async def inc_if(self, condition: Condition, count: int = 1) -> Change:
        """Add ``count`` if the cumulative satisfies ``condition``, which the store decides.

        A checkpoint; cancelled on its way, it happens once or not at all. ``applied`` of what it
        returns tells whether it did. Raises what `inc` raises.
        """
        return await self._counter.inc_if(self.key, condition, count)

    async def set_if(self, condition: Condition, count: int) -> Change:
        """Do as `set` if the cumulative satisfies ``condition``, which the store decides.

        If it does not, the epoch stays. A checkpoint, cancelled and failing as `set`.
        """
        return await self._counter.set_if(self.key, condition, count)

    async def set_on_instance_if(self, condition: Condition, count: int) -> Change:
        """Make this instance's slice ``count`` if the slice satisfies ``condition``.

        A checkpoint; cancelled on its way, it happens once or not at all. Raises what `inc` raises.
        """
        return await self._counter.set_on_instance_if(self.key, condition, count)

    def hold(
        self, count: int = 1, limit: int | None = None
    ) -> AbstractAsyncContextManager[CounterValue]:
        """Return a block that adds ``count`` on entry and takes it back on exit.

        With ``limit``, the store lets it in only if the cumulative stays at most ``limit``.
        Entering is a checkpoint; cancelled, nothing is left of it. Leaving is none, never waits and
        never fails.

        Raises:
            LimitReachedError: On entry, and at once: the cumulative would exceed ``limit``.
            TypeError: ``count`` or ``limit`` is no int.
            CounterOverflowError: One does not fit into 64 bits; on entry, the slice or the
                cumulative would not.
            StoreError: On entry, as all other errors of `inc`.
        """
        return self._counter.hold(self.key, count, limit)

    async def slices(self) -> dict[str, int]:
        """Return the slices that make up the cumulative, ``{instance_id: slice}``.

        The slices of the dead are among them until they have been taken away. A checkpoint;
        cancelling it leaves nothing behind. Raises what `get` raises.
        """
        return await self._counter.slices(self.key)

    def watch(
        self, *, allowed_lag: float = 0.02
    ) -> AbstractAsyncContextManager[trio.abc.ReceiveChannel[CounterValue]]:
        """Return a block that gives a channel of the values.

        The current value comes first, then each other one, whoever made it; a slow reader misses
        what was in between. Values are read at most once in ``allowed_lag`` seconds. Entering the
        block is a checkpoint. The channel ends when the counter stops.

        Raises:
            ValueError: ``allowed_lag`` is not a positive number of seconds.
            CounterClosedError: On entry: the counter is not running.
            InstanceConflictError: On entry: another counter has taken over.
        """
        return self._counter.watch(self.key, allowed_lag=allowed_lag)

    async def wait_until(self, condition: Condition) -> CounterValue:
        """Wait until the cumulative satisfies ``condition``; return the value then.

        It may have changed again by the time this returns. A checkpoint; cancelling it leaves
        nothing behind.

        Raises:
            TypeError: ``condition`` is no condition.
            CounterClosedError: The counter is not running, or stopped meanwhile.
            InstanceConflictError: Another counter has taken over.
        """
        return await self._counter.wait_until(self.key, condition)

    def __repr__(self) -> str:
        """Show key and counter."""
        return f"<{type(self).__name__} {self.key!r} of {self._counter!r}>"
