"""What happens to the fleet, act by act, and what must be true of it.

All times are multiples of the threshold; the whole takes `THRESHOLDS` of them.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Final

import trio

from .. import CounterValue, Store, StrictInstanceAwareCounter
from .fleet import KEY, Fleet, Instance, cancelled_first
from .picture import Picture, State
from .screen import Screen

#: How long the story is.
THRESHOLDS: Final = 9.0
#: The fewest instances it can be told with: one crashes, one is cut off, one looks on.
FEWEST: Final = 3

_SET_TO: Final = 40
#: Seconds that a computer which has other things to do may add to any promise.
_BUSY: Final = 2.0


class MismatchError(Exception):
    """The counters do not say what the books say."""


async def perform(
    store: Store, screen: Screen, *, instances: int, seconds: float, prefix: str | None = None
) -> bool:
    """Tell the story; return whether everything came out as the books say.

    Args:
        store: Where the instances count.
        screen: Where it is told.
        instances: How many there are, `FEWEST` at least.
        seconds: How long it may take, from when all instances run.
        prefix: What they count under; nobody else should. A fresh one by default.

    Raises:
        StoreError: The store cannot be reached, or refuses.
    """
    prefix = prefix or f"distkit-demo-{uuid.uuid4().hex[:12]}"
    problem = None
    async with cancelled_first(), trio.open_nursery() as nursery:
        fleet = Fleet(store, prefix, size=instances, threshold=seconds / THRESHOLDS)
        await fleet.run(nursery)
        with screen:
            screen.show(fleet.picture)
            nursery.start_soon(_show, fleet, screen)
            story = Story(fleet, screen, nursery)
            try:
                await story.tell()
            except MismatchError as mismatch:
                problem = str(mismatch)
            finally:
                fleet.mend()  # so that everyone can leave
        nursery.cancel_scope.cancel()
    if problem is None:
        problem = await story.audit()
    screen.end(problem)
    return problem is None


async def _show(fleet: Fleet, screen: Screen) -> None:
    while True:
        screen.show(await fleet.next_picture())


class Story:
    """One performance."""

    def __init__(self, fleet: Fleet, screen: Screen, nursery: trio.Nursery) -> None:
        self._fleet = fleet
        self._screen = screen
        self._nursery = nursery
        self._start = trio.current_time()
        self._threshold = fleet.threshold
        self._promise = fleet.threshold + fleet.heartbeat

    async def tell(self) -> None:
        """Play all acts."""
        first, second, third, *_ = self._fleet.instances
        await self._come_and_go()
        await self._crash(third)
        await self._cut_cable(second)
        await self._new_epoch(first, self._fleet.instances[-1])
        await self._good_bye()

    async def audit(self) -> str | None:
        """Look with fresh eyes at what everyone left behind; return what is wrong with it."""
        fleet = self._fleet
        async with StrictInstanceAwareCounter.open(fleet.prefix, fleet.store) as auditor:
            left = (await auditor.get(KEY)).cumulative
        self._screen.total("left behind", 0, left)
        return None if left == 0 else f"everyone has left, but {left} {KEY} stayed behind"

    # ---------------------------------------------------------------------- acts

    async def _come_and_go(self) -> None:
        self._screen.act("Connections come and go")
        self._screen.say(
            f"{len(self._fleet.instances)} instances count connections: each owns a slice, all see "
            "the sum."
        )
        await self._until(1.4)
        await self._agreement()

    async def _crash(self, victim: Instance) -> None:
        await self._fleet.next_picture()
        self._screen.act("A crash")
        open_connections = victim.slice
        victim.crash()
        self._look()
        self._screen.say(
            f"{victim.name} dies with {open_connections} connections open: no good-bye, only "
            "silence."
        )
        self._screen.say(f"The others promise to forget it within {self._promise:.1f} s.")
        took = await self._agreement()
        victim.bury()
        self._look()
        self._screen.say(
            f"Forgotten after {took:.1f} s: nobody counts the dead." + self._excuse(took)
        )
        await self._until(3.3)
        await self._fleet.restart(victim, self._nursery)
        self._screen.say(f"{victim.name} is started again, and begins with nothing.")
        await self._until(4.0)
        await self._agreement()

    async def _cut_cable(self, victim: Instance) -> None:
        await self._fleet.next_picture()
        self._screen.act("A cut cable")
        before = victim.slice
        victim.cut_off()
        self._look()
        self._screen.say(
            f"{victim.name} loses the store, but lives: its clients come and go, and it counts on."
        )
        took = await self._agreement()
        victim.dropped = True
        self._look()
        self._screen.say(
            f"To the others it is dead: after {took:.1f} s they count without its {before}."
            + self._excuse(took)
        )
        await self._until(5.8)
        await self._fleet.next_picture()
        victim.reconnect()
        took = await self._agreement()
        self._screen.say(
            f"The cable is mended: {took:.1f} s later its slice is back, and what it counted alone."
        )
        await self._until(6.6)

    async def _new_epoch(self, setter: Instance, victim: Instance) -> None:
        await self._fleet.next_picture()
        self._screen.act("A new epoch")
        async with victim.busy:  # what it counted on would be of the new epoch
            await victim.flush()
            before = victim.slice
            victim.cut_off()
            self._look()
            self._screen.say(f"{victim.name} is cut off as well, with {before} connections.")
            await self._until(7.0)
            await self._fleet.set(setter, _SET_TO)
            self._screen.say(
                f"{setter.name} sets the total to {_SET_TO}. That moves the epoch: older slices "
                "are void."
            )
            await self._until(7.8)
            await self._agreement()
            victim.reconnect()
            await self._agreement()
            self._screen.say(f"{victim.name} is back. The {before} it knew of stay void.")
            await self._until(8.2)
        await self._until(8.6)

    async def _good_bye(self) -> None:
        await self._fleet.next_picture()
        self._screen.act("Good-bye")
        async with self._fleet.quiet():
            await self._agreement()
            self._check(await self._fleet.values())
            self._screen.say("Everyone stops cleanly, and takes its slice along at once.")
            for instance in self._fleet.live:
                await instance.leave()
                self._look()
                await trio.sleep(0.3 * self._threshold / len(self._fleet.instances))
        await self._until(THRESHOLDS)

    # --------------------------------------------------------------------- truth

    async def _agreement(self) -> float:
        """Wait until every live instance sees what the books say; return how long it took."""
        start = trio.current_time()
        patience = self._promise + self._threshold + _BUSY
        with trio.move_on_after(patience):
            while True:
                picture = await self._fleet.next_picture()
                if picture.agreed:
                    self._screen.show(picture, keep=True)
                    return trio.current_time() - start
        self._fleet.look()
        raise MismatchError(
            f"after {patience:.1f} s {_views(self._fleet.picture)}, but the books say "
            f"{self._fleet.picture.books}"
        )

    def _excuse(self, took: float) -> str:
        late = took > self._promise + self._fleet.beat.period
        return " (Late: is this computer very busy?)" if late else ""

    def _check(self, values: Mapping[str, CounterValue]) -> None:
        """Print the totals, and compare them with the books."""
        wrong: list[str] = []
        for instance in self._fleet.live:
            expected, counted = instance.slice, values[instance.name].instance_count
            self._screen.total(instance.name, expected, counted)
            if counted != expected:
                wrong.append(f"the slice of {instance.name} is {counted} instead of {expected}")
        cumulative = self._fleet.books.cumulative
        for name, value in values.items():
            if value.cumulative != cumulative:
                wrong.append(f"{name} sees {value.cumulative} instead of {cumulative}")
        seen = {value.cumulative for value in values.values()}
        self._screen.total("cumulative", cumulative, *sorted(seen))
        if wrong:
            raise MismatchError("; ".join(wrong))

    # ---------------------------------------------------------------------- time

    async def _until(self, thresholds: float) -> None:
        await trio.sleep_until(self._start + thresholds * self._threshold)

    def _look(self) -> None:
        self._fleet.look()
        self._screen.show(self._fleet.picture)


def _views(picture: Picture) -> str:
    return ", ".join(
        f"{row.name} sees {'nothing' if row.sees is None else row.sees}"
        for row in picture.rows
        if row.state is State.LIVE
    )
