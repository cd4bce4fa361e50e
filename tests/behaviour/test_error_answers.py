"""Any answer of any request may be an error, true or not, and every count stays exact.

An error says that nothing was done, or that nobody knows; and it may be wrong: what stands between
a counter and its store may answer so after the store has executed the request. Whatever it is,
callers hear the truth of their own operations, nobody crashes, and once all is quiet the slices
are what the callers were told. Only a move that was executed, and is said to be refused, cannot
be taken back by anybody, so moves are told no such lies here.
"""

from __future__ import annotations

import random
from collections import Counter as BufferedKey
from collections.abc import Callable
from contextlib import AsyncExitStack

import pytest
import trio
from trio.testing import MockClock

from distkit_actors import (
    FleetLimiter,
    Ge,
    InstanceAwareCounter,
    LaxInstanceAwareCounter,
    LimitReachedError,
    MemoryStore,
    OutcomeUnknownError,
    StoreError,
    StoreUnavailableError,
    StrictInstanceAwareCounter,
)
from distkit_actors._protocol._messages import (
    Apply,
    Load,
    Open,
    Peek,
    Query,
    Request,
    Resume,
    Watch,
)
from distkit_actors._stores._contract import StoreAwayError
from distkit_actors.testing import FaultyStore

KEYS = ("a", "b", "held", "limited")
ERRORS = (
    StoreError("refused"),
    StoreAwayError("away"),
    StoreUnavailableError("unknown"),
)
KINDS = (Apply, Apply, Apply, Resume, Query, Watch)
THRESHOLD = 3.0


def of_kind(kind: type[Request]) -> Callable[[Request], bool]:
    return lambda request: isinstance(request, kind)


class One:
    """A counter, its network, and what its own slices must be."""

    def __init__(self, counter: InstanceAwareCounter, network: FaultyStore) -> None:
        self.counter = counter
        self.network = network
        self.own: BufferedKey[str] = BufferedKey()
        self.limiter = FleetLimiter(counter, "tokens", 50)


class Story:
    """Operations of several counters, one after the other each, among errors."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.errors = 0
        self.struck: BufferedKey[type[Request]] = BufferedKey()
        self.ones: list[One] = []

    async def run(self, operations: int) -> None:
        store = MemoryStore()
        async with AsyncExitStack() as stack:
            validator = await stack.enter_async_context(
                StrictInstanceAwareCounter.open("p", store, dead_instance_threshold=THRESHOLD)
            )
            for kind in (StrictInstanceAwareCounter, LaxInstanceAwareCounter):
                network = FaultyStore(store)
                block = kind.open("p", network, dead_instance_threshold=THRESHOLD)
                self.ones.append(One(await stack.enter_async_context(block), network))
            async with trio.open_nursery() as nursery:
                for one in self.ones:
                    nursery.start_soon(self._operate, one, operations)
                    nursery.start_soon(self._look, one)
                await self._kill(validator, operations)
            await self._compare(validator)

    async def _operate(self, one: One, operations: int) -> None:
        for _ in range(operations):
            await trio.sleep(self.dice.choice([0, 0, 0.01, 0.2]))
            if self.dice.random() < 0.5:
                error, executed = self.dice.choice(ERRORS), self.dice.random() < 0.6
                when = of_kind(self.dice.choice(KINDS))
                one.network.answer(error, self.dice.choice([1, 1, 2]), executed=executed, when=when)
            try:
                await self._one_operation(one)
            except OutcomeUnknownError:
                raise  # the store has lost nothing
            except LimitReachedError:
                pass
            except StoreError:
                self.errors += 1

    async def _one_operation(self, one: One) -> None:
        dice, counter, own = self.dice, one.counter, one.own
        key, count = dice.choice(KEYS[:2]), dice.choice([-2, 1, 3, 10])
        strict = isinstance(counter, StrictInstanceAwareCounter)
        match dice.randrange(9):
            case 0 | 1:
                found = await counter.inc(key, count)
                own[key] += count
            case 2:
                found = await counter.set_on_instance(key, count)
                own[key] = count
            case 3:
                both = await counter.inc_all(dict.fromkeys(KEYS[:2], count))
                own.update(dict.fromkeys(KEYS[:2], count))
                found = both[key]
            case 4:
                answer = await counter.inc_if(key, Ge(-1000), count)
                assert answer.applied
                own[key] += count
                found = answer.current
            case 5:
                async with counter.hold("held", count):
                    await trio.sleep(dice.choice([0, 0.05]))
                return
            case 6:
                async with counter.hold("limited", limit=2):
                    await trio.sleep(dice.choice([0, 0.05]))
                return
            case 7:
                name = object()
                await one.limiter.acquire_on_behalf_of(name)
                one.limiter.release_on_behalf_of(name)
                return
            case _:
                one.network.forget_plan()  # a lie about a move is beyond repair
                await counter.delete_on_instance(key)
                own[key] = 0
                found = await counter.get(key)
        if strict:
            assert found.instance_count == own[key]

    async def _look(self, one: One) -> None:
        """Ask, and watch, among all that."""
        for _ in range(5):
            try:
                async with one.counter.watch("a"):
                    await one.counter.instances()
                    await trio.sleep(0.3)
            except StoreError:
                self.errors += 1

    async def _kill(self, validator: InstanceAwareCounter, operations: int) -> None:
        """Take them for dead now and then, so that they return."""
        for _ in range(operations // 10):
            await trio.sleep(0.5)
            await validator.forget(self.dice.choice(self.ones).counter.instance_id)

    async def _compare(self, validator: InstanceAwareCounter) -> None:
        for one in self.ones:
            for fault in one.network.requests:
                self.struck[type(fault)] += 1
            one.network.forget_plan()
        await trio.sleep(2 * THRESHOLD)  # refused releases have been tried again
        for key in (*KEYS, "tokens"):
            kept = {one.counter.instance_id: one.own[key] for one in self.ones if one.own[key]}
            assert await validator.slices(key) == kept, key
            assert (await validator.get(key)).cumulative == sum(kept.values())


@pytest.mark.parametrize("part", range(4))
async def test_any_error_in_place_of_any_answer_leaves_all_counts_exact(
    part: int, autojump_clock: MockClock
) -> None:
    struck: BufferedKey[type[Request]] = BufferedKey()
    errors = 0
    for seed in range(part, 60, 4):
        random.seed(seed)
        trio._core._run._r.seed(seed)  # in which order tasks run
        story = Story(seed)
        try:
            with trio.fail_after(10_000):
                await story.run(40)
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
        struck += story.struck
        errors += story.errors
    assert errors > 50
    assert all(struck[kind] for kind in {Apply, Resume, Query}), struck


@pytest.mark.parametrize("executed", [True, False], ids=["executed", "not executed"])
@pytest.mark.parametrize("error", ERRORS, ids=str)
@pytest.mark.parametrize("kind", [Peek, Open, Load])
async def test_an_error_while_it_opens_fails_the_start_and_leaves_nothing_behind(
    kind: type[Request], error: StoreError, executed: bool, autojump_clock: MockClock
) -> None:
    store = MemoryStore()
    network = FaultyStore(store)
    first = StrictInstanceAwareCounter.open(
        "p", store, instance_id="i", on_exit="linger", dead_instance_threshold=THRESHOLD
    )
    async with first as predecessor:
        await predecessor.inc("k", 5)
    times = 3 if type(error) is StoreUnavailableError else 1  # it may be only a connection's end
    network.answer(error, times, executed=executed, when=of_kind(kind))

    def again() -> object:
        return StrictInstanceAwareCounter.open(
            "p", network, instance_id="i", inherit=True, dead_instance_threshold=THRESHOLD
        )

    with pytest.raises(type(error), match=str(error)):
        async with again():  # type: ignore[attr-defined]
            pytest.fail("it started")
    async with again() as counter:  # type: ignore[attr-defined]
        assert await counter.inc("k", 1) == (6, 6)
    async with StrictInstanceAwareCounter.open("p", store) as other:
        assert await other.get("k") == (0, 0)


@pytest.mark.parametrize("executed", [True, False], ids=["executed", "not executed"])
@pytest.mark.parametrize("error", ERRORS, ids=str)
async def test_an_error_while_it_leaves_leaves_nothing_behind_for_long(
    error: StoreError, executed: bool, autojump_clock: MockClock
) -> None:
    store = MemoryStore()
    network = FaultyStore(store)
    async with StrictInstanceAwareCounter.open(
        "p", store, dead_instance_threshold=THRESHOLD
    ) as other:
        for kind in (StrictInstanceAwareCounter, LaxInstanceAwareCounter):
            async with kind.open("p", network, dead_instance_threshold=THRESHOLD) as counter:
                await counter.inc("k", 3)
                if isinstance(counter, LaxInstanceAwareCounter):
                    await counter.flush()
                network.answer(error, executed=executed)
            await trio.sleep(2 * THRESHOLD)
            assert await other.slices("k") == {}
            assert await other.get("k") == (0, 0)
