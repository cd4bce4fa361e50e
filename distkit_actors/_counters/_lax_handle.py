"""A lax counter's operations on one key, with those that wait for nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from .._instance._buffered_key import BufferedKey
from .._protocol._values import CounterValue, checked_count
from ._compiled import COMPILED, CompiledHandle
from ._handle import BoundCounter

if TYPE_CHECKING:
    from ._lax import LaxInstanceAwareCounter


@final
class BoundLaxCounter(BoundCounter):
    """Every operation of a lax counter on one key, without the key. Made by ``counter.bind``."""

    # A compiled build puts an `inc_nowait` of its own into the dict.
    __slots__ = ("_buffered", "_lax", *(["__dict__"] if COMPILED else []))

    def __init__(self, counter: LaxInstanceAwareCounter, key: str) -> None:
        super().__init__(counter, key)
        self._lax = counter
        self._buffered = BufferedKey(key)
        self._buffered.invalidate()
        if COMPILED and type(self) is BoundLaxCounter:
            find = counter._buffered  # pyright: ignore[reportPrivateUsage] - for speed
            quick = CompiledHandle(self._buffered, counter.inc_nowait, find)
            vars(self)["inc_nowait"] = quick.inc_nowait

    def inc_nowait(self, count: int = 1) -> None:
        """Add ``count`` to this instance's slice, in memory. Not a checkpoint.

        Works while the store is away. What the store has to refuse later is raised by
        `LaxInstanceAwareCounter.flush`, or by the stop. From another thread use
        ``trio.from_thread.run_sync(handle.inc_nowait)``; that it is called there directly is not
        always noticed.

        Raises:
            RuntimeError: Called in another thread, as far as that is noticed.
            TypeError: ``count`` is no int; nothing was changed.
            CounterOverflowError: The slice or the cumulative, as far as known here, would
                leave int64; nothing was changed.
            InstanceConflictError: Another counter has taken over; nothing was changed.
            CounterClosedError: The counter is not running; nothing was changed.
        """
        if type(count) is int:
            buffered = self._buffered
            delta = buffered.delta + count
            if buffered.low <= delta and delta <= buffered.high:  # noqa: PLR1716 - for speed
                buffered.delta = delta
                return
        self._lax.inc_nowait(self.key, count)
        self._buffered = self._lax._buffered(self.key)  # pyright: ignore[reportPrivateUsage] - ditto

    def dec_nowait(self, count: int = 1) -> None:
        """Take ``count`` from this instance's slice, in memory. Not a checkpoint.

        The same as `inc_nowait` of ``-count``; raises what that raises.
        """
        self.inc_nowait(-checked_count(count))

    def get_nowait(self) -> CounterValue:
        """Return the local view, however old. Not a checkpoint.

        It contains everything counted here.

        Raises:
            trio.WouldBlock: The key has not been read from the store yet, or not for so long that
                it was forgotten.
            InstanceConflictError: Another counter has taken over.
            CounterClosedError: The counter is not running.
        """
        return self._lax.get_nowait(self.key)

    def age(self) -> float:
        """Return the time since the store's last answer about the key, in seconds.

        ``inf`` if there was none, or if the key was forgotten or somebody has moved the epoch
        since. Not a checkpoint.

        Raises:
            RuntimeError: Called in another thread.
            InstanceConflictError: Another counter has taken over.
            CounterClosedError: The counter is not running.
        """
        return self._lax.age(self.key)
