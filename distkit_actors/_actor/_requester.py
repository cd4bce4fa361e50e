"""One request to the store, and what came of it: an answer, no answer, or a refusal.

Here are the dealings of an actor with its connection: it is made again, and an answer may take only
so long. The batch loop decides what is asked, and what an answer means.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, NamedTuple, TypeAlias

import trio

from .._errors import StoreError, StoreUnavailableError
from .._instance._pacing import Pacing
from .._protocol._messages import Applied, Loaded, Mismatch, Query, Reply, Request, Watch
from .._stores._contract import (
    CursorLostError,
    Link,
    NotConnectedError,
    StoreAwayError,
    StoreSilentError,
)
from ._availability import Availability
from ._suspensions import Suspensions

_NEVER: Final = float("inf")
#: How long an answer may take at the most, in times of the link's patience.
_LENIENCE: Final = 1.25
#: Seconds after which the end of patience is noticed too late to say anything about the store.
_HELD_UP: Final = 0.5
#: How often a start asks before it gives up, each time with twice the patience.
_STARTS: Final = 3
#: How many times as long as an answer may take, at most, connecting may take in the end.
_STRETCH: Final = 2


class Lost(NamedTuple):
    """There is no answer; the same request is sent again after a pause."""

    in_doubt: bool  # it may have been executed


class Refused(NamedTuple):
    """The store refuses the request, or the connection; nothing was executed."""

    error: StoreError


def mismatch(partitions: int) -> StoreError:
    """Return the error for a number of parts that differs from the living ones' (P44, parts)."""
    how = "is in one part" if partitions == 1 else f"is spread over {partitions} parts"
    return StoreError(
        f"this prefix {how}, by those who live: give the store partitions={partitions}, as theirs "
        "has. To change the number, stop all of them and wait until none is alive any more"
    )


#: What came of a request.
Outcome: TypeAlias = Reply | Lost | Refused


class Requester:
    """Asks the store for one counter, and notes how it answers."""

    def __init__(self, availability: Availability, pacing: Pacing) -> None:
        self.sent_at: float | None = None  # when the request without an answer was first sent
        self.heard_at: float | None = None  # when the last acknowledged sign of life was sent
        self.answered_at = 0.0  # when the last answer came
        self._asked_at = 0.0  # when it was sent last
        self.trip = 0.0  # seconds that the last answer took, since then
        self.overdue = 0.0  # seconds after which an answer counts as late; 0: not known yet
        self.connected = False
        self.connections = 0
        self.batches = 0
        self._availability = availability
        self._pacing = pacing
        self.suspensions = Suspensions()
        self.patience = trio.CancelScope()  # around all requests; its deadline ends a late answer
        self._start_patience = _NEVER  # that a start needs for an answer
        self._start_tries = 0  # how often a request of the start had no answer

    # --------------------------------------------------------------------- start

    async def start(self, link: Link) -> None:
        """Connect for the first time. Any trouble fails the start, unless the store is slow."""
        await self._connect_to_start(link)
        self.note_patience(link)
        self.connections = 1
        self.connected = True
        self._start_patience, self._start_tries = link.patience, 0

    def note_patience(self, link: Link) -> None:
        """Note after how many seconds an answer is late on this link."""
        self.overdue = _LENIENCE * link.patience

    async def ask_to_start(self, link: Link, request: Request) -> Reply | Lost:
        """Ask once. A store that is reached and does not answer has twice the time next time.

        Others may have made the connection, and it may have been closed long ago without anybody
        noticing. So a connection that is lost says nothing about the store. Nor does it if the
        namespace is at another server now, even if connecting to that fails once.

        Raises `StoreUnavailableError` if the store cannot be reached, or if this was the last try.
        """
        asked_at = trio.current_time()
        try:
            with trio.move_on_after(self._start_patience), suppress(StoreSilentError):
                await link.send(request)
                reply = await link.receive(request)
                self.trip = trio.current_time() - asked_at
                # What is lost behind a page has all pages read anew, so a page is no progress.
                if not (isinstance(reply, Loaded) and reply.cursor):
                    self._start_tries = 0
                if isinstance(reply, Mismatch):
                    raise mismatch(reply.partitions)
                return reply
        except StoreUnavailableError as error:
            elsewhere = isinstance(error, CursorLostError | NotConnectedError)
            if isinstance(error, StoreAwayError) and not elsewhere:
                raise
            self._start_tries += 1
            if self._start_tries == _STARTS:
                raise
            await self._connect_to_start(link)
            return Lost(in_doubt=True)
        link.unanswered(self._start_patience)
        self._start_tries += 1
        if self._start_tries == _STARTS:
            raise StoreUnavailableError(
                "the store was reached, but did not answer, not even within "
                f"{self._start_patience:g} seconds"
            )
        self._pacing.unanswered()
        self._start_patience *= 2
        await self._connect_to_start(link)
        return Lost(in_doubt=True)

    async def _connect_to_start(self, link: Link) -> None:  # noqa: ASYNC910 - internal: connecting is one
        for tries in range(1, _STARTS + 1):  # noqa: ASYNC913 - connecting is one
            try:
                await link.connect()  # the link waits longer each time by itself
            except StoreSilentError:
                if tries == _STARTS:
                    raise
            else:
                break

    # ------------------------------------------------------------------ patience

    async def while_answered(self, work: Callable[[Link], Awaitable[None]], link: Link) -> bool:
        """Do ``work`` while the store answers in time; False if an answer was late.

        To set a deadline costs more than a batch. So one deadline serves all requests of a while:
        without that, a lone operation takes a tenth longer.
        """
        with trio.CancelScope() as self.patience:
            await work(link)
        if self.patience.cancelled_caught and self.sent_at is not None:
            now = trio.current_time()
            link.unanswered(self._pacing.patience(link.patience))
            if now - self.patience.deadline >= _HELD_UP:
                # Something has blocked the event loop. The answer may have come meanwhile.
                self.connected = self.connected and link.connected
                return False  # noqa: ASYNC910 - working was one
            self.connected = False
            waited = now - self.sent_at
            self._pacing.unanswered()
            self._availability.away(
                StoreUnavailableError(f"no answer from the store for {waited:.1f} seconds")
            )
            await self._availability.pause()
        return not self.patience.cancelled_caught

    # -------------------------------------------------------------------- asking

    async def ask(self, link: Link, request: Request, now: float, *, sent: bool) -> Outcome:
        """Send ``request``, if its caller has not, and return what came of it.

        It is cancelled when the patience is over. Whenever it is cancelled, nobody knows whether
        the request was executed.
        """
        if not sent:  # else its caller has noted it
            self.asked(link, now)
        try:
            if not sent:
                await link.send(request)
            reply = await link.receive(request)
        except StoreAwayError as error:
            if not isinstance(error, CursorLostError):  # which says nothing about the store
                self._availability.away(error)
            self.connected = self.connected and link.connected
            return Lost(in_doubt=False)  # noqa: ASYNC910 - asking was one
        except StoreUnavailableError as error:
            if isinstance(error, StoreSilentError):  # another user of the connection has noticed
                self._pacing.unanswered()
            self._availability.lost(error)
            self.connected = False
            return Lost(in_doubt=True)  # noqa: ASYNC910 - asking was one
        except StoreError as error:
            if not isinstance(request, Query | Watch):  # else only its caller is told
                self._availability.refused(error)
            self.connected = self.connected and link.connected
            return Refused(error)  # noqa: ASYNC910 - asking was one
        return self.answered(reply)

    def asked(self, link: Link, now: float) -> None:
        """Note that a request is sent at ``now``, and set the deadline of its answer if need be."""
        patience = self._pacing.patience(link.patience)
        deadline, least, most = self.patience.deadline, now + patience, now + _LENIENCE * patience
        # It may be that of a slow store, which is quick again.
        if least < _NEVER and not least <= deadline <= most:
            self.patience.deadline = most
        self._asked_at = now
        if self.sent_at is None:
            self.sent_at = now

    def answered(self, reply: Reply) -> Reply | Refused:
        """Note that an answer has come; return it, or a refusal if it is one."""
        self.answered_at = trio.current_time()
        sent_at, self.sent_at = self.sent_at, None
        assert sent_at is not None  # it was asked
        self.trip = self.answered_at - self._asked_at
        self._pacing.answered(self.answered_at - sent_at)
        if isinstance(reply, Applied):
            # The time of the first sending is on the safe side: nobody knows which copy of a
            # repeated request was the sign of life. Other kinds of requests are none.
            self.heard_at = sent_at
        elif isinstance(reply, Mismatch):
            refusal = mismatch(reply.partitions)
            self._availability.refused(refusal)
            return Refused(refusal)
        self.batches += 1
        if not self.connected:
            self.connected = True
            self.connections += 1
        return reply

    async def inspect(self, link: Link) -> Lost | None:  # noqa: ASYNC910 - internal: callers make the checkpoint
        """Look at the store's settings, between two requests; `Lost` if the connection was."""
        if not link.connected:
            return None  # noqa: ASYNC910 - asking was one
        self.patience.deadline = _NEVER
        longest = self._pacing.longest_patience(link.patience)
        try:
            # A link that gives up by itself does it sooner.
            with trio.move_on_after(_LENIENCE * longest) as waiting:
                self._availability.found(await link.inspect())
            if waiting.cancelled_caught:
                link.unanswered(longest)
                raise StoreUnavailableError(f"no answer from the store for {longest:g} seconds")  # noqa: TRY301 - as the link does
        except StoreAwayError:
            pass  # the store cannot tell now
        except StoreUnavailableError as error:
            self._availability.lost(error)
            self.connected = False
            return Lost(in_doubt=True)  # noqa: ASYNC910 - asking was one
        except StoreError:
            pass  # the store does not let us look
        return None  # noqa: ASYNC910 - asking was one

    async def connect(self, link: Link) -> Refused | None:
        """Make sure that there is a connection, however long it takes.

        Each try that takes too long gives the next one more time: a link may have to ask several
        servers, and others, before it has one.
        """
        self.patience.deadline = _NEVER
        longest = self._pacing.longest_patience(link.patience)
        most = _STRETCH * longest
        while True:  # noqa: ASYNC913 - connecting is one
            try:
                with trio.move_on_after(longest) as waiting:
                    await link.connect()
                if waiting.cancelled_caught:
                    late = f"no answer from the store for {longest:g} seconds"
                    longest = min(2 * longest, most)
                    raise StoreUnavailableError(late)  # noqa: TRY301 - as the link does
            except StoreUnavailableError as error:
                self.connected = False
                self._availability.away(error)
                await self.pause()
            except StoreError as error:
                self.connected = False
                self._availability.refused(error)
                return Refused(error)  # noqa: ASYNC910 - internal: callers make the checkpoint
            else:
                return None

    async def pause(self) -> None:
        """Wait before the next try."""
        self.patience.deadline = _NEVER
        await self._availability.pause()
