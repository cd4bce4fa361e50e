"""The dead go and the living stay, whoever comes and goes, and whatever the clock does (I3, I5)."""

# ruff: noqa: SIM300 - expected == actual, all through

from __future__ import annotations

import time

import pytest
import trio
import trio.testing

from distkit_actors import MemoryStore, RedisStore, Store, StrictInstanceAwareCounter
from distkit_actors.testing import FaultyStore
from tests.behaviour.world import run_on_real_clock
from tests.harness.server import RedisServer

#: Threshold of those that the tests are about, in seconds; the default.
THRESHOLD = 30.0


async def crash(store: Store, threshold: float, count: int) -> None:
    """Count, and be heard no more."""
    async with StrictInstanceAwareCounter.open(
        "app", store, dead_instance_threshold=threshold, on_exit="linger"
    ) as counter:
        await counter.inc("k", count)


@pytest.mark.parametrize("pause", [17.0, 60.0])
async def test_i3_who_has_crashed_is_gone_though_others_only_come_and_go(
    pause: float, autojump_clock: trio.testing.MockClock
) -> None:
    """Jobs that live for five seconds, with pauses in which nobody looks."""
    store, observed = MemoryStore(), 0.0
    await crash(store, THRESHOLD, 5)
    total = 5
    while total:
        await trio.sleep(pause)
        async with StrictInstanceAwareCounter.open("app", store) as job:
            await trio.sleep(5)
            total = (await job.get("k")).cumulative
        observed += 5 + (pause if pause <= THRESHOLD / 2 else THRESHOLD / 3)
        assert not total or observed <= 2 * THRESHOLD + 3 * (THRESHOLD / 3)


async def test_i3_a_short_threshold_of_others_keeps_no_dead(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """One with a threshold of a second comes by every two seconds."""
    store, total = MemoryStore(), 5
    await crash(store, THRESHOLD, total)
    start = trio.current_time()
    while total:
        await trio.sleep(2)
        async with StrictInstanceAwareCounter.open(
            "app", store, dead_instance_threshold=1.0
        ) as job:
            total = (await job.get("k")).cumulative
        assert not total or trio.current_time() - start <= 2 * THRESHOLD
    assert trio.current_time() - start >= THRESHOLD


async def test_i3_a_survivor_that_stalls_reaps_the_dead(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Its beats come a quarter of a second late now and then, at a threshold of one second."""
    store = MemoryStore()
    network = FaultyStore(store)
    await crash(store, 1.0, 5)
    async with StrictInstanceAwareCounter.open(
        "app", network, dead_instance_threshold=1.0
    ) as survivor:
        for _ in range(8):
            network.delay(0.25)  # one beat is late, and the next one is not
            await trio.sleep(1 / 3)
            network.delay(0)
            await trio.sleep(1 / 3)
        assert (0, 0) == await survivor.get("k")


async def test_i5_an_outage_kills_nobody_who_beats_often_when_one_who_beats_rarely_is_back_first(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Two seconds are longer than the one's threshold, and a usual pause of the other's."""
    store = MemoryStore()
    network = FaultyStore(store)
    async with (
        StrictInstanceAwareCounter.open(
            "app", store, dead_instance_threshold=THRESHOLD, heartbeat_interval=10.0
        ) as slow,
        StrictInstanceAwareCounter.open("app", network, dead_instance_threshold=1.0) as fast,
    ):
        await fast.inc("k", 5)
        await trio.sleep(4)
        network.cut()
        await trio.sleep(2)
        assert (5, 0) == await slow.get("k")
        network.heal()
        await trio.sleep(3)
        assert (5, 0) == await slow.get("k")


@pytest.mark.trio(run=run_on_real_clock)
@pytest.mark.parametrize("jump", [-3600.0, 3600.0], ids=["back", "forward"])
async def test_i3_a_clock_that_jumps_kills_nobody_who_lives_and_keeps_no_dead(
    jump: float, redis_server: RedisServer, fresh_prefix: str
) -> None:
    jumped = 0.0

    def now() -> int:
        return int((time.time() + jumped) * 1_000_000)

    store = RedisStore._with_clock(redis_server.url, now)
    async with (
        StrictInstanceAwareCounter.open(
            fresh_prefix, store, dead_instance_threshold=1.0
        ) as survivor,
        StrictInstanceAwareCounter.open(fresh_prefix, store, dead_instance_threshold=1.0) as other,
    ):
        await other.inc("k", 7)
        async with StrictInstanceAwareCounter.open(
            fresh_prefix, store, dead_instance_threshold=1.0, on_exit="linger"
        ) as crashed:
            await crashed.inc("k", 5)
        jumped = jump
        seen = {row.instance_id for row in await survivor.instances() if row.alive}
        assert seen >= {survivor.instance_id, other.instance_id}
        total = 12
        while total != 7:
            total = (await survivor.get("k")).cumulative
            assert total in {7, 12}  # the other one lives, whatever happens
            await trio.sleep(0.05)
        for instance in await survivor.instances():
            assert instance.alive


async def test_i4_a_jump_forward_that_is_shorter_than_the_retention_takes_nothing(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Of one who is cut off meanwhile, has been reaped, and misses moves."""
    store = MemoryStore()
    network = FaultyStore(store)
    async with (
        StrictInstanceAwareCounter.open("app", network, dead_instance_threshold=3.0) as a,
        StrictInstanceAwareCounter.open("app", store, dead_instance_threshold=3.0) as b,
    ):
        await a.inc("k", 5)
        network.cut()
        await trio.sleep(7)
        assert (0, 0) == await b.get("k")
        await b.set("missed", 1)
        store._clock._offset += 3500  # a retention is an hour
        for number in range(3):
            await b.set(f"later {number}", 1)
            await trio.sleep(1)
        network.heal()
        await trio.sleep(3)
        assert (5, 5) == await a.get("k")
        assert (5, 0) == await b.get("k")


async def test_i4_a_jump_of_any_length_takes_nothing_of_who_is_not_cut_off(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Not even if it has yet to hear of moves that are old by the new time."""
    store = MemoryStore()
    async with (
        StrictInstanceAwareCounter.open("app", store, dead_instance_threshold=3.0) as a,
        StrictInstanceAwareCounter.open("app", store, dead_instance_threshold=3.0) as b,
    ):
        await a.inc("k", 5)
        await a.inc("moved", 5)
        for jump in (7200.0, -7200.0, 1e6):
            await b.set("moved", 1)
            store._clock._offset += jump
            for number in range(3):
                await b.set(f"later {number}", 1)
            assert (1, 0) == await a.get("moved")
            assert (5, 5) == await a.get("k")
            await trio.sleep(10)
            assert (5, 0) == await b.get("k")
