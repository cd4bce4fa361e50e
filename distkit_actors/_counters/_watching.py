"""Following a value."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing

import trio

from .._actor._watching import checked_lag, first_that_holds
from .._errors import CounterClosedError
from .._protocol._conditions import Condition, checked_condition
from .._protocol._values import CounterValue, checked_name
from ._base import CounterBase


class WatchMixin(CounterBase):
    """Values as they come."""

    def watch(
        self, key: str, *, allowed_lag: float = 0.02
    ) -> AbstractAsyncContextManager[trio.abc.ReceiveChannel[CounterValue]]:
        """Return a block that gives a channel of the values of ``key``.

        ::

            async with counter.watch("connections") as values:
                async for value in values:
                    ...

        The current value comes first, then newer ones, whoever has changed it: this instance,
        another one, or the death or return of one. A reader that is slow gets the latest value, and
        misses those in between. `RedisStore` and `MemoryStore` push notice of changes. The key is
        then read, at most once in ``allowed_lag`` seconds; watches with a shorter one are told
        sooner, whoever else watches. From a store that cannot push, it is read every
        ``allowed_lag`` seconds. In any case it is read every two seconds, as a notice may get lost.
        While the store is away no values come. On a lax counter the values are those that
        `InstanceAwareCounter.get` would give; reading them takes what is pending on the key along.

        All watches of a store share one more connection; in a cluster, one to each node that serves
        a key that is watched. With `RedisStore.from_pool` each counter has one of its own, for each
        part with such a key. A part that is away holds up its own keys only. Entering and leaving
        the block do not wait for the store; entering is a checkpoint. The channel's ``receive``
        raises `trio.EndOfChannel` when the counter stops, which ends an ``async for``,
        `InstanceConflictError` when another counter takes over, and `CounterClosedError`, with its
        cause, when the counter crashes. One task receives from a channel:
        a second one gets `trio.BusyResourceError`, as each would miss what the other takes.

        Raises:
            InvalidKeyError: Not a key.
            ValueError: ``allowed_lag`` is not a positive number of seconds.
            CounterClosedError: On entry: the counter is not running.
            InstanceConflictError: On entry: another counter has taken over.
        """
        checked_name(key)
        return self._watch(key, checked_lag(allowed_lag))

    @asynccontextmanager
    async def _watch(
        self, key: str, lag: float
    ) -> AsyncGenerator[trio.abc.ReceiveChannel[CounterValue]]:
        self._actor.check_task()
        await trio.lowlevel.checkpoint()
        await self._actor.wait_open()
        with closing(self._actor.of(key).watches.join(key, lag)) as values:
            yield values

    async def wait_until(self, key: str, condition: Condition) -> CounterValue:
        """Wait until the cumulative of ``key`` satisfies ``condition``; return the value then.

        ``await counter.wait_until("jobs", Eq(0))``. It may have changed again by the time this
        returns, and what was true for less than a moment may be missed; see `watch`. A
        checkpoint; cancelling it leaves nothing behind.

        Raises:
            TypeError: ``condition`` is no condition.
            InvalidKeyError: Not a key.
            CounterClosedError: The counter is not running, or stopped meanwhile.
            InstanceConflictError: Another counter has taken over.
        """
        checked_condition(condition)
        value = await first_that_holds(self.watch(key), condition)
        if value is None:
            raise CounterClosedError("the counter was stopped before the condition held")
        return value
