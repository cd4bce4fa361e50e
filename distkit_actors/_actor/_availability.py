"""Whether an actor's store is away or refuses. This is logged once; tries come with pauses."""

from __future__ import annotations

import random
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Final, Literal

import trio

from .._errors import StoreError, StoreUnavailableError
from ._life import Course, Event
from ._log import Log

#: First pause after a lost connection, in seconds; it doubles from try to try.
_FIRST_PAUSE: Final = 0.02


class Availability:
    """Whether the store answers as it should; if not, since when."""

    def __init__(
        self,
        log: Log,
        longest_pause: float,
        course: Course,
        kept: Callable[[], tuple[int, int]] = lambda: (0, 0),
    ) -> None:
        self.refusal: StoreError | None = None  # the store's last, while it refuses
        self.warnings: tuple[str, ...] = ()  # what is wrong with how the store is set up
        self.outages = 0  # that have begun
        self.since: float | None = None  # when the present outage was noticed, if there is one
        self._log = log
        self._kept = kept  # how many keys have counts to send, and how many operations wait
        self._said: Literal["away", "refused"] | None = None  # what was logged of that outage
        self._wrong_since = 0.0  # when the first of `warnings` was noticed
        self._course = course
        self._longest_pause = longest_pause
        self._away = False  # the store is away, which the course has been told
        self._unheard = False  # it is away, and has not even refused since
        self._attempts = 0  # failed ones since the last answer
        self._pausing = trio.CancelScope()
        self._readers: dict[trio.CancelScope, float] = {}  # {block of `waiting`: its least end}

    def lost(self, error: StoreUnavailableError) -> None:
        """Note that a connection has ended.

        That alone is no outage, as servers end idle connections. The next try comes at once; if it
        fails too, the store is away.
        """
        if self._attempts:
            self.away(error)
        else:
            self._log.reconnecting(error)

    def away(self, error: StoreUnavailableError) -> None:
        """Note that the store cannot be reached, or does not answer."""
        self._tell_readers()
        self._unheard = True
        if not self._away:
            self._away = True
            self._course.happens(Event.LOST)
            if self._begins("away"):
                self._log.away(error)

    def found(self, warnings: tuple[str, ...]) -> None:
        """Take in what a look at the store's settings has found; log each new warning once."""
        for warning in warnings:
            if warning not in self.warnings:
                self._log.misconfigured(warning)
        if warnings and not self.warnings:
            self._wrong_since = trio.current_time()
        if self.warnings and not warnings:
            self._log.configured(trio.current_time() - self._wrong_since)
        self.warnings = warnings

    def refused(self, error: StoreError) -> None:
        """Note that the store refuses."""
        self._tell_readers()
        self._unheard = False
        if self._begins("refused"):
            self._log.refused(error)
        self.refusal = error

    def _begins(self, what: Literal["away", "refused"]) -> bool:
        """Note that an outage begins, or becomes a refusal; False if that has been logged."""
        if self.since is None:
            self.since = trio.current_time()
            self.outages += 1
        elif self._said in (what, "refused"):
            return False
        self._said = what
        return True

    def over(self, *, query: bool = False) -> bool:
        """Note that the store has answered; return whether that has ended a refusal.

        The answer to a query ends none: a store that is full refuses writes and answers queries.
        """
        refuses = query and self._said == "refused"
        had_refused = self.refusal is not None
        if self.since is not None and not refuses:
            duration, self.since = trio.current_time() - self.since, None
            tell = self._log.accepted if self._said == "refused" else self._log.back
            self._said = None
            tell(duration, *self._kept())
        self._unheard = False
        if self._away:
            self._away = False
            self._course.happens(Event.HEARD)
        self._attempts = 0
        if refuses:
            return False
        self.refusal = None
        return had_refused

    @contextmanager
    def waiting(self, least: float, most: float) -> Generator[None]:
        """Cancel the block after ``most`` seconds, or when the store is known not to answer.

        Not before ``least`` seconds, unless the store is away already.
        """
        now = trio.current_time()
        if self._unheard:
            least = most = 0
        elif self.refusal is not None:
            most = least
        with trio.CancelScope(deadline=now + max(least, most)) as scope:
            self._readers[scope] = now + least
            try:
                yield
            finally:
                del self._readers[scope]

    def _tell_readers(self) -> None:
        if self._readers:
            now = trio.current_time()
            for scope, least in self._readers.items():
                scope.deadline = min(scope.deadline, max(now, least))

    async def pause(self) -> None:
        """Wait before trying again: longer each time, up to the longest pause.

        The first try comes at once, as the connection may only have been cut.
        """
        longest = min(self._longest_pause, _FIRST_PAUSE * 2 ** min(self._attempts, 20))
        with trio.CancelScope() as self._pausing:
            await trio.sleep(longest * random.uniform(0.5, 1.0) if self._attempts else 0)
        self._attempts += 1

    def hurry(self) -> None:
        """End the pause, and begin with short ones again: there is not much time left to try."""
        self._attempts = 0
        self._pausing.cancel()
