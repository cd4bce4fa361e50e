"""What random histories have found, or have shown to be the right answer, as small as it gets."""

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

LOW, HIGH = -(2**63), 2**63 - 1


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


# ------------------------------------------------------------------- batches and holds


async def test_several_keys_at_once_do_not_overtake_what_was_counted_before(
    autojump_clock: trio.abc.Clock,
) -> None:
    inner = MemoryStore()
    store = FaultyStore(inner)
    async with (
        StrictInstanceAwareCounter.open("app", inner) as other,
        LaxInstanceAwareCounter.open("app", store) as counter,
    ):
        await counter.inc("a")
        await counter.flush()
        store.cut()
        await trio.sleep(60)
        assert await other.get("a") == (0, 0)  # it was reaped, and has to resume
        store.heal()
        counter.inc_nowait("a", 5)  # goes ahead of the batch, and must be sent twice
        await counter.set_all({"a": 1})
        await counter.flush()
        assert await other.get("a") == (1, 0)


async def test_a_move_does_not_overtake_the_end_of_a_hold(autojump_clock: trio.abc.Clock) -> None:
    store = MemoryStore()
    async with (
        StrictInstanceAwareCounter.open("app", store) as other,
        LaxInstanceAwareCounter.open("app", store, flush_interval=5) as counter,
    ):
        async with counter.hold("a"):
            await counter.flush()
            await other.delete("a")
        counter.inc_nowait("a", 5)  # goes together with the end of the hold, which is void
        await counter.set("a", 1)
        await counter.flush()
        assert await other.get("a") == (1, 0)


async def test_a_hold_that_was_void_when_it_came_back_takes_nothing_back(
    autojump_clock: trio.abc.Clock,
) -> None:
    inner = MemoryStore()
    store = FaultyStore(inner)
    async with (
        StrictInstanceAwareCounter.open("app", inner) as other,
        StrictInstanceAwareCounter.open("app", store) as counter,
    ):
        await counter.inc("a")
        # So many that it resumes in two pieces: the first says that the hold is void.
        await counter.inc_all({f"k{n}": 1 for n in range(1000)})
        await other.set("a", 3)
        store.drop_reply()
        store.hold()
        async with trio.open_nursery() as nursery:

            async def hold() -> None:
                with pytest.raises(OutcomeUnknownError):
                    await counter.hold("a").__aenter__()

            nursery.start_soon(hold)
            await trio.testing.wait_all_tasks_blocked()
            inner.wipe()
            assert await other.get("a") == (3, 3)
            store.release()
        await trio.sleep(30)
        assert await counter.get("a") == (3, 0)


@pytest.mark.parametrize("kind", [StrictInstanceAwareCounter, LaxInstanceAwareCounter])
async def test_a_hold_that_ends_while_its_counter_leaves_is_nothing_left_undone(
    kind: type[StrictInstanceAwareCounter | LaxInstanceAwareCounter],
    autojump_clock: trio.abc.Clock,
) -> None:
    store = FaultyStore(MemoryStore())
    async with kind.open("app", store) as counter:
        block = counter.hold("a")
        await block.__aenter__()
        await trio.sleep(1)
        store.delay(0.5)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(counter.aclose)
            await trio.sleep(0.2)
            await block.__aexit__(None, None, None)
    assert not counter.statistics().pending_keys


@pytest.mark.parametrize("kind", [StrictInstanceAwareCounter, LaxInstanceAwareCounter])
async def test_what_could_not_be_taken_back_cannot_be_held(
    kind: type[StrictInstanceAwareCounter | LaxInstanceAwareCounter],
    autojump_clock: trio.abc.Clock,
) -> None:
    async with kind.open("app", MemoryStore()) as counter:
        with pytest.raises(CounterOverflowError):
            counter.hold("a", LOW)
        async with counter.hold("a", LOW + 1), counter.hold("b", HIGH):
            pass
        assert await counter.get_all(["a", "b"]) == {"a": (0, 0), "b": (0, 0)}


@pytest.mark.parametrize("kind", [StrictInstanceAwareCounter, LaxInstanceAwareCounter])
async def test_a_hold_for_whose_end_there_is_no_room_ends_later(
    kind: type[StrictInstanceAwareCounter | LaxInstanceAwareCounter],
    autojump_clock: trio.abc.Clock,
) -> None:
    store = MemoryStore()
    async with (
        kind.open("app", store) as counter,
        StrictInstanceAwareCounter.open("app", store) as second,
        StrictInstanceAwareCounter.open("app", store) as third,
    ):
        async with counter.hold("a"):
            await trio.sleep(1)
            await second.inc("a", LOW)
            await third.dec("a")
        await trio.sleep(1)
        assert await third.get("a") == (LOW, -1)
        if isinstance(counter, LaxInstanceAwareCounter):
            await counter.flush()  # nothing is lost
        await third.inc("a", 5)
        await trio.sleep(20)  # two heartbeats
        assert await counter.get("a") == (LOW + 4, 0)
        assert not counter._actor._dispatch.releases.holds.outstanding()


async def test_a_hold_whose_end_was_replaced_is_forgotten(autojump_clock: trio.abc.Clock) -> None:
    async with LaxInstanceAwareCounter.open("app", MemoryStore()) as counter:
        async with counter.hold("a"):
            await counter.flush()
        await counter.set_on_instance("a", 7)  # before the end was sent
        await counter.flush()
        assert await counter.get("a") == (7, 7)
        assert not counter._actor._dispatch.releases.holds.outstanding()


async def test_a_move_right_after_a_hold_has_the_stamp_of_the_hold(
    autojump_clock: trio.abc.Clock,
) -> None:
    # All in the same microsecond, so that the first stamp not used is the next one's too.
    store = MemoryStore()
    async with (
        StrictInstanceAwareCounter.open("app", store) as other,
        StrictInstanceAwareCounter.open("app", store) as counter,
    ):
        await counter.inc("a")
        async with counter.hold("a"):
            await other.delete("a")
            await counter.inc("a", 5)  # the first it hears of it
        assert await counter.get("a") == (5, 5)


async def test_a_clear_that_the_store_lost_keeps_no_hold_from_ending(
    autojump_clock: trio.abc.Clock,
) -> None:
    store = MemoryStore()
    async with StrictInstanceAwareCounter.open("app", store) as first:
        await first.clear()
        await trio.sleep(0.1)  # the lost store's clock was ahead of time by a step or two
        store.wipe()
        await first.get("a")  # tells the store of the clear again
        network = FaultyStore(store)
        network.delay(0.01)  # lest no time passes if it tries for ever
        with trio.fail_after(5):
            async with StrictInstanceAwareCounter.open("app", network) as newcomer:
                async with newcomer.hold("a"):
                    pass
                assert await newcomer.inc("a") == (1, 1)


async def test_an_inherited_slice_of_a_key_never_read_is_counted_once(
    autojump_clock: trio.abc.Clock,
) -> None:
    # The newcomer hears of its predecessor's move, as of any other, before it reads the key.
    store = MemoryStore()
    async with StrictInstanceAwareCounter.open(
        "app", store, instance_id="one", on_exit="linger"
    ) as first:
        await first.set("a", 6)
    async with LaxInstanceAwareCounter.open(
        "app", store, instance_id="one", inherit=True
    ) as second:
        with pytest.raises(trio.WouldBlock):
            second.get_nowait("a")
        assert await second.slices("a") == {"one": 6}
        second.inc_nowait("a")
        assert await second.slices("a") == {"one": 7}


async def test_a_move_that_a_loss_undid_may_be_answered_after_it(
    autojump_clock: trio.abc.Clock,
) -> None:
    # It took effect, and so says its answer; what the key holds by now is another matter.
    inner = MemoryStore()
    store = FaultyStore(inner)
    answers: list[object] = []
    async with (
        StrictInstanceAwareCounter.open("app", inner) as other,
        StrictInstanceAwareCounter.open("app", store) as counter,
        trio.open_nursery() as nursery,
    ):

        async def call() -> None:
            answers.append(await counter.set("a", 5))

        store.hold(replies=True)
        nursery.start_soon(call)
        await trio.testing.wait_all_tasks_blocked()
        inner.wipe()
        assert await other.set("a", 2) == (2, 2)
        store.release()
        await trio.testing.wait_all_tasks_blocked()
        assert answers == [(5, 5)]
        assert (await other.get("a")).instance_count == 2
