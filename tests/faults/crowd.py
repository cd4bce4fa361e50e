"""A program with many counters, all of which start at once.

``python -m tests.faults.crowd INSTANCES KEYS THRESHOLD``, with the store's URL and the prefix in
the environment. It prints a line when all have counted every key once. When its input ends it
prints how often one of them was told to tell the store everything again, and the longest time in
seconds for which its own event loop stood still; then it ends without a farewell.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import trio

from distkit_actors import RedisStore, StrictInstanceAwareCounter
from distkit_actors._instance._session import Session

INSTANCES, KEYS, THRESHOLD = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])


class Returns:
    """Counts how often a session is told that the store does not know it, or took it for dead."""

    def __init__(self) -> None:
        self.count = 0
        original = Session._must_resume

        def counting(session: Session, *rest: Any) -> Any:  # type: ignore[explicit-any]  # any result
            self.count += 1
            return original(session, *rest)

        Session._must_resume = counting  # type: ignore[method-assign]  # counts what it is


async def main() -> None:
    """Let all of them count, and wait."""
    returns = Returns()
    store = RedisStore(os.environ["CROWD_URL"])
    counted, longest = 0, 0.0

    async def one() -> None:
        nonlocal counted
        async with StrictInstanceAwareCounter.open(
            os.environ["CROWD_PREFIX"], store, dead_instance_threshold=THRESHOLD, on_exit="linger"
        ) as counter:
            await counter.inc_all(dict.fromkeys((f"k{n}" for n in range(KEYS)), 1))
            counted += 1
            if counted == INSTANCES:
                print("counted", flush=True)
            await trio.sleep_forever()

    async def watch() -> None:
        nonlocal longest
        while True:
            before = trio.current_time()
            await trio.sleep(0.01)
            longest = max(longest, trio.current_time() - before)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        for _ in range(INSTANCES):
            nursery.start_soon(one)
        await trio.lowlevel.wait_readable(sys.stdin.fileno())
        print(returns.count, longest, flush=True)
        os._exit(0)


if __name__ == "__main__":
    trio.run(main)
