"""One who listens to a channel of a feed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import trio

from ..._protocol._messages import MAX_CHANGED
from ._connection import ErrorReplyError

if TYPE_CHECKING:
    from ._feed import Feed

NOTHING: Final[frozenset[str]] = frozenset()


class Listener:
    """One who listens to a channel, and what it has not been told yet.

    ``serves``: whether the server has still what the channel is about, as far as is known.
    """

    def __init__(self, channel: bytes, serves: Callable[[], bool] = lambda: True) -> None:
        self.channel = channel
        self.serves = serves
        self.feed: Feed | None = None  # that it listens to
        self.confirmed = False  # and the server knows
        self.refusal: ErrorReplyError | None = None  # or does not let it
        self.untold: frozenset[str] | None = NOTHING  # None: any key
        self.task: trio.lowlevel.Task | None = None  # that sleeps

    def tell(self, changed: frozenset[str] | None) -> None:
        """Keep word of changes, and wake who waits for it."""
        if self.untold is not None:
            every = None if changed is None else self.untold | changed
            self.untold = None if every is None or len(every) > MAX_CHANGED else every
        if self.untold != NOTHING:
            self.wake()

    def dismiss(self) -> None:
        """Listen to nothing any more."""
        self.feed, self.confirmed = None, False
        self.wake()

    def wake(self) -> None:
        """Let its task go on, if it sleeps."""
        if self.task is not None:
            task, self.task = self.task, None
            trio.lowlevel.reschedule(task)
