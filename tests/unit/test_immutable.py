"""Values that never change, beside a frozen dataclass, which they are to type checkers."""

from __future__ import annotations

import copy
import inspect
import pickle
from dataclasses import dataclass
from typing import Final

import pytest

from distkit_actors._protocol._conditions import Eq, Ge
from distkit_actors._protocol._immutable import Immutable
from distkit_actors._protocol._liveness import LivenessConfig
from distkit_actors._protocol._messages import (
    Conflict,
    Forget,
    Forgotten,
    Mismatch,
    MustResume,
    Peek,
    Stale,
    Watch,
    Watched,
)

VALUES: Final = (
    Conflict(7),
    Eq(7),
    Forget("me", "you"),
    Forgotten(3, 7),
    Ge(7),
    LivenessConfig(30.0, 10.0),
    Mismatch(7),
    MustResume(3, 7),
    MustResume(None, 7),
    Peek("me"),
    Stale(),
    Watch("me", 7),
    Watched(),
)
each_value = pytest.mark.parametrize("value", VALUES, ids=repr)


def fields_of(value: Immutable) -> dict[str, object]:
    return {name: getattr(value, name) for name in value.__match_args__}


@each_value
def test_its_fields_never_change_and_there_are_no_others(value: Immutable) -> None:
    before = fields_of(value)
    for name in (*before, "more"):
        with pytest.raises(AttributeError):
            setattr(value, name, 1)
        with pytest.raises(AttributeError):
            delattr(value, name)
    assert fields_of(value) == before
    assert not hasattr(value, "__dict__")


@each_value
def test_it_takes_its_fields_in_order_and_by_name(value: Immutable) -> None:
    fields = fields_of(value)
    assert list(inspect.signature(type(value)).parameters) == list(fields)
    assert value == type(value)(*fields.values()) == type(value)(**fields)


@each_value
def test_it_equals_those_of_its_own_kind_with_the_same_fields(value: Immutable) -> None:
    equal = [other for other in VALUES if other == value]
    assert [id(other) for other in equal] == [id(value)]
    again = type(value)(*fields_of(value).values())
    assert (again, hash(again)) == (value, hash(value))
    assert value != tuple(fields_of(value).values())
    assert len(set(VALUES)) == len(VALUES)


@each_value
def test_copies_and_pickles_are_equal(value: Immutable) -> None:
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(value, protocol)) == value
    assert copy.copy(value) == copy.deepcopy(value) == value


def test_it_is_shown_as_a_dataclass_is() -> None:
    @dataclass(frozen=True)
    class MustResume:
        recorded: int | None
        born: int

    here = MustResume.__qualname__.removesuffix("MustResume")
    assert here + repr(VALUES[7]) == repr(MustResume(3, 7))
    assert repr(Stale()) == "Stale()"


def test_its_fields_can_be_matched() -> None:
    match VALUES[7]:
        case MustResume(recorded, born):
            assert (recorded, born) == (3, 7)
        case _:
            pytest.fail("no match")


def test_one_can_be_made_with_other_fields() -> None:
    assert MustResume(3, 7).__replace__(recorded=None) == MustResume(None, 7)
    with pytest.raises(TypeError):
        MustResume(3, 7).__replace__(more=1)
