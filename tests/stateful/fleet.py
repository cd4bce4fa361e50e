"""The counters of one history, each on a faulty network of its own."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Literal

import trio

from distkit_actors import (
    CounterValue,
    InstanceAwareCounter,
    LaxInstanceAwareCounter,
    StrictInstanceAwareCounter,
)
from distkit_actors._actor._actor import Actor
from distkit_actors._actor._operations import Release
from distkit_actors._actor._partitioned import PartitionedActor
from distkit_actors.testing import FaultyStore
from tests.stateful.ends import Meters, Taps
from tests.stateful.operations import EXTREME, Wanted
from tests.stateful.reference import Op
from tests.stateful.wires import INTERVAL, THRESHOLD

#: Enough for a stop on a healthy network, as no time passes while it is busy.
GRACE = 0.05


_numbers = itertools.count()


class Call:
    """One call of a counter's method by a task of its own."""

    def __init__(self, wanted: Wanted, ops: Mapping[str, Op], heard: Sequence[int] = ()) -> None:
        self.wanted = wanted
        self.name = wanted.name
        self.ops = dict(ops)  # {key: what the model is told before it is over}
        self.block: Block | None = None  # that it enters
        self.heard = heard  # answers of each part of the store that its counter had before
        self.scope = trio.CancelScope()
        self.over = False
        self.number = 0  # in the order in which calls ended
        self.cancelled = False
        self.troubled: set[int | None] = set()  # parts with a lasting fault since it began
        self.unknown_to: set[int] = set()  # parts that had lost its counter when it began
        self.result: object = None
        self.error: Exception | None = None
        self.began = 0.0
        self.fresh: set[int] = set()  # parts of the store that were heard at once

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(map(repr, self.wanted.arguments))})"

    async def run(self, method: Callable[[], Awaitable[object]], taps: Taps) -> None:
        """Make the call and keep what comes of it."""
        self.began = trio.current_time()
        with self.scope:
            try:
                self.result = await method()
            except Exception as error:  # noqa: BLE001 (judged by the machine)
                self.error = error
        self.cancelled = self.scope.cancelled_caught
        if trio.current_time() == self.began:
            heard = enumerate(zip(taps.parts, self.heard, strict=True))
            self.fresh = {part for part, (tap, before) in heard if tap.answers > before}
        self.number = next(_numbers)
        self.over = True


class Block:
    """The block of one hold."""

    def __init__(self, who: str, key: str, count: int) -> None:
        self.hold = (who, next(_numbers))
        self.key = key
        self.count = count
        self.manager: AbstractAsyncContextManager[CounterValue] | None = None


class Member:
    """One counter, its network, and the calls that wait for an answer."""

    def __init__(
        self,
        meters: Meters,
        prefix: str,
        name: str,
        *,
        lax: bool,
        on_exit: Literal["leave", "linger"],
        inherit: bool,
        in_block: bool = False,
    ) -> None:
        self.name = name
        self.lax = lax
        self.on_exit = on_exit
        self.in_block = in_block  # of `open`, and not a task of its own
        self.network = FaultyStore(meters)
        self.taps = Taps(self.network, meters, self._watch)
        kind = LaxInstanceAwareCounter if lax else StrictInstanceAwareCounter
        made = {
            "instance_id": name,
            "dead_instance_threshold": THRESHOLD,
            "heartbeat_interval": INTERVAL,
            "on_exit": on_exit,
            "inherit": inherit,
            "exit_grace": GRACE,
        }
        self.counter: InstanceAwareCounter
        if in_block:
            self._block = kind.open(prefix, self.taps, **made)
        else:
            self.counter = kind(prefix, self.taps, **made)
        self.calls: list[Call] = []
        self.counts: dict[str, list[Op]] = {}  # lax: {key: counts not known to be stored}
        self.exits: dict[str, list[Op]] = {}  # strict: {key: ends of holds not known to be stored}
        self.blocks: list[Block] = []  # that are entered
        self.trouble: set[int | None] = set()  # parts with a lasting fault; None: all
        self.planned = False  # one that passes was planned
        self.stopping = False
        self.scope = trio.CancelScope()
        self.left = trio.Event()  # the body of `open`, once it has come to its end
        self.over = trio.Event()
        self.failure: BaseException | None = None
        self.watched: str | None = None  # the key whose local view is written down
        self.views: list[CounterValue] = []

    def __repr__(self) -> str:
        return f"{'lax' if self.lax else 'strict'} {self.name}"

    async def start(self, nursery: trio.Nursery) -> None:
        """Register with the store."""
        started = trio.Event()

        async def run() -> None:
            try:
                with self.scope:
                    if self.in_block:
                        await self._run_block(started)
                    else:
                        await self.counter.run(task_status=_Started(started))
            except BaseException as error:
                self.failure = error
                if not isinstance(error, Exception):
                    raise
            finally:
                self.over.set()
                started.set()

        nursery.start_soon(run)
        await started.wait()
        if self.failure is not None:
            raise self.failure

    async def _run_block(self, started: trio.Event) -> None:
        async with self._block as self.counter:
            started.set()
            try:
                await self.left.wait()
            except trio.Cancelled:  # from outside: a body need not end at once
                if not self.has_ended:
                    with trio.CancelScope(shield=True):
                        await self.left.wait()
                raise

    def ask(self, nursery: trio.Nursery, call: Call) -> None:
        """Begin a call."""
        self.calls.append(call)
        call.troubled |= self.trouble
        face = self.counter.strict if call.name.endswith("!") else self.counter
        method = partial(getattr(face, call.wanted.method), *call.wanted.arguments)
        if call.block is not None:
            call.block.manager = method()
            method = partial(call.block.manager.__aenter__)
        nursery.start_soon(call.run, method, self.taps)

    @property
    def troubled(self) -> bool:
        """Whether a lasting fault is on, anywhere."""
        return bool(self.trouble)

    @property
    def has_ended(self) -> bool:
        """Whether its counter counts no more, though the body of its block may go on."""
        return self.over.is_set() or self.counter.statistics().state in {"superseded", "closed"}

    @property
    def settled(self) -> bool:
        """Whether nothing is open between it and the store, at a quiet moment."""
        return all(map(self.settled_in, range(self.taps.partitions)))

    def settled_in(self, part: int) -> bool:
        """Whether nothing is open between it and a part of the store, at a quiet moment."""
        return self._at_rest_in(part) and not self._put_off_in(part)

    @property
    def can_stop(self) -> bool:
        """Whether a stop has nothing to do that may fail, at a quiet moment and without trouble.

        It tries ends of holds again that were put off. For some of them there may be no room.
        """
        parts = range(self.taps.partitions)
        put_off = (release.key for part in parts for release in self._put_off_in(part))
        return all(map(self._at_rest_in, parts)) and EXTREME not in put_off

    def _put_off_in(self, part: int) -> list[Release]:
        """Return the ends of holds that a part of the store has refused."""
        return self._actor_of(part)._dispatch.releases.deferred

    def _at_rest_in(self, part: int) -> bool:
        """Whether nothing else is open there."""
        tap, statistics = self.taps.parts[part], self._actor_of(part).statistics()
        return (
            tap.settled
            and not tap.waiting
            and not statistics.mailbox_length
            and not statistics.pending_keys
            and statistics.in_flight_age is None
        )

    def connected_to(self, part: int) -> bool:
        """Whether there is a connection to a part of the store."""
        return self._actor_of(part).statistics().connected

    def _actor_of(self, part: int) -> Actor:
        whole = self.counter._actor
        return whole.parts[part] if isinstance(whole, PartitionedActor) else whole

    @property
    def answers(self) -> list[int]:
        """How many answers it has had from each part."""
        return [tap.answers for tap in self.taps.parts]

    def all_counts(self) -> tuple[Op, ...]:
        """Return what it counted in memory and the store may not have."""
        return tuple(op for ops in self.counts.values() for op in ops)

    def view(self, key: str) -> CounterValue | None:
        """Return the local view of a lax counter, if it has one."""
        assert isinstance(self.counter, LaxInstanceAwareCounter)
        try:
            return self.counter.get_nowait(key)
        except trio.WouldBlock:
            return None

    def count(self, key: str, count: int) -> None:
        """Count without waiting."""
        assert isinstance(self.counter, LaxInstanceAwareCounter)
        self.counter.inc_nowait(key, count)

    async def flush(self) -> None:
        """Flush, which must go well."""
        assert isinstance(self.counter, LaxInstanceAwareCounter)
        await self.counter.flush()

    def network_of(self, part: int | None) -> FaultyStore:
        """Return what has the faults of one part, or those that strike whatever part it is."""
        return self.network if part is None else self.network.part(part)

    def mend(self) -> None:
        """End every fault."""
        if self.taps.partitions > 1:
            for part in range(self.taps.partitions):
                self.mend_in(part)
        self.mend_in(None)
        self.planned = False

    def mend_in(self, part: int | None) -> None:
        """End the faults of one part, or those that strike whatever part it is."""
        network = self.network_of(part)
        network.forget_plan()
        network.delay(0)
        network.delay(0, replies=True)
        network.release()
        network.refuse(None)
        network.heal()
        self.trouble.discard(part)

    def cut(self, part: int | None = None) -> None:
        """Let nothing through any more, to one part or to any."""
        self.network_of(part).cut()
        self.in_trouble(part)

    def in_trouble(self, part: int | None) -> None:
        """Note that there is a lasting fault on the way to one part, or to all."""
        self.trouble.add(part)
        for call in self.calls:
            call.troubled.add(part)

    async def deliver_late_copies(self) -> None:
        """Have what was lost for now arrive."""
        await self.network.deliver_late_copies()
        if self.taps.partitions > 1:
            for part in range(self.taps.partitions):
                await self.network.part(part).deliver_late_copies()

    def lose_late_copies(self) -> None:
        """Have what was lost for now be lost for ever."""
        parts = self.taps.partitions
        for network in (self.network, *(map(self.network.part, range(parts)) if parts > 1 else ())):
            network._network.late.clear()

    async def close(self) -> None:
        """Stop in good order, as far as that is possible."""
        if self.in_block:
            self.left.set()
        else:
            await self.counter.aclose()
        await self.over.wait()
        if self.in_block and self.failure is not None:
            raise self.failure

    def _watch(self) -> None:
        if self.watched is not None:
            view = self.view(self.watched)
            assert view is not None
            self.views.append(view)


class _Started(trio.TaskStatus[object]):
    def __init__(self, event: trio.Event) -> None:
        self._event = event

    def started(self, value: object = None) -> None:
        self._event.set()
