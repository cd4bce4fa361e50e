"""One key of a lax counter: what the store last said, what is on its way, what is pending.

::

    value = base + in flight + pending

Counting adds to the pending layer; a flush moves pending to in flight; the answer moves
in flight into the base, or back to pending. Each of these is done in one piece, so a
reader between any two of them sees the same value (I8).
"""

from __future__ import annotations

from typing import Final

from ._holds import Hold
from ._messages import Entry, Kind, Slice
from ._values import INT64_MAX, INT64_MIN, CounterValue, fits

#: "Never", as an instant before every other.
NEVER: Final = float("-inf")

#: Counting is quick up to this much pending: CPython compares numbers below 2**30 without a call.
#: Beyond it each count takes the closer look, as it does while the store is away for long.
_NEAR: Final = 2**30 - 1


class Tally:
    """One key of a lax counter. ``assign`` stands for "replace by this, then add"."""

    __slots__ = (
        "acknowledged",
        "asked",
        "assign",
        "back",
        "cumulative",
        "delta",
        "dirty",
        "flight_assign",
        "flight_back",
        "flight_delta",
        "flight_holds",
        "flight_number",
        "fresh",
        "high",
        "in_flight",
        "key",
        "known",
        "low",
        "own",
        "read_at",
        "sent",
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
        # Everything pending that is put in flight gets a number (0: only a part of it was), so
        # that one who waits knows when all that was pending once has been acknowledged.
        self.sent = 0
        self.flight_number = 0
        self.acknowledged = 0
        # ``delta`` has them in it: additions of holds that are not sent yet, and those on
        # their way; additions in the store that are to be taken back, and those being so.
        self.fresh: tuple[Hold, ...] = ()
        self.flight_holds: tuple[Hold, ...] = ()
        self.back: tuple[Hold, ...] = ()
        self.flight_back: tuple[Hold, ...] = ()
        self.used = False  # somebody has looked at it since it became idle
        self.dirty = False  # something is pending, and the ledger knows it
        self.low, self.high = 1, 0  # the least and the most ``delta`` may be, see `rebound`

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
        these bounds a count is an int64 itself, whatever ``delta`` was before. The first count
        after a flush takes the closer look, because the ledger has to hear of it.
        """
        if not self.dirty:
            self.retire()
            return
        cumulative, own = self._without_delta()
        self.low = max(-_NEAR, INT64_MIN - min(cumulative, own))
        self.high = min(_NEAR, INT64_MAX - max(cumulative, own))

    def replace(self, value: int) -> None:
        """Make the own slice ``value``, whatever it was."""
        self.assign = value
        self.delta = 0
        self.back = ()  # replaced with all the rest
        self.rebound()

    def retire(self) -> None:
        """Let nothing be counted here any more: whoever holds this must look its key up again."""
        self.low, self.high = 1, 0

    def base(self, cumulative: int, own: int, read_at: float) -> None:
        """Take the store's word; until then the base is 0, and others know that it says nothing."""
        self.known = self.known or read_at != NEVER
        self.cumulative = cumulative
        self.own = own
        self.read_at = read_at
        self.rebound()

    @property
    def pending(self) -> bool:
        """Whether there is something to send."""
        return bool(self.assign is not None or self.delta or self.fresh or self.back)

    def send(self, own: Slice | None) -> Entry | None:
        """Put what is pending in flight; None if that is nothing. ``own``: the slice in the store.

        What is taken back from another slice makes the own one a part of that (P36).
        """
        if not self.pending:
            self.sent += 1
            self.acknowledged = self.sent
            return None
        other = self._of_another(own) if self.back else ()
        later = 0
        if other and self.assign is not None:
            # It is taken from what is put, and not in the same step.
            later = -sum(hold.count for hold in other)
        # Two layers together may exceed what one entry can carry: the rest waits.
        amount = self.delta if fits(self.delta) else (INT64_MAX if self.delta > 0 else INT64_MIN)
        if self.assign is not None:
            amount = self.delta - later
        self.in_flight = True
        self.flight_assign, self.assign = self.assign, None
        self.flight_delta = amount
        self.delta -= amount
        self.flight_holds, self.fresh = self.fresh, ()
        self.flight_back, self.back = self.back, ()
        if self.flight_assign is not None and other:
            self.flight_back = tuple(hold for hold in self.flight_back if hold not in other)
            self.back = other
        self._number()
        guarded = bool(self.flight_back)
        if self.flight_assign is not None:
            return Entry(Kind.PUT, self.key, self.flight_assign + amount, guarded=guarded)
        if other:
            stamp = min(hold.at for hold in other)
            return Entry(Kind.CLAIM, self.key, amount, stamp=stamp, guarded=True)
        return Entry(Kind.ADD, self.key, amount, guarded=guarded)

    def _of_another(self, own: Slice | None) -> tuple[Hold, ...]:
        """Return what is to be taken back from slices that are gone, or not in the store."""
        stamp = None if own is None else own.stamp
        return tuple(hold for hold in self.back if hold.at != stamp)

    def _number(self) -> None:
        self.flight_number = 0
        if not self.pending:
            self.sent += 1
            self.flight_number = self.sent

    def seize(self) -> None:
        """Put what is pending in flight without sending it."""
        self.sent += 1
        self.flight_number = self.sent
        self.in_flight = True
        self.flight_assign, self.assign = self.assign, None
        self.flight_delta, self.delta = self.delta, 0
        self.flight_holds, self.fresh = self.fresh, ()
        self.flight_back, self.back = self.back, ()

    def land(self) -> None:
        """Forget what was in flight: it is in the base now, or void."""
        self.acknowledged = max(self.acknowledged, self.flight_number)
        self._empty()

    def _empty(self) -> None:
        self.in_flight = False
        self.flight_assign = None
        self.flight_delta = 0
        self.flight_holds = self.flight_back = ()

    def take_back(self) -> None:
        """Make what was in flight pending again."""
        if self.assign is None:
            self.assign = self.flight_assign
            self.delta += self.flight_delta
            self.back = (*self.flight_back, *self.back)
        self.fresh = (*self.flight_holds, *self.fresh)
        # What was taken back before it was ever added has cancelled out.
        never = set(self.fresh) & set(self.back)
        self.fresh = tuple(hold for hold in self.fresh if hold not in never)
        self.back = tuple(hold for hold in self.back if hold not in never)
        for hold in self.back:
            if hold.void:
                self.void(hold)
        self._empty()

    def hold(self, hold: Hold) -> None:
        """Note that what was just added is to be taken back one day."""
        self.fresh = (*self.fresh, hold)

    def give_back(self, hold: Hold) -> None:
        """Take an addition back: at once if it is not sent yet, else with the next flush."""
        if hold in self.fresh:
            self.fresh = tuple(other for other in self.fresh if other is not hold)
        else:
            self.back = (*self.back, hold)
        self.delta -= hold.count

    def void(self, hold: Hold) -> None:
        """There is nothing to take back any more."""
        if hold in self.back:
            self.back = tuple(other for other in self.back if other is not hold)
            self.delta += hold.count
