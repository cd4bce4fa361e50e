"""`clear_on_instance` of more keys than one step holds."""

from __future__ import annotations

import trio
import trio.testing

from distkit_actors import MemoryStore, StrictInstanceAwareCounter
from distkit_actors._protocol._messages import Apply, Kind
from distkit_actors.testing import FaultyStore


async def test_a_cancelled_clear_ends_though_it_was_reaped_half_way(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Its first step is done, then the instance is reaped: the other steps follow all the same."""
    store = MemoryStore()
    wire = FaultyStore(store)

    def removes(request: object) -> bool:
        return isinstance(request, Apply) and any(e.kind is Kind.PUT for e in request.entries)

    async with (
        StrictInstanceAwareCounter.open("app", wire, dead_instance_threshold=6) as counter,
        StrictInstanceAwareCounter.open("app", store, dead_instance_threshold=6) as other,
    ):
        async with trio.open_nursery() as nursery:
            for n in range(1500):
                nursery.start_soon(counter.inc, f"k{n}")
        wire.forward(1, when=removes)
        wire.drop_request(1, when=removes)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(counter.clear_on_instance)
            while not wire.counts["drop_request"]:
                await trio.lowlevel.checkpoint()
            wire.cut()
            nursery.cancel_scope.cancel()
        await trio.sleep(30)
        await other.inc("else")
        wire.heal()
        await trio.sleep(10)
        left = [n for n in range(1500) if (await other.get(f"k{n}")).cumulative]
        assert left == []
