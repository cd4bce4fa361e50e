"""The actor of a counter whose namespace has several parts: an actor for each (P44, parts).

::

    counter --> PartitionedActor --+--> Actor of part 0 --> part 0 of the store
                                   +--> Actor of part 1 --> part 1
                                   +--> …

Each part is a namespace by itself, and each actor has a session, a mailbox and a conversation of
its own, so that a part that is away holds up nobody but those who ask for its keys. What they have
in common is the id of the instance, and their life: they start, stop and are superseded together.

Part 0 registers before the others. So one who has the wrong number of parts, or an id that is to
be left to somebody else, finds out before it has disturbed anybody in another part.

This file is longer than others for the reason for which that of `Actor` is: callers, parts and the
end of a counter meet here.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from typing import ClassVar, Final, TypeAlias, TypeVar

import trio

from .._errors import (
    CounterClosedError,
    DistkitError,
    InstanceConflictError,
    StoreUnavailableError,
)
from .._instance._holds import Hold
from .._protocol._messages import MAX_ENTRIES, Entry, Kind
from .._protocol._partitions import part_of
from .._protocol._values import checked_name
from ._actor import Actor
from ._groups import all_of, first_of, sole
from ._life import Life
from ._mailbox import Mailbox
from ._operations import AtomicBatch, Joint, Operation, SpecialOperation
from ._partitioned_buffer import PartitionedBuffer
from ._statistics import CounterState, CounterStatistics, combined

_T = TypeVar("_T")

#: What the parts are in, the worst first, once all have registered.
_WORST_FIRST: Final = (
    Life.SUPERSEDED,
    Life.STOPPING,
    Life.AWAY,
    Life.STARTING,
    Life.RUNNING,
)


class PartitionedActor:
    """Owns the actors of all parts, and gives each operation to those that it is about."""

    #: So that whoever is in a hurry asks `of` before it uses these, and then has an actor.
    open: ClassVar[bool] = False
    thread: ClassVar[int | None] = None
    mailbox: Mailbox
    send_now_or_wake: Callable[[], None]

    def __init__(self, parts: Sequence[Actor], *, detached_start: bool) -> None:
        self.parts = parts
        self.failure: Exception | None = None  # what a stop could not do
        buffers = [part.buffer for part in parts if part.buffer is not None]
        self.buffer = PartitionedBuffer(buffers) if buffers else None
        self._detached_start = detached_start
        self._working = False  # all parts have started, and none has ended
        self._stopping = False
        self._closed = trio.Event()
        self._ready = 0
        self._errors: dict[Actor, BaseException] = {}

    # --------------------------------------------------------------------- parts

    def of(self, key: str) -> Actor:
        """Return the actor of the part that ``key`` is in."""
        return self.parts[part_of(key, len(self.parts))]

    async def opened(self, key: str) -> Actor:  # noqa: ASYNC910 - as `Actor.wait_open`
        """Return the actor of the part that ``key`` is in, if it takes operations."""
        await self.wait_open()
        part = self.of(key)
        if not part.open:  # the others may not have heard yet that all ends
            await part.wait_open()
        return part

    def admit(self, key: str) -> None:
        """Raise what an operation on ``key`` gets that comes too early or too late."""
        self.check_open()
        self.of(checked_name(key)).check_open()

    def steps(self, entries: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
        """Cut entries into what may travel in one step of each part."""
        step: list[Entry] = []
        counts = [0] * len(self.parts)
        for entry in entries:
            part = part_of(entry.key, len(counts))
            if counts[part] == MAX_ENTRIES:
                yield step
                step, counts = [], [0] * len(self.parts)
            counts[part] += 1
            step.append(entry)
        if step:
            yield step

    def shares(self, keys: Sequence[str]) -> Sequence[Sequence[str]]:
        """Divide keys among the parts that they are in."""
        shares: dict[int, list[str]] = {}
        for key in keys:
            shares.setdefault(part_of(key, len(self.parts)), []).append(key)
        return list(shares.values()) or [()]

    # ------------------------------------------------------------------- callers

    @trio.lowlevel.enable_ki_protection
    async def ask(self, operation: Operation) -> tuple[int, int]:
        """Have ``operation`` done, in one part or in all; return the values it found.

        A checkpoint. One that is about several parts is given to all of them at once, and ended
        when each has answered. When cancelled, where it was not sent yet it never happens.
        """
        await self.wait_open()
        if isinstance(operation.kind, Kind):
            return await self.of(operation.key).ask(operation)
        if isinstance(operation, AtomicBatch):
            await self._ask_batch(operation)
        else:
            shares = [SpecialOperation(operation.kind, operation.key) for _ in self.parts]
            joint = await self._ask_each(list(zip(self.parts, shares, strict=True)))
            if joint.errors:
                error = _failure(joint, shares)
                done = len(shares) - len(joint.errors)
                error.add_note(f"it has taken effect in {done} of {len(shares)} parts")
                raise error
        return 0, 0

    async def _ask_batch(self, batch: AtomicBatch) -> None:
        """Have each part execute what is its own: all or none there, and by itself."""
        places: dict[int, list[int]] = {}
        for place, entry in enumerate(batch.entries):
            places.setdefault(part_of(entry.key, len(self.parts)), []).append(place)
        if len(places) == 1:
            (number,) = places
            await self.parts[number].ask(batch)
            return
        if not places:  # it is a sign of life, and looks for news
            places = {number: [] for number in range(len(self.parts))}
        shares = {
            number: AtomicBatch([batch.entries[place] for place in some])
            for number, some in places.items()
        }
        joint = await self._ask_each([(self.parts[n], share) for n, share in shares.items()])
        if joint.errors:
            error = _failure(joint, list(shares.values()))
            done = sorted(
                p for n, share in shares.items() if share not in joint.errors for p in places[n]
            )
            if isinstance(error, DistkitError):
                error.applied = tuple(batch.entries[place].key for place in done)
            raise error
        found = {
            place: result
            for number, share in shares.items()
            for place, result in zip(places[number], share.results, strict=True)
        }
        batch.results = [found[place] for place in range(len(batch.entries))]

    async def _ask_each(self, shares: Sequence[tuple[Actor, SpecialOperation]]) -> Joint:
        for part, _ in shares:
            if not part.open:
                part.check_open()
        joint = Joint([share for _, share in shares])
        for part, share in shares:
            part.mailbox.put(share)
            if part.mailbox.length == 1:
                part.send_now_or_wake()
        await joint.wait()
        return joint

    async def of_each(self, work: Callable[[Actor], Awaitable[_T]]) -> list[_T]:
        """Do ``work`` with every part at the same time, and return what it returns."""
        return await all_of([partial(work, part) for part in self.parts])

    def own_keys(self) -> set[str]:
        """Return the keys of all own slices."""
        return {key for part in self.parts for key in part.own_keys()}

    def own_slices(self) -> dict[str, int]:
        """Return the own slices that the stores of the parts have acknowledged."""
        return {key: value for part in self.parts for key, value in part.own_slices().items()}

    def release(self, hold: Hold) -> None:
        """End a hold. Once the counter has stopped there is nothing left to take back."""
        self.of(hold.key).release(hold)

    async def wait_open(self) -> None:  # noqa: ASYNC910 - internal: callers make the checkpoint
        """Do as `Actor.wait_open`."""
        self.check_task()
        if not self._is_open:
            await trio.lowlevel.checkpoint_if_cancelled()
            self.check_open()

    @property
    def _is_open(self) -> bool:
        return self._working and self.parts[0].open  # which a fork closes with all others

    def check_open(self) -> None:
        """Raise what an operation gets that comes too early, too late, or to the wrong one."""
        self.check_thread()
        if self._is_open:
            return
        for part in self.parts:
            if part.life is Life.SUPERSEDED or self._working:
                part.check_open()
        state = "not started" if self.life is Life.NEW else self.life.value
        raise CounterClosedError(
            f"the counter is {state}: operations need `run` or `open` around them"
        )

    def check_thread(self) -> None:
        """Raise RuntimeError in a thread that is not the one it runs in."""
        self.parts[0].check_thread()

    def check_task(self) -> None:
        """Raise RuntimeError where no task of trio runs, or one of another thread."""
        self.parts[0].check_task()

    def now(self) -> float:
        """Return the time by the clock of the run it runs in."""
        return self.parts[0].now()

    async def flush(self) -> None:
        """Wait until everything counted before is in the store, and report what it refused."""
        await self.wait_open()
        await self.of_each(Actor.flush)

    def statistics(self) -> CounterStatistics:
        """Return how things stand in all parts together. Any thread may ask."""
        return combined([part.statistics() for part in self.parts], self.state)

    @property
    def state(self) -> CounterState:
        """Where in its life it is, in the words of `CounterStatistics`."""
        life = self.life
        if life is Life.RUNNING and any(part.state == "starting" for part in self.parts):
            return "starting"
        return life.value

    @property
    def life(self) -> Life:
        """Where in its life it is: where the part is that is worst off."""
        lives = {part.life for part in self.parts}
        if len(lives) == 1:
            return next(iter(lives))
        if not lives.isdisjoint((Life.SUPERSEDED, Life.STOPPING)):
            return Life.SUPERSEDED if Life.SUPERSEDED in lives else Life.STOPPING
        if Life.CLOSED in lives:
            return Life.STOPPING
        if self._ready < len(self.parts):
            return Life.STARTING
        return next(life for life in _WORST_FIRST if life in lives)

    @property
    def instance_id(self) -> str | None:
        """The name of the instance; None if it is not drawn yet."""
        return self.parts[0].instance_id

    # ---------------------------------------------------------------------- life

    async def run(self, started: Callable[[], None]) -> None:  # noqa: ASYNC910 - internal: callers make the checkpoint
        """Live in all parts: do as `Actor.run`."""
        self.check_task()
        if self.life is not Life.NEW:
            raise CounterClosedError(f"a counter runs once, and this one is {self.life.value}")
        name = self.instance_id or str(uuid.uuid4())
        for part in self.parts:
            part.call(name)

        def ready() -> None:
            self._ready += 1
            if self._ready == len(self.parts):
                self._working = not self._stopping
                started()

        failure: Exception | None = None
        try:
            await self._live(ready)
        except BaseException as error:  # noqa: ASYNC103 - says what the stop could not do
            failure = self._close()
            if failure is None:
                raise
            if sole(error) is not None:
                error.add_note(str(failure))
                raise
        else:
            failure = self._close()
        if failure is not None:
            raise failure

    async def _live(self, ready: Callable[[], None]) -> None:  # noqa: ASYNC910 - internal
        first, *others = self.parts
        try:
            async with trio.open_nursery() as nursery:
                if self._detached_start:
                    others = list(self.parts)
                else:
                    await nursery.start(self._host, first, ready)
                if not self._stopping:
                    for part in others:
                        nursery.start_soon(self._host, part, ready)
        finally:
            for part in self.parts:
                if part.life is Life.NEW:
                    part.dismiss()

    async def _host(  # noqa: ASYNC114, ASYNC910 - only `_live` starts it; `run` is a checkpoint
        self,
        part: Actor,
        ready: Callable[[], None],
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Run a part; when it ends, for whatever reason, all others do."""
        waited_for = True

        def registered() -> None:
            nonlocal waited_for
            waited_for = False
            ready()
            task_status.started()

        try:
            await part.run(registered)
        except BaseException as error:  # noqa: ASYNC103 - told by `_close`
            self._errors[part] = sole(error) or error
            if not isinstance(self._errors[part], Exception):
                raise
        finally:
            self._working, self._stopping = False, True
            for other in self.parts:
                if part.life is Life.SUPERSEDED:
                    other.supersede()
                else:
                    other.stop()
            if waited_for:
                task_status.started()

    def _close(self) -> Exception | None:
        """Return what has to be said of how the parts have ended."""
        self._working = False
        undone = sum(part.undone for part in self.parts)
        errors = [e for e in self._errors.values() if isinstance(e, Exception)]
        conflicts = [e for e in errors if isinstance(e, InstanceConflictError)]
        at_end = all(part.undone or part not in self._errors for part in self.parts)
        failure: Exception | None = None
        if conflicts and any(part.life is Life.SUPERSEDED for part in self.parts):
            failure = self.parts[0].conflict(undone)
        elif errors and at_end and all(isinstance(e, StoreUnavailableError) for e in errors):
            failure = self.parts[0].unfinished(undone)
            failure.__cause__ = errors[0].__cause__
        elif errors:
            # What nobody expected says more than what follows from it.
            failure = first_of(sorted(errors, key=lambda e: isinstance(e, DistkitError)))
        if undone:
            self.failure = failure
        self._closed.set()
        return failure

    def stop(self) -> None:
        """Ask for a graceful stop; `run` returns when it is done."""
        self._stopping = True
        for part in self.parts:
            part.stop()

    async def kill(self) -> None:
        """Do as `Actor.kill`, in all parts at once."""
        self.check_task()
        self._stopping = True
        if self.life is Life.NEW:
            await self.close()
            return
        await self.of_each(Actor.kill)
        await self._closed.wait()

    async def close(self) -> None:
        """Stop and wait for the end; raise what the stop could not do."""
        self.check_task()
        if self.life is Life.NEW:
            for part in self.parts:
                part.dismiss()
            self._closed.set()
        if self._closed.is_set() or self.parts[0].forked:
            await trio.lowlevel.checkpoint()
            return
        self.stop()
        await self._closed.wait()
        if self.failure is not None:
            raise self.failure


#: The actor of a counter, of either kind.
AnyActor: TypeAlias = Actor | PartitionedActor


def _failure(joint: Joint, shares: Sequence[SpecialOperation]) -> Exception:
    """Return the error of the first share that failed, with those of the others in its notes."""
    return first_of([joint.errors[share] for share in shares if share in joint.errors])
