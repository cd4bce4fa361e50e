"""When each key's epoch last moved, and who has yet to hear of it.

One table serves as both: the *journal stamp* of a key says when this store learned of its
last move, and orders the table; the key's *epoch* is that same stamp, or an older one for
a move that an instance had to tell the store again after a data loss (P7, key epochs;
P22, late moves). If there are many moves, the older ones that all have heard of go to the
*archive*. It takes less memory, and is used only for claims and late moves (P45, archive).
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import islice, takewhile
from typing import Final

from .._protocol._messages import MAX_JOURNAL, Journal

#: A step may forget so many moves or more: so the table drains faster than it fills.
FORGET_AT_LEAST: Final = 100
#: Most moves that a reply tells, unless there are more in the oldest step of these: then it tells
#: up to `MAX_JOURNAL`. A reply with so many takes a server 1 ms.
JOURNAL_PAGE: Final = 300
#: How many moves the journal keeps, if all have heard of them. Fewer need no archive.
JOURNAL_KEPT: Final = 1000
#: Nothing is archived before there are so many moves more than that: a few cost nearly as much.
ARCHIVE_AT_LEAST: Final = 100
#: Most moves that one step archives (P5, bounded pieces).
ARCHIVE_AT_MOST: Final = 200
#: How many segments of the archive a retention is divided into.
SEGMENTS_OF_RETENTION: Final = 4
#: Most segments: those within the retention, one that is leaving it, and one that is being filled.
#: Fixed: versions share the places in Redis (docs/protocol.md, section 4).
MAX_SEGMENTS: Final = SEGMENTS_OF_RETENTION + 2


class Segment:
    """Moves with journal stamps from ``first`` to ``last``, which are forgotten together."""

    __slots__ = ("epochs", "first", "last")

    def __init__(self, first: int) -> None:
        self.first = self.last = first  # journal stamps
        self.epochs: dict[str, int] = {}  # {key: epoch}


class Epochs:
    """The epochs of one namespace."""

    __slots__ = ("archive", "cleared", "floor", "late", "latest", "moved")

    def __init__(self) -> None:
        self.cleared = 0  # stamp of the last clear: a lower bound for every key's epoch
        self.floor = 0  # largest journal stamp that was forgotten (P11, forgetting moves)
        self.latest = 0  # largest journal stamp ever given out, or the last clear's
        # {key: journal stamp}, in order of the stamps. The first of a plain dict would be found
        # behind the places of all that have left it.
        self.moved: dict[str, int] = OrderedDict()
        self.late: dict[str, int] = {}  # {key: epoch}, where it is older than its journal stamp
        self.archive: list[Segment] = []  # oldest first; all are older than what is in the journal

    def of(self, key: str) -> int:
        """Return the epoch of ``key``: a slice counts iff its stamp is not below it.

        P8, stale slices. It looks in the archive, too: for claims and late moves.
        """
        epoch = self.in_journal(key)
        for segment in self.archive:
            epoch = max(epoch, segment.epochs.get(key, 0))
        return epoch

    def in_journal(self, key: str) -> int:
        """Return the epoch of ``key`` without the archive.

        That is enough for slices in the store: none is older than an archived move of its key
        (P45, archive).
        """
        return max(self.cleared, self.late.get(key) or self.moved.get(key, 0))

    @property
    def archived(self) -> int:
        """Journal stamp of the youngest move in the archive; 0 if there is none."""
        return self.archive[-1].last if self.archive else 0

    def move(self, key: str, at: int) -> None:
        """Move the epoch of ``key`` to ``at``."""
        self.moved.pop(key, None)
        self.moved[key] = self.latest = at
        self.late.pop(key, None)

    def move_late(self, key: str, epoch: int, at: int) -> None:
        """Learn at ``at`` of a move to ``epoch`` that the store had lost (P22, late moves)."""
        self.move(key, at)
        self.late[key] = epoch

    def clear(self, at: int) -> None:
        """Move the epoch of every key to ``at``."""
        self.cleared = self.latest = at
        self.moved.clear()
        self.late.clear()
        self.archive.clear()

    def clear_late(self, cleared: int) -> None:
        """Learn of a clear that the store had lost (P22, late moves).

        There may be very many older moves. They stay, make no difference, and are forgotten in
        their time.
        """
        self.cleared = cleared
        self.latest = max(self.latest, cleared)  # so whoever has read this far knows of it

    def since(self, known: int) -> tuple[Journal, bool]:
        """Return what an instance that knows all up to ``known`` has missed, and if there is more.

        The oldest moves come first, as many as fit on a page, and those of one step together:
        they share a stamp, and the journal's ``latest`` is the stamp of the last one given.
        """
        missed = page = self._after(known) if known < self.latest else []
        for size in (JOURNAL_PAGE, MAX_JOURNAL):
            if len(missed) <= size:
                page = missed
                break
            cut = missed[size][1]
            page = [move for move in missed[:size] if move[1] < cut]
            if page:
                break
        more = len(page) < len(missed)
        latest = page[-1][1] if more else self.latest
        moves = tuple((key, self.in_journal(key)) for key, _ in page)
        return Journal(self.cleared, self.floor, latest, moves), more

    def _after(self, known: int) -> list[tuple[str, int]]:
        """Return the moves after ``known``, oldest first: all of them, or more than a page holds.

        It looks from both ends: most readers have missed little, and some nearly all.
        """
        oldest: list[tuple[str, int]] = []
        youngest: list[tuple[str, int]] = []
        moves = self.moved.items()
        for young, old in zip(reversed(moves), moves, strict=True):
            if young[1] <= known:
                break
            youngest.append(young)
            if old[1] > known:
                oldest.append(old)
            if len(oldest) > MAX_JOURNAL:
                return oldest
        return youngest[::-1]

    def forget(self, horizon: int, moved_now: int) -> None:
        """Forget moves up to the stamp ``horizon``: one segment, and some in the journal.

        P11, forgetting moves.
        """
        if self.archive and self.archive[0].last <= horizon:
            self.floor = max(self.floor, self.archive.pop(0).last)
        for key, stamp in self._oldest(max(FORGET_AT_LEAST, 2 * moved_now), horizon):
            del self.moved[key]
            self.late.pop(key, None)
            self.floor = stamp

    def put_away(self, known_by_all: int, retention: int) -> None:
        """Archive the oldest moves that all have heard of, if the journal has many.

        P45, archive.
        """
        surplus = len(self.moved) - JOURNAL_KEPT
        if surplus < ARCHIVE_AT_LEAST:
            return
        for key, stamp in self._oldest(min(surplus, ARCHIVE_AT_MOST), known_by_all):
            del self.moved[key]
            segment = self._segment(stamp, retention // SEGMENTS_OF_RETENTION)
            segment.epochs[key] = self.late.pop(key, stamp)
            segment.last = stamp

    def _oldest(self, count: int, last: int) -> list[tuple[str, int]]:
        """Return the oldest ``count`` moves up to the stamp ``last``.

        All stores choose the same of those of one step.
        """
        if next(iter(self.moved.values()), last + 1) > last:
            return []
        last = min(last, next(islice(self.moved.values(), count - 1, None), last))
        oldest = takewhile(lambda move: move[1] <= last, self.moved.items())
        return sorted(oldest, key=_as_redis_has_them)[:count]

    def _segment(self, stamp: int, span: int) -> Segment:
        """Return the segment for a move with such a journal stamp."""
        archive = self.archive
        if not archive or (stamp >= archive[-1].first + span and len(archive) < MAX_SEGMENTS):
            archive.append(Segment(stamp))
        return archive[-1]


def _as_redis_has_them(move: tuple[str, int]) -> tuple[int, bool, str]:
    """Return what orders the moves: their stamps, and in one step their keys as Redis has them.

    There a byte is before a key that begins with a colon.
    """
    key, stamp = move
    return stamp, key.startswith(":"), key
