"""Checks of a namespace that is spread over several parts (P44, parts)."""

from __future__ import annotations

from contextlib import AsyncExitStack, suppress

import trio

from .._errors import StoreError
from .._protocol._messages import (
    Applied,
    Conflict,
    Mismatch,
    Open,
    Opened,
    Peek,
    Peeked,
    Query,
    QueryKind,
    QueryPage,
    Resume,
)
from .._stores._contract import Store
from ._driver import Client, add, expect, fresh, joined, same

#: A threshold, in seconds, for those who are to die, and seconds after which they are dead.
_SHORT, _WAIT = 0.25, 0.35


async def _opening(client: Client, name: str, partitions: int) -> Open:
    """Return what takes an id for an instance that spreads the namespace over so many parts."""
    found = expect(Peeked, await client.send(Peek(name)), "a peek")
    inc, born, periods = found.incarnation, found.born, client.session.periods
    return Open(name, fresh("nonce"), inc, born, False, periods, partitions=partitions)


async def _number(client: Client) -> int:
    reply = await client.send(Query(client.name, QueryKind.KEYS))
    return expect(QueryPage, reply, "a query").partitions


async def the_living_agree_on_parts(store: Store) -> None:
    """Who would spread the namespace otherwise is refused, and is told the number."""
    prefix, other = fresh(), fresh("other")
    async with joined(store, prefix) as a:
        await a.batch(add("k", 3))
        same(await _number(a), 1, "over how many parts the namespace is spread")
        for name in (other, a.name):
            request = await _opening(a, name, 3)
            same(await a.send(request), Mismatch(1), "one that would spread it over three")
        request = await _opening(a, other, 1)
        expect(Opened, await a.send(request), "one that agrees")
        repeated = await a.send(request)
        expect(Opened, repeated, "the same once more")
        late = Open(other, fresh(), 0, request.born, False, request.periods, partitions=3)
        expect(Conflict, await a.send(late), "one that does not see who holds the id")
        back = Resume(fresh(), 1, 1, 0, request.periods, request.born, True, partitions=3)
        same(await a.send(back), Mismatch(1), "one that comes back from three")
        same(await a.values("k"), [(3, 3)], "what was counted")
        same(await _number(a), 1, "over how many parts the namespace is spread, after all")


async def the_number_of_parts_may_change(store: Store) -> None:
    """Once nobody is alive any more; and of those who went, one who lives has to resume."""
    prefix = fresh()
    async with joined(store, prefix, threshold=_SHORT) as a:
        await a.batch(add("k", 3))
        await trio.sleep(_WAIT)
        request = await _opening(a, fresh("other"), 3)
        expect(Opened, await a.send(request), "one that finds nobody alive")
        same(await _number(a), 3, "over how many parts it has spread the namespace")
        session = a.session
        born, periods = request.born, session.periods
        a.take(await a.send(a.compose(add("k", 1))))
        same(session.idle, False, "whether one who was taken for dead must resume")
        first = session.request()
        same(await a.send(first or Peek("")), Mismatch(3), "one that comes back from one")
        back = Resume(fresh(), 1, 1, 0, periods, born, True, partitions=3)
        expect(Applied, await a.send(back), "one that comes back from three")


async def parts_do_not_mix(store: Store) -> None:
    """Each part is a namespace by itself, and part 0 is the namespace; if the store has parts."""
    prefix = fresh()
    try:
        first, second = store.part(0), store.part(1)
    except StoreError:
        same(store.partitions, 1, "the number of parts of a store that gives no part 1")
        await trio.lowlevel.checkpoint()
        return  # it need not have any but part 0, which is itself
    number = store.partitions - 1 if store.partitions > 2 else 255
    async with (
        joined(store, prefix) as whole,
        joined(first, prefix) as a,
        joined(second, prefix, whole.name) as b,
        AsyncExitStack() as stack,
    ):
        parts = [
            (whole, 1, "what was counted in the namespace"),
            (b, 10, "what was counted in part 1"),
        ]
        try:
            c = await stack.enter_async_context(joined(store.part(number), prefix))
        except StoreError:
            same(store.partitions > 2, False, f"whether a store that has it gives no part {number}")
        else:
            parts.append((c, 100, f"what was counted in part {number}"))
        for client, amount, _ in parts:
            await client.batch(add("k", amount))
        for client, total, what in (*parts, (a, 1, "what was counted in part 0")):
            same(await client.total("k"), total, what)
        same(whole.name in await b.query(QueryKind.INSTANCES), True, "whether one is in two parts")
        for client, _, what in parts[2:]:
            same(set(await client.query(QueryKind.INSTANCES)), {client.name}, f"whose is {what}")
        for separator in (".", ":", "-", "_", "/", "#", ""):
            name = f"{prefix}{separator}1"
            async with joined(store, name) as other:
                same(await other.total("k"), 0, f"what is counted in the prefix {name!r}")
    with suppress(StoreError):  # it need not tell
        same(prefix in await _prefixes(store), True, "whether the prefix is found")


async def _prefixes(store: Store) -> list[str]:
    found = await store.prefixes()
    same(len(found), len(set(found)), "how many different prefixes are listed")
    return found  # noqa: ASYNC910 - the store's is one
