"""How the public surface looks to a type checker; never run, checked by ``make types``.

A line that must be an error has an ignore for it: if it were none, the ignore would be
unused, which is an error too.
"""

from __future__ import annotations

from typing import assert_type

import trio

from distkit_actors import (
    BoundCounter,
    BoundLaxCounter,
    CounterStatistics,
    CounterValue,
    InstanceAwareCounter,
    LaxInstanceAwareCounter,
    MemoryStore,
    RedisStore,
    Store,
    StrictInstanceAwareCounter,
    open_store,
)


async def generic(counter: InstanceAwareCounter) -> None:
    """Either kind serves where the base is asked for."""
    assert_type(await counter.inc("k"), CounterValue)
    assert_type(await counter.dec("k", 2), CounterValue)
    assert_type(await counter.get("k"), CounterValue)
    assert_type(await counter.set("k", 1), CounterValue)
    assert_type(await counter.set_on_instance("k", 1), CounterValue)
    assert_type(await counter.delete("k"), CounterValue)
    assert_type(await counter.delete_on_instance("k"), CounterValue)
    await counter.clear()
    await counter.clear_on_instance()
    assert_type(counter.bind("k"), BoundCounter)
    assert_type(counter.statistics(), CounterStatistics)
    assert_type(counter.prefix, str)
    assert_type(counter.instance_id, str)
    cumulative, own = await counter.get("k")
    assert_type(cumulative, int)
    assert_type(own, int)


async def embedded(nursery: trio.Nursery) -> None:
    """`nursery.start` gives the counter; a block gives its own class."""
    strict = StrictInstanceAwareCounter("app", MemoryStore())
    await nursery.start(strict.run)
    await generic(strict)
    async with StrictInstanceAwareCounter.open("app", "memory://", exit_grace=1.0) as opened:
        assert_type(opened, StrictInstanceAwareCounter)
    async with LaxInstanceAwareCounter.open("app", "memory://", allowed_lag=0.1) as lax:
        assert_type(lax, LaxInstanceAwareCounter)
        lax.inc_nowait("k")
        assert_type(lax.get_nowait("k"), CounterValue)
        assert_type(lax.bind("k"), BoundLaxCounter)
        await lax.flush()
        await generic(lax)


def stores() -> None:
    """Stores and their options."""
    assert_type(open_store("memory://"), Store)
    RedisStore("redis://", response_timeout=1.0, transport="asyncio")


async def mistakes(strict: StrictInstanceAwareCounter, lax: LaxInstanceAwareCounter) -> None:
    """What must not pass."""
    await strict.inc(1)  # type: ignore[arg-type]
    await strict.inc("k", "1")  # type: ignore[arg-type]
    await strict.flush()  # type: ignore[attr-defined]
    lax.inc_nowait("k", 1.5)  # type: ignore[arg-type]
    await strict.get("k", timeout=1)  # type: ignore[call-arg]
    InstanceAwareCounter("app", "memory://")  # type: ignore[abstract]
    RedisStore("redis://", transport="other")  # type: ignore[arg-type]
    StrictInstanceAwareCounter("app", "memory://", on_exit="stay")  # type: ignore[arg-type]
