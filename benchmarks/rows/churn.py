"""Instances and keys that come and go, and what is left of them in the server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import trio

from benchmarks import server
from benchmarks.bench import Bench
from benchmarks.load import FOREVER, key_names
from benchmarks.report import amount
from distkit_actors import RedisStore, StrictInstanceAwareCounter

_HOUR: Final = 3_600_000_000  # microseconds
#: When the told time begins, in microseconds.
_EPOCH: Final = 1_800_000_000_000_000
#: So many rooms, or short-lived instances, there are at once.
_AT_ONCE: Final = 50
#: What rooms may cost that come and go within an hour, in bytes.
_ALLOWED: Final = 2e6
#: Signs of life of an instance with the default threshold, in an hour.
_BEATS: Final = 360


async def churn(bench: Bench) -> None:
    """Measure rooms that are deleted, and instances that leave, in memory of the server."""
    await _rooms(bench, bench.choose(20_000, 200))
    await _short_lived(bench, 100_000 if bench.whole_fleet else bench.choose(10_000, 100))


async def _rooms(bench: Bench, count: int) -> None:
    """Have rooms come, go and be deleted for two hours of told time, and wait for another one."""
    now = _EPOCH

    def told() -> int:
        return now

    # There is no other way to have an hour pass.
    store = RedisStore._with_clock(bench.server.url, told)  # pyright: ignore[reportPrivateUsage]
    async with (
        StrictInstanceAwareCounter.open("rooms", store) as one,
        StrictInstanceAwareCounter.open("rooms", store) as other,
    ):

        async def room(name: str) -> None:
            for counter in (one, other):
                await counter.inc(name)
            for counter in (other, one):
                await counter.dec(name)
            await one.delete(name)

        await room("first")
        before, hours = server.memory(bench.server), list[int]()
        for hour in range(2):
            names = [f"room-{hour}-{number:05}" for number in range(count)]
            for start in range(0, count, _AT_ONCE):
                now += _HOUR * _AT_ONCE // count
                await _all_at_once(room, names[start : start + _AT_ONCE])
            hours.append(server.memory(bench.server) - before)
        for _ in range(2 * _BEATS):  # an hour, and what it takes to forget, with nothing to do
            now += _HOUR // _BEATS
            for counter in (one, other):
                await counter.get("first")
        left = server.memory(bench.server) - before
    name = f"{amount(count, 'room')} an hour that come, go and are deleted"
    # A server gives back what a quiet connection does not need. That is more than a few rooms take.
    hours[-1] = max(1, hours[-1])
    bench.row(
        name,
        "used_memory at the end of an hour, in which another one as large has gone by",
        [float(hours[-1])],
        "2 MB",
        [_ALLOWED],
        unit="bytes",
        aim=1,
        also={
            "each": ([hours[-1] / count], "bytes"),
            "at the end of the first hour": ([float(hours[0])], "bytes"),
        },
    )
    bench.row(
        f"{name}, two hours later",
        "used_memory",
        [max(1.0, float(left))],
        "the same before",
        [float(hours[-1])],
        unit="bytes",
        aim=0.01,
    )


async def _short_lived(bench: Bench, count: int) -> None:
    """Have instances come, count a key of their own, and leave, while one stays."""
    names = key_names(count)
    store = RedisStore(bench.server.url)
    async with StrictInstanceAwareCounter.open(
        "short", store, dead_instance_threshold=FOREVER
    ) as staying:
        await staying.inc("staying")

        async def come_and_go(name: str) -> None:
            async with StrictInstanceAwareCounter.open("short", store) as counter:
                await counter.inc(name)

        memory = server.memory(bench.server)
        for start in range(0, count, _AT_ONCE):
            await _all_at_once(come_and_go, names[start : start + _AT_ONCE])
        weight = (server.memory(bench.server) - memory) / count
        # The name of a key of an instance is the only one that has a time to live.
        forever = bench.server.command(
            "EVAL",
            "local n = 0 for _, name in ipairs(redis.call('KEYS', 'dk:{p.short}:*')) do "
            "if redis.call('TTL', name) < 0 then n = n + 1 end end return n",
            0,
        )
        keys = len(await staying.keys())
    bench.row(
        f"{amount(count, 'instance')} that come, count a key of their own, and leave",
        "used_memory for each in the hour after it has left",
        [weight],
        "a kilobyte",
        [1000.0],
        unit="bytes",
        also={
            "keys of the server that stay": ([float(forever)], ""),
            "keys of the counter that stay": ([float(keys)], ""),
        },
    )
    if keys != 1:
        raise RuntimeError(f"of the instances that have left, {keys - 1} keys are still there")


async def _all_at_once(act: Callable[[str], Awaitable[None]], names: Sequence[str]) -> None:
    async with trio.open_nursery() as nursery:
        for name in names:
            nursery.start_soon(act, name)
