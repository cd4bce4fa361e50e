"""`watch` and `wait_until`: the current value first, then whatever it becomes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from itertools import pairwise
from typing import Any, cast

import pytest
import trio
import trio.testing

from distkit_actors import (
    CounterClosedError,
    CounterValue,
    Eq,
    Ge,
    InstanceConflictError,
    InvalidKeyError,
    LaxInstanceAwareCounter,
    MemoryStore,
    Store,
    StoreError,
    StoreUnavailableError,
    StrictInstanceAwareCounter,
)
from distkit_actors._actor._watches import Watcher, Watches
from distkit_actors._protocol._messages import Apply, Request, Watch
from distkit_actors._stores._contract import Link, Subscription
from tests.behaviour.world import Flavour, World, both_flavours, everywhere, on_both

Values = trio.abc.ReceiveChannel[CounterValue]


async def until(values: Values, wanted: tuple[int, int]) -> list[tuple[int, int]]:
    """Receive until a value comes, and return all that came."""
    seen: list[tuple[int, int]] = []
    with trio.fail_after(5):
        while wanted not in seen:
            seen.append(await values.receive())
    return seen


@asynccontextmanager
async def watching(counter: Any, key: str = "k", **options: Any) -> AsyncIterator[Values]:
    """Watch, and fail rather than hang."""
    with trio.fail_after(60):
        async with counter.watch(key, **options) as values:
            yield values


async def test_who_begins_to_watch_is_not_told_what_was_read_before(world: World) -> None:
    """The answer was lost, and comes after an outage in which the key has changed."""
    a, b = await world.strict(), await world.strict()
    async with trio.open_nursery() as nursery, watching(a) as values:
        assert await values.receive() == (0, 0)
        nursery.start_soon(b.inc, "k")
        async with world.reply_lost(a, lambda r: isinstance(r, Apply) and bool(r.entries)):
            await b.set("k", 100)
            found: list[CounterValue] = []

            async def wait() -> None:
                found.append(await a.wait_until("k", Eq(1)))

            nursery.start_soon(wait)
            await trio.sleep(3)
        while await values.receive() != (100, 0):
            pass
        await world.intervals(1)
        assert not found
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("how", ["get", "get_all", "inc", "watch"])
async def test_no_value_is_made_of_two_moments(
    how: str, autojump_clock: trio.testing.MockClock
) -> None:
    """Somebody's move is heard of after the answer has come, and before the caller runs."""
    store = MemoryStore()
    async with (
        LaxInstanceAwareCounter.open("p", store) as a,
        StrictInstanceAwareCounter.open("p", store) as b,
    ):
        for number in range(100):
            key = f"k{number}"
            await b.inc(key, 7)
            await a.set_on_instance(key, 3)
            await a.flush()
            await trio.sleep(1)
            found: list[tuple[int, int]] = []

            async def ask(key: str = key, found: list[tuple[int, int]] = found) -> None:
                match how:
                    case "get":
                        found.append(await a.get(key))
                    case "get_all":
                        found.append((await a.get_all([key]))[key])
                    case "inc":
                        found.append(await a.inc(key))
                    case _:
                        async with a.watch(key) as values:
                            found.append(await values.receive())

            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask)
                for _ in range(number % 10):
                    await trio.lowlevel.checkpoint()
                nursery.start_soon(a.strict.get_all, ["x"])
                nursery.start_soon(a.strict.get, "y")
                nursery.start_soon(b.set, key, 0)
            assert found[0] in ([(11, 4), (1, 1)] if how == "inc" else [(10, 3), (0, 0)])


async def test_a_subscription_that_is_lost_at_once_is_made_less_and_less_often(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = await world.strict()
    made = 0

    class Lost(Subscription):
        async def connect(self) -> None:
            nonlocal made
            made += 1
            await trio.lowlevel.checkpoint()

        async def wait(self) -> frozenset[str] | None:
            await trio.lowlevel.checkpoint()
            raise StoreUnavailableError("the connection was closed")

    @asynccontextmanager
    async def subscribe(_: str) -> AsyncIterator[Subscription]:
        yield Lost()

    monkeypatch.setattr(a._actor.parts[0].watches._store, "subscribe", subscribe)
    async with watching(a) as values:
        assert await values.receive() == (0, 0)
        await trio.sleep(30)
    assert 10 < made < 40


@pytest.mark.parametrize("partitions", [1, 4])
async def test_after_a_crash_watches_end_with_what_has_crashed(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock, partitions: int
) -> None:
    """Also those in other parts than the one that has crashed."""

    def bug(*_: object) -> None:
        raise RuntimeError("a bug")

    async def ended(counter: StrictInstanceAwareCounter) -> None:
        async with counter.watch("k") as values:
            assert await values.receive() == (0, 0)
            here = counter._actor.of("k")
            others = [part for part in counter._actor.parts if part is not here]
            monkeypatch.setattr((others or [here])[0]._session, "receive", bug)
            with trio.CancelScope(shield=True):
                await values.receive()

    async def crash() -> None:
        store = MemoryStore(partitions=partitions)
        async with StrictInstanceAwareCounter.open("p", store) as counter:
            with pytest.raises(CounterClosedError, match="a bug") as raised:
                await ended(counter)
            assert raised.value.__cause__ is not None
            await trio.sleep_forever()

    with pytest.raises(RuntimeError, match="a bug"):
        await crash()


@everywhere
async def test_the_current_value_comes_first(world: World, flavour: Flavour) -> None:
    a, b = await world.make(flavour), await world.strict()
    await b.inc("k", 3)
    async with watching(a) as values:
        assert await values.receive() == (3, 0)
    async with watching(a, "never counted") as values:
        assert await values.receive() == (0, 0)


@everywhere
async def test_own_and_others_changes_come(world: World, flavour: Flavour) -> None:
    a, b = await world.make(flavour), await world.strict()
    async with watching(a) as values:
        await until(values, (0, 0))
        await b.inc("k", 3)
        await until(values, (3, 0))
        await a.inc("k", 2)
        await until(values, (5, 2))
        await b.set("k", 7)
        await until(values, (7, 0))
        await b.delete("k")
        await until(values, (0, 0))
        await a.inc_all({"k": 4, "j": 1})
        await until(values, (4, 4))
        await b.clear()
        await until(values, (0, 0))


@on_both
async def test_death_and_return_come(world: World) -> None:
    """What a dead instance counted goes, and comes back with it."""
    a, b = await world.strict(), await world.strict()
    await b.inc("k", 3)
    async with watching(a) as values:
        await until(values, (3, 0))
        world.wire(b).cut()
        with trio.fail_after(10 * world.threshold):
            assert await values.receive() == (0, 0)
        world.heal(b)
        with trio.fail_after(10 * world.threshold):
            assert await values.receive() == (3, 0)


@on_both
async def test_leaving_and_forgetting_come(world: World) -> None:
    a, b, c = [await world.strict() for _ in range(3)]
    await b.inc("k", 3)
    await c.inc("k", 4)
    async with watching(a) as values:
        await until(values, (7, 0))
        await b.aclose()
        await until(values, (4, 0))
        await a.forget(c.instance_id)
        assert (0, 0) in await until(values, (0, 0))


@on_both
async def test_the_latest_wins_for_a_slow_reader(world: World) -> None:
    a, b = await world.strict(), await world.strict()
    async with watching(a) as values:
        await until(values, (0, 0))
        for _ in range(20):
            await b.inc("k")
            await trio.sleep(0.005)
        await trio.sleep(0.2)
        assert await values.receive() == (20, 0)
        await b.inc("k")
        assert await values.receive() == (21, 0)


@on_both
async def test_what_is_as_it_was_does_not_come(world: World) -> None:
    """A value that changed and changed back before it was received is no news."""
    a, b = await world.strict(), await world.strict()
    async with watching(a) as values:
        await until(values, (0, 0))
        await b.inc("k")
        await trio.sleep(0.1)
        await b.dec("k")
        await trio.sleep(0.1)
        with trio.move_on_after(0.3):
            pytest.fail(f"{await values.receive()} is no news")


@on_both
async def test_changes_close_together_are_read_once_in_a_lag(world: World) -> None:
    a, b = await world.strict(), await world.strict()
    async with watching(a, allowed_lag=0.2) as values:
        await until(values, (0, 0))
        await trio.sleep(0.5)
        before, began = len(reads(world, a)), trio.current_time()
        for _ in range(20):
            await b.inc("k")
            await trio.sleep(0.01)
        await until(values, (20, 0))
        assert len(reads(world, a)) - before <= (trio.current_time() - began) / 0.2 + 2


def reads(world: World, counter: Any) -> list[Request]:
    """Return the requests of a counter that read the key."""
    return [r for r in world.wire(counter).requests if isinstance(r, Apply) and r.entries]


@both_flavours
async def test_word_is_enough(world: World, flavour: Flavour) -> None:
    """A change is known at once, not only with the slow poll."""
    a, b = await world.make(flavour), await world.strict()
    async with watching(a, allowed_lag=0.02) as values:
        await until(values, (0, 0))
        for number in range(1, 6):
            await trio.sleep(0.31)
            began = trio.current_time()
            await b.inc("k")
            await until(values, (number, 0))
            assert trio.current_time() - began <= 0.02


async def test_without_a_watcher_nothing_wakes_up(world: World) -> None:
    """Watching costs while it lasts, and nothing before and after."""
    a = await world.strict()

    async def requests_of_a_while() -> int:
        before = len(world.wire(a).requests)
        await trio.sleep(10 * a._actor._liveness.period + 0.01)
        return len(world.wire(a).requests) - before

    quiet = await requests_of_a_while()
    async with watching(a) as values:
        await until(values, (0, 0))
        assert await requests_of_a_while() > quiet
        assert any(isinstance(request, Watch) for request in world.wire(a).requests)
    await trio.sleep(1)
    assert await requests_of_a_while() <= quiet + 1


@on_both
async def test_many_watch_one_counter(world: World) -> None:
    """Each gets every value it is in time for; one that goes disturbs nobody."""
    a, b = await world.strict(), await world.strict()
    async with watching(a) as first, watching(a) as second, watching(a, "j") as other:
        for values in (first, second, other):
            await until(values, (0, 0))
        async with watching(a) as third:
            await until(third, (0, 0))
        await b.inc("k")
        await until(first, (1, 0))
        await until(second, (1, 0))
        await b.inc("j", 2)
        await until(other, (2, 0))


@everywhere
async def test_an_outage_is_sat_out(world: World, flavour: Flavour) -> None:
    """No values while the store is away; then the one that is."""
    a, b = await world.make(flavour), await world.strict()
    async with watching(a) as values:
        await until(values, (0, 0))
        world.wire(a).cut()
        await b.inc("k", 3)
        with trio.move_on_after(world.interval):
            pytest.fail(f"{await values.receive()} from a store that is away")
        world.heal(a)
        await until(values, (3, 0))
        await b.inc("k")
        await until(values, (4, 0))


@on_both
async def test_a_wiped_store_is_read_again(world: World) -> None:
    """The store forgets that somebody watches: the slow poll tells it again."""
    a, b = await world.strict(), await world.strict()
    await b.inc("k", 3)
    async with watching(a) as values:
        await until(values, (3, 0))
        await world.backend.wipe(world.prefix)
        await b.inc("k", 1)
        await until(values, (4, 0))


class Mute(Store):
    """A store that cannot push."""

    def __init__(self) -> None:
        self.inner = MemoryStore()

    def link(self, prefix: str) -> AbstractAsyncContextManager[Link]:
        return self.inner.link(prefix)


async def test_a_store_that_cannot_push_is_polled(autojump_clock: trio.testing.MockClock) -> None:
    store = Mute()
    async with (
        StrictInstanceAwareCounter.open("p", store) as a,
        StrictInstanceAwareCounter.open("p", store) as b,
        watching(a, allowed_lag=0.05) as values,
    ):
        await until(values, (0, 0))
        for number in range(1, 4):
            await trio.sleep(0.31)
            began = trio.current_time()
            await b.inc("k")
            await until(values, (number, 0))
            assert trio.current_time() - began <= 0.06


async def test_a_refusal_that_has_passed_costs_nothing_more(world: World) -> None:
    """Whoever was refused once asks for notice of changes again, and need not read all the time."""
    a, b = await world.strict(), await world.strict()
    wire = world.wire(a)
    wire.refuse(StoreError("out of memory"))
    async with watching(a) as values:
        await trio.sleep(0.1)
        wire.refuse(None)
        await until(values, (0, 0))
        await trio.sleep(5)
        before = wire.counts["requests"]
        await trio.sleep(10)
        polls = 2 * 10 / 2.0
        assert wire.counts["requests"] - before <= polls + 10 / a._actor._liveness.period + 2
        began = trio.current_time()
        await b.inc("k")
        await until(values, (1, 0))
        assert trio.current_time() - began <= 0.02


# ------------------------------------------------------------------ one and the others


@pytest.mark.parametrize("pushes", [True, False])
async def test_one_watchers_pace_slows_no_other(
    pushes: bool, fresh_prefix: str, autojump_clock: trio.testing.MockClock
) -> None:
    """Neither that of another key, nor of the same, nor one that comes while it rests."""
    store = MemoryStore() if pushes else Mute()
    async with (
        StrictInstanceAwareCounter.open(fresh_prefix, store) as a,
        StrictInstanceAwareCounter.open(fresh_prefix, store) as b,
        watching(a, "k", allowed_lag=30) as patient,
        watching(a, "j", allowed_lag=0.02) as other,
    ):
        await until(patient, (0, 0))
        await until(other, (0, 0))
        for number in range(1, 5):
            began = trio.current_time()
            await b.inc_all({"k": 1, "j": 1})
            await until(other, (number, 0))
            assert await a.wait_until("k", Ge(number)) == (number, 0)
            async with watching(a, "k") as same:
                assert await same.receive() == (number, 0)
            assert trio.current_time() - began <= 0.021
            await trio.sleep(3)
        # It gets what others have had read, and by itself no more often than it wants.
        assert await patient.receive() == (4, 0)


async def test_a_patient_watcher_is_read_as_seldom_as_it_wants(world: World) -> None:
    a, b = await world.strict(), await world.strict()
    async with watching(a, allowed_lag=10) as values:
        await until(values, (0, 0))
        before, began = len(reads(world, a)), trio.current_time()
        for _ in range(45):
            await b.inc("k")
            await trio.sleep(1)
        assert len(reads(world, a)) - before <= (trio.current_time() - began) / 10 + 1
        assert (await values.receive())[0] >= 35


@pytest.mark.parametrize("times", [1, 2, 3])
@pytest.mark.parametrize("keys", [("k",), ("k", "j")], ids=["one", "two"])
async def test_a_watch_left_at_once_leaves_nothing(
    world: World, keys: tuple[str, ...], times: int
) -> None:
    """Whoever is gone before anybody woke up for him was never there.

    Entering is a checkpoint, in which those who read for a watch before wake up. The watch that
    is entered ends them when it is left. After the only one nobody would.
    """
    a = await world.strict()
    await world.settle()
    for _ in range(times):
        async with AsyncExitStack() as stack:
            for key in keys:
                await stack.enter_async_context(a.watch(key))
    before = len(world.wire(a).requests)
    await trio.sleep(10 * a._actor._liveness.period + 0.01)
    assert len(world.wire(a).requests) - before <= 11
    assert not any(isinstance(request, Watch) for request in world.wire(a).requests)


async def test_a_watch_entered_as_another_is_left_has_its_value_at_once(world: World) -> None:
    a, b = await world.strict(), await world.strict()
    for number in range(20):
        began = trio.current_time()
        async with watching(a) as values:
            for _ in range(number % 5):  # to be left at different stages
                await trio.lowlevel.checkpoint()
            if number % 2:
                assert await values.receive() == (number, 0)
            assert trio.current_time() - began <= 0.02
        await b.inc("k")


async def test_a_value_that_comes_and_goes_is_received_or_not() -> None:
    """Whatever happens while a reader waits for its turn."""
    here, gone = CounterValue(1, 1), CounterValue(0, 0)
    watcher = Watcher(cast("Watches", None), "k", 0.02, 1)
    received: list[CounterValue] = []

    async def reader() -> None:
        nonlocal received
        async for value in watcher:
            received += [value]

    async with trio.open_nursery() as nursery:
        nursery.start_soon(reader)
        for turns in range(40):
            watcher.tell(gone)
            await trio.testing.wait_all_tasks_blocked()
            assert received[-1] == gone
            watcher.tell(here)
            for _ in range(turns % 4):
                await trio.lowlevel.checkpoint()
        watcher.tell(here)
        await trio.testing.wait_all_tasks_blocked()
        watcher.end(None)
    assert received[-1] == here
    assert all(one != other for one, other in pairwise(received))


async def test_two_tasks_do_not_share_a_channel(world: World) -> None:
    """Each would miss what the other gets."""
    a, b = await world.strict(), await world.strict()
    async with watching(a) as values:
        await until(values, (0, 0))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(until, values, (1, 0))
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(trio.BusyResourceError):
                await values.receive()
            await b.inc("k")
        await b.inc("k")
        assert await values.receive() == (2, 0)


# ------------------------------------------------------------------------------- ends


@everywhere
async def test_values_end_with_the_counter(world: World, flavour: Flavour) -> None:
    a = await world.make(flavour)
    async with trio.open_nursery() as nursery, watching(a) as values:
        nursery.start_soon(a.aclose)
        seen = [value async for value in values]
    assert len(seen) <= 1
    with pytest.raises(CounterClosedError):
        async with a.watch("k"):
            pytest.fail("a closed counter is watched")


async def test_a_takeover_is_raised(world: World) -> None:
    a = await world.strict(instance_id="same")
    world.tolerate(a)
    async with watching(a) as values:
        await until(values, (0, 0))
        await world.strict(instance_id="same")
        with pytest.raises(InstanceConflictError):
            await a.inc("k")
        with pytest.raises(InstanceConflictError):
            await values.receive()


async def test_a_closed_channel_says_so(world: World) -> None:
    a = await world.strict()
    async with watching(a) as values, trio.open_nursery() as nursery:
        await until(values, (0, 0))

        async def reader() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await values.receive()

        nursery.start_soon(reader)
        await trio.sleep(0.1)
        await values.aclose()
        await values.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await values.receive()


async def test_cancelling_a_receive_loses_nothing(world: World) -> None:
    a, b = await world.strict(), await world.strict()
    async with watching(a) as values:
        await until(values, (0, 0))
        with trio.move_on_after(0.1):
            await values.receive()
        await b.inc("k")
        await trio.sleep(0.1)
        with trio.CancelScope() as scope:
            scope.cancel()
            await values.receive()
        assert scope.cancelled_caught
        assert await values.receive() == (1, 0)


@on_both
async def test_bad_input(world: World) -> None:
    a = await world.strict()
    with pytest.raises(InvalidKeyError):
        a.watch("")
    with pytest.raises(ValueError, match="allowed_lag"):
        a.watch("k", allowed_lag=0)
    with pytest.raises(TypeError, match="condition"):
        await a.wait_until("k", 3)  # type: ignore[arg-type]


# ------------------------------------------------------------------------- wait_until


@everywhere
async def test_wait_until(world: World, flavour: Flavour) -> None:
    a, b = await world.make(flavour), await world.strict()
    assert await a.wait_until("k", Ge(0)) == (0, 0)
    found = []

    async def wait() -> None:
        found.append(await a.wait_until("k", Ge(5)))

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await trio.sleep(0.1)
            await b.inc("k", 4)
            await trio.sleep(0.1)
            assert not found
            await b.inc("k")
    assert found == [(5, 0)]


async def test_wait_until_ends_with_the_counter(world: World) -> None:
    a = await world.strict()

    async def wait() -> None:
        with pytest.raises(CounterClosedError):
            await a.wait_until("k", Ge(5))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.sleep(0.1)
        await a.aclose()


async def test_a_key_is_read_at_the_pace_of_the_most_impatient_who_is_left(world: World) -> None:
    a, b = await world.strict(), await world.strict()
    patient = a.watch("k", allowed_lag=5.0)
    async with patient as slow:
        await slow.receive()
        quick = [a.watch("k", allowed_lag=0.01) for _ in range(3)]
        for one in quick:
            await (await one.__aenter__()).receive()
        watches = a._actor.parts[0].watches
        for one in quick:
            assert watches._lags == {"k": 0.01}
            await one.__aexit__(None, None, None)
            await one.__aexit__(None, None, None)  # which changes nothing
        assert watches._lags == {"k": 5.0}
        await b.inc("k")
        with trio.fail_after(10):
            assert await slow.receive() == (1, 0)
    assert watches._lags == watches._impatience == {}


@both_flavours
async def test_a_store_that_refuses_is_not_asked_all_the_time(
    world: World, flavour: Flavour
) -> None:
    """A full disk has it refuse all that writes, and each refusal may end the connection."""
    a, b = await world.make(flavour), await world.strict()
    wire = world.wire(a)
    wire.refuse(StoreError("MISCONF"))
    async with a.watch("k") as channel:
        await trio.sleep(5)
        before = wire.counts["requests"]
        await trio.sleep(60)
        assert 60 / world.interval <= wire.counts["requests"] - before < 3 * 60
        wire.refuse(None)
        await b.inc("k")
        with trio.fail_after(world.interval + 4):
            assert await channel.receive() == (1, 0)
