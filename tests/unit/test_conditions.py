"""Conditions: each of the six, up to both ends of int64, and no seventh."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distkit_actors import CounterOverflowError
from distkit_actors._protocol._conditions import (
    Condition,
    Eq,
    Ge,
    Gt,
    Le,
    Lt,
    Ne,
    checked_condition,
)
from distkit_actors._protocol._values import INT64_MAX, INT64_MIN

MEANS: Final[dict[type[Condition], Callable[[int, int], bool]]] = {
    Eq: operator.eq,
    Ne: operator.ne,
    Lt: operator.lt,
    Le: operator.le,
    Gt: operator.gt,
    Ge: operator.ge,
}
#: The ends of int64, the ends of what a double holds exactly, zero, and their neighbours.
EDGES: Final = sorted(
    {
        near
        for edge in (INT64_MIN, -(2**53), 0, 2**53, INT64_MAX)
        for near in (edge - 1, edge, edge + 1)
        if INT64_MIN <= near <= INT64_MAX
    }
)

kinds = pytest.mark.parametrize("kind", MEANS, ids=lambda kind: kind.__name__)


@kinds
def test_a_condition_is_exact_at_the_edges(kind: type[Condition]) -> None:
    for value in EDGES:
        condition = kind(value)
        for current in EDGES:
            assert condition.holds(current) == MEANS[kind](current, value), (current, value)


@kinds
@given(
    current=st.integers(INT64_MIN, INT64_MAX),
    distance=st.integers(-2, 2) | st.integers(-(2**64), 2**64),
)
def test_a_condition_is_exact_between_them(
    kind: type[Condition], current: int, distance: int
) -> None:
    value = max(INT64_MIN, min(INT64_MAX, current + distance))
    assert kind(value).holds(current) == MEANS[kind](current, value)


def test_each_has_a_sign_of_its_own_of_two_characters() -> None:
    signs = {kind.sign for kind in MEANS}
    assert len(signs) == len(MEANS)
    assert {len(sign) for sign in signs} == {2}


@kinds
def test_a_condition_compares_with_an_int64(kind: type[Condition]) -> None:
    for value in (INT64_MIN - 1, INT64_MAX + 1):
        with pytest.raises(CounterOverflowError):
            kind(value)
    for other in (True, 1.0, "1", None):
        with pytest.raises(TypeError):
            kind(other)  # type: ignore[arg-type]  # what a caller without types may do


@kinds
def test_what_is_one_is_taken(kind: type[Condition]) -> None:
    condition = kind(5)
    assert checked_condition(condition) is condition


def test_nothing_else_is_taken() -> None:
    class Odd:
        value = 5

        def holds(self, current: int) -> bool:
            return current % 2 == 1

    with pytest.raises(TypeError, match="such as Lt"):
        checked_condition(Odd())
    Condition.register(Odd)
    with pytest.raises(TypeError, match="a store knows no others"):
        checked_condition(Odd())
    with pytest.raises(TypeError, match="a store knows no others"):
        type("Odd", (Condition,), {})
