"""`Fleet`: a look at all instances by an onlooker."""

# ruff: noqa: SIM300 - expected == actual, all through

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio

from distkit_actors import (
    CounterClosedError,
    CounterValue,
    Eq,
    Fleet,
    Ge,
    InvalidKeyError,
    MemoryStore,
    Store,
    StoreError,
    StoreUnavailableError,
    StrictInstanceAwareCounter,
)
from distkit_actors._protocol._messages import Forget, Query, QueryKind, Request, Watch
from distkit_actors._stores._contract import Link, StoreAwayError, StoreSilentError
from distkit_actors.testing import FaultyStore
from tests.behaviour.test_bad_input import BAD_NAMES
from tests.behaviour.world import MAX, MIN, Tap, World, on_both, on_redis, struck
from tests.harness.logs import events


class Onlooker:
    """A fleet with a network of its own."""

    def __init__(self, fleet: Fleet, wire: FaultyStore, tap: Tap) -> None:
        self.fleet = fleet
        self.wire = wire
        self.tap = tap

    async def alive(self) -> dict[str, bool]:
        return {info.instance_id: info.alive for info in await self.fleet.instances()}

    async def total(self, key: str) -> int:
        value = await self.fleet.get(key)
        assert value.instance_count == 0
        return value.cumulative


@asynccontextmanager
async def looking(world: World) -> AsyncIterator[Onlooker]:
    tap = Tap(world.backend.store())
    wire = FaultyStore(tap)
    async with Fleet.open(world.prefix, wire) as fleet:
        yield Onlooker(fleet, wire, tap)


async def silent(world: World, onlooker: Onlooker, *counters: StrictInstanceAwareCounter) -> None:
    """Wait until they are dead, in the eyes of an onlooker."""

    async def dead() -> bool:
        alive = await onlooker.alive()
        return not any(alive.get(counter.instance_id) for counter in counters)

    await world.until(dead)


# -------------------------------------------------------------------------------- looks


@on_both
async def test_it_sees_what_counters_see_and_is_not_seen(world: World) -> None:
    a, b = await world.strict(instance_id="a"), await world.lax(instance_id="b")
    await a.inc_all({"x": 5, "y": 1, "gone": 2})
    await b.inc_all({"x": -7, "y": -1})
    await a.delete("gone")
    await world.settle()
    async with looking(world) as onlooker:
        fleet = onlooker.fleet
        assert {"a": True, "b": True} == await onlooker.alive()
        assert all(0 <= info.heartbeat_age < world.threshold for info in await fleet.instances())
        assert {"a": 5, "b": -7} == await fleet.slices("x")
        assert {} == await fleet.slices("gone") == await fleet.slices("never")
        assert ["x"] == await fleet.keys()
        assert (-2, 0) == await fleet.get("x")
        assert {"x": (-2, 0), "y": (0, 0), "no": (0, 0)} == await fleet.get_all(["x", "y", "no"])
        assert {} == await fleet.get_all([])
        assert fleet.prefix == world.prefix
        assert ["a", "b"] == [info.instance_id for info in await a.instances()]
        assert world.prefix in await Fleet.prefixes(world.backend.store())
        assert {Query} == {type(request) for request in onlooker.tap.requests}


@on_both
async def test_looking_makes_no_namespace(world: World) -> None:
    async with looking(world) as onlooker:
        fleet = onlooker.fleet
        assert [] == await fleet.instances() == await fleet.keys()
        assert (0, 0) == await fleet.get("k")
        async with fleet.watch("k") as values:
            assert (0, 0) == await values.receive()
        await fleet.forget("nobody")
        assert world.prefix not in await Fleet.prefixes(world.backend.store())
        assert "open" in repr(fleet)
    assert repr(fleet) == f"<Fleet {world.prefix!r}, closed>"


@on_both
async def test_many_keys_are_read_in_steps(world: World) -> None:
    a = await world.strict()
    keys = [f"key-{number:03}" for number in range(250)]
    await a.inc_all(dict.fromkeys(keys, 3))
    async with looking(world) as onlooker:
        assert dict.fromkeys(keys, CounterValue(3, 0)) == await onlooker.fleet.get_all(keys)
        assert keys == await onlooker.fleet.keys()
        assert keys[:100] == list(await onlooker.fleet.get_all(keys[:100]))


async def test_the_ends_of_int64(world: World) -> None:
    a, b = await world.strict(), await world.strict()
    await b.inc("k", MIN)
    await a.inc("k", MAX)
    async with looking(world) as onlooker:
        assert -1 == await onlooker.total("k")
        assert {a.instance_id: MAX, b.instance_id: MIN} == await onlooker.fleet.slices("k")


# --------------------------------------------------------------------------------- death


@on_both
async def test_the_dead_do_not_count_though_nobody_is_left_to_reap_them(world: World) -> None:
    a, b = await world.strict(), await world.strict()
    await a.inc_all({"k": 5, "own": 1})
    await b.set_on_instance("k", 10)
    async with looking(world) as onlooker:
        await world.crash(a)
        await world.crash(b)
        assert 15 == await onlooker.total("k")
        await silent(world, onlooker, a, b)
        assert (0, 0) == await onlooker.fleet.get("k")
        assert [] == await onlooker.fleet.keys()
        assert {} == await onlooker.fleet.slices("k")
        async with looking(world) as late:
            assert {a.instance_id: False, b.instance_id: False} == await late.alive()
            assert 0 == await late.total("own")
        # A member that comes gives them one fresh threshold: that is what it would be told.
        c = await world.strict()
        assert (15, 0) == await c.get("k")


async def test_the_dead_of_a_long_time_ago_are_dead(world: World) -> None:
    a = await world.strict()
    await a.inc("k")
    world.kill(a)
    await trio.sleep(1_000 * world.threshold)
    async with looking(world) as onlooker:
        (info,) = await onlooker.fleet.instances()
        assert not info.alive
        assert info.heartbeat_age > 999 * world.threshold
        assert 0 == await onlooker.total("k")


async def test_what_cannot_go_still_counts(world: World) -> None:
    """I12: as long as the cumulative would leave int64 without it."""
    a, b, c = await world.strict(), await world.strict(), await world.strict()
    await a.inc("k", -10)
    await b.set_on_instance("k", MAX)
    await c.inc("k", 5)
    async with looking(world) as onlooker:
        await world.crash(a)
        await silent(world, onlooker, a)
        assert MAX - 5 == await onlooker.total("k")
        await c.dec("k", 5)
        assert MAX == await onlooker.total("k")


async def test_an_outage_makes_nobody_look_dead(world: World) -> None:
    """I5, for one who looked before, and one threshold of its own time long."""
    a = await world.strict()
    await a.inc("k", 3)
    async with looking(world) as onlooker:
        assert 3 == await onlooker.total("k")
        await world.cut(a)
        onlooker.wire.cut()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(onlooker.total, "k")
            await trio.sleep(10 * world.threshold)
            onlooker.wire.heal()
        assert 3 == await onlooker.total("k")
        assert {a.instance_id: True} == await onlooker.alive()
        async with looking(world) as fresh:
            assert {a.instance_id: False} == await fresh.alive()
        await trio.sleep(world.threshold)
        assert 0 == await onlooker.total("k")
        await world.rejoin(a)
        assert 3 == await onlooker.total("k")


async def test_a_store_that_refuses_everybody_makes_nobody_look_dead(world: World) -> None:
    """It refuses the counter for a beat longer, which then is heard again."""
    a = await world.strict()
    await a.inc("k", 3)
    async with looking(world) as onlooker:
        assert 3 == await onlooker.total("k")
        for wire in (world.wire(a), onlooker.wire):
            wire.refuse(StoreError("no right"))
        await trio.sleep(world.threshold)
        with pytest.raises(StoreError, match="no right"):
            await onlooker.total("k")
        await trio.sleep(2 * world.threshold)
        onlooker.wire.refuse(None)
        assert 3 == await onlooker.total("k")
        with trio.move_on_after(world.interval):
            await onlooker.fleet.wait_until("k", Eq(0))
            pytest.fail("the counter lives")
        world.wire(a).refuse(None)
        await trio.sleep(world.threshold)
        assert 3 == await onlooker.total("k")


async def test_a_look_that_was_refused_before_does_not_hide_an_outage(world: World) -> None:
    """The only questions in the second outage are such that were refused in the first."""
    a = await world.strict()
    await a.inc("k", 3)
    async with looking(world) as onlooker:
        wires = world.wire(a), onlooker.wire
        for pause in (world.interval, world.threshold):
            assert 3 == await onlooker.total("k")
            for wire in wires:
                wire.refuse(StoreError("no right"))
            for _ in range(2):
                await trio.sleep(pause)
                with pytest.raises(StoreError):
                    await onlooker.fleet.instances()
            onlooker.wire.refuse(None)
            assert 3 == await onlooker.total("k")
            world.wire(a).refuse(None)
            await trio.sleep(2 * world.interval)


@pytest.mark.parametrize("pause", [1, 4])
@pytest.mark.parametrize("what", ["forget", "instances"])
async def test_what_one_may_not_ask_does_not_keep_the_dead(
    world: World, what: str, pause: int
) -> None:
    """One who may only look, and not see all, still looks well, and so observes the silence."""
    a = await world.strict()
    await a.inc("k", 3)
    async with looking(world) as onlooker:
        refused: Callable[[Request], bool] = _asks_who_is_there
        asked: Callable[[], Awaitable[object]] = onlooker.fleet.instances
        if what == "forget":
            refused, asked = _writes, partial(onlooker.fleet.forget, a.instance_id)
        onlooker.wire.answer(StoreError("no right"), None, executed=False, when=refused)
        world.kill(a)
        with trio.fail_after(3 * world.threshold):
            while await onlooker.total("k"):
                await trio.sleep(pause)
                for _ in range(2):
                    with pytest.raises(StoreError):
                        await asked()


def _asks_who_is_there(request: Request) -> bool:
    return isinstance(request, Query) and request.kind is QueryKind.INSTANCES


async def test_an_outage_in_which_all_questions_are_given_up_makes_nobody_look_dead(
    world: World,
) -> None:
    a = await world.strict()
    await a.inc("k", 3)
    async with looking(world) as onlooker:
        assert 3 == await onlooker.total("k")
        await world.cut(a)
        begun = trio.current_time()
        while trio.current_time() < begun + 2 * world.threshold:
            onlooker.wire.hold()
            with trio.move_on_after(1):
                await onlooker.total("k")
            onlooker.wire.cut()
            await trio.sleep(1)
            onlooker.wire.heal()
            onlooker.wire.release()
        assert 3 == await onlooker.total("k")


async def test_an_idle_connection_that_was_closed_is_no_outage(world: World) -> None:
    a = await world.strict()
    await a.inc("k", 3)
    async with looking(world) as onlooker:
        world.kill(a)
        for _ in range(3):
            await trio.sleep(world.threshold)
            onlooker.wire.drop_request()
            await onlooker.fleet.instances()
        assert 0 == await onlooker.total("k")


async def test_a_server_that_loads_its_data_was_away(world: World) -> None:
    a = await world.strict()
    await a.inc("k", 3)
    async with looking(world) as onlooker:
        assert 3 == await onlooker.total("k")
        await world.cut(a)
        await trio.sleep(2 * world.threshold)
        onlooker.wire.away()
        assert 3 == await onlooker.total("k")


async def test_a_jump_of_the_stores_clock_makes_nobody_look_dead(world: World) -> None:
    a = await world.strict()
    await a.inc("k", 3)
    async with looking(world) as onlooker:
        assert 3 == await onlooker.total("k")
        shared = world.backend.store()
        assert isinstance(shared, MemoryStore)
        shared._clock._offset += 3600
        assert 3 == await onlooker.total("k")
        await world.intervals(2)
        assert {a.instance_id: True} == await onlooker.alive()
        shared._clock._offset -= 7200
        assert 3 == await onlooker.total("k")
        world.kill(a)
        await trio.sleep(3 * world.threshold)
        assert 0 == await onlooker.total("k")


# ------------------------------------------------------------------------------- forget


@on_both
async def test_forgetting_the_dead_of_a_namespace_cleans_it_up(world: World) -> None:
    a, b = await world.strict(), await world.strict()
    await a.inc_all({f"key-{number}": 1 for number in range(700)})
    await b.inc("k", 5)
    world.kill(a, b)
    async with looking(world) as onlooker:
        await onlooker.fleet.forget(a.instance_id)
        await onlooker.fleet.forget(b.instance_id)
        assert [] == await onlooker.fleet.instances()
        assert [] == await onlooker.fleet.keys()
        assert world.prefix not in await Fleet.prefixes(world.backend.store())


async def test_one_that_lives_comes_back_from_being_forgotten(world: World) -> None:
    a = await world.strict()
    await a.inc("k", 5)
    async with looking(world) as onlooker:
        await onlooker.fleet.forget(a.instance_id)
        assert (6, 6) == await a.inc("k")
        assert 6 == await onlooker.total("k")
        with pytest.raises(ValueError, match="instance_id"):
            await onlooker.fleet.forget("")


async def test_a_forgetting_that_is_given_up_goes_no_further(world: World) -> None:
    a = await world.strict()
    await a.inc_all({f"key-{number}": 1 for number in range(1200)})
    async with looking(world) as onlooker:
        onlooker.wire.hold(replies=True)
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(onlooker.fleet.forget, a.instance_id)
                await struck(onlooker.wire, "hold")
                scope.cancel()
        onlooker.wire.release()
        await onlooker.fleet.get("k")
        assert 1 == sum(isinstance(request, Forget) for request in onlooker.tap.requests)


# -------------------------------------------------------------------------------- watch


async def test_values_are_followed(world: World) -> None:
    a = await world.strict()
    async with looking(world) as onlooker, onlooker.fleet.watch("k") as values:
        assert (0, 0) == await values.receive()
        await a.inc("k", 2)
        assert (2, 0) == await values.receive()
        assert (2, 0) == await onlooker.fleet.wait_until("k", Ge(2))
        await a.delete("k")
        assert (0, 0) == await onlooker.fleet.wait_until("k", Eq(0))


async def test_the_first_count_of_all_is_told_to_who_watched_before(world: World) -> None:
    async with looking(world) as onlooker, onlooker.fleet.watch("k") as values:
        assert (0, 0) == await values.receive()
        a = await world.strict()
        await a.inc("k")
        assert (1, 0) == await values.receive()


async def test_word_of_a_change_reaches_one_who_takes_no_part(world: World) -> None:
    """A change is known at once, not only with the slow poll; also the first one of all."""
    async with looking(world) as onlooker, onlooker.fleet.watch("k", allowed_lag=0.02) as values:
        assert (0, 0) == await values.receive()
        a = await world.strict()
        for number in range(1, 6):
            await trio.sleep(0.31)
            began = trio.current_time()
            await a.inc("k")
            assert (number, 0) == await values.receive()
            assert trio.current_time() - began <= 0.02


async def test_a_watcher_sees_a_death_that_nobody_else_does(world: World) -> None:
    a = await world.strict()
    await a.inc("k", 4)
    async with looking(world) as onlooker, onlooker.fleet.watch("k") as values:
        assert (4, 0) == await values.receive()
        world.kill(a)
        with trio.fail_after(60):
            assert (0, 0) == await values.receive()


async def test_a_watcher_survives_a_lost_connection(world: World) -> None:
    a = await world.strict()
    async with looking(world) as onlooker, onlooker.fleet.watch("k") as values:
        assert (0, 0) == await values.receive()
        onlooker.wire.cut()
        await a.inc("k", 4)
        onlooker.wire.heal()
        assert (4, 0) == await values.receive()


async def test_the_end_of_the_block_ends_watches(world: World) -> None:
    async with looking(world) as onlooker:
        watch = onlooker.fleet.watch("k")
        values = await watch.__aenter__()
        assert (0, 0) == await values.receive()
    with pytest.raises(trio.EndOfChannel):
        await values.receive()
    await watch.__aexit__(None, None, None)
    with pytest.raises(CounterClosedError):
        async with onlooker.fleet.watch("k"):
            pass


async def test_a_store_that_does_not_push_is_read_again_and_again(world: World) -> None:
    class Mute(Store):
        def link(self, prefix: str):  # type: ignore[no-untyped-def]
            return world.backend.store().link(prefix)

    a = await world.strict()
    async with Fleet.open(world.prefix, Mute()) as fleet, fleet.watch("k") as values:
        assert (0, 0) == await values.receive()
        await a.inc("k", 2)
        with trio.fail_after(0.1):
            assert (2, 0) == await values.receive()


# --------------------------------------------------------------------- start and trouble


async def test_a_store_that_is_away_or_refuses_fails_the_start(world: World) -> None:
    wire = FaultyStore(world.backend.store())
    wire.cut()
    with pytest.raises(StoreUnavailableError):
        async with Fleet.open(world.prefix, wire):
            pytest.fail("it has begun")
    wire.heal()
    wire.refuse(StoreError("no"))
    with pytest.raises(StoreError, match="no"):
        async with Fleet.open(world.prefix, wire):
            pytest.fail("it has begun")


async def test_a_start_survives_lost_connections_but_not_for_ever(world: World) -> None:
    """As with a counter: it may be one of others, which was closed before anybody noticed."""
    wire = FaultyStore(world.backend.store())
    wire.drop_request(2)
    async with Fleet.open(world.prefix, wire) as fleet:
        assert [] == await fleet.keys()
    assert 4 == wire.counts["connects"]  # once to ask whether there is another part
    wire.drop_request(None)
    with pytest.raises(StoreUnavailableError, match="the request was lost"):
        async with Fleet.open(world.prefix, wire):
            pytest.fail("it has begun")
    assert 7 == wire.counts["connects"]


async def test_bad_arguments_are_refused_at_once(world: World) -> None:
    for parameter in BAD_NAMES:
        with pytest.raises(InvalidKeyError):
            Fleet.open(*parameter.values, MemoryStore())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="store must be"):
        Fleet.open("p", 3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="begins with"):
        Fleet.open("p", "http://x")
    with pytest.raises(TypeError, match="store must be"):
        await Fleet.prefixes(3)  # type: ignore[arg-type]
    async with Fleet.open("p", "memory://") as fleet:
        for parameter in BAD_NAMES:
            for method in (fleet.get, fleet.slices):
                with pytest.raises(InvalidKeyError):
                    await method(*parameter.values)  # type: ignore[arg-type]
            with pytest.raises(InvalidKeyError):
                fleet.watch(*parameter.values)  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            await fleet.get_all("k")
        with pytest.raises(ValueError, match="allowed_lag"):
            fleet.watch("k", allowed_lag=0)
        with pytest.raises(TypeError):
            await fleet.wait_until("k", 3)  # type: ignore[arg-type]


async def test_what_the_body_raises_comes_out_as_it_is(world: World) -> None:
    with pytest.raises(ZeroDivisionError):
        async with looking(world):
            raise ZeroDivisionError
    with trio.CancelScope() as scope:
        async with looking(world):
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    async with looking(world) as onlooker:
        pass
    with pytest.raises(CounterClosedError):
        await onlooker.fleet.get("k")


async def test_a_bug_inside_comes_out_of_the_block(world: World) -> None:
    tap = Tap(world.backend.store())

    async def meet() -> None:
        async with Fleet.open(world.prefix, tap) as fleet:
            tap.bug = ZeroDivisionError("a bug")
            await fleet.get("k")

    with pytest.raises(ZeroDivisionError, match="a bug"):
        await meet()


async def test_waiting_ends_with_the_block(world: World) -> None:
    async with trio.open_nursery() as nursery:
        failed = trio.Event()

        async def wait(fleet: Fleet) -> None:
            with pytest.raises(CounterClosedError):
                await fleet.wait_until("k", Eq(1))
            with pytest.raises(CounterClosedError):
                await fleet.get("k")
            failed.set()

        async with looking(world) as onlooker:
            nursery.start_soon(wait, onlooker.fleet)
            await trio.sleep(1)
        await failed.wait()


@pytest.mark.parametrize("trouble", ["away", "silent"])
async def test_a_question_on_its_way_ends_with_the_block(world: World, trouble: str) -> None:
    """And so do those behind it."""
    failed = list[str]()

    async def ask(fleet: Fleet, key: str) -> None:
        with pytest.raises(CounterClosedError):
            await fleet.get(key)
        failed.append(key)

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery, looking(world) as onlooker:
            onlooker.wire.cut() if trouble == "away" else onlooker.wire.delay(1000)
            for key in ("a", "b"):
                nursery.start_soon(ask, onlooker.fleet, key)
            await trio.sleep(1)
    assert sorted(failed) == ["a", "b"]


async def test_one_may_look_until_a_cancelled_body_has_ended(world: World) -> None:
    """As in a last report at the end of a service."""
    a = await world.strict()
    with trio.CancelScope() as scope:
        async with looking(world) as onlooker, onlooker.fleet.watch("k") as values:
            assert (0, 0) == await values.receive()
            scope.cancel()
            with trio.fail_after(60, shield=True):
                await a.inc("k", 3)
                assert (3, 0) == await onlooker.fleet.get("k")
                assert (3, 0) == await onlooker.fleet.wait_until("k", Eq(3))
                assert (3, 0) == await values.receive()
    assert scope.cancelled_caught
    assert "closed" in repr(onlooker.fleet)


async def test_its_name_can_be_said_in_another_thread(world: World) -> None:
    async with looking(world) as onlooker:
        with ThreadPoolExecutor() as threads:
            assert "open" in threads.submit(repr, onlooker.fleet).result()


async def test_the_time_of_a_question_that_was_lost_is_no_silence(world: World) -> None:
    """It may take longer than any answer before it is known to be lost."""
    a = await world.strict()
    async with looking(world) as onlooker:
        assert [info.alive for info in await onlooker.fleet.instances()] == [True]
        world.wire(a).cut()
        onlooker.wire.drop_request()
        onlooker.wire.hold()
        async with trio.open_nursery() as nursery:
            alive: list[bool] = []

            async def look() -> None:
                alive.extend(info.alive for info in await onlooker.fleet.instances())

            nursery.start_soon(look)
            await trio.sleep(2 * world.threshold)
            onlooker.wire.release()
        assert alive == [True]
        world.wire(a).heal()


async def test_leaving_a_fleet_is_a_checkpoint(world: World) -> None:
    with trio.CancelScope() as scope:
        async with looking(world):
            scope.cancel()
    assert scope.cancelled_caught


async def test_it_waits_for_a_store_that_is_away(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "distkit_actors")
    a = await world.strict()
    await a.inc("k", 3)
    async with looking(world) as onlooker:
        onlooker.wire.cut()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(onlooker.fleet.get, "k")
            nursery.start_soon(onlooker.fleet.get, "j")
            await struck(onlooker.wire, "cut", 3)
            onlooker.wire.heal()
        assert 3 == await onlooker.total("k")
    said = [record.getMessage() for record in caplog.records]
    assert 1 == sum("the store is away" in message for message in said)
    assert 1 == sum("the store is back" in message for message in said)


@pytest.mark.parametrize("fault", ["drop_request", "drop_reply", "duplicate", "away"])
async def test_a_question_is_repeated_until_it_is_answered(world: World, fault: str) -> None:
    a = await world.strict()
    await a.inc("k", 3)
    async with looking(world) as onlooker:
        for kind in (Query, Forget, Watch):
            getattr(onlooker.wire, fault)(when=lambda request, kind=kind: isinstance(request, kind))
        assert 3 == await onlooker.total("k")
        await onlooker.fleet.forget(a.instance_id)
        assert (4, 4) == await a.inc("k")
        assert (4, 0) == await onlooker.fleet.wait_until("k", Eq(4))


async def test_a_refusal_is_told_to_who_asked(world: World) -> None:
    async with looking(world) as onlooker:
        onlooker.wire.refuse(StoreError("no right"))
        with pytest.raises(StoreError, match="no right"):
            await onlooker.fleet.get("k")
        onlooker.wire.refuse(None)
        assert 0 == await onlooker.total("k")


async def test_a_caller_that_is_cancelled_leaves_the_connection_alone(world: World) -> None:
    async with looking(world) as onlooker:
        connects, asked = onlooker.wire.counts["connects"], len(onlooker.tap.requests)
        onlooker.wire.hold()
        for call in (onlooker.fleet.instances, onlooker.fleet.keys):
            with trio.move_on_after(1) as scope:
                await call()
            assert scope.cancelled_caught
        with trio.CancelScope() as scope:
            scope.cancel()
            await onlooker.fleet.get("k")
        assert scope.cancelled_caught
        onlooker.wire.release()
        assert 0 == await onlooker.total("k")
        assert connects == onlooker.wire.counts["connects"]
        # The first was on its way. The second was withdrawn before it was sent.
        assert 2 == len(onlooker.tap.requests) - asked


async def test_a_slow_store_is_asked_again_at_the_start(world: World) -> None:
    class Slow(Store):
        tries = 0

        def link(self, prefix: str):  # type: ignore[no-untyped-def]
            return self._link(prefix)

        @asynccontextmanager
        async def _link(self, prefix: str) -> AsyncIterator[Link]:
            async with world.backend.store().link(prefix) as link:
                yield SlowLink(self, link)

    class SlowLink(Link):
        def __init__(self, store: Slow, inner: Link) -> None:
            self.store, self.inner = store, inner

        async def connect(self) -> None:
            self.store.tries += 1
            await trio.lowlevel.checkpoint()
            if self.store.tries < patience:
                raise StoreSilentError("slow")

        async def send(self, request):  # type: ignore[no-untyped-def]
            await self.inner.send(request)

        async def receive(self, request):  # type: ignore[no-untyped-def]
            return await self.inner.receive(request)

        @property
        def connected(self) -> bool:
            return True

    patience = 3
    async with Fleet.open(world.prefix, Slow()) as fleet:
        assert [] == await fleet.keys()
    patience = 100
    slow = Slow()
    with pytest.raises(StoreUnavailableError, match="slow"):
        async with Fleet.open(world.prefix, slow):
            pytest.fail("it has begun")
    assert 3 == slow.tries


@on_redis
async def test_another_thread_is_told_what_to_do(world: World) -> None:
    async with looking(world) as onlooker:

        def elsewhere() -> None:
            with pytest.raises(RuntimeError, match=r"trio\.from_thread\.run"):
                trio.run(onlooker.fleet.get, "k")

        await trio.to_thread.run_sync(elsewhere)


async def test_what_is_given_up_in_an_outage_leaves_nothing_behind(world: World) -> None:
    async with looking(world) as onlooker, trio.open_nursery() as nursery:
        onlooker.wire.cut()
        nursery.start_soon(onlooker.total, "k")  # is carried all the time
        for _ in range(10):
            with trio.move_on_after(1):
                await onlooker.total("k")
        (part,) = onlooker.fleet._parts
        assert not part.inquiry._waiting
        onlooker.wire.heal()


async def test_a_question_that_is_refused_again_and_again_is_told_of_once(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever else is answered in between; once it was answered, a refusal is news again."""
    await world.strict()
    async with looking(world) as onlooker:
        for _ in range(2):
            onlooker.wire.answer(
                StoreError("no right"), None, executed=False, when=_asks_who_is_there
            )
            for pause in (0, 1, 10, 0):
                for _ in range(2):
                    with pytest.raises(StoreError, match="no right"):
                        await onlooker.fleet.instances()
                    await trio.sleep(pause)
                await onlooker.total("k")
            onlooker.wire.forget_plan()
            await onlooker.fleet.instances()
    assert ["refused", "accepted"] * 2 == [e for e in events(caplog) if e != "registered"]


# ------------------------------------------------------------ servers that take no writes


def _writes(request: Request) -> bool:
    return not isinstance(request, Query)


async def test_looks_go_on_where_the_store_takes_no_writes(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """A primary that misses its replicas answers what reads; a watch asks it for a lease."""
    a = await world.strict()
    await a.inc("k", 3)
    async with looking(world) as onlooker:
        away = StoreAwayError("not enough replicas")
        onlooker.wire.answer(away, None, executed=False, when=_writes)
        async with onlooker.fleet.watch("k") as values, trio.open_nursery() as nursery:
            assert (3, 0) == await values.receive()
            nursery.start_soon(onlooker.fleet.forget, "somebody")
            for number in range(1, 6):
                await trio.sleep(3)
                with trio.fail_after(3):
                    assert 3 + number - 1 == await onlooker.total("k")
                await a.inc("k")
                with trio.fail_after(3):
                    assert (3 + number, 0) == await values.receive()
            onlooker.wire.forget_plan()
    assert events(caplog) in (["away", "back"], ["registered", "away", "back"])


@pytest.mark.parametrize("error", [StoreError("no right"), StoreAwayError("a replica")])
async def test_a_watch_that_may_not_ask_for_pushes_is_no_outage(
    world: World, caplog: pytest.LogCaptureFixture, error: StoreError
) -> None:
    a = await world.strict()
    await a.inc("k", 3)
    async with looking(world) as onlooker:
        onlooker.wire.answer(error, None, executed=False, when=_writes)
        async with onlooker.fleet.watch("k") as values:
            assert (3, 0) == await values.receive()
            await trio.sleep(30)
    assert set(events(caplog)) <= {"not_pushed"}


async def test_what_one_who_looks_may_not_do_is_no_outage(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Each who asks for it is told; what others look at is answered all the time."""
    a = await world.strict()
    await a.inc("k", 3)
    async with looking(world) as onlooker:
        onlooker.wire.answer(StoreError("no right"), None, executed=False, when=_writes)
        for _ in range(3):
            with pytest.raises(StoreError, match="no right"):
                await onlooker.fleet.forget("somebody")
            assert 3 == await onlooker.total("k")
    assert not {"refused", "accepted"} & {*events(caplog)}
