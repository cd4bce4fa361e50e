"""Hundreds of instances that start at once, in real processes on a real server."""

from __future__ import annotations

import os
import sys
from functools import partial

import trio

from distkit_actors import Eq, StrictInstanceAwareCounter
from tests.harness.pressure import pressure
from tests.harness.server import RedisServer

#: As many keys as a server reads in two pieces, so that beats overtake a batch.
PROCESSES, INSTANCES, KEYS = 2, 100, 1000
#: For all of it on a busy machine.
PATIENCE = 240.0


async def _line(process: trio.Process, read: bytearray) -> str:
    assert process.stdout is not None
    while b"\n" not in read:
        more = await process.stdout.receive_some()
        assert more, "the program has ended"
        read += more
    line, _, rest = read.partition(b"\n")
    read[:] = rest
    return line.decode()


async def test_i14_hundreds_that_start_at_once_are_all_counted_and_none_is_reaped(
    own_redis: RedisServer, fresh_prefix: str
) -> None:
    """The sums get exact, nobody who was in time is taken for dead, and the killed go."""
    threshold = 2.0 * pressure()
    program = [sys.executable, "-m", "tests.faults.crowd"]
    command = [*program, str(INSTANCES), str(KEYS), str(threshold)]
    start = partial(
        trio.run_process,
        command,
        env={**os.environ, "CROWD_URL": own_redis.url, "CROWD_PREFIX": fresh_prefix},
        stdin=-1,
        stdout=-1,
        check=False,
    )
    read = [bytearray() for _ in range(PROCESSES)]
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            crowd = [await nursery.start(start) for _ in range(PROCESSES)]
            for process, text in zip(crowd, read, strict=True):
                assert await _line(process, text) == "counted"
            async with StrictInstanceAwareCounter.open(
                fresh_prefix, own_redis.url, dead_instance_threshold=threshold
            ) as counter:
                everybody = PROCESSES * INSTANCES
                for key in ("k0", f"k{KEYS - 1}"):
                    assert (await counter.get(key)).cumulative == everybody
                crowd[0].kill()
                await counter.wait_until("k0", Eq(everybody - INSTANCES))
                assert crowd[1].stdin is not None
                await crowd[1].stdin.aclose()
                returns, longest = (await _line(crowd[1], read[1])).split()
                assert int(returns) == 0 or float(longest) > threshold
