"""How tasks load something that increments, and how long each call takes."""

from __future__ import annotations

import itertools
import math
import time
from array import array
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

import trio

#: Increments a key by one: what all parties of these comparisons can do.
Inc: TypeAlias = Callable[[str], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Load:
    """What one window of load has shown."""

    rate: float
    """Calls a second, over all tasks."""
    p50: float
    """Seconds a call."""
    p99: float
    """Seconds a call."""


def percentile(ordered: array[float] | list[float], share: float) -> float:
    """Return the value that ``share`` of ``ordered`` does not exceed."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def key_names(count: int) -> list[str]:
    """Return the names of ``count`` keys."""
    return [f"key{number:06}" for number in range(count)]


async def drive(inc: Inc, *, tasks: int, keys: int, seconds: float) -> Load:
    """Let ``tasks`` tasks call ``inc`` over ``keys`` keys for ``seconds``, each as fast as it can.

    A task's calls follow each other, so one look at the clock between two of them is the end
    of one and the start of the next.
    """
    names = key_names(keys)
    logs = [array("d") for _ in range(tasks)]
    clock = time.perf_counter

    async def one(first: int, log: array[float]) -> None:
        # Each goes over all keys, and begins at another one.
        mine = itertools.cycle(names[first:] + names[:first])
        note = log.append
        note(clock())
        for key in mine:
            await inc(key)
            now = clock()
            note(now)
            if now >= end:
                break

    start = clock()
    end = start + seconds
    async with trio.open_nursery() as nursery:
        for number, log in enumerate(logs):
            nursery.start_soon(one, number % keys, log)
    elapsed = clock() - start
    times = array("d")
    for log in logs:
        times.extend(after - before for before, after in itertools.pairwise(log))
    ordered = sorted(times)
    return Load(len(times) / elapsed, percentile(ordered, 0.5), percentile(ordered, 0.99))
