"""What users are given to test how their application fares when processes and networks fail."""

from __future__ import annotations

import logging

import pytest
import trio
import trio.testing

from distkit_actors import (
    CounterClosedError,
    Eq,
    InstanceAwareCounter,
    LaxInstanceAwareCounter,
    MemoryStore,
    RedisStore,
    Store,
    StrictInstanceAwareCounter,
)
from distkit_actors.testing import FaultyStore, kill, outage, revive
from tests.harness.logs import events
from tests.harness.server import RedisServer

KINDS = [StrictInstanceAwareCounter, LaxInstanceAwareCounter]
both_kinds = pytest.mark.parametrize("kind", KINDS)


@both_kinds
@pytest.mark.parametrize("partitions", [1, 3])
async def test_the_slices_of_the_killed_count_until_the_threshold(
    kind: type[InstanceAwareCounter], partitions: int, autojump_clock: trio.testing.MockClock
) -> None:
    store = MemoryStore(partitions=partitions)
    async with StrictInstanceAwareCounter.open("app", store) as witness:
        async with kind.open("app", store) as counter:
            await counter.set("k", 5)
            await kill(counter)
            assert counter.statistics().state == "closed"
            with pytest.raises(CounterClosedError):
                await counter.inc("k")
        assert await witness.get("k") == (5, 0)
        await trio.sleep(29)
        assert await witness.get("k") == (5, 0)
        await trio.sleep(2)
        assert await witness.get("k") == (0, 0)


async def test_what_was_not_flushed_is_lost(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """And nobody hears of it, as of a process that is gone."""
    caplog.set_level(logging.DEBUG, "distkit_actors")
    store = MemoryStore()
    async with LaxInstanceAwareCounter.open("app", store, flush_interval=10.0) as counter:
        counter.inc_nowait("k", 3)
        await counter.flush()
        counter.inc_nowait("k", 4)
        await kill(counter)
    assert events(caplog) == ["registered"]
    async with StrictInstanceAwareCounter.open("app", store) as witness:
        assert await witness.get("k") == (3, 0)


async def test_what_is_on_its_way_ends_for_its_caller(
    autojump_clock: trio.testing.MockClock,
) -> None:
    store = FaultyStore(MemoryStore())
    async with StrictInstanceAwareCounter.open("app", store) as counter:
        store.hold()
        with pytest.RaisesGroup(Exception):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(counter.inc, "k")
                await trio.sleep(1)
                before = trio.current_time()
                await kill(counter)
                assert trio.current_time() == before
        store.release()


@both_kinds
async def test_run_ends_without_an_error(kind: type[InstanceAwareCounter]) -> None:
    counter = kind("app", MemoryStore())
    async with trio.open_nursery() as nursery:
        await nursery.start(counter.run)
        await kill(counter)
        await kill(counter)  # it has been
    await counter.aclose()


async def test_one_that_has_not_started_is_closed() -> None:
    counter = StrictInstanceAwareCounter("app", MemoryStore())
    await kill(counter)
    assert counter.statistics().state == "closed"


async def test_one_that_starts_is_killed_as_well(autojump_clock: trio.testing.MockClock) -> None:
    store = FaultyStore(MemoryStore())
    store.hold()
    counter = StrictInstanceAwareCounter("app", store)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(counter.run)
        await trio.sleep(0.1)
        assert counter.statistics().state == "starting"
        await kill(counter)


@both_kinds
async def test_a_restart_under_a_name_of_its_own_takes_over_at_once(
    kind: type[InstanceAwareCounter], autojump_clock: trio.testing.MockClock
) -> None:
    store = MemoryStore()
    async with kind.open("app", store, instance_id="web-1", label="web") as counter:
        await counter.set("k", 5)
        await kill(counter)
    async with revive(counter) as successor:
        assert type(successor) is kind
        assert successor.instance_id == "web-1"
        assert await successor.get("k") == (0, 0)
        (info,) = await successor.instances()
        assert info.label == "web"
        await successor.set("k", 7)
        await kill(successor)
    async with revive(successor, inherit=True) as heir:
        assert await heir.get("k") == (7, 7)


async def test_a_restart_without_a_name_is_somebody_else(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with LaxInstanceAwareCounter.open("app", MemoryStore(), flush_interval=5.0) as counter:
        await counter.set("k", 5)
        await kill(counter)
    async with revive(counter) as successor:
        assert successor.instance_id != counter.instance_id
        assert await successor.get("k") == (5, 0)
        assert successor._options == counter._options
        await trio.sleep(31)
        assert await successor.get("k") == (0, 0)
        with pytest.raises(ValueError, match="instance_id"):
            revive(counter, inherit=True)
        async with revive(counter, instance_id=counter.instance_id) as same:
            assert same.instance_id == counter.instance_id


async def test_an_outage_of_an_hour_takes_no_time(
    autojump_clock: trio.testing.MockClock,
) -> None:
    store = FaultyStore(MemoryStore())
    async with LaxInstanceAwareCounter.open("app", store) as counter:
        with outage(store):
            counter.inc_nowait("k")
            await trio.sleep(3600)
            assert counter.statistics().state == "away"
        await counter.flush()
        assert counter.statistics().outages == 1
        assert await counter.get("k") == (1, 1)


async def test_one_that_is_cut_off_is_reaped_and_comes_back(
    autojump_clock: trio.testing.MockClock,
) -> None:
    inner: Store = MemoryStore()
    mine, theirs = FaultyStore(inner), FaultyStore(inner)
    async with (
        StrictInstanceAwareCounter.open("app", mine) as counter,
        StrictInstanceAwareCounter.open("app", theirs) as other,
    ):
        await counter.inc("k", 5)
        with outage(mine):
            await trio.sleep(60)
            assert await other.get("k") == (0, 0)
        await trio.sleep(15)
        assert await other.get("k") == (5, 0)


async def test_it_kills_on_a_real_server_too(own_redis: RedisServer, fresh_prefix: str) -> None:
    store = RedisStore(own_redis.url)
    async with StrictInstanceAwareCounter.open(fresh_prefix, store) as witness:
        async with LaxInstanceAwareCounter.open(
            fresh_prefix, store, dead_instance_threshold=0.5, flush_interval=10.0
        ) as counter:
            counter.inc_nowait("k", 3)
            await counter.flush()
            counter.inc_nowait("k", 4)
            await kill(counter)
        assert await witness.get("k") == (3, 0)
        with trio.fail_after(30):
            await witness.wait_until("k", Eq(0))
