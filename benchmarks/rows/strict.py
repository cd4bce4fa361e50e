"""Strict counters: one call at a time, and under load, beside other ways to Redis."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Final

from redis.asyncio import ConnectionPool

from benchmarks import floors, peers
from benchmarks.bench import Bench, Figure
from benchmarks.load import Drive, Inc, Load, drive, key_names, rate, repeat
from benchmarks.report import amount
from distkit_actors import RedisStore, StrictInstanceAwareCounter

_TRIO: Final = "strict, trio transport"
_ASYNCIO: Final = "strict, asyncio transport"
_RATE: Final = "calls of inc in a second, each awaited by its task"


def _over_asyncio(url: str) -> RedisStore:
    return RedisStore.from_pool(ConnectionPool.from_url(url))


async def latency(bench: Bench) -> None:
    """Measure how long a call takes when nothing else goes on."""
    server = bench.server
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context

        async def counter(name: str, store: RedisStore) -> Inc:
            return (await enter(StrictInstanceAwareCounter.open(name, store))).inc

        parties: dict[str, Inc] = {
            floors.BARE: await enter(floors.bare_socket(server.host, server.port)),
            _TRIO: await counter("trio", RedisStore(server.url)),
            _ASYNCIO: await counter("asyncio", _over_asyncio(server.url)),
            peers.ASYNCIO: await enter(peers.blocking_pool(server, 1)),
            peers.THREADS: await enter(peers.worker_threads(server)),
            peers.COREDIS: await enter(peers.coredis_client(server)),
            peers.GLIDE: await enter(peers.glide_client(server)),
        }
        driven: dict[str, Drive] = {name: partial(drive, inc) for name, inc in parties.items()}
        driven[peers.PLAIN_ASYNCIO] = (await enter(peers.plain_asyncio(server))).drive
        references = await enter(peers.references(bench))
        driven |= {name: reference.drive for name, reference in references.items()}
        seen = await bench.interleave(
            {
                name: partial(sample, tasks=1, keys=1, seconds=bench.window(0.15))
                for name, sample in driven.items()
            },
            times=3,  # as both sides jump between a few speeds of the machine
        )
    for ours, peer, aim in (
        (_TRIO, floors.BARE, (2.5, 1.7)),
        (_ASYNCIO, floors.BARE, None),
        (_TRIO, peers.GLIDE, 1),
        (_TRIO, peers.NEWEST, 1.5),
        (_TRIO, peers.FIRST, 1.5),
        (_TRIO, peers.ASYNCIO, None),
        (_TRIO, peers.PLAIN_ASYNCIO, None),
        (_TRIO, peers.THREADS, None),
        (_TRIO, peers.COREDIS, None),
    ):
        theirs = seen.get(peer, [])
        bench.row(
            ours,
            "median time of one inc, awaited by one task",
            [load.p50 for load in seen[ours]],
            peer,
            [load.p50 for load in theirs],
            aim=aim,
            also=_times(seen[ours], theirs, "p99"),
        )


def _times(ours: list[Load], theirs: list[Load], *shares: str) -> dict[str, Figure]:
    return {
        f"{whose}{share}": ([getattr(load, share) for load in loads], "s")
        for whose, loads in (("", ours), ("peer's ", theirs))
        for share in shares
        if loads
    }


async def strict(bench: Bench) -> None:
    """Measure tasks on a counter beside the same tasks on a pool, and on the reference."""
    crowds = bench.choose((1, 10, 100, 1000), (1, 20))
    async with (
        StrictInstanceAwareCounter.open("strict", bench.server.url) as counter,
        peers.blocking_pool(bench.server) as pool,
        peers.references(bench) as references,
    ):
        for keys, aim, beside_reference in ((1, 60, 2.5), (100, 40, 2)):
            for tasks in crowds:
                # A task of a thousand waits a third of a second for its turn in the pool.
                seconds = bench.window(0.4 if tasks == 1000 else 0.15)
                driven: dict[str, Drive] = {
                    "ours": partial(drive, counter.inc),
                    peers.POOL: partial(drive, pool),
                }
                driven |= {name: reference.drive for name, reference in references.items()}
                seen = await bench.interleave(
                    {
                        name: partial(sample, tasks=tasks, keys=keys, seconds=seconds)
                        for name, sample in driven.items()
                    }
                )
                crowded = tasks in crowds[-2:] and tasks > 1
                for peer, bound in (
                    (peers.POOL, aim if tasks == crowds[-1] else None),
                    (peers.NEWEST, beside_reference if crowded else None),
                    (peers.FIRST, beside_reference if crowded else None),
                ):
                    theirs = seen.get(peer, [])
                    bench.row(
                        f"{amount(tasks, 'task')} on {amount(keys, 'key')}",
                        _RATE,
                        [load.rate for load in seen["ours"]],
                        peer,
                        [load.rate for load in theirs],
                        unit="calls/s",
                        better="more",
                        aim=bound,
                        also=_times(seen["ours"], theirs, "p50", "p99"),
                    )


async def others(bench: Bench) -> None:
    """Measure a thousand tasks on a counter, beside every other way to Redis that was tried."""
    server = bench.server
    tasks, keys = bench.choose(1000, 100), 100
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        store = _over_asyncio(server.url)
        counter = await enter(StrictInstanceAwareCounter.open("peers", server.url))
        bridged = await enter(StrictInstanceAwareCounter.open("asyncio", store))
        threads = await enter(peers.worker_threads(server))
        coredis = await enter(peers.coredis_client(server))
        pool = await enter(peers.blocking_pool(server, 1))
        send = await enter(peers.pipeline(server))
        glide = await enter(peers.glide_client(server))
        plain = await enter(peers.plain_asyncio(server))

        seconds = bench.window(0.25)
        load = partial(rate, tasks=tasks, keys=keys, seconds=seconds)
        parties: dict[str, Callable[[], Awaitable[float]]] = {
            "ours": partial(load, counter.inc),
            f"{_ASYNCIO} (the same tasks)": partial(load, bridged.inc),
            f"{peers.THREADS} (the same tasks, 40 threads)": partial(load, threads),
            f"{peers.COREDIS} (the same tasks, its own pool)": partial(load, coredis),
            f"{peers.GLIDE} (the same tasks, one connection)": partial(load, glide),
            f"{peers.PLAIN_ASYNCIO} (as many tasks, pool of 10)": partial(
                _rate_of, plain.drive, tasks, keys, seconds
            ),
            f"{peers.ASYNCIO} (one call after the other)": partial(load, pool, tasks=1),
            f"{peers.PIPELINE} (one task, {tasks} HINCRBY in each, nobody else waits)": partial(
                _pipelined, send, key_names(keys) * (tasks // keys), seconds
            ),
        }
        seen = await bench.interleave(parties)
    name = f"{amount(tasks, 'task')} on {amount(keys, 'key')}"
    ours = seen.pop("ours")
    for peer, theirs in seen.items():
        bench.row(name, _RATE, ours, peer, theirs, unit="calls/s", better="more")


async def _rate_of(driven: Drive, tasks: int, keys: int, seconds: float) -> float:
    return (await driven(tasks=tasks, keys=keys, seconds=seconds)).rate


async def _pipelined(send: peers.SendAll, keys: list[str], seconds: float) -> float:
    times = await repeat(partial(send, keys), seconds)
    return len(keys) * len(times) / sum(times)


async def ceiling(bench: Bench) -> None:
    """Measure a counter beside all the HINCRBY that the server can do."""
    tasks, commands = bench.choose((1000, 200_000), (100, 5000))
    async with (
        StrictInstanceAwareCounter.open("ceiling", bench.server.url) as counter,
        peers.ceiling(bench.server) as (peer, peers_rate),
    ):
        for keys in (1, 100):
            load = partial(rate, tasks=tasks, keys=keys, seconds=bench.window(0.25))
            parties: dict[str, Callable[[], Awaitable[float]]] = {
                "ours": partial(load, counter.inc),
                "ceiling": partial(peers_rate, commands),
            }
            seen = await bench.interleave(parties)
            bench.row(
                f"{amount(tasks, 'task')} on {amount(keys, 'key')}",
                _RATE,
                seen["ours"],
                peer,
                seen["ceiling"],
                unit="calls/s",
                better="more",
            )
