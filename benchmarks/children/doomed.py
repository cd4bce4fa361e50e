"""A process full of lax counters with many keys each, which is to be killed.

Arguments: the store's URL, the prefix, how many counters, how many keys each, and the
threshold in seconds.
"""

from __future__ import annotations

import sys
from functools import partial

import trio

from benchmarks.children.speech import questions_on_trio, say
from benchmarks.load import key_names
from benchmarks.open_files import allow
from distkit_actors import LaxInstanceAwareCounter

#: So many load at once: more would only wait for the server, and the first of them too long.
_AT_ONCE = 8


async def main(url: str, prefix: str, count: str, keys: str, threshold: str) -> None:
    """Load, say so, and stay alive."""
    names = key_names(int(keys))
    number = allow(int(count))
    limiter = trio.CapacityLimiter(_AT_ONCE)
    async with trio.open_nursery() as nursery:

        async def load() -> None:
            async with limiter:
                counter = LaxInstanceAwareCounter(
                    prefix, url, dead_instance_threshold=float(threshold)
                )
                await nursery.start(counter.run)
                for name in names:
                    counter.inc_nowait(name)
                await counter.flush()

        async with trio.open_nursery() as loading:
            for _ in range(number):
                loading.start_soon(load)
        say(ready=1, running=number)
        async for _ in questions_on_trio():
            say(running=number)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(partial(main, *sys.argv[1:]))
