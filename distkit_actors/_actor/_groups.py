"""Exceptions without the groups that nurseries put around them."""

from __future__ import annotations

from typing import cast

import trio


def sole(error: BaseException) -> BaseException | None:
    """Take groups off a single exception, and cancellations out of them; None if that is all."""
    if not isinstance(error, BaseExceptionGroup):
        return None if isinstance(error, trio.Cancelled) else error
    group = cast("BaseExceptionGroup[BaseException]", error)
    _, rest = group.split(trio.Cancelled)
    if rest is None:
        return None
    return sole(rest.exceptions[0]) if len(rest.exceptions) == 1 else rest
