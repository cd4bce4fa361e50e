"""The tokens of a fleet-wide limit, as one process has them: taken, used in turn, given back.

A token is a hold on the limit's key (P36, holds), which the store lets in only while the cumulative
stays within the limit (P35, conditions). It can be used by one after another here, without asking
the store again, but not for ever: other processes can only wait for what comes back.
"""

from __future__ import annotations

import random
from typing import Final

import trio

from .._counters._counter import InstanceAwareCounter
from .._errors import OutcomeUnknownError
from .._instance._holds import Hold
from .._protocol._conditions import Le

#: Pauses between two questions to the store, in seconds: the first is about as long as a
#: short use of a token, the longest costs the store a few operations a second from each
#: process in which somebody waits. They double in between, with jitter.
_FIRST_PAUSE: Final = 0.01
LONGEST_PAUSE: Final = 0.25
#: Seconds for which a token whose turn is over is left to others: all who wait ask once.
COURTESY: Final = 1.2 * LONGEST_PAUSE
#: Seconds for which a token may be used here by one after another, at least and at most:
#: about ten times the courtesy that it costs. Drawn at random, so that not all go at once.
SHORTEST_TURN: Final = 2.0
LONGEST_TURN: Final = 4.0


class Token:
    """One place within the limit that this process has."""

    __slots__ = ("hold", "turn_ends")

    def __init__(self, hold: Hold, turn_ends: float) -> None:
        self.hold = hold
        self.turn_ends = turn_ends


class Tokens:
    """Takes tokens from the store and gives them back; who uses them is not its business."""

    def __init__(self, counter: InstanceAwareCounter, key: str, total: int) -> None:
        # As one of the counter's own groups of operations would, though it is no part of it.
        self._actor = counter._actor  # pyright: ignore[reportPrivateUsage]
        self._part = self._actor.of(key)  # of the namespace, that the key is in
        self._enter_hold = counter._enter_hold  # pyright: ignore[reportPrivateUsage]
        self._key = key
        self._total = total
        self._failures = 0  # questions since a token was free, as far as is known here
        self._ask_at = float("-inf")  # not before
        # Those given back, oldest first, until others have had a chance to take them. What is
        # taken before that is thought to be one of them, so that its turn goes on.
        self._returned: dict[Token, float] = {}

    def check_open(self) -> None:
        """Raise what an operation of the counter would if it does not run."""
        self._actor.check_open()

    def usable(self, token: Token) -> bool:
        """Tell whether a token that is free may be used by somebody else here.

        Not if it is void, if its turn is over, or if the store has not been heard for so long
        that another process may have it by now.
        """
        over = token.turn_ends <= trio.current_time()
        return not over and not token.hold.void and self._part.lease_valid

    async def take(self) -> Token | None:
        """Ask the store for a token, as soon as it may be asked; None if there is none for us.

        A checkpoint; when cancelled, no token was taken, or it goes back by itself. Raises
        what `InstanceAwareCounter.hold` raises on entry, but for `LimitReachedError`.
        """
        await self._actor.wait_open()  # else a long line would be told one by one
        if trio.current_time() < self._ask_at:
            await trio.sleep_until(self._ask_at)
        self._failures += 1
        self._put_off()  # also if this is cancelled: whoever is next must not ask at once
        while (room := self._total - self._left_to_others()) > 0:
            hold = Hold(self._key, 1)
            try:
                value = await self._enter_hold(hold, Le(room - 1))
            except OutcomeUnknownError:
                self.check_open()  # the counter was stopped before the answer came
                raise
            if value is None:
                break
            if self._part.lease_valid:
                self._ask_freely()
                return Token(hold, self._turn())
            # The counter has been stopped since, or the answer has been on its way for so long
            # that the slice may be gone. The next try says which.
            self._part.release(hold)
        else:
            await trio.lowlevel.checkpoint()
        self._put_off()
        return None

    def give_back(self, token: Token) -> None:
        """Let the store have a token again, with the next batch. Never fails."""
        now = trio.current_time()
        self._part.release(token.hold)
        if not token.hold.void:
            self._forget_returned()
            self._returned[token] = now + COURTESY
        if token.hold.void or token.turn_ends > now:
            self._ask_freely()

    def retrieve(self) -> Token | None:
        """Return a token that was given back and is not sent yet, if there is one."""
        self._forget_returned()
        for token in reversed(self._returned):
            if self.usable(token):
                # What was given back before has been sent before.
                if not self._part.cancel_release(token.hold):
                    return None
                del self._returned[token]
                return token
        return None

    def _ask_freely(self) -> None:
        """Something is free: the next question need not wait."""
        self._failures = 0
        self._ask_at = float("-inf")

    def _put_off(self) -> None:
        """Let time pass before the next question, the more the longer there is nothing."""
        now = trio.current_time()
        longest = min(LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(self._failures - 1, 20))
        self._ask_at = now + longest * random.uniform(0.5, 1.0)
        for token, courtesy_ends in self._returned.items():
            if token.turn_ends <= now:  # and then there may be something for us
                self._ask_at = min(self._ask_at, courtesy_ends)

    def _turn(self) -> float:
        """Return when the turn of a token that was taken just now ends."""
        now = trio.current_time()
        self._forget_returned()
        for token in self._returned:
            if token.turn_ends > now:
                del self._returned[token]
                return token.turn_ends
        return now + random.uniform(SHORTEST_TURN, LONGEST_TURN)

    def _left_to_others(self) -> int:
        """Return how many tokens not to ask for, though they may be free."""
        now = trio.current_time()
        self._forget_returned()
        return sum(token.turn_ends <= now for token in self._returned)

    def _forget_returned(self) -> None:
        """Forget those that others have had their chance to take."""
        now = trio.current_time()
        while self._returned:
            token = next(iter(self._returned))
            if self._returned[token] > now:
                break
            del self._returned[token]
