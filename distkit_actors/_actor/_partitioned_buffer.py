"""The write buffers of a counter whose namespace is spread over several parts (P44, parts)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .._instance._buffered_key import BufferedKey
from .._instance._write_buffer import WriteBuffer
from .._protocol._partitions import part_of


class PartitionedBuffer:
    """The write buffers of all parts, as far as counting needs them."""

    def __init__(self, buffers: Sequence[WriteBuffer]) -> None:
        self._buffers = buffers
        self.buffered_keys = _BufferedKeys(buffers)

    def _of(self, key: str) -> WriteBuffer:
        return self._buffers[part_of(key, len(self._buffers))]

    def buffered(self, key: str, now: float) -> BufferedKey:
        """See `WriteBuffer.buffered`."""
        return self._of(key).buffered(key, now)

    def find(self, key: str) -> BufferedKey | None:
        """See `WriteBuffer.find`."""
        return self._of(key).find(key)

    def touch(self, buffered: BufferedKey) -> None:
        """See `WriteBuffer.touch`."""
        self._of(buffered.key).touch(buffered)

    def replace(self, buffered: BufferedKey, value: int) -> None:
        """See `WriteBuffer.replace`."""
        self._of(buffered.key).replace(buffered, value)


class _BufferedKeys:
    """The buffered keys of all parts, by key."""

    def __init__(self, buffers: Sequence[WriteBuffer]) -> None:
        self._buffers = buffers

    def __getitem__(self, key: str) -> BufferedKey:
        """Return the buffered key of ``key``; KeyError if there is none, or if it is no key."""
        try:
            number = part_of(key, len(self._buffers))
        except (AttributeError, UnicodeEncodeError):
            raise KeyError(key) from None
        return self._buffers[number].buffered_keys[key]

    def get(self, key: str) -> BufferedKey | None:
        """Return the buffered key of ``key``, if there is one; None also for what is no key."""
        try:
            return self[key]
        except KeyError:
            return None

    def values(self) -> Iterator[BufferedKey]:
        """Return all of them."""
        for buffer in self._buffers:
            yield from buffer.buffered_keys.values()
