"""How long an operation takes while slices of many dead instances wait to be taken away."""

from __future__ import annotations

from contextlib import AsyncExitStack
from functools import partial
from typing import Final

import trio

from benchmarks.bench import Bench
from benchmarks.children import Child, spawn
from benchmarks.load import Load, drive, key_names
from benchmarks.measure import Spread, interleave
from benchmarks.results import Aim, Figure, compare
from benchmarks.wording import amount
from distkit_actors import StrictInstanceAwareCounter

_DEAD: Final = "reaping"
_ALIVE: Final = "alive"
#: Seconds of silence before they are dead, long enough for all to be loaded.
_THRESHOLD: Final = 6.0
#: The same for those that count as alive all along.
_FOREVER: Final = 3600.0
_PROCESSES: Final = 2


async def measure(bench: Bench) -> None:
    """Measure."""
    count = bench.choose(1000, 200)
    keys = bench.choose(1000, 200)
    threshold = bench.choose(_THRESHOLD, 3.0)
    bench.progress.say(f"loading {count} instances with {keys} keys each")
    async with AsyncExitStack() as stack:
        # How many are alive makes no difference (see the rows on growth), so a few will do.
        alive = await _load(bench, stack, _ALIVE, count // 10, keys, _FOREVER)
        dead = await _load(bench, stack, _DEAD, count, keys, threshold)
        running = sum(int(child.greeting["running"]) for child in dead)
        bench.progress.say("killing all of them, and waiting until they are dead")
        for child in alive + dead:
            await child.kill()
        await _death(bench, running)
        seen = await interleave(
            {name: partial(_sample, bench, name, keys) for name in (_DEAD, _ALIVE)},
            2 * bench.rounds,
        )
        if await _others(bench, keys) == 0:
            raise RuntimeError("all that were dead are gone, so part of this was no reaping")
    _rows(bench, seen, f"inc beside {amount(running, 'dead instance')} × {amount(keys, 'key')}")


async def _load(
    bench: Bench, stack: AsyncExitStack, prefix: str, count: int, keys: int, threshold: float
) -> list[Child]:
    children: list[Child] = []

    async def start() -> None:
        words = map(str, (bench.server.url, prefix, count // _PROCESSES, keys, threshold))
        children.append(await stack.enter_async_context(spawn("doomed", *words)))

    async with trio.open_nursery() as nursery:
        for _ in range(_PROCESSES):
            nursery.start_soon(start)
    return children


async def _death(bench: Bench, running: int) -> None:
    """Wait for the first of them to be missed."""
    (key,) = key_names(1)
    async with StrictInstanceAwareCounter.open(_DEAD, bench.server.url) as counter:
        if (await counter.get(key)).cumulative < running:
            raise RuntimeError(
                f"instances were dead before all {running} were loaded: the machine is too busy"
            )
        while (await counter.get(key)).cumulative == running:  # noqa: ASYNC110 - it sets no event
            await trio.sleep(0.1)


async def _sample(bench: Bench, prefix: str, keys: int) -> Load:
    """Count over all keys, by a newcomer: one who stayed would reap while others are sampled."""
    async with StrictInstanceAwareCounter.open(prefix, bench.server.url) as counter:
        # The one before has left with all its keys, and the garbage of that is in the server's Lua.
        await drive(counter.inc, tasks=1, keys=keys, seconds=bench.window(0.05))
        return await drive(counter.inc, tasks=1, keys=keys, seconds=bench.window(0.5))


async def _others(bench: Bench, keys: int) -> int:
    """Return how much the dead are still seen to count."""
    async with StrictInstanceAwareCounter.open(_DEAD, bench.server.url) as counter:
        return sum([(await counter.get(key)).cumulative for key in key_names(keys)])


def _rows(bench: Bench, seen: dict[str, list[Load]], name: str) -> None:
    rates = Figure("calls", Spread.of(load.rate for load in seen[_DEAD]), "/s")
    for share, aim in (("p50", None), ("p99", Aim("at most", 3))):
        bench.add(
            compare(
                "reaping",
                f"{name}: {share}",
                what="time of one inc, awaited by one task",
                unit="s",
                ours=[getattr(load, share) for load in seen[_DEAD]],
                peer="the same where all count as alive",
                theirs=[getattr(load, share) for load in seen[_ALIVE]],
                better="less",
                aim=aim,
                also=[rates],
            )
        )
