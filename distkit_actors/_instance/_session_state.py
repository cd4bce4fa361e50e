"""What a session has under way: its batch; and what an answer to it changed."""

from __future__ import annotations

from collections.abc import Sequence

from .._protocol._messages import Applied, Entry, Kind, Result
from ._phases import ProtocolError


class Update:
    """What an answer changed for the layer above."""

    __slots__ = (
        "at",
        "backlog",
        "cleared",
        "dropped",
        "epochs",
        "gone",
        "ground",
        "merged",
        "missed",
        "results",
        "stamps",
    )

    def __init__(self, results: Sequence[Result] | None = None, at: int = 0) -> None:
        self.results = results  # one for each entry, once the batch has ended
        self.at = at  # stamp of the step that executed the batch
        self.epochs: dict[str, int] = {}  # keys whose epoch somebody moved, and where to
        self.dropped: dict[str, int] = {}  # keys whose own slice went with a move, and its stamp
        # Slices that have become one: key, stamp of the younger one, stamp of the older one.
        self.merged: list[tuple[str, int, int]] = []
        # {key: stamp of the slice that the results are about}, where it is none of the session's
        # any more; where there never was one: the stamp of the last move before it.
        self.stamps: dict[str, int] = {}
        self.ground = at
        # The same, of those whose own slice has gone with a move since (P20, doubtful batch).
        self.gone: dict[str, int] = {}
        self.cleared = False  # somebody moved the epoch of every key
        # Moves up to this stamp were forgotten before they were heard of (P21, too old).
        self.missed = 0
        self.backlog = 0  # there is more to be told, or to be taken from the dead: by so many

    @property
    def moves(self) -> bool:
        """Whether somebody has moved an epoch, as far as it tells."""
        return bool(
            self.epochs or self.dropped or self.merged or self.gone or self.cleared or self.missed
        )


class Batch:
    """The unacknowledged batch; ``doubt`` says that an earlier transmission may have run."""

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
            raise ProtocolError("a whole batch either moves epochs or does not")
        if len(self.entries) > 1:
            kinds = {entry.kind for entry in self.entries}
            if Kind.FORGET in kinds and not kinds.isdisjoint((Kind.MOVE, Kind.CLEAR)):
                raise ProtocolError("a batch that moves epochs forgets nobody")

    def answered_by(self, reply: Applied) -> bool:
        """Tell whether ``reply`` can be the answer to it."""
        if reply.again:
            return False
        # Of a leave nothing but that it was executed is in the record, and nobody needs more.
        return len(reply.results) == len(self.entries) or (self.leave and not reply.results)
