"""What many instances cost that do nothing but live, in their process and in the server."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Final

import trio

from benchmarks.bench import Bench
from benchmarks.children import Child, spawn
from benchmarks.measure import Spread
from benchmarks.residents import Resident, Watched, arguments
from benchmarks.results import Figure, compare
from benchmarks.wording import amount
from tests.harness.server import RedisServer

_PEER: Final = "HINCRBY over as many bare trio sockets, as often"
_DEFAULT_PERIOD: Final = 10.0


async def measure(bench: Bench) -> None:
    """Measure: both fleets at the same time, each with a server of its own."""
    count = bench.choose(1000, 50)
    period = bench.choose(1.0, 0.5)
    children: dict[str, Child] = {}
    seen: dict[str, list[Watched]] = {}
    async with AsyncExitStack() as stack:
        servers = {"counters": bench.server, "bare": stack.enter_context(RedisServer())}

        async def start(kind: str) -> None:
            words = arguments(kind, count, servers[kind], period)
            children[kind] = await stack.enter_async_context(spawn("resting", *words))

        async def watch(kind: str, command: str) -> None:
            resident = Resident(children[kind], servers[kind], command)
            seen[kind] = await resident.watch(period, bench.rounds)

        bench.progress.say(f"starting {amount(count, 'instance')}")
        for kind in servers:
            await start(kind)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch, "counters", "evalsha")
            nursery.start_soon(watch, "bare", "hincrby")
    running = {int(child.greeting["running"]) for child in children.values()}
    if running != {count}:
        bench.progress.say(f"only {min(running)} instances fit the limit of open files")
    name = f"{amount(min(running), 'instance')} beating"
    ours, bare = seen["counters"], seen["bare"]
    _row(
        bench,
        f"{name}: their process",
        [window.process_cpu / window.calls for window in ours],
        [window.process_cpu / window.calls for window in bare],
        min(running),
    )
    _row(
        bench,
        f"{name}: the server",
        [window.server_cpu / window.calls for window in ours],
        [window.server_cpu / window.calls for window in bare],
        min(running),
    )


def _row(bench: Bench, name: str, ours: list[float], bare: list[float], count: int) -> None:
    by_default = Spread.of(ours).times(count / _DEFAULT_PERIOD * 100)
    bench.add(
        compare(
            "fleet",
            name,
            what="CPU time for each heartbeat",
            unit="s",
            ours=ours,
            peer=_PEER,
            theirs=bare,
            better="less",
            also=[Figure("all, with the default threshold", by_default, "% of a core")],
        )
    )
