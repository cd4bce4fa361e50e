"""A limit on what the whole fleet does at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import trio

from .._counters._counter import InstanceAwareCounter
from .._protocol._values import INT64_MAX, checked_name
from ._token_lease import Token, Tokens

if TYPE_CHECKING:
    from types import TracebackType


@dataclass(frozen=True, slots=True)
class FleetLimiterStatistics:
    """A `FleetLimiter` at one moment."""

    borrowed_tokens: int
    """How many tokens are in use in this process."""
    total_tokens: int
    """How many there are for the whole fleet."""
    borrowers: tuple[object, ...]
    """Who uses them: tasks, or what `FleetLimiter.acquire_on_behalf_of` was given."""
    tasks_waiting: int
    """How many tasks of this process wait for one."""


@final
class FleetLimiter:
    """A `trio.CapacityLimiter` whose tokens are shared by all processes of a fleet.

    ::

        async with StrictInstanceAwareCounter.open("my_app", url) as counter:
            limiter = FleetLimiter(counter, "report-jobs", 5)
            async with limiter:
                ...  # at most five tasks of the whole fleet are here

    Every limiter of the same prefix and ``key`` draws from the same tokens; give it one
    ``total_tokens`` everywhere. Each token in use is 1 on ``key``, as a `hold` with a limit
    makes it: ``await counter.get(key)`` tells how many are in use in the fleet, and those of a
    process that crashed come back when its slice is reaped. The key is the limiter's
    own: count nothing else on it. Where the limit is reached, `acquire` waits; a `hold` with a
    limit raises `LimitReachedError` instead.

    **Who is next.** Tasks of one process get tokens in the order in which they asked; only the
    first in line asks the store, again and again with pauses of up to a quarter of a second
    while there are none. A token that is released is handed to the first in line here,
    without asking the store, as long as its turn lasts: 2 to 4 seconds from when the store gave
    it out. Then it goes back, and is left to others for 0.3 seconds, which costs a process that
    nobody competes with about a tenth of what it could do. Which of several processes that wait
    gets a token is a matter of chance.

    **While the store is away** `acquire` waits, and those who have a token keep it. For three
    quarters of the counter's ``dead_instance_threshold`` since the store was last heard,
    tokens are handed on in this process all the same.

    **What is promised.** At no time do more than ``total_tokens`` have a token, as long as the
    store keeps its data, nobody moves the epoch of the key, and no process that has tokens is
    silent for longer than its ``dead_instance_threshold``. One that is cut off for longer is
    taken for dead, and its tokens are given to others; when it comes back its slice does
    too, and nobody new gets in until enough have been released. Work that must not go on
    then should watch ``counter.statistics().last_heartbeat_age``.

    After a `set`, `delete` or `clear` of the key by anybody, tokens in use are void: their
    users go on, the limit starts afresh, and releasing them takes nothing back. So it is
    when the counter stops: stop the users first.

    It is about one key, so of a namespace in several parts only the part of that key matters.

    Not to be shared between threads. Needs no task of its own and no closing.

    Args:
        counter: Whose instance takes the tokens; strict or lax, running or not yet.
        key: Names the limit.
        total_tokens: How many may have a token at once, in the whole fleet.

    Raises:
        InvalidKeyError: Not a key.
        TypeError: ``total_tokens`` is no int.
        ValueError: ``total_tokens`` is not positive, or does not fit into 64 bits.
    """

    def __init__(self, counter: InstanceAwareCounter, key: str, total_tokens: int) -> None:
        self._key = checked_name(key)
        self._total = _checked_total(total_tokens)
        self._tokens = Tokens(counter, self._key, self._total)
        self._loans: dict[object, _Loan] = {}  # {borrower: what it has}
        self._line: dict[object, _Waiter] = {}  # {borrower: who waits for it}, first come first

    # ------------------------------------------------------------------- taking

    @trio.lowlevel.enable_ki_protection
    async def acquire(self) -> None:
        """Get a token for the current task; wait until there is one.

        A checkpoint. Cancelling it is prompt and leaves nothing behind: no token is lost, and
        the next in line is first.

        Raises:
            RuntimeError: The task has one already.
            StoreError: The store refuses, as for any operation of the counter.
            InstanceConflictError: Another counter has taken over.
            CounterClosedError: The counter is not running, or has stopped meanwhile.
        """
        await self.acquire_on_behalf_of(trio.lowlevel.current_task())

    @trio.lowlevel.enable_ki_protection
    async def acquire_on_behalf_of(self, borrower: object) -> None:
        """Get a token for ``borrower``, anything hashable; see `acquire`.

        Raises:
            RuntimeError: It has one already, or another task waits for one on its behalf.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            self.acquire_on_behalf_of_nowait(borrower)
        except trio.WouldBlock:
            await self._wait_in_line(borrower)
        else:
            await trio.lowlevel.cancel_shielded_checkpoint()

    @trio.lowlevel.enable_ki_protection
    def acquire_nowait(self) -> None:
        """Get a token for the current task if this process has one that nobody uses.

        Not a checkpoint. It cannot ask the store, so it finds only what was released here
        without anybody waiting, and is not sent back yet: mostly there is none.

        Raises:
            trio.WouldBlock: There is none here; the store may have one.
            RuntimeError: The task has one already.
            InstanceConflictError: Another counter has taken over.
            CounterClosedError: The counter is not running.
        """
        self.acquire_on_behalf_of_nowait(trio.lowlevel.current_task())

    @trio.lowlevel.enable_ki_protection
    def acquire_on_behalf_of_nowait(self, borrower: object) -> None:
        """Get a token for ``borrower`` as `acquire_nowait` does.

        Raises:
            RuntimeError: It has one already, or a task waits for one on its behalf.
        """
        if borrower in self._loans:
            raise RuntimeError("this borrower has one of the limiter's tokens already")
        if borrower in self._line:
            raise RuntimeError("a task waits for one of the limiter's tokens for this borrower")
        self._tokens.check_open()
        token = None if self._line else self._tokens.retrieve()
        if token is None:
            raise trio.WouldBlock
        self._loans[borrower] = _Loan(token)

    # ---------------------------------------------------------------- releasing

    @trio.lowlevel.enable_ki_protection
    def release(self) -> None:
        """Give the current task's token to the next in line, or back to the store.

        Not a checkpoint. Never waits for the store, and never fails because of it: what goes
        back goes with a later batch, through outages too.

        Raises:
            RuntimeError: The task has none.
        """
        self.release_on_behalf_of(trio.lowlevel.current_task())

    @trio.lowlevel.enable_ki_protection
    def release_on_behalf_of(self, borrower: object) -> None:
        """Give the token of ``borrower`` away as `release` does.

        Raises:
            RuntimeError: It has none.
        """
        loan = self._loans.pop(borrower, None)
        if loan is None:
            raise RuntimeError("this borrower has none of the limiter's tokens")
        self._pass_on(loan.token)

    @trio.lowlevel.enable_ki_protection
    async def __aenter__(self) -> None:
        """Do as `acquire`."""
        await self.acquire()

    @trio.lowlevel.enable_ki_protection
    async def __aexit__(  # noqa: ASYNC910 - what must not fail must not be cancelled
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Do as `release`. Not a checkpoint."""
        self.release()

    # -------------------------------------------------------------------- looks

    @property
    def total_tokens(self) -> int:
        """How many tokens there are for the whole fleet."""
        return self._total

    @property
    def borrowed_tokens(self) -> int:
        """How many tokens are in use in this process."""
        return len(self._loans)

    def statistics(self) -> FleetLimiterStatistics:
        """Return how things stand in this process. Not a checkpoint."""
        return FleetLimiterStatistics(
            borrowed_tokens=len(self._loans),
            total_tokens=self._total,
            borrowers=tuple(self._loans),
            tasks_waiting=len(self._line),
        )

    def __repr__(self) -> str:
        """Show how things stand in this process."""
        return (
            f"<{type(self).__name__} {self._key!r}, {len(self._loans)}/{self._total} here "
            f"with {len(self._line)} waiting>"
        )

    # --------------------------------------------------------------------- line

    async def _wait_in_line(self, borrower: object) -> None:  # noqa: ASYNC910 - loops at least once
        waiter = self._line[borrower] = _Waiter(borrower)
        try:
            while waiter.loan is None:
                if next(iter(self._line.values())) is not waiter:
                    await waiter.sleep_until_woken()
                elif (token := self._tokens.retrieve()) is not None:
                    self._grant(waiter, token)
                else:
                    await self._ask(waiter)
        except BaseException:
            self._give_up(waiter)
            raise

    async def _ask(self, waiter: _Waiter) -> None:
        """Ask the store once for the first in line, unless a token is handed over before."""
        token: Token | None = None
        with waiter.until_woken():
            token = await self._tokens.take()
        if token is None:
            return  # noqa: ASYNC910 - `take` is a checkpoint, woken or not
        if waiter.loan is None:
            self._grant(waiter, token)
        else:  # one was handed over at the same moment
            self._pass_on(token)

    def _grant(self, waiter: _Waiter, token: Token) -> None:
        """Let somebody in line have a token; it leaves the line."""
        del self._line[waiter.borrower]
        self._loans[waiter.borrower] = waiter.loan = _Loan(token)
        waiter.wake()
        self._call_first()

    def _give_up(self, waiter: _Waiter) -> None:
        """Leave the line without a token."""
        if waiter.loan is None:
            del self._line[waiter.borrower]
            self._call_first()
        elif self._loans.get(waiter.borrower) is waiter.loan:
            # It was handed over, and its task was cancelled before it could run.
            del self._loans[waiter.borrower]
            self._pass_on(waiter.loan.token)

    def _pass_on(self, token: Token) -> None:
        """Find a use for a token that is free."""
        if self._line and self._tokens.usable(token):
            self._grant(next(iter(self._line.values())), token)
        else:
            self._tokens.give_back(token)

    def _call_first(self) -> None:
        """Have the first in line ask the store, if it does not know yet that it is the first."""
        for waiter in self._line.values():
            if waiter.asleep:
                waiter.wake()
            break


class _Loan:
    """One use of a token."""

    __slots__ = ("token",)

    def __init__(self, token: Token) -> None:
        self.token = token


class _Waiter:
    """A task in line, which may be woken whatever it waits for."""

    __slots__ = ("_scope", "asleep", "borrower", "loan")

    def __init__(self, borrower: object) -> None:
        self.borrower = borrower
        self.loan: _Loan | None = None  # what it was waiting for
        self.asleep = False  # it is not the first, as far as it knows
        self._scope = trio.CancelScope()

    def until_woken(self) -> trio.CancelScope:
        """Return a scope that `wake` ends."""
        self._scope = trio.CancelScope()
        return self._scope

    async def sleep_until_woken(self) -> None:
        """Wait for `wake`. A checkpoint."""
        self.asleep = True
        with self.until_woken():
            await trio.sleep_forever()
        self.asleep = False

    def wake(self) -> None:
        """End what it waits for."""
        self._scope.cancel()


def _checked_total(total: object) -> int:
    if not isinstance(total, int) or isinstance(total, bool):
        raise TypeError(f"total_tokens must be an int, not {type(total).__name__}")
    if not 1 <= total <= INT64_MAX:
        raise ValueError(f"total_tokens must be at least 1 and fit into 64 bits, not {total}")
    return int(total)
