"""Lax counters whose actors do not run: what those would do is done by hand, one step at a time.

So the view can be looked at between any two answers.
"""

# ruff: noqa: SIM300 - expected == actual, all through

from __future__ import annotations

import math

from distkit_actors._actor._dispatch import Dispatch
from distkit_actors._actor._log import Log
from distkit_actors._actor._mailbox import Mailbox
from distkit_actors._actor._operations import Operation
from distkit_actors._instance._session import Session
from distkit_actors._instance._session_view import SHARED
from distkit_actors._instance._write_buffer import WriteBuffer
from distkit_actors._namespace._namespace import Namespace
from distkit_actors._protocol._messages import Entry, Kind
from distkit_actors._protocol._values import CounterValue
from distkit_actors._stores._memory import MemoryStore
from tests.unit.test_phases import PERIODS


class Hand:
    """A lax counter of ``namespace``, which may become another one."""

    def __init__(self, namespace: Namespace, name: str) -> None:
        self.namespace = namespace
        self.session = Session(name, name, PERIODS)
        self.mailbox = Mailbox(10_000)
        self.buffer = WriteBuffer(lambda _: None)
        log = Log("p", MemoryStore(), "lax")
        self.dispatch = Dispatch(self.session, self.mailbox, self.buffer, log)
        self.exchange()

    def ask(self, kind: Kind, key: str, value: int = 0) -> None:
        """Put in an operation that nobody waits for."""
        self.mailbox.enter(Operation(kind, key, value))

    def count(self, key: str, count: int = 1) -> None:
        buffered = self.buffer.buffered(key, 0.0)
        buffered.delta += count
        if not buffered.dirty:
            self.buffer.touch(buffered)

    def begin(self) -> list[Entry]:
        """Make up a batch, while lax counts are due, and return it."""
        entries = self.dispatch.collect(1.0, math.inf, flush=True)
        assert entries is not None
        self.session.begin(entries)
        return entries

    def step(self) -> bool:
        """Have one request executed and its answer taken in; False if there is none."""
        request = self.session.request()
        if request is None:
            return False
        reply = self.namespace.execute(request, now=1_000_000)
        self.dispatch.settle(self.session.receive(reply), now=1.0)
        return True

    def exchange(self) -> None:
        while self.step():
            pass

    def flush(self) -> None:
        self.begin()
        self.exchange()

    def view(self, key: str) -> CounterValue:
        buffered = self.buffer.find(key)
        assert buffered is not None
        return buffered.value


def test_i14_who_reads_what_was_just_counted_leaves_room_for_counts_that_are_due() -> None:
    """Counts go ahead of each read of their key; those of other keys, which came before, go too."""
    a = Hand(Namespace(), "a")
    half = SHARED // 2
    due = {f"due-{number}" for number in range(2 * half)}
    for key in due:
        a.count(key)
    for left in (half, 0):
        for number in range(2 * half):
            a.count(f"read-{number}")
            a.ask(Kind.ADD, f"read-{number}")
        batch = a.begin()
        assert len(batch) <= SHARED
        due -= {entry.key for entry in batch}
        assert len(due) <= left
        a.exchange()


def in_doubt(count: int) -> tuple[Hand, Hand]:
    """Return two who have to return: one has 2 and ``count`` in doubt, the other one moved the key.

    The first one knows of the move, so its slice is younger. It returns key by key.
    """
    namespace = Namespace()
    a, b = Hand(namespace, "a"), Hand(namespace, "b")
    b.ask(Kind.MOVE, "k", 100)
    b.exchange()
    b.flush()
    a.flush()
    for key in ("k", "other", "another"):
        a.count(key, 2)
    a.flush()
    assert (102, 2) == a.view("k")
    a.count("k", count)
    a.begin()
    a.session.lost()
    a.namespace = b.namespace = Namespace()
    a.session.piece_size = 1
    return a, b


def test_i8_counts_in_doubt_are_in_the_view_once_while_an_instance_returns() -> None:
    """Though it hears, piece by piece, that the key of these counts has moved before."""
    a, b = in_doubt(5)
    b.flush()
    assert list(b.session.moves) == ["k"]
    views = []
    while a.step():
        views.append(a.view("k"))
    assert len(views) > 3
    assert {view.instance_count for view in views} == {7}
    assert (107, 7) == views[-1]


def test_i8_counts_in_doubt_that_make_a_slice_0_are_in_the_view_once() -> None:
    """Such a slice is not kept once its claim was answered; then a move before it is heard of."""
    a, b = in_doubt(-2)
    while "k" in a.session.slices:
        assert a.step()
    b.flush()
    views = [a.view("k")]
    while a.step():
        views.append(a.view("k"))
    assert len(views) > 2
    assert {view.instance_count for view in views} == {0}
