"""What a lax counter has counted and the store has not acknowledged yet (P29 … P32).

For each key a `Tally` holds three layers: what the store last said, what is on its way
there, and what is pending::

    value = base + in flight + pending

Counting adds to the pending layer; a flush moves pending to in flight; the answer moves
in flight into the base, or back to pending. Each of these is done in one piece, so a
reader between any two of them sees the same value (I8).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Final

from ._messages import Before, Entry, Kind, Result, Verdict
from ._values import INT64_MAX, INT64_MIN, CounterValue, fits

#: "Never", as an instant before every other.
NEVER: Final = float("-inf")

#: Two numbers up to this differ by an int64.
_NEAR: Final = 2**62 - 1


class Tally:
    """One key of a lax counter. ``assign`` stands for "replace by this, then add"."""

    __slots__ = (
        "asked",
        "assign",
        "cumulative",
        "delta",
        "dirty",
        "flight_assign",
        "flight_delta",
        "high",
        "in_flight",
        "key",
        "known",
        "low",
        "own",
        "read_at",
        "used",
    )

    def __init__(self, key: str) -> None:
        self.key = key
        self.cumulative = 0  # the store's last word
        self.own = 0
        self.asked = False  # somebody has waited for the store's word once
        self.known = False  # the store has said something of this key
        self.read_at = NEVER  # since when it has said nothing else, as far as we know
        self.in_flight = False
        self.flight_assign: int | None = None
        self.flight_delta = 0
        self.assign: int | None = None
        self.delta = 0
        self.used = False  # somebody has looked at it since it became idle
        self.dirty = False  # something is pending, and the ledger knows it
        self.low = -_NEAR  # the least and the most that ``delta`` may be at once,
        self.high = _NEAR  # see `rebound`

    @property
    def value(self) -> CounterValue:
        """The local view."""
        cumulative, own = self._without_delta()
        return CounterValue(cumulative + self.delta, own + self.delta)

    def _without_delta(self) -> tuple[int, int]:
        cumulative, own = self.cumulative, self.own
        if self.flight_assign is not None:
            cumulative += self.flight_assign - own
            own = self.flight_assign
        cumulative += self.flight_delta
        own += self.flight_delta
        if self.assign is not None:
            cumulative += self.assign - own
            own = self.assign
        return cumulative, own

    def admits(self, delta: int) -> bool:
        """Tell whether the view stays in int64 with ``delta`` pending."""
        cumulative, own = self._without_delta()
        return fits(cumulative + delta) and fits(own + delta)

    def rebound(self) -> None:
        """Work out how far ``delta`` may go without a closer look (`admits`).

        Done whenever another layer changes, so that counting is one comparison. Between
        these bounds a count is an int64 itself, whatever ``delta`` was before.
        """
        cumulative, own = self._without_delta()
        self.low = max(-_NEAR, INT64_MIN - min(cumulative, own))
        self.high = min(_NEAR, INT64_MAX - max(cumulative, own))

    def replace(self, value: int) -> None:
        """Make the own slice ``value``, whatever it was."""
        self.assign = value
        self.delta = 0
        self.rebound()

    def retire(self) -> None:
        """Let nothing be counted here any more: whoever holds this must look its key up again."""
        self.low, self.high = 1, 0

    def base(self, cumulative: int, own: int, read_at: float) -> None:
        """Take the store's word."""
        self.known = self.known or read_at != NEVER
        self.cumulative = cumulative
        self.own = own
        self.read_at = read_at
        self.rebound()

    def send(self) -> Entry | None:
        """Put what is pending in flight; None if that is nothing."""
        if self.assign is None and not self.delta:
            return None
        # Two layers together may exceed what one entry can carry: the rest waits.
        amount = self.delta if fits(self.delta) else (INT64_MAX if self.delta > 0 else INT64_MIN)
        if self.assign is not None:
            amount = self.delta
        self.in_flight = True
        self.flight_assign, self.assign = self.assign, None
        self.flight_delta = amount
        self.delta -= amount
        if self.flight_assign is not None:
            return Entry(Kind.PUT, self.key, self.flight_assign + amount)
        return Entry(Kind.ADD, self.key, amount)

    def land(self) -> None:
        """Forget what was in flight: it is in the base now, or void."""
        self.in_flight = False
        self.flight_assign = None
        self.flight_delta = 0

    def take_back(self) -> None:
        """Make what was in flight pending again."""
        if self.assign is None:
            self.assign = self.flight_assign
            self.delta += self.flight_delta
        self.land()


class Ledger:
    """The tallies of one lax counter, and which of them have something to send."""

    def __init__(self, on_dirty: Callable[[], None]) -> None:
        self.tallies: dict[str, Tally] = {}
        self.refused: dict[str, int] = {}  # {key: counts the store had to refuse}
        self._on_dirty = on_dirty
        self._dirty: dict[str, Tally] = {}  # in the order in which they were first touched
        self._sent: list[Tally] = []  # in the order of their entries
        self._seized: list[Tally] = []  # void if the clear on its way succeeds
        self._idle: dict[str, float] = {}  # {key without a slice: since when}

    @property
    def dirty(self) -> int:
        """How many keys have something to send."""
        return len(self._dirty)

    def unsettled(self) -> Counter[str]:
        """Return how many acknowledgements each key still needs."""
        keys = Counter(tally.key for tally in (*self._sent, *self._seized))
        keys.update({key: 1 if fits(tally.delta) else 2 for key, tally in self._dirty.items()})
        return keys

    def tally(self, key: str, now: float) -> Tally:
        """Return the tally of ``key``, a new one if need be."""
        tally = self.tallies.get(key)
        if tally is None:
            tally = self.tallies[key] = Tally(key)
            self._idle[key] = now
        return tally

    def touch(self, tally: Tally) -> None:
        """Note that ``tally`` has something to send."""
        tally.dirty = True
        self._dirty[tally.key] = tally
        self._on_dirty()

    # ------------------------------------------------------------------- sending

    def send(
        self, limit: int, now: float, first: Iterable[str] = ()
    ) -> tuple[list[Entry], list[str]]:
        """Put pending counts in flight, those of ``first`` in any case, ``limit`` keys in all.

        Return their entries, and the keys whose counts had cancelled each other out.
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
            entry = tally.send()
            if entry is None:
                nothing.append(key)
                self._rest(tally, now)
            else:
                entries.append(entry)
                self._sent.append(tally)
            if tally.delta:
                self.touch(tally)
        return entries, nothing

    def seize(self) -> None:
        """Put everything pending in flight without sending it: a clear will make it void (P30)."""
        for tally in self._dirty.values():
            tally.dirty = False
            tally.in_flight = True
            tally.flight_assign, tally.assign = tally.assign, None
            tally.flight_delta, tally.delta = tally.delta, 0
            self._seized.append(tally)
        self._dirty.clear()

    # ------------------------------------------------------------------- settling

    def settle(self, results: Sequence[Result], now: float) -> tuple[list[str], list[str]]:
        """Take in what became of what `send` gave out; return the keys settled and those lost."""
        settled: list[str] = []
        lost: list[str] = []
        sent, self._sent = self._sent, []
        for tally, result in zip(sent, results, strict=True):
            if result is Verdict.RETRY:
                self._back(tally)
                continue
            settled.append(tally.key)
            if isinstance(result, Before):
                own = result.slice if tally.flight_assign is None else tally.flight_assign
                own += tally.flight_delta
                tally.land()
                tally.base(result.cumulative - result.slice + own, own, now)
                self._rest(tally, now)
            else:
                # With `Verdict.UNKNOWN` the counts shared the fate of the slice they were
                # folded into: it is void since the key moved, or withheld until it fits.
                if result is Verdict.REFUSED:
                    amount = tally.flight_delta + (tally.flight_assign or 0)
                    self.refused[tally.key] = self.refused.get(tally.key, 0) + amount
                    lost.append(tally.key)
                tally.land()
                tally.read_at = NEVER
                tally.rebound()
        return settled, lost

    def unsend(self) -> None:
        """Make everything in flight pending again: it was certainly not executed."""
        sent, self._sent = self._sent, []
        for tally in sent:
            self._back(tally)

    def release(self, *, void: bool, now: float) -> list[str]:
        """End `seize`: the clear succeeded, or it did not. Return the keys that it settled."""
        seized, self._seized = self._seized, []
        for tally in seized:
            if void:
                tally.land()
                tally.rebound()
                self._rest(tally, now)
            else:
                self._back(tally)
        return [tally.key for tally in seized] if void else []

    def _back(self, tally: Tally) -> None:
        tally.take_back()
        tally.rebound()
        self.touch(tally)

    # ---------------------------------------------------------- the store's word

    def read(self, key: str, cumulative: int, own: int, now: float) -> None:
        """Take in what an immediate operation said of ``key``."""
        tally = self.tallies.get(key)
        if tally is not None:
            tally.base(cumulative, own, now)
            self._rest(tally, now)

    def moved(self, key: str, own: int, now: float) -> None:
        """Somebody moved the epoch of ``key``: the store's last word is void (P31)."""
        tally = self.tallies.get(key)
        if tally is not None:
            tally.base(tally.cumulative, own, NEVER)
            self._rest(tally, now)

    def cleared(self, own: Callable[[str], int], *, by_us: bool, now: float) -> None:
        """Somebody moved the epoch of every key."""
        for key, tally in self.tallies.items():
            tally.base(0, own(key), now if by_us else NEVER)
            self._rest(tally, now)

    # -------------------------------------------------------------------- bounds

    def _rest(self, tally: Tally, now: float) -> None:
        """Remember since when a tally holds nothing that the store does not."""
        self._idle.pop(tally.key, None)
        if not (tally.own or tally.dirty):
            self._idle[tally.key] = now

    def close(self) -> None:
        """Let nothing more be counted; what is pending stays to be reported."""
        for tally in self.tallies.values():
            tally.retire()
        self.tallies = {}

    def forget_idle(self, now: float, patience: float, limit: int = 1000) -> None:
        """Forget keys that have had no slice and no use for ``patience`` seconds (I10)."""
        for key in list(islice(self._idle, limit)):
            tally = self.tallies[key]
            since = self._idle[key]
            if since > now - patience:
                break
            del self._idle[key]
            if tally.used:
                tally.used = False
                self._idle[key] = now
            elif not (tally.own or tally.dirty or tally.in_flight):
                del self.tallies[key]
                tally.retire()
