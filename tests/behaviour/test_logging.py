"""What is logged: one line for each change of state, with its data, and nothing while all is well.

Lines about the store's set-up are in `tests/stores/test_inspection.py`.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator
from functools import partial

import pytest
import trio
import trio.testing

from distkit_actors import (
    CounterOverflowError,
    InstanceConflictError,
    LaxInstanceAwareCounter,
    StoreError,
    StoreUnavailableError,
)
from distkit_actors._protocol._messages import Open, Query, Request, Watch
from tests.behaviour.world import MAX, Counter, Flavour, World, both_flavours, struck
from tests.harness.logs import events, records


@pytest.fixture(autouse=True)
def everything(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Listen to all levels."""
    with caplog.at_level(logging.DEBUG, "distkit_actors"):
        yield


@both_flavours
async def test_a_healthy_life_is_two_lines(
    world: World, flavour: Flavour, caplog: pytest.LogCaptureFixture
) -> None:
    a = await world.make(flavour)
    for n in range(5):
        await a.inc(f"k{n}")
        await world.intervals(1)
    await a.aclose()
    assert events(caplog) == ["registered", "stopped"]
    assert {record.levelno for record in caplog.records} == {logging.INFO}
    born, ended = records(caplog)
    assert 0 <= born.duration < ended.duration
    assert ended.left


@both_flavours
async def test_every_line_says_whose_it_is(
    world: World, flavour: Flavour, caplog: pytest.LogCaptureFixture
) -> None:
    a = await world.make(flavour, instance_id="web-1")
    world.wire(a).cut()
    await world.intervals(2)
    await world.rejoin(a)
    await a.aclose()
    assert len(caplog.records) == 4
    for record in records(caplog):
        assert (record.prefix, record.instance, record.kind) == (world.prefix, "web-1", flavour)
        assert record.store == repr(world.wire(a))
        assert record.getMessage().startswith(f"{world.prefix} ({flavour}, web-1): ")
        assert record.funcName != "_say"


async def test_every_line_has_what_people_call_the_counter(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    await world.strict(instance_id="8d1", label="web-1")
    await world.strict(instance_id="9f2")
    called, other = records(caplog)
    assert called.label == "web-1"
    assert called.getMessage().startswith(f"{world.prefix} (strict, web-1, 8d1): ")
    assert not other.label
    assert other.getMessage().startswith(f"{world.prefix} (strict, 9f2): ")


async def test_who_was_forgotten_is_not_told_for_certain_that_it_was_silent(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    a, b = await world.strict(), await world.strict()
    await a.inc("k")
    await b.forget(a.instance_id)
    await a.inc("k")
    (returned,) = records(caplog)[2:]
    assert (returned.event, returned.cause) == ("returned", "reaped")
    assert "`forget`" in returned.getMessage()


async def test_two_counters_of_a_prefix_are_told_apart(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    a, b = await world.strict(), await world.lax()
    who = {(record.instance, record.kind) for record in records(caplog)}
    assert who == {(a.instance_id, "strict"), (b.instance_id, "lax")}


async def test_the_end_of_an_outage_tells_how_long_it_was_and_what_was_kept(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    a = await world.lax()
    await a.inc("k")
    await a.flush()
    world.wire(a).cut()
    began = trio.current_time()
    for key in ("k", "l", "m"):
        a.inc_nowait(key)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(a.set, "n", 1)
        await world.intervals(2)
        world.wire(a).heal()
    took = trio.current_time() - began
    away, back = records(caplog)[1:]
    assert (away.event, away.levelno, away.error) == ("away", logging.WARNING, str(away.args[1]))
    assert (back.event, back.levelno) == ("back", logging.WARNING)
    assert took - 1 < back.duration <= took
    assert (back.pending_keys, back.waiting_operations) == (3, 1)


async def test_the_end_of_a_refusal_is_said_as_loud_as_its_beginning(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    a = await world.strict()
    world.wire(a).refuse(StoreError("the store refuses: no room"))
    with pytest.raises(StoreError):
        await a.inc("k")
    with pytest.raises(StoreError):
        await a.inc("k")
    world.wire(a).refuse(None)
    await a.inc("k")
    refused, accepted = records(caplog)[1:]
    assert (refused.event, refused.levelno, refused.error) == ("refused", logging.ERROR, "no room")
    assert (accepted.event, accepted.levelno) == ("accepted", logging.ERROR)
    assert accepted.duration >= 0


async def test_an_outage_that_becomes_a_refusal_ends_once(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    a = await world.strict()
    wire = world.wire(a)
    wire.cut()
    await world.intervals(2)
    wire.refuse(StoreError("no room"))
    wire.heal()
    await world.intervals(2)
    wire.cut()  # it is no better than before
    await world.intervals(2)
    wire.heal()
    wire.refuse(None)
    await world.intervals(2)
    assert events(caplog)[1:4] == ["away", "refused", "accepted"]
    assert records(caplog)[3].duration >= 4 * world.interval
    assert events(caplog)[4:] == []


async def test_a_refusal_that_ends_as_it_stops_is_told(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    a = await world.strict()
    world.wire(a).refuse(StoreError("no room"))
    await world.intervals(2)
    world.wire(a).refuse(None)
    await a.aclose()
    assert events(caplog) == ["registered", "refused", "accepted", "stopped"]


def _asks(request: Request) -> bool:
    return isinstance(request, Query)


def _counts(request: Request) -> bool:
    return not _asks(request)


@both_flavours
async def test_a_full_store_that_answers_queries_is_one_outage(
    world: World, flavour: Flavour, caplog: pytest.LogCaptureFixture
) -> None:
    a = await world.make(flavour)
    wire = world.wire(a)
    wire.answer(StoreError("no room"), None, executed=False, when=_counts)
    count = partial(a.inc, "k")
    if isinstance(a, LaxInstanceAwareCounter):
        a.inc_nowait("k")
        count = a.flush
    with pytest.raises(StoreError, match="no room"):
        await count()
    began = trio.current_time()
    for _ in range(5):
        await world.intervals(1)
        assert len(await a.instances()) == 1
        age = a.statistics().outage_age
        assert age is not None
        assert age >= trio.current_time() - began
    assert events(caplog) == ["registered", "refused"]
    assert a.statistics().outages == 1
    wire.forget_plan()
    await world.intervals(2)
    assert events(caplog) == ["registered", "refused", "accepted"]
    assert a.statistics().pending_keys == 0


@both_flavours
async def test_queries_that_are_refused_are_no_outage(
    world: World, flavour: Flavour, caplog: pytest.LogCaptureFixture
) -> None:
    """Who asks is told; what is counted meanwhile goes on, and nobody who waits for it is told."""
    a = await world.make(flavour)
    wire = world.wire(a)
    wire.answer(StoreError("not yours"), None, executed=False, when=_asks)
    for _ in range(5):
        with pytest.raises(StoreError, match="not yours"):
            await a.instances()
        if isinstance(a, LaxInstanceAwareCounter):
            a.inc_nowait("k")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_not_answered, a)
                nursery.start_soon(a.flush)
        await world.intervals(1)
    assert events(caplog) == ["registered"]
    assert a.statistics().outages == 0


async def _not_answered(counter: Counter) -> None:
    with pytest.raises(StoreError):
        await counter.instances()


async def test_a_query_that_is_lost_while_the_store_refuses_is_asked_again_at_once(
    world: World,
) -> None:
    a = await world.strict()
    wire = world.wire(a)
    wire.answer(StoreError("no room"), None, executed=False, when=_counts)
    with pytest.raises(StoreError, match="no room"):
        await a.inc("k")
    for lose in (wire.drop_request, wire.drop_reply):
        lose(when=_asks)
        with trio.fail_after(world.interval / 10):
            assert len(await a.instances()) == 1


async def test_counts_that_are_refused_do_not_go_before_a_query_that_was_lost(
    world: World,
) -> None:
    a = await world.lax()
    wire = world.wire(a)
    wire.answer(StoreError("no room"), None, executed=False, when=_counts)
    a.inc_nowait("k")
    with pytest.raises(StoreError, match="no room"):
        await a.flush()
    await trio.sleep(0.1)  # the counts are due again
    for lose in (wire.drop_request, wire.drop_reply):
        lose(when=_asks)
        with trio.fail_after(world.interval / 10):
            assert len(await a.instances()) == 1
    wire.forget_plan()


#: What comes before a question, behind the end of a hold on "k".
_WRITES: dict[str, Callable[[Counter], Awaitable[object]] | None] = {
    "nothing": None,
    "set": lambda counter: counter.set("k", 1),
    "set_all": lambda counter: counter.set_all({"x": 1, "y": 1}),
}


@pytest.mark.parametrize("write", _WRITES)
async def test_the_end_of_a_hold_that_is_refused_does_not_fail_a_query(
    world: World, write: str
) -> None:
    """It does fail what needs a batch of its own, as it goes before that."""
    a = await world.strict()
    wire = world.wire(a)
    async with a.hold("k"):
        wire.answer(StoreError("no room"), None, executed=False, when=_counts)
    await struck(wire, "answer")
    for _ in range(3):
        wire.hold()
        async with trio.open_nursery() as nursery:
            if change := _WRITES[write]:
                nursery.start_soon(_refused, partial(change, a))
                await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(a.instances)
            await trio.testing.wait_all_tasks_blocked()
            wire.release()
    wire.forget_plan()
    await world.sees(a, "k", 0, 0)


async def _refused(write: Callable[[], Awaitable[object]]) -> None:
    with pytest.raises(StoreError, match="no room"):
        await write()


@both_flavours
async def test_a_beat_that_is_refused_does_not_fail_a_query_that_was_lost(
    world: World, flavour: Flavour
) -> None:
    a = await world.make(flavour)
    wire = world.wire(a)
    wire.answer(StoreError("no room"), None, executed=False, when=_counts)
    await struck(wire, "answer")
    for _ in range(3):
        wire.drop_request(when=_asks)
        wire.hold()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(a.instances)
            await world.intervals(1.5)  # a beat is due
            wire.release()
    wire.forget_plan()


async def test_who_returns_after_being_reaped_says_so(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    a, b = await world.strict(), await world.strict()
    await a.inc("k", 5)
    await world.cut(a)
    await world.reaped(a, by=b)
    caplog.clear()
    await world.rejoin(a)
    assert events(caplog) == ["back", "returned"]
    returned = records(caplog)[1]
    assert (returned.cause, returned.instance) == ("reaped", a.instance_id)
    assert (returned.slices, returned.withheld_slices) == (2, 0)  # with what `cut` marks it by
    assert returned.levelno == logging.WARNING
    assert returned.duration >= 0


async def test_who_finds_the_store_empty_says_so(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    a = await world.strict()
    await a.inc("k", 5)
    await world.intervals(1)  # else it is made anew at the same instant
    await world.backend.wipe(world.prefix)
    assert await a.inc("k") == (6, 6)
    assert events(caplog) == ["registered", "returned"]
    assert records(caplog)[1].cause == "wiped"
    assert "lost everything" in caplog.text


async def test_who_finds_the_store_set_back_says_so(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    a = await world.strict()
    await a.inc("k", 5)
    await world.backend.snapshot(world.prefix)
    await a.inc("k", 5)
    await world.backend.roll_back(world.prefix)
    assert await a.inc("k") == (11, 11)
    assert events(caplog) == ["registered", "returned"]
    assert records(caplog)[1].cause == "rolled_back"


async def test_slices_that_do_not_fit_are_said_once_and_when_they_do(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    a, b = await world.strict(), await world.strict()
    await a.inc("k", MAX)
    await world.cut(a)
    await world.reaped(a, by=b)
    await b.inc("k", 5)
    caplog.clear()
    await world.rejoin(a)
    await world.intervals(5)
    assert events(caplog) == ["back", "returned", "withheld"]
    assert records(caplog)[1].withheld_slices == records(caplog)[2].withheld_slices == 1
    await b.dec("k", 5)
    await world.intervals(3)
    assert events(caplog)[3:] == ["fitted"]
    assert records(caplog)[3].duration > 0


@both_flavours
async def test_the_superseded_says_so_and_nothing_after(
    world: World, flavour: Flavour, caplog: pytest.LogCaptureFixture
) -> None:
    old = world.build(flavour, instance_id="me")
    world.tolerate(old)
    await world.start(old)
    caplog.clear()
    await world.make(flavour, instance_id="me")
    await world.intervals(2)
    assert events(caplog) == ["registered", "superseded"]
    assert records(caplog)[1].levelno == logging.ERROR
    with pytest.raises(InstanceConflictError):
        await old.inc("k")
    assert events(caplog) == ["registered", "superseded"]


class Broken(logging.Filter):
    """A filter of an application that has a bug."""

    def filter(self, record: logging.LogRecord) -> bool:
        raise ZeroDivisionError(record.msg)


@pytest.mark.parametrize("shown", [True, False])
async def test_a_bug_in_the_logging_of_an_application_ends_no_counter(
    world: World,
    shown: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It is shown as `logging` shows bugs of handlers."""
    monkeypatch.setattr(logging, "raiseExceptions", shown)
    logger, broken = logging.getLogger("distkit_actors"), Broken()
    logger.addFilter(broken)
    try:
        a = await world.strict()
        world.wire(a).cut()
        await world.intervals(2)
        world.wire(a).heal()
        assert await a.inc("k") == (1, 1)
        await a.aclose()
    finally:
        logger.removeFilter(broken)
    assert ("ZeroDivisionError" in capsys.readouterr().err) == shown


async def test_who_lingers_says_that_its_slices_count_on(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    a = await world.strict(on_exit="linger", instance_id="me")
    await a.inc("k")
    await a.aclose()
    await world.strict(inherit=True, instance_id="me")
    _, stopped, registered = records(caplog)
    assert (stopped.event, stopped.left) == ("stopped", False)
    assert "count until its threshold has passed" in stopped.getMessage()
    assert (registered.event, registered.slices) == ("registered", 1)


@pytest.mark.parametrize("trouble", ["away", "refused"])
async def test_who_cannot_leave_says_so(
    world: World, trouble: str, caplog: pytest.LogCaptureFixture
) -> None:
    a = await world.strict()
    await a.inc("k")
    if trouble == "away":
        world.wire(a).cut()
    else:
        world.wire(a).refuse(StoreError("no room"))
    await world.intervals(2)
    await a.aclose()
    assert events(caplog) == ["registered", trouble, "not_left"]
    last = records(caplog)[-1]
    assert last.levelno == logging.WARNING
    assert last.error == ("" if trouble == "away" else "no room")


async def test_what_a_stop_could_not_send_is_said(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    a = world.build("lax", exit_grace=0.2)
    world.tolerate(a)
    await world.start(a)
    world.wire(a).cut()
    a.inc_nowait("k")
    a.inc_nowait("l")
    with pytest.raises(StoreUnavailableError):
        await a.aclose()
    assert events(caplog) == ["registered", "away", "unfinished"]
    assert records(caplog)[-1].undone == 2


async def test_a_crash_is_said_by_its_class_alone(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    a = world.build("strict")
    with pytest.RaisesGroup(ValueError, flatten_subgroups=True, allow_unwrapped=True):
        async with trio.open_nursery() as nursery:
            await nursery.start(a.run)
            world.tap(a).bug = ValueError("with a password in it")
            await world.intervals(2)
    assert events(caplog) == ["registered", "crashed"]
    assert records(caplog)[-1].error == "ValueError"
    assert "password" not in caplog.text


async def test_a_detached_start_is_told_from_being_registered(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    a = world.build("lax", detached_start=True)
    world.wire(a).cut()
    await world.start(a)
    await world.intervals(2)
    assert events(caplog) == ["detached", "away"]
    world.wire(a).heal()
    await world.intervals(2)
    assert events(caplog) == ["detached", "away", "back", "registered"]
    assert records(caplog)[-1].duration >= world.interval


async def test_a_start_that_fails_says_it_to_its_caller_only(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    a = world.build("strict")
    world.wire(a).refuse(StoreError("no room"), connections=True)
    with pytest.raises(StoreError):
        await a.run()
    b = world.build("strict")
    world.wire(b).drop_request(None, when=lambda request: isinstance(request, Open))
    with pytest.raises(StoreUnavailableError):
        await b.run()
    assert events(caplog) == []


async def test_counts_that_are_refused_are_named(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    a, b = await world.lax(), await world.strict()
    await a.get("k")
    await b.set_on_instance("k", MAX)
    a.inc_nowait("k", 7)
    await world.until(lambda: _counted(events(caplog), "counts_refused"))
    (record,) = [one for one in records(caplog) if one.event == "counts_refused"]
    assert (record.refused_keys, record.keys, record.levelno) == (1, ["k"], logging.ERROR)
    with pytest.raises(CounterOverflowError):
        await a.flush()


async def _counted(said: list[str], event: str) -> bool:
    return event in said


async def test_a_watch_that_is_not_pushed_says_so_until_it_is(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    a = await world.strict()
    wire = world.wire(a)
    never = partial(wire.answer, StoreError("no right"), None, executed=False)
    never(when=lambda request: isinstance(request, Watch))
    async with a.watch("k") as channel:
        await channel.receive()
        await trio.sleep(10)
        wire.forget_plan()
        await trio.sleep(10)
    said = [event for event in events(caplog) if "pushed" in event]
    assert said == ["not_pushed", "pushed"]
    (pushed,) = [record for record in records(caplog) if record.event == "pushed"]
    assert 8 < pushed.duration < 14
    assert pushed.levelno == logging.WARNING
