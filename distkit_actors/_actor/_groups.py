"""Exceptions without the groups that nurseries put around them, and without what is inside."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar, cast

import trio

from .._errors import DistkitError

_T = TypeVar("_T")


def sole(error: BaseException) -> BaseException | None:
    """Take groups off a single exception, and cancellations out of them; None if that is all."""
    if not isinstance(error, BaseExceptionGroup):
        return None if isinstance(error, trio.Cancelled) else error
    group = cast("BaseExceptionGroup[BaseException]", error)
    _, rest = group.split(trio.Cancelled)
    if rest is None:
        return None
    return sole(rest.exceptions[0]) if len(rest.exceptions) == 1 else rest


def let_interrupt_out(raised: BaseException | None, *others: BaseException | None) -> None:
    """Raise an interrupt that is among ``others``, if what was ``raised`` is a mere error."""
    for other in others:
        interrupt = other and sole(other)
        if isinstance(raised, Exception) and interrupt and not isinstance(interrupt, Exception):
            raise interrupt from raised


def bare(error: DistkitError) -> DistkitError:
    """Take off the way that an error has come through this package, and what has caused it.

    Then it is printed as one block, which begins in the user's own code. Its message says what the
    cause was. If it does not, as with a store of somebody else's, a note says it.
    """
    if error.__cause__ is not None and not _is_told(error.__cause__, str(error)):
        error.add_note(f"because of {error.__cause__!r}")
    error.__cause__ = None
    return error.with_traceback(None)


def _is_told(error: BaseException, message: str) -> bool:
    """Whether a message has the words of an error, or of one that has led to it."""
    if str(error) in message:
        return True
    inner = [error.__cause__] if error.__cause__ else []
    if isinstance(error, BaseExceptionGroup):
        inner += cast("BaseExceptionGroup[BaseException]", error).exceptions
    return any(_is_told(each, message) for each in inner)


async def all_of(works: Sequence[Callable[[], Awaitable[_T]]]) -> list[_T]:  # noqa: ASYNC910 - internal: each is a checkpoint
    """Do all of ``works`` at the same time, each to its end, and return what they return.

    Where some fail, the error of the first of them is raised, and those of the others are in its
    notes. A cancellation, or an interrupt by the user, comes out as it is, not in a group.
    """
    if len(works) == 1:
        return [await works[0]()]
    results: dict[int, _T] = {}
    errors: dict[int, Exception] = {}

    async def run(number: int) -> None:  # noqa: ASYNC910 - only the nursery waits for it
        try:
            results[number] = await works[number]()
        except Exception as error:  # noqa: BLE001 - raised below
            errors[number] = error

    try:
        async with trio.open_nursery() as nursery:
            for number in range(len(works)):
                nursery.start_soon(run, number)
    except BaseExceptionGroup as group:
        raise (sole(group) or one_of(group)) from None
    if errors:
        raise first_of([errors[number] for number in sorted(errors)])
    return [results[number] for number in range(len(works))]  # noqa: ASYNC910 - as above


def one_of(error: BaseException) -> BaseException:
    """Return an exception that is in a group, perhaps deep inside."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    return one_of(cast("BaseExceptionGroup[BaseException]", error).exceptions[0])


def first_of(errors: Sequence[Exception]) -> Exception:
    """Return the first of some errors, with what the others say in its notes, each once."""
    first, *others = errors
    said = {str(first)}
    said.update(getattr(first, "__notes__", ()))
    for other in others:
        if str(other) not in said:
            said.add(str(other))
            first.add_note(f"and {type(other).__name__}: {other}")
        for note in getattr(other, "__notes__", ()):
            if note not in said:
                said.add(note)
                first.add_note(note)
    return first
