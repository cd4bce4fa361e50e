"""Checks of what a store tells onlookers, and of what they may do."""

from __future__ import annotations

from collections import Counter

import trio

from .._errors import StoreError
from .._protocol._liveness import MICROSECONDS
from .._protocol._messages import (
    JUST_COME,
    MAX_PURGE,
    Forget,
    Forgotten,
    MustResume,
    Query,
    QueryKind,
    QueryPage,
    Watch,
    Watched,
)
from .._protocol._values import INT64_MAX
from .._stores._contract import Link, Store
from ._driver import LONG, Client, add, expect, fresh, joined, move, put, same

#: A threshold, in seconds, for those who are to die, and seconds after which they are dead.
_SHORT, _WAIT = 0.25, 0.35


class Onlooker:
    """An onlooker, who has no instance."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self.observed = JUST_COME
        self.at = 0

    async def look(self, kind: QueryKind, key: str = "", *keys: str) -> list[tuple[str, int, bool]]:
        """Return the rows of all pages."""
        rows: list[tuple[str, int, bool]] = []
        cursor: str | None = ""
        while cursor is not None:
            await self._link.connect()
            request = Query("", kind, key, cursor, keys, self.observed)
            page = expect(QueryPage, await self._link.exchange(request), f"a look at {kind.value}")
            rows += page.rows
            self.at, cursor = page.at, page.cursor or None
        return rows  # noqa: ASYNC910 - there is one page at least

    async def values(self, *keys: str) -> list[int]:
        """Return the cumulatives without the dead."""
        totals = Counter[str]()
        for key, number, alive in await self.look(QueryKind.VALUES, "", *keys):
            totals[key] += number if alive else -number
        return [totals[key] for key in keys]

    async def flags(self, kind: QueryKind, key: str = "") -> dict[str, bool]:
        """Return who counts as alive."""
        return {name: alive for name, _, alive in await self.look(kind, key)}


async def looks_are_free_of_the_dead(store: Store) -> None:
    """Though nobody reaps; but for a silence that the onlooker has not observed itself."""
    prefix = fresh()
    async with (
        joined(store, prefix) as a,
        joined(store, prefix) as b,
        joined(store, prefix, threshold=_SHORT) as mortal,
        store.link(prefix) as link,
    ):
        onlooker = Onlooker(link)
        await mortal.batch(add("k", 5), add("void", 4), add("own", 7), add("tight", -10))
        await a.batch(add("k", 1), move("void", 3), put("tight", INT64_MAX), add("zero", 2))
        await b.batch(add("tight", 5))
        keys = ("k", "void", "own", "tight", "zero", "nobody's")
        stored = [6, 3, 7, INT64_MAX - 5, 2, 0]
        living = [1, 3, 0, INT64_MAX + 5, 2, 0]  # it is for the onlooker to see that it fits
        same(await onlooker.values(*keys), stored, "values while all live")
        held = [("k", 5, True), ("own", 7, True), ("tight", -10, True)]
        same(sorted(await onlooker.look(QueryKind.HELD, mortal.name)), held, "what one has")
        same(await onlooker.look(QueryKind.HELD, "nobody"), [], "what nobody has")
        begun = onlooker.at
        await trio.sleep(_WAIT)

        both = {a.name: True, mortal.name: False}
        same(await onlooker.values(*keys), living, "values after a death")
        same(await onlooker.flags(QueryKind.INSTANCES), {b.name: True} | both, "who is alive")
        same(await onlooker.flags(QueryKind.SLICES, "k"), both, "whose slices are of the living")
        same(onlooker.at - begun >= _WAIT * MICROSECONDS * 0.9, True, "silence that counts")
        onlooker.observed = begun
        same(await onlooker.values(*keys), stored, "values when the silence was not observed")
        alive = dict.fromkeys(both, True)
        same(await onlooker.flags(QueryKind.INSTANCES), {b.name: True} | alive, "and then")
        same(await onlooker.flags(QueryKind.SLICES, "k"), alive, "whose slices count then")
        same(onlooker.at <= begun, True, "no silence counts that was not observed")

        # A look changes nothing. A dead one stays queued if a slice cannot go.
        await mortal.batch()
        same(await mortal.values("k", "own"), [(6, 5), (7, 7)], "after looks only")
        await trio.sleep(_WAIT)
        await a.batch(add("k", 0), add("own", 0), add("tight", 0))
        onlooker.observed = JUST_COME
        same(await onlooker.values(*keys), living, "with a body")


async def onlookers_forget(store: Store) -> None:
    """An onlooker may take instances for dead, in bounded steps; they return."""
    many = MAX_PURGE + 100
    prefix = fresh()
    async with joined(store, prefix) as a, joined(store, prefix) as b, store.link(prefix) as link:
        await link.connect()
        for start in range(0, many, MAX_PURGE):
            keys = range(start, min(start + MAX_PURGE, many))
            await a.batch(*(put(f"key {key}", 1) for key in keys))
        await b.batch(add("key 0", 1))
        left = many
        while left:
            done = expect(Forgotten, await link.exchange(Forget("", a.name)), "forgetting")
            same(done.gone <= MAX_PURGE, True, f"a bounded step, not {done.gone} slices")
            same(done.left < left, True, f"progress, not {done.left} slices left of {left}")
            left = done.left
        nobody = expect(Forgotten, await link.exchange(Forget("", "nobody")), "forgetting nobody")
        same((nobody.left, nobody.gone), (0, 0), "what nobody had")
        same(await b.total("key 0"), 1, "what is left of a key")
        expect(MustResume, await a.send(a.compose()), "a batch of one who was forgotten")
        await a.batch()
        same((await a.values("key 0", "key 1")), [(2, 1), (1, 1)], "after its return")


async def prefixes_are_found(store: Store) -> None:
    """Those that somebody lives under, or has slices under; a look or a watch makes none."""
    try:
        await store.prefixes()
    except StoreError:  # it cannot tell
        return  # noqa: ASYNC910 - asking was one
    prefixes = [
        f"{fresh()}{odd}"
        for odd in ("", "}", "{x}", "*?[a]", ":42:x}:h", "ü🦆", "\n", "%7D", "}:i:%")
    ]
    async with store.link(prefixes[0]) as link:
        await link.connect()
        onlooker = Onlooker(link)
        await onlooker.values("k")
        same(await onlooker.flags(QueryKind.INSTANCES), {}, "who is there before anybody is")
        expect(Watched, await link.exchange(Watch("", int(LONG * MICROSECONDS))), "a watch")
        expect(Forgotten, await link.exchange(Forget("", "nobody")), "forgetting nobody")
        await _listed(store, prefixes, [], "by looks")
    for prefix in prefixes:
        async with joined(store, prefix, "}:h") as one:
            await one.batch(add("k", 1))
            await _listed(store, prefixes, [prefix], "while somebody lives")
            await _leave(one)
        await _listed(store, prefixes, [], "when all have left")
    async with joined(store, prefixes[0]), joined(store, prefixes[1]):
        await _listed(store, prefixes, prefixes[:2], "two of them")


async def _leave(client: Client) -> None:
    """Leave with what is there."""
    client.take(await client.send(client.compose(put("k", 0), leave=True)))


async def _listed(store: Store, of: list[str], expected: list[str], what: str) -> None:
    found = await store.prefixes()
    same(found, sorted(found), f"prefixes, {what}: they are sorted")
    same([prefix for prefix in found if prefix in of], sorted(expected), f"prefixes, {what}")
