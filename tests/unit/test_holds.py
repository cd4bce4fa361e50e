"""Holds: which of them a move makes void, and which it does not."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from distkit_actors._instance._holds import Hold, Holds


class Void:
    """Holds, and which of them are void."""

    def __init__(self) -> None:
        self.void: list[Hold] = []
        self.holds = Holds()

    def committed(self, key: str, at: int) -> Hold:
        hold = Hold(key, 1)
        self.holds.committed(hold, at)
        return hold

    def moved(self, epochs: dict[str, int], dropped: dict[str, int]) -> None:
        self.void += self.holds.moved(epochs, dropped)

    def cleared(self, stamp: int) -> None:
        self.void += self.holds.cleared(stamp)


def test_a_move_makes_void_what_is_older_and_not_what_is_as_old() -> None:
    world = Void()
    old, same, other = world.committed("a", 9), world.committed("a", 10), world.committed("b", 9)
    world.moved({"a": 10}, {})
    assert world.void == [old]
    assert old.void
    assert world.holds.outstanding() == [same, other]


def test_what_went_with_a_slice_is_void_and_what_is_younger_stays() -> None:
    world = Void()
    old, young = world.committed("a", 9), world.committed("a", 10)
    world.moved({}, {"a": 9})
    assert world.void == [old]
    assert world.holds.outstanding() == [young]


def test_a_clear_concerns_every_key() -> None:
    world = Void()
    holds = [world.committed(key, at) for key, at in (("a", 9), ("b", 10), ("c", 11))]
    world.cleared(10)
    assert world.void == holds[:1]
    assert world.holds.outstanding() == holds[1:]


def test_what_becomes_one_is_as_old_as_the_older() -> None:
    world = Void()
    young, other = world.committed("a", 20), world.committed("a", 30)
    world.holds.merged("a", younger=20, older=10)
    assert (young.at, other.at) == (10, 30)
    world.holds.merged("unknown", younger=20, older=10)
    world.moved({"a": 15}, {})
    assert world.void == [young]


def test_a_hold_that_has_ended_is_not_made_void() -> None:
    world = Void()
    hold = world.committed("a", 9)
    world.holds.released(hold)
    world.holds.released(hold)
    world.moved({"a": 10}, {})
    assert world.void == []


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 20)), max_size=10),
    st.lists(
        st.tuples(st.sampled_from("ab"), st.integers(0, 20))
        | st.tuples(st.none(), st.integers(0, 20)),
        max_size=5,
    ),
)
def test_each_is_made_void_once_or_is_outstanding(
    added: list[tuple[str, int]], moves: list[tuple[str | None, int]]
) -> None:
    world = Void()
    holds = [world.committed(key, at) for key, at in added]
    for key, epoch in moves:
        if key is None:
            world.cleared(epoch)
        else:
            world.moved({key: epoch}, {})
    gone = [
        hold
        for hold in holds
        if any(hold.at < epoch for key, epoch in moves if key in (None, hold.key))
    ]
    assert sorted(map(id, world.void)) == sorted(map(id, gone))
    assert {id(hold) for hold in world.holds.outstanding()} == {id(hold) for hold in holds} - {
        id(hold) for hold in gone
    }
