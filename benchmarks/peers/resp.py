"""How commands are written on a socket."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import hiredis


def pack(*words: str | int) -> bytes:
    """Write a command in Redis' protocol."""
    # hiredis' stub takes it for a function of one word.
    return cast("Callable[[tuple[str | int, ...]], bytes]", hiredis.pack_command)(words)
