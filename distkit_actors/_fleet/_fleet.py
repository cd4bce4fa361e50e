"""A look at all instances of a prefix by one who is none of them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import islice
from typing import Final

import trio

from .._actor._groups import sole
from .._actor._operations import AtomicBatch, Operation, QueryOperation
from .._actor._watches import Watches
from .._counters._batches import checked_names
from .._errors import CounterClosedError
from .._protocol._about import instance_infos
from .._protocol._conditions import Condition, checked_condition
from .._protocol._messages import Forget, Forgotten, Previous, QueryKind
from .._protocol._values import CounterValue, InstanceInfo, checked_id, checked_name
from .._stores._contract import Link, Store
from .._stores._urls import checked_store
from ._inquiry import Inquiry, all_pages, all_rows
from ._looking import values_of

#: How many keys are looked at in one step.
_KEYS: Final = 100


class Fleet:
    """All instances of a prefix, seen by one who takes no part.

    ::

        async with Fleet.open("my_app", "redis://localhost") as fleet:
            print(await fleet.instances())
            print(await fleet.get("connections"))

    For dashboards, exporters, scripts and the command line. It registers nothing, sends no
    heartbeats and takes no slices of the dead away; only `forget` changes something. Its methods
    are called as those of a counter, and return the same. A value's ``instance_count`` is 0.

    What it sees is right though nobody takes the slices of the dead away: whoever was silent for
    longer than its threshold is dead, and its slices are in no value. Two kinds of silence do not
    count: that in which the store could not be reached, and a jump of the store's clock. But a
    fleet that was just opened cannot tell an outage that ended a moment ago from a death, and takes
    for dead whom the store has not heard. So, of a prefix whose last instance has died, it says
    just that: `instances` with ``alive=False``, and values of 0.

    While the store is away its methods wait, as those of a strict counter do; none takes a timeout,
    so put a cancel scope around them. They may be called by any number of tasks, in the trio thread
    that has opened it. They need the right to read only, but for `forget`, and `watch` without it
    reads again and again.
    """

    def __init__(self, prefix: str, store: Store, link: Link) -> None:
        # Not for users: `open` makes it.
        self._prefix = prefix
        self._inquiry = Inquiry(prefix, link)
        self._watches = Watches(store, prefix, "", None, self._ask_for_watches)
        self._closed = False

    @classmethod
    def open(cls, prefix: str, store: Store | str) -> AbstractAsyncContextManager[Fleet]:
        """Return a block in which one may look; ``store`` is a `Store` or a URL.

        Entering it connects, and is a checkpoint. Leaving it, or cancelling it, ends what waits.
        The nursery inside stays out of sight: a failed start and an exception of the body come out
        as they are, not in a group.

        Raises:
            StoreUnavailableError: On entry: the store cannot be reached. Later it is waited for.
            StoreError: On entry: the store refuses us.
            InvalidKeyError: At once: the prefix cannot be one.
            TypeError: At once: ``store`` is neither a `Store` nor a URL.
            ValueError: At once: a bad URL.
        """
        return cls._opened(checked_name(prefix, "prefix"), checked_store(store))

    @staticmethod
    async def prefixes(store: Store | str) -> list[str]:
        """Return the prefixes that somebody lives under, or whose dead have slices left. Sorted.

        One that comes or goes meanwhile may be missing or not. On Redis it looks at the names of
        all keys of the database (``SCAN``), a thousand in a step. A checkpoint; cancelling it
        leaves nothing behind.

        Raises:
            StoreUnavailableError: The store cannot be reached: this does not wait.
            StoreError: The store refuses, or is one that cannot tell.
            TypeError: ``store`` is neither a `Store` nor a URL.
            ValueError: A bad URL.
        """
        return await checked_store(store).prefixes()

    @classmethod
    @asynccontextmanager
    async def _opened(cls, prefix: str, store: Store) -> AsyncGenerator[Fleet]:
        raised: BaseException | None = None  # by the start or the body, or by what cancels it
        hidden: BaseException | None = None  # by the nursery that nobody knows of
        try:
            async with store.link(prefix) as link, trio.open_nursery() as nursery:
                try:
                    fleet = cls(prefix, store, link)
                    await fleet._inquiry.start()
                    nursery.start_soon(fleet._inquiry.run)  # noqa: ASYNC113 - what is asked waits for it
                    nursery.start_soon(fleet._watches.run)  # noqa: ASYNC113 - as above
                    try:
                        yield fleet
                    finally:
                        fleet._close()
                except BaseException as error:  # noqa: BLE001, ASYNC103 - raised below
                    raised = error
                nursery.cancel_scope.cancel()
        except BaseException as error:  # noqa: BLE001, ASYNC103 - raised below
            hidden = error
        if raised is None or sole(raised) is None:
            raised = (hidden and sole(hidden)) or raised or hidden
        if raised is not None:
            raise raised

    def _close(self) -> None:
        self._closed = True
        self._inquiry.close()
        self._watches.close(None)

    @property
    def prefix(self) -> str:
        """The name of the family."""
        return self._prefix

    def __repr__(self) -> str:
        """Show the name, and whether one may still look."""
        return f"<Fleet {self._prefix!r}, {'closed' if self._closed else 'open'}>"

    # ------------------------------------------------------------------- instances

    async def instances(self) -> list[InstanceInfo]:
        """Return the instances that live, and the dead whose slices wait to be taken away, by id.

        Read in steps of some hundred, so one that joins or leaves meanwhile may be missing or not.
        A checkpoint; cancelling it leaves nothing behind. Raises what `get` raises.
        """
        return instance_infos(await all_pages(self._inquiry.ask, QueryKind.INSTANCES))

    async def slices(self, key: str) -> dict[str, int]:
        """Return which living instances contribute what, ``{instance_id: slice}``.

        See `instances` for the rest.
        """
        rows = await self._look(QueryKind.SLICES, checked_name(key))
        return {name: value for name, value, alive in rows if alive}

    async def forget(self, instance_id: str) -> None:  # noqa: ASYNC910 - one step at least
        """Take an instance for dead and its slices away, now, without waiting for its threshold.

        For one that hangs but still beats, whose threshold is long, or who died with all others, so
        that nobody is left to take its slices away. If it lives, it comes back with its slices when
        it next reaches the store; stop it for good by stopping its process. An id that nobody has
        is no error. In steps of some hundred keys. A checkpoint; cancelled in the midst, some of
        the slices are gone, and the rest go with the next heartbeat of any instance. Needs the
        right to write. Raises what `get` raises, and ValueError for what is no id.
        """
        checked_id(instance_id)
        more = True
        while more:  # noqa: ASYNC913 - each step is a checkpoint
            reply = await self._inquiry.ask(Forget("", instance_id))
            assert isinstance(reply, Forgotten)
            more = bool(reply.left and reply.gone)

    # ---------------------------------------------------------------------- values

    async def keys(self) -> list[str]:
        """Return the keys whose cumulative is not 0. Sorted.

        A key whose slices cancel each other out is not among them, those of the dead included until
        they have been taken away. See `instances` for the rest.
        """
        rows = await self._look(QueryKind.KEYS)
        values = await self._values([key for key, _, _ in rows])
        return sorted(key for key, value in values.items() if value.cumulative)

    async def get(self, key: str) -> CounterValue:
        """Return the current value; ``(0, 0)`` for a key that nobody counts.

        A checkpoint; cancelling it leaves nothing behind. It is what a counter would be told whose
        instance counts nothing, once the dead have been taken away. Where some hundred dead
        instances wait for that, they are looked at in several steps, and one that is taken away
        meanwhile may still be in the value.

        Raises:
            InvalidKeyError: Not a key.
            StoreError: The store refuses.
            CounterClosedError: The block of `open` was left.
            RuntimeError: Not called in a task of the trio thread that has opened it.
        """
        return (await self._values([checked_name(key)]))[key]

    async def get_all(self, keys: Iterable[str]) -> dict[str, CounterValue]:
        """Return the values of several keys; ``(0, 0)`` for one that nobody counts.

        The values of up to 100 keys are those of one instant; more are read in steps. See `get` for
        the rest. Raises `TypeError` for a single string.
        """
        return await self._values(list(checked_names(keys)))

    def watch(
        self, key: str, *, allowed_lag: float = 0.02
    ) -> AbstractAsyncContextManager[trio.abc.ReceiveChannel[CounterValue]]:
        """Return a block that gives a channel of the values of ``key``.

        As `InstanceAwareCounter.watch`: the current value comes first, then each other one, and the
        latest wins. That of a death comes within two seconds though nobody is left to notice
        it. The channel ends with the block of `open`. Without the right to write, the store cannot
        be asked to push, and the key is read every ``allowed_lag`` seconds.

        Raises:
            InvalidKeyError: Not a key.
            ValueError: ``allowed_lag`` is not a positive number of seconds.
            CounterClosedError: On entry: the block of `open` was left.
        """
        checked_name(key)
        if not 0 < allowed_lag < float("inf"):
            raise ValueError(f"allowed_lag must be positive seconds, not {allowed_lag}")
        return self._watch(key, allowed_lag)

    @asynccontextmanager
    async def _watch(
        self, key: str, lag: float
    ) -> AsyncGenerator[trio.abc.ReceiveChannel[CounterValue]]:
        self._inquiry.check_task()
        await trio.lowlevel.checkpoint()
        self._inquiry.check_open()
        watcher = self._watches.join(key, lag)
        try:
            yield watcher
        finally:
            watcher.close()

    async def wait_until(self, key: str, condition: Condition) -> CounterValue:
        """Wait until the cumulative of ``key`` satisfies ``condition``; return the value then.

        As `InstanceAwareCounter.wait_until`. A checkpoint; cancelling it leaves nothing behind.

        Raises:
            TypeError: ``condition`` is no condition.
            InvalidKeyError: Not a key.
            CounterClosedError: The block of `open` was left.
        """
        checked_condition(condition)
        async with self.watch(key) as values:
            async for value in values:
                if condition.holds(value.cumulative):
                    return value
        raise CounterClosedError("the fleet was closed before the condition held")

    # ------------------------------------------------------------------- questions

    async def _look(  # noqa: ASYNC910 - asking is a checkpoint
        self, kind: QueryKind, key: str = "", keys: Sequence[str] = ()
    ) -> list[tuple[str, int, bool]]:
        return await all_rows(self._inquiry.ask, kind, key, keys)

    async def _values(self, keys: Sequence[str]) -> dict[str, CounterValue]:
        values: dict[str, CounterValue] = {}
        left = iter(dict.fromkeys(keys))
        # One look at least, so that it is a checkpoint, and tells of the store.
        while (some := tuple(islice(left, _KEYS))) or not values:  # noqa: ASYNC913
            rows = await self._look(QueryKind.VALUES, "", some)
            values |= {key: CounterValue(v, 0) for key, v in values_of(some, rows).items()}
            if len(some) < _KEYS:
                break
        return values  # noqa: ASYNC910 - there was one look at least

    async def _ask_for_watches(self, operation: Operation) -> tuple[int, int]:  # noqa: ASYNC910 - internal: asking is a checkpoint
        """Do for `Watches` what an actor does."""
        if isinstance(operation, QueryOperation):
            operation.reply = await self._inquiry.ask(operation.request)
        else:
            assert isinstance(operation, AtomicBatch)
            keys = [entry.key for entry in operation.entries]
            values = await self._values(keys)
            operation.results = [Previous(values[key].cumulative, 0) for key in keys]
        return 0, 0
