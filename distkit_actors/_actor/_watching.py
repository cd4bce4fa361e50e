"""What counters and onlookers have in common when they watch a key."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

import trio

from .._protocol._conditions import Condition
from .._protocol._values import CounterValue, checked_number


def checked_lag(seconds: float) -> float:
    """Return how often values may be read; raises `ValueError`."""
    if not 0 < checked_number(seconds, "allowed_lag") < float("inf"):
        raise ValueError(f"allowed_lag must be positive seconds, not {seconds}")
    return seconds


async def first_that_holds(
    watch: AbstractAsyncContextManager[trio.abc.ReceiveChannel[CounterValue]],
    condition: Condition,
) -> CounterValue | None:
    """Wait for a value whose cumulative satisfies ``condition``; None if they end before."""
    async with watch as values:
        async for value in values:
            if condition.holds(value.cumulative):
                return value
    return None
