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
        """Add ``count`` to this instance's slice; return the value after. A checkpoint.

        See `InstanceAwareCounter.inc`.
        """
        return await self._counter.inc(self.key, count)

    async def dec(self, count: int = 1) -> CounterValue:
        """Take ``count`` from this instance's slice; return the value after. A checkpoint.

        See `InstanceAwareCounter.dec`.
        """
        return await self._counter.dec(self.key, count)

    async def get(self) -> CounterValue:
        """Return the current value; ``(0, 0)`` if nobody counts. A checkpoint.

        See `InstanceAwareCounter.get`.
        """
        return await self._counter.get(self.key)

    async def set(self, count: int) -> CounterValue:
        """Move the epoch: all slices go, and this instance's becomes ``count``. A checkpoint.

        See `InstanceAwareCounter.set`.
        """
        return await self._counter.set(self.key, count)

    async def set_on_instance(self, count: int) -> CounterValue:
        """Make this instance's slice ``count``; return the value after. A checkpoint.

        See `InstanceAwareCounter.set_on_instance`.
        """
        return await self._counter.set_on_instance(self.key, count)

    async def delete(self) -> CounterValue:
        """Move the epoch: all slices go. Return the value before. A checkpoint.

        See `InstanceAwareCounter.delete`.
        """
        return await self._counter.delete(self.key)

    async def delete_on_instance(self) -> CounterValue:
        """Remove this instance's slice; return the cumulative after and the slice removed.

        A checkpoint. See `InstanceAwareCounter.delete_on_instance`.
        """
        return await self._counter.delete_on_instance(self.key)

    async def inc_if(self, condition: Condition, count: int = 1) -> Change:
        """Add ``count`` if the cumulative satisfies ``condition``. A checkpoint.

        See `InstanceAwareCounter.inc_if`.
        """
        return await self._counter.inc_if(self.key, condition, count)

    async def set_if(self, condition: Condition, count: int) -> Change:
        """Do as `set` if the cumulative satisfies ``condition``. A checkpoint.

        See `InstanceAwareCounter.set_if`.
        """
        return await self._counter.set_if(self.key, condition, count)

    async def set_on_instance_if(self, condition: Condition, count: int) -> Change:
        """Make this instance's slice ``count`` if the slice satisfies ``condition``.

        A checkpoint. See `InstanceAwareCounter.set_on_instance_if`.
        """
        return await self._counter.set_on_instance_if(self.key, condition, count)

    def hold(
        self, count: int = 1, limit: int | None = None
    ) -> AbstractAsyncContextManager[CounterValue]:
        """Return a block that adds ``count`` on entry and takes it back on exit.

        See `InstanceAwareCounter.hold`.
        """
        return self._counter.hold(self.key, count, limit)

    async def slices(self) -> dict[str, int]:
        """Return the slices that make up the cumulative, by instance. A checkpoint.

        See `InstanceAwareCounter.slices`.
        """
        return await self._counter.slices(self.key)

    def watch(
        self, *, allowed_lag: float = 0.02
    ) -> AbstractAsyncContextManager[trio.abc.ReceiveChannel[CounterValue]]:
        """Return a block that gives a channel of the values.

        See `InstanceAwareCounter.watch`.
        """
        return self._counter.watch(self.key, allowed_lag=allowed_lag)

    async def wait_until(self, condition: Condition) -> CounterValue:
        """Wait until the cumulative satisfies ``condition``; return the value then. A checkpoint.

        See `InstanceAwareCounter.wait_until`.
        """
        return await self._counter.wait_until(self.key, condition)

    def __repr__(self) -> str:
        """Show key and counter."""
        return f"<{type(self).__name__} {self.key!r} of {self._counter!r}>"
