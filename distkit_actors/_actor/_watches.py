"""The watchers of keys, and the tasks that read the keys for them.

Some stores push notices of changes. A notice is only a hint to read, and may get lost (P37,
notifications). So a key is read when somebody begins to watch it, when a notice of it comes,
whenever the subscription has been made again, and every `_POLL` seconds in any case.

This file is a little longer than others, as the three tasks share what is to be read, and when.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from math import inf
from typing import Final

import trio

from .._errors import CounterClosedError, InstanceConflictError, StoreError, StoreUnavailableError
from .._instance._buffered_key import NEVER
from .._instance._write_buffer import WriteBuffer
from .._protocol._liveness import MICROSECONDS
from .._protocol._messages import MAX_ENTRIES, Entry, Kind, Previous, Watch
from .._protocol._values import CounterValue
from .._stores._contract import Store, Subscription
from ._listening import Listener, Listeners
from ._log import Log
from ._operations import AtomicBatch, Operation, QueryOperation
from ._outcomes import copy_of

#: Seconds between two reads of everything that is watched, whatever notices come.
_POLL: Final = 2.0
#: Listeners are told to look with every third of these: a lost notice costs them less.
_POLLS_OF_LISTENERS: Final = 3
#: Seconds between two looks of listeners where the store does not push.
_PACE_OF_LISTENERS: Final = 0.25
#: Seconds for which the store is asked to push: a few polls may be late.
_LEASE: Final = 4 * _POLL
#: First and longest pause before a lost subscription is made again, in seconds.
_FIRST_BACKOFF: Final = 0.02
_LONGEST_BACKOFF: Final = _POLL


class Watcher(trio.abc.ReceiveChannel[CounterValue]):
    """The values of one key, for one reader: the latest wins."""

    def __init__(self, watches: Watches, key: str, lag: float, number: int) -> None:
        self.key = key
        self.lag = lag
        self.number = number  # in the order in which all began
        self._watches = watches
        self._last: CounterValue | None = None  # received last
        self._next: CounterValue | None = None  # not received yet
        self._news = trio.Event()
        self._closed = False
        self._ended = False
        self._busy = False  # a task receives
        self._error: Exception | None = None

    def __repr__(self) -> str:
        return f"<watch of {self.key!r}, {'closed' if self._closed else 'open'}>"

    def tell(self, value: CounterValue) -> None:
        """Give the reader a value, unless it is the one that it got last."""
        self._next = None if value == self._last else value
        if self._next is not None:
            self._wake()

    def end(self, error: Exception | None) -> None:
        """End the channel: there will be no more values."""
        self._ended = True
        self._error = error
        self._wake()

    async def receive(self) -> CounterValue:
        """Return the current value at first, then the latest that is another.

        A checkpoint; cancelling it loses nothing.

        Raises:
            trio.EndOfChannel: The counter has stopped.
            CounterClosedError: The counter has crashed; the cause says why.
            InstanceConflictError: Another counter has taken over.
            trio.ClosedResourceError: The channel was closed here.
            trio.BusyResourceError: Another task receives from this channel. Each would miss what
                the other gets: let each have a watch of its own, which costs no connection.
        """
        if self._busy and not self._closed:
            await trio.lowlevel.checkpoint()
            raise trio.BusyResourceError("another task receives from this channel")
        self._busy = True
        try:
            # The checkpoint comes first, so that no other task runs between a look and its use.
            await trio.lowlevel.checkpoint()
            while (value := self._take()) is None:
                await self._news.wait()
        finally:
            self._busy = False
        return value

    def _take(self) -> CounterValue | None:
        """Return what is to be received next, if there is anything; raise if there never is."""
        if self._closed:
            raise trio.ClosedResourceError
        value, self._next = self._next, None
        if value is not None:
            self._last = value
        elif self._ended:
            raise trio.EndOfChannel if self._error is None else copy_of(self._error)
        return value

    async def aclose(self) -> None:
        """Watch no more. A checkpoint."""
        self.close()
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        """Watch no more."""
        if not self._closed:
            self._closed = True
            self._watches.leave(self)
            self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news = trio.Event()


class Watches:
    """All watchers of one counter."""

    def __init__(  # noqa: PLR0917 - each is of another type
        self,
        store: Store,
        prefix: str,
        instance: str,
        buffer: WriteBuffer | None,
        log: Log,
        ask: Callable[[Operation], Awaitable[tuple[int, int]]],
    ) -> None:
        self._store = store
        self._prefix = prefix
        self.instance = instance
        self._buffer = buffer
        self._log = log
        # Up to the actor: a reader is one of its callers, and goes through the same door as all.
        self._ask = ask
        self._watchers: dict[str, set[Watcher]] = {}
        self._listeners = Listeners()
        self._lags: dict[str, float] = {}  # of the most impatient who watches a key
        self._joined = 0  # watchers so far
        self._impatience: dict[str, Counter[float]] = {}  # how many watch it with which lag
        self._unread: dict[float, dict[str, None]] = {}  # by how often they may be read
        self._new: dict[str, None] = {}  # that somebody has no value of yet: to be read at once
        self._rested: dict[float, float] = {}  # when those of a lag may be read again
        self._restless = False  # nobody tells of changes, so that all may have changed
        self._wanted = trio.Event()  # somebody watches
        self._work = trio.Event()  # something else is to be read
        self._scope: trio.CancelScope | None = None
        self._over = False
        self._error: Exception | None = None

    # -------------------------------------------------------------------- watchers

    def join(self, key: str, lag: float) -> Watcher:
        """Begin to watch ``key``."""
        self._joined += 1
        watcher = Watcher(self, key, lag, self._joined)
        if self._over:
            watcher.end(self._error)
        else:
            self._watchers.setdefault(key, set()).add(watcher)
            self._lags[key] = min(lag, self._lags.get(key, inf))
            self._impatience.setdefault(key, Counter())[lag] += 1
            self._wanted.set()
            self._new[key] = None
            self._work.set()
        return watcher

    def leave(self, watcher: Watcher) -> None:
        """Forget a watcher."""
        watchers = self._watchers.get(watcher.key, set())
        if watcher in watchers:
            watchers.remove(watcher)
            lags = self._impatience[watcher.key]
            lags[watcher.lag] -= 1
            if not lags[watcher.lag]:  # thousands may watch a key, and leave together
                del lags[watcher.lag]
        if watchers:
            self._lags[watcher.key] = min(self._impatience[watcher.key])
        else:
            self._impatience.pop(watcher.key, None)
            self._watchers.pop(watcher.key, None)
            self._lags.pop(watcher.key, None)
            self._new.pop(watcher.key, None)
        self._end_if_unwanted()

    def listen(self, listener: Listener) -> None:
        """Tell ``listener`` of changes, until it has not been used for some polls."""
        listener.resting = False
        if self._over:
            listener.end()
        else:
            self._listeners.add(listener)
            self._wanted.set()

    def stop_listening(self) -> None:
        """End all listeners, as the counter stops."""
        self._listeners.end()

    def _end_if_unwanted(self) -> None:
        if not (self._watchers or self._listeners):
            self._wanted = trio.Event()
            if self._scope is not None:
                self._scope.cancel()

    def close(self, error: Exception | None) -> None:
        """End all watching for good; what the first call says stands."""
        if self._over:
            return
        self._over, self._error = True, error
        for watchers in self._watchers.values():
            for watcher in watchers:
                watcher.end(error)
        self._listeners.end()

    # ----------------------------------------------------------------------- tasks

    @trio.lowlevel.enable_ki_protection
    async def run(self) -> None:  # noqa: ASYNC910 - internal: callers make the checkpoint
        """Find out what watchers want to know; sleep while there are none."""
        while not self._over:
            await self._wanted.wait()
            if not (self._watchers or self._listeners):
                continue  # the watcher that woke this task left before it could run
            # A watcher that came while the tasks were ending may not have had its key read.
            self._new = dict.fromkeys(self._watchers)
            async with trio.open_nursery() as nursery:
                self._scope = nursery.cancel_scope
                for task in (self._listen, self._poll, self._read):
                    nursery.start_soon(self._unless_over, task)
            self._scope = None

    @trio.lowlevel.enable_ki_protection
    async def _unless_over(self, task: Callable[[], Awaitable[None]]) -> None:  # noqa: ASYNC910 - internal
        try:
            await task()
        except (CounterClosedError, InstanceConflictError):
            # The counter stops: it ends its watches itself.
            await trio.sleep_forever()

    @trio.lowlevel.enable_ki_protection
    async def _listen(self) -> None:
        async with self._store.subscribe(self._prefix) as subscription:
            if subscription is None:
                await self._go_without()
            else:
                await self._follow(subscription)

    async def _go_without(self) -> None:
        """Have each key read again and again, as often as its lag allows."""
        self._restless = True
        try:
            self.changed(self._watchers)
            while True:
                self._listeners.tell(None)
                await trio.sleep(_PACE_OF_LISTENERS)
        finally:
            self._restless = False

    async def _follow(self, subscription: Subscription) -> None:
        pause, since = _FIRST_BACKOFF, None  # when the store has begun to refuse
        made_at = inf
        while True:  # noqa: ASYNC913 - connecting is a checkpoint
            try:
                await subscription.connect()
                # In this order, so that no change falls between a read and the first notice.
                await self._lease()
                self._tell_of(None)
                made_at = trio.current_time()
                if since is not None:
                    self._log.pushed(trio.current_time() - since)
                    since = None
                while True:
                    changed = await subscription.wait()
                    self._tell_of(changed)
            except StoreUnavailableError:
                if trio.current_time() - made_at > _LONGEST_BACKOFF:  # and it has lasted
                    pause = _FIRST_BACKOFF
                made_at = inf
                await trio.sleep(pause * random.uniform(0.5, 1.0))
                pause = min(2 * pause, _LONGEST_BACKOFF)
            except StoreError as error:
                if since is None:
                    since = trio.current_time()
                    self._log.not_pushed(error)
                with trio.move_on_after(_POLL):  # then again: the refusal may have had its reason
                    await self._go_without()

    def _tell_of(self, changed: frozenset[str] | None) -> None:
        """Take in a notice of changes; None means that anything may have changed."""
        self.changed(self._watchers if changed is None else changed)
        self._listeners.tell(changed)

    @trio.lowlevel.enable_ki_protection
    async def _poll(self) -> None:
        polls = 0
        while True:
            await trio.sleep(_POLL)
            polls += 1
            self._listeners.drop_resting()
            self._end_if_unwanted()
            with suppress(StoreError):  # an actor logs it; all is read in any case
                await self._lease()
            self.changed(self._watchers)
            if not polls % _POLLS_OF_LISTENERS:
                self._listeners.poll()

    async def _lease(self) -> None:
        """Have the store push for a while."""
        await self._ask(QueryOperation(Watch(self.instance, int(_LEASE * MICROSECONDS))))

    @trio.lowlevel.enable_ki_protection
    async def _read(self) -> None:
        """Read what is due: new keys at once, others at most once in a lag."""
        while True:  # noqa: ASYNC913 - either way is one
            self._work = trio.Event()
            keys, lags = self._due(trio.current_time())
            if keys:
                refused = False
                for start in range(0, len(keys), MAX_ENTRIES):
                    refused |= not await self._tell(keys[start : start + MAX_ENTRIES])
                now = trio.current_time()
                self._rested = {lag: due for lag, due in self._rested.items() if due > now}
                # A store that refuses has trouble enough.
                least = _POLL if refused else 0.0
                self._rested.update((lag, now + max(lag, least)) for lag in lags)
                if self._restless:
                    self.changed(keys)
            else:
                # Sleep only until the first of those that wait is due: another may come before it.
                with trio.move_on_at(min((self._rested[lag] for lag in self._unread), default=inf)):
                    await self._work.wait()

    def _due(self, now: float) -> tuple[list[str], list[float]]:
        """Take out and return the keys to be read now, and the lags that begin anew with that."""
        keys, self._new = self._new, {}
        lags = [lag for lag in self._unread if self._rested.get(lag, now) <= now]
        for lag in lags:
            keys |= self._unread.pop(lag)
        return [key for key in keys if key in self._watchers], lags

    async def _tell(self, keys: Sequence[str]) -> bool:  # noqa: ASYNC910 - asking is a checkpoint, even in vain
        """Read keys in one step, and tell who watches them; False if the store refuses."""
        batch = AtomicBatch([Entry(Kind.ADD, key, 0) for key in keys])
        latest = self._joined  # who joins later may have seen more than this answer knows
        try:
            await self._ask(batch)
        except StoreError:  # which the actor logs
            return False  # noqa: ASYNC910 - asking was one
        for key, found in zip(keys, batch.results, strict=False):
            if not isinstance(found, Previous):
                continue
            value = self._view(key, found)
            if value is None:
                self._new[key] = None
                continue
            for watcher in self._watchers.get(key, ()):
                if watcher.number <= latest:
                    watcher.tell(value)
        return True

    def _view(self, key: str, found: Previous) -> CounterValue | None:
        """Return the value as this instance's own reads show it (I8, own reads).

        None if somebody's move has made the answer void since it came.
        """
        buffered = self._buffer.find(key) if self._buffer is not None else None
        if buffered is None or not buffered.has_base:
            return CounterValue(*found)
        return None if buffered.read_at == NEVER else buffered.value

    def changed(self, keys: Iterable[str]) -> None:
        """Have those of the keys read soon that are watched."""
        for key in keys:
            lag = self._lags.get(key)
            if lag is None:
                continue
            if lag not in self._unread:  # else the reader knows when they are due
                self._unread[lag] = {}
                self._work.set()
            self._unread[lag][key] = None
