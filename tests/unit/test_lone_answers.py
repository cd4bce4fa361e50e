"""The short way through a session that a lone addition takes: what it does, and when (P38)."""

from __future__ import annotations

from copy import deepcopy
from typing import Final

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from distkit_actors._instance._phases import ProtocolError
from distkit_actors._instance._session import Session
from distkit_actors._instance._session_state import Update
from distkit_actors._protocol._messages import (
    Applied,
    Entry,
    Journal,
    Kind,
    Loaded,
    Opened,
    Peeked,
    Previous,
    Rejection,
    Slice,
)
from tests.unit.test_phases import PERIODS

PLAIN: Final = Applied(20, (Previous(9, 5),), Journal(0, 0, 12))
HERE: Final = [("a", 5, 3), ("b", 6, 14)]

numbers = st.integers(-3, 3)
stamps = st.integers(0, 16)
moves = st.lists(st.tuples(st.sampled_from("abc"), stamps), max_size=2)
journals = st.builds(Journal, stamps, stamps, stamps, moves)
verdicts = st.sampled_from([Rejection.REFUSED, Rejection.SPLIT, Rejection.MOVED])
results = st.lists(st.builds(Previous, numbers, numbers | st.just(5)) | verdicts, max_size=2)
answers = st.builds(
    Applied,
    st.just(20),
    results | st.just([Previous(9, 5)]),
    st.none() | st.just(PLAIN.journal) | journals,
    st.integers(0, 1),
    st.integers(0, 1),
    st.booleans(),
)


def live(*, moved: bool = False, unheard: bool = False) -> Session:
    """Return a session with slices of "a" and "b", which has moved an epoch, or not."""
    session = Session("me", "nonce", PERIODS, inherit=True)
    session.receive(Peeked(0, 1))
    session.receive(Opened(10, 0, inherited=True, leftovers=False))
    session.receive(Loaded("", HERE))
    if moved:
        session.begin([Entry(Kind.MOVE, "c", 1)])
        session.receive(Applied(15, (Previous(0, 0),), Journal(0, 0, 10)))
    if unheard:
        session.begin([Entry(Kind.ADD, "b", 1)])
        session.receive(Applied(16, (Previous(6, 6),)))
    return session


def state(session: Session) -> object:
    """Return all that an answer may change."""
    own, batch = session.own, session._batch
    withheld = vars(own.withheld) if hasattr(own.withheld, "__dict__") else len(own.withheld)
    return (
        (session.phase, session.seq, session.used, session.stuck, batch and batch.entries),
        (own.slices, list(own.moves.items()), own.known, own.cleared, own._told_at, own._unheard),
        withheld,
    )


def told(update: Update) -> bool:
    """Tell whether there is more for the layer above than the results."""
    return bool(
        update.epochs
        or update.dropped
        or update.merged
        or update.void
        or update.cleared
        or update.missed
        or update.backlog
    )


def case(
    key: str, value: int, reply: Applied, *, moved: bool = False, unheard: bool = False
) -> example:
    return example(key=key, value=value, reply=reply, moved=moved, unheard=unheard)


@given(
    key=st.sampled_from("abc"),
    value=numbers | st.just(-5),
    reply=answers,
    moved=st.booleans(),
    unheard=st.booleans(),
)
@case("a", 1, PLAIN, moved=True)
@case("a", 1, PLAIN, unheard=True)
@case("a", 1, PLAIN._replace(again=True))
@case("a", 1, PLAIN._replace(stuck=1))
@case("a", 1, PLAIN._replace(results=2 * PLAIN.results))
@case("a", -5, PLAIN)
@case("c", 1, PLAIN._replace(results=(Previous(9, 0),)), moved=True)
@case("a", 1, PLAIN._replace(results=(Previous(9, 0),)))
@case("a", 1, PLAIN._replace(journal=Journal(11, 0, 12)))
@case("a", 1, PLAIN._replace(journal=Journal(0, 9, 12)))
@case("a", 1, PLAIN._replace(journal=Journal(0, 0, 12, [("a", 4)])))
def test_it_does_as_the_long_way_or_nothing(
    *, key: str, value: int, reply: Applied, moved: bool, unheard: bool
) -> None:
    session = live(moved=moved, unheard=unheard)
    session.begin_addition(key, value, budget=1)
    before, other = state(deepcopy(session)), deepcopy(session)
    found = session.receive_addition(reply)
    if found is None:
        assert state(session) == before
        return
    update = other.receive(reply)
    assert state(session) == state(other)
    assert update.results == reply.results
    assert [found] == list(reply.results)
    assert not told(update)


def test_a_plain_answer_is_taken_in() -> None:
    session = live(moved=True)
    session.begin_addition("a", 2, budget=1)
    assert session.receive_addition(PLAIN) == (9, 5)
    assert session.idle
    assert session.slices["a"] == Slice(7, 3)
    assert session.known == 12


def test_own_moves_that_nobody_needs_are_forgotten() -> None:
    session = live(moved=True)
    session.own.known = 15
    session.begin_addition("a", 2, budget=1)
    assert session.receive_addition(PLAIN._replace(journal=Journal(0, 15, 15))) is not None
    assert not session.moves


def test_nothing_is_taken_in_where_there_is_no_batch() -> None:
    session = live()
    before = state(deepcopy(session))
    assert session.receive_addition(PLAIN) is None
    assert state(session) == before
    with pytest.raises(ProtocolError):
        session.receive(PLAIN)
