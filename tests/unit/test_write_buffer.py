"""The write buffer: the view is what the store said and all that is pending, and nothing is lost.

The properties compare it with a plain account, in which counts are lists of operations and the
store is two numbers for each key.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import pytest
from hypothesis import event, example, given
from hypothesis import strategies as st

from distkit_actors._instance._buffered_key import NEVER, BufferedKey
from distkit_actors._instance._holds import Hold
from distkit_actors._instance._write_buffer import Settled, WriteBuffer
from distkit_actors._protocol._messages import Entry, Kind, Previous, Rejection, Result, Slice
from distkit_actors._protocol._values import INT64_MAX, INT64_MIN, CounterValue, fits

KEYS: Final = "abc"
#: ("add", n) or ("put", n).
Op: TypeAlias = tuple[str, int]


def done(ops: Sequence[Op], value: int) -> int:
    """Return what operations make of a value."""
    for name, number in ops:
        value = number if name == "put" else value + number
    return value


@dataclass
class Account:
    """What should become of the counts of one key."""

    own: int = 0
    others: int = 0
    told: tuple[int, int] = (0, 0)
    """The cumulative and the own slice, as the store has last told of them."""
    pending: list[Op] = field(default_factory=list)
    flight: list[Op] = field(default_factory=list)

    @property
    def view(self) -> CounterValue:
        cumulative, own = self.told
        after = done([*self.flight, *self.pending], own)
        return CounterValue(cumulative - own + after, after)


class Pair:
    """A write buffer, its store, and the account of both."""

    def __init__(self) -> None:
        self.dirty: list[str] = []
        self.buffer = WriteBuffer(self.dirty.append)
        self.accounts = {key: Account() for key in KEYS}
        self.sent: list[Entry] = []
        self.staged = False
        self.now = 0.0

    def count(self, key: str, op: Op) -> None:
        buffered = self.buffer.buffered(key, self.now)
        if op[0] == "put":
            self.buffer.replace(buffered, op[1])
        else:
            buffered.delta += op[1]
            if not buffered.dirty:
                self.buffer.touch(buffered)
        self.accounts[key].pending.append(op)

    def send(self, limit: int, first: Sequence[str]) -> None:
        entries, nothing = self.buffer.send(limit, self.now, {}, first)
        self.sent = entries
        for key in [entry.key for entry in entries] + nothing:
            account = self.accounts[key]
            account.flight, account.pending = account.pending, []
        for entry in entries:
            account = self.accounts[entry.key]
            assert entry.kind in (Kind.ADD, Kind.PUT)
            after = entry.value + (account.own if entry.kind is Kind.ADD else 0)
            assert after == done(account.flight, account.own)
        for key in nothing:
            account = self.accounts[key]
            assert done(account.flight, account.own) == account.own
            account.flight = []

    def answer(self, verdicts: Sequence[Rejection | None]) -> Settled:
        """Have the store execute each entry, or reject it."""
        results: list[Result] = []
        for entry, verdict in zip(self.sent, verdicts, strict=False):
            account = self.accounts[entry.key]
            if verdict is None:
                results.append(Previous(account.own + account.others, account.own))
                account.own = done(account.flight, account.own)
                account.told = account.own + account.others, account.own
            else:
                results.append(verdict)
                if verdict is Rejection.RETRY:
                    account.pending = account.flight + account.pending
            account.flight = []
        self.sent = []
        return self.buffer.settle(results, self.now)

    def unsend(self) -> None:
        self.buffer.unsend()
        self._back()
        self.sent = []

    def _back(self) -> None:
        for account in self.accounts.values():
            account.pending, account.flight = account.flight + account.pending, []

    def stage(self) -> None:
        self.buffer.stage()
        self.staged = True
        for account in self.accounts.values():
            account.flight, account.pending = account.pending, []

    def release(self, *, void: bool) -> None:
        """End the clear that was staged for: it has succeeded, or it has not."""
        self.staged = False
        self.buffer.end_stage(void=void, now=self.now)
        if not void:
            self._back()
            return
        for account in self.accounts.values():
            account.flight, account.own, account.others = [], 0, 0
            account.told = (0, 0)
        self.buffer.cleared(lambda _: 0, by_us=True, now=self.now)

    def check(self) -> None:
        """See that each view is what the account says, and who is said to be unsettled."""
        unsettled, pending = set(), set()
        for key, account in self.accounts.items():
            buffered = self.buffer.find(key)
            if account.pending or account.flight:
                assert buffered is not None
            if buffered is not None:
                assert buffered.value == account.view
                if buffered.pending:
                    assert buffered.dirty
                if buffered.dirty or buffered.in_flight:
                    unsettled.add(key)
                if buffered.pending or buffered.in_flight:
                    pending.add(key)
        assert {buffered.key for buffered in self.buffer.unsettled()} == unsettled
        assert self.buffer.pending == len(pending)


numbers = st.integers(-100, 100)
verdicts = st.sampled_from([None, None, Rejection.RETRY, Rejection.REFUSED])
steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.sampled_from(KEYS), numbers),
        st.tuples(st.just("put"), st.sampled_from(KEYS), numbers),
        st.tuples(st.just("send"), st.integers(1, 3), st.lists(st.sampled_from(KEYS), max_size=1)),
        st.tuples(st.just("answer"), st.lists(verdicts, min_size=3, max_size=3)),
        st.tuples(st.just("unsend")),
        st.tuples(st.just("stage"), st.booleans()),
        st.tuples(st.just("others"), st.sampled_from(KEYS), numbers),
        st.tuples(st.just("forget")),
    ),
    max_size=40,
)


@given(steps)
def test_the_view_is_the_stores_word_and_all_that_is_pending(
    history: list[tuple[object, ...]],
) -> None:
    """Whatever is sent, answered, refused, given up, staged or forgotten, in any order."""
    pair = Pair()
    for step in history:
        pair.now += 1
        event(str(step[0]))
        match step:
            case ["add" | "put" as name, str(key), int(number)]:
                pair.count(key, (name, number))
            case ["send", int(limit), list(first)] if not (pair.sent or pair.staged):
                pair.send(limit, first)
            case ["answer", list(rejections)]:
                pair.answer(rejections)
            case ["unsend"]:
                pair.unsend()
            case ["stage", bool(succeeds)] if not pair.sent:
                pair.stage()
                pair.check()
                pair.release(void=succeeds)
            case ["others", str(key), int(number)]:
                pair.accounts[key].others += number
            case ["forget"]:
                pair.buffer.forget_idle(pair.now, 3)
        pair.check()
    while pair.sent or pair.buffer.dirty:  # at the end everything arrives
        pair.answer([None] * len(KEYS))
        pair.send(len(KEYS), ())
        pair.check()
    assert pair.buffer.unsettled() == {}
    for key, account in pair.accounts.items():
        buffered = pair.buffer.find(key)
        assert buffered is None or buffered.value.instance_count == account.own


@given(steps, st.integers(0, 40))
def test_whoever_waits_for_all_that_is_unsettled_waits_until_it_is(
    history: list[tuple[object, ...]], begins: int
) -> None:
    """What was pending or on its way has been acknowledged, dropped, or cancelled out."""
    pair = Pair()
    waiting = pair.buffer.unsettled()
    awaited: dict[str, list[Op]] = {}
    for number, step in enumerate([*history, ("send", 3, [])]):
        match step:
            case ["add" | "put" as name, str(key), int(amount)]:
                pair.count(key, (name, amount))
            case ["send", int(limit), list(first)] if not pair.sent:
                pair.send(limit, first)
            case ["answer", list(rejections)]:
                pair.answer(rejections)
        if number == begins:
            waiting = pair.buffer.unsettled()
            awaited = {key: [*a.flight, *a.pending] for key, a in pair.accounts.items()}
    settled = {b.key for b, settles in waiting.items() if b.acknowledged >= settles}
    left = {
        key: [*map(id, account.flight), *map(id, account.pending)]
        for key, account in pair.accounts.items()
    }
    for key in {buffered.key for buffered in waiting}:
        assert (key in settled) == (not any(id(op) in left[key] for op in awaited[key]))


def layered(
    cumulative: int, own: int, flight: int | None, flown: int, assign: int | None
) -> BufferedKey:
    """A key with something in every layer."""
    buffered = BufferedKey("a")
    buffered.base(cumulative, own, 1.0)
    buffered.in_flight = True
    buffered.flight_assign, buffered.flight_delta, buffered.assign = flight, flown, assign
    return buffered


edges = st.sampled_from([INT64_MIN, INT64_MIN + 3, -1, 0, 1, INT64_MAX - 3, INT64_MAX])
int64 = st.integers(INT64_MIN, INT64_MAX) | edges


@given(int64, int64, st.none() | int64, st.integers(-5, 5), st.none() | int64, int64)
def test_a_count_is_admitted_if_and_only_if_the_view_stays_in_int64(
    cumulative: int, own: int, flight: int | None, flown: int, assign: int | None, delta: int
) -> None:
    buffered = layered(cumulative, own, flight, flown, assign)
    admitted = buffered.admits(delta)
    buffered.delta = delta
    assert admitted == all(map(fits, buffered.value))


@given(edges, edges, st.none() | edges, st.integers(-5, 5), st.none() | edges, st.data())
def test_between_its_bounds_every_count_is_admitted(
    cumulative: int,
    own: int,
    flight: int | None,
    flown: int,
    assign: int | None,
    data: st.DataObject,
) -> None:
    buffered = layered(cumulative, own, flight, flown, assign)
    buffered.dirty = True
    buffered.update_bounds()
    if buffered.low <= buffered.high:
        near = st.sampled_from([buffered.low, buffered.high])
        delta = data.draw(near | st.integers(buffered.low, buffered.high))
        assert buffered.admits(delta)


def test_the_first_count_after_a_flush_is_never_between_the_bounds() -> None:
    buffered = BufferedKey("a")
    buffered.update_bounds()
    assert not any(buffered.low <= delta <= buffered.high for delta in range(-3, 4))


def test_what_one_entry_cannot_carry_goes_in_two() -> None:
    """Two layers together may exceed int64: what was sent has come back."""
    buffered = BufferedKey("a")
    buffered.delta = INT64_MAX
    assert buffered.send(None) == Entry(Kind.ADD, "a", INT64_MAX)
    buffered.delta = 7
    buffered.take_back()
    assert buffered.send(None) == Entry(Kind.ADD, "a", INT64_MAX)
    buffered.acknowledge()
    assert buffered.acknowledged == 0  # as only a part of it was sent
    assert buffered.send(None) == Entry(Kind.ADD, "a", 7)
    buffered.acknowledge()
    assert buffered.acknowledged == 2


# ------------------------------------------------------------------------------- refusals


def flushed(buffer: WriteBuffer, result: Result, own: Slice | None = None) -> Settled:
    """Send everything; return what becomes of it with the same answer for each."""
    entries, _ = buffer.send(100, 0.0, {} if own is None else {"a": own})
    return buffer.settle([result] * len(entries), 0.0)


def counted(buffer: WriteBuffer, count: int) -> BufferedKey:
    buffered = buffer.buffered("a", 0.0)
    buffered.delta += count
    buffer.touch(buffered)
    return buffered


def test_counts_that_were_refused_are_dropped_and_remembered() -> None:
    buffer = WriteBuffer(lambda _: None)
    buffered = counted(buffer, 5)
    assert flushed(buffer, Rejection.REFUSED).dropped == ["a"]
    counted(buffer, 2)
    flushed(buffer, Rejection.REFUSED)
    assert buffer.refused == {"a": 7}
    assert buffered.value == CounterValue(0, 0)


def test_a_move_of_somebody_else_leaves_what_is_pending() -> None:
    buffer = WriteBuffer(lambda _: None)
    buffered = counted(buffer, 5)
    flushed(buffer, Previous(10, 1))
    assert buffered.value == CounterValue(15, 6)
    counted(buffer, 2)
    for _ in range(2):  # it may be told twice
        buffer.moved("a", 0, 1.0)
        # Of others it is what was last heard.
        assert buffered.value == CounterValue(15 - 6 + 2, 2)
        assert buffered.read_at == NEVER


@pytest.mark.parametrize(("own", "left"), [(INT64_MIN, 0), (-1, 0), (INT64_MIN, 7)])
def test_what_a_move_leaves_in_the_view_is_an_int64(own: int, left: int) -> None:
    buffer = WriteBuffer(lambda _: None)
    buffer.read("a", INT64_MAX, own, 1.0)
    buffer.moved("a", left, 2.0)
    assert buffer.buffered_keys["a"].value == CounterValue(left, left)


def test_a_clear_of_somebody_else_is_seen_when_the_key_is_looked_at() -> None:
    buffer = WriteBuffer(lambda _: None)
    counted(buffer, 5)
    flushed(buffer, Previous(10, 1))
    buffer.cleared(lambda _: 0, by_us=False, now=1.0)
    assert buffer.buffered_keys == {}
    found = buffer.find("a")
    assert found is not None
    assert found.value == CounterValue(0, 0)


def test_what_is_left_after_a_clear_of_somebody_else_is_in_the_view_and_not_forgotten() -> None:
    """A slice may be younger than a clear that is heard of late."""
    buffer = WriteBuffer(lambda _: None)
    for key in KEYS:
        buffer.read(key, 12, 5, 1.0)
    slices = {"a": 5}
    buffer.cleared(lambda key: slices.get(key, 0), by_us=False, now=2.0, left=slices)
    assert buffer.find("b") is not None
    buffer.forget_idle(30.0, 10.0)
    assert list(buffer.buffered_keys) == ["a"]
    found = buffer.find("a")
    assert found is not None
    assert (found.value, found.read_at) == ((5, 5), NEVER)


# ---------------------------------------------------------------------------------- holds


def held(buffer: WriteBuffer, count: int) -> Hold:
    hold = Hold("a", count)
    counted(buffer, count).hold(hold)
    return hold


def test_a_hold_that_ends_before_it_was_sent_leaves_nothing_to_send() -> None:
    buffer = WriteBuffer(lambda _: None)
    buffer.give_back(held(buffer, 5))
    assert buffer.send(100, 0.0, {}) == ([], ["a"])
    assert buffer.buffered_keys["a"].value == CounterValue(0, 0)


def test_the_end_of_a_hold_is_guarded_and_goes_to_the_slice_it_was_added_to() -> None:
    buffer = WriteBuffer(lambda _: None)
    hold = held(buffer, 5)
    assert flushed(buffer, Previous(0, 0)).committed == [hold]
    hold.at = 30
    buffer.give_back(hold)
    entries, _ = buffer.send(100, 0.0, {"a": Slice(5, 30)})
    assert entries == [Entry(Kind.ADD, "a", -5, guarded=True)]
    buffer.unsend()
    entries, _ = buffer.send(100, 0.0, {"a": Slice(5, 40)})
    assert entries == [Entry(Kind.CLAIM, "a", -5, stamp=30, guarded=True)]
    assert buffer.settle([Previous(5, 5)], 0.0).released == [hold]
    assert buffer.buffered_keys["a"].value == CounterValue(0, 0)


def test_what_is_put_goes_before_the_end_of_a_hold_in_another_slice() -> None:
    buffer = WriteBuffer(lambda _: None)
    hold = held(buffer, 5)
    flushed(buffer, Previous(0, 0))
    hold.at = 30
    buffered = buffer.buffered_keys["a"]
    buffer.replace(buffered, 50)
    buffer.give_back(hold)
    entries, _ = buffer.send(100, 0.0, {"a": Slice(5, 40)})
    assert entries == [Entry(Kind.PUT, "a", 50)]
    buffer.settle([Previous(5, 5)], 0.0)
    entries, _ = buffer.send(100, 0.0, {"a": Slice(50, 40)})
    assert entries == [Entry(Kind.CLAIM, "a", -5, stamp=30, guarded=True)]
    assert buffered.value == CounterValue(45, 45)


@pytest.mark.parametrize("sent", [False, True])
def test_a_hold_that_became_void_takes_nothing_back(sent: bool) -> None:
    buffer = WriteBuffer(lambda _: None)
    hold = held(buffer, 5)
    flushed(buffer, Previous(0, 0))
    buffer.give_back(hold)
    if sent:
        buffer.send(100, 0.0, {"a": Slice(5, 0)})
        hold.void = True
        assert buffer.settle([Rejection.MOVED], 0.0).released == []
    else:
        buffer.void(hold)
    assert buffer.send(100, 0.0, {}) == ([], ["a"])


def test_a_hold_whose_end_has_no_room_is_kept_and_its_counts_are_not_refused() -> None:
    buffer = WriteBuffer(lambda _: None)
    hold = held(buffer, 5)
    flushed(buffer, Previous(0, 0))
    buffer.give_back(hold)
    settled = flushed(buffer, Rejection.REFUSED, Slice(5, 0))
    assert settled.deferred == [hold]
    assert (settled.dropped, buffer.refused) == ([], {})


def test_an_end_that_is_not_sent_yet_may_be_undone() -> None:
    buffer = WriteBuffer(lambda _: None)
    hold = held(buffer, 5)
    flushed(buffer, Previous(0, 0))
    buffer.give_back(hold)
    assert buffer.cancel_release(hold)
    assert buffer.buffered_keys["a"].value == CounterValue(5, 5)
    buffer.give_back(hold)
    buffer.send(100, 0.0, {"a": Slice(5, 0)})
    assert not buffer.cancel_release(hold)


# --------------------------------------------------------------------------------- bounds


@pytest.mark.parametrize("result", [Rejection.REFUSED, Rejection.UNKNOWN])
def test_i10_a_key_whose_counts_were_refused_is_forgotten(result: Result) -> None:
    """Though it was looked at when it had something to send."""
    buffer = WriteBuffer(lambda _: None)
    buffered = buffer.buffered("k", 0.0)
    buffered.delta += 1
    buffer.touch(buffered)
    buffer.forget_idle(20.0, 10.0)
    buffer.send(1, 20.0, {})
    buffer.settle([result], 20.0)
    buffer.forget_idle(40.0, 10.0)
    assert not buffer.buffered_keys


def test_keys_without_a_slice_are_forgotten_when_nobody_uses_them() -> None:
    buffer = WriteBuffer(lambda _: None)
    for key in KEYS:
        buffer.buffered(key, 0.0)
    buffer.buffered_keys["a"].used = True
    counted(buffer, 5)
    buffer.buffered_keys["b"].used = True
    buffer.forget_idle(9.0, 10.0)
    assert set(buffer.buffered_keys) == set(KEYS)
    buffer.forget_idle(11.0, 10.0)
    assert set(buffer.buffered_keys) == {"a", "b"}
    buffer.forget_idle(22.0, 10.0)
    assert set(buffer.buffered_keys) == {"a"}


EDGE: Final = st.sampled_from([INT64_MIN, INT64_MIN + 3, -3, -1, 1, 3, INT64_MAX - 3, INT64_MAX])
STEPS_AT_THE_EDGE: Final = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["count", "put", "hold"]), EDGE),
        st.tuples(st.sampled_from(["end", "send", "undo"]), st.integers(0, 3)),
    ),
    max_size=20,
)


@given(STEPS_AT_THE_EDGE)
@example([("hold", -1), ("put", INT64_MAX), ("end", 0), ("send", 0)])
@example([("hold", -1), ("send", 0), ("send", 0), ("put", INT64_MAX), ("end", 0), ("send", 0)])
@example([("hold", 3), ("put", INT64_MIN), ("end", 0), ("count", 3), ("send", 0)])
def test_i12_what_is_sent_is_an_int64_whatever_is_taken_back(steps: list[tuple[str, int]]) -> None:
    """A store could not execute anything else, and would stop in the middle of a step."""
    key, own, holds, entry = BufferedKey("k"), Slice(0, 1), list[Hold](), None
    for name, number in steps:
        if name in {"count", "hold"} and key.admits(key.delta + number):
            key.delta += number
            if name == "hold":
                holds.append(Hold("k", number))
                key.hold(holds[-1])
        elif name == "put":
            key.replace(number)
        elif name == "end" and number < len(holds):
            key.give_back(holds.pop(number))
        elif name == "send" and not key.in_flight and (entry := key.send(own)) is not None:
            assert fits(entry.value)
        elif name in {"send", "undo"} and key.in_flight:
            assert entry is not None
            after = entry.value + (0 if entry.kind is Kind.PUT else own.value)
            if name == "undo" or not fits(after):
                key.take_back()
                continue
            for hold in key.flight_holds:
                hold.at = own.stamp
            own = Slice(after, own.stamp)
            key.acknowledge()
            key.base(after, after, 1.0)


def test_a_closed_buffer_has_nothing_idle_to_forget() -> None:
    pair = Pair()
    pair.buffer.buffered("a", 1.0)
    pair.buffer.close()
    pair.buffer.forget_idle(1e9, 0.0)
