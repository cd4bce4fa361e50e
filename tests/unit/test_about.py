"""What an instance says of itself, as the text that stores keep."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distkit_actors._protocol._about import About, from_text, instance_infos, to_text
from distkit_actors._protocol._messages import QueryPage

texts = st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=255)


@given(st.builds(About, texts, texts, st.none() | st.integers(0), texts))
def test_it_is_read_as_it_was_written(about: About) -> None:
    assert from_text(to_text(about)) == about


def test_it_is_short() -> None:
    """Up to 65 bytes cost a Redis server nothing: so long is the padding that they stand in."""
    about = About("checkout", "web-7c9f8d6b5-x2x7q", 4_194_304, "1.10.12")
    assert len(to_text(about).encode()) <= 65
    longest = About("ü" * 255, "ü" * 300, 2**31, "1.0")
    assert len(to_text(longest).encode()) < 1100


def test_a_host_name_that_is_no_unicode_can_be_stored() -> None:
    host = from_text(to_text(About(host="h\udc80ost" + "x" * 300))).host
    assert host is not None
    assert host.startswith("h?ost")
    assert len(host) == 255
    assert host.encode()


@pytest.mark.parametrize(
    "text", ["", "." * 65, "{}", "[", "7", "null", "[" * 100_000, '["\\ud800"', "[[],{},true,3]"]
)
def test_what_cannot_be_read_was_not_said(text: str) -> None:
    assert from_text(text) == About()


def test_what_a_later_version_adds_is_left_out() -> None:
    assert from_text('["l","h",1,"9.0","zone",{}]') == About("l", "h", 1, "9.0")
    assert from_text('["l"]') == About("l")


def test_an_instance_in_several_parts_is_told_once() -> None:
    def page(age: int, alive: bool, incarnation: int, text: str) -> QueryPage:
        return QueryPage("", [("a", age * 1_000_000, alive)], 0, [(incarnation, text)])

    old, new = page(500, False, 7_000_000, '["old"]'), page(2, True, 9_000_000, '["new"]')
    other = QueryPage("", [("b", 0, True)], 0, [(1, "")])
    for parts in ([[old], [new], [other]], [[other], [new], [old]]):
        a, b = instance_infos(*parts)
        assert (a.instance_id, a.heartbeat_age, a.alive) == ("a", 500.0, True)
        assert (a.label, a.started_at) == ("new", 9.0)
        assert b.instance_id == "b"
    assert not instance_infos([old], [old])[0].alive
