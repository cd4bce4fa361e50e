"""Waiting until replicas have a write, so that a failover loses less (``min_replicas``).

``WAIT`` blocks a connection until so many replicas have confirmed all that was written on it. It
narrows the window in which a failover loses what was acknowledged, and does not close it: another
replica than those may be promoted, and what is asked again on another connection, after this one
was lost, is not waited for. So a write stands whatever comes of it, and nothing is refused.
"""

from __future__ import annotations

from math import inf
from typing import Final, Protocol

import trio

from ..._errors import StoreUnavailableError
from ..._protocol._messages import Applied, Apply, Kind, Reply, Request
from .._contract import StoreSilentError
from ._connection import LOST, ErrorReplyError
from ._server_check import Caller

#: How long one wait may take, as a part of the time for an answer. Who comes while one is under way
#: waits for that and for the next one.
_PART: Final = 1 / 4
#: The same after one that was in vain, as the connection is blocked meanwhile.
_PART_WHILE_SHORT: Final = 1 / 40
#: Seconds of an answer's time of which that is a part, at the most. Heartbeats wait meanwhile, too:
#: by a longer wait instances with the usual threshold would be taken for dead.
_LONGEST: Final = 60.0
#: Seconds for which it is said that replicas were missing; counters ask about once a minute.
_REMEMBERED: Final = 90.0
#: A server may say so once, when it is no primary any more.
_STRAYS_OF_A_PROXY: Final = 2


def may_have_changed(request: Request, reply: Reply) -> bool:
    """Return whether a request is a batch that may have changed counts; a read adds 0."""
    if not (isinstance(request, Apply) and isinstance(reply, Applied)):
        return False
    return request.leave or any(
        entry.value or entry.kind is not Kind.ADD for entry in request.entries
    )


def checked_replicas(min_replicas: object) -> int:
    """Return how many replicas must confirm a write. Raises `TypeError` or `ValueError`."""
    if not isinstance(min_replicas, int) or isinstance(min_replicas, bool):
        raise TypeError(f"min_replicas must be an int, not {type(min_replicas).__name__}")
    if not 0 <= min_replicas <= 100:
        raise ValueError(f"min_replicas must be from 0 to 100, not {min_replicas}")
    return min_replicas


class NumberedCaller(Caller, Protocol):
    """A lane, which says on which connection it is."""

    @property
    def number(self) -> int: ...
    async def drop(self) -> None: ...


class Replicas:
    """The waits of all who use one connection: one at a time, each for all who are there by then.

    So a replica that is missing costs many counters no more than one.
    """

    def __init__(self) -> None:
        self._turn = trio.Lock()
        self._asked = 0  # waits that have begun
        self._answered = 0  # the last one that has ended well, or was refused
        self._short = False  # that one was in vain
        self._ask_at = -inf  # not before
        self._strays = 0  # answers in a row of which nobody knows who gave them
        self._warning = ""
        self._missed_at: float | None = None  # when the last wait ended that was in vain

    async def confirm(
        self, lane: NumberedCaller, number: int, wanted: int, patience: float
    ) -> None:
        """Wait until ``wanted`` replicas have what was written, or for a while. A checkpoint.

        Args:
            lane: On the connection on which it was written.
            number: Of that connection. Another one would confirm what was written on it, which is
                nothing.
            wanted: How many.
            patience: Seconds that an answer may take.

        Raises `StoreUnavailableError` if the connection is lost meanwhile: the same request is to
        be sent again, as it may be lost with the primary. When cancelled, nobody knows who has it.
        """
        asked = self._asked
        async with self._turn:
            if lane.number != number:
                raise StoreUnavailableError(LOST)
            if self._answered > asked or trio.current_time() < self._ask_at:
                return  # somebody has asked since we had our answer, or it would be in vain
            self._asked += 1
            number = self._asked
            part = _PART_WHILE_SHORT if self._short else _PART
            milliseconds = max(1, round(1000 * part * min(patience, _LONGEST)))
            try:
                words = b"WAIT", b"%d" % wanted, b"%d" % milliseconds
                found = await lane.call(*words, patience=patience)
            except StoreSilentError:
                # So slow is the way to the store. What is sent again must not wait as long again.
                self._note("the store does not say in time how many replicas have a write")
                self._ask_at = trio.current_time() + _REMEMBERED
                raise
            except ErrorReplyError as error:
                self._note(f"the store does not say how many replicas have a write: {error.text}")
                if error.code is None:
                    # Something in front of the store may say so, and the store's answer come later.
                    await self._strayed(lane)  # noqa: ASYNC120 - it shields itself, briefly
            else:
                if not isinstance(found, int):
                    self._note("the store does not say how many replicas have a write")
                    await self._strayed(lane)  # it belongs to another command (P46, correlation)
                elif found >= wanted:
                    self._strays, self._short = 0, False
                else:
                    self._strays = 0
                    self._note(f"fewer replicas than min_replicas={wanted} confirm writes in time")
            self._answered = number

    async def _strayed(self, lane: NumberedCaller) -> None:
        self._strays += 1
        if self._strays == _STRAYS_OF_A_PROXY:  # that knows no WAIT, and would say so each time
            self._strays, self._ask_at = 0, trio.current_time() + _REMEMBERED
        await lane.drop()

    def _note(self, trouble: str) -> None:
        self._short, self._missed_at = True, trio.current_time()
        self._warning = f"{trouble}; a failover may lose what was written last"

    def warnings(self) -> tuple[str, ...]:
        """Return what was missing of late."""
        if self._missed_at is None or trio.current_time() - self._missed_at > _REMEMBERED:
            return ()
        return (self._warning,)
