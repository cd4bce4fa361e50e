"""What the server works for a batch, by its own account."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial

import trio

from benchmarks.bench import Bench
from benchmarks.load import key_names
from benchmarks.measure import Spread, interleave
from benchmarks.peers.redis_asyncio import SendAll, pipeline
from benchmarks.readings import forget_use, use_of
from benchmarks.results import Figure, compare
from benchmarks.wording import amount
from distkit_actors import LaxInstanceAwareCounter, StrictInstanceAwareCounter

#: Entries in a batch; none is a heartbeat.
_SIZES = (0, 1, 10, 100, 1000)


async def measure(bench: Bench) -> None:
    """Measure."""
    seconds = bench.window(0.12)
    async with AsyncExitStack() as stack:
        send = await stack.enter_async_context(pipeline(bench.server))
        # Redis keeps a short hash as a list that it scans; ours are hash tables from the start.
        await send(key_names(1000))
        parties: dict[str, Callable[[], Awaitable[float]]] = {
            f"peer{size}": partial(_commands, bench, send, max(1, size), seconds) for size in _SIZES
        }
        parties["ours0"] = partial(_beats, bench, seconds)
        for size in _SIZES[1:]:
            counter = await stack.enter_async_context(
                LaxInstanceAwareCounter.open(
                    f"script{size}", bench.server.url, flush_interval=3600.0
                )
            )
            parties[f"ours{size}"] = partial(_batches, bench, counter, size, seconds)
        seen = await interleave(parties, bench.rounds)
    for size in _SIZES:
        commands = max(1, size)
        together = " that come together" if size > 1 else ""
        bench.add(
            compare(
                "script",
                f"batch of {amount(size, 'key')}" if size else "heartbeat",
                what="server time of one script call",
                unit="s",
                ours=seen[f"ours{size}"],
                peer=f"server time of {amount(commands, 'HINCRBY', plural='')}{together}",
                theirs=[single * commands for single in seen[f"peer{size}"]],
                better="less",
                also=[Figure("per key", Spread.of(seen[f"ours{size}"]).times(1 / commands), "s")]
                if size > 1
                else [],
            )
        )


def _per_call(bench: Bench, command: str) -> float:
    use = use_of(bench.server, command)
    return use.microseconds / use.calls * 1e-6


async def _commands(bench: Bench, send: SendAll, size: int, seconds: float) -> float:
    names = key_names(size)
    forget_use(bench.server)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        await send(names)
    return _per_call(bench, "hincrby")


async def _beats(bench: Bench, seconds: float) -> float:
    # Beats follow each other nearly as fast as the batches of the others: a server that has slept
    # in between takes longer, whatever it does.
    async with StrictInstanceAwareCounter.open(
        "beats", bench.server.url, dead_instance_threshold=1.0, heartbeat_interval=0.0004
    ):
        forget_use(bench.server)
        await trio.sleep(seconds)
        return _per_call(bench, "evalsha")


async def _batches(
    bench: Bench, counter: LaxInstanceAwareCounter, size: int, seconds: float
) -> float:
    names = key_names(size)
    forget_use(bench.server)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for name in names:
            counter.inc_nowait(name)
        await counter.flush()
    return _per_call(bench, "evalsha")
