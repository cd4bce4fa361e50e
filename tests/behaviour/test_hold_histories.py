"""Random histories of holds, deletes and lost data: in the end nobody holds anything (I13).

Nothing but holds and `delete` touches the key, so whatever L1 allows to be missing of other counts
is nothing here, and the key must be free in the end. Three counters hold and delete while their
links are cut, answers get lost, and the store is restarted empty again and again.
`DISTKIT_SEED` repeats a run, `DISTKIT_HISTORIES` makes it longer.
"""

from __future__ import annotations

import os
import random
from contextlib import AsyncExitStack, suppress

import trio
import trio.testing

from distkit_actors import (
    InstanceAwareCounter,
    LaxInstanceAwareCounter,
    LimitReachedError,
    MemoryStore,
    OutcomeUnknownError,
    StrictInstanceAwareCounter,
)
from distkit_actors.testing import FaultyStore

KINDS = (StrictInstanceAwareCounter, LaxInstanceAwareCounter, StrictInstanceAwareCounter)
#: What may happen, the frequent more than once.
STEPS = (
    *("hold", "hold", "hold", "leave", "leave", "delete", "cut", "cut", "heal", "heal"),
    *("drop_reply", "drop_request", "duplicate", "wipe", "wait", "wait"),
)


class History:
    """One history, and how it went."""

    def __init__(self, seed: str, length: int) -> None:
        self.random = random.Random(seed)
        self.length = length
        self.steps: list[str] = []
        self.blocks: list[trio.Event] = []  # of those that are held, or to be
        self.store = MemoryStore()
        self.networks = [FaultyStore(self.store) for _ in KINDS]
        self.counters: list[InstanceAwareCounter] = []

    async def run(self) -> None:
        async with AsyncExitStack() as stack:
            for kind, network in zip(KINDS, self.networks, strict=True):
                self.counters.append(await stack.enter_async_context(kind.open("p", network)))
            async with trio.open_nursery() as nursery:
                for _ in range(self.length):
                    await self._step(nursery)
                for network in self.networks:
                    network.forget_plan()
                    network.heal()
                # All that was lost is told again, and then all blocks end, or the other way round.
                if self.random.random() < 0.5:
                    await trio.sleep(40)
                for left in self.blocks:
                    left.set()
            await trio.sleep(40)
            await self._check()

    async def _step(self, nursery: trio.Nursery) -> None:
        step, who = self.random.choice(STEPS), self.random.randrange(len(KINDS))
        network = self.networks[who]
        self.steps.append(f"{step} {who}")
        match step:
            case "hold":
                left = trio.Event()
                self.blocks.append(left)
                count = self.random.choice([-2, -1, 1, 1, 2])
                limit = self.random.choice([None, None, 3]) if count > 0 else None
                nursery.start_soon(self._hold, self.counters[who], count, limit, left)
            case "leave" if self.blocks:
                self.random.choice(self.blocks).set()
            case "delete":
                nursery.start_soon(self._delete, self.counters[who])
            case "cut" | "heal" | "drop_reply" | "drop_request" | "duplicate":
                getattr(network, step)()
            case "wipe":
                self.store.wipe()
                await trio.sleep(0.05)  # no outage takes no time, see A3
            case _:
                await trio.sleep(self.random.choice([0.02, 0.3, 12]))
        if self.random.random() < 0.8:
            await trio.sleep(0.001)

    async def _hold(
        self, counter: InstanceAwareCounter, count: int, limit: int | None, left: trio.Event
    ) -> None:
        try:
            async with counter.hold("k", count, limit):
                await left.wait()
        except (LimitReachedError, OutcomeUnknownError):
            pass

    async def _delete(self, counter: InstanceAwareCounter) -> None:
        with suppress(OutcomeUnknownError):
            await counter.delete("k")

    async def _check(self) -> None:
        assert await self.counters[0].slices("k") == {}
        for counter in self.counters:
            assert await counter.get("k") == (0, 0)
            assert not counter._actor._dispatch.releases.holds.outstanding()


def test_i13_nothing_is_left_of_holds() -> None:
    seed = os.environ.get("DISTKIT_SEED", str(random.SystemRandom().randrange(2**32)))
    count = int(os.environ.get("DISTKIT_HISTORIES", "500"))
    for number in range(count):
        length = 8 + number % 24
        history = History(f"{seed}.{number}", length)
        random.seed(f"{seed}.{number}")
        trio._core._run._r.seed(f"{seed}.{number}")
        clock = trio.testing.MockClock(autojump_threshold=0)
        try:
            trio.run(history.run, clock=clock)
        except BaseException as error:
            error.add_note(f"DISTKIT_SEED={seed}, history {number}: {', '.join(history.steps)}")
            raise
