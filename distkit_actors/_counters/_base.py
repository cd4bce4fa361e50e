"""The base of every group of public operations: the actor, and how to ask it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import trio

from .._actor._operations import AtomicBatch, ExclusiveKind, Operation
from .._errors import DistkitError
from .._protocol._messages import ConditionFailed, Entry, Kind, Previous, Rejection

if TYPE_CHECKING:
    from .._actor._partitioned import AnyActor


class CounterBase:
    """Has an actor, and asks it."""

    if TYPE_CHECKING:  # where its name is known
        _actor: AnyActor

    async def _ask(
        self, kind: Kind | ExclusiveKind, key: str = "", value: int = 0
    ) -> tuple[int, int]:
        return await self._actor.ask(Operation(kind, key, value))

    async def _in_steps(self, entries: Sequence[Entry]) -> list[Previous | ConditionFailed]:
        """Have entries executed in steps of up to a thousand in one part (P34, all or none)."""
        found: list[Previous | ConditionFailed] = []
        if not entries:
            await self._actor.wait_open()
            await trio.lowlevel.checkpoint()
        start = 0
        for step in self._actor.steps(entries):
            batch = AtomicBatch(step)
            try:
                await self._actor.ask(batch)
            except DistkitError as error:
                if start:
                    before = tuple(
                        entry.key
                        for entry, result in zip(entries, found, strict=False)
                        if not isinstance(result, ConditionFailed)
                    )
                    error.applied = (*before, *error.applied)
                    error.add_note(
                        f"the steps of the first {start} of {len(entries)} keys were executed "
                        "before"
                    )
                raise
            start += len(step)
            found += [result for result in batch.results if not isinstance(result, Rejection)]
        return found  # noqa: ASYNC910 - each step is a checkpoint, and where there is none too
