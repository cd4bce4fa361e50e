"""Something that many want done, and that one of them does for all."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

import trio

from ..._errors import StoreError
from ._connection import ErrorReplyError

_Error: TypeAlias = StoreError | ErrorReplyError


class _Attempt:
    """Something that one does, for those who wait for it."""

    def __init__(self) -> None:
        self.over = trio.Event()
        self.succeeded = False
        self.error: _Error | None = None  # else it was cancelled, if it has not succeeded


class Once:
    """Something that many want done, and that one of them does for all."""

    def __init__(self) -> None:
        self.times = 0  # that it was done
        self._attempt: _Attempt | None = None

    async def do(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do it, or wait for one who does it. A checkpoint if ``work`` is one.

        Raises what ``work`` raises, an error of its own for each who waits. When cancelled, another
        one of those who wait does it.
        """
        while (attempt := self._attempt) is not None:
            await attempt.over.wait()
            if attempt.succeeded:
                return
            if attempt.error is not None:
                raise _copy(attempt.error) from attempt.error.__cause__
        self._attempt = attempt = _Attempt()
        try:
            await work()
            attempt.succeeded = True
            self.times += 1
        except (StoreError, ErrorReplyError) as error:
            attempt.error = error
            raise
        finally:
            self._attempt = None
            attempt.over.set()


def _copy(error: _Error) -> _Error:
    if isinstance(error, ErrorReplyError):
        return ErrorReplyError(error.code, error.text)
    return type(error)(*error.args)
