"""Operations that take effect only where the value is as expected."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import cast

from .._actor._operations import SpecialOperation
from .._actor._outcomes import after
from .._protocol._conditions import Condition, checked_condition
from .._protocol._messages import ConditionFailed, Entry, Kind, Previous
from .._protocol._values import Change, CounterValue, checked_count, checked_name
from ._base import CounterBase


class ConditionalMixin(CounterBase):
    """The store decides each condition in the atomic step of the operation.

    On a lax counter too, after what is pending on the key.
    """

    async def inc_if(self, key: str, condition: Condition, count: int = 1) -> Change:
        """Add ``count`` to this instance's slice if the cumulative satisfies ``condition``.

        ``await counter.inc_if("seats", Lt(100))`` never takes a hundred-and-first seat,
        whoever else tries. A checkpoint; cancelled before it was sent, it never happens; on
        its way, it happens once or not at all. Raises what `InstanceAwareCounter.inc` raises,
        and `TypeError` for what is no condition.
        """
        return await self._decide(Kind.ADD, key, condition, count)

    async def set_if(self, key: str, condition: Condition, count: int) -> Change:
        """Do as `InstanceAwareCounter.set` if the cumulative satisfies ``condition``.

        Where it does not, the epoch stays. A checkpoint; cancelled on its way, it happens once or
        not at all. Raises what `InstanceAwareCounter.set` raises, and `TypeError` for what is no
        condition.
        """
        return await self._decide(Kind.MOVE, key, condition, count)

    async def set_on_instance_if(self, key: str, condition: Condition, count: int) -> Change:
        """Make this instance's slice ``count`` if the slice satisfies ``condition``.

        A checkpoint; cancelled on its way, it happens once or not at all. Raises what `inc_if`
        raises.
        """
        return await self._decide(Kind.PUT, key, condition, count)

    async def inc_all_if(self, counts: Mapping[str, tuple[Condition, int]]) -> dict[str, Change]:
        """Do as `inc_if` for several keys, ``{key: (condition, count)}``, each by itself.

        Up to 1000 keys are decided in one atomic step. A condition that does not hold keeps no
        other key from being changed; an overflow does. A checkpoint; steps, parts, cancellation and
        errors are those of `InstanceAwareCounter.inc_all`.
        """
        return await self._decide_all(Kind.ADD, counts)

    async def set_all_if(self, counts: Mapping[str, tuple[Condition, int]]) -> dict[str, Change]:
        """Do as `set_if` for several keys, ``{key: (condition, count)}``, each by itself.

        A checkpoint; steps, parts, cancellation and errors are those of `inc_all_if`.
        """
        return await self._decide_all(Kind.MOVE, counts)

    async def set_all_on_instance_if(
        self, counts: Mapping[str, tuple[Condition, int]]
    ) -> dict[str, Change]:
        """Do as `set_on_instance_if` for several keys, ``{key: (condition, count)}``.

        Each is decided by itself. A checkpoint; steps, parts, cancellation and errors are those of
        `inc_all_if`.
        """
        return await self._decide_all(Kind.PUT, counts)

    async def _decide(self, kind: Kind, key: str, condition: Condition, count: int) -> Change:
        entry = _entry(kind, checked_name(key), condition, count)
        if self._actor.buffer is not None:
            # A step of its own: it must come after what is pending, and cannot go with it.
            (found,) = await self._in_steps([entry])
            return _change(entry, found)
        operation = SpecialOperation(kind, key, entry.value, entry.condition, of_own=entry.of_own)
        before = await self._actor.ask(operation)
        return _change(entry, (ConditionFailed if operation.declined else Previous)(*before))

    async def _decide_all(
        self, kind: Kind, counts: Mapping[str, tuple[Condition, int]]
    ) -> dict[str, Change]:
        entries = [
            _entry(kind, checked_name(key), condition, count)
            for key, condition, count in _checked(counts)
        ]
        found = await self._in_steps(entries)
        return {e.key: _change(e, result) for e, result in zip(entries, found, strict=True)}


def _entry(kind: Kind, key: str, condition: object, count: int) -> Entry:
    condition, value = checked_condition(condition), checked_count(count)
    return Entry(kind, key, value, condition=condition, of_own=kind is Kind.PUT)


def _change(entry: Entry, found: Previous | ConditionFailed) -> Change:
    current = CounterValue(*after(entry, found))
    return Change(CounterValue(*found), current, isinstance(found, Previous))


def _checked(counts: object) -> Iterable[tuple[str, Condition, int]]:
    if not isinstance(counts, Mapping):
        raise TypeError(f"a mapping is needed, not {type(counts).__name__}")
    for key, pair in cast("Mapping[str, object]", counts).items():
        match pair:
            case (Condition() as condition, int() as count):
                yield key, checked_condition(condition), checked_count(count)
            case _:
                raise TypeError(f"{key!r} needs a condition and an int, not {pair!r}")
