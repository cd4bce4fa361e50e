"""What is done with very many keys: in steps that are no longer the more there are (I10).

All is counted in instructions, with messages that hold few keys, so that there are many.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import pytest

from distkit_actors._actor._exclusive import ClearOwnSteps, Progress
from distkit_actors._actor._flush_waiters import FlushWaiter
from distkit_actors._actor._mailbox import Mailbox
from distkit_actors._actor._operations import ExclusiveKind, Operation, SpecialOperation
from distkit_actors._actor._releases import Releases
from distkit_actors._instance import _own_copy, _pacing, _resumption, _session_view
from distkit_actors._instance._buffered_key import BufferedKey
from distkit_actors._instance._holds import Hold, Holds
from distkit_actors._instance._session import Phase, Session
from distkit_actors._instance._session_state import Update
from distkit_actors._instance._write_buffer import WriteBuffer
from distkit_actors._namespace._namespace import Namespace
from distkit_actors._protocol._messages import (
    Applied,
    Apply,
    Entry,
    Kind,
    Periods,
    Previous,
    Rejection,
    Request,
    Result,
    Resume,
    Slice,
)
from tests.harness.effort import effort

SECOND = 1_000_000
PERIODS = Periods(30 * SECOND, 20 * SECOND, 3600 * SECOND)
#: Keys in one message, here.
PAGE = 10
#: Some and more keys.
FEW, MANY = 20 * PAGE, 40 * PAGE


@pytest.fixture(autouse=True)
def _small_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (_own_copy, _resumption, _session_view):
        monkeypatch.setattr(module, "MAX_ENTRIES", PAGE)
    monkeypatch.setattr(_own_copy, "_SETTLED_AT_ONCE", 2 * PAGE)
    monkeypatch.setattr(_resumption, "_SEARCHED_AT_ONCE", 10 * PAGE)
    monkeypatch.setattr(_pacing, "MAX_ENTRIES", PAGE)


def keys(count: int) -> list[str]:
    return [f"key{number}" for number in range(count)]


class Pair:
    """A session and its store, and how much work the session has had."""

    def __init__(self) -> None:
        self.session = Session("i", "n", PERIODS)
        self.namespace = Namespace()
        self.now = 1_000 * SECOND
        self.total = 0
        self.longest = 0
        self.settle()

    def work(self, do: Callable[[], object]) -> None:
        """Do a step of work of the session."""
        count = effort(do)
        self.total += count
        self.longest = max(self.longest, count)

    def settle(self) -> None:
        """Exchange messages until there are none."""
        request: Request | None = None

        def ask() -> None:
            nonlocal request
            request = self.session.request()

        while self.work(ask) or request is not None:
            assert request is not None
            self.now += 1
            reply = self.namespace.execute(request, self.now)
            self.work(lambda reply=reply: self.session.receive(reply))  # type: ignore[misc]

    def batch(self, *entries: Entry) -> None:
        """Have a batch executed."""
        self.work(lambda: self.session.begin(entries))
        self.settle()

    def fill(self, count: int, kind: Kind = Kind.ADD) -> None:
        """Have that many slices, or own moves."""
        names = keys(count)
        for first in range(0, count, PAGE):
            self.batch(*(Entry(kind, key, 1) for key in names[first : first + PAGE]))
        self.total = self.longest = 0

    def clear(self) -> None:
        """Have somebody else clear."""
        other = Session("other", "n", PERIODS)
        while (request := other.request()) is not None:
            other.receive(self.namespace.execute(request, self.now))
        other.begin([Entry(Kind.CLEAR, "", 0)])
        request = other.request()
        assert isinstance(request, Apply)
        self.now += 1
        assert isinstance(self.namespace.execute(request, self.now), Applied)


def compare(work: Callable[[int], Pair]) -> None:
    """See that twice as many keys are twice the work, in steps that are no longer."""
    few, many = work(FEW), work(MANY)
    assert many.total <= 2.2 * few.total
    assert many.longest <= 1.1 * few.longest


# ------------------------------------------------------------------------- a clear is heard


def test_i10_a_clear_is_heard_in_one_step_however_many_slices_there_are() -> None:
    def work(count: int) -> Pair:
        pair = Pair()
        pair.fill(count)
        pair.clear()
        pair.batch(Entry(Kind.ADD, "key1", 5))
        assert pair.session.slices.keys() == {"key1"}
        assert pair.session.slices == pair.namespace.registry.records["i"].slices
        return pair

    few, many = work(FEW), work(MANY)
    assert many.total == few.total


def test_i10_what_a_clear_made_void_goes_at_once_in_memory() -> None:
    """In Redis, too: see `tests/stores/test_redis_limits.py`."""

    def work(count: int) -> int:
        pair = Pair()
        pair.fill(count)
        pair.clear()
        pair.session.begin([Entry(Kind.ADD, "key1", 5)])
        request = pair.session.request()
        assert request is not None
        steps = effort(lambda: pair.namespace.execute(request, pair.now + 1))
        assert pair.namespace.registry.records["i"].slices.keys() == {"key1"}
        return steps

    assert work(MANY) == work(FEW)


def test_i10_own_moves_are_forgotten_in_small_steps() -> None:
    def work(count: int) -> Pair:
        pair = Pair()
        pair.fill(count, Kind.MOVE)
        pair.clear()
        answers = 0
        while pair.session.moves:
            pair.batch()
            answers += 1
        assert answers == count // (2 * PAGE)
        return pair

    compare(work)
    # What stands first in a plain dict is found behind the places of all that have left it.
    assert isinstance(Pair().session.moves, OrderedDict)


def test_i2_what_an_unheard_step_made_after_a_clear_stays() -> None:
    """Its answer was lost, and the one from the record tells of no moves."""
    pair = Pair()
    session = pair.session
    pair.batch(Entry(Kind.ADD, "old", 1), Entry(Kind.ADD, "both", 1))
    pair.clear()
    session.begin([Entry(Kind.ADD, "both", 5), Entry(Kind.ADD, "young", 5)])
    request = session.request()
    assert request is not None
    pair.namespace.execute(request, pair.now + 1)
    session.lost()
    pair.settle()
    pair.batch(Entry(Kind.ADD, "late", 7))
    values = {key: piece.value for key, piece in session.slices.items()}
    assert values == {"both": 5, "young": 5, "late": 7}
    assert session.slices == pair.namespace.registry.records["i"].slices


def test_i11_what_is_inherited_from_after_a_clear_stays() -> None:
    """The heir hears of the clear with its first answer, as its predecessor never did."""
    pair = Pair()
    pair.batch(Entry(Kind.ADD, "old", 1))
    pair.clear()
    pair.session.begin([Entry(Kind.ADD, "young", 5)])
    request = pair.session.request()
    assert request is not None
    pair.namespace.execute(request, pair.now + 1)
    pair.session = Session("i", "heir", PERIODS, inherit=True)
    pair.settle()
    pair.batch(Entry(Kind.ADD, "late", 7))
    values = {key: piece.value for key, piece in pair.session.slices.items()}
    assert values == {"young": 5, "late": 7}
    assert pair.session.slices == pair.namespace.registry.records["i"].slices


# ----------------------------------------------------------------------------- a return


@pytest.mark.parametrize("moves", [False, True])
def test_i10_all_is_told_again_in_small_steps(moves: bool) -> None:
    def work(count: int) -> Pair:
        pair = Pair()
        pair.fill(count, Kind.MOVE if moves else Kind.ADD)
        pair.namespace = Namespace()
        pair.batch()
        pair.settle()
        assert pair.namespace.registry.records["i"].slices == pair.session.slices
        assert len(pair.session.slices) == count
        return pair

    compare(work)


def test_i10_what_a_clear_took_is_not_told_again() -> None:
    """It is heard with the first part of a return."""
    pair = Pair()
    pair.fill(MANY)
    session = pair.session
    pair.clear()
    session.begin([])
    request = session.request()
    assert isinstance(request, Apply)
    # The store has missed a batch.
    gap = request._replace(seq=request.seq + 1, before=request.seq)
    session.receive(pair.namespace.execute(gap, pair.now + 1))
    assert session.phase is Phase.RESUME
    claims = 0
    while isinstance(request := session.request(), Resume):
        claims += len(request.claims)
        pair.work(lambda: session.receive(pair.namespace.execute(request, pair.now + 1)))
    assert session.phase is Phase.LIVE
    assert claims == PAGE
    assert session.slices == {}


# ---------------------------------------------------------------------- clear_on_instance


def test_i10_own_slices_are_cleared_in_small_steps() -> None:
    def work(count: int) -> Pair:
        pair = Pair()
        pair.fill(count)
        steps = ClearOwnSteps(Operation(ExclusiveKind.CLEAR_OWN), pair.session)
        ended = False
        while not ended:
            pair.work(lambda: pair.session.begin(steps.next_entries()))
            request = pair.session.request()
            assert request is not None
            reply = pair.namespace.execute(request, pair.now)
            assert isinstance(reply, Applied)

            def settle(reply: Applied = reply) -> None:
                nonlocal ended
                pair.session.receive(reply)
                ended = steps.settle(reply.results, reply.at) is Progress.ENDED

            pair.work(settle)
        assert pair.session.slices == {}
        return pair

    few, many = work(FEW), work(MANY)
    assert many.total <= 2.2 * few.total


@pytest.mark.parametrize("count", [1, 2 * PAGE])
def test_each_own_slice_is_cleared_once(count: int) -> None:
    pair = Pair()
    pair.fill(count)
    steps = ClearOwnSteps(Operation(ExclusiveKind.CLEAR_OWN), pair.session)
    names = [entry.key for entry in steps.next_entries()]
    assert names == keys(min(count, pair.session.bulk_size))


def test_a_step_of_a_clear_that_was_not_executed_ends_no_holds() -> None:
    """The next ones may be refused; then this one is still to be taken back."""
    pair = Pair()
    pair.fill(1)
    releases, hold = Releases(Mailbox(1), None, Holds()), Hold("that has become 0", 3)
    releases.holds.committed(hold, 1)
    steps = ClearOwnSteps(Operation(ExclusiveKind.CLEAR_OWN), pair.session)
    steps.begun = True
    steps.next_entries()
    assert steps.settle([Rejection.RETRY], 0) is Progress.MORE
    steps.end_holds(releases, 0)
    assert not hold.void


# -------------------------------------------------------------------------------- withheld


def withhold(session: Session, count: int) -> None:
    for key in keys(count):
        session.withheld.add(key, Slice(2**62, 5))


def test_i10_what_is_withheld_costs_other_keys_nothing() -> None:
    def work(count: int) -> Pair:
        pair = Pair()
        withhold(pair.session, count)
        pair.batch(Entry(Kind.PUT, "key1", 5), Entry(Kind.MOVE, "key2", 5))
        assert len(pair.session.withheld) == count - 2
        return pair

    few, many = work(FEW), work(MANY)
    assert many.total == few.total


def test_i12_all_that_is_withheld_has_its_turn() -> None:
    """Those that never fit are not before all others for ever."""
    session = Session("i", "n", PERIODS)
    withhold(session, 3 * PAGE)
    tried: list[str] = []
    for _ in range(3):
        claims = session.retries()
        assert len(claims) == PAGE
        for claim in claims:
            tried.append(claim.key)
            session.own.retry(claim, Rejection.REFUSED, Update())
    assert tried == keys(3 * PAGE)
    assert [claim.key for claim in session.retries()] == keys(PAGE)


# ---------------------------------------------------------------------------- lax counters


def buffer_of(count: int) -> WriteBuffer:
    buffer = WriteBuffer(lambda _: None)
    for key in keys(count):
        buffer.buffered(key, 0.0)
        buffer.read(key, 5, 1, 1.0)
    return buffer


def count_on(buffer: WriteBuffer, *names: str) -> None:
    for key in names:
        buffered = buffer.buffered(key, 2.0)
        buffered.delta += 1
        buffer.touch(buffered)


@pytest.mark.parametrize("by_us", [False, True])
def test_i10_a_lax_counter_hears_of_a_clear_in_one_step(by_us: bool) -> None:
    def work(count: int) -> int:
        buffer = buffer_of(count)
        count_on(buffer, "key0")
        spent = effort(lambda: buffer.cleared(lambda _: 0, by_us=by_us, now=3.0))
        assert buffer.buffered("key0", 3.0).value == (1, 1)
        for key in keys(count)[1:]:
            buffered = buffer.buffered(key, 3.0)
            assert buffered.has_base
            assert buffered.value == (0, 0)
            assert (buffered.read_at == 3.0) is by_us
        return spent

    assert work(MANY) == work(FEW)


def test_i8_what_is_read_after_a_clear_is_younger_than_it() -> None:
    buffer = buffer_of(4)
    buffer.cleared(lambda _: 0, by_us=False, now=3.0)
    buffer.read("key1", 9, 4, 3.0)
    buffer.moved("key2", 2, 3.0)
    assert [buffer.buffered(key, 3.0).value for key in keys(4)] == [(0, 0), (9, 4), (2, 2), (0, 0)]


def test_i10_keys_that_nobody_looks_at_after_a_clear_are_forgotten() -> None:
    buffer = buffer_of(4)
    buffer.cleared(lambda _: 0, by_us=False, now=3.0)
    buffer.buffered("key1", 4.0).used = True
    buffer.forget_idle(12.0, 10.0)
    assert buffer.find("key2") is not None
    buffer.forget_idle(13.5, 10.0)
    assert buffer.find("key3") is None
    assert buffer.find("key1") is not None
    buffer.forget_idle(24.0, 10.0)
    assert buffer.find("key1") is None
    buffer = buffer_of(4)
    for now in (3.0, 4.0):
        buffer.cleared(lambda _: 0, by_us=False, now=now)
    assert buffer.find("key2") is None


def test_i10_a_flush_looks_only_at_what_was_sent() -> None:
    def work(count: int) -> int:
        buffer = buffer_of(count)
        count_on(buffer, *keys(count))
        waiter = FlushWaiter(buffer.unsettled())
        buffer.send(PAGE, 2.0, {})
        sent: list[BufferedKey] = list(buffer._sent)
        buffer.settle([Previous(5, 1)] * PAGE, 3.0)
        spent = effort(lambda: waiter.settled(sent))
        assert len(waiter.unsettled) == count - PAGE
        return spent

    assert work(MANY) == work(FEW)
    assert isinstance(buffer_of(1)._dirty, OrderedDict)
    assert isinstance(buffer_of(1)._idle, OrderedDict)


class Held:
    """A lax counter with holds on one key, and what ends them."""

    def __init__(self, count: int) -> None:
        self.buffer = WriteBuffer(lambda _: None)
        self.releases = Releases(Mailbox(1), self.buffer, Holds())
        self.own = Slice(0, 1)
        self.holds = [Hold("k", 1) for _ in range(count)]
        self.begin()

    def begin(self) -> None:
        for hold in self.holds:
            count_on(self.buffer, "k")
            self.buffer.buffered("k", 2.0).hold(hold)

    def end(self) -> None:
        for hold in self.holds:
            self.releases.release(hold)

    def send(self) -> None:
        self.sent = len(self.buffer.send(1, 2.0, {"k": self.own})[0])

    def settle(self, result: Result) -> None:
        settled = self.buffer.settle([result] * self.sent, 3.0)
        self.releases.record(settled, lambda _: self.own.stamp)

    def flush(self) -> None:
        self.send()
        self.settle(Previous(self.own.value, self.own.value))

    def move(self) -> None:
        self.releases.moved({"k": self.own.stamp + 1}, {})


def ended_at_once(held: Held) -> None:
    held.end()
    held.flush()


def moved(held: Held) -> None:
    held.flush()
    held.end()
    held.move()
    held.flush()


def moved_on_the_way(held: Held) -> None:
    held.flush()
    held.end()
    held.send()
    held.move()
    held.settle(Rejection.MOVED)


def refused(held: Held) -> None:
    held.send()
    held.end()
    held.settle(Rejection.REFUSED)


def undone(held: Held) -> None:
    held.flush()
    held.end()
    for hold in held.holds:
        assert held.releases.cancel_release(hold)
    held.end()
    held.flush()


@pytest.mark.parametrize("how", [ended_at_once, moved, moved_on_the_way, refused, undone])
def test_i10_many_holds_on_one_key_end_in_linear_time(how: Callable[[Held], None]) -> None:
    def work(count: int) -> int:
        held = Held(count)
        spent = effort(lambda: how(held))
        buffered = held.buffer.buffered("k", 2.0)
        assert not buffered.unsent_holds
        assert not buffered.unsent_releases
        assert not held.releases.outstanding
        assert not held.releases.deferred
        return spent

    assert work(MANY) <= 2.2 * work(FEW)


def test_i10_many_holds_whose_callers_have_gone_end_in_linear_time() -> None:
    """They were cancelled while their additions were on their way, and go before all that waits."""

    def work(count: int) -> int:
        mailbox = Mailbox(1)
        releases = Releases(mailbox, None, Holds())
        entered = [SpecialOperation(Kind.ADD, "k", 1, hold=Hold("k", 1)) for _ in range(count)]

        def settle() -> None:
            for operation in entered:
                releases.settle(operation, 1)
            releases.send_unwanted_first()

        spent = effort(settle)
        assert mailbox.length == count
        return spent

    assert work(MANY) <= 2.2 * work(FEW)
