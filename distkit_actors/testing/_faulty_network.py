"""What a network may do to requests and replies: a plan of faults, and links that they strike."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Awaitable, Callable, Generator
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from functools import partial
from typing import Final, Literal, TypeAlias, TypeVar

import trio

from .._actor._outcomes import copy_of
from .._errors import StoreError, StoreUnavailableError
from .._protocol._messages import Reply, Request
from .._stores._contract import Link, StoreAwayError, Subscription

T = TypeVar("T")

Fault: TypeAlias = Literal[
    "forward", "drop_request", "drop_reply", "late_copy", "duplicate", "away", "answer"
]

#: How many requests are remembered.
_REMEMBERED: Final = 1000


def any_request(_: Request) -> bool:
    """Return True: a fault strikes the next request, whichever it is."""
    return True


class PlannedFault:
    """A fault, and how many requests it has still to strike (None: all that come)."""

    __slots__ = ("error", "executed", "fault", "left", "when")

    def __init__(self, fault: Fault, left: int | None, when: Callable[[Request], bool]) -> None:
        self.fault: Fault = fault
        self.left = left
        self.when = when
        self.error: StoreError | None = None  # what is answered …
        self.executed = False  # … after the request was executed, or instead


_FORWARD: Final = PlannedFault("forward", None, any_request)


class Network:
    """What a faulty store and its links know together: the plan, what lasts, and what happened."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.requests: deque[Request] = deque(maxlen=_REMEMBERED)
        self.plan: deque[PlannedFault] = deque()
        # What is late, and how to get to where it should have gone.
        self.late: deque[tuple[Callable[[], AbstractAsyncContextManager[Link]], Request]] = deque()
        self.delay = 0.0
        self.reply_delay = 0.0
        self.held: trio.Event | None = None  # set when requests may go on
        self.held_replies: trio.Event | None = None
        self.is_cut = False
        self.refusal: StoreError | None = None
        self.refuses_connections = False
        self.on_the_way: set[trio.CancelScope] = set()  # what `cut` cuts off

    def take(self, request: Request) -> PlannedFault:
        """Use the plan up by one request."""
        for planned in self.plan:
            if planned.when(request):
                if planned.left is not None:
                    planned.left -= 1
                    if not planned.left:
                        self.plan.remove(planned)
                self.counts[planned.fault] += 1
                return planned
        return _FORWARD

    def check_refusal(self) -> None:
        """Raise what `refuse` was told to."""
        if self.refusal is not None:
            self.counts["refuse"] += 1
            # Not the object itself, which would collect tracebacks.
            raise copy_of(self.refusal)

    async def wait(self, *, replies: bool) -> None:  # noqa: ASYNC910 - links have checkpoints
        """Hold a request or a reply up, as `delay` and `hold` were told to."""
        seconds = self.reply_delay if replies else self.delay
        if seconds:
            self.counts["delay"] += 1
            await trio.sleep(seconds)
        held = self.held_replies if replies else self.held
        if held is not None:
            self.counts["hold"] += 1
            await held.wait()

    async def connect(self, inner: Link | Subscription) -> None:
        """Connect what is inside, if connections go through. A checkpoint."""
        with self.journey():
            await trio.lowlevel.checkpoint()
            if not self.is_cut:
                if self.refuses_connections:
                    self.check_refusal()
                await inner.connect()

    @contextmanager
    def journey(self) -> Generator[None]:
        """Fail if the network is cut before the block has ended."""
        with trio.CancelScope() as scope:
            self.on_the_way.add(scope)
            try:
                yield
            finally:
                self.on_the_way.discard(scope)
        if scope.cancelled_caught or self.is_cut:
            self.counts["cut"] += 1
            raise StoreUnavailableError("the network is partitioned")


class FaultyLink(Link):
    """A link whose requests and replies go through a faulty network."""

    def __init__(
        self,
        network: Network,
        inner: Link,
        another: Callable[[], AbstractAsyncContextManager[Link]],
    ) -> None:
        self._network = network
        self._inner = inner
        self._another = another  # for what comes late
        self._up = False

    async def connect(self) -> None:
        network = self._network
        if self.connected:
            await trio.lowlevel.checkpoint()
            return
        self._up = False
        await network.connect(self._inner)
        network.counts["connects"] += 1
        self._up = True

    async def receive(self, request: Request) -> Reply:
        network = self._network
        network.requests.append(request)
        network.counts["requests"] += 1
        reply = await self._ask(partial(self._carry, request))
        network.counts["replies"] += 1
        return reply

    async def inspect(self) -> tuple[str, ...]:
        return await self._ask(self._look)

    async def _look(self) -> tuple[str, ...]:
        """Look at the settings, through what lasts: no fault is planned for that."""
        await self._network.wait(replies=False)
        self._network.check_refusal()
        found = await self._inner.inspect()
        await self._network.wait(replies=True)
        return found

    async def _ask(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Do what needs the connection, unless the network is cut."""
        # Down until the answer is there, so that whatever ends this early, a cancellation
        # too, leaves no connection behind.
        was_up, self._up = self._up, False
        answer: T | None = None
        with self._network.journey():
            await trio.lowlevel.checkpoint()
            if not was_up:
                raise StoreUnavailableError("there is no connection: `connect` comes first")
            if not self._network.is_cut:
                try:
                    answer = await ask()
                except StoreError as error:
                    # A store that says no has a connection to say it on.
                    self._up = isinstance(error, StoreAwayError) or not isinstance(
                        error, StoreUnavailableError
                    )
                    raise
        assert answer is not None
        self._up = True
        return answer

    @property
    def connected(self) -> bool:
        return self._up and not self._network.is_cut and self._inner.connected

    async def _carry(self, request: Request) -> Reply:
        """Take the request there and the reply back, through the faults."""
        network = self._network
        await network.wait(replies=False)
        network.check_refusal()
        planned = network.take(request)
        fault, error = planned.fault, planned.error
        match fault:
            case "drop_request":
                raise StoreUnavailableError("the request was lost")
            case "late_copy":
                network.late.append((self._another, request))
                raise StoreUnavailableError("the request was lost for now")
            case "away":
                raise StoreAwayError("the store is away")
            case "answer" if error is not None and not planned.executed:
                raise copy_of(error)
            case _:
                reply = await self._inner.exchange(request)
        if fault == "duplicate":
            with suppress(StoreError):  # nobody hears what becomes of the copy
                await self._inner.exchange(request)
        await network.wait(replies=True)
        if fault == "drop_reply":
            raise StoreUnavailableError("the reply was lost")
        if error is not None:
            raise copy_of(error)
        return reply


class FaultySubscription(Subscription):
    """A subscription that a faulty network can cut off or hold up."""

    def __init__(self, network: Network, inner: Subscription) -> None:
        self._network = network
        self._inner = inner
        self._up = False

    async def connect(self) -> None:
        network = self._network
        if self._up and not network.is_cut:
            await trio.lowlevel.checkpoint()
            return
        self._up = False
        await network.connect(self._inner)
        self._up = True

    async def wait(self) -> frozenset[str] | None:
        network = self._network
        was_up, self._up = self._up, False
        changed: frozenset[str] | None = None
        with network.journey():
            await trio.lowlevel.checkpoint()
            if not was_up:
                raise StoreUnavailableError("there is no subscription: `connect` comes first")
            if network.is_cut:
                # It may end the subscription inside too, and then what has come is lost.
                with trio.CancelScope() as scope:
                    scope.cancel()
                    await self._inner.wait()
            else:
                changed = await self._inner.wait()
                await network.wait(replies=True)
        self._up = True
        return changed
