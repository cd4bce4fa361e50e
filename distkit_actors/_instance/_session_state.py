"""The batch that a session has under way, and what an answer to it has changed."""

from __future__ import annotations

from collections.abc import Sequence

from .._protocol._messages import Applied, Entry, Kind, Result
from ._phases import ProtocolError


class Update:
    """What an answer has changed, for the layer above.

    ``ground`` is a stamp: no result for a key without a slice is older than that.
    """

    __slots__ = (
        "at",
        "backlog",
        "cleared",
        "dropped",
        "epochs",
        "ground",
        "merged",
        "missed",
        "results",
        "stamps",
        "void",
    )

    def __init__(self, results: Sequence[Result] | None = None, at: int = 0) -> None:
        self.results = results  # one for each entry, once the batch has ended
        self.at = at  # stamp of the step that executed the batch; 0 if none has
        self.epochs: dict[str, int] = {}  # keys whose epoch somebody moved, and where to
        self.dropped: dict[str, int] = {}  # keys whose own slice went with a move, and its stamp
        # Slices that have become one: key, stamp of the younger one, stamp of the older one.
        self.merged: list[tuple[str, int, int]] = []
        # {key: stamp of the slice that the results are about}, for slices that the session has no
        # more. Where there never was a slice, it is the stamp of the last move before.
        self.stamps: dict[str, int] = {}
        self.ground = at
        # As `stamps`, for keys whose own slice a later move has made void (P20, doubtful batch).
        self.void: dict[str, int] = {}
        self.cleared = False  # somebody moved the epoch of every key
        # Moves up to this stamp were forgotten before they were heard of (P21, too old).
        self.missed = 0
        self.backlog = 0  # as in `Applied`

    def moved(self, key: str, epoch: int) -> None:
        """Note that somebody moved the epoch of ``key`` to ``epoch``, or further."""
        self.epochs[key] = max(epoch, self.epochs.get(key, 0))


class Batch:
    """The unacknowledged batch; in ``doubt`` if it may have been executed, unheard."""

    __slots__ = ("atomic", "budget", "doubt", "entries", "leave")

    def __init__(self, entries: Sequence[Entry], budget: int, leave: bool, atomic: bool) -> None:
        self.entries = entries
        self.budget = budget
        self.leave = leave
        self.atomic = atomic
        self.doubt = False

    def check(self) -> None:
        """Raise `ProtocolError` if these entries must not travel together."""
        if self.atomic and (
            self.leave or len({entry.kind is Kind.MOVE for entry in self.entries}) > 1
        ):
            raise ProtocolError("an atomic batch either moves epochs or does not")
        if len(self.entries) > 1:
            kinds = {entry.kind for entry in self.entries}
            if Kind.FORGET in kinds and not kinds.isdisjoint((Kind.MOVE, Kind.CLEAR)):
                raise ProtocolError("a batch that moves epochs forgets nobody")

    def answered_by(self, reply: Applied) -> bool:
        """Tell whether ``reply`` can be the answer to it."""
        if reply.again:
            return False
        # The store keeps no results of a batch that leaves, and nobody needs them.
        return len(reply.results) == len(self.entries) or (self.leave and not reply.results)
