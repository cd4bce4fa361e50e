"""Who wants to hear of which keys, and the tasks that find out for them.

A store that can pushes word of changes; word is a hint to read, and may be lost (P37). So
a key is read when somebody begins to watch it, when word of it comes, whenever the
subscription has been made again, and every `_POLL` seconds in any case.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from itertools import islice
from typing import Final

import trio

from .._core._messages import MAX_ENTRIES, Before, Entry, Kind, Watch
from .._core._values import CounterValue
from .._errors import CounterClosedError, InstanceConflictError, StoreError, StoreUnavailableError
from .._stores._contract import Store, Tidings
from ._operations import Bundle, Inquiry, Operation
from ._outcomes import copy_of

logger = logging.getLogger("distkit_actors")

#: Seconds between two reads of everything that is watched, word or no word.
_POLL: Final = 2.0
#: Seconds for which the store is asked to push: a few polls may be late.
_LEASE: Final = 4 * _POLL
#: First and longest pause before a lost subscription is made again, in seconds.
_FIRST_BACKOFF: Final = 0.02
_LONGEST_BACKOFF: Final = _POLL


class Watcher(trio.abc.ReceiveChannel[CounterValue]):
    """The values of one key, for one reader: the latest wins."""

    def __init__(self, watches: Watches, key: str, lag: float) -> None:
        self.key = key
        self.lag = lag
        self._watches = watches
        self._last: CounterValue | None = None  # received last
        self._next: CounterValue | None = None  # not received yet
        self._news = trio.Event()
        self._closed = False
        self._ended = False
        self._error: Exception | None = None

    def tell(self, value: CounterValue) -> None:
        """Take in what the value is."""
        self._next = None if value == self._last else value
        if self._next is not None:
            self._wake()

    def end(self, error: Exception | None) -> None:
        """There will be no more values."""
        self._ended = True
        self._error = error
        self._wake()

    async def receive(self) -> CounterValue:
        """Return the current value at first, then the latest that is another.

        A checkpoint; cancelling it loses nothing.

        Raises:
            trio.EndOfChannel: The counter has stopped.
            InstanceConflictError: Another counter has taken over.
            trio.ClosedResourceError: The channel was closed here.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        while self._next is None or self._closed:
            if self._closed:
                raise trio.ClosedResourceError
            if self._ended:
                raise trio.EndOfChannel if self._error is None else copy_of(self._error)
            await self._news.wait()
        await trio.lowlevel.cancel_shielded_checkpoint()
        self._last, self._next = self._next, None
        assert self._last is not None
        return self._last

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

    def __init__(
        self,
        store: Store,
        prefix: str,
        instance: str,
        ask: Callable[[Operation], Awaitable[tuple[int, int]]],
        view: Callable[[str, Before], CounterValue],
    ) -> None:
        self._store = store
        self._prefix = prefix
        self._instance = instance
        self._ask = ask
        self._view = view
        self._watchers: dict[str, set[Watcher]] = {}
        self._unread: dict[str, None] = {}
        self._wanted = trio.Event()  # somebody watches
        self._work = trio.Event()  # something is unread
        self._scope: trio.CancelScope | None = None
        self._over = False
        self._error: Exception | None = None

    # -------------------------------------------------------------------- watchers

    def join(self, key: str, lag: float) -> Watcher:
        """Begin to watch ``key``."""
        watcher = Watcher(self, key, lag)
        if self._over:
            watcher.end(self._error)
        else:
            self._watchers.setdefault(key, set()).add(watcher)
            self._wanted.set()
            self.changed({key})
        return watcher

    def leave(self, watcher: Watcher) -> None:
        """Forget a watcher."""
        watchers = self._watchers.get(watcher.key, set())
        watchers.discard(watcher)
        if not watchers:
            self._watchers.pop(watcher.key, None)
        if not self._watchers:
            self._wanted = trio.Event()
            if self._scope is not None:
                self._scope.cancel()

    def close(self, error: Exception | None) -> None:
        """End all watching, for good."""
        self._over, self._error = True, error
        for watchers in self._watchers.values():
            for watcher in watchers:
                watcher.end(error)

    # ----------------------------------------------------------------------- tasks

    async def run(self) -> None:  # noqa: ASYNC910 - internal: callers make the checkpoint
        """Find out what watchers want to know; sleep while there are none."""
        while not self._over:
            await self._wanted.wait()
            async with trio.open_nursery() as nursery:
                self._scope = nursery.cancel_scope
                for task in (self._listen, self._poll, self._read):
                    nursery.start_soon(self._unless_over, task)
            self._scope = None

    async def _unless_over(self, task: Callable[[], Awaitable[None]]) -> None:  # noqa: ASYNC910 - internal
        try:
            await task()
        except (CounterClosedError, InstanceConflictError):
            # The counter stops: it ends its watches itself.
            await trio.sleep_forever()

    async def _listen(self) -> None:
        async with self._store.tidings(self._prefix) as tidings:
            if tidings is None:
                await self._go_without()
            else:
                await self._follow(tidings)

    async def _go_without(self) -> None:
        """Read again and again, as often as the most impatient wants."""
        while True:
            await trio.sleep(self._lag())
            self.changed(self._watchers)

    async def _follow(self, tidings: Tidings) -> None:
        pause, refused = _FIRST_BACKOFF, False
        while True:  # noqa: ASYNC913 - connecting is a checkpoint
            try:
                await tidings.connect()
                # In this order, so that no change falls between a read and the first word.
                await self._lease()
                self.changed(self._watchers)
                pause, refused = _FIRST_BACKOFF, False
                while True:
                    changed = await tidings.wait()
                    self.changed(self._watchers if changed is None else changed)
            except StoreUnavailableError:
                await trio.sleep(pause * random.uniform(0.5, 1.0))
                pause = min(2 * pause, _LONGEST_BACKOFF)
            except StoreError as error:
                if not refused:
                    logger.warning("%s: changes are not pushed, so read: %s", self._prefix, error)
                refused = True
                with trio.move_on_after(_POLL):  # a right may be granted, and memory be found
                    await self._go_without()

    async def _poll(self) -> None:
        while True:
            await trio.sleep(_POLL)
            with suppress(StoreError):  # logged by the actor
                await self._lease()
            self.changed(self._watchers)

    async def _lease(self) -> None:
        """Have the store push for a while."""
        await self._ask(Inquiry(Watch(self._instance, int(_LEASE * 1_000_000))))

    async def _read(self) -> None:
        while True:
            await self._work.wait()
            keys = list(islice(self._unread, MAX_ENTRIES))
            for key in keys:
                del self._unread[key]
            if not self._unread:
                self._work = trio.Event()
            await self._tell(keys)
            await trio.sleep(self._lag())

    async def _tell(self, keys: Sequence[str]) -> None:  # noqa: ASYNC910 - asking is a checkpoint, even in vain
        """Read keys in one step, and tell who watches them."""
        bundle = Bundle([Entry(Kind.ADD, key, 0) for key in keys])
        # What the store refuses is logged by the actor, who goes on trying; the next poll does.
        with suppress(StoreError):
            await self._ask(bundle)
        for key, found in zip(keys, bundle.results, strict=False):
            if isinstance(found, Before):
                for watcher in self._watchers.get(key, ()):
                    watcher.tell(self._view(key, found))

    def changed(self, keys: Iterable[str]) -> None:
        """Have keys read soon, as far as anybody watches them."""
        if not self._watchers:
            return
        self._unread.update(dict.fromkeys(key for key in keys if key in self._watchers))
        if self._unread:
            self._work.set()

    def _lag(self) -> float:
        """Seconds for which the most impatient can do without a look."""
        lags = (watcher.lag for watchers in self._watchers.values() for watcher in watchers)
        return min(lags, default=_POLL)
