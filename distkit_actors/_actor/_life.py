"""The life of an actor as a table: where in it an actor is, and what each event makes of that.

`TRANSITIONS` says for each state which events are legal there, and which state comes next. An
event that is not in the table is a bug in this package: `Course.happens` raises, and changes
nothing.

A counter that another one has superseded stays so, also when its tasks have ended. In a process
that was forked the tasks of the copy may go on for a while: what they notice changes nothing.

The diagram and the table in ``docs/architecture.md`` are made from this module, by
``python -m tests.docs.tables --write``.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final


class Life(enum.Enum):
    """Where in its life an actor is; the value is what `CounterStatistics` calls it."""

    NEW = "new"
    STARTING = "starting"
    RUNNING = "running"
    AWAY = "away"
    SUPERSEDED = "superseded"
    STOPPING = "stopping"
    CLOSED = "closed"


class Event(enum.Enum):
    """What happens to an actor; the value says it in words."""

    BEGUN = "`run` is called"
    DETACHED = "it starts without waiting for the store"
    REGISTERED = "the store has given it its id"
    LOST = "the store cannot be reached, or does not answer"
    HEARD = "the store answers again"
    SUPERSEDED = "another counter has taken the id over"
    STOPPED = "it was asked to end, was cancelled, or has crashed"
    ENDED = "its tasks have ended, or there never were any"
    ABANDONED = "the process was forked: this copy is closed"


TRANSITIONS: Final[Mapping[Life, Mapping[Event, Life]]] = {
    Life.NEW: {
        Event.BEGUN: Life.STARTING,
        Event.ENDED: Life.CLOSED,
    },
    Life.STARTING: {
        Event.LOST: Life.STARTING,
        Event.HEARD: Life.STARTING,
        Event.DETACHED: Life.RUNNING,
        Event.REGISTERED: Life.RUNNING,
        Event.SUPERSEDED: Life.SUPERSEDED,
        Event.ENDED: Life.CLOSED,
        Event.ABANDONED: Life.CLOSED,
    },
    Life.RUNNING: {
        Event.LOST: Life.AWAY,
        Event.SUPERSEDED: Life.SUPERSEDED,
        Event.STOPPED: Life.STOPPING,
        Event.ENDED: Life.CLOSED,
        Event.ABANDONED: Life.CLOSED,
    },
    Life.AWAY: {
        Event.HEARD: Life.RUNNING,
        # By what was heard of another part of the namespace.
        Event.SUPERSEDED: Life.SUPERSEDED,
        Event.STOPPED: Life.STOPPING,
        Event.ENDED: Life.CLOSED,
        Event.ABANDONED: Life.CLOSED,
    },
    Life.SUPERSEDED: {
        Event.LOST: Life.SUPERSEDED,
        Event.HEARD: Life.SUPERSEDED,
        Event.STOPPED: Life.SUPERSEDED,
        Event.ENDED: Life.SUPERSEDED,
        Event.ABANDONED: Life.SUPERSEDED,
    },
    Life.STOPPING: {
        Event.LOST: Life.STOPPING,
        Event.HEARD: Life.STOPPING,
        Event.SUPERSEDED: Life.SUPERSEDED,
        Event.ENDED: Life.CLOSED,
        Event.ABANDONED: Life.CLOSED,
    },
    Life.CLOSED: {
        Event.LOST: Life.CLOSED,
        Event.HEARD: Life.CLOSED,
        Event.SUPERSEDED: Life.CLOSED,
        Event.STOPPED: Life.CLOSED,
        Event.ENDED: Life.CLOSED,
        Event.ABANDONED: Life.CLOSED,
    },
}


class LifeError(AssertionError):
    """What must not happen to an actor here: a bug in this package."""


class Course:
    """The life of one actor."""

    def __init__(self) -> None:
        self.now = Life.NEW

    def happens(self, event: Event) -> None:
        """Take in what happens. Raises `LifeError` if that cannot be here."""
        try:
            self.now = TRANSITIONS[self.now][event]
        except KeyError:
            raise LifeError(f"{event.value} – while it is {self.now.value}") from None
