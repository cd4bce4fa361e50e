"""What a key, a count and a value of a counter may be."""

from __future__ import annotations

from typing import Final, NamedTuple

from .._errors import CounterOverflowError, InvalidKeyError

INT64_MIN: Final = -(2**63)
INT64_MAX: Final = 2**63 - 1

#: Longest key or prefix, in characters.
MAX_NAME: Final = 255


class CounterValue(NamedTuple):
    """What an operation on a key returns."""

    cumulative: int
    """Sum over the slices of all live instances."""
    instance_count: int
    """This instance's own slice."""


def fits(value: int) -> bool:
    """Tell whether ``value`` is a signed 64-bit integer."""
    return INT64_MIN <= value <= INT64_MAX


def checked_name(name: object, what: str = "key") -> str:
    """Return ``name`` if it may name a counter (or a prefix), else raise `InvalidKeyError`."""
    if not isinstance(name, str):
        raise InvalidKeyError(f"a {what} must be a str, not {type(name).__name__}")
    if not name:
        raise InvalidKeyError(f"a {what} must not be empty")
    if len(name) > MAX_NAME:
        raise InvalidKeyError(f"a {what} has at most {MAX_NAME} characters, this has {len(name)}")
    if ":" in name:
        raise InvalidKeyError(f"a {what} must not contain ':', as {name!r} does")
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise InvalidKeyError(f"a {what} must be encodable as UTF-8: {error.reason}") from None
    return name


def checked_count(count: object) -> int:
    """Return ``count`` if it is an int64 (a bool is not), else `TypeError` or overflow error."""
    if not isinstance(count, int) or isinstance(count, bool):
        raise TypeError(f"a count must be an int, not {type(count).__name__}")
    if not fits(count):
        raise CounterOverflowError(f"a count must fit into 64 bits, which {count} does not")
    return int(count)
