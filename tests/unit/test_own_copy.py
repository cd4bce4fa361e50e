"""An instance's own copy, what it withholds, and how it tells a store everything again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distkit_actors._instance import _resumption
from distkit_actors._instance._holds import Hold, Holds
from distkit_actors._instance._own_copy import OwnCopy
from distkit_actors._instance._phases import ProtocolError
from distkit_actors._instance._resumption import Resumption
from distkit_actors._instance._session_state import Batch, Update
from distkit_actors._instance._withheld import Withheld
from distkit_actors._protocol._conditions import Eq
from distkit_actors._protocol._messages import (
    MAX_ENTRIES,
    Applied,
    Entry,
    Journal,
    Kind,
    MustResume,
    Previous,
    Rejection,
    Result,
    Resume,
    Slice,
)
from distkit_actors._protocol._values import INT64_MAX, INT64_MIN, fits
from tests.unit.test_lone_answers import live
from tests.unit.test_phases import PERIODS

KEYS: Final = "abcd"
int64 = st.integers(INT64_MIN, INT64_MAX)
stamps = st.integers(1, 9)


def own_copy(**slices: tuple[int, int]) -> OwnCopy:
    own = OwnCopy()
    own.slices.update({key: Slice(*pair) for key, pair in slices.items()})
    return own


# -------------------------------------------------------------------------------- beliefs


@given(int64.filter(bool), int64.filter(bool))
def test_an_addition_says_what_the_own_slice_becomes_if_that_is_an_int64(
    own: int, count: int
) -> None:
    copy = own_copy(a=(own, 1))
    (entry,) = copy.with_beliefs([Entry(Kind.ADD, "a", count)])
    assert entry.after == (own + count if fits(own + count) else None)


def test_each_entry_builds_on_the_one_before_it() -> None:
    copy = own_copy(a=(5, 1))
    put, add = copy.with_beliefs([Entry(Kind.PUT, "a", 20), Entry(Kind.ADD, "b", 3)])
    assert (put.after, add.after) == (None, 3)
    read = Entry(Kind.ADD, "a", 0)
    assert [entry.after for entry in copy.with_beliefs([put, read])] == [None, 20]
    with pytest.raises(ProtocolError, match="two entries of one batch add to 'a'"):
        copy.with_beliefs([put, Entry(Kind.ADD, "a", 1)])


# --------------------------------------------------------------------------------- replay


def replayed(own: OwnCopy, entry: Entry, before: int, at: int = 9) -> Update:
    update = Update()
    own.replay(entry, Previous(before, before), at, update)
    return update


def test_what_the_store_did_is_done_to_the_copy() -> None:
    own = own_copy(a=(5, 1))
    replayed(own, Entry(Kind.ADD, "a", 2), 5)
    replayed(own, Entry(Kind.ADD, "b", 3), 0)
    assert own.slices == {"a": (7, 1), "b": (3, 9)}
    replayed(own, Entry(Kind.PUT, "a", 1), 7)
    assert own.slices["a"] == (1, 1)
    assert replayed(own, Entry(Kind.PUT, "a", 0), 1).stamps == {"a": 1}
    assert own.slices == {"b": (3, 9)}
    replayed(own, Entry(Kind.MOVE, "b", 4), 3, at=12)
    assert (own.slices, own.moves) == ({"b": (4, 12)}, {"b": 12})
    replayed(own, Entry(Kind.CLEAR, "", 0), 0, at=15)
    assert (own.slices, own.moves, own.cleared) == ({}, {}, 15)


def test_a_slice_that_the_store_has_not_any_more_went_with_a_move() -> None:
    own = own_copy(a=(5, 1))
    assert replayed(own, Entry(Kind.ADD, "a", 2), 0).dropped == {"a": 1}
    assert own.slices == {"a": (2, 9)}


def test_what_becomes_one_is_as_old_as_the_older() -> None:
    own = own_copy(a=(5, 4))
    own.withheld.add("a", Slice(3, 2))
    (claim,) = own.retries()
    assert (claim.value, claim.after, claim.stamp) == (3, 8, 2)
    assert replayed(own, claim, 5).merged == [("a", 4, 2)]
    assert own.slices == {"a": (8, 2)}
    assert len(own.withheld) == 0


# ----------------------------------------------------------------------------------- news


def heard(own: OwnCopy, journal: Journal, *keys: str, at: int = 20) -> Update:
    update = Update()
    own.hear(Applied(at, (), journal), [Entry(Kind.ADD, key, 1) for key in keys], update)
    return update


def test_others_moves_take_what_is_older() -> None:
    own = own_copy(a=(5, 4), b=(5, 6))
    own.withheld.add("a", Slice(3, 4))
    update = heard(own, Journal(0, 0, 15, (("a", 5), ("b", 6), ("c", 7))))
    assert (own.slices, own.known, len(own.withheld)) == ({"b": (5, 6)}, 15, 0)
    assert (update.dropped, update.epochs) == ({"a": 4}, {"a": 5, "b": 6, "c": 7})


def test_a_clear_takes_all_but_what_was_written_since() -> None:
    own = own_copy(a=(5, 4), b=(5, 25))
    update = heard(own, Journal(22, 0, 22), "b", at=26)
    assert (own.slices, own.cleared, update.cleared) == ({"b": (5, 25)}, 22, True)


def test_what_an_answer_without_news_was_about_is_looked_at_with_the_next() -> None:
    own = own_copy(a=(5, 4), b=(5, 25))
    own.hear(Applied(25, ()), [Entry(Kind.ADD, "b", 5)], Update())
    heard(own, Journal(22, 0, 22), "c", at=26)
    assert own.slices == {"b": (5, 25)}


def test_what_may_have_missed_a_forgotten_move_goes() -> None:
    own = own_copy(a=(5, 4), b=(5, 10))
    update = heard(own, Journal(0, 10, 15))
    assert (own.slices, update.missed, update.dropped) == ({"b": (5, 10)}, 10, {"a": 4})
    assert heard(own, Journal(0, 15, 16)).missed == 0


def test_where_there_never_was_a_slice_the_stamp_is_that_of_the_last_move_before_it() -> None:
    """The stored answer tells of no move, so that any up to the step may have been before it."""
    own = OwnCopy()
    assert heard(own, Journal(0, 0, 6), at=20).ground == 6
    update = Update(at=30)
    own.hear(Applied(30, ()), [], update)
    assert (update.ground, own.known) == (29, 6)
    assert heard(own, Journal(0, 0, 25), at=40).ground == 25


def test_own_moves_are_kept_until_they_are_forgotten_by_the_store_or_cleared() -> None:
    own = OwnCopy()
    own.moves.update({"a": 5, "b": 7, "c": 9})
    heard(own, Journal(0, 5, 10))
    assert own.moves == {"b": 7, "c": 9}
    heard(own, Journal(8, 5, 10))
    assert own.moves == {"c": 9}


# ------------------------------------------------------------------------------- withheld


@given(
    st.lists(
        st.tuples(st.sampled_from("arpd"), st.sampled_from("xyz"), st.integers(1, 9)), max_size=30
    )
)
def test_withheld_slices_are_counted_and_the_oldest_of_a_key_is_next(
    steps: list[tuple[str, str, int]],
) -> None:
    withheld, plain = Withheld(), list[tuple[str, Slice]]()
    for step, key, stamp in steps:
        one = Slice(1, stamp)
        match step:
            case "a":
                withheld.add(key, one)
                plain.append((key, one))
            case "r":
                withheld.remove(key, one)
                if (key, one) in plain:
                    plain.remove((key, one))
            case "p":
                withheld.put_off(key)
            case _:
                withheld.drop_older({key: stamp})
                plain = [(k, p) for k, p in plain if k != key or p.stamp >= stamp]
        assert sorted(withheld) == sorted(plain)
        assert len(withheld) == len(plain)
        firsts = dict(reversed(plain))
        assert dict(withheld.oldest(9)) == firsts
        if step == "p" and key in firsts:
            assert list(withheld.keys)[-1] == key


# --------------------------------------------------------------------------------- resume

#: What the store may say of a hold whose slice is gone.
ANSWERS: Final = (Previous(0, 0), Rejection.MOVED)


@pytest.fixture(autouse=True, scope="module")
def _small_parts() -> Iterator[None]:
    with mock.patch.object(_resumption, "MAX_MOVES", 2):
        yield


def held(at: Mapping[str, Iterable[int]]) -> Holds:
    """Return holds of slices with these stamps."""
    holds = Holds()
    for key, stamps in at.items():
        for stamp in stamps:
            holds.committed(Hold(key, 1), stamp)
    return holds


def sent(work: Resumption, own: OwnCopy, size: int, holds: Holds | None = None) -> Resume:
    """Return the next piece."""
    moves, claims = work.piece(own, holds or Holds(), size)
    work.sent = Resume("me", 1, 1, own.known, PERIODS, 1, work.first, own.cleared, moves, claims)
    return work.sent


@given(
    st.dictionaries(
        st.sampled_from(KEYS),
        st.tuples(st.integers(-5, 5).filter(bool), stamp := st.integers(1, 9)),
    ),
    st.dictionaries(st.sampled_from("vwxyz"), stamp),
    st.lists(st.sampled_from(KEYS), max_size=3),
    st.dictionaries(st.sampled_from(KEYS), st.sets(stamp, min_size=1, max_size=2)),
    st.integers(1, 3),
    st.data(),
)
def test_everything_is_told_once_whatever_the_pieces_and_what_has_become_void_is_not(
    slices: dict[str, tuple[int, int]],
    moves: dict[str, int],
    withheld: list[str],
    at: dict[str, set[int]],
    size: int,
    data: st.DataObject,
) -> None:
    own = own_copy(**slices)
    own.moves.update(moves)
    for key in withheld:
        own.withheld.add(key, Slice(1, 1))
    work = Resumption()
    work.begin(own, holds := held(at))
    told: list[tuple[str, int]] = []
    asked: list[tuple[str, int]] = []
    claimed: list[str] = []
    retried: list[str] = []
    void: set[str] = set()
    while not work.done:
        piece = sent(work, own, size, holds)
        assert len(piece.moves) <= 2
        assert len(piece.claims) <= size + 2  # a key may have three of nothing
        assert not piece.claims or not work.moves or len(work.moves) == len(piece.moves)
        told += piece.moves
        if any(not claim.value for claim in piece.claims):
            assert not claimed  # else a claim of nothing would take a slice away
            asked += [(claim.key, claim.stamp) for claim in piece.claims]
            results = [data.draw(st.sampled_from(ANSWERS)) for _ in piece.claims]
            work.executed(Applied(9, results), own, update := Update())
            epochs: dict[str, int] = {}
            for claim, result in zip(piece.claims, results, strict=True):
                if result is Rejection.MOVED:
                    epochs[claim.key] = claim.stamp + 1
            assert (update.epochs, update.dropped) == (epochs, {})
            continue
        again = len(claimed) == len(slices.keys() - void) and not work.claims
        (retried if again else claimed).extend(claim.key for claim in piece.claims)
        results = (Previous(0, 0),) * len(piece.claims)
        work.executed(Applied(9, results), own, update := Update())
        if data.draw(st.booleans()) and slices:  # somebody moves what was not told yet
            key = data.draw(st.sampled_from(sorted(slices)))
            if key in work.claims and key in own.slices:
                own.hear_late(Journal(0, 0, 9, ((key, 10),)), 9, own.known, update)
                void.add(key)
        work.follow(update, own, news=True)
    assert told == list(moves.items())
    assert [(key, one) for key, one in asked if key not in void] == [
        (key, one)
        for key in dict.fromkeys((*at, *withheld))
        for one in sorted(at.get(key, set()) | ({1} if key in withheld else set()))
        if key not in void and slices.get(key, (0, 0))[1] != one
    ]
    assert claimed == [key for key in slices if key not in void]
    assert set(retried) <= set(withheld)


def test_only_a_first_part_may_have_to_be_repeated() -> None:
    own = own_copy(a=(1, 1))
    work = Resumption()
    work.begin(own, Holds())
    assert not work.answered_by(Applied(9, ()))  # nothing was sent
    first = sent(work, own, MAX_ENTRIES)
    again = Applied(9, (), again=True)
    assert work.answered_by(again)
    work.executed(again, own, Update())
    assert sent(work, own, MAX_ENTRIES) == first
    work.first = False
    assert not work.answered_by(again)


def test_a_return_begins_again_with_what_was_known_before_it() -> None:
    """Of archived moves it learns by all of its claims, and not by the first answer."""
    own = own_copy(a=(1, 4), b=(1, 4))
    own.known = 5
    work = Resumption()
    work.begin(own, Holds())
    sent(work, own, 1)
    work.executed(Applied(9, (Previous(0, 0),)), own, update := Update())
    own.hear_late(Journal(0, 0, 8), 9, work.since, update)
    assert (own.known, work.since) == (8, 5)
    again = Resumption()
    again.begin(own, Holds(), work)
    assert again.since == 5
    update = Update()
    own.hear_late(Journal(0, 6, 8), 10, again.since, update)
    again.follow(update, own, news=True)
    assert (update.missed, again.since, own.slices) == (6, 6, {})


def test_withheld_slices_are_asked_for_as_only_the_first_of_a_key_is_claimed() -> None:
    own = own_copy()
    for stamp in (2, 3, 4):
        own.withheld.add("a", Slice(1, stamp))
    work = Resumption()
    work.begin(own, Holds())
    assert [(c.key, c.value, c.stamp) for c in sent(work, own, 9).claims] == [
        ("a", 0, 2),
        ("a", 0, 3),
        ("a", 0, 4),
    ]
    moved = Rejection.MOVED
    work.executed(Applied(9, (moved, moved, Previous(0, 0))), own, Update())
    assert list(own.withheld) == [("a", Slice(1, 4))]


def test_a_hold_that_a_fold_began_is_asked_for_when_its_slice_has_come_to_nothing() -> None:
    own = own_copy(a=(3, 4))
    work = Resumption()
    batch = Batch([Entry(Kind.ADD, "a", -3), Entry(Kind.ADD, "b", 2)], 0, leave=False, atomic=False)
    own.known = 6
    work.fold(batch, own)
    work.begin(own, Holds())
    sent(work, own, MAX_ENTRIES)
    work.executed(Applied(9, (Previous(8, 0), Previous(0, 0))), own, Update())
    assert own.slices == {"b": (2, 6)}
    again = Resumption()
    again.begin(own, Holds(), work)
    assert [(c.key, c.value, c.stamp) for c in sent(again, own, 9).claims] == [("a", 0, 4)]
    again.executed(Applied(9, (Rejection.MOVED,)), own, update := Update())
    assert (again.void, update.epochs) == ({"a"}, {"a": 5})


@pytest.mark.parametrize(
    ("entry", "atomic", "result", "after"),
    [
        (Entry(Kind.ADD, "a", 2), False, Rejection.UNKNOWN, 7),
        (Entry(Kind.ADD, "a", 0), False, Rejection.RETRY, 5),
        (Entry(Kind.ADD, "a", 2), True, Rejection.RETRY, 5),
        (Entry(Kind.ADD, "a", 2, condition=Eq(5)), False, Rejection.RETRY, 5),
        (Entry(Kind.ADD, "a", INT64_MAX), False, Rejection.REFUSED, 5),
        (Entry(Kind.PUT, "a", 9), False, Rejection.UNKNOWN, 9),
        (Entry(Kind.PUT, "a", 0), False, Rejection.UNKNOWN, 0),
        (Entry(Kind.CLAIM, "a", 3, stamp=1), False, Rejection.RETRY, 5),
        (Entry(Kind.FORGET, "a", 0), False, Rejection.RETRY, 5),
        (Entry(Kind.MOVE, "a", 9), False, Rejection.UNKNOWN, 5),
        (Entry(Kind.CLEAR, "", 0), False, Rejection.UNKNOWN, 5),
    ],
    ids=str,
)
def test_what_may_have_run_is_folded_or_run_again_or_given_up(
    entry: Entry, atomic: bool, result: Result, after: int
) -> None:
    own = own_copy(a=(5, 4))
    work = Resumption()
    work.fold(Batch([entry], 0, leave=False, atomic=atomic), own)
    assert work.results == [result]
    assert own.slices == {"a": (after, 4)}


@pytest.mark.parametrize("doubt", [False, True])
def test_a_batch_without_entries_is_repeated_whether_or_not_it_may_have_run(doubt: bool) -> None:
    session = live()
    session.begin([])
    if doubt:
        session.lost()
    update = session.receive(MustResume(None, 1))
    assert (update.results, update.at) == ([], 0)


def test_what_is_folded_into_no_slice_is_younger_than_the_last_known_move_of_its_key() -> None:
    """The answer to an own move may have been a stored one, which tells of no journal."""
    own = OwnCopy()
    own.known, own.cleared = 6, 8
    own.moves["a"] = 9
    batch = Batch([Entry(Kind.ADD, key, 1) for key in "ab"], 0, leave=False, atomic=False)
    work = Resumption()
    work.fold(batch, own)
    assert own.slices == {"a": (1, 9), "b": (1, 8)}
    assert work.stamps == {"a": 9, "b": 8}


def test_a_claim_that_is_accepted_tells_what_became_of_the_operations_in_it() -> None:
    own = own_copy(a=(5, 4))
    work = Resumption()
    batch = Batch([Entry(Kind.ADD, "a", 2), Entry(Kind.PUT, "b", 3)], 0, leave=False, atomic=False)
    own.known = 6
    work.fold(batch, own)
    work.begin(own, Holds())
    assert (own.slices, work.stamps) == ({"a": (7, 4), "b": (3, 6)}, {"a": 4, "b": 6})
    sent(work, own, MAX_ENTRIES)
    work.executed(Applied(9, (Previous(20, 0), Rejection.MOVED)), own, update := Update())
    assert work.results == [Previous(25, 5), Rejection.UNKNOWN]
    assert (work.void, update.dropped, own.slices) == ({"b"}, {"b": 6}, {"a": (7, 4)})
    assert work.done


# -------------------------------------------------------------- as other threads look at it


class _Kept(dict[str, Slice]):
    """Slices of which none may be missing, not even between two lines."""

    def pop(self, *_: object) -> Slice:
        raise AssertionError("it was taken out")

    def __delitem__(self, key: str) -> None:
        raise AssertionError("it was taken out")


def test_an_own_move_never_lets_the_slice_be_missing() -> None:
    own = own_copy()
    own.slices = _Kept(a=Slice(5, 1))
    own.replay(Entry(Kind.MOVE, "a", 7), Previous(5, 5), 9, Update())
    assert own.slices == {"a": Slice(7, 9)}


def test_a_clear_of_others_never_lets_what_is_younger_be_missing() -> None:
    own = own_copy(old=(5, 1), young=(6, 8))
    seen: list[set[str]] = []

    def keys() -> Iterator[str]:
        for key in ("old", "young"):
            seen.append(set(own.slices))
            yield key
            seen.append(set(own.slices))

    own._learn_clear(7, keys(), Update())
    assert all("young" in slices for slices in seen)
    assert own.slices == {"young": Slice(6, 8)}


@given(st.none() | int64.filter(bool), int64)
def test_one_addition_is_believed_as_one_of_many(slice_: int | None, value: int) -> None:
    own = own_copy() if slice_ is None else own_copy(k=(slice_, 1))
    assert own.with_beliefs([Entry(Kind.ADD, "k", value)]) == [own.addition("k", value)]
