"""An id goes with each request to a script, and the answer repeats it (P46, correlation).

Answers on a connection have no numbers: the first one belongs to the oldest command. Something in
front of the server may say a word of its own and let the server's answer follow. All answers behind
are shifted by one then, and on a shared connection they reach other counters. Each looks alright by
itself. So whoever receives one sees by the id whether it was meant.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import count
from random import SystemRandom
from typing import Final

from ._connection import Answer

#: Ids of processes that meet behind a proxy begin at different places.
_START: Final = SystemRandom().getrandbits(32)

#: Returns an id that no other request of this process has.
new_number: Final[Callable[[], int]] = partial(next, count(_START))


def new_id() -> bytes:
    """Return an id for a request."""
    return b"%x" % new_number()


def reply_of(answer: Answer, request_id: bytes) -> bytes | list[Answer]:
    """Return the reply in the answer to a request with this id: all but the id.

    Raises `ValueError` if it is the answer to something else, or nothing that a script says.
    """
    if isinstance(answer, bytes):  # nearly always
        found, separator, reply = answer.partition(b" ")
        if found == request_id and separator:
            return reply
    elif isinstance(answer, list) and answer and answer[-1] == request_id:
        return answer[:-1]
    raise ValueError("it has not the id of the request")
