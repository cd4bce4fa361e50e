"""What the server has said, from the exception that redis-py has made of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from redis.exceptions import (
    AskError,
    AuthenticationError,
    BusyLoadingError,
    ClusterCrossSlotError,
    ClusterDownError,
    ConnectionError,  # noqa: A004 - redis-py's
    MasterDownError,
    MovedError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    TryAgainError,
)

from .._connection import ErrorReplyError

#: The codes that redis-py turns into classes, and takes off the text.
_CODES: Final[Mapping[type[Exception], str]] = {
    AskError: "ASK",
    AuthenticationError: "NOAUTH",
    BusyLoadingError: "LOADING",
    ClusterCrossSlotError: "CROSSSLOT",
    ClusterDownError: "CLUSTERDOWN",
    MasterDownError: "MASTERDOWN",
    MovedError: "MOVED",
    NoPermissionError: "NOPERM",
    NoScriptError: "NOSCRIPT",
    OutOfMemoryError: "OOM",
    ReadOnlyError: "READONLY",
    TryAgainError: "TRYAGAIN",
}


def is_reply(error: ConnectionError) -> bool:
    """Whether the server has said it, though redis-py files it under connection errors."""
    return (
        isinstance(error, (AuthenticationError, BusyLoadingError))
        or str(error) == "max number of clients reached"
    )


def error_reply(error: Exception) -> ErrorReplyError:
    """Return the error line of the server, with its code."""
    code = getattr(error, "status_code", None)  # which not every version keeps
    if isinstance(code, str):
        return ErrorReplyError.read(f"{code} {error}")
    for kind, code in _CODES.items():
        if isinstance(error, kind):
            return ErrorReplyError(code, str(error))
    return ErrorReplyError.read(str(error))
