"""Questions to a store, one after the other, each until it has an answer."""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from threading import get_ident
from typing import Final

import trio

from .._actor._availability import Availability
from .._actor._life import Course, Event
from .._actor._log import Log
from .._actor._outcomes import copy_of
from .._errors import CounterClosedError, StoreError, StoreUnavailableError
from .._protocol._messages import Query, QueryKind, QueryPage, Reply, Request, Watch
from .._stores._contract import Link, NotConnectedError, StoreAwayError, StoreSilentError
from ._looking import Observation

_NEVER: Final = float("inf")
#: The first and the longest pause before a store that is away is tried again, in seconds.
_FIRST_PAUSE: Final = 0.02
_LONGEST_PAUSE: Final = 2.0
#: How often a start tries a store that is there, but does not answer or ends the connection.
_STARTS: Final = 3
#: Of a store that answers late, so many times the usual patience is had, at most.
_MOST_PATIENCE: Final = 5
#: An answer is quick that takes no more than this part of the usual patience.
_QUICK: Final = 0.5
#: Seconds after which the first part is asked again, while another one is.
_LOOK_AGAIN: Final = 2.0


class _Question:
    """What somebody asks."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.given_up = False
        self.not_before = float("-inf")  # when it may be carried
        self.put_off = 0  # how often it was, as the store takes no writes
        self.answered = trio.Event()
        self.reply: Reply | None = None
        self.error: Exception | None = None

    def is_wanted(self) -> bool:
        """Whether somebody waits for the answer."""
        return not self.given_up

    def answer(self, reply: Reply | None, error: Exception | None = None) -> None:
        """Say what has become of it."""
        self.reply, self.error = reply, error
        self.answered.set()


class Inquiry:
    """The one task that talks to the store, and those who wait for it.

    So no caller's cancellation touches the connection.

    ``first`` asks the first part of the namespace, if this asks another one.
    """

    def __init__(self, log: Log, link: Link, first: Inquiry | None = None) -> None:
        self._link = link
        self._first = first
        self._course = Course()  # as an actor's, but for an id
        self._availability = Availability(
            log, _LONGEST_PAUSE, self._course, lambda: (0, len(self._waiting))
        )
        self._observation = Observation()
        self._waiting: deque[_Question] = deque()
        self._carried: _Question | None = None  # what the store is asked now
        self._work = trio.Event()
        self._unanswered = 0  # requests that had no answer in time, since the last quick answer
        self._closed = False
        self._thread = get_ident()
        # Over how many parts the namespace should be spread; 0: any number.
        self.partitions: int = 0 if first is None else first.partitions
        self._outdated: StoreError | None = None
        self._looked_at = float("-inf")  # by another part, see `_look_soon`
        self._look: _Question | None = None

    @property
    def outdated(self) -> StoreError | None:
        """What is raised since the number of parts has changed; None if it has not."""
        return self._outdated if self._first is None else self._first.outdated

    async def start(self) -> int:  # noqa: ASYNC910 - internal: connecting is a checkpoint
        """Connect, and see that we may ask; any trouble is raised.

        Returns over how many parts the namespace is spread; 0 if nobody is there who says so.
        """
        self._course.happens(Event.BEGUN)
        page = await self._first_look()
        self._course.happens(Event.REGISTERED)
        assert isinstance(page, QueryPage)
        return page.partitions

    async def _first_look(self) -> Reply:  # noqa: ASYNC910 - internal: connecting is a checkpoint
        for tries in range(1, _STARTS + 1):  # noqa: ASYNC913 - connecting is one
            try:
                await self._link.connect()  # which gets more patient by itself
            except StoreSilentError:
                if tries == _STARTS:
                    raise
                continue
            try:
                return await self.exchange(Query("", QueryKind.VALUES))
            except StoreUnavailableError as error:
                # Others may have made the connection, and it may have been closed long ago without
                # anybody noticing: that says nothing of the store. Nor does it if we are told to
                # ask another server, and connecting to that fails once.
                elsewhere = isinstance(error, NotConnectedError)
                if tries == _STARTS or (isinstance(error, StoreAwayError) and not elsewhere):
                    raise
        raise AssertionError  # the last try has returned or raised

    async def ask(self, request: Request) -> Reply:
        """Return the answer to ``request``, however long it takes. A checkpoint.

        Cancelled before it was sent, it is not sent.

        Raises:
            StoreError: The store refuses.
            CounterClosedError: Nobody asks any more.
            RuntimeError: Called in another thread, or outside trio.
        """
        self.check_task()
        await trio.lowlevel.checkpoint_if_cancelled()
        self.check_open()
        if self._first is not None:
            self._first._look_soon()
            if self._first.outdated is not None:
                raise copy_of(self._first.outdated)
        question = _Question(request)
        self._waiting.append(question)
        self._work.set()
        try:
            await question.answered.wait()
        finally:
            question.given_up = True
            if not question.answered.is_set():
                with suppress(ValueError):  # it is being carried
                    self._waiting.remove(question)
        if question.error is not None:
            raise question.error
        assert question.reply is not None
        if self._first is not None and self._is_odd(question.reply):
            # All meet in the first one, which knows (P44, parts).
            await self._first.ask(Query("", QueryKind.VALUES))
        return question.reply

    def _is_odd(self, reply: Reply) -> bool:
        """Whether this part may be one no longer, or only the dead have left something here."""
        return isinstance(reply, QueryPage) and reply.partitions != self.partitions

    def _look_soon(self) -> None:
        """Ask over how many parts the namespace is spread, though nobody waits for the answer.

        The dead may have left another number in the other parts.
        """
        now = trio.current_time()
        if now >= self._looked_at + _LOOK_AGAIN and (
            self._look is None or self._look.answered.is_set()
        ):
            self._looked_at, self._look = now, _Question(Query("", QueryKind.VALUES))
            self._waiting.append(self._look)
            self._work.set()

    def check_task(self) -> None:
        """Raise RuntimeError where no task of its trio thread runs."""
        if get_ident() != self._thread or not trio.lowlevel.in_trio_task():
            raise RuntimeError(
                "called outside the fleet's own trio thread: from another thread use "
                "trio.from_thread.run"
            )

    def check_open(self) -> None:
        """Raise CounterClosedError if nobody asks any more."""
        if self._closed:
            raise CounterClosedError("the block of this fleet was left")

    async def run(self) -> None:  # noqa: ASYNC910 - internal: it ends by being cancelled
        """Carry questions to the store."""
        while True:  # noqa: ASYNC913 - internal: waiting, or asking, is one
            while (question := self._next()) is not None:  # noqa: ASYNC913
                self._carried = question
                await self._carry(question)
                self._carried = None
            self._work = trio.Event()
            with trio.move_on_at(min((q.not_before for q in self._waiting), default=_NEVER)):
                await self._work.wait()

    def _next(self) -> _Question | None:
        """Take the first question out that may be carried now."""
        now = trio.current_time()
        question = next((q for q in self._waiting if q.not_before <= now), None)
        if question is not None:
            self._waiting.remove(question)
        return question

    async def _carry(self, question: _Question) -> None:
        await trio.lowlevel.checkpoint()
        begun = trio.current_time()
        while question.is_wanted():  # noqa: ASYNC913 - connecting or asking is one
            try:
                await self._link.connect()
                self._observation.waited(trio.current_time() - begun)
                if not question.is_wanted():  # any more
                    return
                question.answer(await self.exchange(question.request))
            except StoreUnavailableError as error:
                if not isinstance(error, StoreAwayError):
                    self._availability.lost(error)
                elif isinstance(question.request, Query):
                    self._availability.away(error)
                else:
                    self._put_off(question, error)
                    return
                if self._availability.since is not None:  # else it may be an idle connection
                    self._observation.interrupted()
                await self._availability.pause()
            except StoreError as error:
                request = question.request
                # One who only looks may not do the others. Perhaps it may not ask everything: what
                # is refused again is no news.
                if isinstance(request, Query) and self._observation.refused(
                    request.kind, trio.current_time()
                ):
                    self._availability.refused(error)
                question.answer(None, error)
                return
            else:
                self._availability.over()
                return

    def _put_off(self, question: _Question, error: StoreAwayError) -> None:
        """Let others go first: a store that takes no writes now may still answer what reads."""
        if isinstance(question.request, Watch):
            question.answer(None, error)  # who watches reads again and again
            return
        if not question.put_off:
            self._availability.away(error)  # which is logged once, whatever is read meanwhile
        pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** min(question.put_off, 20))
        question.put_off += 1
        question.not_before = trio.current_time() + pause
        self._waiting.append(question)

    async def exchange(self, request: Request) -> Reply:  # noqa: ASYNC910 - internal: asking is one
        """Ask once, for one who is alone with the link."""
        asked = trio.current_time()
        if isinstance(request, Query):
            request = request._replace(observed=self._observation.reached(asked))
        reply = await self._answer_to(request)
        if trio.current_time() - asked <= _QUICK * self._link.patience:
            self._unanswered = 0
        if isinstance(reply, QueryPage) and isinstance(request, Query):
            self._observation.answered(request.kind, asked, trio.current_time(), reply.at)
            follows = self._first is None and self.partitions
            if follows and reply.partitions not in (0, self.partitions):
                self._outdated = StoreError(
                    f"the prefix was spread over {self.partitions} parts and is over "
                    f"{reply.partitions} now: open another fleet"
                )
                raise copy_of(self._outdated)
        return reply

    async def _answer_to(self, request: Request) -> Reply:  # noqa: ASYNC910 - internal: asking is one
        """Return the answer to a request, more patiently each time that there is none."""
        link = self._link
        patience = link.patience * min(2.0**self._unanswered, _MOST_PATIENCE)
        with trio.move_on_after(patience):
            await link.send(request)
            return await link.receive(request)
        link.unanswered(patience)
        self._unanswered = min(self._unanswered + 1, _MOST_PATIENCE)
        raise StoreUnavailableError(f"no answer from the store for {patience:g} seconds")

    def close(self) -> None:
        """Answer nobody any more."""
        self._closed = True
        carried = () if self._carried is None else (self._carried,)
        for question in (*carried, *self._waiting):
            question.answer(None, CounterClosedError("the block of this fleet was left"))
        self._waiting.clear()
