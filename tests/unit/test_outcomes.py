"""Errors that many callers are given, each one of its own."""

from __future__ import annotations

from distkit_actors import StoreError
from distkit_actors._actor._outcomes import copy_of


class QuotaError(StoreError):
    """An error of a store of somebody else's."""

    def __init__(self, tenant: str, limit: int) -> None:
        super().__init__(f"{tenant} is over {limit}")
        self.limit = limit


def test_a_copy_says_what_the_error_says() -> None:
    error = QuotaError("we", 3)
    error.add_note("sadly")
    error.__cause__ = KeyError("why")
    copy = copy_of(error)
    assert isinstance(copy, QuotaError)
    assert copy is not error
    assert (str(copy), copy.limit, copy.__cause__) == ("we is over 3", 3, error.__cause__)
    copy.add_note("of mine")
    assert (error.__notes__, copy.__notes__) == (["sadly"], ["sadly", "of mine"])
    assert copy.__traceback__ is None


def test_what_is_none_of_ours_is_not_copied() -> None:
    error = KeyError("k")
    assert copy_of(error) is error
