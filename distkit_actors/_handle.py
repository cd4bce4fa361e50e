"""A counter's operations on one key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._core._values import CounterValue

if TYPE_CHECKING:
    from ._counter import InstanceAwareCounter


class BoundCounter:
    """Every operation of a counter on one key, without the key. Made by ``counter.bind``.

    Each is a checkpoint, fails and is cancelled as the counter's own.
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

    def __repr__(self) -> str:
        """Show key and counter."""
        return f"<{type(self).__name__} {self.key!r} of {self._counter!r}>"
