"""Which of all waiters gets a limit's tokens next: Lamport's bakery, over live slices.

Each waiter has a *ticket*: the time of its arrival, in milliseconds of the store's clock, as far as
this process knows that clock. Each process with waiters shows the ticket of its first one: it is
the slice of the process on a key beside the limit's, so that it goes when the process dies. The
process with the smallest ticket asks for tokens; equal tickets are in the order of the instances'
ids. All other processes sleep until the store pushes notice of a change on that key.

Two kinds of mistakes are possible; neither lets in too many, as the store decides that. A ticket is
only as exact as what is known of the store's clock, and a ticket that is not shown yet is not seen.
So the order of arrivals that are less than a few round trips apart is a matter of chance.

This file is a little longer than others: whose ticket is shown, and what it shows, is one matter.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final
from weakref import WeakKeyDictionary, WeakValueDictionary

import trio

from .._actor._listening import Listener
from .._actor._operations import AtomicBatch
from .._counters._counter import InstanceAwareCounter
from .._counters._fleet import all_pages
from .._errors import StoreError
from .._instance._holds import Hold
from .._protocol._messages import Entry, Kind, Previous, QueryKind
from ._names import TICKETS, WAITING, companion

#: Seconds for which tokens may be handed on in a process at the longest. For so long it also relies
#: on it that some other process has waiters, or tokens would be handed on past those.
LONGEST_TURN: Final = 2.0
#: Seconds between two looks at the line, for each process that is before this one: its turn cannot
#: come sooner, and a look costs the store something for each instance.
_LOOK_PAUSE: Final = 0.005
_LONGEST_LOOK_PAUSE: Final = 1.0
#: Seconds after which a waiter is counted in `FleetLimiterUsage.tasks_waiting`.
_COUNTED_AFTER: Final = 0.1
#: An answer that took longer, in seconds, says nothing about the store's clock.
_LONGEST_TRIP: Final = 1.0
#: Seconds to let other processes show their tickets again, after somebody has wiped the line out.
_RECOVERY: Final = 0.1
#: How often to look once more, because the own ticket was not there.
_LOOKS: Final = 2


class Place:
    """The place of one waiter in the line."""

    __slots__ = ("arrived", "counted", "heard", "least", "polls", "ticket")

    def __init__(self, arrived: float, least: int) -> None:
        self.arrived = arrived  # by the clock of this process
        self.least = least  # its ticket must be at least this: greater than those before it
        self.ticket: int | None = None  # once it is drawn
        self.counted: Hold | None = None  # counts it in `FleetLimiterUsage.tasks_waiting`
        self.heard = self.polls = 0  # notices of the key, and polls, when it asked last


class Order:
    """The line for one key of one counter, and where this process stands in it."""

    def __init__(self, counter: InstanceAwareCounter, key: str) -> None:
        # As one of the counter's own groups of operations would, though it is no part of it.
        self._actor = counter._actor  # pyright: ignore[reportPrivateUsage]
        self._part = self._actor.of(key)  # of the namespace, that the key is in
        self._enter_hold = counter._enter_hold  # pyright: ignore[reportPrivateUsage]
        self._key = key
        partitions = len(self._actor.parts)
        self.tickets = companion(key, TICKETS, partitions)
        self.waiting = companion(key, WAITING, partitions)
        self._listener = Listener((key, self.tickets))
        self._clock: tuple[int, float] | None = None  # the store's, in ms, and ours at that time
        self._places: dict[Place, None] = {}  # of all who wait here
        self._first: dict[Place, None] = {}  # of those who are first in a limiter's line
        self._shown: Hold | None = None  # the ticket that the fleet sees
        self._showing = trio.Lock()
        self._rivals: dict[str, int] = {}  # tickets of others, when we looked last
        self._looked_at = float("-inf")
        self._heard: int = -1  # notices of the line, when the last look began
        self._polls: int = 0
        self._largest = 0  # ticket ever seen
        self._crowded_at = float("-inf")  # when somebody was found to wait elsewhere

    # ------------------------------------------------------------------ own line

    def join(self) -> Place:
        """Take a place at the end of the line, and return it."""
        place = Place(trio.current_time(), self._largest + 1)
        self._places[place] = None
        return place

    def leave(self, place: Place) -> None:
        """Give a place up. Not a checkpoint, and never fails."""
        del self._places[place]
        self._first.pop(place, None)
        if place.counted is not None:
            self._part.release(place.counted)
        if not self._places:
            if self._rivals:  # they waited when they were heard of last; nobody here looks now
                self._rivals, self._crowded_at = {}, trio.current_time()
            self._listener.resting = True
            if self._shown is not None:
                self._part.release(self._shown, at_once=True)
                self._shown = None
        elif self._first:  # of other limiters, who may be the first now
            self._listener.hint(self.tickets)

    async def count(self, place: Place) -> None:
        """Count a waiter in `FleetLimiterUsage.tasks_waiting`, if it waits for long.

        A checkpoint; what the store refuses is lost.
        """
        await trio.sleep_until(place.arrived + _COUNTED_AFTER)
        if place.counted is not None and not place.counted.void:
            return
        hold = Hold(self.waiting, 1)
        with suppress(StoreError):  # the number is for people only
            await self._enter_hold(hold, None)
            if place in self._places:
                place.counted = hold
            else:  # it was handed a token at the same moment
                self._part.release(hold)

    # ------------------------------------------------------------- the fleet's line

    @property
    def may_be_empty(self) -> bool:
        """Whether nobody waits in the fleet, as far as is known without a look."""
        return self._clock is None or not (self.is_crowded or self._first or self._shown)

    @property
    def waits_here(self) -> bool:
        """Whether somebody waits in this process, for whichever limiter."""
        return bool(self._places)

    @property
    def is_crowded(self) -> bool:
        """Whether somebody waits in another process, as far as is known without a look."""
        return bool(self._rivals) or trio.current_time() < self._crowded_at + LONGEST_TURN

    def note(self, batch: AtomicBatch, asked: float, line: Previous) -> bool:
        """Take in what a batch has found; True if tickets of others are shown."""
        now = trio.current_time()
        if now - asked < _LONGEST_TRIP or self._clock is None:
            self._clock = batch.at // 1000, now
        crowded = line.cumulative != line.slice
        self._crowded_at = now if crowded else float("-inf")
        if not crowded:
            self._rivals = {}
        return crowded

    def is_behind_others(self, place: Place) -> bool:
        """Tell whether anybody is before ``place``, here or elsewhere, as far as is known here."""
        if next(iter(self._places)) is not place:
            return True
        # Before the first look it is not known who waits elsewhere, only that somebody does.
        return bool(self._rank(place)) if self._rivals else self.is_crowded

    def look_again(self) -> None:
        """Let whoever is first ask once more: something may be free."""
        self._listener.hint(self._key)

    async def is_first(self, place: Place) -> bool:
        """Show the ticket of ``place``, and tell whether nobody in the fleet is before it.

        A checkpoint; when cancelled, the ticket may be shown. Whoever is not first has to
        `wait`, and then to ask here again.
        """
        self._part.watches.listen(self._listener)
        await self._show(place)
        hints, polls = dict(self._listener.hints), self._listener.polls
        told = hints[self.tickets] != self._heard
        if polls != self._polls:
            told = await self._changed()
        if told or self._looked_at < place.arrived:
            await self._look(place)
        self._heard, self._polls = hints[self.tickets], polls
        place.heard, place.polls = hints[self._key], polls
        return not self._rank(place)

    async def wait(self, place: Place) -> None:
        """Wait for notice of a change that concerns ``place``. A checkpoint."""
        rank = self._rank(place)
        with trio.move_on_at(place.arrived + _COUNTED_AFTER) as early:
            await self._word(place, rank)
        if early.cancelled_caught:
            await self.count(place)
            await self._word(place, rank)
        await trio.sleep_until(self._looked_at + min(_LONGEST_LOOK_PAUSE, rank * _LOOK_PAUSE))

    # --------------------------------------------------------------------- parts

    async def _word(self, place: Place, rank: int) -> None:
        """Wait for notice, since the last look, of what concerns a waiter with this rank.

        What one has found of the line holds for all; but each of those who are first asks for
        tokens itself.
        """
        listener = self._listener
        await trio.lowlevel.checkpoint()
        while not (
            listener.ended
            or listener.polls != place.polls
            or listener.hints[self.tickets] != self._heard
            or (not rank and listener.hints[self._key] != place.heard)
        ):
            await listener.wait()

    def _ticket(self, place: Place) -> int:
        if place.ticket is None:
            assert self._clock is not None  # nobody is told to wait before the store has answered
            store, ours = self._clock
            place.ticket = max(1, place.least, store + int((place.arrived - ours) * 1000))
            self._largest = max(self._largest, place.ticket)
        return place.ticket

    def _rank(self, place: Place) -> int:
        """Return how many others are known to be before ``place``: processes, and limiters here."""
        mine = (self._ticket(place), self._part.instance_id or "")
        before = sum((number, who) < mine for who, number in self._rivals.items())
        return before + sum(
            (self._ticket(other), other.arrived) < (mine[0], place.arrived)
            for other in self._heads(place)
        )

    def _heads(self, place: Place) -> dict[Place, None]:
        """Return those who are first in a limiter's line, as ``place`` is."""
        # So is whoever came first of all, and may not know it yet: the one before has just left.
        return {**self._first, next(iter(self._places), place): None}

    async def _show(self, place: Place) -> None:
        """Let the fleet see the smallest ticket here. A checkpoint."""
        async with self._showing:
            if place not in self._places:
                await trio.sleep_forever()  # it has been handed a token: this is cancelled
            self._first[place] = None
            stale = True
            while stale:
                smallest = min(map(self._ticket, self._heads(place)))
                shown, self._shown = self._shown, None
                if shown is not None and not shown.void and shown.count == smallest:
                    self._shown = shown
                    return
                hold = Hold(self.tickets, smallest)
                if shown is not None:
                    self._part.release(shown)  # and both travel as one entry, so that one is there
                await self._enter_hold(hold, None)
                if not self._places:  # it was handed a token at the same moment: this is cancelled
                    self._part.release(hold, at_once=True)
                    await trio.sleep_forever()
                self._shown = hold
                if self._part.buffer is not None:
                    await self._read()  # which takes along what a lax counter has pending
                if shown is not None and shown.void:
                    await trio.sleep(_RECOVERY)
                # The ticket's owner may have left meanwhile, and nobody else would say so.
                heads = map(self._ticket, self._heads(place))
                stale = place in self._places and smallest not in heads

    async def _look(self, place: Place) -> None:  # noqa: ASYNC910 - each look is a checkpoint
        """Find out who is before us."""
        me = self._part.instance_id or ""
        for _ in range(_LOOKS):
            now, rows = trio.current_time(), await self._slices()
            mine = rows.pop(me, 0)
            self._rivals, self._looked_at = rows, now
            self._largest = max(self._largest, *rows.values(), 0)
            if not rows:
                self._crowded_at = float("-inf")
            if self._shown is not None and mine == self._shown.count:
                break
            await self._read()  # somebody's move has made it void, and so we hear of that
            await self._show(place)

    async def _changed(self) -> bool:
        """Tell whether the line has changed since the last look; have the dead reaped, too."""
        line = await self._read()
        return line.cumulative - line.slice != sum(self._rivals.values())

    async def _read(self) -> Previous:
        batch, asked = AtomicBatch([Entry(Kind.ADD, self.tickets, 0)]), trio.current_time()
        await self._part.ask(batch)
        (line,) = batch.results
        assert isinstance(line, Previous)
        self.note(batch, asked, line)
        return line

    async def _slices(self) -> dict[str, int]:
        """Return the tickets that are shown, by instance."""
        pages = await all_pages(self._part, QueryKind.SLICES, self.tickets)
        return {name: number for page in pages for name, number, _ in page.rows if number}


_orders: WeakKeyDictionary[InstanceAwareCounter, WeakValueDictionary[str, Order]] = (
    WeakKeyDictionary()
)


def order_of(counter: InstanceAwareCounter, key: str) -> Order:
    """Return the line for a key of a counter, which all limiters on it share.

    There is one slice for all of them, so there is one place in the fleet's line, too.
    """
    of_counter = _orders.setdefault(counter, WeakValueDictionary())
    order = of_counter.get(key)
    if order is None:
        order = of_counter[key] = Order(counter, key)
    return order
