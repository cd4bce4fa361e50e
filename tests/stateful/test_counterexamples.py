"""What the state machine has found, or has shown to be the right answer, as small as it gets."""

from __future__ import annotations

import pytest
import trio

from distkit_actors import (
    CounterOverflowError,
    LaxInstanceAwareCounter,
    MemoryStore,
    OutcomeUnknownError,
    StrictInstanceAwareCounter,
)
from distkit_actors.testing import FaultyStore

LOW = -(2**63)


async def test_holding_twice_is_holding_once(autojump_clock: trio.abc.Clock) -> None:
    store = FaultyStore(MemoryStore())
    async with StrictInstanceAwareCounter.open("app", store) as counter:
        store.hold()
        store.hold()
        store.hold(replies=True)
        store.hold(replies=True)
        store.release()
        assert await counter.inc("a") == (1, 1)


async def test_dec_of_the_least_count_overflows_even_where_the_sum_would_fit(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with StrictInstanceAwareCounter.open("app", MemoryStore()) as counter:
        await counter.dec("a")
        with pytest.raises(CounterOverflowError):
            await counter.dec("a", LOW)  # −1 + 2^63 fits, but the count itself does not
        assert await counter.get("a") == (-1, -1)


async def test_a_clear_repeated_to_a_store_that_lost_the_counter_has_an_unknown_outcome(
    autojump_clock: trio.abc.Clock,
) -> None:
    # The loss was before the clear was first sent, but the counter cannot know that.
    inner = MemoryStore()
    store = FaultyStore(inner)
    async with (
        StrictInstanceAwareCounter.open("app", inner) as other,
        StrictInstanceAwareCounter.open("app", store) as counter,
    ):
        await other.inc("a", 5)
        inner.wipe()
        store.drop_request()
        with pytest.raises(OutcomeUnknownError):
            await counter.clear()
        assert await other.get("a") == (5, 5)


async def test_a_clear_that_the_store_lost_is_healed_with_the_second_heartbeat(
    autojump_clock: trio.abc.Clock,
) -> None:
    store = MemoryStore()
    async with (
        StrictInstanceAwareCounter.open("app", store) as first,
        StrictInstanceAwareCounter.open("app", store) as second,
    ):
        await first.clear()
        await second.inc("a", 2)
        await first.inc("a", 1)
        await trio.sleep(0.1)  # the lost store's clock was ahead of time by a step or two
        store.wipe()
        async with StrictInstanceAwareCounter.open("app", store) as newcomer:
            # It counts before anybody has told the store of the clear, and keeps the count.
            await newcomer.inc("a", 4)
            await trio.sleep(21)  # two heartbeats
            for counter, own in ((first, 1), (second, 2), (newcomer, 4)):
                assert await counter.get("a") == (7, own)


async def test_a_first_lax_inc_that_reads_is_overtaken_by_a_count_that_does_not(
    autojump_clock: trio.abc.Clock,
) -> None:
    store = MemoryStore()
    async with LaxInstanceAwareCounter.open("app", store) as counter:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(counter.dec, "a", 1)  # reads the store before it counts
            nursery.start_soon(counter.set_on_instance, "a", 0)
        assert counter.get_nowait("a") == (-1, -1)
        await counter.flush()
    async with StrictInstanceAwareCounter.open("app", store) as reader:
        assert await reader.get("a") == (0, 0)


async def test_a_leave_soon_after_an_outage_may_leave_the_slices_to_the_reaper(
    autojump_clock: trio.abc.Clock,
) -> None:
    inner = MemoryStore()
    store = FaultyStore(inner)
    async with StrictInstanceAwareCounter.open("app", inner) as other:
        async with StrictInstanceAwareCounter.open("app", store, exit_grace=0.05) as counter:
            await counter.inc("a", 3)
            store.cut()
            await trio.sleep(20)
            store.heal()  # but the counter still waits for its next try to reconnect
        assert (await other.get("a")).cumulative in (0, 3)
        await trio.sleep(42)  # threshold and one heartbeat
        assert await other.get("a") == (0, 0)
