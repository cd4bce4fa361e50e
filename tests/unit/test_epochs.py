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
    pages = {"JOURNAL_PAGE": 2, "MAX_JOURNAL": PAGE}
    with mock.patch.multiple(_epochs, **pages, JOURNAL_KEPT=1, ARCHIVE_AT_LEAST=1):
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
        st.tuples(st.just("put away"), st.integers(1, 200)),
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
            case ["put away", int(retention)]:
                epochs.put_away(min(reader.known for reader in readers), retention)
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


def archive_of(epochs: Epochs) -> list[tuple[int, int, dict[str, int]]]:
    return [(each.first, each.last, each.epochs) for each in epochs.archive]


def test_what_all_have_heard_of_leaves_the_journal_and_still_judges_claims() -> None:
    epochs = Epochs()
    for stamp, key in ((10, "a"), (20, "b"), (30, "c"), (40, "d")):
        epochs.move(key, stamp)
    epochs.put_away(20, 400)
    assert archive_of(epochs) == [(10, 20, {"a": 10, "b": 20})]
    assert epochs.since(0)[0].moves == (("c", 30), ("d", 40))
    assert [epochs.of(key) for key in "abcd"] == [10, 20, 30, 40]
    assert [epochs.in_journal(key) for key in "abcd"] == [0, 0, 30, 40]
    assert epochs.floor == 0


def test_moves_of_one_step_are_archived_a_few_at_a_time() -> None:
    """In the order in which Redis has them, where a key with a colon in front is the last."""
    epochs = Epochs()
    for key in (":", "c", "a", "b"):
        epochs.move(key, 10)
    for archived in ({"a"}, {"a", "b"}, {"a", "b", "c"}):
        with mock.patch.object(_epochs, "ARCHIVE_AT_MOST", 1):
            epochs.put_away(10, 400)
        assert archive_of(epochs) == [(10, 10, dict.fromkeys(archived, 10))]
        assert {epochs.of(key) for key in "abc:"} == {10}


def test_a_few_moves_stay_in_the_journal() -> None:
    epochs = Epochs()
    epochs.move("a", 10)
    epochs.move("b", 20)
    with mock.patch.multiple(_epochs, JOURNAL_KEPT=1, ARCHIVE_AT_LEAST=2):
        epochs.put_away(20, 400)
    assert archive_of(epochs) == []


def test_a_key_that_moves_again_has_its_newer_epoch() -> None:
    epochs = Epochs()
    for stamp, key in ((10, "a"), (20, "b")):
        epochs.move(key, stamp)
    epochs.put_away(20, 400)
    epochs.move("a", 30)
    assert (epochs.of("a"), archive_of(epochs)) == (30, [(10, 10, {"a": 10})])
    epochs.move_late("c", 5, 40)
    epochs.put_away(40, 400)
    assert archive_of(epochs) == [(10, 30, {"a": 30, "b": 20})]
    assert (epochs.of("c"), epochs.late) == (5, {"c": 5})


def test_a_segment_has_a_part_of_the_retention_and_is_forgotten_as_a_whole() -> None:
    epochs = Epochs()
    for stamp, key in ((10, "a"), (109, "b"), (110, "c"), (300, "d"), (310, "e")):
        epochs.move(key, stamp)
    epochs.put_away(310, 400)
    parts = [(10, 109, {"a": 10, "b": 109}), (110, 110, {"c": 110}), (300, 300, {"d": 300})]
    assert archive_of(epochs) == parts
    epochs.forget(108, 0)
    assert (archive_of(epochs), epochs.floor) == (parts, 0)
    epochs.forget(200, 0)
    assert (archive_of(epochs), epochs.floor, epochs.of("a")) == (parts[1:], 109, 0)
    epochs.forget(200, 0)
    assert (archive_of(epochs), epochs.floor) == (parts[2:], 110)
    epochs.clear(400)
    assert archive_of(epochs) == []


def test_the_last_segment_goes_on_where_there_are_enough() -> None:
    epochs = Epochs()
    stamps = range(100, 100 * (_epochs.MAX_SEGMENTS + 5), 100)
    for stamp in stamps:
        epochs.move(f"key {stamp}", stamp)
    epochs.put_away(stamps[-1], 400)
    assert len(epochs.archive) == _epochs.MAX_SEGMENTS
    assert (epochs.archive[-1].first, epochs.archive[-1].last) == (600, stamps[-2])
