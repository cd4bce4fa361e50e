"""How a namespace is filled, through nothing but the public interface."""

from __future__ import annotations

import trio

from benchmarks.load import key_names
from distkit_actors import LaxInstanceAwareCounter, StrictInstanceAwareCounter

#: Longer than any measurement: who lingers counts as alive all along.
_FOREVER = 3600.0
_AT_ONCE = 10


async def fill(url: str, prefix: str, keys: int) -> None:
    """Have an instance count ``keys`` keys and linger."""
    async with LaxInstanceAwareCounter.open(
        prefix, url, dead_instance_threshold=_FOREVER, on_exit="linger"
    ) as counter:
        for name in key_names(keys):
            counter.inc_nowait(name)
        await counter.flush()


async def populate(url: str, prefix: str, instances: int, *, keys: int = 1) -> None:
    """Have so many instances come, count ``keys`` keys each, and linger."""
    limiter = trio.CapacityLimiter(_AT_ONCE)

    async def one() -> None:
        async with (
            limiter,
            StrictInstanceAwareCounter.open(
                prefix, url, dead_instance_threshold=_FOREVER, on_exit="linger"
            ) as counter,
        ):
            for name in key_names(keys):
                await counter.inc(name)

    async with trio.open_nursery() as nursery:
        for _ in range(instances):
            nursery.start_soon(one)
