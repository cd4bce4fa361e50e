"""What a key, a count and a value of a counter may be."""

from functools import lru_cache
from typing import Final, NamedTuple

from .._errors import CounterOverflowError, InvalidKeyError

INT64_MIN: Final = -(2**63)
INT64_MAX: Final = 2**63 - 1

#: Longest key or prefix, in characters.
MAX_NAME: Final = 255


class CounterValue(NamedTuple):
    """What an operation on a key returns: ``cumulative`` and ``instance_count``, a pair of ints.

    Attributes:
        cumulative: Sum over the slices of all live instances.
        instance_count: This instance's own slice.
    """

    cumulative: int
    """Sum over the slices of all live instances."""
    instance_count: int
    """This instance's own slice."""


class Change(NamedTuple):
    """What a conditional operation returns.

    Attributes:
        previous: The value that the condition was decided on.
        current: The value after.
        applied: Whether the condition held, so that the operation took effect.
    """

    previous: CounterValue
    """The value that the condition was decided on."""
    current: CounterValue
    """The value after; the same as ``previous`` if nothing was changed."""
    applied: bool
    """Whether the condition held, so that the operation took effect."""


class InstanceInfo(NamedTuple):
    """One instance of a namespace, as `InstanceAwareCounter.instances` sees it.

    What it has not said of itself is None, as with one of an older version of this package.

    Attributes:
        instance_id: Its name.
        heartbeat_age: Seconds since its last sign of life, by the store's clock.
        alive: Whether it counts as alive.
        label: What it was given as ``label``.
        host: The name of the machine it runs on.
        pid: The number of the process it runs in.
        version: The version of this package that it runs.
        started_at: When it was registered: Unix time in seconds, by the store's clock.
    """

    instance_id: str
    """Its name, which no other instance of the prefix has at the same time."""
    heartbeat_age: float
    """Seconds since its last sign of life, by the store's clock. Signs are written down at most
    every 64th part of its threshold, so an age up to that says nothing. Of several parts of a
    namespace it is that of the part that has not heard it for longest."""
    alive: bool
    """Whether it counts as alive. The slices of one that does not still count, until they have
    been taken away. Of several parts: whether it does in any."""
    label: str | None = None
    """What it was given as ``label``."""
    host: str | None = None
    """The name of the machine it runs on, as `socket.gethostname` gives it."""
    pid: int | None = None
    """The number of the process it runs in."""
    version: str | None = None
    """The version of this package that it runs."""
    started_at: float | None = None
    """When it was registered: Unix time in seconds, by the store's clock. If that was put back
    before, it may be as late as the latest time that the store had shown. With a `MemoryStore`
    it is the time of the trio run."""


def fits(value: int) -> bool:
    """Tell whether ``value`` is a signed 64-bit integer."""
    return INT64_MIN <= value <= INT64_MAX


def checked_number(value: float, what: str, unit: str = " of seconds") -> float:
    """Return ``value`` if it is a number at all, else raise `TypeError`: it may be text.

    Raises `ValueError` if it is an int that is larger than any float.
    """
    if not _is_number(value):
        raise TypeError(f"{what} must be a number{unit}, not {type(value).__name__}")
    try:
        float(value)
    except OverflowError:
        raise ValueError(f"{what} is too large") from None
    return value


def _is_number(value: object) -> bool:
    if isinstance(value, (int, float)):
        return True
    from numbers import Real  # noqa: PLC0415 - few have another kind of number

    return isinstance(value, Real)


def checked_name(name: object, what: str = "key") -> str:
    """Return ``name`` if it may name a counter (or a prefix), else raise `InvalidKeyError`."""
    if type(name) is str and _is_name(name):
        return name
    if not isinstance(name, str):
        raise InvalidKeyError(f"a {what} must be a str, not {type(name).__name__}")
    if not name:
        raise InvalidKeyError(f"a {what} must not be empty")
    if len(name) > MAX_NAME:
        raise InvalidKeyError(f"a {what} has at most {MAX_NAME} characters, this has {len(name)}")
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise InvalidKeyError(f"a {what} must be encodable as UTF-8: {error.reason}") from None
    return name


# Remembered, because programs use the same few names over and over.
@lru_cache(maxsize=1024)
def _is_name(name: str) -> bool:
    # All but surrogates can be encoded as UTF-8; a name of ASCII has none.
    return 0 < len(name) <= MAX_NAME and name.isascii()


def checked_count(count: object) -> int:
    """Return ``count`` if it is an int64 (a bool is not), else `TypeError` or overflow error."""
    if type(count) is int and INT64_MIN <= count <= INT64_MAX:
        return count
    if not isinstance(count, int) or isinstance(count, bool):
        raise TypeError(f"a count must be an int, not {type(count).__name__}")
    if not fits(count):
        raise CounterOverflowError(f"a count must fit into 64 bits, which {count} does not")
    return int(count)


def checked_id(instance_id: object) -> str:
    """Return ``instance_id`` if it may name an instance, else raise `ValueError`."""
    if not isinstance(instance_id, str) or not instance_id or len(instance_id) > MAX_NAME:
        raise ValueError(f"instance_id must be a str of 1 to {MAX_NAME} characters")
    instance_id.encode()
    return instance_id
