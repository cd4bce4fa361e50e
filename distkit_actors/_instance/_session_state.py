"""What a session has under way: its batch, its return to a store that lost it, and the news."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice

from .._protocol._messages import Entry, Result, Resume, Slice


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
        self.missed = 0  # moves up to this stamp were forgotten before they were heard of (P21)
        self.backlog = False  # there is more to be told, or to be taken away from the dead


class Batch:
    """The unacknowledged batch; ``doubt`` says that an earlier transmission may have run."""

    __slots__ = ("atomic", "budget", "doubt", "entries", "leave")

    def __init__(self, entries: Sequence[Entry], budget: int, leave: bool, atomic: bool) -> None:
        self.entries = entries
        self.budget = budget
        self.leave = leave
        self.atomic = atomic
        self.doubt = False


class Withheld:
    """Own slices that are not in the store, because they do not fit for now (I12, overflow).

    A key has several if counts that were made meanwhile did not fit either; the oldest goes first.
    """

    __slots__ = ("_count", "_pieces")

    def __init__(self, pairs: Iterable[tuple[str, Slice]] = ()) -> None:
        self._count = 0
        self._pieces: OrderedDict[str, list[Slice]] = OrderedDict()  # the next to be tried first
        for key, piece in pairs:
            self.add(key, piece)

    def __len__(self) -> int:
        """Return how many slices these are."""
        return self._count

    def __iter__(self) -> Iterator[tuple[str, Slice]]:
        """Go through all of them, key by key."""
        return ((key, piece) for key, pieces in self._pieces.items() for piece in pieces)

    @property
    def keys(self) -> Iterable[str]:
        """Keys that have some."""
        return self._pieces.keys()

    def oldest(self, limit: int) -> list[tuple[str, Slice]]:
        """Return the first slice of each key that is next to be tried."""
        return [(key, pieces[0]) for key, pieces in islice(self._pieces.items(), limit)]

    def add(self, key: str, piece: Slice) -> None:
        """Take in a slice that was refused."""
        self._pieces.setdefault(key, []).append(piece)
        self._count += 1

    def put_off(self, key: str) -> None:
        """Try the other keys first."""
        if key in self._pieces:
            self._pieces.move_to_end(key)

    def remove(self, key: str, piece: Slice) -> None:
        """Forget a slice, if it is still here."""
        pieces = self._pieces.get(key, [])
        if piece in pieces:
            pieces.remove(piece)
            self._count -= 1
            if not pieces:
                del self._pieces[key]

    def drop(self, key: str) -> None:
        """Forget all of a key: they have been replaced."""
        if key in self._pieces:
            self._count -= len(self._pieces.pop(key))

    def drop_older(self, epochs: Mapping[str, int]) -> None:
        """Forget what moves to these epochs made void."""
        for key in epochs.keys() & self._pieces.keys():
            young = [piece for piece in self._pieces[key] if piece.stamp >= epochs[key]]
            self._count -= len(self._pieces[key]) - len(young)
            self._pieces[key] = young
            if not young:
                del self._pieces[key]

    def clear(self) -> None:
        """Forget all."""
        self._count = 0
        self._pieces.clear()


class Resumption:
    """What is left to tell the store, and the batch that was folded into it (P20)."""

    __slots__ = (
        "claims",
        "first",
        "folds",
        "gone",
        "moves",
        "reach",
        "results",
        "retries",
        "sent",
        "stamps",
    )

    def __init__(self) -> None:
        self.first = True
        # Of which keys: what there is to tell of them is looked up when its turn has come.
        self.moves: deque[str] = deque()
        self.claims: deque[str] = deque()  # own slices
        self.retries: list[Entry] = []  # what is withheld
        self.sent: Resume | None = None
        self.reach: tuple[int, int, int] = (
            0,
            0,
            0,
        )  # how many of each of these the part that was sent covers
        self.results: list[Result] | None = None  # of the folded batch, where known
        # {key: [(index, slice before, whether it stands for many)]}
        self.folds: dict[str, list[tuple[int, int, bool]]] = {}
        self.stamps: dict[str, int] = {}  # {key of a fold: stamp of its slice}
        # Moves that are learned of while it lasts may concern what an earlier part has settled.
        self.gone: set[str] = set()  # keys of folds whose slices are void
