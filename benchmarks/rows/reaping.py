"""How long an operation takes while slices of many dead instances wait to be taken away."""

from __future__ import annotations

import time
from array import array
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

import trio

from benchmarks.bench import Bench
from benchmarks.children import Child, spawn
from benchmarks.load import key_names, percentile
from benchmarks.measure import Spread
from benchmarks.results import Aim, Figure, Result
from benchmarks.wording import amount
from distkit_actors import StrictInstanceAwareCounter

#: Seconds of silence before they are dead; while they live, the normal times are taken.
_THRESHOLD: Final = 6.0
#: Seconds for which the reaping is watched, at most.
_WATCHED: Final = 6.0
#: The windows whose percentiles are compared, in seconds.
_WINDOW: Final = 1.0
_PROCESSES: Final = 2


@dataclass
class _Log:
    """When each call ended, and how much others were seen to count at that moment."""

    ends: array[float] = field(default_factory=lambda: array("d"))
    others: array[int] = field(default_factory=lambda: array("q"))


async def measure(bench: Bench) -> None:
    """Measure."""
    count = bench.choose(1000, 40)
    keys = bench.choose(1000, 100)
    threshold = bench.choose(_THRESHOLD, 3.0)
    bench.progress.say(f"loading {count} instances with {keys} keys each")
    async with AsyncExitStack() as stack:
        children = await _load(bench, stack, count, keys, threshold)
        running = sum(int(child.greeting["running"]) for child in children)
        async with StrictInstanceAwareCounter.open("reaping", bench.server.url) as counter:
            bench.progress.say("measuring the normal times, then killing them")
            for child in children:
                await child.kill()
            log = await _count(counter, keys, running)
    _rows(bench, log, running, keys)


async def _load(
    bench: Bench, stack: AsyncExitStack, count: int, keys: int, threshold: float
) -> list[Child]:
    children: list[Child] = []

    async def start() -> None:
        words = map(str, (bench.server.url, "reaping", count // _PROCESSES, keys, threshold))
        children.append(await stack.enter_async_context(spawn("doomed", *words)))

    async with trio.open_nursery() as nursery:
        for _ in range(_PROCESSES):
            nursery.start_soon(start)
    return children


async def _count(counter: StrictInstanceAwareCounter, keys: int, running: int) -> _Log:
    """Call `inc` over all keys, until nobody else counts in them or it has been long enough."""
    names = key_names(keys)
    log = _Log()
    alone = 0  # so many calls in a row saw nobody else
    end = float("inf")
    log.ends.append(time.perf_counter())
    log.others.append(running)
    while alone < keys and log.ends[-1] < end:
        for name in names:
            cumulative, own = await counter.inc(name)
            log.ends.append(time.perf_counter())
            log.others.append(cumulative - own)
            alone = 0 if cumulative > own else alone + 1
            if cumulative - own < running:
                end = min(end, log.ends[-1] + _WATCHED)
    return log


def _rows(bench: Bench, log: _Log, running: int, keys: int) -> None:
    """Cut the log where the first slice was seen to be gone."""
    died = next(index for index, others in enumerate(log.others) if others < running)
    if log.ends[died] - log.ends[0] < bench.window(_WINDOW):
        raise RuntimeError(
            f"instances were dead before all {running} were loaded: the machine is too busy"
        )
    normal = _windows(log.ends[:died])
    reaping = _windows(log.ends[died:])
    lasted = log.ends[-1] - log.ends[died]
    name = f"inc beside {amount(running, 'dead instance')} × {amount(keys, 'key')}"
    also = [Figure("watched", Spread.of([lasted]), "s")]
    for share, aim in ((0.5, None), (0.99, Aim("at most", 3))):
        ours = [percentile(window, share) for window in reaping]
        theirs = [percentile(window, share) for window in normal]
        bench.add(
            Result(
                group="reaping",
                name=f"{name}: p{share * 100:.0f}",
                what=f"time of one inc, in windows of {_WINDOW:g} s while they are reaped",
                unit="s",
                ours=Spread.of(ours),
                peer="the same while they counted as alive",
                theirs=Spread.of(theirs),
                # They cannot be taken in turn, as death comes once: each with each then.
                ratio=Spread.of(mine / other for mine in ours for other in theirs),
                better="less",
                aim=aim,
                also=tuple(also),
            )
        )


def _windows(ends: array[float]) -> list[list[float]]:
    """Return the sorted times of calls, by the window in which they ended."""
    windows: dict[int, list[float]] = {}
    for before, after in pairwise(ends):
        windows.setdefault(int((after - ends[0]) / _WINDOW), []).append(after - before)
    # The last is cut off, and may have a few calls only.
    whole = [sorted(windows[number]) for number in sorted(windows)]
    return whole[:-1] if len(whole) > 1 else whole
