"""What a strict increment costs in a namespace that is large, or with a long mailbox."""

from __future__ import annotations

from contextlib import AsyncExitStack
from functools import partial
from itertools import pairwise
from typing import Final

from benchmarks.bench import Bench
from benchmarks.crowd import fill, populate
from benchmarks.load import Inc, drive
from benchmarks.measure import interleave
from benchmarks.results import compare
from benchmarks.wording import amount
from distkit_actors import StrictInstanceAwareCounter

_MAILBOX_KEYS: Final = 100


async def measure(bench: Bench) -> None:
    """Measure."""
    await _keys(bench)
    await _instances(bench)
    await _mailbox(bench)


async def _keys(bench: Bench) -> None:
    sizes = bench.choose((1, 1000, 100_000), (1, 100, 1000))
    async with AsyncExitStack() as stack:
        counters: dict[int, Inc] = {}
        for size in sizes:
            prefix = f"keys{size}"
            await fill(bench.server.url, prefix, size)
            counters[size] = await _counter(bench, stack, prefix)
        await _latencies(bench, counters, "key")


async def _instances(bench: Bench) -> None:
    sizes = bench.choose((1, 100, 1000), (1, 10, 50))
    async with AsyncExitStack() as stack:
        counters: dict[int, Inc] = {}
        for size in sizes:
            prefix = f"instances{size}"
            await populate(bench.server.url, prefix, size - 1)
            counters[size] = await _counter(bench, stack, prefix)
        await _latencies(bench, counters, "instance")


async def _counter(bench: Bench, stack: AsyncExitStack, prefix: str) -> Inc:
    opened = StrictInstanceAwareCounter.open(prefix, bench.server.url, on_exit="linger")
    return (await stack.enter_async_context(opened)).inc


async def _latencies(bench: Bench, counters: dict[int, Inc], thing: str) -> None:
    seconds = bench.window(0.15)

    async def sample(inc: Inc) -> float:
        return (await drive(inc, tasks=1, keys=1, seconds=seconds)).p50

    seen = await interleave(
        {str(size): partial(sample, inc) for size, inc in counters.items()}, bench.rounds
    )
    smallest, *others = counters
    for size in others:
        bench.add(
            compare(
                "growth",
                f"{amount(size, thing)} in the namespace",
                what="median time of one inc, awaited by one task",
                unit="s",
                ours=seen[str(size)],
                peer=f"{amount(smallest, thing)}",
                theirs=seen[str(smallest)],
                better="less",
            )
        )


async def _mailbox(bench: Bench) -> None:
    sizes = bench.choose((1, 100, 10_000), (1, 10, 100))
    async with StrictInstanceAwareCounter.open("mailbox", bench.server.url) as counter:

        async def sample(tasks: int) -> float:
            seconds = bench.window(0.3)
            load = await drive(counter.inc, tasks=tasks, keys=_MAILBOX_KEYS, seconds=seconds)
            return 1 / load.rate

        seen = await interleave({str(size): partial(sample, size) for size in sizes}, bench.rounds)
    for fewer, more in pairwise(sizes):
        bench.add(
            compare(
                "growth",
                f"{amount(more, 'operation')} waiting, on {_MAILBOX_KEYS} keys",
                what="time of all incs, divided by their number",
                unit="s",
                ours=seen[str(more)],
                peer=f"{amount(fewer, 'operation')} waiting",
                theirs=seen[str(fewer)],
                better="less",
            )
        )
