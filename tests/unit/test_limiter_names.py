"""The names of a limiter's own keys."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distkit_actors._limiter._names import FENCE, TICKETS, WAITING, companion, has_tickets
from distkit_actors._protocol._partitions import part_of
from distkit_actors._protocol._values import checked_name


def test_names_say_what_they_are_for() -> None:
    assert companion("jobs", TICKETS, 1) == "limiter:tickets:jobs"
    assert companion("jobs", WAITING, 1) == "limiter:waiting:jobs"


@given(st.text(min_size=1, max_size=255), st.integers(1, 256))
def test_all_are_keys_in_the_part_of_the_limit(key: str, partitions: int) -> None:
    if any("\ud800" <= character <= "\udfff" for character in key):
        return
    names = {companion(key, role, partitions) for role in (TICKETS, WAITING, FENCE)}
    assert len(names) == 3
    for name in names:
        assert checked_name(name) == name
        assert part_of(name, partitions) == part_of(key, partitions)
        assert has_tickets(name) == (name == companion(key, TICKETS, partitions))


@pytest.mark.parametrize("length", [237, 238, 239, 254, 255])
def test_long_keys_have_names_of_their_own(length: int) -> None:
    one, other = "x" * length, "x" * (length - 1) + "y"
    assert companion(one, TICKETS, 1) != companion(other, TICKETS, 1)


@pytest.mark.parametrize(
    "key",
    ["jobs", "tickets:jobs", "limiter:tickets", "limiter:ticketsx:jobs", "my limiter:tickets:x"],
)
def test_keys_of_others_are_not_taken_for_those_with_tickets(key: str) -> None:
    assert not has_tickets(key)
