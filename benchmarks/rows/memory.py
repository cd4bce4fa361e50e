"""What a key and an instance weigh, in the server and in the process."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from functools import partial
from typing import Final, TypeAlias

import redis
import trio

from benchmarks import floors, peers, server
from benchmarks.bench import Bench
from benchmarks.load import fill, key_names, populate
from benchmarks.report import amount
from benchmarks.server import RedisServer
from distkit_actors import LaxInstanceAwareCounter, StrictInstanceAwareCounter

References: TypeAlias = Mapping[str, peers.Reference]

#: Python's own account, and that of an allocator in Rust.
_ALLOCATED: Final = "tracemalloc, or what the allocator was asked for,"


async def memory(bench: Bench) -> None:
    """Measure. Once each: what is allocated does not vary as times do."""
    async with peers.references(bench) as references:
        await _keys_in_server(bench, references)
        await _slices_in_server(bench)
        await _instances_in_server(bench, references)
        await _keys_in_process(bench, references)
        await _counters_in_process(bench, references)


def _rows(
    bench: Bench, name: str, what: str, count: int, ours: float, theirs: Mapping[str, float]
) -> None:
    for peer in (*theirs, *bench.absent):
        found = [theirs[peer] / count] if peer in theirs else []
        bench.row(name, what, [ours / count], peer, found, unit="bytes")


# ---------------------------------------------------------------------------- the server


async def _keys_in_server(bench: Bench, references: References) -> None:
    count = bench.choose(100_000, 5000)
    fields = (f"HINCRBY weight {name} 1" for name in key_names(count))
    theirs = {"field of a hash": await _grown_server(bench, partial(_send, bench.server, fields))}
    ours = await _grown_server(bench, partial(fill, bench.server.url, "keys", count))
    for peer, reference in references.items():
        await reference.fill(1)
        theirs[peer] = await _grown_server(bench, partial(reference.fill, count))
    what = f"used_memory for {amount(count, 'key')} of one instance, each"
    _rows(bench, "a key, in the server", what, count, ours, theirs)


async def _slices_in_server(bench: Bench) -> None:
    others, count = 10, bench.choose(10_000, 500)
    names = [f"HINCRBY s{number} {name} 1" for number in range(others) for name in key_names(count)]
    theirs = await _grown_server(bench, partial(_send, bench.server, names))
    await fill(bench.server.url, "slices", count)

    async def join() -> None:
        for _ in range(others):
            await fill(bench.server.url, "slices", count)

    ours = await _grown_server(bench, join)
    what = f"used_memory for {amount(count, 'key')} of {others} more instances, each"
    name = "a slice of a key that others have, in the server"
    bench.row(
        name,
        what,
        [ours / count / others],
        "field of a hash",
        [theirs / count / others],
        unit="bytes",
    )


async def _instances_in_server(bench: Bench, references: References) -> None:
    count = bench.choose(1000, 50)
    marks = (f"SET presence{name} 1 EX 3600" for name in key_names(count))
    theirs = {"SET … EX": await _grown_server(bench, partial(_send, bench.server, marks))}
    await populate(bench.server.url, "instances", 1)
    ours = await _grown_server(bench, partial(populate, bench.server.url, "instances", count))
    for peer, reference in references.items():
        await reference.populate(1)
        theirs[peer] = await _grown_server(bench, partial(reference.populate, count))
    what = f"used_memory for {amount(count, 'instance')}, each, connections not included"
    _rows(bench, "an instance with one key, in the server", what, count, ours, theirs)


async def _grown_server(bench: Bench, act: Callable[[], Awaitable[None]]) -> float:
    before = server.memory(bench.server)
    await act()
    return server.memory(bench.server) - before


async def _send(to: RedisServer, commands: Iterable[str]) -> None:
    def send() -> None:
        with redis.Redis(host=to.host, port=to.port) as client:
            queue = client.pipeline(transaction=False)
            for command in commands:
                queue.execute_command(*command.split())
            queue.execute()

    await trio.to_thread.run_sync(send)


# --------------------------------------------------------------------------- the process


async def _keys_in_process(bench: Bench, references: References) -> None:
    count = bench.choose(10_000, 1000)
    names = key_names(count)
    async with LaxInstanceAwareCounter.open("process", bench.server.url) as counter:

        async def known() -> None:
            for name in names:
                counter.inc_nowait(name)
            await counter.flush()

        ours = await _grown_process(known)
    counts: dict[str, int] = {}

    async def items() -> None:
        for number, name in enumerate(names):
            counts[name] = 1_000_000 + number
        await trio.lowlevel.checkpoint()

    theirs = {"item of a dict": await _grown_process(items)}
    for peer, reference in references.items():
        theirs[peer] = await reference.known(count)
    what = f"{_ALLOCATED} for {amount(count, 'key')}, each, names of ours not included"
    _rows(bench, "a key that a lax counter knows, in the process", what, count, ours, theirs)


async def _counters_in_process(bench: Bench, references: References) -> None:
    count = bench.choose(100, 10)
    async with AsyncExitStack() as stack:

        async def counter() -> None:
            opened = StrictInstanceAwareCounter.open("process", bench.server.url)
            await stack.enter_async_context(opened)

        async def socket() -> None:
            opened = floors.bare_socket(bench.server.host, bench.server.port)
            inc = await stack.enter_async_context(opened)
            await inc("process")

        async def repeat(act: Callable[[], Awaitable[None]]) -> None:
            for _ in range(count):
                await act()

        # What the first of them loads stays, and is not what one more weighs.
        await counter()
        await socket()
        ours = await _grown_process(partial(repeat, counter))
        theirs = {floors.BARE: await _grown_process(partial(repeat, socket))}
    for peer, reference in references.items():
        theirs[peer] = await reference.counters(count)
    what = f"{_ALLOCATED} for {count} of them with their connections, each"
    _rows(bench, "a running strict counter, in the process", what, count, ours, theirs)


async def _grown_process(act: Callable[[], Awaitable[None]]) -> float:
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        await act()
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return after - before
