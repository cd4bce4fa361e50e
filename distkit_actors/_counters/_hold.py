"""Counting something for as long as a block lasts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, TypeAlias, final

import trio

from .._actor._operations import AtomicBatch, SpecialOperation
from .._errors import LimitReachedError
from .._instance._holds import Hold
from .._protocol._conditions import Condition, Le
from .._protocol._messages import ConditionFailed, Entry, Kind, Previous
from .._protocol._values import INT64_MAX, INT64_MIN, CounterValue, checked_count, checked_name
from ._base import CounterBase

if TYPE_CHECKING:
    from types import TracebackType

    from .._actor._partitioned import AnyActor


_Enter: TypeAlias = "Callable[[Hold, Condition | None], Awaitable[CounterValue | None]]"


class HoldMixin(CounterBase):
    """Additions that take themselves back."""

    def hold(
        self, key: str, count: int = 1, limit: int | None = None
    ) -> AbstractAsyncContextManager[CounterValue]:
        """Return a block that adds ``count`` on entry and takes it back on exit.

        ::

            async with counter.hold("jobs", limit=100) as value:
                ...

        Entering adds to this instance's slice and gives the value after. It is a checkpoint,
        and exact under cancellation at any point: either the block is entered, or nothing is
        left of it. With ``limit``, the store lets it in only if the cumulative stays at most
        ``limit``. Without, a lax counter counts in memory, as `LaxInstanceAwareCounter.inc`
        does: what others have counted since the store was last heard is not in the value. For
        a fresh one, call `get` in the block.

        Leaving is no checkpoint, never waits for the store and never fails: what is to be
        taken back goes with a later batch, through outages too. Once the counter has stopped
        there is nothing left to take back. If the key's epoch has moved since, by anybody's
        `set`, `delete` or `clear`, the addition is void already, and leaving takes nothing back;
        so it is after `InstanceAwareCounter.clear_on_instance` of this counter.
        `InstanceAwareCounter.set_on_instance` keeps the epoch: leaving takes ``count`` from the
        slice it set. A crash takes the addition away with the slice. All of it is about
        one key, so it does not matter over how many parts the prefix is spread.

        Raises:
            LimitReachedError: On entry, and at once: the cumulative would exceed ``limit``. To
                wait until there is room use a `FleetLimiter`.
            InvalidKeyError: Not a key.
            TypeError: ``count`` or ``limit`` is no int.
            CounterOverflowError: One does not fit into 64 bits; on entry, the slice or the
                cumulative would not.
            StoreError: On entry, as all other errors of `InstanceAwareCounter.inc`.
        """
        if limit is not None:
            checked_count(limit)
        # Its negative must fit into 64 bits, too: the end of the hold adds that.
        hold = Hold(checked_name(key), -checked_count(-checked_count(count)))
        return _HoldBlock(self._actor, self._enter_hold, hold, limit)

    async def _enter_hold(self, hold: Hold, condition: Condition | None) -> CounterValue | None:
        """Add; None if the condition does not hold."""
        operation = SpecialOperation(Kind.ADD, hold.key, hold.count, condition, hold=hold)
        cumulative, own = await self._actor.ask(operation)
        if operation.declined:
            return None
        return CounterValue(cumulative + hold.count, own + hold.count)

    async def _enter_alone(self, hold: Hold, condition: Condition) -> CounterValue | None:
        """Do the same in a step of its own, behind what a lax counter has pending on the key."""
        batch = AtomicBatch([Entry(Kind.ADD, hold.key, hold.count, condition=condition)], hold)
        await self._actor.ask(batch)
        match batch.results[0]:
            case Previous(cumulative, own):
                return CounterValue(cumulative + hold.count, own + hold.count)
            case ConditionFailed():
                return None
            case verdict:
                raise AssertionError(f"an atomic batch succeeded with {verdict}")


@final
class _HoldBlock(AbstractAsyncContextManager[CounterValue]):
    """One hold, once."""

    def __init__(self, actor: AnyActor, enter: _Enter, hold: Hold, limit: int | None) -> None:
        self._actor = actor
        self._enter = enter
        self._hold = hold
        self._limit = limit
        self._used = False

    def __repr__(self) -> str:
        return f"<hold of {self._hold.count} on {self._hold.key!r}>"

    @trio.lowlevel.enable_ki_protection
    async def __aenter__(self) -> CounterValue:
        if self._used:
            raise RuntimeError("a hold is for one block: call `hold` for each")
        self._used = True
        hold, limit = self._hold, self._limit
        value: CounterValue | None = None
        if limit is None or limit - hold.count > INT64_MAX:
            value = await self._enter(hold, None)  # no cumulative can exceed the limit
        elif limit - hold.count >= INT64_MIN:
            value = await self._enter(hold, Le(limit - hold.count))
        else:
            await self._actor.wait_open()
            await trio.lowlevel.checkpoint()
        if value is None:
            raise LimitReachedError(
                f"{hold.count} more on {hold.key!r} would exceed its limit of {limit}"
            )
        return value  # noqa: ASYNC910 - entering is a checkpoint

    @trio.lowlevel.enable_ki_protection
    async def __aexit__(  # noqa: ASYNC910 - what must not fail must not be cancelled
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._actor.release(self._hold)
