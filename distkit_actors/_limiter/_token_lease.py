"""The tokens of a fleet-wide limit, as one process has them: taken, used in turn, given back.

What one user has is a hold on the limit's key (P36, holds), which the store lets in only while the
cumulative stays within the limit (P35, conditions). It can be used by one after another here,
without asking the store again, but not for long: others may have come before.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Final

import trio

from .._actor._operations import AtomicBatch
from .._counters._counter import InstanceAwareCounter
from .._instance._holds import Hold
from .._protocol._conditions import Le
from .._protocol._messages import ConditionFailed, Entry, Kind, Previous
from ._names import FENCE, companion
from ._order import LONGEST_TURN, Order, Place, order_of

#: Seconds for which tokens may be used here by one after another, from when the store gave them
#: out: for so long, those who wait elsewhere and have not been heard of may be overtaken. It is
#: longer where the store takes longer to answer, or a process alone would wait all the time.
TURN: Final = 0.1
_TURN_IN_TRIPS: Final = 10


class Token:
    """Some places within the limit that this process has, for one user at a time."""

    __slots__ = ("cuts", "hold", "number", "returns", "turn_ends")

    def __init__(self, hold: Hold, turn_ends: float, number: int, cuts: int, returns: int) -> None:
        self.hold = hold
        self.turn_ends = turn_ends
        self.cuts = cuts  # how often the total had been set lower before it was given out
        self.returns = returns  # how often the counter had come back to the store
        self.number = number  # greater than that of any that the store gave out before

    @property
    def count(self) -> int:
        """How many it is."""
        return self.hold.count


class Tokens:
    """Takes tokens from the store and gives them back; who uses them is not its business."""

    def __init__(
        self, counter: InstanceAwareCounter, key: str, total: int, *, fencing: bool
    ) -> None:
        # As one of the counter's own groups of operations would, though it is no part of it.
        self._actor = counter._actor  # pyright: ignore[reportPrivateUsage]
        self._part = self._actor.of(key)  # of the namespace, that the key is in
        self.order: Order = order_of(counter, key)
        self._total = total
        self._cuts = 0  # how often that was set lower
        self.fencing = fencing
        self.in_use = 0  # in the fleet, by the store's last word
        self._key = key
        self._fence = companion(key, FENCE, len(self._actor.parts))
        self._turn = TURN
        self._ask_at = float("-inf")  # not before, for whoever is first now
        self._may_ask = trio.Event()  # sooner than that
        # What this process has, and somebody uses, with when that began; the oldest first. There
        # may be thousands of these, and of the others.
        self._out = OrderedDict[Token, float]()
        self._returned = OrderedDict[Token, None]()  # not long ago, the oldest first

    @property
    def total(self) -> int:
        """How many may be in use in the fleet."""
        return self._total

    @total.setter
    def total(self, total: int) -> None:
        self._cuts += total < self._total
        self._total = total
        self._let_ask()

    def check_open(self) -> None:
        """Raise what an operation of the counter would if it does not run."""
        self._actor.check_open()

    def usable(self, token: Token) -> bool:
        """Tell whether a token that is free may be used by somebody else here.

        Not if it is void, if its turn is over, or if the store has not been heard for so long
        that another process may have it by now, whether or not the counter has come back since; not
        if the total was set lower since it was given out, as more may be in use than that; and not
        if each use needs a number of its own.
        """
        over = token.turn_ends <= trio.current_time() or token.cuts < self._cuts or self.fencing
        kept = token.returns == self._part.returns and self._part.lease_valid
        return kept and not over and not token.hold.void

    async def take(self, place: Place, count: int) -> Token:
        """Get a token from the store, once ``place`` is the first in the fleet and one is free.

        A checkpoint; when cancelled, no token was taken, or it goes back by itself. Raises
        what `InstanceAwareCounter.hold` raises on entry, but for `LimitReachedError`.
        """
        order = self.order
        await self._actor.wait_open()  # else a long line would be told one by one
        if not order.is_crowded:
            # The next one is soon there, and the store need not be asked by each who is first. No
            # ticket is shown meanwhile, which would cost as much.
            with trio.move_on_at(min(self._ask_at, self._hands_on_until(count))):
                await self._may_ask.wait()
        self._ask_at = trio.current_time() + self._turn
        if order.may_be_empty and (token := await self._ask(count, in_line=False)) is not None:
            return token
        while True:  # noqa: ASYNC913 - each step is a checkpoint
            await self._actor.wait_open()
            if await order.is_first(place):
                token = await self._ask(count, in_line=True)
                if token is not None:
                    return token
            await order.wait(place)

    async def _ask(self, count: int, *, in_line: bool) -> Token | None:  # noqa: ASYNC910 - asking is a checkpoint
        """Ask the store once; None if there is none for us.

        Whoever is not in line is let in only while nobody is: what is taken out of turn goes back.
        """
        hold, order = Hold(self._key, count), self.order
        entries = [
            Entry(Kind.ADD, self._key, count, condition=Le(self._room(count))),
            Entry(Kind.ADD, order.tickets, 0),
        ]
        if self.fencing:
            # What is made from nothing uses the stamp of its step up: no other step has that, and
            # later ones have greater ones (P6, one clock).
            entries += [Entry(Kind.PUT, self._fence, 0), Entry(Kind.PUT, self._fence, 1)]
        batch, asked, cuts = AtomicBatch(entries, hold), trio.current_time(), self._cuts
        await self._part.ask(batch)
        found, line = batch.results[:2]
        assert isinstance(found, Previous | ConditionFailed)
        assert isinstance(line, Previous)
        self.in_use = found.cumulative
        trip = trio.current_time() - asked
        self._turn = min(max(TURN, _TURN_IN_TRIPS * trip), LONGEST_TURN)
        crowded = order.note(batch, asked, line)
        if isinstance(found, ConditionFailed):
            return None
        # If the lease is over, the counter has been stopped since, or the answer has been on its
        # way for so long that the slice may be gone. If there are fewer tokens in all by now, more
        # may be in use than that, also if there were none when the store gave this one out: it has
        # given others out since. The next try says which.
        doubtful = cuts < self._cuts or not self._part.lease_valid
        if (crowded and not in_line) or doubtful:
            self._part.release(hold, at_once=True)
            return None
        self.in_use += count
        self._ask_at = float("-inf")
        now = trio.current_time()
        token = Token(hold, now + self._turn, batch.at, cuts, self._part.returns)
        self._out[token] = now
        return token

    def _hands_on_until(self, count: int) -> float:
        """Return until when so many tokens may be handed on here, if their user is done by then.

        The token that was taken last has most of its turn left.
        """
        now = trio.current_time()
        for token, since in reversed(self._out.items()):
            if since + LONGEST_TURN <= now:
                break  # nobody's turn lasts longer, and there may be thousands
            if token.count == count and self.usable(token):
                return token.turn_ends
        return float("-inf")

    def _let_ask(self) -> None:
        self._ask_at = float("-inf")
        self._may_ask.set()
        self._may_ask = trio.Event()

    def _room(self, count: int) -> int:
        """Return how many tokens may be in use before ``count`` more are taken."""
        if count > self.total:
            raise ValueError(
                f"{count} tokens can never be had: total_tokens has been set to {self.total}"
            )
        return self.total - count

    def give_back(self, token: Token) -> None:
        """Let the store have a token again, with the next batch. Never fails."""
        del self._out[token]
        self._part.release(token.hold)
        self._drop_unusable(iter)
        self._returned[token] = None
        self._let_ask()
        self.order.look_again()

    def _drop_unusable(self, order: Callable[[OrderedDict[Token, None]], Iterator[Token]]) -> None:
        """Forget, from one end on, what was given back and cannot be handed on any more."""
        while self._returned and not self.usable(token := next(order(self._returned))):
            del self._returned[token]

    def retrieve(self, count: int) -> Token | None:
        """Return what was given back and is not sent yet, if there is something.

        Not if somebody is known to wait elsewhere, for whom it may have been given back.
        """
        if self.order.is_crowded:
            return None
        self._drop_unusable(reversed)
        for token in reversed(self._returned):
            if token.count == count and self.usable(token):
                # What was given back before has been sent before.
                del self._returned[token]
                if not self._part.cancel_release(token.hold):
                    return None
                self._out[token] = trio.current_time()
                return token
        return None
