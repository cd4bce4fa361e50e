"""The story, told over a `MemoryStore` on mock time."""

import io
import math

import pytest
import trio
import trio.testing

from distkit_actors import (
    CounterClosedError,
    CounterValue,
    LaxInstanceAwareCounter,
    MemoryStore,
    StoreUnavailableError,
    StrictInstanceAwareCounter,
)
from distkit_actors._demo import story
from distkit_actors._demo.cuttable_store import Cable
from distkit_actors._demo.fleet import KEY, Beat, Fleet, cancelled_first
from distkit_actors._demo.picture import Books
from distkit_actors._demo.screen import PlainScreen

PREFIX = "told"


class Listening(PlainScreen):
    """A screen that does something at its cue."""

    def __init__(self, cue: str = "", event: trio.Event | None = None) -> None:
        self.out = io.StringIO()
        super().__init__(self.out, "header", "reason")
        self.cue = cue
        self.event = event

    def say(self, text: str) -> None:
        super().say(text)
        if self.cue in text and self.event is not None:
            self.event.set()

    @property
    def text(self) -> str:
        return self.out.getvalue()


@pytest.mark.parametrize("instances", [story.FEWEST, 4, 5, 12])
@pytest.mark.parametrize("seconds", [5.0, 18.0, 1000.0])
async def test_it_comes_out_right(
    autojump_clock: trio.testing.MockClock, instances: int, seconds: float
) -> None:
    screen = Listening()
    start = trio.current_time()
    right = await story.perform(MemoryStore(), screen, instances=instances, seconds=seconds)
    assert right, screen.text
    assert "WRONG" not in screen.text
    assert "Late" not in screen.text
    assert screen.text.endswith("\nThe books and the counters agree.\n")
    # It never takes less, or more than the beat it was in the middle of.
    assert seconds <= trio.current_time() - start <= seconds * (1 + 1 / story.THRESHOLDS)


async def test_all_that_was_promised_is_told(autojump_clock: trio.testing.MockClock) -> None:
    screen = Listening()
    await story.perform(MemoryStore(), screen, instances=5, seconds=18)
    cues = [
        "count connections",
        "web-3 dies with",
        "promise to forget it within 2.7 s",
        "Forgotten after",
        "web-3 is started again",
        "web-2 loses the store",
        "they count without its",
        "its slice is back",
        "web-5 is cut off",
        "web-1 sets the total to 40",
        "web-5 is back",
        "stops cleanly",
        "left behind          0         0  ok",
    ]
    found = [screen.text.find(cue) for cue in cues]
    assert -1 not in found, dict(zip(cues, found, strict=True))
    assert sorted(found) == found


@pytest.mark.parametrize(
    ("cue", "last_act"),
    [("count connections", "Connections"), ("web-2 loses", "A cut"), ("sets the total", "A new")],
)
async def test_a_count_that_is_not_in_the_books_is_found(
    autojump_clock: trio.testing.MockClock, cue: str, last_act: str
) -> None:
    store = MemoryStore()
    said = trio.Event()
    screen = Listening(cue, said)

    async def stranger() -> None:
        await said.wait()
        async with StrictInstanceAwareCounter.open(PREFIX, store) as counter:
            await counter.inc(KEY)
            await trio.sleep_forever()

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stranger)
            right = await story.perform(store, screen, instances=3, seconds=18, prefix=PREFIX)
            nursery.cancel_scope.cancel()
    assert not right
    assert screen.text.rpartition("== ")[2].startswith(last_act)
    assert "NOT agree" in screen.text
    assert "web-1 sees" in screen.text


async def test_what_is_left_behind_is_found(autojump_clock: trio.testing.MockClock) -> None:
    store = MemoryStore()
    said = trio.Event()
    screen = Listening("stops cleanly", said)

    async def stranger() -> None:
        async with StrictInstanceAwareCounter.open(PREFIX, store) as counter:
            await said.wait()
            await counter.inc(KEY, 7)
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(stranger)
        right = await story.perform(store, screen, instances=3, seconds=18, prefix=PREFIX)
        nursery.cancel_scope.cancel()
    assert not right
    assert "left behind          0         7  WRONG" in screen.text
    assert "everyone has left, but 7 connections stayed behind" in screen.text


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        (CounterValue(1, 0), "web-2 sees 1 instead of"),
        (CounterValue(0, 1), "the slice of web-2 is 1 instead of"),
    ],
)
async def test_a_wrong_total_is_found(
    autojump_clock: trio.testing.MockClock,
    monkeypatch: pytest.MonkeyPatch,
    wrong: CounterValue,
    complaint: str,
) -> None:
    values = Fleet.values

    async def falsified(self: Fleet) -> dict[str, CounterValue]:
        return {**await values(self), "web-2": wrong}

    monkeypatch.setattr(Fleet, "values", falsified)
    screen = Listening()
    assert not await story.perform(MemoryStore(), screen, instances=3, seconds=18)
    assert complaint in screen.text
    assert "WRONG" in screen.text


async def test_a_slow_store_is_excused(autojump_clock: trio.testing.MockClock) -> None:
    """A promise broken by a little is told, but is no mismatch: computers can be busy."""
    async with trio.open_nursery() as nursery:
        fleet = Fleet(MemoryStore(), PREFIX, size=3, threshold=2.0)
        teller = story.Story(fleet, Listening(), nursery)
        assert teller._excuse(2.7) == ""
        assert "busy" in teller._excuse(4.0)


async def test_a_reader_who_is_slow_to_end_reads_no_counter_that_stops(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer may come in the turn in which its reader is cancelled."""
    asked = trio.Event()

    async def late(self: LaxInstanceAwareCounter, buffered: object) -> None:
        asked.set()
        with trio.CancelScope(shield=True):
            await trio.sleep(0.1)

    async with trio.open_nursery() as nursery:
        fleet = Fleet(MemoryStore(), PREFIX, size=2, threshold=2.0)
        await fleet.run(nursery)
        monkeypatch.setattr(LaxInstanceAwareCounter, "_refresh", late)
        await asked.wait()
        await fleet.instances[1].leave()
        await trio.sleep(1)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("after", [0.01, 2.0, 3.6, 9.0, 13.0, 16.0, 17.9])
async def test_interrupted_at_any_time_everyone_leaves(
    autojump_clock: trio.testing.MockClock, after: float
) -> None:
    store = MemoryStore()
    with trio.move_on_after(after):
        await story.perform(store, Listening(), instances=5, seconds=18, prefix=PREFIX)
    async with StrictInstanceAwareCounter.open(PREFIX, store) as counter:
        cumulative, _ = await counter.get(KEY)
    # Only a crashed one may stay, and only until it is found to be dead.
    assert cumulative == 0 or after == 3.6
    assert trio.current_time() - after <= 1.5


async def test_a_store_that_cannot_be_reached(autojump_clock: trio.testing.MockClock) -> None:
    cable = Cable(MemoryStore())
    cable.cut()
    screen = Listening()
    with pytest.RaisesGroup(StoreUnavailableError, flatten_subgroups=True, allow_unwrapped=True):
        await story.perform(cable, screen, instances=3, seconds=18)
    assert screen.text == ""  # the complaint is all there is to read


async def test_a_cable_that_is_cut_lets_no_answer_through(nursery: trio.Nursery) -> None:
    cable = Cable(MemoryStore())

    async def cut_soon() -> None:
        await trio.testing.wait_all_tasks_blocked()
        cable.cut()

    async with cable.link(PREFIX) as link:
        await link.connect()
        assert link.connected
        nursery.start_soon(cut_soon)
        with trio.fail_after(5), pytest.raises(StoreUnavailableError, match="the cable is cut"):
            await cable.carry(trio.sleep_forever)
        assert not link.connected
        with pytest.raises(StoreUnavailableError):
            await link.connect()
        cable.mend()
        assert link.connected
        await link.connect()


async def test_a_cancellation_comes_before_a_closed_counter() -> None:
    with trio.CancelScope() as scope:
        async with cancelled_first():
            scope.cancel()
            raise CounterClosedError("stopping")
    assert scope.cancelled_caught
    with pytest.RaisesGroup(CounterClosedError):
        async with cancelled_first():
            raise CounterClosedError("stopped")


def test_books_add_what_counts() -> None:
    books = Books()
    books.count("a", 3)
    books.count("b", -1)
    assert books.cumulative == 2
    books.absent.add("a")
    assert books.cumulative == -1
    books.absent.discard("a")
    books.set("b", 10)
    assert (books.slices, books.cumulative) == ({"b": 10}, 10)
    books.erase("b")
    books.erase("b")
    assert books.cumulative == 0


@pytest.mark.parametrize("start", [0.0, 123456.789])
@pytest.mark.parametrize("period", [0.1, 1 / 3, 0.4])
async def test_a_beat_comes_once_in_every_period(
    autojump_clock: trio.testing.MockClock, start: float, period: float
) -> None:
    autojump_clock.jump(start)
    begin = trio.current_time()
    beat = Beat(begin, period)
    times = []
    for _ in range(200):
        await beat.at(0.8)
        times.append(trio.current_time() - begin)
    expected = [(number + 0.8) * period for number in range(200)]
    assert all(map(lambda a, b: math.isclose(a, b, abs_tol=1e-6), times, expected))
