"""An answer says which request it belongs to (P46, correlation)."""

from __future__ import annotations

import pytest

from distkit_actors._stores._redis._connection import Answer
from distkit_actors._stores._redis._correlation import new_id, reply_of


@pytest.mark.parametrize(
    ("answer", "reply"),
    [
        (b"7a 5|0|1,1 0", b"5|0|1,1 0"),
        (b"7a ", b""),
        ([b"stale", b"7a"], [b"stale"]),
        ([b"7a"], []),
    ],
)
def test_the_reply_is_all_but_the_id(answer: Answer, reply: Answer) -> None:
    assert reply_of(answer, b"7a") == reply


@pytest.mark.parametrize(
    "answer",
    [
        *(b"", b"7a", b"7b 5", b"7a5 5", b" 7a", b"OK", b"7"),
        *([], [b"stale"], [b"7a", b"stale"], [b"stale", b"7b"], [[b"7a"]]),
        *(None, 1, 0x7A),
    ],
)
def test_whatever_else_comes_is_no_answer(answer: Answer) -> None:
    """It belongs to something else, or something in front of the server has said it."""
    with pytest.raises(ValueError, match="id"):
        reply_of(answer, b"7a")


def test_no_two_requests_have_the_same_id() -> None:
    ids = [new_id() for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert not any(b" " in each for each in ids)
