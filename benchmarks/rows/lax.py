"""Lax counters: what a call costs, what calls send, and what a flush costs."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final, Literal

import trio

from benchmarks import floors, peers
from benchmarks.bench import Bench
from benchmarks.load import FOREVER, Statement, key_names, repeat
from benchmarks.report import amount
from benchmarks.server import use
from distkit_actors import LaxInstanceAwareCounter

_KEY: Final = "connections"

#: Ours, peer, and what is aimed at.
_CALLS: Final[tuple[tuple[str, str, float | None], ...]] = (
    ("inc_nowait(key)", floors.PLAIN, 3),
    ("inc_nowait(key)", peers.FIRST, 1),
    ("inc_nowait(key)", peers.NEWEST, None),
    ("inc_nowait(key)", floors.PLAIN_DICT, None),
    ("inc_nowait(key)", peers.GAUGE, None),
    ("bound inc_nowait()", floors.PLAIN, 2),
    ("bound inc_nowait()", peers.FIRST, 0.8),
    ("bound inc_nowait()", peers.NEWEST, None),
    ("bound inc_nowait()", peers.BOUND_GAUGE, None),
    ("dec_nowait(key)", floors.PLAIN, None),
    ("get_nowait(key)", floors.PLAIN_GET, None),
    ("await inc(key)", floors.PLAIN_ASYNC, None),
    ("await get(key)", floors.PLAIN_ASYNC, None),
)


async def calls(bench: Bench) -> None:
    """Measure a call, beside CPython's own floor, a Prometheus gauge and the reference."""
    number = bench.choose(100_000, 5000)
    # A counter's flush goes on between the samples, as it would between bursts of calls.
    async with (
        LaxInstanceAwareCounter.open("lax", bench.server.url) as counter,
        peers.livesum_gauge() as timed,
        peers.references(bench) as references,
    ):
        await counter.inc(_KEY)  # it has been read once, so that `get_nowait` knows it
        floor = floors.Plain()
        names = {
            "counter": counter,
            "bound": counter.bind(_KEY),
            "key": _KEY,
            "plain": floor,
            "counts": {_KEY: 0},
            "count": 1,
        }

        async def ours(source: str) -> float:
            seconds = Statement(source, names).seconds(number)
            await counter.flush()
            return seconds

        async def theirs(source: str) -> float:
            return Statement(source, names).seconds(number)

        async def gauge(kind: Literal["labels", "bound"]) -> float:
            return await timed(kind, number // 5)

        async def awaited(call: Callable[[], Awaitable[object]]) -> float:
            start = time.perf_counter()
            for _ in range(number // 10):
                await call()
            return (time.perf_counter() - start) / (number // 10)

        parties: dict[str, Callable[[], Awaitable[float]]] = {
            "inc_nowait(key)": partial(ours, "counter.inc_nowait(key)"),
            floors.PLAIN: partial(theirs, "plain.inc()"),
            "bound inc_nowait()": partial(ours, "bound.inc_nowait()"),
            "dec_nowait(key)": partial(ours, "counter.dec_nowait(key)"),
            "get_nowait(key)": partial(ours, "counter.get_nowait(key)"),
            floors.PLAIN_GET: partial(theirs, "plain.get()"),
            floors.PLAIN_DICT: partial(theirs, "counts[key] += count"),
            peers.GAUGE: partial(gauge, "labels"),
            peers.BOUND_GAUGE: partial(gauge, "bound"),
            "await inc(key)": partial(awaited, partial(counter.inc, _KEY)),
            "await get(key)": partial(awaited, partial(counter.get, _KEY)),
            floors.PLAIN_ASYNC: partial(awaited, floor.inc_async),
        }
        parties |= {
            name: partial(reference.warm_inc, bench.window(0.02))
            for name, reference in references.items()
        }
        # They are short, so that more of them are to be had.
        seen = await bench.interleave(parties, times=2)
    what = "time of one call in a loop of them"
    for name, peer, aim in _CALLS:
        bench.row(name, what, seen[name], peer, seen.get(peer, []), aim=aim)


# ------------------------------------------------------------------- a million increments

_KEYS: Final = 100
_FLUSH_INTERVAL: Final = 0.02  # the default
#: Increments between two looks at what else there is to do.
_BURST: Final = 1000


async def million(bench: Bench) -> None:
    """Measure what a million increments send to the store."""
    count = bench.choose(1_000_000, 100_000)
    sent: list[float] = []
    seconds: list[float] = []
    for number in range(bench.rounds):
        took, script_calls = await _count(bench, f"million{number}", count)
        sent.append(script_calls)
        seconds.append(took)
    bench.row(
        f"{amount(count, 'increment')} over {_KEYS} keys",
        "script calls that the server has seen",
        sent,
        "one for each flush interval",
        [took / _FLUSH_INTERVAL for took in seconds],
        unit="round trips",
        aim=1,
        also={"in all": (seconds, "s"), "each": ([took / count for took in seconds], "s")},
    )


async def _count(bench: Bench, prefix: str, count: int) -> tuple[float, int]:
    """Return how long it took until all was in the store, and the script calls it took."""
    names = itertools.cycle(key_names(_KEYS))
    async with LaxInstanceAwareCounter.open(
        prefix, bench.server.url, flush_interval=_FLUSH_INTERVAL
    ) as counter:
        before = use(bench.server, "evalsha").calls
        start = time.perf_counter()
        for _ in range(count // _BURST):
            for name in itertools.islice(names, _BURST):
                counter.inc_nowait(name)
            await trio.lowlevel.checkpoint()
        # Not `flush`, which would not wait for the interval to end.
        while counter.statistics().pending_keys:  # noqa: ASYNC110 - there is no event for it
            await trio.sleep(_FLUSH_INTERVAL / 20)
        took = time.perf_counter() - start
        after = use(bench.server, "evalsha").calls
        for name in key_names(_KEYS):
            value = await counter.get(name)
            if value.cumulative != count // _KEYS:
                raise AssertionError(f"{name} is {value}, not {count // _KEYS}")
    return took, after - before


# ----------------------------------------------------------------------------- a flush


async def flush(bench: Bench) -> None:
    """Measure a flush: it should follow the keys that were counted, not those that are known."""
    many = bench.choose(10_000, 1000)
    seconds, what = bench.window(0.12), "time of one flush()"
    # Nothing is flushed but on demand.
    opened = partial(LaxInstanceAwareCounter.open, store=bench.server.url, flush_interval=FOREVER)
    async with peers.pipeline(bench.server) as send:
        for count in (1, 100, many):
            names = key_names(count)
            async with opened(f"flush{count}") as counter:
                parties = {
                    "ours": partial(_flush, counter, names, seconds),
                    "pipeline": partial(_pipeline, send, names, seconds),
                }
                seen = await bench.interleave(parties)
            peer = f"{peers.PIPELINE} of as many HINCRBY"
            bench.row(amount(count, "dirty key"), what, seen["ours"], peer, seen["pipeline"])
    one = key_names(1)
    async with opened("few") as few, opened("many") as full:
        for name in key_names(many):
            full.inc_nowait(name)
        await full.flush()
        parties = {
            "ours": partial(_flush, full, one, seconds),
            "few": partial(_flush, few, one, seconds),
        }
        seen = await bench.interleave(parties)
    name = f"1 dirty key of {amount(many, 'known key')}"
    bench.row(name, what, seen["ours"], "1 dirty key of 1 known", seen["few"])


async def _flush(counter: LaxInstanceAwareCounter, names: Sequence[str], seconds: float) -> float:
    times: list[float] = []

    async def count_and_flush() -> None:
        for name in names:
            counter.inc_nowait(name)
        start = time.perf_counter()
        await counter.flush()
        times.append(time.perf_counter() - start)

    await repeat(count_and_flush, seconds)
    return statistics.median(times)


async def _pipeline(send: peers.SendAll, names: Sequence[str], seconds: float) -> float:
    return statistics.median(await repeat(partial(send, names), seconds))
