"""What a million lax increments send to the store."""

from __future__ import annotations

import itertools
import time
from typing import Final

import trio

from benchmarks.bench import Bench
from benchmarks.load import key_names
from benchmarks.measure import Spread
from benchmarks.readings import use_of
from benchmarks.results import Aim, Figure, compare
from benchmarks.wording import amount
from distkit_actors import LaxInstanceAwareCounter

_KEYS: Final = 100
_FLUSH_INTERVAL: Final = 0.02  # the default
#: Increments between two looks at what else there is to do.
_BURST: Final = 1000


async def measure(bench: Bench) -> None:
    """Measure."""
    count = bench.choose(1_000_000, 100_000)
    sent: list[float] = []
    intervals: list[float] = []
    seconds: list[float] = []
    for number in range(bench.rounds):
        took, calls = await _count(bench, f"million{number}", count)
        sent.append(calls)
        intervals.append(took / _FLUSH_INTERVAL)
        seconds.append(took)
    bench.add(
        compare(
            "million",
            f"{amount(count, 'increment')} over {_KEYS} keys",
            what="script calls that the server has seen",
            unit="round trips",
            ours=sent,
            peer="one for each flush interval",
            theirs=intervals,
            better="less",
            aim=Aim("at most", 1),
            also=[
                Figure("in all", Spread.of(seconds), "s"),
                Figure("each", Spread.of(took / count for took in seconds), "s"),
            ],
        )
    )


async def _count(bench: Bench, prefix: str, count: int) -> tuple[float, int]:
    """Return how long it took until all was in the store, and the script calls it took."""
    names = itertools.cycle(key_names(_KEYS))
    async with LaxInstanceAwareCounter.open(
        prefix, bench.server.url, flush_interval=_FLUSH_INTERVAL
    ) as counter:
        before = use_of(bench.server, "evalsha")
        start = time.perf_counter()
        for _ in range(count // _BURST):
            for name in itertools.islice(names, _BURST):
                counter.inc_nowait(name)
            await trio.lowlevel.checkpoint()
        # Not `flush`, which would not wait for the interval to end.
        while counter.statistics().pending_keys:  # noqa: ASYNC110 - there is no event for it
            await trio.sleep(_FLUSH_INTERVAL / 20)
        took = time.perf_counter() - start
        after = use_of(bench.server, "evalsha")
        for name in key_names(_KEYS):
            value = await counter.get(name)
            if value.cumulative != count // _KEYS:
                raise AssertionError(f"{name} is {value}, not {count // _KEYS}")
    return took, after.calls - before.calls
