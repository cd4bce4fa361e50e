"""What a return tells the store, piece by piece, and what it takes for heard (P45, archive)."""

from __future__ import annotations

from copy import deepcopy

import pytest

from distkit_actors._instance._holds import Hold
from distkit_actors._instance._session import Phase, Session
from distkit_actors._namespace import _epochs
from distkit_actors._protocol._messages import Entry, Kind, MustResume, Resume
from tests.unit.test_loading import PERIODS, Store, joined


def add(key: str, value: int = 1) -> Entry:
    return Entry(Kind.ADD, key, value)


def beat(store: Store, session: Session) -> None:
    """Let a sign of life be written down, and all be heard."""
    store.now += PERIODS.interval
    for _ in range(3):
        session.begin([], budget=1000)
        store.all(session)


def piece(store: Store, session: Session) -> Resume:
    """Send the next piece of a return; a reply that asks for one comes before the first."""
    request = session.request()
    if isinstance(store.ask(session), MustResume):
        return piece(store, session)
    assert isinstance(request, Resume)
    return request


def test_i2_a_move_that_a_rollback_takes_out_of_the_archive_is_not_taken_for_heard(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It was archived when the return began, and no journal told it, before or after."""
    monkeypatch.setattr(_epochs, "JOURNAL_KEPT", 0)
    monkeypatch.setattr(_epochs, "ARCHIVE_AT_LEAST", 1)
    store = Store()
    away, mover = joined(store, "away", "n"), joined(store, "mover", "n")
    away.piece_size = 1
    for key in "abcd":
        store.all(away, add(key))
    store.all(mover, Entry(Kind.FORGET, "away", 0))

    store.all(mover, Entry(Kind.MOVE, "d", 0))
    epochs = store.namespace.registry.epochs
    moved = epochs.latest
    copy = deepcopy(store.namespace)
    beat(store, mover)
    assert epochs.archived == moved

    away.begin([])
    assert piece(store, away).since == 0
    store.namespace = copy
    monkeypatch.setattr(_epochs, "ARCHIVE_AT_LEAST", 1000)  # it stays in the journal now
    beat(store, mover)
    for _ in range(2):
        assert piece(store, away).heard < moved <= away.known

    # It is cut off before it claims the last key, until the move is forgotten.
    store.all(mover, Entry(Kind.FORGET, "away", 0))
    while (epochs := store.namespace.registry.epochs).floor < moved:
        beat(store, mover)
    store.all(away)
    store.all(away, add("a", 0))
    assert epochs.of("d") == 0
    assert store.namespace.registry.total("d") == 0
    assert "d" not in away.slices


def test_i10_claims_for_many_holds_of_one_key_go_in_pieces() -> None:
    """Each hold is in a slice of its own, which came to nothing."""
    store = Store()
    away, other = joined(store, "away", "n"), joined(store, "other", "n")
    away.piece_size = 3
    stamps = []
    for _ in range(10):
        store.all(away, add("k"))
        stamps.append(away.slices["k"].stamp)
        away.holds.committed(Hold("k", 1), stamps[-1])
        store.all(away, add("k", -1))
    store.all(other, Entry(Kind.FORGET, "away", 0))
    away.begin([])
    claimed: list[int] = []
    while away.phase is not Phase.LIVE or not claimed:
        claims = piece(store, away).claims
        assert len(claims) <= 3
        claimed += [claim.stamp for claim in claims]
    assert claimed == stamps
