"""What a compiled build counts with in memory: twins of two methods of the classes users see.

Of these classes nothing is compiled, as a compiled method has neither docstring nor annotations
and converts its arguments in its own way. A compiled build gives each lax counter and each of its
handles an `inc_nowait` from here instead (see `hatch_build.py`). These do what is quick, and leave
the rest, errors among it, to the method whose place they take. So they must stay in step with it,
and take any object; the same tests run on both builds. Interpreted, they would gain nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Final, TypeAlias, cast, final

from .._actor._partitioned_buffer import PartitionedBuffer
from .._instance._buffered_key import BufferedKey
from .._instance._write_buffer import WriteBuffer

#: Such a method says what is wrong with other objects than it is made for.
_Inc: TypeAlias = Callable[[object, object], None]


@final
class CompiledCounts:
    """Counts on the keys of a lax counter."""

    def __init__(
        self, buffer: WriteBuffer | PartitionedBuffer, inc_nowait: Callable[[str, int], None]
    ) -> None:
        self._buffer = buffer
        self._inc_nowait = cast("_Inc", inc_nowait)

    def inc_nowait(self, key: object, count: object = 1) -> None:
        """See `LaxInstanceAwareCounter.inc_nowait`."""
        if type(count) is int and isinstance(key, str):
            buffer = self._buffer
            if isinstance(buffer, WriteBuffer):  # quicker than to let mypyc choose
                buffered = buffer.buffered_keys.get(key)
            else:
                buffered = buffer.buffered_keys.get(key)
            if buffered is not None:
                delta = buffered.delta + count
                if buffered.low <= delta and delta <= buffered.high:  # noqa: PLR1716 - as in _lax
                    buffered.delta = delta
                    return
        self._inc_nowait(key, count)


@final
class CompiledHandle:
    """Counts on one key of a lax counter."""

    def __init__(
        self,
        buffered: BufferedKey,
        inc_nowait: Callable[[str, int], None],
        find: Callable[[str], BufferedKey],
    ) -> None:
        self._buffered = buffered
        self._inc_nowait = cast("_Inc", inc_nowait)
        self._find = find

    def inc_nowait(self, count: object = 1) -> None:
        """See `BoundLaxCounter.inc_nowait`."""
        buffered = self._buffered
        if type(count) is int:
            delta = buffered.delta + count
            if buffered.low <= delta and delta <= buffered.high:  # noqa: PLR1716 - as in _lax
                buffered.delta = delta
                return
        self._inc_nowait(buffered.key, count)
        self._buffered = self._find(buffered.key)


#: Whether this is a compiled build.
COMPILED: Final = not isinstance(CompiledCounts.inc_nowait, FunctionType)
