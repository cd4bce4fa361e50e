"""What an onlooker has observed (P43, looking without taking part)."""

from distkit_actors._fleet._looking import Observation
from distkit_actors._protocol._liveness import MICROSECONDS
from distkit_actors._protocol._messages import QueryKind


def test_the_time_of_a_question_counts_only_as_far_as_same_birthually_take() -> None:
    """A server that stood still for a minute could not hear anybody."""
    observation = Observation()
    observation.answered(QueryKind.VALUES, 10.0, 10.5, at=0)
    assert observation.reached(11.0) == 1 * MICROSECONDS  # it may have been judged at once
    observation.answered(QueryKind.VALUES, 20.0, 80.0, at=0)
    assert observation.reached(80.0) <= 2 * MICROSECONDS
