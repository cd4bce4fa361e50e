"""What a key and an instance weigh, in the server and in the process."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from functools import partial

import redis
import trio

from benchmarks.bench import Bench
from benchmarks.crowd import fill, populate
from benchmarks.load import key_names
from benchmarks.peers import bare
from benchmarks.readings import memory_of
from benchmarks.results import compare
from benchmarks.wording import amount
from distkit_actors import LaxInstanceAwareCounter, StrictInstanceAwareCounter
from tests.harness.server import RedisServer


async def measure(bench: Bench) -> None:
    """Measure. Once each: what is allocated does not vary as times do."""
    await _keys_in_server(bench)
    await _instances_in_server(bench)
    await _keys_in_process(bench)
    await _counters_in_process(bench)


# ---------------------------------------------------------------------------- the server


async def _keys_in_server(bench: Bench) -> None:
    count = bench.choose(100_000, 5000)
    fields = (f"HINCRBY weight {name} 1" for name in key_names(count))
    theirs = await _grown_server(bench, partial(_send, bench.server, fields))
    ours = await _grown_server(bench, partial(fill, bench.server.url, "keys", count))
    bench.add(
        compare(
            "memory",
            "a key, in the server",
            what=f"used_memory for {amount(count, 'key')} of one instance, each",
            unit="bytes",
            ours=[ours / count],
            peer="field of a hash",
            theirs=[theirs / count],
            better="less",
        )
    )


async def _instances_in_server(bench: Bench) -> None:
    count = bench.choose(1000, 50)
    marks = (f"SET presence{name} 1 EX 3600" for name in key_names(count))
    theirs = await _grown_server(bench, partial(_send, bench.server, marks))
    await populate(bench.server.url, "instances", 1)
    ours = await _grown_server(bench, partial(populate, bench.server.url, "instances", count))
    bench.add(
        compare(
            "memory",
            "an instance with one key, in the server",
            what=f"used_memory for {amount(count, 'instance')}, each, connections not included",
            unit="bytes",
            ours=[ours / count],
            peer="SET … EX",
            theirs=[theirs / count],
            better="less",
        )
    )


async def _grown_server(bench: Bench, act: Callable[[], Awaitable[None]]) -> float:
    before = memory_of(bench.server)
    await act()
    return memory_of(bench.server) - before


async def _send(server: RedisServer, commands: Iterable[str]) -> None:
    await trio.to_thread.run_sync(_send_blocking, server, commands)


def _send_blocking(server: RedisServer, commands: Iterable[str]) -> None:
    with redis.Redis(host=server.host, port=server.port) as client:
        queue = client.pipeline(transaction=False)
        for command in commands:
            queue.execute_command(*command.split())
        queue.execute()


# --------------------------------------------------------------------------- the process


async def _keys_in_process(bench: Bench) -> None:
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

    theirs = await _grown_process(items)
    bench.add(
        compare(
            "memory",
            "a key that a lax counter knows, in the process",
            what=f"tracemalloc for {amount(count, 'key')}, each, names not included",
            unit="bytes",
            ours=[ours / count],
            peer="item of a dict",
            theirs=[theirs / count],
            better="less",
        )
    )


async def _counters_in_process(bench: Bench) -> None:
    count = bench.choose(100, 10)
    async with AsyncExitStack() as stack:

        async def counter() -> None:
            opened = StrictInstanceAwareCounter.open("process", bench.server.url)
            await stack.enter_async_context(opened)

        async def socket() -> None:
            opened = bare.bare_socket(bench.server.host, bench.server.port)
            inc = await stack.enter_async_context(opened)
            await inc("process")

        async def repeat(act: Callable[[], Awaitable[None]]) -> None:
            for _ in range(count):
                await act()

        # What the first of them loads stays, and is not what one more weighs.
        await counter()
        await socket()
        ours = await _grown_process(partial(repeat, counter))
        theirs = await _grown_process(partial(repeat, socket))
    bench.add(
        compare(
            "memory",
            "a running strict counter, in the process",
            what=f"tracemalloc for {count} of them with their connections, each",
            unit="bytes",
            ours=[ours / count],
            peer=bare.NAME,
            theirs=[theirs / count],
            better="less",
        )
    )


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
