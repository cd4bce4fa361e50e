"""One request after the other to the store, each until it has an answer.

Here is what goes on *between* actor and store: connections that are lost and made again,
answers that do not come, refusals. What is asked, and what an answer means, others know.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import trio

from .._errors import StoreError, StoreUnavailableError
from .._instance._pacing import Pacing
from .._instance._session import Phase, Session
from .._instance._session_state import Update
from .._protocol._messages import Applied, Reply, Request
from .._stores._contract import Link, StoreAwayError, StoreSilentError
from ._availability import Availability
from ._dispatch import Dispatch

_NEVER: Final = float("inf")
#: How long an answer may take at the most, in times of the link's patience.
_LENIENCE: Final = 1.25


#: How often a start asks before it gives up, each time with twice the patience.
_STARTS: Final = 3


class RequestLoop:
    """What one counter and its store have to say to each other."""

    def __init__(
        self,
        session: Session,
        dispatch: Dispatch,
        availability: Availability,
        pacing: Pacing,
        *,
        settle: Callable[[Update, float], None],
        refused: Callable[[], None],
        recovered: Callable[[], None],
    ) -> None:
        self.sent_at: float | None = None  # when what has no answer yet was asked first
        self.heard_at: float | None = None  # when what was the last sign of life was asked
        self.look_due = False  # at how the store is set up
        self.trip = 0.0  # seconds that the last answer took
        self.overdue = 0.0  # seconds after which an answer is known to be late; 0: nobody knows
        self.connected = False
        self.connections = 0
        self.batches = 0
        self.availability = availability
        self._pacing = pacing
        self._session = session
        self._dispatch = dispatch
        self._settle = settle
        self._on_refusal = refused
        self._on_recovery = recovered
        self._begun: Request | None = None  # what `begin` has sent
        self._patience = trio.CancelScope()  # ends when an answer is overdue

    async def register(self, link: Link) -> None:
        """Take the id; any trouble fails the start, but a store that is merely slow."""
        await self._connect_to_start(link)
        self.overdue = _LENIENCE * link.patience if link.patience < _NEVER else 0.0
        self.connections = 1
        self.connected = True
        patience = link.patience
        while (request := self._session.request()) is not None:
            reply, patience = await self._ask_to_start(link, request, patience)
            self._session.receive(reply)
        self.heard_at = trio.current_time()

    async def _connect_to_start(self, link: Link) -> None:  # noqa: ASYNC910 - internal: connecting is one
        for tries in range(1, _STARTS + 1):  # noqa: ASYNC913 - connecting is one
            try:
                await link.connect()  # which gets more patient by itself
            except StoreSilentError:
                if tries == _STARTS:
                    raise
            else:
                break

    async def _ask_to_start(
        self, link: Link, request: Request, patience: float
    ) -> tuple[Reply, float]:
        """Ask once more, with more patience, while a store that can be reached does not answer.

        Returns the answer, and the patience that was needed.
        """
        for _ in range(_STARTS):  # noqa: ASYNC913 - asking is one
            with trio.move_on_after(patience):
                return await link.exchange_untimed(request), patience
            self._pacing.unanswered()
            patience *= 2
            await self._connect_to_start(link)
        raise StoreUnavailableError(
            f"the store was reached, but did not answer, not even within {patience / 2:g} seconds"
        )

    # ------------------------------------------------------------------ patience

    async def with_response_deadline(
        self, work: Callable[[Link], Awaitable[None]], link: Link
    ) -> bool:
        """Talk to the store as long as it answers in time; False if it has not."""
        with trio.CancelScope() as self._patience:
            await work(link)
        if self._patience.cancelled_caught and self.sent_at is not None:
            self.connected = False
            waited = trio.current_time() - self.sent_at
            self._pacing.unanswered()
            self._session.piece = self._pacing.piece
            self.availability.away(
                StoreUnavailableError(f"no answer from the store for {waited:.1f} seconds")
            )
            await self.availability.pause()
        return not self._patience.cancelled_caught

    async def _expect_answer(self, link: Link, now: float) -> None:  # noqa: ASYNC910 - internal: asking is the checkpoint
        """See to it that what is asked now is given up when the link's patience is over.

        Deadlines cost more than a batch, so one serves all that is asked within a while.
        """
        if now >= self._patience.deadline:
            await trio.sleep_forever()  # it is over already, so nothing must be asked
        self._plan_patience(link, now)

    def _plan_patience(self, link: Link, now: float) -> None:
        patience = self._pacing.patience(link.patience)
        deadline, least = self._patience.deadline, now + patience
        if least < _NEVER and not least <= deadline < _NEVER:
            self._patience.deadline = now + _LENIENCE * patience

    # -------------------------------------------------------------------- asking

    def begin(self, link: Link) -> None:
        """Send of the outstanding request what goes without waiting; `complete` follows."""
        self._begun = self._session.request()
        if self._begun is not None:
            link.begin(self._begun)

    async def complete(self, link: Link, now: float) -> None:  # noqa: ASYNC910 - internal: callers make the checkpoint
        """Exchange requests and answers until the outstanding batch, or query, has ended."""
        session = self._session
        begun, self._begun = self._begun, None
        while (request := begun or session.request() or self._dispatch.query_request()) is not None:
            if not (link.connected or await self.connect(link)):
                return  # noqa: ASYNC910 - connecting failed
            if begun is None:
                await self._expect_answer(link, now)
            else:
                self._plan_patience(link, now)
                begun = None
            if self.sent_at is None:
                self.sent_at = now
            try:
                reply = await link.exchange_untimed(request)
            except StoreUnavailableError as error:
                away = isinstance(error, StoreAwayError)  # and not executed
                if away:
                    self.availability.away(error)
                else:
                    self.availability.lost(error)
                    session.lost()
                self.connected = away and self.connected and link.connected
                await self._wait_out()
                if session.idle:
                    break  # a query ends its turn, as a sign of life may be due (P41, turns)
                now = trio.current_time()
            except StoreError as error:
                self.connected = self.connected and link.connected
                self._refused(error)
                return  # noqa: ASYNC910 - asking was one
            except BaseException:
                session.lost()
                raise
            else:
                now = trio.current_time()
                self._answered(reply, now)
        self.sent_at = None

    def _answered(self, reply: Reply, now: float) -> None:
        first_sent_at, self.sent_at = self.sent_at, None
        if first_sent_at is not None:
            self.trip = now - first_sent_at
            self._pacing.answered(self.trip)
            self._session.piece = self._pacing.piece
        if isinstance(reply, Applied):
            # A repeat may have been answered from the record (P16), and is then no sign of life
            # itself. Other answers tell of none.
            self.heard_at = first_sent_at
        self.batches += 1
        if not self.connected:
            self.connected = True
            self.connections += 1
        if self.availability.over():
            self._on_recovery()
        if self._session.idle:
            self._dispatch.answered(reply)
        else:
            self._settle(self._session.receive(reply), now)

    def _refused(self, error: StoreError) -> None:
        """The store refuses what was sent: fail what can be failed, keep what is in doubt."""
        self.availability.refused(error)
        self._on_refusal()
        if self._session.phase is Phase.LIVE and not self._session.in_doubt:
            self.sent_at = None
            self._session.withdraw()
            self._dispatch.refused(error)
        else:
            self._dispatch.fail_waiting(error)

    async def inspect(self, link: Link) -> None:  # noqa: ASYNC910 - internal: callers make the checkpoint
        """Look at how the store is set up, between two requests."""
        self.look_due = False
        if not link.connected:
            return  # noqa: ASYNC910 - asking was one
        self._patience.deadline = _NEVER
        try:
            warnings = await link.inspect()
        except StoreUnavailableError as error:
            if not isinstance(error, StoreAwayError):
                self.availability.lost(error)
                self._session.lost()
                self.connected = False
        except StoreError:
            pass  # it does not tell us
        else:
            self.availability.found(warnings)

    async def connect(self, link: Link) -> bool:
        """Make sure that there is a connection, however long it takes."""
        self._patience.deadline = _NEVER
        if self._begun is not None:  # on a connection that is lost
            self._begun = None
            self._session.lost()
        longest = self._pacing.longest_patience(link.patience)
        while True:  # noqa: ASYNC913 - connecting is one
            try:
                with trio.move_on_after(longest) as waiting:
                    await link.connect()
                if waiting.cancelled_caught:
                    raise StoreUnavailableError(f"no answer from the store for {longest:g} seconds")  # noqa: TRY301 - as the link does
            except StoreUnavailableError as error:
                self.connected = False
                self.availability.away(error)
                await self._wait_out()
            except StoreError as error:
                self.connected = False
                self.availability.refused(error)
                self._on_refusal()
                self._dispatch.fail_waiting(error)
                return False  # noqa: ASYNC910 - internal: callers make the checkpoint
            else:
                return True

    async def _wait_out(self) -> None:
        self._patience.deadline = _NEVER
        await self.availability.pause()
