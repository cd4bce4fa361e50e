"""A store whose link fails on demand."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import final

import trio

from .._errors import StoreError
from .._protocol._messages import Reply, Request
from .._stores._contract import Link, Store, Subscription
from .._stores._part import PartStore
from .._stores._urls import checked_store
from ._faulty_network import (
    Fault,
    FaultyLink,
    FaultySubscription,
    Network,
    PlannedFault,
    any_request,
)


@final
class FaultyStore(Store):
    """A wrapper around a store that does to requests and replies what a network may do.

    Give each counter a wrapper of its own around one inner store, and each has a network
    of its own::

        inner = MemoryStore()
        faulty = FaultyStore(inner)
        async with (
            StrictInstanceAwareCounter.open("app", faulty) as unlucky,
            StrictInstanceAwareCounter.open("app", inner) as lucky,
        ):
            faulty.drop_reply()
            await unlucky.inc("jobs")  # asked twice
            assert await lucky.get("jobs") == (1, 0)  # counted once

    `drop_request`, `drop_reply`, `late_copy`, `duplicate`, `away`, `answer` and `forward` append
    to a plan. A request takes the first entry of the plan whose ``when`` it fulfils, so
    ``forward(2); drop_reply()`` strikes the third; one that fulfils none passes. ``times``
    is the number of requests to strike, None for all to come. Faults that end in
    `StoreUnavailableError` break the connection, so that the counter has to connect
    again; heartbeats and the registration are requests too.

    `delay`, `hold`, `cut` and `refuse` are conditions that last until they are ended. They strike a
    counter's look at the settings of the inner store, too. No plan does, as that is no request.

    No method but `deliver_late_copies` is a checkpoint. All time is trio's, so it works
    on the mock clock.

    If the inner store spreads its namespaces over several parts, all this strikes what goes to any
    of them. `part` gives a faulty store for one part, which has faults of its own as well.

    Args:
        inner: The store that does the work, or its URL.

    Attributes:
        counts: What happened so far: ``"connects"``, ``"requests"``, ``"replies"``
            (those that reached the counter), the planned faults by the name of their
            method, ``"delay"``, ``"hold"`` (waits begun), ``"cut"`` (connections and
            requests that failed for it), ``"refuse"``, ``"late_copies_delivered"``.
    """

    def __init__(self, inner: Store | str) -> None:
        self._inner = inner = checked_store(inner)
        self._beyond = inner  # all faults, those of a whole too of which this is a part
        self._network = Network()
        self._parts: dict[int, FaultyStore] = {}
        self.counts = self._network.counts

    @property
    def partitions(self) -> int:
        """Over how many parts the inner store spreads a namespace; see `Store.partitions`."""
        return self._inner.partitions

    def part(self, number: int) -> FaultyStore:
        """Return a faulty store for one part, the same each time; see `Store.part`.

        What is planned here strikes that part only; what is planned for the whole, each part.
        """
        if number not in self._parts:
            inner = self._inner.part(number)
            beyond = self._beyond.part(number)
            whole = PartStore(
                self,
                number,
                lambda prefix, _: self._link(inner, prefix, beyond),
                lambda prefix, _: self._hear(inner, prefix),
            )
            self._parts[number] = FaultyStore(whole)
            self._parts[number]._beyond = beyond
        return self._parts[number]

    def link(self, prefix: str) -> AbstractAsyncContextManager[Link]:
        """Return a faulty link to the namespace of ``prefix``; see `Store.link`."""
        return self._link(self._inner, prefix, self._beyond)

    @asynccontextmanager
    async def _link(self, inner: Store, prefix: str, beyond: Store) -> AsyncGenerator[Link]:
        async with inner.link(prefix) as link:
            yield FaultyLink(self._network, link, partial(beyond.link, prefix))

    def subscribe(self, prefix: str) -> AbstractAsyncContextManager[Subscription | None]:
        """Return a faulty subscription of the namespace of ``prefix``; see `Store.subscribe`.

        `cut` and refused connections strike them as they do a link, and what holds replies up
        holds them up too. Subscriptions on the way when the network is cut are lost.
        """
        return self._hear(self._inner, prefix)

    @asynccontextmanager
    async def _hear(self, inner: Store, prefix: str) -> AsyncGenerator[Subscription | None]:
        async with inner.subscribe(prefix) as subscription:
            yield FaultySubscription(self._network, subscription) if subscription else None

    async def prefixes(self) -> list[str]:  # noqa: ASYNC910 - the store's is a checkpoint
        """Return the prefixes that are in use, as `Store.prefixes` does; only `cut` strikes it.

        A checkpoint; cancelling it leaves nothing behind. Raises what `Store.prefixes` raises.
        """
        with self._network.journey():
            return await self._inner.prefixes()
        raise AssertionError("a journey that is cut off raises")

    @property
    def requests(self) -> list[Request]:
        """The latest requests, whatever became of them, oldest first; 1000 at most."""
        return list(self._network.requests)

    # ---------------------------------------------------------------------- plan

    def forward(
        self, times: int | None = 1, *, when: Callable[[Request], bool] = any_request
    ) -> None:
        """Let requests pass, to place a later fault."""
        self._append("forward", times, when)

    def drop_request(
        self, times: int | None = 1, *, when: Callable[[Request], bool] = any_request
    ) -> None:
        """Lose requests: they are never executed."""
        self._append("drop_request", times, when)

    def drop_reply(
        self, times: int | None = 1, *, when: Callable[[Request], bool] = any_request
    ) -> None:
        """Lose replies: the requests are executed."""
        self._append("drop_reply", times, when)

    def late_copy(
        self, times: int | None = 1, *, when: Callable[[Request], bool] = any_request
    ) -> None:
        """Lose requests for now; `deliver_late_copies` has them executed."""
        self._append("late_copy", times, when)

    def duplicate(
        self, times: int | None = 1, *, when: Callable[[Request], bool] = any_request
    ) -> None:
        """Have requests executed twice in a row; the first reply arrives."""
        self._append("duplicate", times, when)

    def away(self, times: int | None = 1, *, when: Callable[[Request], bool] = any_request) -> None:
        """Answer `StoreAwayError`: not executed, and the connection stays."""
        self._append("away", times, when)

    def answer(
        self,
        error: StoreError,
        times: int | None = 1,
        *,
        executed: bool,
        when: Callable[[Request], bool] = any_request,
    ) -> None:
        """Answer ``error``, a new one like it each time, in place of the reply.

        Args:
            error: `StoreUnavailableError` breaks the connection, as a link does that cannot tell
                whether the request was executed. Others say that it was not, true or not.
            times: How many requests to strike.
            executed: Execute the request all the same.
            when: Which requests.
        """
        planned = self._append("answer", times, when)
        planned.error, planned.executed = error, executed

    def forget_plan(self) -> None:
        """Drop what is left of the plan; conditions and late copies stay."""
        self._network.plan.clear()

    async def deliver_late_copies(self) -> list[Reply | StoreError]:
        """Have the requests that `late_copy` kept executed, in order, past all faults.

        A checkpoint. Returns what the store answered, which no counter hears of. If the store
        cannot be reached any more, returns what it has answered so far. When cancelled, some may
        have been executed. What no connection could be made for stays for the next call.

        Raises:
            StoreError: The store cannot be reached, or refuses the connection; nothing was sent.
        """
        answers: list[Reply | StoreError] = []
        late = self._network.late
        await trio.lowlevel.checkpoint()
        while late:
            find, request = copy = late.popleft()
            async with find() as link:
                try:
                    await link.connect()
                except StoreError:
                    late.appendleft(copy)
                    if answers:
                        break
                    raise
                except trio.Cancelled:
                    late.appendleft(copy)
                    raise
                try:
                    answers.append(await link.exchange(request))
                except StoreError as error:
                    answers.append(error)
            self.counts["late_copies_delivered"] += 1
        return answers

    # ---------------------------------------------------------------- conditions

    def delay(self, seconds: float, *, replies: bool = False) -> None:
        """Let every request take ``seconds`` before it is executed; 0 ends it.

        Args:
            seconds: How long; for requests not on their way yet.
            replies: Hold the replies up instead: then the request has been executed.
        """
        if replies:
            self._network.reply_delay = seconds
        else:
            self._network.delay = seconds

    def hold(self, *, replies: bool = False) -> None:
        """Let requests (or ``replies``) wait for `release`."""
        network = self._network
        if replies:
            if network.held_replies is None:
                network.held_replies = trio.Event()
        elif network.held is None:
            network.held = trio.Event()

    def release(self) -> None:
        """Let everything go on that `hold` keeps."""
        network = self._network
        for event in (network.held, network.held_replies):
            if event is not None:
                event.set()
        network.held = network.held_replies = None

    def cut(self) -> None:
        """Partition the network: nothing goes through, and what is on its way fails.

        A request that waited in `delay` or `hold` is lost; of one at the inner store
        nobody knows.
        """
        self._network.is_cut = True
        for scope in self._network.on_the_way:
            scope.cancel()

    def heal(self) -> None:
        """End `cut`."""
        self._network.is_cut = False

    def refuse(self, error: StoreError | None, *, connections: bool = False) -> None:
        """Answer every request with ``error`` until told None; nothing is executed.

        Args:
            error: What the counter gets, a new one like it each time.
            connections: Refuse connections too, as for a wrong password.
        """
        self._network.refusal = error
        self._network.refuses_connections = connections

    def __repr__(self) -> str:
        return f"<FaultyStore around {self._inner!r}, {len(self._network.plan)} faults planned>"

    def _append(
        self, fault: Fault, times: int | None, when: Callable[[Request], bool]
    ) -> PlannedFault:
        if times is not None and times < 0:
            raise ValueError(f"times must be at least 0, or None, not {times}")
        planned = PlannedFault(fault, times, when)
        if times != 0:
            self._network.plan.append(planned)
        return planned
