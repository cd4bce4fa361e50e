"""An onlooker's look at one part of a namespace; and how many parts there are."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from itertools import islice
from typing import Final

import trio

from .._actor._groups import all_of
from .._actor._log import Log
from .._actor._operations import AtomicBatch, Operation, QueryOperation
from .._actor._watches import Watches
from .._errors import StoreError
from .._protocol._messages import Forget, Forgotten, Previous, QueryKind, QueryPage
from .._protocol._values import CounterValue
from .._stores._contract import Link, NotPermittedError, Store
from ._inquiry import Inquiry
from ._looking import values_of
from ._pages import all_pages, all_rows

#: How many keys are looked at in one step.
_KEYS: Final = 100


class FleetPart:
    """Asks one part, and follows what changes there. There may be several (P44, parts)."""

    def __init__(
        self, prefix: str, title: str, store: Store, link: Link, first: FleetPart | None
    ) -> None:
        log = Log(prefix, store, "fleet", title)
        self.inquiry: Inquiry = Inquiry(log, link, None if first is None else first.inquiry)
        self.watches = Watches(store, prefix, "", None, log, self._ask_for_watches)

    async def instances(self) -> list[QueryPage]:
        """Return what is said of the instances."""
        return await all_pages(self.inquiry.ask, QueryKind.INSTANCES)

    async def slices(self, key: str) -> dict[str, int]:
        """Return the slices of the living."""
        rows = {row[0]: row for row in await self.look(QueryKind.SLICES, key)}
        return {name: value for name, value, alive in rows.values() if alive}

    async def keys(self) -> list[str]:
        """Return the keys whose cumulative is not 0."""
        rows = await self.look(QueryKind.KEYS)
        values = await self.values([key for key, _, _ in rows])
        return [key for key, value in values.items() if value.cumulative]

    async def forget(self, instance_id: str) -> None:  # noqa: ASYNC910 - one step at least
        """Mark an instance dead and remove its slices."""
        more = True
        while more:  # noqa: ASYNC913 - each step is a checkpoint
            reply = await self.inquiry.ask(Forget("", instance_id))
            assert isinstance(reply, Forgotten)
            more = bool(reply.left and reply.gone)

    async def look(  # noqa: ASYNC910 - asking is a checkpoint
        self, kind: QueryKind, key: str = "", keys: Sequence[str] = ()
    ) -> list[tuple[str, int, bool]]:
        """Return the rows that answer a question."""
        return await all_rows(self.inquiry.ask, kind, key, keys)

    async def values(self, keys: Sequence[str]) -> dict[str, CounterValue]:
        """Return values without the dead."""
        values: dict[str, CounterValue] = {}
        left = iter(dict.fromkeys(keys))
        # One look at least, so that it is a checkpoint, and tells of the store.
        while (some := tuple(islice(left, _KEYS))) or not values:  # noqa: ASYNC913
            rows = await self.look(QueryKind.VALUES, "", some)
            values |= {key: CounterValue(v, 0) for key, v in values_of(some, rows).items()}
            if len(some) < _KEYS:
                break
        return values  # noqa: ASYNC910 - there was one look at least

    async def _ask_for_watches(self, operation: Operation) -> tuple[int, int]:  # noqa: ASYNC910 - internal: asking is a checkpoint
        """Do for `Watches` what an actor does; end all watching if the number of parts changed."""
        try:
            await self._answer(operation)
        except StoreError:
            if self.inquiry.outdated is not None:
                self.watches.close(self.inquiry.outdated)
            raise
        return 0, 0

    async def _answer(self, operation: Operation) -> None:  # noqa: ASYNC910 - internal: asking is a checkpoint
        if isinstance(operation, QueryOperation):
            operation.reply = await self.inquiry.ask(operation.request)
        else:
            assert isinstance(operation, AtomicBatch)
            keys = [entry.key for entry in operation.entries]
            values = await self.values(keys)
            operation.results = [Previous(values[key].cumulative, 0) for key in keys]


async def carry(parts: Sequence[FleetPart], life: trio.CancelScope, body: trio.CancelScope) -> None:
    """Have all parts asked what is asked, until ``life`` is cancelled; an error ends the body."""
    try:
        with life:
            async with trio.open_nursery() as nursery:
                for part in parts:
                    nursery.start_soon(part.inquiry.run)
                    nursery.start_soon(part.watches.run)
    except BaseException:
        life.cancel()
        body.cancel()  # before the body hears that the fleet is closed
        raise
    finally:
        for part in parts:
            part.inquiry.close()
            part.watches.close(None)


async def number_of_parts(prefix: str, store: Store, first: Inquiry) -> int:  # noqa: ASYNC910 - internal: starting is a checkpoint
    """Start ``first``, which asks part 0; return over how many parts a namespace is spread.

    If nobody is in part 0, it may have lost its data. All who have several parts are in part 1,
    too. If nobody is there either, it is the number of ``store``.
    """
    number = await first.start()
    if not number:
        try:
            second = store.part(1)
        except StoreError:
            return store.partitions  # noqa: ASYNC910 - starting was one
        # Whoever may look at several parts has the right to read each of them.
        with suppress(NotPermittedError):
            async with second.link(prefix) as link:
                number = await Inquiry(Log(prefix, store, "fleet"), link).start()
    return number or store.partitions  # noqa: ASYNC910 - as above


async def started(prefix: str, store: Store, links: AsyncExitStack) -> list[FleetPart]:
    """Return a look at each part of a namespace, connected."""
    parts: list[FleetPart] = []

    async def add(place: Store, title: str) -> None:
        link = await links.enter_async_context(place.link(prefix))
        parts.append(FleetPart(prefix, title, place, link, parts[0] if parts else None))

    several = store.partitions > 1
    await add(store.part(0) if several else store, f"{prefix} (part 0)" if several else prefix)
    number = await number_of_parts(prefix, store, parts[0].inquiry)
    parts[0].inquiry.partitions = number
    for n in range(1, number):
        await add(store.part(n), f"{prefix} (part {n})")
    await all_of([part.inquiry.start for part in parts[1:]] or [trio.lowlevel.checkpoint])
    return parts
