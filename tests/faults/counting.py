"""Counters that count all the time while servers change their roles."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import trio

from distkit_actors import RedisStore
from tests.faults.fleet import Counter, lax, strict, until
from tests.faults.lens import Lens
from tests.harness.server import RedisServer

PATIENCE = 60.0


class Load:
    """Counters of one prefix, and what they have counted.

    Attributes:
        prefix: theirs.
        counted: by instance and key.
        longest: seconds that an `inc` has taken at most.
    """

    def __init__(self, prefix: str, pause: float) -> None:
        self.prefix = prefix
        self._pause = pause
        self.counted: dict[str, dict[str, int]] = {}
        self.longest = 0.0
        self._stopped = False

    async def count(self, counter: Counter) -> None:
        """Count, one after the other, until `all_there`."""
        own = self.counted.setdefault(counter.instance_id, {})
        number = 0
        while not self._stopped:
            key = f"k{number % 3}"
            begun_at = trio.current_time()
            await counter.inc(key)
            self.longest = max(self.longest, trio.current_time() - begun_at)
            own[key] = own.get(key, 0) + 1
            number += 1
            await trio.sleep(self._pause)

    async def more(self) -> None:
        """Wait until each counter has counted more."""
        before = {one: sum(keys.values()) for one, keys in self.counted.items()}
        await until(
            lambda: all(sum(self.counted[one].values()) > n + 5 for one, n in before.items()),
            PATIENCE,
        )

    def stop(self) -> None:
        """Let each counter end what it is at."""
        self._stopped = True

    async def all_there(self, server: RedisServer) -> None:
        """Hold that exactly what was counted is on a server, once all have come."""
        self.stop()
        lens = Lens(server, self.prefix)
        await until(lambda: lens.look().slices == self.counted, PATIENCE)
        lens.look().check()
        print(f"longest wait of a caller: {self.longest:.2f} s")


async def all_more(loads: Sequence[Load]) -> None:
    """Wait until each counter of each has counted more."""
    async with trio.open_nursery() as nursery:
        for load in loads:
            nursery.start_soon(load.more)


@asynccontextmanager
async def counting(
    url: str, prefixes: Sequence[str], pause: float = 0.002
) -> AsyncIterator[list[Load]]:
    """Run two strict counters and a lax one for each prefix, all of which count, on one store.

    ``pause``: seconds between two counts of one.
    """
    store = RedisStore(url, response_timeout=1.0)
    loads = [Load(prefix, pause) for prefix in prefixes]
    async with AsyncExitStack() as stack:
        counters: list[tuple[Load, Counter]] = []
        for load in loads:
            for make in (strict, strict, lax):
                counter = await stack.enter_async_context(
                    make(store, load.prefix, threshold=6.0, exit_grace=PATIENCE)
                )
                load.counted[counter.instance_id] = {}
                counters.append((load, counter))
        async with trio.open_nursery() as nursery:
            for load, counter in counters:
                nursery.start_soon(load.count, counter)
            await all_more(loads)
            yield loads
            for load in loads:
                load.stop()
