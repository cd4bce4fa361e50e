"""How long a call takes when nothing else goes on."""

from __future__ import annotations

from contextlib import AsyncExitStack
from functools import partial
from typing import Literal

from benchmarks.bench import Bench
from benchmarks.load import Inc, Load, drive
from benchmarks.measure import Spread, interleave
from benchmarks.peers import bare, coredis_trio, redis_asyncio, redis_threads
from benchmarks.results import Aim, Figure, compare
from distkit_actors import RedisStore, StrictInstanceAwareCounter

_TRIO = "strict, trio transport"
_ASYNCIO = "strict, asyncio transport"


async def measure(bench: Bench) -> None:
    """Measure."""
    server = bench.server
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context

        async def counter(transport: Literal["asyncio", "trio"]) -> Inc:
            store = RedisStore(server.url, transport=transport)
            return (await enter(StrictInstanceAwareCounter.open(transport, store))).inc

        parties: dict[str, Inc] = {
            bare.NAME: await enter(bare.bare_socket(server.host, server.port)),
            _TRIO: await counter("trio"),
            _ASYNCIO: await counter("asyncio"),
            redis_asyncio.NAME: await enter(redis_asyncio.blocking_pool(server, 1)),
            redis_threads.NAME: await enter(redis_threads.worker_threads(server)),
            coredis_trio.NAME: await enter(coredis_trio.coredis_client(server)),
        }
        seen = await interleave(
            {
                name: partial(drive, inc, tasks=1, keys=1, seconds=bench.window(0.15))
                for name, inc in parties.items()
            },
            3 * bench.rounds,  # as both sides jump between a few speeds of the machine
        )
    _row(bench, seen, _TRIO, bare.NAME, Aim("at most", 2.5))
    _row(bench, seen, _ASYNCIO, bare.NAME)
    for peer in (redis_asyncio.NAME, redis_threads.NAME, coredis_trio.NAME):
        _row(bench, seen, _TRIO, peer)


def _row(
    bench: Bench, seen: dict[str, list[Load]], ours: str, peer: str, aim: Aim | None = None
) -> None:
    bench.add(
        compare(
            "latency",
            ours,
            what="median time of one inc, awaited by one task",
            unit="s",
            ours=[load.p50 for load in seen[ours]],
            peer=peer,
            theirs=[load.p50 for load in seen[peer]],
            better="less",
            aim=aim,
            also=[
                Figure("p99", Spread.of(load.p99 for load in seen[ours]), "s"),
                Figure("peer's p99", Spread.of(load.p99 for load in seen[peer]), "s"),
            ],
        )
    )
