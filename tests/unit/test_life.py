"""The life of an actor: what may happen in each state, and that nothing else changes anything."""

from __future__ import annotations

from typing import Final, get_args

import pytest

from distkit_actors._actor._life import TRANSITIONS, Course, Event, Life, LifeError
from distkit_actors._actor._statistics import CounterState

PAIRS: Final = [(state, event) for state in Life for event in Event]


def test_every_state_has_a_row_and_every_event_a_use() -> None:
    assert set(TRANSITIONS) == set(Life)
    assert {event for row in TRANSITIONS.values() for event in row} == set(Event)


@pytest.mark.parametrize(("state", "event"), PAIRS, ids=lambda x: x.name)
def test_an_event_leads_where_the_table_says_or_raises_and_changes_nothing(
    state: Life, event: Event
) -> None:
    course = Course()
    course.now = state
    target = TRANSITIONS[state].get(event)
    if target is None:
        with pytest.raises(LifeError, match=state.value):
            course.happens(event)
        assert course.now is state
    else:
        course.happens(event)
        assert course.now is target


def test_every_state_is_reached_from_the_first() -> None:
    reached = {Course().now}
    for _ in Life:
        reached |= {target for state in reached for target in TRANSITIONS[state].values()}
    assert reached == set(Life)


def test_a_state_is_called_in_the_statistics_what_it_is() -> None:
    assert set(get_args(CounterState)) == {state.value for state in Life}
