"""Those who wait in `flush` until everything counted so far is in the store."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import trio

from .._instance._buffered_key import BufferedKey
from .._instance._write_buffer import WriteBuffer
from ._outcomes import copy_of


class FlushWaiter:
    """One call of `flush` that waits, and for which keys."""

    def __init__(self, unsettled: dict[BufferedKey, int]) -> None:
        self.unsettled = unsettled
        self.event = trio.Event()
        self.error: Exception | None = None

    def settled(self, keys: Iterable[BufferedKey]) -> bool:
        """Note which of ``keys`` are acknowledged; return whether no key is left to wait for."""
        for buffered in keys:
            if buffered.acknowledged >= self.unsettled.get(buffered, buffered.acknowledged + 1):
                del self.unsettled[buffered]
        return not self.unsettled


class FlushWaiters:
    """All calls of `flush` that wait on one counter."""

    def __init__(self) -> None:
        self._waiters: list[FlushWaiter] = []

    @property
    def waiting(self) -> bool:
        """Whether anybody waits."""
        return bool(self._waiters)

    def add(self, unsettled: dict[BufferedKey, int]) -> FlushWaiter:
        """Return a new waiter, which waits until ``unsettled`` is settled."""
        waiter = FlushWaiter(unsettled)
        self._waiters.append(waiter)
        return waiter

    def remove(self, waiter: FlushWaiter) -> None:
        """Forget a waiter, if it is still here."""
        if waiter in self._waiters:
            self._waiters.remove(waiter)

    def notify(self, buffer: WriteBuffer, settled: Sequence[str]) -> None:
        """Note that keys are settled, and wake the waiters that wait for no others."""
        if settled and self._waiters:
            keys = [buffer.buffered_keys[key] for key in settled]
            for waiter in [waiter for waiter in self._waiters if waiter.settled(keys)]:
                self._waiters.remove(waiter)
                waiter.event.set()

    def fail(self, error: Exception) -> None:
        """Raise an error in all of them."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.error = copy_of(error)
            waiter.event.set()
