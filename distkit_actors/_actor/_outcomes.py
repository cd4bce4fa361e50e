"""What callers are told: the values after an operation, and why there are none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .._errors import CounterOverflowError, DistkitError, OutcomeUnknownError
from .._protocol._messages import ConditionFailed, Entry, Kind, Previous


def after(entry: Entry, found: Previous | ConditionFailed) -> tuple[int, int]:
    """Return cumulative and own slice after ``entry``, which found these values."""
    cumulative, own = found
    if isinstance(found, ConditionFailed):
        return cumulative, own
    if entry.kind is Kind.ADD:
        return cumulative + entry.value, own + entry.value
    if entry.kind is Kind.MOVE:
        return entry.value, entry.value
    return cumulative - own + entry.value, entry.value


def overflow(keys: Sequence[str] = ()) -> Exception:
    """Return the error for an operation that would leave int64."""
    of = f" of {', '.join(map(repr, keys[:10]))}" if keys else ""
    return CounterOverflowError(
        f"the slice or the cumulative{of} would leave the signed 64-bit range; nothing was changed"
    )


def lost(refused: Mapping[str, int]) -> Exception:
    """Return the error for lax counts that the store has refused (P32, refused counts)."""
    return CounterOverflowError(
        "the store had to refuse counts that would leave the signed 64-bit range; they are lost: "
        f"{', '.join(f'{key}: {count}' for key, count in refused.items())}"
    )


def unknown() -> Exception:
    """Return the error for an operation that may or may not have taken effect.

    P20, doubtful batch.
    """
    return OutcomeUnknownError(
        "the store lost its record of this operation before it could answer, so nobody knows "
        "whether it took effect; it is not repeated: read the value and decide"
    )


def copy_of(error: Exception) -> Exception:
    """Return an error of its own for each caller: a shared one would collect tracebacks.

    A class of somebody else's may have a constructor of its own, which is not called.
    """
    if not isinstance(error, DistkitError):
        return error
    copy = type(error).__new__(type(error), *error.args)
    copy.__dict__.update(vars(error))
    if notes := getattr(error, "__notes__", None):
        copy.__notes__ = list(notes)
    copy.__cause__ = error.__cause__
    return copy
