"""What a lax counter has counted and the store has not acknowledged yet (P29 … P32).

For each key it keeps a `Tally`; here is which of them have something to send, and what
becomes of that.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from ._holds import Hold
from ._messages import Before, Entry, Result, Slice, Verdict
from ._tally import NEVER, Tally


class Settled(NamedTuple):
    """What became of counts that were sent."""

    keys: list[str]
    """That need one acknowledgement less."""
    lost: list[str]
    """That the store had to refuse counts of."""
    landed: list[Hold]
    """Whose additions are in the store, or share the fate of the own slice (P20)."""
    ended: list[Hold]
    """Whose additions have been taken back."""
    postponed: list[Hold]
    """Whose additions the store has no room to take back now."""


class _Clear(NamedTuple):
    """The last clear."""

    own: Callable[[str], int]
    """What the own slice of a key is."""
    by_us: bool
    at: float


def _nothing(_: str) -> int:
    return 0


class Ledger:
    """The tallies of one lax counter, and which of them have something to send."""

    def __init__(self, on_dirty: Callable[[str], None]) -> None:
        self.tallies: dict[str, Tally] = {}
        self.refused: dict[str, int] = {}  # {key: counts the store had to refuse}
        self._on_dirty = on_dirty
        # Ordered dicts, as the first of a plain one is found behind the places of all that left.
        self._dirty: OrderedDict[str, Tally] = OrderedDict()  # as they were first touched
        self._sent: list[Tally] = []  # in the order of their entries
        self._seized: list[Tally] = []  # void if the clear on its way succeeds
        self._replaced: list[Hold] = []  # additions that went with all the rest
        # Tallies with nothing to send that nobody has looked at since the last clear.
        self._before: dict[str, Tally] = {}
        self._clear = _Clear(_nothing, by_us=True, at=0.0)
        self._idle: OrderedDict[str, float] = OrderedDict()  # {key without a slice: since when}

    @property
    def dirty(self) -> int:
        """How many keys have something to send."""
        return len(self._dirty)

    @property
    def pending(self) -> int:
        """How many keys have counts that are not acknowledged. Any thread may ask."""
        # Each is copied in one piece: the counter's thread may go on meanwhile.
        parts = (tuple(self._sent), tuple(self._seized), tuple(self._dirty.values()))
        return len({tally for part in parts for tally in part})

    def unsettled(self) -> dict[Tally, int]:
        """Return what is pending or in flight, and the number that settles it (`Tally.sent`)."""
        numbers = {tally: tally.sent + 1 for tally in self._dirty.values()}
        for tally in (*self._sent, *self._seized):
            numbers.setdefault(tally, tally.sent)
        return numbers

    def tally(self, key: str, now: float) -> Tally:
        """Return the tally of ``key``, a new one if need be."""
        tally = self.find(key)
        if tally is None:
            tally = self.tallies[key] = Tally(key)
            self._idle[key] = now
        return tally

    def find(self, key: str) -> Tally | None:
        """Return the tally of ``key`` if there is one."""
        tally = self.tallies.get(key)
        if tally is None and key in self._before:
            tally = self.tallies[key] = self._before.pop(key)
            self._void(tally, self._clear)
            self._rest(tally, self._clear.at)
        return tally

    def touch(self, tally: Tally) -> None:
        """Note that ``tally`` has something to send."""
        tally.dirty = True
        tally.rebound()
        self._dirty[tally.key] = tally
        self._on_dirty(tally.key)

    def replace(self, tally: Tally, value: int) -> None:
        """Make the own slice of a key ``value``, whatever it was, and was to become."""
        self._replaced += tally.back
        tally.replace(value)
        if not tally.dirty:
            self.touch(tally)

    # ------------------------------------------------------------------- sending

    def send(
        self, limit: int, now: float, own: Mapping[str, Slice], first: Iterable[str] = ()
    ) -> tuple[list[Entry], list[str]]:
        """Put pending counts in flight, those of ``first`` in any case, ``limit`` keys in all.

        ``own``: the slices that the store holds. Return their entries, and the keys whose counts
        had cancelled each other out.
        """
        chosen = {key: self._dirty[key] for key in first if key in self._dirty}
        for key, tally in self._dirty.items():
            if len(chosen) >= limit:
                break
            chosen[key] = tally
        entries: list[Entry] = []
        nothing: list[str] = []
        for key, tally in chosen.items():
            del self._dirty[key]
            tally.dirty = False
            tally.rebound()
            entry = tally.send(own.get(key))
            if entry is None:
                nothing.append(key)
                self._rest(tally, now)
            else:
                entries.append(entry)
                self._sent.append(tally)
            if tally.pending:
                self.touch(tally)
        return entries, nothing

    def seize(self) -> None:
        """Put everything pending in flight without sending it: a clear will make it void (P30)."""
        for tally in self._dirty.values():
            tally.dirty = False
            tally.seize()
            tally.rebound()
            self._seized.append(tally)
        self._dirty.clear()

    # ------------------------------------------------------------------- settling

    def _settled(self) -> Settled:
        replaced, self._replaced = self._replaced, []
        return Settled([], [], [], replaced, [])

    def settle(self, results: Sequence[Result], now: float) -> Settled:
        """Take in what became of what `send` gave out."""
        settled = self._settled()
        sent, self._sent = self._sent, []
        for tally, result in zip(sent, results, strict=True):
            if result is Verdict.RETRY or result is Verdict.MOVED:
                self._back(tally)
                continue
            settled.keys.append(tally.key)
            if tally.flight_back and result is not Verdict.REFUSED:
                settled.ended.extend(tally.flight_back)
            if isinstance(result, Before):
                if tally.flight_holds:
                    settled.landed.extend(tally.flight_holds)
                own = result.slice if tally.flight_assign is None else tally.flight_assign
                own += tally.flight_delta
                tally.land()
                tally.base(result.cumulative - result.slice + own, own, now)
                self._rest(tally, now)
            else:
                # With `Verdict.UNKNOWN` the counts shared the fate of the slice they were
                # folded into: it is void since the key moved, or withheld until it fits.
                if result is Verdict.REFUSED:
                    self._refuse(tally, settled)
                else:
                    settled.landed.extend(tally.flight_holds)
                tally.land()
                tally.read_at = NEVER
                tally.rebound()
        return settled

    def _refuse(self, tally: Tally, settled: Settled) -> None:
        """Counts are dropped (P32); what somebody has still to take back is not."""
        settled.postponed.extend(tally.flight_back)
        amount = tally.flight_delta + (tally.flight_assign or 0)
        amount += sum(hold.count for hold in tally.flight_back)
        for hold in tally.flight_holds:
            hold.void = True
            tally.void(hold)
        if amount or tally.flight_assign is not None:
            self.refused[tally.key] = self.refused.get(tally.key, 0) + amount
            settled.lost.append(tally.key)

    def unsend(self) -> None:
        """Make everything in flight pending again: it was certainly not executed."""
        sent, self._sent = self._sent, []
        for tally in sent:
            self._back(tally)

    def release(self, *, void: bool, now: float) -> Settled:
        """End `seize`: the clear succeeded, after what was pending, or it did not."""
        settled = self._settled()
        seized, self._seized = self._seized, []
        for tally in seized:
            if void:
                settled.keys.append(tally.key)
                settled.landed.extend(tally.flight_holds)
                settled.ended.extend(tally.flight_back)
                tally.land()
                tally.rebound()
                self._rest(tally, now)
            else:
                self._back(tally)
        return settled

    def _back(self, tally: Tally) -> None:
        if tally.assign is not None:
            self._replaced += tally.flight_back
        tally.take_back()
        tally.rebound()
        self.touch(tally)

    # --------------------------------------------------------------------- holds

    def give_back(self, hold: Hold) -> None:
        """Take an addition back with the next flush; at once in the local view."""
        if not hold.void:
            tally = self.tally(hold.key, NEVER)
            tally.give_back(hold)
            if not tally.dirty:
                self.touch(tally)

    def keep(self, hold: Hold) -> bool:
        """Undo `give_back`, if that is not sent yet; False if it is too late."""
        tally = self.tallies.get(hold.key)
        if tally is None or hold not in tally.back:
            return False
        tally.void(hold)
        return True

    def void(self, hold: Hold) -> None:
        """There is nothing to take back any more."""
        if hold.key in self.tallies:
            self.tallies[hold.key].void(hold)

    # ---------------------------------------------------------- the store's word

    def read(self, key: str, cumulative: int, own: int, now: float) -> None:
        """Take in what an immediate operation said of ``key``."""
        tally = self.find(key)
        if tally is not None:
            tally.base(cumulative, own, now)
            self._rest(tally, now)

    def moved(self, key: str, own: int, now: float) -> None:
        """Somebody moved the epoch of ``key``: the store's last word, if any, is void (P31)."""
        tally = self.find(key)
        if tally is not None and tally.known:
            tally.base(tally.cumulative, own, NEVER)
            self._rest(tally, now)

    def cleared(self, own: Callable[[str], int], *, by_us: bool, now: float) -> None:
        """Somebody moved the epoch of every key.

        There may be very many, so those with nothing to send learn of it when somebody looks at
        them (`find`). Whom nobody has looked at since the clear before is forgotten.
        """
        self._clear = _Clear(own, by_us, now)
        self._before, self.tallies = self.tallies, {}
        self._idle = OrderedDict()
        for tally in (*self._dirty.values(), *self._sent, *self._seized):
            self._before.pop(tally.key, None)
            self.tallies[tally.key] = tally
            self._void(tally, self._clear)
            self._rest(tally, now)

    def _void(self, tally: Tally, clear: _Clear) -> None:
        if clear.by_us or tally.known:
            tally.base(0, clear.own(tally.key), clear.at if clear.by_us else NEVER)

    # -------------------------------------------------------------------- bounds

    def _rest(self, tally: Tally, now: float) -> None:
        """Remember since when a tally holds nothing that the store does not."""
        self._idle.pop(tally.key, None)
        if not (tally.own or tally.dirty):
            self._idle[tally.key] = now

    def close(self) -> None:
        """Let nothing more be counted; what is pending stays to be reported."""
        for tally in self._dirty.values():  # all others are retired
            tally.retire()
        self.tallies, self._before = {}, {}

    def forget_idle(self, now: float, patience: float, limit: int = 1000) -> None:
        """Forget keys that have had no slice and no use for ``patience`` seconds (I10)."""
        if self._before and self._clear.at <= now - patience:
            self._before = {}
        for _ in range(min(limit, len(self._idle))):
            key, since = next(iter(self._idle.items()))
            if since > now - patience:
                break
            tally = self.tallies[key]
            del self._idle[key]
            if tally.used:
                tally.used = False
                self._idle[key] = now
            elif not (tally.own or tally.dirty or tally.in_flight):
                del self.tallies[key]
                tally.retire()
