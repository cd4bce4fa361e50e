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
        """See `InstanceAwareCounter.inc`."""
        return await self._counter.inc(self.key, count)

    async def dec(self, count: int = 1) -> CounterValue:
        """See `InstanceAwareCounter.dec`."""
        return await self._counter.dec(self.key, count)

    async def get(self) -> CounterValue:
        """See `InstanceAwareCounter.get`."""
        return await self._counter.get(self.key)

    async def set(self, count: int) -> CounterValue:
        """See `InstanceAwareCounter.set`."""
        return await self._counter.set(self.key, count)

    async def set_on_instance(self, count: int) -> CounterValue:
        """See `InstanceAwareCounter.set_on_instance`."""
        return await self._counter.set_on_instance(self.key, count)

    async def delete(self) -> CounterValue:
        """See `InstanceAwareCounter.delete`."""
        return await self._counter.delete(self.key)

    async def delete_on_instance(self) -> CounterValue:
        """See `InstanceAwareCounter.delete_on_instance`."""
        return await self._counter.delete_on_instance(self.key)

    async def inc_if(self, condition: Condition, count: int = 1) -> Change:
        """See `InstanceAwareCounter.inc_if`."""
        return await self._counter.inc_if(self.key, condition, count)

    async def set_if(self, condition: Condition, count: int) -> Change:
        """See `InstanceAwareCounter.set_if`."""
        return await self._counter.set_if(self.key, condition, count)

    async def set_on_instance_if(self, condition: Condition, count: int) -> Change:
        """See `InstanceAwareCounter.set_on_instance_if`."""
        return await self._counter.set_on_instance_if(self.key, condition, count)

    def hold(
        self, count: int = 1, limit: int | None = None
    ) -> AbstractAsyncContextManager[CounterValue]:
        """See `InstanceAwareCounter.hold`."""
        return self._counter.hold(self.key, count, limit)

    async def slices(self) -> dict[str, int]:
        """See `InstanceAwareCounter.slices`."""
        return await self._counter.slices(self.key)

    def watch(
        self, *, allowed_lag: float = 0.02
    ) -> AbstractAsyncContextManager[trio.abc.ReceiveChannel[CounterValue]]:
        """See `InstanceAwareCounter.watch`."""
        return self._counter.watch(self.key, allowed_lag=allowed_lag)

    async def wait_until(self, condition: Condition) -> CounterValue:
        """See `InstanceAwareCounter.wait_until`."""
        return await self._counter.wait_until(self.key, condition)

    def __repr__(self) -> str:
        """Show key and counter."""
        return f"<{type(self).__name__} {self.key!r} of {self._counter!r}>"
