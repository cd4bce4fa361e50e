"""A process that does nothing but stay alive in the store: ``read`` tells the CPU time so far.

Arguments: what it hosts, how many of them, the server's host and port, and the seconds
between two beats. It can host

* ``counters``: strict counters that nobody uses,
* ``bare``: tasks that write a HINCRBY to a socket of their own for each beat,
* ``nothing``.
"""

from __future__ import annotations

import sys
import time
from functools import partial

import trio

from benchmarks.children.speech import questions_on_trio, say
from benchmarks.open_files import allow
from benchmarks.peers.bare import bare_socket
from distkit_actors import RedisStore, StrictInstanceAwareCounter

#: So many start at once: the server has a queue, and its answers are waited for only so long.
_AT_ONCE = 20


async def main(kind: str, count: str, host: str, port: str, period: str) -> None:
    """Start them, say so, and answer until the parent has no more questions."""
    number = allow(int(count))
    limiter = trio.CapacityLimiter(_AT_ONCE)
    async with trio.open_nursery() as nursery:
        async with trio.open_nursery() as starting:
            for index in range(number if kind != "nothing" else 0):
                starting.start_soon(
                    _host, kind, index, host, int(port), float(period), nursery, limiter
                )
        say(ready=1, running=number)
        async for _ in questions_on_trio():
            say(cpu=time.process_time())
        nursery.cancel_scope.cancel()


async def _host(
    kind: str,
    index: int,
    host: str,
    port: int,
    period: float,
    nursery: trio.Nursery,
    limiter: trio.CapacityLimiter,
) -> None:
    async with limiter:
        if kind == "counters":
            counter = StrictInstanceAwareCounter(
                "resting",
                RedisStore(f"redis://{host}:{port}"),
                dead_instance_threshold=3 * period,
                heartbeat_interval=period,
            )
            await nursery.start(counter.run)
        else:
            await nursery.start(partial(_beat, host, port, f"instance{index}", period))


async def _beat(
    host: str,
    port: int,
    name: str,
    period: float,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:

    async with bare_socket(host, port) as inc:
        await inc(name)
        task_status.started()
        while True:
            await trio.sleep(period)
            await inc(name)


if __name__ == "__main__":
    trio.run(partial(main, *sys.argv[1:]))
