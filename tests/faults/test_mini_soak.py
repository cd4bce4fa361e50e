"""A few seconds of ``python -m tests.soak``, so that it does not rot."""

import pytest
import trio

from tests.soak.account import judge, judge_detection, judge_reaping
from tests.soak.controller import Delays, soak
from tests.soak.topologies import TOPOLOGIES


@pytest.mark.parametrize("topology", TOPOLOGIES)
async def test_mini_soak(topology: str) -> None:
    """Three processes, a fault every half second; nothing is lost, doubled or reaped."""
    with trio.fail_after(300):
        report = await soak(
            seconds=3.0, seed=7, processes=3, threshold=1.0, pause=0.5, topology=topology
        )
    print(report)
    assert report.passed, str(report)
    assert report.operations
    assert report.faults


def test_judge_knows_lost_from_doubled() -> None:
    """A soak that could not fail would prove nothing."""
    assert judge(10, 10, []) == (0, 0)
    assert judge(10, 5, [2, 3, 7]) == (0, 0)
    assert judge(-10, -5, [-2, -3]) == (0, 0)
    assert judge(9, 10, [5]) == (1, 0)
    assert judge(0, -10, []) == (10, 0)
    assert judge(21, 10, [5, 5]) == (0, 1)
    assert judge(12, 10, [5]) == (2, 2)


def test_judge_of_reaping_blames_the_product_and_not_the_machine() -> None:
    """On a machine that serves nobody nobody beats; but a sign of life always counts."""
    assert judge_reaping(silent=1.6, late=0.01, threshold=1.5) == "without cause"
    assert judge_reaping(silent=1.6, late=0.9, threshold=1.5) == "starved"
    assert judge_reaping(silent=1.4, late=0.9, threshold=1.5) == "too soon"


def test_judge_of_detection_knows_the_bound() -> None:
    assert judge_detection(took=3.0, late=0.0, threshold=1.5)
    assert judge_detection(took=5.5, late=2.0, threshold=1.5)
    assert not judge_detection(took=5.5, late=0.0, threshold=1.5)
    assert judge_detection(took=5.5, late=0.0, threshold=1.5, troubles=1)
    assert not judge_detection(took=7.5, late=0.0, threshold=1.5, troubles=1)


def test_delays_before_the_last_sign_of_life_do_not_matter() -> None:
    delays = Delays()
    delays.add(10.0, 3.0)
    delays.add(12.0, 1.5)
    delays.add(13.0, 0.25)
    assert delays.since(10.0) == 1.75
    assert delays.since(11.0) == 1.25  # the rest of it was before
    assert delays.since(13.0) == 0
