"""A limit on what the whole fleet does at once.

This file is longer than others: most of it says what `FleetLimiter` promises.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import trio

from .._actor._operations import AtomicBatch
from .._counters._counter import InstanceAwareCounter
from .._errors import OutcomeUnknownError
from .._protocol._messages import Entry, Kind, Previous
from .._protocol._values import INT64_MAX, checked_name
from ._capacity import as_capacity_limiter
from ._order import Place
from ._token_lease import Token, Tokens

if TYPE_CHECKING:
    from types import TracebackType


@dataclass(frozen=True, slots=True)
class FleetLimiterStatistics:
    """A `FleetLimiter` at one moment.

    Attributes:
        borrowed_tokens: How many tokens are in use in this process.
        total_tokens: How many there are for the whole fleet.
        borrowers: Who uses them in this process: tasks, or what was named on their behalf.
        tasks_waiting: How many tasks of this process wait for tokens.
        available_tokens: How many are free in the fleet, by what the store said last.
    """

    __module__ = "distkit_actors"  # which imports it when it is asked for

    borrowed_tokens: int
    """How many tokens are in use in this process."""
    total_tokens: int
    """How many there are for the whole fleet."""
    borrowers: tuple[object, ...]
    """Who uses them in this process: tasks, or what `FleetLimiter.acquire_on_behalf_of` was
    given."""
    tasks_waiting: int
    """How many tasks of this process wait for tokens."""
    available_tokens: int
    """How many are free in the fleet, by what the store said last, as
    `FleetLimiter.available_tokens` tells."""


@dataclass(frozen=True, slots=True)
class FleetLimiterUsage:
    """How a limit is used by the whole fleet; see `FleetLimiter.fleet_usage`.

    Attributes:
        borrowed_tokens: How many tokens are in use in the fleet.
        available_tokens: How many are free; 0 if more are in use than there are.
        tasks_waiting: How many tasks of the fleet wait for tokens.
    """

    __module__ = "distkit_actors"  # which imports it when it is asked for

    borrowed_tokens: int
    """How many tokens are in use in the fleet."""
    available_tokens: int
    """How many are free; 0 if more are in use than there are."""
    tasks_waiting: int
    """How many tasks of the fleet wait for tokens."""


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
    own, and so are ``limiter:tickets:<key>``, ``limiter:waiting:<key>`` and
    ``limiter:fence:<key>``, which are there while they are needed: count nothing else on them. In a
    namespace in several parts a number may stand behind the second word, and where the name would
    be too long for a key, a hash of ``<key>`` stands in its place.
    Where the limit is reached, `acquire` waits; a `hold` with a limit raises `LimitReachedError`
    instead.

    **Who is next.** First come, first served, in the whole fleet. A task that wants several tokens
    waits until so many are free, and nobody overtakes it. The order is that of the times of arrival
    by the store's clock, as far as each process knows that clock, and the others have to hear of a
    task first. So of two tasks that come within a few round trips, either may be first. There is
    one more exception. For one turn after the store gave it tokens, a process may hand them on to
    its own tasks if it has not heard of earlier tasks elsewhere. Tasks elsewhere may overtake its
    own tasks that wait for this. A turn takes 0.1 seconds, or ten round trips if these take longer,
    and 2 seconds at the most.
    Only the first in the fleet asks the store; all others sleep until the store pushes notice of a
    change. If the first one dies, the others wait until its slice is reaped. As a notice may get
    lost, they look every six seconds in any case.

    **While the store is away** `acquire` waits, and those who have a token keep it. In what is left
    of its turn, a process hands tokens on all the same.

    **What is promised.** At no time do more than ``total_tokens`` have a token, as long as the
    store keeps its data, nobody moves the epoch of the key, counts on it or calls ``forget``, no
    counter that has tokens calls ``clear_on_instance``, no process that has tokens is silent for
    longer than its ``dead_instance_threshold``, and no other counter takes over the
    ``instance_id`` of one that has tokens. A process that is cut off for longer is taken for dead,
    and its tokens are given to others; when it comes back its slice does too, and nobody new gets
    in until enough have been released. Work that must not go on then should watch
    ``counter.statistics().last_heartbeat_age``, or what it works on should compare
    `fencing_number`. A takeover gives the tokens to others at once. The counter that had them
    learns this with its next heartbeat; ``last_heartbeat_age`` does not show it before. So give no
    ``instance_id``, or ``on_conflict="refuse"`` with it, or use fencing.

    After a `set`, `delete` or `clear` of the key by anybody, tokens in use are void: their
    users go on, the limit starts afresh, and releasing them takes nothing back. So are the tokens
    of a counter that calls ``clear_on_instance``, and of one that stops: stop the users first.
    Those who wait go on waiting, in their order.

    It is about one key, so of a namespace in several parts only the part of that key matters.

    Whatever takes tokens or gives them back raises `RuntimeError` in another thread than the
    counter's. Needs no task of its own and no closing. Limiters of one counter on one key have
    lines of their own; make one, and keep it.

    Args:
        counter: Whose instance takes the tokens; strict or lax, running or not yet.
        key: Names the limit.
        total_tokens: How many may be in use at once, in the whole fleet.
        fencing: Give each use of tokens a `fencing_number`. Then none are handed on in a process
            without asking the store, and each question writes one more key.

    Raises:
        InvalidKeyError: Not a key.
        TypeError: ``counter`` is no counter, or ``total_tokens`` is no int.
        ValueError: ``total_tokens`` is not positive, or does not fit into 64 bits.
    """

    __module__ = "distkit_actors"  # which imports it when it is asked for

    def __init__(
        self, counter: InstanceAwareCounter, key: str, total_tokens: int, *, fencing: bool = False
    ) -> None:
        if not isinstance(counter, InstanceAwareCounter):  # pyright: ignore[reportUnnecessaryIsInstance] - users without a type checker
            raise TypeError(f"a counter is needed, not {counter!r}")
        counter = counter._whole  # pyright: ignore[reportPrivateUsage] - takes holds back in memory
        self._key = checked_name(key)
        total = _checked_total(total_tokens)
        self._tokens = Tokens(counter, self._key, total, fencing=fencing)
        self._order = self._tokens.order
        self._actor = counter._actor  # pyright: ignore[reportPrivateUsage]
        self._loans: dict[object, _Loan] = {}  # {borrower: what it has}
        self._line: dict[object, _Waiter] = {}  # {borrower: who waits for it}, first come first

    # ------------------------------------------------------------------- taking

    @trio.lowlevel.enable_ki_protection
    async def acquire(self, count: int = 1) -> None:
        """Get ``count`` tokens for the current task; wait until so many are free, and it is next.

        All of them at once, and `release` gives all of them back. A checkpoint. Cancelling it is
        prompt and leaves nothing behind: no token is lost, and the next in line is first.

        Raises:
            RuntimeError: The task has some already.
            TypeError: ``count`` is no int.
            ValueError: ``count`` is less than 1, or more than `total_tokens`, from the beginning or
                because that was set lower meanwhile.
            StoreError: The store refuses, as for any operation of the counter.
            InstanceConflictError: Another counter has taken over.
            CounterClosedError: The counter is not running, or has stopped meanwhile.
        """
        self._actor.check_task()
        await self.acquire_on_behalf_of(trio.lowlevel.current_task(), count)

    @trio.lowlevel.enable_ki_protection
    async def acquire_on_behalf_of(self, borrower: object, count: int = 1) -> None:
        """Get ``count`` tokens for ``borrower``, anything hashable, as `acquire` does.

        A checkpoint; cancelling it leaves nothing behind. Raises what `acquire` raises.

        Raises:
            RuntimeError: It has some already, or another task waits for some on its behalf.
        """
        self._actor.check_task()
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            self.acquire_on_behalf_of_nowait(borrower, count)
        except trio.WouldBlock:
            await self._wait_in_line(borrower, count)
        else:
            await trio.lowlevel.cancel_shielded_checkpoint()

    @trio.lowlevel.enable_ki_protection
    def acquire_nowait(self, count: int = 1) -> None:
        """Get tokens for the current task if this process has some that nobody uses.

        Not a checkpoint. It cannot ask the store. It finds only ``count`` tokens that were released
        here together, while no task waited, and are not sent back yet: usually none.

        Raises:
            trio.WouldBlock: There are none here; the store may have some.
            RuntimeError: The task has some already.
            TypeError: ``count`` is no int.
            ValueError: ``count`` is less than 1, or more than `total_tokens`.
            InstanceConflictError: Another counter has taken over.
            CounterClosedError: The counter is not running.
        """
        self._actor.check_task()
        self.acquire_on_behalf_of_nowait(trio.lowlevel.current_task(), count)

    @trio.lowlevel.enable_ki_protection
    def acquire_on_behalf_of_nowait(self, borrower: object, count: int = 1) -> None:
        """Get ``count`` tokens for ``borrower``, anything hashable, as `acquire_nowait` does.

        Not a checkpoint. Raises what `acquire_nowait` raises.

        Raises:
            RuntimeError: It has some already, or a task waits for some on its behalf.
        """
        self._actor.check_thread()
        if _checked_number(count) > self._tokens.total:
            raise ValueError(f"there are {self._tokens.total} tokens, so {count} can never be had")
        if borrower in self._loans:
            raise RuntimeError("this borrower has tokens of the limiter already")
        if borrower in self._line:
            raise RuntimeError("a task waits for tokens of the limiter for this borrower")
        self._tokens.check_open()
        token = None if self._order.waits_here else self._tokens.retrieve(count)
        if token is None:
            raise trio.WouldBlock("no free token is here; `acquire` asks the store for one")
        self._loans[borrower] = _Loan(token)

    # ---------------------------------------------------------------- releasing

    @trio.lowlevel.enable_ki_protection
    def release(self) -> None:
        """Give the current task's tokens to the next in line, or back to the store.

        Not a checkpoint. Never waits for the store, and never fails because of it: what goes
        back goes with a later batch, through outages too.

        Raises:
            RuntimeError: The task has none.
        """
        self._actor.check_task()
        self.release_on_behalf_of(trio.lowlevel.current_task())

    @trio.lowlevel.enable_ki_protection
    def release_on_behalf_of(self, borrower: object) -> None:
        """Give the tokens of ``borrower`` away as `release` does. Not a checkpoint.

        Raises:
            RuntimeError: It has none.
        """
        self._actor.check_thread()
        loan = self._loans.pop(borrower, None)
        if loan is None:
            raise RuntimeError("this borrower has none of the limiter's tokens")
        self._pass_on(loan.token)

    @trio.lowlevel.enable_ki_protection
    async def __aenter__(self) -> None:
        """Do as `acquire` for one token: a checkpoint; cancelling it leaves nothing behind."""
        await self.acquire()

    @trio.lowlevel.enable_ki_protection
    async def __aexit__(  # noqa: ASYNC910 - what must not fail must not be cancelled
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Do as `release`. Not a checkpoint, and it never waits for the store."""
        self.release()

    # -------------------------------------------------------------------- looks

    @property
    def total_tokens(self) -> int:
        """How many tokens there are for the whole fleet.

        May be set, in every process: the first task in line uses the number of its own process. A
        lower number takes no tokens away; no task gets in here until few enough are in use. A
        higher number lets waiting tasks in. Setting it raises what the constructor raises for
        ``total_tokens``.
        """
        return self._tokens.total

    @total_tokens.setter
    def total_tokens(self, total: int) -> None:
        self._actor.check_thread()
        self._tokens.total = _checked_total(total)
        self._order.look_again()

    @property
    def borrowed_tokens(self) -> int:
        """How many tokens are in use in this process."""
        return sum(loan.token.count for loan in self._loans.values())

    @property
    def available_tokens(self) -> int:
        """How many tokens are free in the fleet, by what the store said last when it was asked.

        It is asked when somebody here has to wait or gets a token that nobody here had. What others
        do in between is not known: `fleet_usage` asks. All are free before the first question.
        """
        return max(0, self._tokens.total - self._tokens.in_use)

    async def fleet_usage(self) -> FleetLimiterUsage:
        """Return how things stand in the whole fleet, as the store has it at one instant.

        A checkpoint; cancelling it leaves nothing behind. A task is not counted as waiting in its
        first 0.1 seconds, nor after somebody has cleared all keys, or its counter its own slices.
        Raises what `InstanceAwareCounter.get` raises.
        """
        await self._actor.wait_open()
        keys = (self._key, self._order.waiting)
        batch = AtomicBatch([Entry(Kind.ADD, key, 0) for key in keys])
        await self._actor.ask(batch)
        borrowed, waiting = (
            found.cumulative for found in batch.results if isinstance(found, Previous)
        )
        self._tokens.in_use = borrowed
        return FleetLimiterUsage(borrowed, self.available_tokens, waiting)

    def fencing_number(self) -> int:
        """Return the number of the current task's tokens. Not a checkpoint.

        What it is good for is with `fencing_number_of`, and so are its errors.
        """
        return self.fencing_number_of(trio.lowlevel.current_task())

    def fencing_number_of(self, borrower: object) -> int:
        """Return the number of the tokens that ``borrower`` has: the store gave it with them.

        Greater than that of any tokens of the same key that were given out before, in the whole
        fleet, and smaller than any later one. So the protected resource can keep the greatest
        number seen, and refuse a smaller one: its process was taken for dead, and does not know it
        yet. It makes sense for a limit of one. It is an instant of the store's
        clock in microseconds, and fits into 64 bits.

        This holds over crashes, restarts of processes, outages, and a clock of the server that
        jumps back. It holds over a server that loses its data, or hands over to one that has less,
        if the clock there is not behind by more than the outage lasted.

        Not a checkpoint.

        Raises:
            RuntimeError: It has none, or the limiter was made without ``fencing=True``.
        """
        loan = self._loans.get(borrower)
        if loan is None:
            raise RuntimeError("this borrower has none of the limiter's tokens")
        if not self._tokens.fencing:
            raise RuntimeError("make the limiter with fencing=True to get fencing numbers")
        return loan.token.number

    def statistics(self) -> FleetLimiterStatistics:
        """Return how things stand in this process. Not a checkpoint."""
        return FleetLimiterStatistics(
            borrowed_tokens=self.borrowed_tokens,
            total_tokens=self._tokens.total,
            borrowers=tuple(self._loans),
            tasks_waiting=len(self._line),
            available_tokens=self.available_tokens,
        )

    def as_capacity_limiter(self) -> trio.CapacityLimiter:
        """Return a view for whoever wants a `trio.CapacityLimiter`, type checkers included.

        ::

            await trio.to_thread.run_sync(work, limiter=limiter.as_capacity_limiter())

        It has every attribute of a `trio.CapacityLimiter`, and each does what it does here; its
        ``statistics()`` are trio's. At run time trio needs no more than that, so the limiter itself
        would do. But trio's class is final, so no other class can be declared to be one. The view
        is only annotated as one: `isinstance` is false for it. Not a checkpoint.
        """
        return as_capacity_limiter(self)

    def __repr__(self) -> str:
        """Show how things stand in this process."""
        return (
            f"<{type(self).__name__} {self._key!r}, {self.borrowed_tokens}/{self._tokens.total} "
            f"here with {len(self._line)} waiting>"
        )

    # --------------------------------------------------------------------- line

    async def _wait_in_line(self, borrower: object, count: int) -> None:  # noqa: ASYNC910 - loops at least once
        waiter = self._line[borrower] = _Waiter(borrower, count, self._order.join())
        try:
            while waiter.loan is None:
                if next(iter(self._line.values())) is not waiter:
                    await self._stand(waiter)
                elif (
                    not self._order.is_behind_others(waiter.place)
                    and (token := self._tokens.retrieve(count)) is not None
                ):
                    self._grant(waiter, token)
                else:
                    await self._ask(waiter)
        except BaseException as error:
            self._give_up(waiter)
            if isinstance(error, OutcomeUnknownError):
                self._tokens.check_open()  # the counter was stopped before an answer came
            raise

    async def _stand(self, waiter: _Waiter) -> None:
        """Wait until this waiter is the first in this process, or has been given a token."""
        waiter.asleep = True
        with waiter.until_woken():
            await self._order.count(waiter.place)
            await trio.sleep_forever()
        waiter.asleep = False

    async def _ask(self, waiter: _Waiter) -> None:
        """Get a token from the store for the first in line, unless one is handed over before."""
        token: Token | None = None
        with waiter.until_woken():
            token = await self._tokens.take(waiter.place, waiter.count)
        if token is None:
            return  # noqa: ASYNC910 - `take` is a checkpoint, woken or not
        if waiter.loan is None:
            self._grant(waiter, token)
        else:  # one was handed over at the same moment
            self._pass_on(token)

    def _grant(self, waiter: _Waiter, token: Token) -> None:
        """Give a token to a waiter, which leaves the line with that."""
        self._leave(waiter)
        self._loans[waiter.borrower] = waiter.loan = _Loan(token)
        waiter.wake()
        self._call_first()

    def _give_up(self, waiter: _Waiter) -> None:
        """Leave the line without a token."""
        if waiter.loan is None:
            self._leave(waiter)
            self._call_first()
        elif self._loans.get(waiter.borrower) is waiter.loan:
            # It was handed over, and its task was cancelled before it could run.
            del self._loans[waiter.borrower]
            self._pass_on(waiter.loan.token)

    def _leave(self, waiter: _Waiter) -> None:
        del self._line[waiter.borrower]
        self._order.leave(waiter.place)

    def _pass_on(self, token: Token) -> None:
        """Find a use for a token that is free."""
        for first in self._line.values():
            if (
                first.count == token.count
                and self._tokens.usable(token)
                and not self._order.is_behind_others(first.place)
            ):
                self._grant(first, token)
                return
            break
        self._tokens.give_back(token)

    def _call_first(self) -> None:
        """Wake the first in line, if it does not know yet that it is first and has to ask."""
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

    __slots__ = ("_scope", "asleep", "borrower", "count", "loan", "place")

    def __init__(self, borrower: object, count: int, place: Place) -> None:
        self.borrower = borrower
        self.count = count
        self.place = place
        self.loan: _Loan | None = None  # what it was waiting for
        self.asleep = False  # it is not the first, as far as it knows
        self._scope = trio.CancelScope()

    def until_woken(self) -> trio.CancelScope:
        """Return a scope that `wake` ends."""
        self._scope = trio.CancelScope()
        return self._scope

    def wake(self) -> None:
        """End what it waits for."""
        self._scope.cancel()


def _checked_total(total: object) -> int:
    if not isinstance(total, int) or isinstance(total, bool):
        raise TypeError(f"total_tokens must be an int, not {type(total).__name__}")
    if not 1 <= total <= INT64_MAX:
        raise ValueError(f"total_tokens must be at least 1 and fit into 64 bits, not {total}")
    return int(total)


def _checked_number(count: object) -> int:
    """Return a number of tokens that may be asked for."""
    if not isinstance(count, int) or isinstance(count, bool):
        raise TypeError(f"a number of tokens must be an int, not {type(count).__name__}")
    if count < 1:
        raise ValueError(f"at least one token is to be acquired, not {count}")
    return int(count)
