"""What a lax counter knows of a key, and how it asks the store for more, with some patience."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from functools import partial
from typing import Final

from .._actor._groups import all_of
from .._actor._operations import Operation
from .._actor._partitioned_buffer import PartitionedBuffer
from .._errors import StoreError
from .._instance._buffered_key import NEVER, BufferedKey
from .._instance._write_buffer import WriteBuffer
from .._protocol._messages import MAX_ENTRIES, ConditionFailed, Entry, Kind, Previous
from .._protocol._values import CounterValue, checked_name
from ._base import CounterBase
from ._batches import values_after

#: A read waits this many times `allowed_lag` for the store, if its answers do not take longer.
_PATIENCE: Final = 10
#: A key that others move all the time is read so often.
_READS: Final = 10


class LocalViewMixin(CounterBase):
    """Has a buffer with a local view of each key, and reads the store's values into it."""

    _buffer: WriteBuffer | PartitionedBuffer
    _allowed_lag: float

    def _buffered(self, key: str) -> BufferedKey:
        self._actor.admit(key)
        try:
            return self._buffer.buffered_keys[key]
        except (KeyError, TypeError):  # a new key, or none at all
            buffered = self._buffer.find(checked_name(key))
        return self._buffer.buffered(key, self._actor.now()) if buffered is None else buffered

    def _view(self, key: str, found: Mapping[str, CounterValue]) -> CounterValue:
        buffered = self._buffer.find(key)
        if buffered is None or not buffered.has_base:  # perhaps forgotten while we waited
            return found.get(key) or self._buffered(key).value
        if key not in found:  # and no answer may come for long
            buffered.used = True
        return buffered.value

    async def _know(self, keys: Iterable[str]) -> None:
        """Read those of the keys that nobody has asked for, as `inc` does. A checkpoint."""
        await self._actor.wait_open()
        since = self._actor.now() - self._allowed_lag
        new = [buffered for key in keys if not (buffered := self._buffered(key)).asked]
        await self._read([buffered.key for buffered in new if buffered.read_at < since])
        for buffered in new:
            buffered.asked = True
        await self._actor.wait_open()

    async def _read(self, keys: Sequence[str]) -> dict[str, CounterValue]:
        """Read keys from the store; give up if it takes too long. A checkpoint."""
        values: dict[str, CounterValue] = {}
        left = keys
        for _ in range(_READS):
            shares = [partial(self._read_share, share) for share in self._actor.shares(left)]
            told: dict[str, CounterValue] = {}
            for found in await all_of(shares):
                told |= found
            values |= told
            left = [key for key in told if self._is_void(key)]
            if not left:
                break
        return values  # noqa: ASYNC910 - reading was a checkpoint

    async def _read_share(self, keys: Sequence[str]) -> dict[str, CounterValue]:
        """Do as `_read` for keys in one part; it does not matter whether another one is away."""
        entries = [Entry(Kind.ADD, key, 0) for key in keys]
        found: Sequence[Previous | ConditionFailed] = ()
        # What the store refuses is logged by the actor, who goes on trying: the local view serves.
        with self._reading(keys), suppress(StoreError):
            found = await self._in_steps(entries)
        return values_after(entries, found) if found else {}  # noqa: ASYNC910 - `_in_steps` is one

    async def _refresh(self, buffered: BufferedKey) -> tuple[int, int] | None:
        """Read a key from the store; give up, and return None, if it takes too long."""
        found: tuple[int, int] | None = None
        for _ in range(_READS):
            found = None
            # What the store refuses is logged by the actor, who goes on trying: the view serves.
            with self._reading([buffered.key]), suppress(StoreError):
                found = await self._actor.ask(Operation(Kind.ADD, buffered.key))
            if found is None or not self._is_void(buffered.key):
                break
        return found  # noqa: ASYNC910 - `ask` is a checkpoint, refused or not

    def _is_void(self, key: str) -> bool:
        """Whether somebody's move has made the answer void, before the one who asked could run.

        The view has the own counts from after the move then, and those of others from before it.
        """
        buffered = self._buffer.find(key)
        return buffered is not None and buffered.has_base and buffered.read_at == NEVER

    def _reading(self, keys: Sequence[str]) -> AbstractContextManager[None]:
        """Return a block that is given up when it has taken too long to read ``keys``."""
        buffered_keys = map(self._buffer.buffered_keys.get, keys)
        known = all(buffered is not None and buffered.has_base for buffered in buffered_keys)
        steps = -(-len(keys) // MAX_ENTRIES)
        part = self._actor.of(keys[0] if keys else "")
        return part.reading(_PATIENCE * self._allowed_lag, known=known, steps=steps)
