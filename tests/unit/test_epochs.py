"""Epochs: they only grow, and whoever reads the journal to its end knows all of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distkit_actors._namespace import _epochs
from distkit_actors._namespace._epochs import Epochs

KEYS: Final = "abcde"
#: Moves in one page, here; no step makes more.
PAGE: Final = 3


@pytest.fixture(autouse=True, scope="module")
def _small_pages() -> Iterator[None]:
    with mock.patch.object(_epochs, "MAX_JOURNAL", PAGE):
        yield


class Reader:
    """One who reads the journal, now and then."""

    def __init__(self) -> None:
        self.known = 0
        self.cleared = 0
        self.epochs: dict[str, int] = {}

    def read(self, epochs: Epochs) -> bool:
        """Read one page, and return whether there is more."""
        journal, more = epochs.since(self.known)
        assert len(journal.moves) <= PAGE
        assert journal.latest >= self.known
        assert not more or journal.latest > self.known
        self.known = journal.latest
        self.cleared = journal.cleared
        self.epochs |= dict(journal.moves)
        return more

    def of(self, key: str) -> int:
        """Return the epoch of a key as far as it is known."""
        return max(self.cleared, self.epochs.get(key, 0))


steps = st.lists(
    st.one_of(
        st.tuples(st.just("move"), st.sets(st.sampled_from(KEYS), min_size=1, max_size=PAGE)),
        st.tuples(st.just("late"), st.sampled_from(KEYS), st.floats(0, 1)),
        st.tuples(st.just("clear")),
        st.tuples(st.just("late clear"), st.floats(0, 1)),
        st.tuples(st.just("read"), st.integers(0, 1)),
        st.tuples(st.just("forget")),
    ),
    max_size=40,
)


@given(steps)
def test_whoever_reads_to_the_end_knows_every_epoch(history: list[tuple[object, ...]]) -> None:
    """Late moves and forgotten ones included; until it is forgotten the table knows it, too."""
    epochs, readers, at = Epochs(), [Reader(), Reader()], 0
    real = dict.fromkeys(KEYS, 0)
    for step in history:
        at += 10
        match step:
            case ["move", set(keys)]:
                for key in keys:
                    epochs.move(key, at)
                    real[key] = at
            case ["late", str(key), float(share)]:
                epoch = int(share * at)
                if epoch > epochs.of(key) and epoch > epochs.floor:
                    epochs.move_late(key, epoch, at)
                    real[key] = epoch
            case ["clear"]:
                epochs.clear(at)
                real = dict.fromkeys(KEYS, at)
            case ["late clear", float(share)]:
                cleared = int(share * at)
                if cleared > epochs.cleared:
                    epochs.clear_late(cleared)
                    real = {key: max(cleared, epoch) for key, epoch in real.items()}
            case ["read", int(which)]:
                readers[which].read(epochs)
            case ["forget"]:
                epochs.forget(min(reader.known for reader in readers), 0)
        assert {key: epochs.of(key) for key in KEYS if real[key] > epochs.floor} == {
            key: epoch for key, epoch in real.items() if epoch > epochs.floor
        }
    for reader in readers:
        while reader.read(epochs):
            pass
        assert {key: reader.of(key) for key in KEYS} == real
        assert reader.known == epochs.latest


def test_a_slice_counts_from_the_last_move_or_clear_on() -> None:
    epochs = Epochs()
    epochs.move("a", 10)
    epochs.move("b", 20)
    assert (epochs.of("a"), epochs.of("b"), epochs.of("c")) == (10, 20, 0)
    epochs.clear(30)
    assert (epochs.of("a"), epochs.of("b"), epochs.of("c")) == (30, 30, 30)
    epochs.move("a", 40)
    assert (epochs.of("a"), epochs.of("b")) == (40, 30)


def test_a_late_move_is_told_now_and_counts_from_then() -> None:
    epochs = Epochs()
    epochs.move("b", 20)
    epochs.move_late("a", 5, 30)
    journal, more = epochs.since(20)
    assert (journal.moves, journal.latest, more) == ((("a", 5),), 30, False)
    epochs.move("a", 40)
    assert epochs.of("a") == 40


def test_a_late_clear_is_news_to_all_who_have_read_less() -> None:
    epochs = Epochs()
    epochs.move("a", 10)
    epochs.clear_late(20)
    journal, _ = epochs.since(10)
    assert (journal.cleared, journal.latest) == (20, 20)


def test_moves_of_one_step_are_told_together() -> None:
    epochs = Epochs()
    for stamp, keys in ((10, "ab"), (20, "cd")):
        for key in keys:
            epochs.move(key, stamp)
    journal, more = epochs.since(0)
    assert (journal.moves, journal.latest, more) == ((("a", 10), ("b", 10)), 10, True)


def test_what_was_moved_again_is_told_once() -> None:
    epochs = Epochs()
    epochs.move("a", 10)
    epochs.move("b", 20)
    epochs.move("a", 30)
    assert epochs.since(0)[0].moves == (("b", 20), ("a", 30))


def test_a_step_forgets_a_bounded_number_of_moves_the_oldest_first() -> None:
    epochs = Epochs()
    for stamp in range(1, 501):
        epochs.move(f"key{stamp}", stamp)
    epochs.move_late("key1", 1, 501)
    epochs.forget(400, 0)
    assert (epochs.floor, len(epochs.moved)) == (101, 400)
    epochs.forget(400, 100)
    assert (epochs.floor, len(epochs.moved)) == (301, 200)
    epochs.forget(400, 100)
    assert (epochs.floor, len(epochs.moved)) == (400, 101)
    epochs.forget(501, 100)
    assert (epochs.moved, epochs.late, epochs.floor) == ({}, {}, 501)
