"""Thousands of holds cancelled at any moment, and in the end nobody holds anything.

Several tasks at once enter and leave holds on the same few keys, through a strict and a lax
counter, with and without a limit. Each is cancelled after a random number of the scheduler's
ticks: while its operation waits, on the wire, in the block, or with the scope cancelled already
when the block ends. Requests and answers get lost on the way; in a second variant everybody
deletes keys in the midst. `DISTKIT_SEED` repeats a run.
"""

from __future__ import annotations

import os
import random
from collections import Counter as Tally
from contextlib import AsyncExitStack
from unittest import mock

import pytest
import trio
import trio.testing

from distkit_actors import (
    InstanceAwareCounter,
    LaxInstanceAwareCounter,
    LimitReachedError,
    MemoryStore,
    RedisStore,
    Store,
    StrictInstanceAwareCounter,
)
from distkit_actors._actor._operations import Operation
from distkit_actors.testing import FaultyStore

#: Holds at the same time.
CROWD = 16
#: Everybody who enters "limited" says that there may be this many.
LIMIT = 4
KEYS = ("free", "limited")
MOMENTS = ("waiting", "on the wire", "in the block", "at its end")


class Fuzz:
    """Holds to be cancelled, and counts of when they were."""

    def __init__(self, seed: int, *, deletes: bool) -> None:
        self.random = random.Random(seed)
        self.deletes = deletes
        self.cancelled: Tally[str] = Tally()
        self.refused = 0
        self.inside = 0  # how many blocks with the limit are entered
        self.counters: list[InstanceAwareCounter] = []
        self.networks: list[FaultyStore] = []

    async def run(self, store: Store, prefix: str, cancellations: int) -> None:
        async with AsyncExitStack() as stack:
            for kind in (StrictInstanceAwareCounter, LaxInstanceAwareCounter):
                network = FaultyStore(store)
                self.networks.append(network)
                counter = await stack.enter_async_context(kind.open(prefix, network))
                self.counters.append(counter)
            other = await stack.enter_async_context(StrictInstanceAwareCounter.open(prefix, store))
            stack.enter_context(self._watching())
            while not self._is_enough(cancellations):
                async with trio.open_nursery() as nursery:
                    for _ in range(CROWD):
                        nursery.start_soon(self._one_hold)
                    self._trouble()
                    if self.deletes:
                        nursery.start_soon(self._delete, other)
                for network in self.networks:
                    await network.deliver_late_copies()
                # Now, for the next delete would hide what is wrong.
                await self._check(other)
            await self._check_all(other)

    async def _one_hold(self) -> None:
        dice = self.random
        counter, key = dice.choice(self.counters), dice.choice(KEYS)
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._cancel_soon, scope, dice.randrange(14))
                hold = counter.hold(key, limit=LIMIT if key == "limited" else None)
                try:
                    async with hold as value:
                        assert value.instance_count > 0 or self.deletes
                        await self._stay(key, scope)
                except LimitReachedError:
                    self.refused += 1
                nursery.cancel_scope.cancel()

    async def _stay(self, key: str, scope: trio.CancelScope) -> None:
        self.inside += key == "limited"
        try:
            assert self.inside <= LIMIT or self.deletes
            for _ in range(self.random.randrange(10)):
                await trio.lowlevel.checkpoint()
            if scope.cancel_called or self.random.random() < 0.3:
                self.cancelled["at its end"] += 1
                scope.cancel()
        except trio.Cancelled:
            self.cancelled["in the block"] += 1
            raise
        finally:
            self.inside -= key == "limited"

    async def _cancel_soon(self, scope: trio.CancelScope, ticks: int) -> None:
        for _ in range(ticks):
            await trio.lowlevel.checkpoint()
        if self.random.random() < 0.2:
            await trio.sleep(self.random.choice([0.001, 0.02, 0.05]))
        scope.cancel()

    def _trouble(self) -> None:
        network = self.random.choice(self.networks)
        fault = self.random.choice(["", "", "", "drop_request", "drop_reply", "late_copy"])
        if fault:
            getattr(network, fault)()

    async def _delete(self, other: InstanceAwareCounter) -> None:
        for _ in range(self.random.randrange(12)):
            await trio.lowlevel.checkpoint()
        counter = self.random.choice([other, other, *self.counters])
        await self.random.choice([counter.clear, *[lambda: counter.delete("free")] * 4])()
        if self.random.random() < 0.5:
            await counter.delete("limited")

    def _watching(self) -> mock._patch[object]:
        """Note where the operations of cancelled callers are."""
        abort = Operation.__call__

        def noting(operation: Operation, raise_cancel: object) -> trio.lowlevel.Abort:
            self.cancelled["waiting" if operation.waits else "on the wire"] += 1
            return abort(operation, raise_cancel)

        return mock.patch.object(Operation, "__call__", noting)

    async def _check(self, other: InstanceAwareCounter) -> None:
        """Nothing is held."""
        for counter in self.counters:
            # Behind what is on the wire for those who have gone, as only its answer says what is to
            # be taken back; and then behind that.
            await counter.get_all(KEYS)
            if isinstance(counter, LaxInstanceAwareCounter):
                await counter.flush()
            else:
                await counter.get_all(KEYS)
        for counter in (other, self.counters[0]):
            values = await counter.get_all(KEYS)
            assert values == dict.fromkeys(KEYS, (0, 0)), self.cancelled

    async def _check_all(self, other: InstanceAwareCounter) -> None:
        """Nothing is held, as anybody sees it, nor is anything remembered."""
        for key in KEYS:
            assert await other.slices(key) == {}
            for counter in self.counters:
                await trio.sleep(0.03)  # longer than a lax read may be old
                assert await counter.get(key) == (0, 0)
        for counter in self.counters:
            dispatch = counter._actor._dispatch
            assert not dispatch.releases.holds.outstanding()
            assert not dispatch.releases.outstanding
            assert not dispatch.releases.deferred

    def _is_enough(self, cancellations: int) -> bool:
        """Whether so many were cancelled, and some at every moment, and some refused."""
        return (
            self.cancelled.total() >= cancellations
            and all(self.cancelled[moment] > cancellations / 50 for moment in MOMENTS)
            and self.refused > cancellations / 100
        )


async def _fuzz(store: Store, prefix: str, cancellations: int, *, deletes: bool) -> None:
    seed = int(os.environ.get("DISTKIT_SEED", random.SystemRandom().randrange(2**32)))
    print(f"DISTKIT_SEED={seed}")
    random.seed(seed)
    trio._core._run._r.seed(seed)  # in which order tasks run
    fuzz = Fuzz(seed, deletes=deletes)
    await fuzz.run(store, prefix, cancellations)
    print(fuzz.cancelled, f"{fuzz.refused} refused")


async def test_ten_thousand_cancelled_holds_leave_nothing(
    autojump_clock: trio.testing.MockClock,
) -> None:
    await _fuzz(MemoryStore(), "fuzz", 10_000, deletes=False)


async def test_two_thousand_cancelled_holds_among_deletes_leave_nothing(
    autojump_clock: trio.testing.MockClock,
) -> None:
    await _fuzz(MemoryStore(), "fuzz", 2000, deletes=True)


@pytest.mark.parametrize("deletes", [False, True], ids=["", "with deletes"])
async def test_a_thousand_cancelled_holds_leave_nothing_in_redis(
    deletes: bool, redis_url: str, fresh_prefix: str
) -> None:
    await _fuzz(RedisStore(redis_url), fresh_prefix, 1000, deletes=deletes)
