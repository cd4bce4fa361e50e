"""A thousand tasks on strict counters, beside every other way to Redis that was tried."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Final

from benchmarks.bench import Bench
from benchmarks.load import Inc, drive, key_names
from benchmarks.measure import interleave
from benchmarks.peers import coredis_trio, redis_asyncio, redis_threads
from benchmarks.peers.redis_asyncio import SendAll
from benchmarks.results import compare
from benchmarks.wording import amount
from distkit_actors import RedisStore, StrictInstanceAwareCounter

_TASKS: Final = 1000
_KEYS: Final = 100
_OURS: Final = "strict"
_ASYNCIO: Final = "strict, asyncio transport"


async def measure(bench: Bench) -> None:
    """Measure."""
    server = bench.server
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        store = RedisStore(server.url, transport="asyncio")
        loaded: dict[str, Inc] = {
            _OURS: (await enter(StrictInstanceAwareCounter.open("peers", server.url))).inc,
            _ASYNCIO: (await enter(StrictInstanceAwareCounter.open("asyncio", store))).inc,
            redis_threads.NAME: await enter(redis_threads.worker_threads(server)),
            coredis_trio.NAME: await enter(coredis_trio.coredis_client(server)),
        }
        alone: dict[str, Inc] = {
            redis_asyncio.NAME: await enter(redis_asyncio.blocking_pool(server, 1)),
        }
        send = await enter(redis_asyncio.pipeline(server))
        seconds = bench.window(0.25)
        parties: dict[str, Callable[[], Awaitable[float]]] = {
            name: partial(_rate, inc, _TASKS, seconds) for name, inc in loaded.items()
        }
        parties |= {name: partial(_rate, inc, 1, seconds) for name, inc in alone.items()}
        parties[redis_asyncio.PIPELINE_NAME] = partial(_pipelined, send, seconds)
        seen = await interleave(parties, bench.rounds)
    remarks = {
        redis_threads.NAME: "the same tasks, 40 threads",
        coredis_trio.NAME: "the same tasks, its own pool",
        redis_asyncio.NAME: "one call after the other",
        redis_asyncio.PIPELINE_NAME: f"one task, {_TASKS} HINCRBY in each, nobody else waits",
        _ASYNCIO: "the same tasks",
    }
    for peer, remark in remarks.items():
        bench.add(
            compare(
                "peers",
                f"{amount(_TASKS, 'task')} on {amount(_KEYS, 'key')}",
                what="calls of inc in a second, each awaited by its task",
                unit="calls/s",
                ours=seen[_OURS],
                peer=f"{peer} ({remark})",
                theirs=seen[peer],
                better="more",
            )
        )


async def _rate(inc: Inc, tasks: int, seconds: float) -> float:
    return (await drive(inc, tasks=tasks, keys=_KEYS, seconds=seconds)).rate


async def _pipelined(send: SendAll, seconds: float) -> float:
    keys = key_names(_KEYS) * (_TASKS // _KEYS)
    start = time.perf_counter()
    sent = 0
    while time.perf_counter() - start < seconds:
        await send(keys)
        sent += len(keys)
    return sent / (time.perf_counter() - start)
