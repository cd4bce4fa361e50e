"""What grows, and with what: batches, namespaces, mailboxes, and the keys of one instance."""

from __future__ import annotations

import gc
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from itertools import pairwise
from operator import attrgetter
from typing import Final, NamedTuple

import trio

from benchmarks import server
from benchmarks.bench import Bench, scaled
from benchmarks.load import FOREVER, Inc, drive, fill, key_names, populate, repeat
from benchmarks.peers import SendAll, pipeline
from benchmarks.report import amount
from distkit_actors import LaxInstanceAwareCounter, StrictInstanceAwareCounter

# ------------------------------------------------------- what the server works for a batch

#: Entries in a batch; none is a heartbeat.
_BATCHES: Final = (0, 1, 10, 100, 500)


async def script(bench: Bench) -> None:
    """Measure what the server works for a batch, by its own account."""
    seconds = bench.window(0.12)
    async with AsyncExitStack() as stack:
        send = await stack.enter_async_context(pipeline(bench.server))
        # Redis keeps a short hash as a list that it scans; ours are hash tables from the start.
        await send(key_names(1000))
        parties: dict[str, Callable[[], Awaitable[float]]] = {
            f"peer{size}": partial(_commands, bench, send, max(1, size), seconds)
            for size in _BATCHES
        }
        parties["ours0"] = partial(_beats, bench, seconds)
        for size in _BATCHES[1:]:
            opened = LaxInstanceAwareCounter.open(
                f"script{size}", bench.server.url, flush_interval=FOREVER
            )
            counter = await stack.enter_async_context(opened)
            parties[f"ours{size}"] = partial(_flushes, bench, counter, size, seconds)
        seen = await bench.interleave(parties)
    for size in _BATCHES:
        commands = max(1, size)
        together = " that come together" if size > 1 else ""
        ours = seen[f"ours{size}"]
        bench.row(
            f"batch of {amount(size, 'key')}" if size else "heartbeat",
            "server time of one script call",
            ours,
            f"server time of {amount(commands, 'HINCRBY', plural='')}{together}",
            scaled(seen[f"peer{size}"], commands),
            also={"per key": (scaled(ours, 1 / commands), "s")} if size > 1 else {},
        )


def _per_call(bench: Bench, command: str) -> float:
    use = server.use(bench.server, command)
    return use.microseconds / use.calls * 1e-6


async def _commands(bench: Bench, send: SendAll, size: int, seconds: float) -> float:
    server.forget_use(bench.server)
    await repeat(partial(send, key_names(size)), seconds)
    return _per_call(bench, "hincrby")


async def _beats(bench: Bench, seconds: float) -> float:
    # Beats follow each other nearly as fast as the batches of the others: a server that has slept
    # in between takes longer, whatever it does.
    async with StrictInstanceAwareCounter.open(
        "beats", bench.server.url, dead_instance_threshold=1.0, heartbeat_interval=0.0004
    ):
        server.forget_use(bench.server)
        await trio.sleep(seconds)
        # On a very busy machine there may be none yet.
        while not server.use(bench.server, "evalsha").calls:  # noqa: ASYNC110 - there is no event
            await trio.sleep(seconds)
        return _per_call(bench, "evalsha")


async def _flushes(
    bench: Bench, counter: LaxInstanceAwareCounter, size: int, seconds: float
) -> float:
    names = key_names(size)

    async def flush() -> None:
        for name in names:
            counter.inc_nowait(name)
        await counter.flush()

    server.forget_use(bench.server)
    await repeat(flush, seconds)
    return _per_call(bench, "evalsha")


# ------------------------------------------------------------ what grows with the namespace

_MAILBOX_KEYS: Final = 100


async def growth(bench: Bench) -> None:
    """Measure a strict increment in a namespace that is large, and with a long mailbox."""
    await _namespaces(bench, "key", bench.choose((1, 1000, 100_000), (1, 100, 1000)), fill)

    async def others(url: str, prefix: str, instances: int) -> None:
        await populate(url, prefix, instances - 1)

    await _namespaces(bench, "instance", bench.choose((1, 100, 1000), (1, 10, 30)), others)
    await _mailbox(bench)


async def _namespaces(
    bench: Bench,
    thing: str,
    sizes: tuple[int, ...],
    make: Callable[[str, str, int], Awaitable[None]],
) -> None:
    url, seconds = bench.server.url, bench.window(0.15)

    async def sample(inc: Inc) -> float:
        return (await drive(inc, tasks=1, keys=1, seconds=seconds)).p50

    async with AsyncExitStack() as stack:
        parties: dict[str, Callable[[], Awaitable[float]]] = {}
        for size in sizes:
            prefix = f"{thing}s{size}"
            await make(url, prefix, size)
            opened = StrictInstanceAwareCounter.open(prefix, url, on_exit="linger")
            counter = await stack.enter_async_context(opened)
            parties[str(size)] = partial(sample, counter.inc)
        seen = await bench.interleave(parties)
    smallest, *others = sizes
    for size in others:
        bench.row(
            f"{amount(size, thing)} in the namespace",
            "median time of one inc, awaited by one task",
            seen[str(size)],
            amount(smallest, thing),
            seen[str(smallest)],
        )


async def _mailbox(bench: Bench) -> None:
    sizes = bench.choose((1, 100, 10_000), (1, 10, 100))
    async with StrictInstanceAwareCounter.open("mailbox", bench.server.url) as counter:

        async def sample(tasks: int) -> float:
            seconds = bench.window(0.3)
            load = await drive(counter.inc, tasks=tasks, keys=_MAILBOX_KEYS, seconds=seconds)
            return 1 / load.rate

        seen = await bench.interleave({str(size): partial(sample, size) for size in sizes})
    for fewer, more in pairwise(sizes):
        bench.row(
            f"{amount(more, 'operation')} waiting, on {_MAILBOX_KEYS} keys",
            "time of all incs, divided by their number",
            seen[str(more)],
            f"{amount(fewer, 'operation')} waiting",
            seen[str(fewer)],
        )


# ------------------------------------------------- what takes long with very many keys

_AT_ONCE: Final = 1000

#: Only longer scripts are looked at, in microseconds. A log of everything is so large that it
#: costs the server a third of its time, and 80 ms to forget.
_LOGGED: Final = 1000

#: What is promised of steps of the event loop and of scripts, in seconds.
_LONGEST_STEP: Final = 0.010
_LONGEST_SCRIPT: Final = 0.005

_WHAT: Final = {
    "clear": "to hear that another has cleared, and to count on",
    "clear_on_instance": "to remove all own slices",
    "forget": "to remove all slices of another",
    "return": "to come back with all slices",
    "leave": "to take leave with all slices",
}


class _Seen(NamedTuple):
    """What was seen of one thing at one size, in seconds."""

    total: float
    step: float
    script: float


class _Steps(trio.abc.Instrument):
    """Looks for the longest step of the event loop."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._start = float("inf")

    def before_task_step(self, task: trio.lowlevel.Task) -> None:  # noqa: ARG002 - trio's
        """See `trio.abc.Instrument`."""
        self._start = time.perf_counter()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:  # noqa: ARG002 - trio's
        """See `trio.abc.Instrument`."""
        self.longest = max(self.longest, time.perf_counter() - self._start)


async def bounds(bench: Bench) -> None:
    """Measure what takes long with very many keys of one instance: in all, and at once."""
    sizes = bench.choose((10_000, 100_000, 300_000), (100, 1000))
    seen: dict[tuple[str, int], list[_Seen]] = {(what, n): [] for what in _WHAT for n in sizes}
    for number in range(bench.rounds):
        for size in sizes:
            for what, found in (await _bounds(bench, f"bounds{size}-{number}", size)).items():
                seen[what, size].append(found)
    for (what, size), ours in seen.items():
        bench.row(
            f"{what} with {amount(size, 'key')}",
            f"time {_WHAT[what]}, for each key",
            [found.total / size for found in ours],
            amount(sizes[0], "key"),
            [found.total / sizes[0] for found in seen[what, sizes[0]]],
            also={
                "in all": ([found.total for found in ours], "s"),
                "longest step of the event loop": ([found.step for found in ours], "s"),
                "longest script": ([found.script for found in ours], "s"),
            },
        )
    size = sizes[1]  # which the promise is about (I10, bounds)
    for what in _WHAT:
        ours = seen[what, size]
        for thing, found_of, bound in (
            ("longest step of the event loop", attrgetter("step"), _LONGEST_STEP),
            ("longest script", attrgetter("script"), _LONGEST_SCRIPT),
        ):
            bench.row(
                f"{what} with {amount(size, 'key')}: {thing}",
                "its time",
                [found_of(found) for found in ours],
                f"{bound * 1000:g} ms",
                [bound] * len(ours),
                aim=1,
            )


async def _bounds(bench: Bench, prefix: str, size: int) -> dict[str, _Seen]:
    names = key_names(size)
    opened = partial(
        StrictInstanceAwareCounter, prefix, bench.server.url, dead_instance_threshold=FOREVER
    )
    async with trio.open_nursery() as nursery:
        owner: StrictInstanceAwareCounter = await nursery.start(opened().run)
        other: StrictInstanceAwareCounter = await nursery.start(opened().run)

        async def fill_up() -> None:
            for start in range(0, size, _AT_ONCE):
                await owner.set_all(dict.fromkeys(names[start : start + _AT_ONCE], 1))

        async def hear() -> None:
            await other.clear()
            await owner.inc(names[0])

        async def forget() -> None:
            await other.inc(names[0])
            await other.forget(owner.instance_id)

        async def come_back() -> None:
            await owner.inc(names[0])

        acts: tuple[Callable[[], Awaitable[object]], ...] = (
            hear,
            owner.clear_on_instance,
            forget,
            come_back,
            owner.aclose,
        )
        seen: dict[str, _Seen] = {}
        for what, act in zip(_WHAT, acts, strict=True):
            if what != "return":  # what it returns with was forgotten just before
                await fill_up()
            seen[what] = await _watched(bench, act)
        await other.aclose()
    return seen


async def _watched(bench: Bench, act: Callable[[], Awaitable[object]]) -> _Seen:
    bench.server.command("CONFIG", "SET", "slowlog-log-slower-than", _LOGGED)
    bench.server.command("CONFIG", "SET", "slowlog-max-len", 10_000)
    bench.server.command("SLOWLOG", "RESET")
    gc.collect()
    gc.disable()  # its pauses are as long as the heap of this process is large
    steps = _Steps()
    await trio.lowlevel.checkpoint()
    trio.lowlevel.add_instrument(steps)
    start = time.perf_counter()
    try:
        await act()
    finally:
        trio.lowlevel.remove_instrument(steps)
        gc.enable()
    total = time.perf_counter() - start
    # Each is a number, when, how many microseconds, and the command.
    entries = bench.server.command("SLOWLOG", "GET", -1)
    longest = max((entry[2] for entry in entries if entry[3][0] == "EVALSHA"), default=_LOGGED)
    return _Seen(total, steps.longest, longest * 1e-6)
