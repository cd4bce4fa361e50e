"""What a session has under way: its batch, its return to a store that lost it, and the news."""

from __future__ import annotations

from collections.abc import Sequence

from ._messages import Entry, Result, Resume


class News:
    """What an answer changed for the layer above."""

    __slots__ = ("at", "backlog", "cleared", "dropped", "epochs", "gone", "results")

    def __init__(self, results: Sequence[Result] | None = None, at: int = 0) -> None:
        self.results = results  # one for each entry, once the batch has ended
        self.at = at  # stamp of the step that executed the batch
        self.epochs: dict[str, int] = {}  # keys whose epoch somebody moved, and where to
        self.dropped: list[str] = []  # keys whose own slice went with a move
        # Keys of which the results speak, and whose own slice has gone with a move since (P20).
        self.gone: set[str] = set()
        self.cleared = False  # somebody moved the epoch of every key
        self.backlog = False  # there is more to be told, or to be taken away from the dead


class Batch:
    """The unacknowledged batch; ``doubt`` says that an earlier transmission may have run."""

    __slots__ = ("budget", "doubt", "entries", "leave", "whole")

    def __init__(self, entries: Sequence[Entry], budget: int, leave: bool, whole: bool) -> None:
        self.entries = entries
        self.budget = budget
        self.leave = leave
        self.whole = whole
        self.doubt = False


class Resumption:
    """What is left to tell the store, and the batch that was folded into it (P20)."""

    __slots__ = (
        "asserted",
        "claims",
        "first",
        "folds",
        "gone",
        "moves",
        "results",
        "retries",
        "sent",
    )

    def __init__(self) -> None:
        self.first = True
        self.moves: list[tuple[str, int]] = []
        self.claims: list[Entry] = []  # own slices
        self.retries: list[Entry] = []  # what is withheld
        self.sent: Resume | None = None
        self.results: list[Result] | None = None  # of the folded batch, where known
        # {key: [(index, slice before, whether it stands for many)]}
        self.folds: dict[str, list[tuple[int, int, bool]]] = {}
        # Moves that are learned of while it lasts may concern what an earlier part has settled.
        self.asserted: dict[str, int] = {}  # {key of a fold: stamp of its claim}
        self.gone: set[str] = set()  # keys of folds whose slices are void
