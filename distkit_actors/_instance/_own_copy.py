"""An instance's own copy of what it has in the store, and how answers change it.

A copy has what the instance knows for certain: its own slices and epoch moves, as acknowledged;
how far it has heard of others' moves; and its withheld slices. An answer changes it in two ways.
The instance does to it what the store has done to its own (`OwnCopy.replay`; P13, values before).
And it learns which slices others' moves have made void (`OwnCopy.hear`; P10).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Final

from .._protocol._messages import (
    MAX_ENTRIES,
    Applied,
    Entry,
    Journal,
    Kind,
    Previous,
    Rejection,
    Result,
    Slice,
    made,
)
from .._protocol._values import INT64_MAX, INT64_MIN, fits
from ._phases import ProtocolError
from ._session_state import Update
from ._withheld import Withheld

_ADD: Final = Kind.ADD  # looked up once, see `_session`
#: Most own moves forgotten with one answer: more than a batch can make.
_SETTLED_AT_ONCE: Final = 2 * MAX_ENTRIES


class OwnCopy:
    """What one instance knows to be its own."""

    __slots__ = ("_told_at", "_unheard", "cleared", "known", "moves", "slices", "withheld")

    def __init__(self) -> None:
        self.slices: dict[str, Slice] = {}
        self.withheld = Withheld()  # not in the store: does not fit yet (I12, overflow)
        self.moves: OrderedDict[str, int] = OrderedDict()  # own epoch moves, in order of stamps
        self.known = 0  # journal stamp up to which others' moves are known
        self.cleared = 0  # latest clear of anybody, as far as known
        self._unheard: set[str] = set()  # keys written to since an answer last told of moves
        self._told_at = 0  # stamp of the step whose answer last told of moves

    def open(self, incarnation: int, known: int) -> None:
        """Begin with what a new incarnation knows."""
        self._told_at, self.known = incarnation, known

    def heard_of(self, key: str) -> int:
        """Return a stamp that is as young as each move of ``key`` that the instance knows of.

        An own move may be younger than ``known``, as a stored answer brings no journal.
        """
        return max(self.known, self.cleared, self.moves.get(key, 0))

    # ------------------------------------------------------------ what is believed

    def with_beliefs(self, entries: Iterable[Entry]) -> list[Entry]:
        """Return entries that say what each own slice becomes if the store has what we believe.

        P2, exact integers.
        """
        batch: list[Entry] = []
        own: dict[str, int] = {}
        for entry in entries:
            kind, key, value, after, folded, stamp, condition, of_own, guarded = entry
            before = own.get(key)
            if before is None:
                mine = self.slices.get(key)
                before = 0 if mine is None else mine.value
            elif kind is _ADD and value:
                # If the entry before is refused, ``after`` would be wrong.
                raise ProtocolError(f"two entries of one batch add to {key!r}")
            if kind is _ADD or (kind is Kind.CLAIM and guarded):
                own[key] = total = before + value
                after = total if INT64_MIN <= total <= INT64_MAX else None
                fields = (kind, key, value, after, folded, stamp, condition, of_own, guarded)
                batch.append(made(Entry, fields))
            else:
                own[key] = value
                batch.append(entry)
        return batch

    def addition(self, key: str, value: int) -> Entry:
        """Return what `with_beliefs` makes of one entry that adds."""
        own = self.slices.get(key)
        total = value if own is None else own.value + value
        after = total if INT64_MIN <= total <= INT64_MAX else None
        return made(Entry, (_ADD, key, value, after, False, 0, None, False, False))

    def retries(self) -> list[Entry]:
        """Return entries that try withheld slices again (I12, overflow), one for each key."""
        return [self._claim(key, withheld) for key, withheld in self.withheld.oldest(MAX_ENTRIES)]

    def _claim(self, key: str, withheld: Slice) -> Entry:
        own = self.slices[key].value if key in self.slices else 0
        after = own + withheld.value
        return Entry(
            Kind.CLAIM, key, withheld.value, after if fits(after) else None, stamp=withheld.stamp
        )

    # ------------------------------------------------------- what the store has done

    def replay(self, entry: Entry, before: Previous, at: int, update: Update) -> None:
        """Do to the own copy what the store did to its own (P13, values before)."""
        kind, key, value = entry.kind, entry.key, entry.value
        stored = before.slice
        if not stored and key in self.slices and kind is not Kind.FORGET:
            # A move of another instance has taken it. The journal of this answer tells of that
            # move, or the next one will.
            update.dropped[key] = self.slices.pop(key).stamp
        if kind is _ADD:  # nearly always
            if value:
                self._write(key, stored + value, at, update)
            return
        match kind:
            case Kind.PUT:
                self.withheld.drop(key)
                self._write(key, value, at, update)
            case Kind.MOVE:
                self.withheld.drop(key)
                self.moves.pop(key, None)
                self.moves[key] = at
                if value:
                    self.slices[key] = Slice(value, at)
                else:
                    self.slices.pop(key, None)
            case Kind.CLEAR:
                self.slices.clear()
                self.withheld.clear()
                self.moves.clear()
                self.cleared = at
            case Kind.CLAIM:
                self.retry(entry, before, update)
            case _:
                pass  # it only read

    def replay_alone(self, entry: Entry, before: Previous, at: int, journal: Journal) -> bool:
        """Do as `replay` and `hear` for the only entry of a batch, which adds.

        False if the answer tells of what others have done, or is the first one after a repeated
        one: then nothing has been done.
        """
        _, key, value, *_ = entry
        stored = before.slice
        cleared, floor, latest, moves, _ = journal
        own = self.slices.get(key)
        if (
            moves
            or cleared > self.cleared
            or floor > self.known
            or self._unheard
            or (own is not None and not stored)
        ):
            return False
        if value:
            if stored + value:
                stamp = at if own is None else own.stamp
                self.slices[key] = made(Slice, (stored + value, stamp))
            elif own is not None:
                del self.slices[key]
        self._told_at = at
        self.known = max(self.known, latest)
        if self.moves:
            self._settle_moves(floor)
        return True

    def retry(self, claim: Entry, result: Result, update: Update) -> None:
        """Take in the result of a claim: of a withheld slice, or of a hold's end (P36, holds)."""
        if result is Rejection.REFUSED:
            self.withheld.put_off(claim.key)
            return
        if not claim.guarded:
            # A move or a clear may have dropped it already.
            self.withheld.remove(claim.key, Slice(claim.value, claim.stamp))
        if isinstance(result, Previous):
            self._merge(claim.key, claim.stamp, update)
            self._write(claim.key, result.slice + claim.value, claim.stamp, update)

    def _write(self, key: str, value: int, stamp: int, update: Update) -> None:
        """Make the own slice ``value``; a new one gets ``stamp``."""
        own = self.slices.get(key)
        if value:
            self.slices[key] = made(Slice, (value, stamp if own is None else own.stamp))
        elif own is not None:
            del self.slices[key]
            update.stamps.setdefault(key, own.stamp)

    def _merge(self, key: str, stamp: int, update: Update) -> None:
        """Give the own slice the older stamp, as one with ``stamp`` is to be added to it."""
        own = self.slices.get(key)
        if own is not None and own.stamp != stamp:
            older, younger = sorted((own.stamp, stamp))
            self.slices[key] = Slice(own.value, older)
            update.merged.append((key, younger, older))

    # -------------------------------------------------------- what others have done

    def hear(self, reply: Applied, entries: Sequence[Entry], update: Update) -> None:
        """Take in what the answer to a batch of ``entries`` tells of others."""
        journal = reply.journal
        if journal:  # else it is a repeated answer, which tells only of the batch
            cleared = journal.cleared
            if cleared > self.cleared:
                if cleared >= self._told_at:
                    keys = [entry.key for entry in entries]
                    self._learn_clear(cleared, chain(keys, self._unheard), update)
                else:
                    self._learn_late_clear(cleared, update)
            self._learn(journal, self.known, update)
            update.ground = self.known
            self._told(reply.at)
        else:
            update.ground = reply.at - 1
            self._unheard.update(entry.key for entry in entries)

    def hear_late(self, journal: Journal, at: int, since: int, update: Update) -> None:
        """Take in the answer to a piece of a resume, from the step ``at``; it said ``since``."""
        if journal.cleared > self.cleared:
            self._learn_late_clear(journal.cleared, update)
        self._learn(journal, since, update)
        self._told(at)

    def _told(self, at: int) -> None:
        self._told_at = at
        if self._unheard:
            self._unheard.clear()

    def _learn(self, journal: Journal, since: int, update: Update) -> None:
        """Drop slices that others' moves made void, and own moves that nobody needs any more.

        P10, learning moves; P11, forgetting moves.
        """
        if journal.moves:
            self._learn_moves(dict(journal.moves), update)
        if journal.floor > since:
            self._miss(journal.floor, update)
        self.known = max(self.known, journal.latest)
        if self.moves:
            self._settle_moves(journal.floor)

    def _settle_moves(self, floor: int) -> None:
        """Forget own moves that nobody needs any more (P11, forgetting moves)."""
        settled = max(floor, self.cleared - 1)
        for _ in range(min(len(self.moves), _SETTLED_AT_ONCE)):
            key, stamp = next(iter(self.moves.items()))
            if stamp > settled:
                break
            del self.moves[key]

    def _learn_clear(self, cleared: int, keys: Iterable[str], update: Update) -> None:
        """Drop all slices that are older than a clear; only ``keys`` can have younger ones.

        An answer that tells of moves tells of each clear before it. So a younger slice was written
        by this batch, or by one whose answer had no journal. Other keys are not looked at, as there
        may be very many.
        """
        self.cleared, update.cleared = cleared, True
        slices, younger = self.slices, dict[str, Slice]()
        for key in keys:
            if key in slices and slices[key].stamp >= cleared:
                younger[key] = slices[key]
        self.slices = younger  # at once: other threads read it
        self._drop_older_withheld(cleared)

    def _learn_late_clear(self, cleared: int, update: Update) -> None:
        """Drop all slices that are older than a clear of which this instance hears late.

        The store may have lost it, or this instance has missed it for long (P22, late moves). So
        any key may have a younger slice.
        """
        self.cleared, update.cleared = cleared, True
        self.slices = {key: own for key, own in self.slices.items() if own[1] >= cleared}
        self._drop_older_withheld(cleared)

    def _drop_older_withheld(self, epoch: int) -> None:
        if self.withheld:
            self.withheld.drop_older(dict.fromkeys(self.withheld.keys, epoch))

    def _learn_moves(self, epochs: dict[str, int], update: Update) -> None:
        for key in epochs.keys() & self.slices.keys():
            if self.slices[key].stamp < epochs[key]:
                update.dropped[key] = self.slices.pop(key).stamp
        if self.withheld:
            self.withheld.drop_older(epochs)
        update.epochs |= epochs

    def _miss(self, floor: int, update: Update) -> None:
        """Drop slices that may be void, as moves were forgotten unheard (P21, too old)."""
        for key in [key for key, own in self.slices.items() if own.stamp < floor]:
            update.dropped[key] = self.slices.pop(key).stamp
        self._drop_older_withheld(floor)
        update.missed = floor
