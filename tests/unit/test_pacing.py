"""Less is asked of a slow store, and it is given more time; a quick one gets all at once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distkit_actors._instance._pacing import Pacing
from distkit_actors._protocol._messages import MAX_ENTRIES

THRESHOLD = 30.0
FIRST = 2.0


def test_patience_doubles_up_to_a_third_of_the_threshold() -> None:
    pacing = Pacing(THRESHOLD)
    waits = []
    for _ in range(5):
        waits.append(pacing.patience(FIRST))
        pacing.unanswered()
    assert waits == [2.0, 4.0, 8.0, 10.0, 10.0]


def test_patience_is_never_less_than_what_the_store_asks_for() -> None:
    pacing = Pacing(1.0)
    pacing.unanswered()
    assert pacing.patience(FIRST) == FIRST


def test_patience_stays_grown_until_an_answer_is_quick() -> None:
    pacing = Pacing(THRESHOLD)
    pacing.answered(0.001)
    pacing.unanswered()
    pacing.answered(3.0)
    assert pacing.patience(FIRST) == 2 * FIRST
    pacing.answered(0.001)
    assert pacing.patience(FIRST) == FIRST


def test_pieces_are_halved_by_slow_answers_and_doubled_by_quick_ones() -> None:
    pacing = Pacing(THRESHOLD)
    pacing.answered(0.001)
    for _ in range(2):
        pacing.answered(5.0)
    assert pacing.piece_size == MAX_ENTRIES // 4
    assert pacing.share(MAX_ENTRIES) == pacing.piece_size
    for _ in range(3):
        pacing.answered(0.001)
    assert pacing.piece_size == MAX_ENTRIES


def test_a_long_way_to_the_store_makes_no_small_pieces() -> None:
    pacing = Pacing(1.0)
    for _ in range(20):
        pacing.answered(0.3)
    assert pacing.piece_size == MAX_ENTRIES


@pytest.mark.parametrize("threshold", [0.1, 1.0, 30.0, 3600.0])
@given(
    update=st.lists(st.floats(min_value=0, max_value=1e6) | st.none(), max_size=50),
    first=st.floats(min_value=0.01, max_value=100),
)
def test_patience_and_pieces_keep_within_their_bounds(
    threshold: float, update: list[float | None], first: float
) -> None:
    pacing = Pacing(threshold)
    for waited in update:
        if waited is None:
            pacing.unanswered()
        else:
            pacing.answered(waited)
        assert first <= pacing.patience(first) <= max(first, threshold / 3)
        assert 16 <= pacing.piece_size <= MAX_ENTRIES
