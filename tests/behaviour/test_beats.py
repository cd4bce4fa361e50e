"""What is a sign of life and what is none; and what beats do must be done without them too."""

# ruff: noqa: SIM300 - expected == actual, all through

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
import trio.testing

from distkit_actors import StoreError
from distkit_actors._actor._operations import QueryOperation
from distkit_actors._actor._requester import Lost
from distkit_actors._protocol._messages import Apply, Open, Query, QueryKind, Request, Resume
from distkit_actors._stores._contract import Link
from tests.behaviour.test_cancellation import STEPS, ticks
from tests.behaviour.world import MIN, Counter, World, each, outcome, struck


async def ask_a_question(counter: Counter) -> None:
    """Have the store asked what needs no batch."""
    await counter._actor.ask(QueryOperation(Query(counter.instance_id, QueryKind.KEYS)))


async def test_i3_one_who_only_asks_questions_lives(world: World) -> None:
    """A survey changes nothing in the store, so it must not stand for a beat."""
    a, b = await world.strict(), await world.strict()
    await a.inc("k", 5)
    end = trio.current_time() + 2 * world.threshold
    while trio.current_time() < end:
        await ask_a_question(a)
        assert (5, 0) == await b.get("k")
        await world.intervals(0.3)


async def test_i3_a_question_does_not_take_the_place_of_a_beat(world: World) -> None:
    """Where both are due at the same moment."""
    a = await world.strict()
    a._actor._loop._agenda.beat_due = True
    before = len(world.requests(a))
    await ask_a_question(a)
    await world.intervals(0.1)
    assert before + 2 == len(world.requests(a))


async def test_an_answer_from_the_record_is_no_sign_of_life(world: World) -> None:
    """The request was executed when it was sent for the first time."""
    a = await world.strict(heartbeat_interval=world.threshold / 2)
    await trio.sleep(0.1)
    async with trio.open_nursery() as nursery:
        start = trio.current_time()
        nursery.start_soon(a.inc, "k")
        async with world.reply_lost(a, lambda request: True):
            await world.intervals(0.3)
    age = a.statistics().last_heartbeat_age
    assert age is not None
    assert age >= trio.current_time() - start >= 0.3 * world.interval


async def test_i12_a_busy_counter_tries_again_to_end_a_hold(world: World) -> None:
    """Though it needs no beats, and the end had no room in the cumulative at first."""
    a, b, c = await world.strict(), await world.strict(), await world.strict()
    async with a.hold("k"):
        await b.set_on_instance("k", MIN)
        await c.dec("k")
    assert (MIN, 1) == await a.get("k")
    await c.inc("k")
    end = trio.current_time() + 2 * world.interval
    while trio.current_time() < end:
        await a.get("j")
        await world.intervals(0.1)
    assert (MIN, 0) == await a.get("k")


async def test_a_hold_that_the_store_refused_to_end_ends_when_it_answers_again(
    world: World,
) -> None:
    """With the first answer, not with the next beat."""
    a = await world.strict()
    await a.get("k")
    async with a.hold("k"):
        world.wire(a).refuse(StoreError("out of memory"))
        with pytest.raises(StoreError):
            await a.get("k")
    await ticks(STEPS)
    world.wire(a).refuse(None)
    await a.get("j")
    assert (0, 0) == await a.get("k")


async def test_counts_whose_flush_fell_into_a_refusal_arrive_though_no_beat_is_due(
    world: World,
) -> None:
    """One who is busy beats never, and what the store refused was not even these counts."""
    a, b = await world.lax(), await world.strict()
    wire = world.wire(a)
    wire.hold()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(a.get, "busy")  # on its way while the flush falls due
        await ticks(STEPS)
        a.inc_nowait("k", 5)
        await trio.sleep(0.05)
        wire.refuse(StoreError("out of memory"))
        wire.release()
    wire.refuse(None)
    end = trio.current_time() + 2 * world.interval
    while trio.current_time() < end:
        await a.get("busy")
        await world.intervals(0.3)
    assert (5, 0) == await b.get("k")


@pytest.mark.parametrize("what", [Apply, Resume])
async def test_what_the_store_refuses_and_nobody_may_give_up_is_tried_with_each_beat_only(
    world: World, what: type[Request]
) -> None:
    """A batch in doubt, or a return: the beat that comes due waits behind it all the while."""
    a, b = await world.strict(), await world.strict()
    await a.inc("k")
    wire = world.wire(a)
    wire.delay(0.001)  # lest no time passes if it tries without a pause
    if what is Apply:
        wire.drop_reply()
    else:
        await world.backend.wipe(world.prefix)
    wire.answer(StoreError("out of memory"), None, executed=False, when=_is(what))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outcome, each(a.inc, "k"))
        await struck(wire, "answer")
        began = wire.counts["answer"]
        await world.intervals(3.5)
        assert 3 <= wire.counts["answer"] - began <= 4
        wire.forget_plan()
        await world.intervals(1)
    expected = 2 if what is Apply else 1  # what waited for the return has failed
    assert (expected, 0) == await b.get("k")


async def test_i5_who_has_slices_without_room_lives_where_only_counts_are_refused(
    world: World,
) -> None:
    """They are tried again once in a period, and that is no beat."""
    a, b = await world.strict(), await world.strict()
    await world.leave_no_room(a, b)
    wire = world.wire(a)
    wire.answer(StoreError("out of memory"), None, executed=False, when=_counts)
    for _ in range(12):
        await world.intervals(0.5)
        ages = {info.instance_id: info.heartbeat_age for info in await b.instances()}
        assert ages[a.instance_id] < 2 * world.interval
    assert 3 <= wire.counts["answer"] <= 7
    wire.forget_plan()


def _counts(request: Request) -> bool:
    return isinstance(request, Apply) and bool(request.entries)


def _is(kind: type[Request]) -> Callable[[Request], bool]:
    return lambda request: isinstance(request, kind)


@pytest.mark.parametrize("living", [1, 30])
async def test_i14_those_who_live_share_the_pace_at_which_they_reap(
    world: World, living: int
) -> None:
    """Each for itself at full speed, hundreds would leave a server no time for anything else."""
    ghost = await world.lax()
    for number in range(3000):
        ghost.inc_nowait(f"key-{number}")
    await ghost.flush()
    for _ in range(living):
        await world.strict()
    full = await world.backend.footprint(world.prefix)
    world.kill(ghost)
    while await world.backend.footprint(world.prefix) == full:  # noqa: ASYNC110 - there is no event
        await trio.sleep(0.05)
    begun = trio.current_time()
    while await world.backend.footprint(world.prefix) > full - 6000:  # noqa: ASYNC110 - as above
        await trio.sleep(0.01)  # each slice and its sum
    took = trio.current_time() - begun
    assert took < 2 * world.interval
    # They need 60 batches, which would take them 2 ms if each went on at once.
    assert took > 0.1 or living == 1


async def test_a_sign_of_life_goes_though_a_query_before_it_is_refused(world: World) -> None:
    """The query was none. The refusal of a batch puts what is due off."""
    a = await world.strict()
    world.beat_slowly()
    wire = world.wire(a)
    wire.hold()
    wire.answer(StoreError("no"), executed=False, when=lambda request: isinstance(request, Query))
    async with trio.open_nursery() as nursery:

        async def ask() -> None:
            with pytest.raises(StoreError, match="no"):
                await a.instances()

        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        a._actor.parts[0]._loop.beat()
        wire.release()
    await trio.testing.wait_all_tasks_blocked()
    assert isinstance(world.requests(a)[-1], Apply)


async def test_a_start_counts_as_heard_when_it_was_taken_in(world: World) -> None:
    """To load what is inherited takes long, and is no sign of life."""
    old = await world.strict(instance_id="me")
    for half in range(5):
        await old.inc_all(dict.fromkeys((f"k-{half}-{number}" for number in range(500)), 1))
    world.tolerate(old)
    heir = world.build("strict", instance_id="me", inherit=True)
    world.wire(heir).delay(0.1)
    await world.start(heir)
    age = heir.statistics().last_heartbeat_age
    assert age is not None
    assert age > 0.45


async def test_a_start_that_is_tried_again_was_heard_when_it_was_first_asked(
    world: World,
) -> None:
    """A repeated request is no sign of life: the next one comes at once, or others take it dead."""
    b = await world.strict(dead_instance_threshold=1000.0)
    a = world.build("strict", instance_id="me", start_grace=100.0)
    lost = 0.9 * world.threshold
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.start, a)
        async with world.reply_lost(a, lambda request: isinstance(request, Open)):
            await trio.sleep(lost)
    age = a.statistics().last_heartbeat_age
    assert age is None or age < world.interval or age >= lost
    for _ in range(20):
        await world.intervals(0.1)
        await b.inc("else")
        (me,) = [each for each in await b.instances() if each.instance_id == "me"]
        assert me.alive


@pytest.mark.parametrize("interval", [7.0, 50.0, 60.0, 2400.0])
async def test_the_store_is_looked_at_each_minute_however_slow_the_beats_are(
    world: World, interval: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = await world.strict(dead_instance_threshold=3 * interval, heartbeat_interval=interval)
    looks, requester = 0, a._actor.parts[0]._loop.requester
    inspect = requester.inspect

    async def look(link: Link) -> Lost | None:
        nonlocal looks
        looks += 1
        return await inspect(link)

    monkeypatch.setattr(requester, "inspect", look)
    await trio.sleep(1)
    for number in range(1, 20):
        await trio.sleep(60)
        assert number <= looks <= 1.4 * number
