"""The instances of the demo, and what can happen to them.

Everything goes by a common beat, so that the table is calm: connections come and go at
its start, every instance reads the cumulative in its middle, and near its end the screen
takes its picture, when all have the same to say.
"""

from __future__ import annotations

import math
import random
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final

import trio

from .. import (
    CounterClosedError,
    CounterValue,
    InstanceAwareCounter,
    LaxInstanceAwareCounter,
    Store,
    StoreUnavailableError,
    StrictInstanceAwareCounter,
)
from .cuttable_store import Cable
from .picture import Books, Picture, Row, State

#: What is counted.
KEY: Final = "connections"

_TRAFFIC, _READING, _PICTURE = 0.0, 0.5, 0.8  # parts of a beat
_BEATS_PER_THRESHOLD = 5

#: Seconds that an instance may take to leave: a crashed one keeps nobody waiting.
_GRACE = 1.0


@asynccontextmanager
async def cancelled_first() -> AsyncGenerator[None]:
    """Prefer a cancellation to the complaint of a counter that it stopped a moment earlier.

    It comes to a counter and to its users at once, and a user that was about to run may
    find the counter stopping already.
    """
    try:
        yield
    except* CounterClosedError:
        await trio.lowlevel.checkpoint_if_cancelled()  # noqa: ASYNC120 - that is the point
        raise


@dataclass(frozen=True, slots=True)
class Beat:
    """The instants ``start + n * period``."""

    start: float
    period: float

    async def at(self, part: float) -> None:
        """Sleep until the next beat has gone on for ``part`` of its period."""
        beats = (trio.current_time() - self.start) / self.period - part
        # Without the little more, rounding could find the instant that has just come.
        following = math.floor(beats + 1e-6) + 1
        await trio.sleep_until(self.start + (following + part) * self.period)


class Instance:
    """One process of the simulated service: a counter, its clients, and its cable."""

    def __init__(self, name: str, kind: str, fleet: Fleet) -> None:
        self.name = name
        self.kind = kind
        self.state = State.LIVE
        self.dropped = False  # the others have been seen to count without it
        self.sees: int | None = None
        self.busy = trio.Lock()  # whoever holds it keeps the clients waiting
        self._cable = Cable(fleet.store)
        self._books = fleet.books
        self._beat = fleet.beat
        self._random = random.Random(name)
        self._life = trio.CancelScope()
        self._work = trio.CancelScope()
        self._worked = trio.Event()  # nobody uses the counter any more
        counter_class = LaxInstanceAwareCounter if kind == "lax" else StrictInstanceAwareCounter
        self.counter: InstanceAwareCounter = counter_class(
            fleet.prefix,
            self._cable,
            instance_id=name,
            dead_instance_threshold=fleet.threshold,
            heartbeat_interval=fleet.heartbeat,
            exit_grace=_GRACE,
        )

    @property
    def slice(self) -> int:
        """Its slice, by the books."""
        return self._books.slices.get(self.name, 0)

    async def run(  # noqa: ASYNC910 - a crash is a cancellation that ends here
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Run the counter and the clients, until `leave` or `crash`."""
        with self._life:
            try:
                async with cancelled_first(), trio.open_nursery() as nursery:
                    await nursery.start(self.counter.run)
                    nursery.start_soon(self._serve)
                    task_status.started()
            except* StoreUnavailableError:
                # The counter complains about what a cut cable kept back. It is right, but
                # that was the point, and a crashed process has nobody to complain to.
                if self._cable.whole:
                    raise

    async def _serve(self) -> None:
        with self._work:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._clients)
                nursery.start_soon(self._reader)
        self._worked.set()

    async def _clients(self) -> None:
        await self._count(self._random.randint(4, 9))
        while True:
            await self._beat.at(_TRAFFIC)
            await self._count(self._random.randint(1, 3))
            await self._count(-min(self._random.randint(0, 3), max(0, self.slice - 1)))

    async def _reader(self) -> None:
        while True:
            await self._beat.at(_READING)
            self.sees = (await self.counter.get(KEY)).cumulative

    async def _count(self, count: int) -> None:
        async with self.busy:
            if isinstance(self.counter, LaxInstanceAwareCounter):
                self.counter.inc_nowait(KEY, count)
            else:
                await self.counter.inc(KEY, count)
            self._books.count(self.name, count)

    async def flush(self) -> None:
        """Have everything counted so far in the store."""
        if isinstance(self.counter, LaxInstanceAwareCounter):
            await self.counter.flush()
        else:
            await trio.lowlevel.checkpoint()

    def cut_off(self) -> None:
        """Cut the cable: to the others it is dead, and it does not know."""
        self._cable.cut()
        self.state = State.CUT_OFF
        self._books.absent.add(self.name)

    def reconnect(self) -> None:
        """Mend the cable."""
        self._cable.mend()
        self.state = State.LIVE
        self.dropped = False
        self._books.absent.discard(self.name)

    def crash(self) -> None:
        """End the process with no good-bye: nothing it does from now on reaches the store."""
        self._cable.cut()
        self.state = State.CRASHED
        self._books.absent.add(self.name)
        self._life.cancel()

    def bury(self) -> None:
        """Note that the others count without this crashed instance."""
        self.state = State.REAPED
        self._books.erase(self.name)
        self._books.absent.discard(self.name)

    async def leave(self) -> None:
        """Stop cleanly; the slice goes at once."""
        self._work.cancel()
        await self._worked.wait()  # one who has just been answered goes on for a turn
        await self.counter.aclose()
        self._books.erase(self.name)
        self.state = State.LEFT

    def row(self) -> Row:
        """Describe it."""
        running = self.state in (State.LIVE, State.CUT_OFF)
        return Row(
            self.name,
            self.kind,
            self.state,
            self.slice,
            not self.dropped,
            None if self.state is State.LEFT else self.counter.statistics().last_heartbeat_age,
            self.sees if running else None,
        )


class Fleet:
    """All instances, under one prefix of one store.

    Args:
        store: Where they count.
        prefix: What they count under; nobody else should.
        size: How many instances.
        threshold: Seconds of silence after which an instance is dead.
    """

    def __init__(self, store: Store, prefix: str, *, size: int, threshold: float) -> None:
        self.store = store
        self.prefix = prefix
        self.threshold = threshold
        self.heartbeat = threshold / 3
        self.books = Books()
        self.beat = Beat(trio.current_time(), threshold / _BEATS_PER_THRESHOLD)
        self.instances = [self._make(number) for number in range(1, size + 1)]
        self.picture = Picture((), 0)
        self._taken = trio.Event()

    def _make(self, number: int) -> Instance:
        return Instance(f"web-{number}", "strict" if number % 2 else "lax", self)

    @property
    def live(self) -> list[Instance]:
        """Those that run and reach the store."""
        return [instance for instance in self.instances if instance.state is State.LIVE]

    async def run(self, nursery: trio.Nursery) -> None:
        """Start every instance in ``nursery``, and take the first picture."""
        for instance in self.instances:
            await nursery.start(instance.run)
        nursery.start_soon(self._photograph)
        await self.next_picture()

    async def restart(self, instance: Instance, nursery: trio.Nursery) -> Instance:
        """Start a new process in the place of a crashed one."""
        place = self.instances.index(instance)
        fresh = self._make(place + 1)
        await nursery.start(fresh.run)
        self.instances[place] = fresh
        return fresh

    def mend(self) -> None:
        """Mend the cables of all that live."""
        for instance in self.instances:
            if instance.state is State.CUT_OFF:
                instance.reconnect()

    async def _photograph(self) -> None:
        while True:
            await self.beat.at(_PICTURE)
            self.look()
            self._taken.set()
            self._taken = trio.Event()

    def look(self) -> None:
        """Take a new picture."""
        rows = [instance.row() for instance in self.instances]
        self.picture = Picture(rows, self.books.cumulative)

    async def next_picture(self) -> Picture:
        """Wait for the next regular picture."""
        await self._taken.wait()
        return self.picture

    @asynccontextmanager
    async def quiet(self) -> AsyncGenerator[None]:
        """Keep all clients waiting, with everything that live instances counted in the store."""
        async with AsyncExitStack() as stack:
            for instance in self.live:
                await stack.enter_async_context(instance.busy)
                await instance.flush()
            yield

    async def set(self, instance: Instance, count: int) -> None:
        """Have ``instance`` set the key.

        The others are quiet meanwhile: of counts made at the same time nobody could tell
        whether they came before it, and the books have to know.
        """
        async with self.quiet():
            await instance.counter.set(KEY, count)
            self.books.set(instance.name, count)

    async def values(self) -> dict[str, CounterValue]:
        """Ask every live instance."""
        await trio.lowlevel.checkpoint()
        return {instance.name: await instance.counter.get(KEY) for instance in self.live}
