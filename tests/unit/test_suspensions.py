"""How suspensions of the machine are noticed."""

from __future__ import annotations

import time

import pytest
import trio
import trio.testing

from distkit_actors import MemoryStore, StrictInstanceAwareCounter
from distkit_actors._actor import _suspensions
from distkit_actors._actor._suspensions import Suspensions, suspended
from distkit_actors.testing import FaultyStore


def test_the_clocks_of_a_machine_that_is_awake_go_alike() -> None:
    begun, asleep = time.monotonic(), suspended()
    suspensions = Suspensions()
    assert asleep > -1e-3
    assert suspensions.since(begun, time.monotonic()) == 0


def test_a_suspension_counts_for_what_was_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asleep = 1000.0
    monkeypatch.setattr(_suspensions, "suspended", lambda: asleep)
    suspensions = Suspensions()
    assert suspensions.since(1, now=2) == 0
    asleep += 60
    assert suspensions.since(1, now=5) == 60
    assert suspensions.since(1, now=6) == 60
    assert suspensions.since(5.5, now=6) == 0
    asleep += 7  # the second one, for who was not heard in between
    assert suspensions.since(1, now=8) == 67
    assert suspensions.since(7, now=9) == 67  # or more: only the last instant is remembered
    assert suspensions.since(9, now=9) == 0
    asleep += 5
    assert suspensions.since(9, now=10) == 5
    asleep += 0.01  # the clocks are read one after the other
    assert suspensions.since(11, now=11) == 0


async def test_a_timer_that_notices_one_forgets_no_other(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    """Nobody was heard in between, so both count."""
    asleep = 0.0
    monkeypatch.setattr(_suspensions, "suspended", lambda: asleep)
    wire = FaultyStore(MemoryStore())
    async with StrictInstanceAwareCounter.open(
        "p", wire, dead_instance_threshold=60, heartbeat_interval=5, exit_grace=0.1
    ) as counter:
        wire.cut()
        for seconds in (3600.0, 1.0):
            await trio.sleep(10)
            asleep += seconds
        await trio.sleep(10)
        age = counter.statistics().last_heartbeat_age
        assert age is not None
        assert age > 3600


def test_where_nobody_tells_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_suspensions, "_BOOT_CLOCK", None)
    assert suspended() == 0
