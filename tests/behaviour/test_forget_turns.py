"""While a counter forgets an instance with very many slices, all else gets its turns (P41, I14)."""

# ruff: noqa: SIM300 - expected == actual, all through

from __future__ import annotations

from itertools import groupby
from typing import Any

import pytest
import trio

from distkit_actors import (
    Fleet,
    FleetLimiter,
    InstanceConflictError,
    LaxInstanceAwareCounter,
    MemoryStore,
    OutcomeUnknownError,
    StoreError,
    StoreUnavailableError,
)
from distkit_actors._namespace import _entries
from distkit_actors._protocol._messages import Apply, Kind, Request
from tests.behaviour.world import (
    MAX,
    MEMORY,
    Backend,
    Counter,
    Flavour,
    MemoryBackend,
    World,
    both_flavours,
    outcome,
)

#: Seconds between a request and its answer.
TRIP = 0.05
#: Slices of the one who is forgotten: a step takes a hundred, and some more as every batch does.
SLICES = 3000


@pytest.fixture(autouse=True)
def _small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_entries, "MAX_PURGE", 100)


class Forgetting:
    """A counter that has begun to forget another one, and is at it for more than twenty trips."""

    def __init__(self, world: World, counter: Counter) -> None:
        self.world = world
        self.counter: Any = counter
        self.strict = counter.strict if isinstance(counter, LaxInstanceAwareCounter) else counter
        self.ended: list[object] = []
        self.caller = trio.CancelScope()
        self._other = ""
        self._first = 0

    async def begin(self, nursery: trio.Nursery, *, trip: float = TRIP) -> None:
        """Let the first step be on its way."""
        world, counter = self.world, self.counter
        other = await world.strict()
        for start in range(0, SLICES, 1000):
            await other.inc_all({f"key-{start + n}": 1 for n in range(1000)})
        world.wire(other).cut()
        await counter.get("known")
        await world.settle(counter)
        self._other, self._first = other.instance_id, len(world.requests(counter))
        world.wire(counter).delay(trip)
        nursery.start_soon(self._forget)
        await trio.sleep(trip / 2)

    async def _forget(self) -> None:
        with self.caller:
            self.ended.append(await outcome(lambda: self.counter.forget(self._other)))

    @property
    def left(self) -> int:
        """How many slices of the other one are left."""
        return len(self.world.registry.records[self._other].slices)

    def sent(self) -> list[str]:
        """What each batch since then was for: "step", "inc" or "beat" are those that matter."""
        requests = self.world.requests(self.counter)[self._first :]
        return [purpose(request) for request in requests if isinstance(request, Apply)]


def purpose(request: Apply) -> str:
    if not request.entries:
        return "beat"
    if request.atomic:
        return "several"
    return "step" if request.entries[0].kind is Kind.FORGET else "inc"


def is_step(request: Request) -> bool:
    return isinstance(request, Apply) and purpose(request) == "step"


def is_inc(request: Request) -> bool:
    return isinstance(request, Apply) and purpose(request) == "inc"


@both_flavours
async def test_i14_single_operations_take_turns_with_the_steps_of_a_forget(
    world: World, flavour: Flavour
) -> None:
    forgetting = Forgetting(world, await world.make(flavour))
    async with trio.open_nursery() as nursery:
        await forgetting.begin(nursery)
        for number in range(1, 6):
            with trio.fail_after(3 * TRIP):  # for the step on its way, and one more
                assert (number, number) == await forgetting.strict.inc("mine")
        assert forgetting.left
    assert [None] == forgetting.ended
    assert 0 == forgetting.left
    sent = forgetting.sent()
    assert ["step", "inc"] * 5 == sent[:10]
    assert "inc" not in sent[10:]


async def test_i14_those_who_call_again_and_again_leave_a_forget_every_second_trip(
    world: World,
) -> None:
    forgetting = Forgetting(world, await world.strict())

    async def go_on(key: str) -> None:
        while not forgetting.ended:
            await forgetting.counter.inc(key)

    async with trio.open_nursery() as nursery:
        await forgetting.begin(nursery)
        for number in range(100):
            nursery.start_soon(go_on, f"mine-{number}")
    sent = [each for each in forgetting.sent() if each != "beat"]
    last = len(sent) - sent[::-1].index("step")
    assert 40 < last
    assert {1} == {len(list(group)) for _, group in groupby(sent[:last])}


async def test_i14_lax_counts_go_out_between_the_steps_of_a_forget(world: World) -> None:
    forgetting = Forgetting(world, await world.lax())
    counter, sums = forgetting.counter, world.registry.sums
    async with trio.open_nursery() as nursery:
        await forgetting.begin(nursery)
        counter.inc_nowait("mine", 5)
        with trio.fail_after(3 * TRIP):
            await counter.flush()
        assert 5 == sums["mine"]
        counter.inc_nowait("yours", 7)
        with trio.fail_after(5 * TRIP):  # without anybody who waits for it
            while "yours" not in sums:  # noqa: ASYNC110 - the store sets no event
                await trio.sleep(TRIP / 5)
        with trio.fail_after(7 * TRIP):  # the counts go first, then the operation
            counter.inc_nowait("mine", 1)
            assert (8, 8) == await forgetting.strict.inc("mine", 2)
        assert forgetting.left
    assert [None] == forgetting.ended


@both_flavours
async def test_i14_ended_holds_and_returned_tokens_go_out_between_the_steps_of_a_forget(
    world: World, flavour: Flavour
) -> None:
    forgetting = Forgetting(world, await world.make(flavour))
    counter, sums = forgetting.counter, world.registry.sums
    limiter = FleetLimiter(forgetting.strict, "tokens", 3)
    async with trio.open_nursery() as nursery:
        async with counter.hold("held"), limiter:
            await forgetting.begin(nursery)
        with trio.fail_after(6 * TRIP):
            while sums.get("held") or sums.get("tokens"):  # noqa: ASYNC110 - as above
                await trio.sleep(TRIP / 5)
        assert forgetting.left
    assert [None] == forgetting.ended


async def test_i14_what_had_no_room_is_tried_again_between_the_steps_of_a_forget(
    world: World,
) -> None:
    a, b = await world.strict(), await world.strict()
    await world.leave_no_room(a, b)
    forgetting = Forgetting(world, a)
    async with trio.open_nursery() as nursery:
        await forgetting.begin(nursery, trip=1)
        await b.dec("k", 10)
        await b.aclose()  # it would take away most of what is left
        await trio.sleep(world.interval + 4)
        assert 0 == a.statistics().withheld_slices
        assert forgetting.left
    assert [None] == forgetting.ended
    assert (MAX, MAX) == await a.get("k")


@both_flavours
async def test_what_is_exclusive_comes_after_a_forget_and_what_is_behind_it_too(
    world: World, flavour: Flavour
) -> None:
    forgetting = Forgetting(world, await world.make(flavour))
    strict, done = forgetting.strict, list[str]()

    async def ask(what: str) -> None:
        match what:
            case "several":
                await strict.inc_all({"one": 1, "two": 1})
            case "query":
                assert len(await forgetting.counter.instances()) == 1
            case _:
                await strict.inc(what)
        done.append(what)

    async with trio.open_nursery() as nursery:
        await forgetting.begin(nursery)
        for what in ("before", "several", "behind", "query"):
            nursery.start_soon(ask, what)
            await trio.sleep(TRIP / 20)
        await trio.sleep(4 * TRIP)
        assert ["before"] == done
        assert forgetting.left
    assert ["before", "several", "behind", "query"] == done
    sent = forgetting.sent()
    assert ["step", "inc", "step"] == sent[:3]
    assert "inc" not in sent[3 : sent.index("several")]
    assert "step" not in sent[sent.index("several") :]


async def test_a_forget_whose_caller_was_cancelled_takes_turns_to_its_end(world: World) -> None:
    forgetting = Forgetting(world, await world.strict())
    async with trio.open_nursery() as nursery:
        await forgetting.begin(nursery)
        await trio.sleep(2 * TRIP)
        forgetting.caller.cancel()
        for number in range(1, 4):
            with trio.fail_after(3 * TRIP):
                assert (number, number) == await forgetting.counter.inc("mine")
        assert forgetting.left
        await trio.sleep(50 * TRIP)
    assert [] == forgetting.ended
    assert 0 == forgetting.left
    assert (4, 4) == await forgetting.counter.inc("mine")


@pytest.mark.parametrize("doubt", [False, True])
async def test_a_single_operation_that_is_refused_in_its_turn_ends_the_forget(
    world: World, doubt: bool
) -> None:
    """Called again, the forget goes on.

    If the operation is in doubt it goes on, too, but nobody knows when.
    """
    forgetting = Forgetting(world, await world.strict())
    a, errors = forgetting.counter, list[StoreError]()

    async def forget() -> None:
        try:
            await a.forget(forgetting._other)
        except StoreError as error:
            errors.append(error)

    forgetting._forget = forget  # type: ignore[method-assign]
    async with trio.open_nursery() as nursery:
        await forgetting.begin(nursery)
        if doubt:
            world.wire(a).drop_reply(when=is_inc)
        world.wire(a).answer(StoreError("out of memory"), executed=False, when=is_inc)
        if doubt:
            assert (1, 1) == await a.inc("mine")
        else:
            with pytest.raises(StoreError, match="out of memory") as caught:
                await a.inc("mine")
            assert not hasattr(caught.value, "__notes__")
    assert ["some of its steps have taken effect; called again, it goes on"] == errors[0].__notes__
    assert ["step", *doubt * ["inc", "inc"]] == forgetting.sent()
    assert forgetting.left
    await a.forget(forgetting._other)
    assert 0 == forgetting.left
    assert (1 + doubt, 1 + doubt) == await a.inc("mine")


@both_flavours
@pytest.mark.parametrize("lost", ["request", "reply"])
async def test_a_forget_goes_on_after_what_was_lost_in_its_turn_or_between(
    world: World, flavour: Flavour, lost: str
) -> None:
    forgetting = Forgetting(world, await world.make(flavour))
    wire = world.wire(forgetting.counter)
    async with trio.open_nursery() as nursery:
        await forgetting.begin(nursery)
        for when in (is_inc, is_step, is_inc):
            (wire.drop_request if lost == "request" else wire.drop_reply)(when=when)
        for number in range(1, 6):
            assert (number, number) == await forgetting.strict.inc("mine")
        assert forgetting.left
    assert [None] == forgetting.ended
    assert 0 == forgetting.left


@both_flavours
@pytest.mark.parametrize("when", [is_step, is_inc])
async def test_a_forget_goes_on_where_its_own_counter_was_taken_for_dead(
    world: World, flavour: Flavour, when: Any
) -> None:
    """The batch that finds out is sent again after the return: a step, or what is between."""
    forgetting = Forgetting(world, await world.make(flavour))
    strict, wire = forgetting.strict, world.wire(forgetting.counter)
    await strict.inc("mine")
    async with trio.open_nursery() as nursery:
        await forgetting.begin(nursery)
        await strict.inc("mine")
        nursery.start_soon(strict.inc, "mine")
        with trio.fail_after(4 * TRIP):
            while not when(world.requests(forgetting.counter)[-1]):  # noqa: ASYNC110 - as above
                await trio.sleep(TRIP / 10)
        wire.hold()
        await trio.sleep(2 * TRIP)
        async with Fleet.open(world.prefix, world.backend.store()) as fleet:
            await fleet.forget(forgetting.counter.instance_id)
        wire.release()
        with trio.fail_after(10 * TRIP):
            assert (4, 4) == await strict.inc("mine")
        assert forgetting.left
    assert [None] == forgetting.ended
    assert 0 == forgetting.left
    assert (4, 4) == await strict.get("mine")


@both_flavours
async def test_a_counter_that_is_superseded_between_two_steps_fails_both(
    world: World, flavour: Flavour
) -> None:
    forgetting = Forgetting(world, await world.make(flavour, instance_id="job"))
    world.tolerate(forgetting.counter)
    found: list[object] = []
    async with trio.open_nursery() as nursery:
        await forgetting.begin(nursery)

        async def inc() -> None:
            found.append(await outcome(lambda: forgetting.strict.inc("mine")))

        nursery.start_soon(inc)
        await trio.sleep(TRIP)  # now it is on its way
        await world.strict(instance_id="job")
    assert [InstanceConflictError] == found == forgetting.ended
    assert "step" == forgetting.sent()[0]
    assert "superseded" == forgetting.counter.statistics().state


async def test_a_stop_sends_what_was_counted_though_there_is_no_time_for_all_of_a_forget(
    world: World,
) -> None:
    a = await world.lax(on_exit="linger", exit_grace=10 * TRIP)
    world.tolerate(a)
    forgetting = Forgetting(world, a)
    async with trio.open_nursery() as nursery:
        await forgetting.begin(nursery)
        a.inc_nowait("mine", 5)
        with pytest.raises(StoreUnavailableError, match="1 counts or operations"):
            await a.aclose()
    assert [OutcomeUnknownError] == forgetting.ended
    assert 5 == world.registry.sums["mine"]
    assert forgetting.left


async def test_a_stop_waits_for_the_end_of_a_forget(world: World) -> None:
    a = await world.lax(exit_grace=100 * TRIP)
    forgetting = Forgetting(world, a)
    async with trio.open_nursery() as nursery:
        await forgetting.begin(nursery)
        a.inc_nowait("mine", 5)
        await a.aclose()
    assert [None] == forgetting.ended
    assert 0 == forgetting.left
    assert {} == world.registry.sums


class InParts(MemoryBackend):
    """A store that spreads a namespace over two parts."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = MemoryStore(partitions=2)


class TestInParts:
    """The same, where each part has its own share of the forget."""

    @pytest.fixture(params=[MEMORY])
    def backend(self) -> Backend:
        return InParts()

    @both_flavours
    async def test_i14_each_part_takes_its_turns(self, world: World, flavour: Flavour) -> None:
        forgetting = Forgetting(world, await world.make(flavour))
        async with trio.open_nursery() as nursery:
            await forgetting.begin(nursery)
            for number in range(1, 3):
                for key in ("k0", "k1", "k2"):
                    with trio.fail_after(3 * TRIP):
                        assert (number, number) == await forgetting.strict.inc(key)
            assert forgetting.left
        assert [None] == forgetting.ended
        assert [] == [key for key in await forgetting.counter.keys() if key.startswith("key-")]
