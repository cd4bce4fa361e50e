"""When each key's epoch last moved, and who has yet to hear of it.

One table serves as both: the *journal stamp* of a key says when this store learned of its
last move, and orders the table; the key's *epoch* is that same stamp, or an older one for
a move that an instance had to tell the store again after a data loss (P7, key epochs;
P22, late moves).
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from .._protocol._messages import MAX_JOURNAL, Journal

#: A step may forget so many moves or more: so the table drains faster than it fills.
FORGET_AT_LEAST: Final = 100


class Epochs:
    """The epochs of one namespace."""

    __slots__ = ("cleared", "floor", "late", "latest", "moved")

    def __init__(self) -> None:
        self.cleared = 0  # stamp of the last clear: a lower bound for every key's epoch
        self.floor = 0  # largest journal stamp that was forgotten (P11, forgetting moves)
        self.latest = 0  # largest journal stamp ever given out, or the last clear's
        # {key: journal stamp}, in order of the stamps. The first of a plain dict would be found
        # behind the places of all that have left it.
        self.moved: dict[str, int] = OrderedDict()
        self.late: dict[str, int] = {}  # {key: epoch}, where it is older than its journal stamp

    def of(self, key: str) -> int:
        """Return the epoch of ``key``: a slice counts iff its stamp is not below it.

        P8, stale slices.
        """
        return max(self.cleared, self.late.get(key) or self.moved.get(key, 0))

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

    def clear_late(self, cleared: int) -> None:
        """Learn of a clear that the store had lost (P22, late moves).

        There may be very many older moves. They stay, make no difference, and are forgotten in
        their time.
        """
        self.cleared = cleared
        self.latest = max(self.latest, cleared)  # so whoever has read this far knows of it

    def since(self, known: int) -> tuple[Journal, bool]:
        """Return what an instance that knows all up to ``known`` has missed, and if there is more.

        The oldest moves come first, at most `MAX_JOURNAL`, and those of one step together:
        they share a stamp, and the journal's ``latest`` is the stamp of the last one given.
        """
        missed: list[tuple[str, int, int]] = []
        if known < self.latest:
            for key in reversed(self.moved):
                stamp = self.moved[key]
                if stamp <= known:
                    break
                missed.append((key, self.of(key), stamp))
        missed.reverse()
        more = len(missed) > MAX_JOURNAL
        page = missed
        if more:
            cut = missed[MAX_JOURNAL][2]
            page = [move for move in missed[:MAX_JOURNAL] if move[2] < cut]
        latest = page[-1][2] if more else self.latest
        moves = tuple((key, epoch) for key, epoch, _ in page)
        return Journal(self.cleared, self.floor, latest, moves), more

    def forget(self, horizon: int, moved_now: int) -> None:
        """Forget moves up to the stamp ``horizon``, a bounded number of them.

        P11, forgetting moves.
        """
        limit = max(FORGET_AT_LEAST, 2 * moved_now)
        while limit and self.moved:
            key, stamp = next(iter(self.moved.items()))
            if stamp > horizon:
                break
            del self.moved[key]
            self.late.pop(key, None)
            self.floor = stamp
            limit -= 1
