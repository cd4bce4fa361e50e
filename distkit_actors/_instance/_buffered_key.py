"""One key of a lax counter: what the store last said, what is on its way, what is pending.

::

    value = base + in flight + pending

Counting adds to the pending layer; a flush moves pending to in flight; the answer moves
in flight into the base, or back to pending. Each of these is done at once, so a
reader between any two of them sees the same value (I8, own reads).
"""

from __future__ import annotations

from typing import Final, TypeAlias

from .._protocol._messages import Entry, Kind, Slice, made
from .._protocol._values import INT64_MAX, INT64_MIN, CounterValue, fits
from ._holds import Hold

#: "Never", as an instant before every other.
NEVER: Final = float("-inf")

#: Counting is quick up to this much pending: CPython compares numbers below 2**30 without a call.
#: Beyond it each count takes the closer look, for example while the store is away for long.
_NEAR: Final = 2**30 - 1
#: From more than this a count that is no int64 could lead back to there.
_FAR: Final = INT64_MAX - _NEAR
#: Holds in their order, each found at once: there may be very many on one key (I10, bounds).
_Holds: TypeAlias = dict[Hold, None]
#: Most keys never have a hold, so all that have none share this one, which nobody changes.
_NONE: Final[_Holds] = {}


class BufferedKey:
    """One key of a lax counter. ``assign`` stands for "replace by this, then add"."""

    __slots__ = (
        "acknowledged",
        "asked",
        "assign",
        "cumulative",
        "delta",
        "dirty",
        "flight_assign",
        "flight_delta",
        "flight_holds",
        "flight_number",
        "flight_releases",
        "flight_replaced",
        "has_base",
        "high",
        "in_flight",
        "key",
        "low",
        "own",
        "read_at",
        "sent",
        "unsent_holds",
        "unsent_releases",
        "unsent_replaced",
        "used",
    )

    def __init__(self, key: str) -> None:
        self.key = key
        self.cumulative = 0  # the store's last word
        self.own = 0
        self.asked = False  # a caller has waited for the store's value before
        self.has_base = False  # the store has told its value of this key before
        self.read_at = NEVER  # when it told that; `NEVER` also if an epoch has moved since
        self.in_flight = False
        self.flight_assign: int | None = None
        self.flight_delta = 0
        self.assign: int | None = None
        self.delta = 0
        # A flight that leaves nothing pending gets a number, any other one gets 0. A flush waits
        # for the number of the flight that has the last of what was pending when it was called.
        self.sent = 0
        self.flight_number = 0
        self.acknowledged = 0
        # Holds whose additions are not sent yet, and are on their way; and holds whose releases are
        # not sent yet, and are on their way. Their counts are in ``delta`` and ``flight_delta``.
        self.unsent_holds: _Holds = _NONE
        self.flight_holds: _Holds = _NONE
        self.unsent_releases: _Holds = _NONE
        self.flight_releases: _Holds = _NONE
        # Holds whose additions a new value replaces: one that is not sent yet, or is on its way.
        self.unsent_replaced: _Holds = _NONE
        self.flight_replaced: _Holds = _NONE
        self.used = False  # somebody has looked at it since it became idle
        self.dirty = False  # something is pending, and the write buffer knows it
        self.low, self.high = 1, 0  # the least and the most ``delta`` may be; see `update_bounds`

    @property
    def value(self) -> CounterValue:
        """The local view."""
        cumulative, own = self._without_delta()
        return made(CounterValue, (cumulative + self.delta, own + self.delta))

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

    def update_bounds(self) -> None:
        """Work out how far ``delta`` may go without a closer look (`admits`).

        Done whenever another layer changes, so that counting is one comparison. Between
        these bounds a count is an int64 itself. The first count after a flush takes the closer
        look, because the write buffer has to hear of it; so does each one while very much is
        pending.
        """
        if not self.dirty or not -_FAR <= self.delta <= _FAR:
            self.invalidate()
            return
        cumulative, own = self._without_delta()
        self.low = max(-_NEAR, INT64_MIN - min(cumulative, own))
        self.high = min(_NEAR, INT64_MAX - max(cumulative, own))

    def replace(self, value: int) -> None:
        """Make the own slice ``value``, whatever it was."""
        self.assign = value
        self.delta = 0
        self.unsent_replaced = _joined(self.unsent_replaced, self.unsent_releases)
        self.unsent_releases = _NONE
        self.update_bounds()

    def invalidate(self) -> None:
        """Let nothing be counted here any more: whoever holds this must look its key up again."""
        self.low, self.high = 1, 0

    def base(self, cumulative: int, own: int, read_at: float) -> None:
        """Make the store's value the base; ``read_at`` is `NEVER` if it is not to be relied on."""
        self.has_base = self.has_base or read_at != NEVER
        self.cumulative = cumulative
        self.own = own
        self.read_at = read_at
        self.update_bounds()

    @property
    def pending(self) -> bool:
        """Whether there is something to send."""
        return bool(
            self.assign is not None or self.delta or self.unsent_holds or self.unsent_releases
        )

    @property
    def counted(self) -> bool:
        """Whether more is pending or in flight than beginnings and ends of holds."""
        if self.assign is not None or self.flight_assign is not None:
            return True
        unsent = _total(self.unsent_holds) - _total(self.unsent_releases)
        flight = _total(self.flight_holds) - _total(self.flight_releases)
        return self.delta != unsent or self.flight_delta != flight

    def send(self, own: Slice | None) -> Entry | None:
        """Put what is pending in flight, and return its entry; None if nothing is pending.

        ``own`` is the slice in the store. If a hold is taken back from another slice than that, the
        entry is a claim, which makes the two one slice (P36, holds).
        """
        if not self.pending:
            self.sent += 1
            self.acknowledged = self.sent
            return None
        other = self._of_another(own) if self.unsent_releases else _NONE
        later = 0
        if other and self.assign is not None:
            # They are taken back in a later step, from the value that this one puts.
            later = -sum(hold.count for hold in other)
        # Two layers together may exceed what one entry can carry: the rest waits.
        amount = self.delta if fits(self.delta) else (INT64_MAX if self.delta > 0 else INT64_MIN)
        put_off = False
        if self.assign is not None:
            amount = self.delta - later
            if put_off := not fits(self.assign + amount):
                # Only what is taken back can lead there. It goes in a later step, by itself, and
                # waits for room if it must.
                amount = self.delta + sum(hold.count for hold in self.unsent_releases)
                amount = min(max(amount, INT64_MIN - self.assign), INT64_MAX - self.assign)
        self.in_flight = True
        self.flight_assign, self.assign = self.assign, None
        self.flight_delta = amount
        self.delta -= amount
        self.flight_holds, self.unsent_holds = self.unsent_holds, _NONE
        self.flight_releases, self.unsent_releases = self.unsent_releases, _NONE
        self.flight_replaced, self.unsent_replaced = self.unsent_replaced, _NONE
        if put_off:
            self.unsent_releases, self.flight_releases = self.flight_releases, _NONE
        elif self.flight_assign is not None and other:
            for hold in other:
                del self.flight_releases[hold]
            self.unsent_releases = other
        self._number()
        guarded = bool(self.flight_releases)
        if self.flight_assign is not None:
            return Entry(Kind.PUT, self.key, self.flight_assign + amount, guarded=guarded)
        if other:
            stamp = min(hold.at for hold in other)
            return Entry(Kind.CLAIM, self.key, amount, stamp=stamp, guarded=True)
        return Entry(Kind.ADD, self.key, amount, guarded=guarded)

    def _of_another(self, own: Slice | None) -> _Holds:
        """Return what is to be taken back from slices that are gone, or not in the store."""
        stamp = None if own is None else own.stamp
        return {hold: None for hold in self.unsent_releases if hold.at != stamp}

    def _number(self) -> None:
        self.flight_number = 0
        if not self.pending:
            self.sent += 1
            self.flight_number = self.sent

    def stage(self) -> None:
        """Put what is pending in flight without sending it."""
        self.sent += 1
        self.flight_number = self.sent
        self.in_flight = True
        self.flight_assign, self.assign = self.assign, None
        self.flight_delta, self.delta = self.delta, 0
        self.flight_holds, self.unsent_holds = self.unsent_holds, _NONE
        self.flight_releases, self.unsent_releases = self.unsent_releases, _NONE
        self.flight_replaced, self.unsent_replaced = self.unsent_replaced, _NONE

    def acknowledge(self) -> None:
        """Forget what was in flight: it is in the base now, or void."""
        self.acknowledged = max(self.acknowledged, self.flight_number)
        self._empty()

    def _empty(self) -> None:
        self.in_flight = False
        self.flight_assign = None
        self.flight_delta = 0
        self.flight_holds = self.flight_releases = self.flight_replaced = _NONE

    def take_back(self) -> None:
        """Make what was in flight pending again."""
        if self.assign is None:
            self.assign = self.flight_assign
            self.delta += self.flight_delta
            self.unsent_releases = _joined(self.flight_releases, self.unsent_releases)
            self.unsent_replaced = self.flight_replaced
        else:  # which replaces what was in flight, too
            replaced = _joined(self.flight_replaced, self.flight_releases)
            self.unsent_replaced = _joined(replaced, self.unsent_replaced)
        self.unsent_holds = _joined(self.flight_holds, self.unsent_holds)
        # What was taken back before it was ever added has cancelled out.
        for hold in self.unsent_holds.keys() & self.unsent_releases.keys():
            self.unsent_holds = _without(self.unsent_holds, hold)
            self.unsent_releases = _without(self.unsent_releases, hold)
        for hold in [hold for hold in self.unsent_releases if hold.void]:
            self.void(hold)
        self._empty()

    def hold(self, hold: Hold) -> None:
        """Note that what was just added is to be taken back one day."""
        self.unsent_holds = _joined(self.unsent_holds, {hold: None})

    def give_back(self, hold: Hold) -> None:
        """Take an addition back: at once if it is not sent yet, else with the next flush."""
        if hold in self.unsent_holds:
            self.unsent_holds = _without(self.unsent_holds, hold)
        else:
            self.unsent_releases = _joined(self.unsent_releases, {hold: None})
        self.delta -= hold.count

    def void(self, hold: Hold) -> None:
        """Note that nothing is to be taken back."""
        if hold in self.unsent_releases:
            self.unsent_releases = _without(self.unsent_releases, hold)
            self.delta += hold.count


def _without(holds: _Holds, hold: Hold) -> _Holds:
    del holds[hold]
    return holds or _NONE


def _joined(first: _Holds, second: _Holds) -> _Holds:
    """Return both; ``first`` is changed, so it must belong to one attribute only, or be empty."""
    if not first:
        return second
    first.update(second)
    return first


def _total(holds: _Holds) -> int:
    return sum(hold.count for hold in holds)
