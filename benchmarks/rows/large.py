"""A fleet of many instances with many keys each: its start, its rest, its deaths, its return."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack
from functools import partial
from typing import Final, NamedTuple

import trio

from benchmarks import server
from benchmarks.bench import Bench
from benchmarks.load import key_names
from benchmarks.processes import Answer, Child, spawn
from benchmarks.report import amount
from benchmarks.server import RedisServer

_PREFIX: Final = "large"
#: Seconds; what is measured of beats is told for the default threshold.
_DEFAULT_THRESHOLD: Final = 30.0
#: Beats in a threshold.
_BEATS: Final = 3
#: Microseconds from which a script is written down, and from which it is too long.
_NOTED, _LONG = 1000, 5000
#: Seconds between two looks at what others do.
_PAUSE: Final = 0.05


class _Scripts(NamedTuple):
    """What a server says of the scripts that it has run for a while."""

    longest: float
    long: int
    calls: int


async def large(bench: Bench) -> None:
    """Measure one fleet all along: in two processes, one of which stands still for a while."""
    count, keys = (1000, 10_000) if bench.whole_fleet else bench.choose((200, 2000), (20, 100))
    threshold, beats = bench.choose((_DEFAULT_THRESHOLD, 2), (3.0, 2))
    name = f"{amount(count, 'instance')} × {amount(keys, 'key')}"
    async with AsyncExitStack() as stack:
        unused = stack.enter_context(RedisServer())
        stay, go = await _cold_start(bench, stack, name, count, keys, threshold)
        await _rest(bench, name, count, threshold / _BEATS, beats, unused)
        await _deaths(bench, name, count, stay, go)
        await _return(bench, name, count, threshold / _BEATS, go)
        for key in (key_names(keys)[0], key_names(keys)[-1]):
            value = (await stay.ask("get", key))["value"]
            # One of them has counted some keys once more, for the time that it takes.
            if value < count:
                raise RuntimeError(f"only {value} of {count} count in {key}")


async def _cold_start(
    bench: Bench, stack: AsyncExitStack, name: str, count: int, keys: int, threshold: float
) -> list[Child]:
    halves: list[Child] = []

    async def begin() -> None:
        words = (bench.server.url, _PREFIX, count // 2, keys, threshold)
        halves.append(await stack.enter_async_context(spawn("members", *words)))

    bench.say(f"starting {name}")
    memory, cpu, began = server.memory(bench.server), server.cpu(bench.server), time.perf_counter()
    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(begin)
    took = time.perf_counter() - began
    if sum(half.greeting["running"] for half in halves) != count:
        raise RuntimeError(f"{count} instances do not fit the limit of open files")
    bench.row(
        f"{name}: a cold start",
        "time until all is counted that starts at once",
        [took],
        "the CPU time of the server in it",
        [server.cpu(bench.server) - cpu],
        also={
            "taken for dead though alive": ([sum(h.greeting["came_back"] for h in halves)], ""),
            "threshold": ([threshold], "s"),
        },
    )
    weight = (server.memory(bench.server) - memory) / (count * keys)
    bench.row(
        f"{name}: memory of the server",
        "used_memory for each key of each instance, connections included",
        [weight],
        "an instance id and a number of 8 bytes each",
        [16.0],
        unit="bytes",
    )
    return halves


async def _rest(
    bench: Bench, name: str, count: int, period: float, beats: int, unused: RedisServer
) -> None:
    """Measure what they cost that do nothing."""
    bench.say("watching them do nothing")
    both = bench.server, unused
    server.forget_use(bench.server)
    before = [server.cpu(one) for one in both]
    await trio.sleep(beats * period)
    ours, theirs = (server.cpu(one) - spent for one, spent in zip(both, before, strict=True))
    calls = max(1, server.use(bench.server, "evalsha").calls)
    share = ours / calls * count / (_DEFAULT_THRESHOLD / _BEATS) * 100
    bench.row(
        f"{name}: at rest",
        "share of a core that the server takes, with the default threshold",
        [share],
        "5 % of a core",
        [5.0],
        unit="%",
        aim=1,
        also={
            "CPU time of the server for each heartbeat": ([ours / calls], "s"),
            "commands": ([calls / (beats * period)], "/s"),
            "a server without clients": ([theirs / (beats * period) * 100], "% of a core"),
        },
    )


async def _deaths(bench: Bench, name: str, count: int, stay: Child, go: Child) -> None:
    """Have half of them fall silent, and measure what the others feel of that."""
    seconds = bench.choose(10.0, 0.4)
    bench.say("half of them fall silent")
    await stay.ask("load", seconds / 2)
    begin = partial(_watch_scripts, bench)
    begin()
    before = await stay.ask("load", seconds)
    usual = _scripts(bench)
    go.pause()
    while _living(bench) == count:  # noqa: ASYNC110 - it sets no event
        await trio.sleep(_PAUSE)
    begin()
    after = await stay.ask("load", seconds)
    scripts = _scripts(bench)
    bench.say("waiting until all of these are taken for dead")
    while _living(bench) > count // 2:  # noqa: ASYNC110 - it sets no event
        await trio.sleep(_PAUSE)
    half = f"{name}, half of it dead"
    for share, aim in (("p50", None), ("p99", 3)):
        bench.row(
            f"{half}: {share}",
            "time of one inc of the others, awaited by one task",
            [after[share]],
            "the same before",
            [before[share]],
            aim=aim,
            also={"calls": ([after["rate"]], "/s"), "before": ([before["rate"]], "/s")},
        )
    bench.row(
        f"{half}: the longest script",
        "time of the server by its own clock, which goes on while it has no core",
        [max(scripts.longest, 1e-6)],
        "5 ms",
        [_LONG * 1e-6],
        aim=1,
        also={
            "scripts of more than 5 ms": ([scripts.long], f"of {scripts.calls}"),
            "before": ([usual.long], f"of {usual.calls}"),
            "the longest before": ([usual.longest], "s"),
        },
    )


async def _return(bench: Bench, name: str, count: int, period: float, go: Child) -> None:
    """Have those come back who were silent."""
    bench.say("they come back")
    _watch_scripts(bench)
    cpu, began = server.cpu(bench.server), time.perf_counter()
    go.go_on()
    found: Answer = await go.ask("wait", count // 2)
    took, cpu = time.perf_counter() - began, server.cpu(bench.server) - cpu
    scripts = _scripts(bench)
    bench.row(
        f"{name}: return of half of it",
        "time until all have told the store everything again",
        [took],
        "two heartbeats, or three times the CPU time of the server",
        [max(2 * period, 3 * cpu)],
        aim=1,
        also={
            "CPU time of the server": ([cpu], "s"),
            "two heartbeats": ([2 * period], "s"),
            "CPU time of their process, all in all": ([(await go.ask("read"))["cpu"]], "s"),
            "the longest script": ([scripts.longest], "s"),
            "returns": ([found["came_back"]], ""),
        },
    )


def _living(bench: Bench) -> int:
    return int(bench.server.command("ZCARD", f"dk:{{p.{_PREFIX}}}:a"))


def _watch_scripts(bench: Bench) -> None:
    server.forget_use(bench.server)
    bench.server.command("CONFIG", "SET", "slowlog-log-slower-than", _NOTED)
    bench.server.command("CONFIG", "SET", "slowlog-max-len", 100_000)
    bench.server.command("SLOWLOG", "RESET")


def _scripts(bench: Bench) -> _Scripts:
    # Each is a number, when, how many microseconds, and the command.
    entries = bench.server.command("SLOWLOG", "GET", -1)
    times = [int(entry[2]) for entry in entries if entry[3][0] == "EVALSHA"]
    calls = server.use(bench.server, "evalsha").calls
    return _Scripts(max(times, default=0) * 1e-6, sum(t > _LONG for t in times), calls)
