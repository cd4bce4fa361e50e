"""Instances that only live, alone and in fleets, that all start at once, and that have died."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack
from functools import partial
from typing import Final

import trio

from benchmarks.bench import Bench, Figure, scaled
from benchmarks.load import FOREVER, Load, drive, key_names
from benchmarks.processes import Child, Resident, Window, spawn, start
from benchmarks.report import amount
from benchmarks.server import RedisServer
from distkit_actors import StrictInstanceAwareCounter

#: Seconds between two beats by default.
_DEFAULT_PERIOD: Final = 10.0
#: What a beat is to the server. The script of ours calls HINCRBY only when something is counted.
_BEATS: Final = {"counters": "evalsha", "bare": "hincrby", "nothing": "evalsha"}


async def idle(bench: Bench) -> None:
    """Measure what a counter costs that nobody uses: its heartbeats, and nothing else."""
    period = 0.25
    seconds = 4 * period
    seen: dict[str, list[Window]] = {}

    async def watch(kind: str, resident: Resident) -> None:
        seen[kind] = await resident.watch(seconds, bench.rounds)

    async with AsyncExitStack() as stack:
        residents: dict[str, Resident] = {}
        for kind, command in _BEATS.items():
            where = bench.server.host, bench.server.port
            child = await stack.enter_async_context(spawn("resting", kind, 1, *where, period))
            residents[kind] = Resident(child, bench.server, command)
        async with trio.open_nursery() as nursery:
            for kind, resident in residents.items():
                nursery.start_soon(watch, kind, resident)
    ours = seen["counters"]
    bench.row(
        "round trips of an idle counter",
        f"script calls in a second, with a beat every {period} s",
        [window.calls / window.seconds for window in ours],
        "one for each beat",
        [1 / period for _ in ours],
        unit="calls/s",
    )
    by_default = [w.process_cpu / w.calls / _DEFAULT_PERIOD * 100 for w in ours if w.calls]
    for kind, peer in (
        ("bare", "HINCRBY over a bare trio socket, as often"),
        ("nothing", "trio.sleep_forever"),
    ):
        bench.row(
            "CPU of an idle counter",
            "share of a core that the process takes; it is asked for it once a second",
            [window.process_cpu / window.seconds * 100 for window in ours],
            peer,
            [window.process_cpu / window.seconds * 100 for window in seen[kind]],
            unit="%",
            also={"with the default threshold": (by_default, "%")},
        )


async def fleet(bench: Bench) -> None:
    """Measure many that only live: two fleets at the same time, each with a server of its own."""
    # The small fleet beats three times in a window: it is too small to beat all along.
    count, period, beats = bench.choose((1000, 1.0, 1), (20, 0.25, 3))
    residents: dict[str, Resident] = {}
    seen: dict[str, list[Window]] = {}

    async def watch(kind: str) -> None:
        seen[kind] = await residents[kind].watch(beats * period, bench.rounds)

    async with AsyncExitStack() as stack:
        servers = {"counters": bench.server, "bare": stack.enter_context(RedisServer())}
        bench.say(f"starting {amount(count, 'instance')}")
        for kind, server in servers.items():
            where = server.host, server.port
            child = await stack.enter_async_context(spawn("resting", kind, count, *where, period))
            residents[kind] = Resident(child, server, _BEATS[kind])
        async with trio.open_nursery() as nursery:
            for kind in servers:
                nursery.start_soon(watch, kind)
    running = min(int(resident.child.greeting["running"]) for resident in residents.values())
    if running != count:
        bench.say(f"only {running} instances fit the limit of open files")
    for whose, attribute in (("their process", "process_cpu"), ("the server", "server_cpu")):
        ours, theirs = (
            [getattr(window, attribute) / window.calls for window in seen[kind]] for kind in servers
        )
        by_default = scaled(ours, running / _DEFAULT_PERIOD * 100)
        bench.row(
            f"{amount(running, 'instance')} beating: {whose}",
            "CPU time for each heartbeat",
            ours,
            "HINCRBY over as many bare trio sockets, as often",
            theirs,
            also={"all, with the default threshold": (by_default, "% of a core")},
        )


# --------------------------------------------------------------- a fleet that starts at once

_PROCESSES: Final = 2
#: Seconds. The work of the large crowd takes longer than that.
_CROWD_THRESHOLD: Final = 2.0


async def crowd(bench: Bench) -> None:
    """Measure how long it takes until all is counted, and who was reaped meanwhile."""
    keys = bench.choose(2000, 50)
    sizes = bench.choose((60, 300), (4, 8))
    seen: dict[int, list[tuple[float, int]]] = {size: [] for size in sizes}
    for number in range(bench.rounds):
        for size in sizes:
            seen[size].append(await _crowd(bench, f"crowd{size}-{number}", size, keys))
    for size, ours in seen.items():
        bench.row(
            f"{amount(size, 'instance')} with {amount(keys, 'key')} each",
            "time until all is counted that starts at once, for each instance",
            [total / size for total, _ in ours],
            amount(sizes[0], "instance"),
            [total / sizes[0] for total, _ in seen[sizes[0]]],
            also={
                "in all, and longest wait of a caller": ([total for total, _ in ours], "s"),
                "taken for dead though alive": ([returns for _, returns in ours], ""),
            },
        )


async def _crowd(bench: Bench, prefix: str, size: int, keys: int) -> tuple[float, int]:
    """Return how long it took, and how often one was taken for dead."""
    # It says so in a line when all of it has counted, and how often when its input ends.
    program = partial(
        start,
        "tests.faults.crowd",
        *(size // _PROCESSES, keys, _CROWD_THRESHOLD),
        env={"CROWD_URL": bench.server.url, "CROWD_PREFIX": prefix},
    )
    begin = time.perf_counter()
    async with AsyncExitStack() as stack:
        halves = [await stack.enter_async_context(program()) for _ in range(_PROCESSES)]
        for half in halves:
            await half.line()
        took = time.perf_counter() - begin
        for half in halves:
            await half.end_input()
        return took, sum([int((await half.line()).split()[0]) for half in halves])


# ------------------------------------------------------------------ a fleet that has died

_DEAD: Final = "reaping"
_ALIVE: Final = "alive"


async def reaping(bench: Bench) -> None:
    """Measure an operation while slices of many dead instances wait to be taken away."""
    count, keys = bench.choose((1000, 1000), (60, 500))
    # Silence before they are dead, long enough for all to be loaded.
    threshold = bench.choose(6.0, 3.0)
    bench.say(f"loading {count} instances with {keys} keys each")
    async with AsyncExitStack() as stack:
        # How many are alive makes no difference (see the rows on growth), so a few will do.
        alive = await _load(bench, stack, _ALIVE, count // 10, keys, FOREVER)
        dead = await _load(bench, stack, _DEAD, count, keys, threshold)
        running = sum(int(child.greeting["running"]) for child in dead)
        bench.say("killing all of them, and waiting until they are dead")
        for child in alive + dead:
            await child.kill()
        await _death(bench, running)
        parties = {name: partial(_sample, bench, name, keys) for name in (_DEAD, _ALIVE)}
        seen = await bench.interleave(parties, times=2)
        if await _others(bench, keys) == 0:
            raise RuntimeError("all that were dead are gone, so part of this was no reaping")
    rates: Figure = ([load.rate for load in seen[_DEAD]], "/s")
    name = f"inc beside {amount(running, 'dead instance')} × {amount(keys, 'key')}"
    for share, aim in (("p50", None), ("p99", 3)):
        bench.row(
            f"{name}: {share}",
            "time of one inc, awaited by one task",
            [getattr(load, share) for load in seen[_DEAD]],
            "the same where all count as alive",
            [getattr(load, share) for load in seen[_ALIVE]],
            aim=aim,
            also={"calls": rates},
        )


async def _load(
    bench: Bench, stack: AsyncExitStack, prefix: str, count: int, keys: int, threshold: float
) -> list[Child]:
    children: list[Child] = []

    async def begin() -> None:
        words = (bench.server.url, prefix, count // _PROCESSES, keys, threshold)
        children.append(await stack.enter_async_context(spawn("doomed", *words)))

    async with trio.open_nursery() as nursery:
        for _ in range(_PROCESSES):
            nursery.start_soon(begin)
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
