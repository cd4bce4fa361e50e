"""What a call of a lax counter costs, beside CPython's own floor and a Prometheus gauge."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, Literal

from benchmarks.bench import Bench
from benchmarks.measure import interleave
from benchmarks.peers import gauge, plain
from benchmarks.peers.gauge import Timed, livesum_gauge
from benchmarks.results import Aim, compare
from benchmarks.statement import Statement
from distkit_actors import LaxInstanceAwareCounter

_KEY: Final = "connections"

#: Ours, peer, and what is aimed at.
_ROWS: Final[tuple[tuple[str, str, Aim | None], ...]] = (
    ("inc_nowait(key)", plain.NAME, Aim("at most", 3)),
    ("inc_nowait(key)", plain.DICT_NAME, None),
    ("inc_nowait(key)", gauge.NAME, None),
    ("bound inc_nowait()", plain.NAME, Aim("at most", 2)),
    ("bound inc_nowait()", gauge.BOUND_NAME, None),
    ("dec_nowait(key)", plain.NAME, None),
    ("get_nowait(key)", plain.GET_NAME, None),
    ("await inc(key)", plain.ASYNC_NAME, None),
    ("await get(key)", plain.ASYNC_NAME, None),
)


async def measure(bench: Bench) -> None:
    """Measure."""
    calls = bench.choose(100_000, 20_000)
    # A counter's flush goes on between the samples, as it would between bursts of calls.
    async with (
        LaxInstanceAwareCounter.open("lax", bench.server.url) as counter,
        livesum_gauge() as timed,
    ):
        await counter.inc(_KEY)  # it has been read once, so that `get_nowait` knows it
        floor = plain.Plain()
        ours = {"counter": counter, "bound": counter.bind(_KEY), "key": _KEY}

        def sync(source: str) -> Callable[[], Awaitable[float]]:
            return partial(_sync, counter, Statement(source, ours), calls)

        def peer(source: str, **names: object) -> Callable[[], Awaitable[float]]:
            return partial(_sync, None, Statement(source, names), calls)

        parties: dict[str, Callable[[], Awaitable[float]]] = {
            "inc_nowait(key)": sync("counter.inc_nowait(key)"),
            plain.NAME: peer("plain.inc()", plain=floor),
            "bound inc_nowait()": sync("bound.inc_nowait()"),
            "dec_nowait(key)": sync("counter.dec_nowait(key)"),
            "get_nowait(key)": sync("counter.get_nowait(key)"),
            plain.GET_NAME: peer("plain.get()", plain=floor),
            plain.DICT_NAME: peer("counts[key] += count", counts={_KEY: 0}, key=_KEY, count=1),
            gauge.NAME: partial(_gauge, timed, "labels", calls),
            gauge.BOUND_NAME: partial(_gauge, timed, "bound", calls),
            "await inc(key)": partial(_awaited, partial(counter.inc, _KEY), calls // 10),
            "await get(key)": partial(_awaited, partial(counter.get, _KEY), calls // 10),
            plain.ASYNC_NAME: partial(_awaited, floor.inc_async, calls // 10),
        }
        # They are short, so that more of them are to be had.
        seen = await interleave(parties, 2 * bench.rounds)
    for name, other, aim in _ROWS:
        bench.add(
            compare(
                "lax",
                name,
                what="time of one call in a loop of them",
                unit="s",
                ours=seen[name],
                peer=other,
                theirs=seen[other],
                better="less",
                aim=aim,
            )
        )


async def _sync(counter: LaxInstanceAwareCounter | None, statement: Statement, calls: int) -> float:
    seconds = statement.nanoseconds(calls) * 1e-9
    if counter is not None:
        await counter.flush()
    return seconds


async def _gauge(timed: Timed, kind: Literal["labels", "bound"], calls: int) -> float:
    return await timed(kind, calls // 5) * 1e-9


async def _awaited(call: Callable[[], Awaitable[object]], calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        await call()
    return (time.perf_counter() - start) / calls
