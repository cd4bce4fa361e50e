"""Operations on several keys at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import cast

from .._actor._outcomes import after
from .._protocol._messages import ConditionFailed, Entry, Kind, Previous
from .._protocol._values import CounterValue, checked_count, checked_name
from ._base import CounterBase


class BatchMixin(CounterBase):
    """Up to 1000 keys are one atomic step: all or none. More go in steps of 1000, in order.

    That is so in each part of the namespace by itself, if it is spread over several.
    """

    async def inc_all(self, counts: Mapping[str, int]) -> dict[str, CounterValue]:
        """Add to this instance's slices of several keys; return the values after.

        Up to 1000 keys in one atomic step, all or none. More go in steps of a thousand, in the
        order of the mapping. A checkpoint; cancelled before it was sent, it never happens;
        cancelled later, the step on its way happens once or not at all, and no step after
        it.

        If the store spreads the prefix over several parts, all this is so in each part by itself,
        and the parts take their steps at the same time. So keys in one part are all or none, those
        in another may fail or be seen before; it ends when every part has answered.

        Raises:
            InvalidKeyError: Not a key; nothing was changed.
            TypeError: No mapping, or a count is no int; nothing was changed.
            CounterOverflowError: A slice or a cumulative would leave int64, as the message
                says; nothing was changed by that step, and ``error.applied`` has the keys of
                those before it, and of what other parts have done. So for all other errors, which
                are those of `InstanceAwareCounter.inc`. Of several, the notes have the others.
        """
        return await self._write_all(Kind.ADD, counts)

    async def set_all(self, counts: Mapping[str, int]) -> dict[str, CounterValue]:
        """Move the epochs of several keys, as `InstanceAwareCounter.set` does.

        Returns ``(count, count)`` for each. A checkpoint. Steps, parts, cancellation and errors
        are those of `inc_all`; none overflows.
        """
        return await self._write_all(Kind.MOVE, counts)

    async def set_all_on_instance(self, counts: Mapping[str, int]) -> dict[str, CounterValue]:
        """Replace this instance's slices of several keys; return the values after.

        A checkpoint. Steps, parts, cancellation and errors are those of `inc_all`.
        """
        return await self._write_all(Kind.PUT, counts)

    async def get_all(self, keys: Iterable[str]) -> dict[str, CounterValue]:
        """Return the values of several keys; ``(0, 0)`` for one that nobody counts.

        The values of up to 1000 keys are those of one instant; more are read in steps. Of several
        parts of a namespace each has an instant of its own. A checkpoint; cancelling it leaves
        nothing behind. Raises what `InstanceAwareCounter.get` raises, and `TypeError` for a single
        string.
        """
        entries = [Entry(Kind.ADD, key, 0) for key in checked_names(keys)]
        return values_after(entries, await self._in_steps(entries))

    async def get_all_on_instance(self, keys: Iterable[str]) -> dict[str, int]:
        """Return this instance's slices of several keys; 0 where it has none.

        A checkpoint; cancelling it leaves nothing behind. Reads in steps and raises as `get_all`.
        """
        values = await self.get_all(keys)
        return {key: value.instance_count for key, value in values.items()}

    async def _write_all(self, kind: Kind, counts: Mapping[str, int]) -> dict[str, CounterValue]:
        entries = [Entry(kind, key, count) for key, count in checked_counts(counts).items()]
        return values_after(entries, await self._in_steps(entries))


def checked_names(keys: Iterable[str]) -> list[str]:
    """Return keys, each once, if all are keys."""
    if isinstance(keys, str):
        raise TypeError("several keys are needed, such as a list of str, not one str")
    return list(dict.fromkeys(map(checked_name, keys)))


def checked_counts(counts: object) -> dict[str, int]:
    """Return a mapping of counts, if it is one."""
    if not isinstance(counts, Mapping):
        raise TypeError(f"a mapping of keys to counts is needed, not {type(counts).__name__}")
    items = cast("Mapping[object, object]", counts).items()
    return {checked_name(key): checked_count(count) for key, count in items}


def values_after(
    entries: Sequence[Entry], found: Sequence[Previous | ConditionFailed]
) -> dict[str, CounterValue]:
    """Return what entries made of the values they found."""
    pairs = zip(entries, found, strict=True)
    return {entry.key: CounterValue(*after(entry, result)) for entry, result in pairs}
