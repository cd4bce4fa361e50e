"""How much the operations of the random histories count, and on what condition.

Names of keys whose counts are negative begin with a minus sign.
"""

from distkit_actors import Eq, Gt, Lt
from distkit_actors._protocol._conditions import Condition
from tests.faults.record import DIGITS, Operation


def count_of(operation: Operation) -> int:
    """Return what it adds."""
    return 0 if operation.digit is None else unsigned(operation.key, 4**operation.digit)


def in_memory(operation: Operation) -> bool:
    """Whether a lax counter does it in memory."""
    if operation.effect == "hold":
        return limit_of(operation) is None
    return operation.effect in {"inc", "inc_all", "set_on_instance"}


def condition_of(operation: Operation) -> Condition:
    """Return a condition that holds nearly always, or one that needs an empty key."""
    count = count_of(operation)
    if operation.digit in range(2, DIGITS, 3):
        return Eq(0)
    return Lt(count) if count > 0 else Gt(count)


def limit_of(operation: Operation) -> int | None:
    """Return a limit with room for all that was counted before, or for nothing else, or none."""
    assert operation.digit is not None
    room = max(0, count_of(operation))
    return (None, 2 * room, room)[operation.digit % 3]


def unsigned(key: str, count: int) -> int:
    """Take the sign of a key off a count, or put it on."""
    return -count if key.startswith("-") else count
