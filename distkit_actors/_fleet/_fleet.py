"""A look at all instances of a prefix by one who is none of them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, closing
from functools import partial
from itertools import chain
from typing import TypeVar

import trio

from .._actor._groups import all_of, let_interrupt_out, one_of, sole
from .._actor._watching import checked_lag, first_that_holds
from .._counters._batches import checked_names
from .._errors import CounterClosedError
from .._protocol._about import instance_infos
from .._protocol._conditions import Condition, checked_condition
from .._protocol._partitions import part_of
from .._protocol._values import CounterValue, InstanceInfo, checked_id, checked_name
from .._stores._contract import Store
from .._stores._urls import checked_store
from ._part import FleetPart, carry, started

_T = TypeVar("_T")


class Fleet:
    """A look at all instances of a prefix, from outside.

    ::

        async with Fleet.open("my_app", "redis://localhost") as fleet:
            print(await fleet.instances())
            print(await fleet.get("connections"))

    It is for dashboards, exporters, scripts and the command line. It is no instance: it registers
    nothing, sends no heartbeats, and does not take the slices of the dead away. Only `forget`
    changes something. Its methods have the names of a counter's, and return the same. The
    ``instance_count`` of a value is 0.

    Its values leave dead instances out, even if their slices are still in the store. An instance is
    dead if it was silent for longer than its threshold. Two kinds of silence do not count: time in
    which the store did not answer or refused, and a jump of the store's clock. But a `Fleet` cannot
    know of an outage in which it asked nothing, or of a store that only takes no writes. It then
    takes instances for dead that had no chance to be heard. If all are dead, all values are 0.
    Whoever starts then makes them alive for one more threshold, as the store may have been away.

    While the store is away its methods wait, as those of a strict counter do. None takes a timeout:
    put a cancel scope around them. Any number of tasks may call them, in the trio thread that has
    opened it. All but `forget` need only the right to read. Without the right to write, `watch`
    reads again and again instead of being told of changes.

    When it is opened, it finds out over how many parts the keys of the prefix are spread (see
    `RedisStore`): over as many as the instances there say, or the store if there are none. It asks
    the first part, and the second one if nobody is in the first. If the number changes later, its
    methods raise `StoreError`: open another `Fleet`.
    """

    __module__ = "distkit_actors"  # which imports it when it is asked for

    def __init__(self, prefix: str) -> None:
        # Not for users: `open` makes it.
        self._prefix = prefix
        self._parts: Sequence[FleetPart] = ()
        self._closed = False  # `_life` does not say it in other threads
        self._life = trio.CancelScope(shield=True)  # of what asks, until the body has ended

    @classmethod
    def open(cls, prefix: str, store: Store | str) -> AbstractAsyncContextManager[Fleet]:
        """Return a block in which one may look; ``store`` is a `Store` or a URL.

        Entering and leaving it are checkpoints. Entering connects, and leaving ends what waits. If
        the block is cancelled, one may look until its body has ended.
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

        One that comes or goes meanwhile may be missing or not. On Redis it looks at all names of
        the database (``SCAN``), in steps. A checkpoint; cancelling it leaves nothing behind.

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
            async with AsyncExitStack() as links:
                try:
                    fleet = cls(prefix)
                    fleet._parts = await started(prefix, store, links)
                except BaseException as error:  # noqa: BLE001, ASYNC103 - raised below
                    raised = sole(error) or one_of(error)
                else:
                    try:
                        async with trio.open_nursery() as nursery:
                            try:
                                life, body = fleet._life, nursery.cancel_scope
                                nursery.start_soon(carry, fleet._parts, life, body)  # noqa: ASYNC113 - what is asked waits
                                yield fleet
                            except BaseException as error:  # noqa: BLE001, ASYNC103 - raised below
                                raised = error
                            finally:
                                fleet._closed = True
                                fleet._life.cancel()
                    except BaseException as error:  # noqa: BLE001, ASYNC103 - raised below
                        hidden = error
        except BaseException as error:  # noqa: BLE001, ASYNC103 - raised below
            hidden = hidden or error
        let_interrupt_out(raised, hidden)  # that came while the block was left
        if raised is None or sole(raised) is None:
            raised = (hidden and sole(hidden)) or raised or (hidden and one_of(hidden))
        if raised is not None:
            raise raised
        await trio.lowlevel.checkpoint_if_cancelled()  # nothing in the nursery has noticed

    def _of(self, key: str) -> FleetPart:
        return self._parts[part_of(key, len(self._parts))]

    @property
    def partitions(self) -> int:
        """Over how many parts the keys of the prefix are spread, as far as it could be seen."""
        return len(self._parts)

    @property
    def prefix(self) -> str:
        """The prefix that it looks at."""
        return self._prefix

    def __repr__(self) -> str:
        """Show the name, and whether one may still look."""
        return f"<Fleet {self._prefix!r}, {'closed' if self._closed else 'open'}>"

    # ------------------------------------------------------------------- instances

    async def instances(self) -> list[InstanceInfo]:
        """Return the instances that live, and the dead that are not reaped yet, by id.

        A dead one is told until an instance has noticed its death, and its slices are gone; where
        no instance lives, until `forget`. Read in steps of some hundred, so one that joins or
        leaves meanwhile may be missing or not. Of several parts, see
        `InstanceAwareCounter.instances`.
        A checkpoint; cancelling it leaves nothing behind. Raises what `get` raises.
        """
        return instance_infos(*await self._of_each(FleetPart.instances))

    async def slices(self, key: str) -> dict[str, int]:
        """Return which living instances contribute what, ``{instance_id: slice}``.

        Read in steps, as `instances`. A checkpoint; cancelling it leaves nothing behind. Raises
        what `get` raises.
        """
        return await self._of(checked_name(key)).slices(key)

    async def forget(self, instance_id: str) -> None:  # noqa: ASYNC910 - one step at least
        """Mark an instance dead and remove its slices now, without waiting for its threshold.

        For one that hangs but still beats, whose threshold is long, or who died with all others, so
        that nobody is left to take its slices away. If it lives, it comes back with its slices when
        it next reaches the store; stop it for good by stopping its process. An id that nobody has
        is no error. In steps of some hundred keys; of several parts, the first two come last. A
        checkpoint; cancelled in the midst, some of the slices are gone, and the rest go with the
        next heartbeat of any instance. Needs the right to write. Raises as `get`; ValueError for
        what is no id.
        """
        forget = partial(FleetPart.forget, instance_id=checked_id(instance_id))
        # Where nobody is left, only what is in the first two parts says over how many the namespace
        # is spread. It must stay until nothing is left elsewhere (P44, parts).
        for some in (self._parts[2:], self._parts[:2]):  # noqa: ASYNC913 - the latter is not empty
            await all_of([partial(forget, part) for part in some])

    # ---------------------------------------------------------------------- values

    async def keys(self) -> list[str]:
        """Return the keys whose cumulative is not 0. Sorted.

        A key whose slices add up to 0 is left out. Slices of the dead are in this sum until they
        are taken away. Read in steps, as `instances`. A checkpoint; cancelling it leaves
        nothing behind. Raises what `get` raises.
        """
        return sorted(chain.from_iterable(await self._of_each(FleetPart.keys)))

    async def get(self, key: str) -> CounterValue:
        """Return the current value; ``(0, 0)`` for a key that nobody counts.

        A checkpoint; cancelling it leaves nothing behind. The value leaves dead instances out. If
        900 instances or more have died, and their slices are still in the store, it looks at them
        in several steps. A slice that is removed meanwhile may be wrongly in the value, or left
        out twice.

        Raises:
            InvalidKeyError: Not a key.
            StoreError: The store refuses.
            CounterClosedError: The block of `open` was left.
            RuntimeError: Not called in a task of the trio thread that has opened it.
        """
        return (await self._of(checked_name(key)).values([key]))[key]

    async def get_all(self, keys: Iterable[str]) -> dict[str, CounterValue]:
        """Return the values of several keys; ``(0, 0)`` for one that nobody counts.

        The values of up to 100 keys in one part are those of one instant; more are read in steps,
        and those in several parts at the same time. While the slices of many dead instances are
        still in the store, a step has fewer keys: 41 with a hundred dead, 8 from 375 on, from where
        on what `get` says of 900 holds. A checkpoint; cancelling it leaves nothing behind. Raises
        what `get` raises, and `TypeError` for a single string.
        """
        wanted = checked_names(keys)
        shares: dict[FleetPart, list[str]] = {}
        for key in wanted:
            shares.setdefault(self._of(key), []).append(key)
        shares = shares or {self._parts[0]: []}
        found = await all_of([partial(part.values, some) for part, some in shares.items()])
        values = {key: value for some in found for key, value in some.items()}
        return {key: values[key] for key in wanted}

    def watch(
        self, key: str, *, allowed_lag: float = 0.02
    ) -> AbstractAsyncContextManager[trio.abc.ReceiveChannel[CounterValue]]:
        """Return a block that gives a channel of the values of ``key``.

        As `InstanceAwareCounter.watch`: the current value comes first, then newer ones; a slow
        reader gets the latest. A death is seen within two seconds, even if no instance is left. The
        channel ends with the block of `open`, and raises `StoreError` if the number of parts
        changes. Without the right to write, the key is read every ``allowed_lag`` seconds.

        Raises:
            InvalidKeyError: Not a key.
            ValueError: ``allowed_lag`` is not a positive number of seconds.
            CounterClosedError: On entry: the block of `open` was left.
        """
        checked_name(key)
        return self._watch(key, checked_lag(allowed_lag))

    @asynccontextmanager
    async def _watch(
        self, key: str, lag: float
    ) -> AsyncGenerator[trio.abc.ReceiveChannel[CounterValue]]:
        part = self._of(key)
        part.inquiry.check_task()
        await trio.lowlevel.checkpoint()
        part.inquiry.check_open()
        with closing(part.watches.join(key, lag)) as values:
            yield values

    async def wait_until(self, key: str, condition: Condition) -> CounterValue:
        """Wait until the cumulative of ``key`` satisfies ``condition``; return the value then.

        As `InstanceAwareCounter.wait_until`. A checkpoint; cancelling it leaves nothing behind.

        Raises:
            TypeError: ``condition`` is no condition.
            InvalidKeyError: Not a key.
            StoreError: The number of parts has changed; any other refusal is waited for.
            CounterClosedError: The block of `open` was left.
        """
        checked_condition(condition)
        value = await first_that_holds(self.watch(key), condition)
        if value is None:
            raise CounterClosedError("the fleet was closed before the condition held")
        return value

    # ----------------------------------------------------------------------- parts

    async def _of_each(self, work: Callable[[FleetPart], Awaitable[_T]]) -> list[_T]:
        return await all_of([partial(work, part) for part in self._parts])
