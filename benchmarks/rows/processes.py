"""Strict counters of many processes on one server."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Final, NamedTuple

import trio

from benchmarks import peers
from benchmarks.bench import Bench
from benchmarks.load import Drive, Load
from benchmarks.processes import spawn
from benchmarks.report import amount
from benchmarks.server import cpu

#: What a call may cost the server, in seconds of its CPU.
_ALLOWED: Final = 2e-6


class _Together(NamedTuple):
    """What processes did in a window: calls a second of them all, and what a call cost."""

    rate: float
    server: float


async def processes(bench: Bench) -> None:
    """Measure processes that all count in one namespace, with a hundred tasks each."""
    count, tasks = bench.choose((8, 100), (2, 20))
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        parties: dict[str, list[Drive]] = {"ours": []}
        for _ in range(count):
            child = await enter(spawn("counting", bench.server.url, "processes"))
            parties["ours"].append(child.drive)
        if await peers.built(bench):
            for name in (peers.NEWEST, peers.FIRST):
                started = [
                    await enter(peers.open_reference(name, bench.server)) for _ in range(count)
                ]
                parties[name] = [reference.drive for reference in started]
        for keys in (1, 100):
            window = bench.window(1.0)
            sample = partial(_together, bench, tasks=tasks, keys=keys, seconds=window)
            seen = await bench.interleave(
                {name: partial(sample, driven) for name, driven in parties.items()}
            )
            name = f"{count} processes × {amount(tasks, 'task')} on {amount(keys, 'key')}"
            ours = seen["ours"]
            for peer in (peers.NEWEST, peers.FIRST):
                theirs = seen.get(peer, [])
                bench.row(
                    name,
                    "calls of inc in a second, of all of them together",
                    [one.rate for one in ours],
                    peer,
                    [one.rate for one in theirs],
                    unit="calls/s",
                    better="more",
                    aim=5,
                    also={"peer's server": ([one.server for one in theirs], "s")} if theirs else {},
                )
            bench.row(
                f"{name}: the server",
                "its CPU time for each call",
                [one.server for one in ours],
                "2 µs",
                [_ALLOWED for _ in ours],
                aim=1,
            )


async def _together(
    bench: Bench, driven: Sequence[Drive], *, tasks: int, keys: int, seconds: float
) -> _Together:
    loads: list[Load] = []

    async def one(drive: Drive) -> None:
        loads.append(await drive(tasks=tasks, keys=keys, seconds=seconds))

    before = cpu(bench.server)
    async with trio.open_nursery() as nursery:
        for drive in driven:
            nursery.start_soon(one, drive)
    used = max(cpu(bench.server) - before, 1e-6)
    return _Together(sum(load.rate for load in loads), used / sum(load.calls for load in loads))
