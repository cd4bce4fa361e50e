"""`flush` waits for what was counted before it, and for nothing else, whatever happens."""

from __future__ import annotations

from typing import Any

import trio

from distkit_actors._protocol._values import INT64_MAX, INT64_MIN
from tests.behaviour.world import World, on_memory


async def test_a_flush_ends_when_its_batch_was_sent_again(world: World) -> None:
    """Reaped meanwhile: what was on its way and what was pending go as one."""
    a: Any = await world.lax(flush_interval=1000.0)
    b = await world.strict()
    await a.inc("validator", 1)
    await a.flush()
    world.wire(a).hold()
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            a.inc_nowait("k", 1)
            nursery.start_soon(a.flush)
            await trio.sleep(0.01)
            a.inc_nowait("k", 2)
            nursery.start_soon(a.flush)

            async def gone() -> bool:
                return (await b.get("validator")).cumulative == 0

            await world.until(gone)
            world.wire(a).release()
    assert await b.get("k") == (3, 0)


@on_memory
async def test_a_flush_waits_for_counts_that_take_three_entries(world: World) -> None:
    """Two values far apart differ by more than two int64."""
    a: Any = await world.lax(flush_interval=1000.0)
    b = await world.strict()
    a.inc_nowait("k", INT64_MIN)
    await a.flush()
    for count in (1, INT64_MAX, INT64_MAX):
        a.inc_nowait("k", count)
    await a.flush()
    assert await b.get("k") == (INT64_MAX, 0)


@on_memory
async def test_a_flush_does_not_wait_for_what_comes_later(world: World) -> None:
    a: Any = await world.lax(flush_interval=1000.0)
    a.inc_nowait("k")
    world.wire(a).delay(0.1)
    ended = trio.Event()

    async def flush() -> None:
        await a.flush()
        ended.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(flush)
        with trio.move_on_after(0.35):
            while not ended.is_set():
                a.inc_nowait("k")
                await trio.sleep(0.01)
        assert ended.is_set()
