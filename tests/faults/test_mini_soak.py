"""A few seconds of ``python -m tests.soak``, so that it does not rot."""

import trio

from tests.soak.account import judge
from tests.soak.controller import soak


async def test_mini_soak() -> None:
    """Three processes, a fault every half second; nothing is lost, doubled or reaped."""
    with trio.fail_after(60):
        report = await soak(seconds=5.0, seed=7, processes=3, threshold=1.0, pause=0.5)
    print(report)
    assert report.passed, str(report)
    assert report.operations > 100
    assert report.faults.total() >= 5


def test_judge_knows_lost_from_doubled() -> None:
    """A soak that could not fail would prove nothing."""
    assert judge(10, 10, []) == (0, 0)
    assert judge(10, 5, [2, 3, 7]) == (0, 0)
    assert judge(-10, -5, [-2, -3]) == (0, 0)
    assert judge(9, 10, [5]) == (1, 0)
    assert judge(0, -10, []) == (10, 0)
    assert judge(21, 10, [5, 5]) == (0, 1)
    assert judge(12, 10, [5]) == (2, 2)
