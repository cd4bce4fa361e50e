"""What is wrong between an actor and its store: said once, and tried again with pauses."""

from __future__ import annotations

import logging
import random
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

import trio

from .._errors import StoreError, StoreUnavailableError
from ._life import Course, Event

logger = logging.getLogger("distkit_actors")

#: First pause after a lost connection, in seconds; it doubles from try to try.
_FIRST_PAUSE: Final = 0.02
#: How our own stores begin to say that.
_REFUSES: Final = "the store refuses: "


class Availability:
    """The time since the store has last answered as it should, if it does not now."""

    def __init__(self, prefix: str, longest_pause: float, course: Course) -> None:
        self.refusal: StoreError | None = None  # the store's last, while it refuses
        self.warnings: tuple[str, ...] = ()  # what is wrong with how the store is set up
        self._prefix = prefix
        self._course = course
        self._longest_pause = longest_pause
        self._away = False  # it has been logged
        self._attempts = 0  # failed ones since the last answer
        self._readers: dict[trio.CancelScope, float] = {}  # and until when they wait at least

    def lost(self, error: StoreUnavailableError) -> None:
        """A connection has ended. Servers end those that are idle: that alone is no outage.

        The next try comes at once; if that fails too, the store is away.
        """
        if self._attempts:
            self.away(error)
        else:
            logger.debug("%s: the connection has ended, making another: %s", self._prefix, error)

    def away(self, error: StoreUnavailableError) -> None:
        """The store cannot be reached, or does not answer."""
        self._tell_readers()
        if not self._away:
            self._away = True
            self._course.happens(Event.LOST)
            logger.warning("%s: the store is away, trying again: %s", self._prefix, error)

    def found(self, warnings: tuple[str, ...]) -> None:
        """The store has been looked at; each thing that is wrong is said once."""
        for warning in warnings:
            if warning not in self.warnings:
                logger.error("%s: %s", self._prefix, warning)
        if self.warnings and not warnings:
            logger.info("%s: the store is set up as it should be again", self._prefix)
        self.warnings = warnings

    def refused(self, error: StoreError) -> None:
        """The store refuses."""
        self._tell_readers()
        if self.refusal is None:
            reason = str(error).removeprefix(_REFUSES)
            logger.error("%s: %s%s", self._prefix, _REFUSES, reason)
        self.refusal = error

    def over(self) -> bool:
        """The store has answered; True if it had refused before."""
        had_refused = self.refusal is not None
        if self._away or had_refused:
            logger.info("%s: the store is back", self._prefix)
        if self._away:
            self._away = False
            self._course.happens(Event.HEARD)
        self._attempts = 0
        self.refusal = None
        return had_refused

    @contextmanager
    def waiting(self, least: float, most: float) -> Generator[None]:
        """Cancel the block after ``most`` seconds, or when the store is known not to answer.

        Not before ``least`` seconds in any case.
        """
        now = trio.current_time()
        if self._away or self.refusal is not None:
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
        """Wait before trying again: longer each time, never as long as a fresh threshold.

        The first try comes at once, for a connection that just was cut.
        """
        longest = min(self._longest_pause, _FIRST_PAUSE * 2 ** min(self._attempts, 20))
        await trio.sleep(longest * random.uniform(0.5, 1.0) if self._attempts else 0)
        self._attempts += 1
