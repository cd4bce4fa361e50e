"""The names of a limiter's own keys, beside the one that it is made for."""

from __future__ import annotations

import hashlib
import itertools
import re
from typing import Final

from .._protocol._partitions import part_of
from .._protocol._values import MAX_NAME

#: What a limiter's own keys are for, as the second word of their names.
TICKETS: Final = "tickets"
WAITING: Final = "waiting"
FENCE: Final = "fence"
_WITH_TICKETS: Final = re.compile(rf"limiter:{TICKETS}\d*:")


def companion(key: str, role: str, partitions: int) -> str:
    """Return the name of a key beside ``key``, which is in the same part of the namespace.

    ``limiter:<role>:<key>``, or with a number behind the role if that is in another part. A key
    that is too long for that is replaced with a hash of it.
    """
    for number in itertools.count():
        name = f"limiter:{role}{number or ''}:{key}"
        if len(name) > MAX_NAME:
            name = f"limiter:{role}{number or ''}:{hashlib.sha256(key.encode()).hexdigest()}"
        if part_of(name, partitions) == part_of(key, partitions):
            return name
    raise AssertionError("numbers do not end")


def has_tickets(key: str) -> bool:
    """Tell whether ``key`` has a line's tickets, which are times: their sum means nothing."""
    return _WITH_TICKETS.match(key) is not None
