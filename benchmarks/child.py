"""The programs that a measurement starts: ``python -m benchmarks.child PROGRAM ARGUMENTS``.

Each says in a line of JSON that it is ready, and answers the lines on its standard input.
"""

from __future__ import annotations

import json
import logging
import socket
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from dataclasses import asdict
from typing import Final, TypeAlias

import trio

from benchmarks.floors import Plain, bare_socket, pack
from benchmarks.load import FOREVER, Statement, allow, drive, key_names
from distkit_actors import LaxInstanceAwareCounter, RedisStore, StrictInstanceAwareCounter

#: So many start at once: the server has a queue, and its answers are waited for only so long.
_RESTING_AT_ONCE: Final = 20
_DOOMED_AT_ONCE: Final = 8
#: Seconds between two heartbeats that are counted; a server under valgrind must not be late.
_BEAT: Final = 0.1
#: Seconds for which a fleet that starts at once may wait for its server.
_PATIENCE: Final = 600.0

_Started: TypeAlias = trio.TaskStatus[None]


def say(**answer: float) -> None:
    """Answer with a line."""
    print(json.dumps(answer), flush=True)


def questions() -> Iterator[list[str]]:
    """Return the parent's lines as words; for programs that need not do anything meanwhile."""
    for line in sys.stdin:
        yield line.split()


async def questions_on_trio() -> AsyncGenerator[list[str]]:
    """Return the parent's lines as words, one at a time, without a thread that waits."""
    async with trio.lowlevel.FdStream(sys.stdin.fileno()) as stream:
        buffer = b""
        async for received in stream:
            *lines, buffer = (buffer + received).split(b"\n")
            for line in lines:
                yield line.decode().split()


async def resting(kind: str, count: str, host: str, port: str, period: str) -> None:
    """Do nothing but stay alive in the store; ``read`` tells the CPU time so far.

    ``kind`` says what it hosts: ``counters`` are strict counters that nobody uses, ``bare`` are
    tasks that write a HINCRBY to a socket of their own for each beat, and ``nothing`` is none.
    ``period`` is the time between two beats, in seconds.
    """
    number, seconds = allow(int(count)), float(period)
    limiter = trio.CapacityLimiter(_RESTING_AT_ONCE)

    async def beat(name: str, *, task_status: _Started = trio.TASK_STATUS_IGNORED) -> None:
        async with bare_socket(host, int(port)) as inc:
            await inc(name)
            task_status.started()
            while True:
                await trio.sleep(seconds)
                await inc(name)

    async def host_one(index: int) -> None:
        async with limiter:
            if kind == "bare":
                await nursery.start(beat, f"instance{index}")
                return
            counter = StrictInstanceAwareCounter(
                "resting",
                RedisStore(f"redis://{host}:{port}"),
                dead_instance_threshold=3 * seconds,
                heartbeat_interval=seconds,
            )
            await nursery.start(counter.run)

    async with trio.open_nursery() as nursery:
        async with trio.open_nursery() as starting:
            for index in range(number if kind != "nothing" else 0):
                starting.start_soon(host_one, index)
        say(running=number)
        async for _ in questions_on_trio():
            say(cpu=time.process_time())
        nursery.cancel_scope.cancel()


async def doomed(url: str, prefix: str, count: str, keys: str, threshold: str) -> None:
    """Be full of lax counters with many keys each, and be killed; the threshold is in seconds."""
    names, number = key_names(int(keys)), allow(int(count))
    limiter = trio.CapacityLimiter(_DOOMED_AT_ONCE)

    async def load() -> None:
        async with limiter:
            counter = LaxInstanceAwareCounter(prefix, url, dead_instance_threshold=float(threshold))
            await nursery.start(counter.run)
            for name in names:
                counter.inc_nowait(name)
            await counter.flush()

    async with trio.open_nursery() as nursery:
        async with trio.open_nursery() as loading:
            for _ in range(number):
                loading.start_soon(load)
        say(running=number)
        async for _ in questions_on_trio():
            say(running=number)
        nursery.cancel_scope.cancel()


async def members(url: str, prefix: str, count: str, keys: str, threshold: str) -> None:
    """Be a part of a fleet, all of which starts at once; each has a connection of its own.

    It is ready when all have counted all keys. ``load SECONDS`` times the calls of one of them.
    ``came_back`` tells how many have found out that they were taken for dead, and have told the
    store everything again; ``wait COUNT`` waits until so many have. The threshold is in seconds.
    """
    names, number = key_names(int(keys)), allow(int(count))
    returns = _Returns()
    logging.getLogger("distkit_actors").addHandler(returns)

    async def join(*, task_status: _Started) -> None:
        async with StrictInstanceAwareCounter.open(
            prefix, url, dead_instance_threshold=float(threshold), start_grace=_PATIENCE
        ) as counter:
            counters.append(counter)
            await counter.inc_all(dict.fromkeys(names, 1))
            task_status.started()
            await trio.sleep_forever()

    counters: list[StrictInstanceAwareCounter] = []
    async with trio.open_nursery() as nursery:
        async with trio.open_nursery() as starting:
            for _ in range(number):
                starting.start_soon(nursery.start, join)
        say(running=number, came_back=returns.count)
        async for word, *arguments in questions_on_trio():
            if word == "load":
                seconds = float(arguments[0])
                load = await drive(counters[0].inc, tasks=1, keys=len(names), seconds=seconds)
                say(p50=load.p50, p99=load.p99, rate=load.rate)
            elif word == "wait":
                await returns.reach(int(arguments[0]))
                say(came_back=returns.count)
            elif word == "get":
                say(value=(await counters[0].get(arguments[0])).cumulative)
            else:
                say(came_back=returns.count, cpu=time.process_time())
        nursery.cancel_scope.cancel()


class _Returns(logging.Handler):
    """Counts what counters log of their returns."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        self._more = trio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler`."""
        if getattr(record, "event", None) == "returned":
            self.count += 1
            self._more.set()
            self._more = trio.Event()

    async def reach(self, count: int) -> None:
        """Wait until there were so many. A checkpoint only if there were not."""
        while self.count < count:
            await self._more.wait()


async def counting(url: str, prefix: str) -> None:
    """Have a strict counter; ``load TASKS KEYS SECONDS`` has so many tasks count with it."""
    async with StrictInstanceAwareCounter.open(prefix, url) as counter:
        say(ready=1)
        async for _, tasks, keys, seconds in questions_on_trio():
            load = await drive(
                counter.inc, tasks=int(tasks), keys=int(keys), seconds=float(seconds)
            )
            say(**asdict(load))


async def gauge() -> None:
    """Count with a gauge of prometheus_client; ``labels CALLS`` or ``bound CALLS`` times it."""
    import prometheus_client  # noqa: PLC0415 - it reads the environment when it is imported

    found = prometheus_client.Gauge(
        "connections", "Now open.", labelnames=["key"], multiprocess_mode="livesum"
    )
    statements = {
        "labels": Statement("gauge.labels(key).inc()", {"gauge": found, "key": "connections"}),
        "bound": Statement("bound.inc()", {"bound": found.labels("connections")}),
    }
    say(ready=1)
    for kind, calls in questions():
        say(seconds=statements[kind].seconds(int(calls)))


async def pipelining(host: str, port: str, depth: str) -> None:
    """``run COMMANDS`` sends HINCRBY over a blocking socket as fast as the server goes.

    So many as ``depth`` travel together. Two such loads are always on their way, so that the
    server never waits for this process.
    """
    together = int(depth)
    load = pack("HINCRBY", "ceiling", "key000000", 1) * together
    with socket.create_connection((host, int(port))) as connection:
        say(ready=1)
        for _, commands in questions():
            loads = max(2, int(commands) // together)
            start = time.perf_counter()
            connection.sendall(load)
            answers = 0
            for number in range(1, loads + 1):
                if number < loads:
                    connection.sendall(load)
                while answers < number * together:
                    received = connection.recv(65_536)
                    if not received:
                        raise ConnectionError("the server has closed the connection")
                    answers += received.count(b"\n")
            say(rate=loads * together / (time.perf_counter() - start))


async def incs(kind: str, host: str, port: str, count: str) -> None:
    """Increment so often, one call after the other, and end: for those who count instructions.

    ``kind`` is ``strict`` or ``bare``, or ``crowd``: 100 tasks at once, each on a key of its own;
    or ``beats``, which is as many heartbeats and nothing else.
    """
    url, (key,) = f"redis://{host}:{port}", key_names(1)
    if kind == "beats":
        async with StrictInstanceAwareCounter.open(
            "incs", url, dead_instance_threshold=3 * _BEAT, heartbeat_interval=_BEAT
        ):
            await trio.sleep(_BEAT * int(count))
        return
    async with (
        bare_socket(host, int(port))
        if kind == "bare"
        else StrictInstanceAwareCounter.open("incs", url, dead_instance_threshold=FOREVER)
    ) as opened:
        inc = opened.inc if isinstance(opened, StrictInstanceAwareCounter) else opened

        async def go_on(key: str) -> None:
            for _ in range(int(count)):
                await inc(key)

        if kind != "crowd":
            await go_on(key)
            return
        async with trio.open_nursery() as nursery:
            for one in key_names(100):
                nursery.start_soon(go_on, one)


async def counts(kind: str, count: str) -> None:
    """Count so often in memory, and end: for those who count instructions.

    ``kind`` is ``lax``, ``bound``, or ``plain``, which is a method that adds and nothing else.
    """
    (key,), times = key_names(1), range(int(count))
    async with LaxInstanceAwareCounter.open("counts", "memory://", flush_interval=60.0) as counter:
        inc, inc_bound, inc_plain = counter.inc_nowait, counter.bind(key).inc_nowait, Plain().inc
        if kind == "lax":
            for _ in times:
                inc(key)
        else:
            inc_one = inc_bound if kind == "bound" else inc_plain
            for _ in times:
                inc_one()


_PROGRAMS: Final[dict[str, Callable[..., Awaitable[None]]]] = {
    program.__name__: program
    for program in (resting, doomed, members, counting, gauge, pipelining, incs, counts)
}

if __name__ == "__main__":
    trio.run(_PROGRAMS[sys.argv[1]], *sys.argv[2:])
