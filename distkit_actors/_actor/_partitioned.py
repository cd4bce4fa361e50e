"""The actor of a counter whose namespace has several parts: an actor for each (P44, parts).

::

    counter --> PartitionedActor --+--> Actor of part 0 --> part 0 of the store
                                   +--> Actor of part 1 --> part 1
                                   +--> …

Each part is a namespace by itself, and each actor has a session, a mailbox and a conversation of
its own, so that a part that is away holds up nobody but those who ask for its keys. How they live
together is in `_shared_life`, how an operation is cut into shares for them in `_scatter`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import ClassVar, TypeAlias

import trio

from .._instance._holds import Hold
from .._protocol._messages import Entry, Kind
from .._protocol._partitions import part_of
from .._protocol._values import checked_name
from ._actor import Actor
from ._mailbox import Mailbox
from ._operations import AtomicBatch, Operation
from ._outcomes import lost
from ._partitioned_buffer import PartitionedBuffer
from ._scatter import ask_all, ask_batch, shares_of, steps_of
from ._shared_life import SharedLife
from ._statistics import CounterStatistics, combined


class PartitionedActor(SharedLife):
    """Owns the actors of all parts, and gives each operation to those that it is about."""

    # These are those of an actor of one part. Code that is written out for speed looks at ``open``
    # and ``thread``, and calls `opened` if they are not as they should be: then it has an actor.
    open: ClassVar[bool] = False
    thread: ClassVar[int | None] = None
    mailbox: Mailbox
    send_alone: Callable[[Operation], bool]
    send_now_or_wake: Callable[[], None]
    receive_alone: Callable[[Operation], Awaitable[tuple[int, int]]]

    def __init__(self, parts: Sequence[Actor], *, detached_start: bool) -> None:
        super().__init__(parts, detached_start=detached_start)
        buffers = [part.buffer for part in parts if part.buffer is not None]
        self.buffer = PartitionedBuffer(buffers) if buffers else None

    # --------------------------------------------------------------------- parts

    def of(self, key: str) -> Actor:
        """Return the actor of the part that ``key`` is in."""
        return self.parts[part_of(key, len(self.parts))]

    async def opened(self, key: str) -> Actor:  # noqa: ASYNC910 - as `Actor.wait_open`
        """Return the actor of the part that ``key`` is in, if it takes operations."""
        await self.wait_open()
        part = self.of(key)
        if not part.open:  # the part has ended, and the others have not noticed yet
            await part.wait_open()
        return part

    def admit(self, key: str) -> None:
        """Raise an error unless an operation on ``key`` may start now; see `check_open`."""
        self.check_open()
        self.of(checked_name(key)).check_open()

    def steps(self, entries: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
        """Cut entries into what may travel in one step of each part."""
        return steps_of(entries, len(self.parts))

    def shares(self, keys: Sequence[str]) -> Sequence[Sequence[str]]:
        """Divide keys among the parts that they are in."""
        return shares_of(keys, len(self.parts))

    # ------------------------------------------------------------------- callers

    @trio.lowlevel.enable_ki_protection
    async def ask(self, operation: Operation) -> tuple[int, int]:
        """Have ``operation`` executed, in one part or in all; return the values that it found.

        A checkpoint. If it is about several parts, each gets its share at the same time, and it
        ends when all have answered. When cancelled, it never happens in parts to which its share
        was not sent yet.
        """
        await self.wait_open()
        if isinstance(operation.kind, Kind):
            return await self.of(operation.key).ask(operation)
        if isinstance(operation, AtomicBatch):
            await ask_batch(self.parts, operation)
        else:
            await ask_all(self.parts, operation)
        return 0, 0

    def own_keys(self) -> set[str]:
        """Return the keys of all own slices."""
        return {key for part in self.parts for key in part.own_keys()}

    def own_slices(self) -> dict[str, int]:
        """Return the own slices that the stores of the parts have acknowledged."""
        return {key: value for part in self.parts for key, value in part.own_slices().items()}

    def release(self, hold: Hold) -> None:
        """End a hold. Once the counter has stopped there is nothing left to take back."""
        self.of(hold.key).release(hold)

    async def flush(self) -> None:
        """Wait until everything counted before is in the store, and report what it refused."""
        await self.wait_open()
        await self.of_each(Actor.wait_flushed)
        # Only now: what was taken before another part fails, or before a cancellation, would never
        # be reported.
        refused = {key: count for part in self.parts for key, count in part.take_refused().items()}
        if refused:
            raise lost(refused)

    def statistics(self) -> CounterStatistics:
        """Return how things stand in all parts together. Any thread may ask."""
        return combined([part.statistics() for part in self.parts], self.state)


#: The actor of a counter, of either kind.
AnyActor: TypeAlias = Actor | PartitionedActor
