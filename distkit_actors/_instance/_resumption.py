"""The return to a store that does not know an instance any more, piece by piece (P17 … P22).

A `Resumption` goes through all that the store has to be told: own epoch moves, then a claim for
each own slice, then what was withheld. After the moves and before the slices come claims of
nothing, for holds in slices that the instance does not have any more, and for withheld slices (P45,
archive). Where it is unknown whether the last batch was executed, its operations on the own slice
become a part of what is claimed (`Resumption.fold`; P20, doubtful batch), and the answers to the
claims tell what became of them.

This file is a little longer than others: what a piece says and what its answer means work on the
same few lists, which are seen better on one page.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import Final, NamedTuple

from .._protocol._messages import (
    FOLD_LIMIT,
    MAX_ENTRIES,
    MAX_MOVES,
    Applied,
    Entry,
    Kind,
    Previous,
    Rejection,
    Result,
    Resume,
    Slice,
)
from .._protocol._values import fits
from ._holds import Holds
from ._own_copy import OwnCopy
from ._session_state import Batch, Update

#: Most keys that are looked at for one piece: most may have no slice left, after a clear.
_SEARCHED_AT_ONCE: Final = 10 * MAX_ENTRIES


class _Reach(NamedTuple):
    """How many moves, keys and withheld slices the sent piece deals with."""

    moves: int = 0
    held: int = 0
    claims: int = 0
    retries: int = 0
    rest: tuple[str, int] | None = None
    """What it leaves of the last key with holds, see `Resumption.held`."""


class Resumption:
    """What is left to tell the store, and the batch that was folded into it."""

    __slots__ = (
        "claims",
        "first",
        "folds",
        "held",
        "moves",
        "reach",
        "results",
        "retries",
        "sent",
        "since",
        "stamps",
        "void",
    )

    def __init__(self) -> None:
        self.first = True
        # Up to which stamp all moves had been heard of before the return began. Until it is
        # complete, the journal may leave out archived moves that are younger (P45, archive).
        self.since = 0
        # Keys only: their epochs and slices are looked up when their turn has come.
        self.moves: deque[str] = deque()  # keys whose epoch this instance has moved
        # Keys with holds; of each, those with younger stamps than this one are left.
        self.held: deque[tuple[str, int]] = deque()
        self.claims: deque[str] = deque()  # keys of own slices
        self.retries: list[Entry] = []  # what is withheld
        self.sent: Resume | None = None
        self.reach = _Reach()
        self.results: list[Result] | None = None  # of the folded batch, as far as known; see `fold`
        # {key: [(index, slice before, whether it stands for many)]}
        self.folds: dict[str, list[tuple[int, int, bool]]] = {}
        self.stamps: dict[str, int] = {}  # {key of a fold: stamp of its slice}
        # Keys of folds whose slices are void. A later piece may bring news of a move that made void
        # what an earlier piece has settled.
        self.void: set[str] = set()

    @property
    def done(self) -> bool:
        """Whether there is nothing left to tell."""
        return not (self.first or self.moves or self.held or self.claims or self.retries)

    # ------------------------------------------------------------------ beginning

    def fold(self, batch: Batch, own: OwnCopy) -> None:
        """Re-assert own slices as if a doubtful batch had been executed.

        So those operations take effect once, whether or not the batch was executed. Moves of epochs
        cannot be folded: their outcome stays unknown. What only the store can decide is tried again
        (P20, doubtful batch).
        """
        results: list[Result] = []
        # A new value replaces the lax counts in front of it (P30, immediate operations). Tried
        # again, these would come behind it.
        puts = {
            entry.key: index
            for index, entry in enumerate(batch.entries)
            if entry.kind is Kind.PUT and entry.condition is None and not batch.atomic
        }
        for index, entry in enumerate(batch.entries):
            own_slice = own.slices.get(entry.key)
            before = own_slice.value if own_slice else 0
            replaced = index < puts.get(entry.key, 0)
            match entry.kind:
                case Kind.ADD if entry.value == 0 and not replaced:
                    results.append(Rejection.RETRY)
                    continue
                case Kind.FORGET:
                    results.append(Rejection.RETRY)
                    continue
                case Kind.CLAIM if not replaced:
                    results.append(Rejection.RETRY)
                    continue
                case Kind.ADD | Kind.PUT if entry.condition is not None or batch.atomic:
                    # Only the store can decide it. If it was executed, the claim replaces what it
                    # did to the own slice.
                    results.append(Rejection.RETRY)
                    continue
                case Kind.ADD | Kind.CLAIM:
                    after = before + entry.value
                case Kind.PUT:
                    after = entry.value
                    own.withheld.drop(entry.key)
                case _:
                    results.append(Rejection.UNKNOWN)
                    continue
            if not fits(after):
                results.append(Rejection.REFUSED)
                continue
            # Even a slice of 0 is claimed, as the answer to its claim has the sum for the caller.
            stamp = own_slice.stamp if own_slice else own.heard_of(entry.key)
            own.slices[entry.key] = Slice(after, stamp)
            self.stamps[entry.key] = stamp
            self.folds.setdefault(entry.key, []).append((index, before, entry.folded))
            results.append(Rejection.UNKNOWN)
        self.results = results

    def begin(self, own: OwnCopy, holds: Holds, old: Resumption | None = None) -> None:
        """Begin with the first piece; ``old`` is an attempt that did not come to its end."""
        if old is None:
            self.since = own.known
        else:
            self.since = old.since
            self.results, self.folds = old.results, old.folds
            self.stamps, self.void = old.stamps, old.void
        # The plain dict inside has the same order, and is gone through in a fifteenth of the time.
        self.moves = deque(dict[str, int].keys(own.moves))
        # A fold may have begun a hold, and its slice may have come to nothing in an attempt before.
        # Of withheld slices only some are claimed before the return is complete.
        held = dict.fromkeys((*holds.held(), *self.stamps, *own.withheld.keys), -1)
        self.held = deque(held.items())
        self.claims = deque(own.slices)
        self.retries = own.retries()

    # -------------------------------------------------------------------- sending

    def piece(
        self, own: OwnCopy, holds: Holds, size: int
    ) -> tuple[list[tuple[str, int]], list[Entry]]:
        """Return the moves and claims that are next, about ``size`` claims at most."""
        some = list(islice(self.moves, MAX_MOVES))
        moves = [(key, own.moves[key]) for key in some if key in own.moves]
        claims: list[Entry] = []
        asked = searched = retried = 0
        rest: tuple[str, int] | None = None
        if len(some) == len(self.moves):
            # Before all claims of slices. On a slice that is there again, a claim of nothing would
            # remove the slice, and leave its value in the sum.
            claims, asked, rest = self._claims_of_nothing(own, holds, min(size, MAX_ENTRIES))
            if not claims and asked == len(self.held):
                claims, searched = self._claims(own, min(size, MAX_ENTRIES))
                if not self.claims:
                    claims = self.retries[:size]
                    retried = len(claims)
        self.reach = _Reach(len(some), asked, searched, retried, rest)
        return moves, claims

    def _claims_of_nothing(
        self, own: OwnCopy, holds: Holds, limit: int
    ) -> tuple[list[Entry], int, tuple[str, int] | None]:
        """Return claims of nothing for holds and withheld slices, of how many keys, and the rest.

        The store refuses such a claim if a move has made them void. The journal may not tell
        of this move any more (P45, archive).
        """
        nothing: list[Entry] = []
        searched = 0
        for key, last in islice(self.held, _SEARCHED_AT_ONCE):
            room = limit - len(nothing)
            if not room:
                break
            searched += 1
            stamps = {*holds.stamps(key), *own.withheld.stamps(key)}
            if key in self.stamps and key not in self.void:
                stamps.add(self.stamps[key])
            if key in own.slices:  # which will be claimed itself
                stamps.discard(own.slices[key].stamp)
            younger = sorted(stamp for stamp in stamps if stamp > last)
            nothing += [Entry(Kind.CLAIM, key, 0, 0, stamp=stamp) for stamp in younger[:room]]
            if len(younger) > room:
                return nothing, searched, (key, younger[room - 1])
        return nothing, searched, None

    def _claims(self, own: OwnCopy, limit: int) -> tuple[list[Entry], int]:
        """Return the claims that are next, and of how many keys; some may have gone meanwhile."""
        claims: list[Entry] = []
        searched = 0
        for key in islice(self.claims, _SEARCHED_AT_ONCE):
            if len(claims) == limit:
                break
            searched += 1
            if key in own.slices:
                value, stamp = own.slices[key]
                claims.append(Entry(Kind.CLAIM, key, value, value, stamp=stamp))
        return claims, searched

    # ------------------------------------------------------------------ receiving

    def answered_by(self, reply: Applied) -> bool:
        """Tell whether ``reply`` can be the answer to the piece that was sent."""
        if self.sent is None:
            return False
        if reply.again:  # only a first piece is repeated (P18, empty ground)
            return self.first and not reply.results
        return len(reply.results) == len(self.sent.claims)

    def executed(self, reply: Applied, own: OwnCopy, update: Update) -> None:
        """Take in the answer to the piece that was sent."""
        claims = self.sent.claims if self.sent else ()
        self.sent = None
        if reply.again:
            return
        self.first = False
        moved, asked, searched, retried, rest = self.reach
        for _ in range(moved):
            self.moves.popleft()
        for _ in range(asked):
            self.held.popleft()
        if rest is not None:
            self.held.appendleft(rest)
        keys = [self.claims.popleft() for _ in range(searched)]
        del self.retries[:retried]
        for claim, result in zip(claims, reply.results, strict=True):
            if retried:
                own.retry(claim, result, update)
            elif not searched:  # a claim of nothing
                if result is Rejection.MOVED:
                    update.moved(claim.key, claim.stamp + 1)
                    own.withheld.drop_older({claim.key: claim.stamp + 1})
                    if self.stamps.get(claim.key, claim.stamp + 1) <= claim.stamp:
                        self.void.add(claim.key)
            else:
                self._asserted(claim, result, own)
                if result is Rejection.MOVED:
                    update.dropped[claim.key] = claim.stamp
        claimed = {claim.key for claim in claims}
        self.void.update(k for k in keys if k in self.folds and k not in claimed)

    def _asserted(self, claim: Entry, result: Result, own: OwnCopy) -> None:
        """Take in what became of one claim: the slice is back, or is void, or does not fit now."""
        key = claim.key
        if key in self.folds and result is Rejection.MOVED:
            self.void.add(key)
        if isinstance(result, Previous):
            if not claim.value:
                own.slices.pop(key, None)
            if self.results is not None:
                for index, before, many in self.folds.get(key, ()):
                    if many and abs(result.cumulative) >= FOLD_LIMIT:
                        # The sum of several operations took effect. It is not known whether each of
                        # them would have fitted by itself (P13, values before).
                        continue
                    self.results[index] = Previous(result.cumulative + before, before)
        elif result is Rejection.MOVED:
            own.slices.pop(key, None)
        else:
            own.withheld.add(key, own.slices.pop(key))

    def told(self, start: int, archived: int, known: int) -> None:
        """Take in that a journal has told the moves after ``start`` that are not archived.

        If that is all that has moved since the return began, all up to ``known`` has been heard of.
        A store that has lost what it wrote last may have archived less than at the piece before.
        Then ``start`` is above `since`, and a move between the two was never told.
        """
        if max(start, archived) <= self.since:
            self.since = known

    def follow(self, update: Update, own: OwnCopy, *, news: bool) -> None:
        """Take in what ``update`` says of slices; ``news``: others' moves are in it, too."""
        for key, younger, older in update.merged:
            if self.stamps.get(key) == younger:
                self.stamps[key] = older
        if not news:
            return
        if update.missed:
            self.since = max(self.since, update.missed)  # older slices are gone
            # The store would judge the pieces to come by what is known from now on. Claims are
            # made of the slices that are left.
            self.retries = [claim for claim in self.retries if claim.stamp >= update.missed]
        for key, stamp in self.stamps.items():
            if stamp < max(update.epochs.get(key, 0), own.cleared, update.missed):
                self.void.add(key)
