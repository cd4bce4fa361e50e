"""The life of a session as a table: in which phase it is, and what each event makes of that.

Theory of operation
===================

A session is always in one `Phase`. The phase alone decides which request is sent (`REQUESTS`),
and so which answers make sense. Everything that happens to a session is an `Event`: mostly an
answer of the store, sometimes a wish of the layer above. `TRANSITIONS` says for each phase which
events are legal there, and which phase comes next. `after` looks that up.

An event that is not in the table is a bug, here or in the store: `after` raises `ProtocolError`.
A session asks `after` before it changes anything, so that an illegal event leaves it as it was.

A lost answer is no event. It changes no phase: the same request is sent again (P16, repeat
verbatim).

There is at most one batch, in `Phase.LIVE` only. A session that has one is not idle; nothing else
depends on that, so it makes no phase of its own.

The diagram and the tables in ``docs/protocol.md`` are made from this module, by
``python -m tests.docs.tables --write``.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final

from .._protocol._messages import Apply, Load, Open, Peek, Resume


class ProtocolError(AssertionError):
    """What must not happen to a session here: a bug in the store or in this package."""


class Phase(enum.Enum):
    """Where in its life a session is."""

    __hash__ = object.__hash__  # that of enum is not in C, and phases are looked up for each batch

    PEEK = "peek"
    OPEN = "open"
    LOAD = "load"
    LIVE = "live"
    RESUME = "resume"
    FENCED = "fenced"
    REFUSED = "refused"
    LEFT = "left"


class Event(enum.Enum):
    """What happens to a session; the value says it in words."""

    __hash__ = object.__hash__  # as in `Phase`

    FREE = "`Peeked`: the id may be taken"
    HELD = "`Peeked`: the holder is alive, and is not to be disturbed"
    OPENED = "`Opened`: there are no slices of a predecessor"
    INHERITED = "`Opened`: the slices of the predecessor are to be loaded"
    LEFTOVERS = "`Opened`: the slices of the predecessor are to be removed"
    PAGE = "`Loaded`: more pages follow"
    LAST_PAGE = "`Loaded`: nothing follows"
    BEGUN = "a batch is made up"
    DONE = "`Applied`: the batch has been executed"
    WITHDRAWN = "the batch is given up, as the store refuses it"
    PIECE = "`Applied`: one piece of the resume has been executed"
    RESUMED = "nothing is left to resume"
    LEFT = "the batch that leaves is done with"
    UNKNOWN = "`MustResume`: the store knows too little of the instance"
    CONFLICT = "`Conflict`: another incarnation holds the id"
    ABANDONED = "the process was forked: this copy sends nothing"


#: What is sent in a phase. In `Phase.LIVE` that is sent if there is a batch. Nothing is sent in
#: the phases that are not here.
REQUESTS: Final[Mapping[Phase, type]] = {
    Phase.PEEK: Peek,
    Phase.OPEN: Open,
    Phase.LOAD: Load,
    Phase.LIVE: Apply,
    Phase.RESUME: Resume,
}

TRANSITIONS: Final[Mapping[Phase, Mapping[Event, Phase]]] = {
    Phase.PEEK: {
        Event.FREE: Phase.OPEN,
        Event.HELD: Phase.REFUSED,
        Event.ABANDONED: Phase.FENCED,
    },
    Phase.OPEN: {
        Event.OPENED: Phase.LIVE,
        Event.INHERITED: Phase.LOAD,
        Event.LEFTOVERS: Phase.RESUME,
        Event.CONFLICT: Phase.PEEK,
        Event.ABANDONED: Phase.FENCED,
    },
    Phase.LOAD: {
        Event.PAGE: Phase.LOAD,
        Event.LAST_PAGE: Phase.LIVE,
        # It was reaped while it loaded: there is nothing to inherit any more (I11, takeover).
        Event.UNKNOWN: Phase.PEEK,
        Event.CONFLICT: Phase.FENCED,
        Event.ABANDONED: Phase.FENCED,
    },
    Phase.LIVE: {
        Event.BEGUN: Phase.LIVE,
        Event.DONE: Phase.LIVE,
        Event.WITHDRAWN: Phase.LIVE,
        Event.UNKNOWN: Phase.RESUME,
        Event.LEFT: Phase.LEFT,
        Event.CONFLICT: Phase.FENCED,
        Event.ABANDONED: Phase.FENCED,
    },
    Phase.RESUME: {
        Event.PIECE: Phase.RESUME,
        Event.RESUMED: Phase.LIVE,
        # The store was lost once more: from the first piece on.
        Event.UNKNOWN: Phase.RESUME,
        Event.CONFLICT: Phase.FENCED,
        Event.ABANDONED: Phase.FENCED,
    },
    Phase.FENCED: {Event.ABANDONED: Phase.FENCED},
    Phase.REFUSED: {Event.ABANDONED: Phase.FENCED},
    Phase.LEFT: {Event.ABANDONED: Phase.FENCED},
}


def after(phase: Phase, event: Event) -> Phase:
    """Return the phase that ``event`` leads to. Raises `ProtocolError` if it is illegal."""
    try:
        return TRANSITIONS[phase][event]
    except KeyError:
        raise ProtocolError(f"{event.value} – in phase {phase.name}") from None
