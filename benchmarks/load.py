"""How something that counts is loaded, and how long each call takes."""

from __future__ import annotations

import itertools
import math
import resource
import time
import timeit
from array import array
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol, TypeAlias

import trio

from distkit_actors import LaxInstanceAwareCounter, StrictInstanceAwareCounter

#: Increments a key by one: what all parties of these comparisons can do.
Inc: TypeAlias = Callable[[str], Awaitable[object]]

#: Seconds, longer than any measurement: who lingers counts as alive all along.
FOREVER: Final = 3600.0
#: So many instances come at once: more would only wait for the server.
_AT_ONCE: Final = 10
#: So many copies of a statement stand in the loop's body: the loop itself is not measured.
_COPIES: Final = 20
#: Files that a process needs beside the connections that are counted.
_OTHER_FILES: Final = 64


def key_names(count: int) -> list[str]:
    """Return the names of ``count`` keys."""
    return [f"key{number:06}" for number in range(count)]


@dataclass(frozen=True, slots=True)
class Load:
    """What one window of load has shown: calls a second over all tasks, and seconds a call."""

    calls: float
    rate: float
    p50: float
    p99: float


class Drive(Protocol):
    """Has tasks increment over keys for a while, as `drive` does, and wherever that is."""

    async def __call__(self, *, tasks: int, keys: int, seconds: float) -> Load:
        """See `drive`."""
        ...


async def drive(inc: Inc, *, tasks: int, keys: int, seconds: float) -> Load:
    """Let ``tasks`` tasks call ``inc`` over ``keys`` keys for ``seconds``, each as fast as it can.

    A task's calls follow each other, so one look at the clock between two of them is the end
    of one and the start of the next.
    """
    crowd = Crowd(inc, tasks, keys, seconds)
    async with trio.open_nursery() as nursery:
        for member in crowd.members:
            nursery.start_soon(member)
    return crowd.load()


class Crowd:
    """The tasks of `drive`, for whoever runs them.

    Attributes:
        members: What each task has to do; the time begins when the crowd is made.
    """

    def __init__(self, inc: Inc, tasks: int, keys: int, seconds: float) -> None:
        self._inc = inc
        self._logs = [array("d") for _ in range(tasks)]
        names = key_names(keys)
        # Each goes over all keys, and begins at another one.
        self.members = [
            partial(self._one, names[number % keys :] + names[: number % keys], log)
            for number, log in enumerate(self._logs)
        ]
        self._start = time.perf_counter()
        self._end = self._start + seconds

    async def _one(self, names: Sequence[str], log: array[float]) -> None:
        inc, note, clock, end = self._inc, log.append, time.perf_counter, self._end
        note(clock())
        for key in itertools.cycle(names):
            await inc(key)
            now = clock()
            note(now)
            if now >= end:
                break

    def load(self) -> Load:
        """Return what was seen, once all members are through."""
        elapsed = time.perf_counter() - self._start
        pairs = (pair for log in self._logs for pair in itertools.pairwise(log))
        times = sorted(after - before for before, after in pairs)
        return Load(
            len(times), len(times) / elapsed, _percentile(times, 0.5), _percentile(times, 0.99)
        )


def _percentile(ordered: Sequence[float], share: float) -> float:
    """Return the value that ``share`` of ``ordered`` does not exceed."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


async def rate(inc: Inc, *, tasks: int, keys: int, seconds: float) -> float:
    """Return the calls a second of `drive`."""
    return (await drive(inc, tasks=tasks, keys=keys, seconds=seconds)).rate


async def repeat(act: Callable[[], Awaitable[object]], seconds: float) -> list[float]:
    """Repeat ``act`` for so long, and once at least; return how long each took, in seconds."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        start = time.perf_counter()
        await act()
        times.append(time.perf_counter() - start)
    return times


class Statement:
    """A statement that takes nanoseconds, timed in a loop.

    Args:
        source: The statement.
        names: What it uses; they are locals where it runs.
    """

    def __init__(self, source: str, names: Mapping[str, object]) -> None:
        setup = "; ".join(f"{name} = {name}_" for name in names) or "pass"
        self._timer = timeit.Timer(
            "; ".join([source] * _COPIES),
            setup,
            globals={f"{name}_": value for name, value in names.items()},
        )

    def seconds(self, calls: int) -> float:
        """Run it about ``calls`` times, and return how long one took."""
        loops = max(1, calls // _COPIES)
        return self._timer.timeit(loops) / (loops * _COPIES)


async def fill(url: str, prefix: str, keys: int) -> None:
    """Have an instance count ``keys`` keys and linger."""
    async with LaxInstanceAwareCounter.open(
        prefix, url, dead_instance_threshold=FOREVER, on_exit="linger"
    ) as counter:
        for name in key_names(keys):
            counter.inc_nowait(name)
        await counter.flush()


async def populate(url: str, prefix: str, instances: int) -> None:
    """Have so many instances come, count one key each, and linger."""
    limiter, (key,) = trio.CapacityLimiter(_AT_ONCE), key_names(1)

    async def one() -> None:
        async with (
            limiter,
            StrictInstanceAwareCounter.open(
                prefix, url, dead_instance_threshold=FOREVER, on_exit="linger"
            ) as counter,
        ):
            await counter.inc(key)

    async with trio.open_nursery() as nursery:
        for _ in range(instances):
            nursery.start_soon(one)


def allow(connections: int) -> int:
    """Raise the limit of open files as far as need be; return how many connections fit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + _OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return connections if soft == resource.RLIM_INFINITY else min(connections, soft - _OTHER_FILES)
