"""Histories step by step: what the machine must take as right, and what it must find."""

from __future__ import annotations

import pytest

from tests.stateful import history
from tests.stateful.test_memory import MemoryHistories


@pytest.fixture(autouse=True)
def outside_of_hypothesis(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "note", lambda text: None)


def test_the_end_of_a_superseded_counter_leaves_the_holds_of_the_one_in_its_place() -> None:
    histories = MemoryHistories()
    histories.fleet(lax=[True, True], chance=0)
    histories.replace(name=0, lax=True, inherit=True)
    histories.enter(who=1, kind="hold", key="b", count=1)
    histories.wait(seconds=0.3)
    histories.wipe(seconds=0.0)
    histories.leave_block(which=0)
    histories.teardown()
