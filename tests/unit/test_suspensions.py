"""How suspensions of the machine are noticed."""

from __future__ import annotations

import time

import pytest

from distkit_actors._actor import _suspensions
from distkit_actors._actor._suspensions import Suspensions, suspended


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


def test_where_nobody_tells_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_suspensions, "_BOOT_CLOCK", None)
    assert suspended() == 0
