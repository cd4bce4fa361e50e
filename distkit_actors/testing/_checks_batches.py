"""Checks of a store request by request: batches, in order and once."""

from __future__ import annotations

import trio

from .._protocol._messages import (
    MAX_ENTRIES,
    Applied,
    Conflict,
    Kind,
    MustResume,
    Peek,
    Peeked,
    Previous,
    Rejection,
    Reply,
    Request,
    Stale,
)
from .._protocol._values import INT64_MAX
from .._stores._contract import Link, Store
from ._driver import Client, add, clear, expect, fresh, joined, move, put, read, same


async def entries_run_in_order(store: Store) -> None:
    """Each entry of a batch finds what those before it left."""
    async with joined(store, fresh()) as a:
        entries = [add("k", 5), add("j", 1), read("k"), move("k", 3), read("k"), put("k", 10)]
        entries += [read("k"), put("k", 0), read("k"), read("j")]
        befores = [(0, 0), (0, 0), (5, 5), (5, 5), (3, 3), (3, 3), (10, 10), (10, 10), (0, 0)]
        befores += [(1, 1)]
        same(list(await a.batch(*entries)), [Previous(*pair) for pair in befores], "a batch")
        same(await a.values("k", "j"), [(0, 0), (1, 1)], "after the batch")


async def bad_entries_harm_nobody(store: Store) -> None:
    """An entry that is refused changes nothing, and its neighbours go on."""
    async with joined(store, prefix := fresh()) as a, joined(store, prefix) as b:
        await b.batch(put("full", INT64_MAX), put("wide", -1))
        await a.batch(put("wide", INT64_MAX))
        results = await a.batch(
            *(add("x", 1), add("full", 1), put("y", 2), put("full", 3), add("wide", 1)),
            *(move("z", 4), add("new", INT64_MAX), read("full")),
        )
        expected = [
            Previous(0, 0),
            Rejection.REFUSED,
            Previous(0, 0),
            Rejection.REFUSED,
            Rejection.REFUSED,
        ]
        expected += [Previous(0, 0), Previous(0, 0), Previous(INT64_MAX, 0)]
        same(list(results), expected, "a batch with bad entries")
        values = await a.values("x", "full", "y", "wide", "z", "new")
        after = [(1, 1), (INT64_MAX, 0), (2, 2), (INT64_MAX - 1, INT64_MAX), (4, 4)]
        same(values, [*after, (INT64_MAX, INT64_MAX)], "after a batch with bad entries")


async def folds_are_split_near_the_limits(store: Store) -> None:
    """Several operations in one entry are not judged by their sum where that could be wrong."""
    async with joined(store, prefix := fresh()) as a, joined(store, prefix) as b:
        await b.batch(put("k", INT64_MAX), put("j", 1000))
        results = await a.batch(add("k", -1, folded=True), add("j", -1, folded=True))
        same(list(results), [Rejection.SPLIT, Previous(1000, 0)], "folded entries")
        same(await a.values("k", "j"), [(INT64_MAX, 0), (999, -1)], "after folded entries")


async def a_slice_nobody_counts_is_none(store: Store) -> None:
    """What an instance believes of a slice that another's move made void does not count."""
    async with joined(store, prefix := fresh()) as a, joined(store, prefix) as b:
        await a.batch(put("full", INT64_MAX), put("k", 5), put("j", 5), put("i", 5))
        await b.batch(move("full"), move("k", 7), move("j", 7), move("i", 7))
        results = await a.batch(add("full", 1), add("k", 1), put("j", 2), move("i", 3))
        same(list(results), [Previous(0, 0), *[Previous(7, 0)] * 3], "entries of a late one")
        values = await a.values("full", "k", "j", "i")
        same(values, [(1, 1), (8, 1), (9, 2), (3, 3)], "after a late one's entries")


async def a_thousand_entries(store: Store) -> None:
    """Messages may be as long as the protocol allows."""
    keys = [f"key {number}" for number in range(MAX_ENTRIES)]
    async with joined(store, prefix := fresh()) as a, joined(store, prefix) as b:
        results = await a.batch(*(add(key, number + 1) for number, key in enumerate(keys)))
        same(list(results), [Previous(0, 0)] * len(keys), "1000 adds")
        values = await b.values(*keys)
        same(values, [(number + 1, 0) for number in range(len(keys))], "1000 reads")
        await a.skip()
        await a.batch()
        same(await b.values(*keys), values, "after 1000 slices were re-asserted")
        await b.batch(*(add(key, 1) for key in keys))
        await a.batch(*(put(key, 0) for key in keys))
        same(await b.values(*keys), [(1, 1)] * len(keys), "after 1000 puts of 0")
        await a.batch(*(move(key, 2) for key in keys))
        same(await b.values(*keys), [(2, 0)] * len(keys), "after 1000 moves")


async def repeats_get_the_first_answer(store: Store) -> None:
    """A batch that is sent again does nothing, and is answered as at first."""
    prefix = fresh()
    async with (
        joined(store, prefix) as a,
        joined(store, prefix) as b,
        store.link(prefix) as another_link,
    ):
        others, late = 0, a.compose()
        a.take(await a.send(late))
        for entry, own in ((add("k", 5), 5), (put("k", 9), 9), (move("k", 3), 3), (clear(), 0)):
            await b.batch(put("full", INT64_MAX), put("high", INT64_MAX))
            request = a.compose(add("full", 1), add("high", -1, folded=True), entry)
            first = await _at_once(request, a.link, another_link)
            await b.batch(add("k", 100), put("full", 1), put("high", 1))
            others = others + 100 if entry.kind in (Kind.ADD, Kind.PUT) else 100
            for reply in (await a.send(request), await another_link.exchange(request)):
                again = expect(Applied, reply, "a batch that was repeated")
                said = (again.at, list(again.results))
                same(said, (first.at, list(first.results)), "the answer to a repeated batch")
            same(await b.values("k"), [(own + others, others)], f"after {entry} was repeated")
            same(await b.values("full", "high"), [(1, 1), (1, 1)], "after refusals were repeated")
            a.take(first)
            expect(Stale, await a.send(late), "a late copy of an earlier batch")
            same(await b.values("k"), [(own + others, others)], "after a late copy")
            late = request


async def _at_once(request: Request, *links: Link) -> Applied:
    """Send a request on several links before the first has answered; return the one answer."""
    replies: list[Reply] = []

    async def send(link: Link) -> None:
        replies.append(await link.exchange(request))

    for link in links:
        await link.connect()
    async with trio.open_nursery() as nursery:
        for link in links:
            nursery.start_soon(send, link)
    first, *others = (expect(Applied, reply, "a batch") for reply in replies)
    for other in others:
        said = (other.at, list(other.results))
        same(said, (first.at, list(first.results)), "the answer to a batch that was sent twice")
    return first


async def gaps_are_noticed(store: Store) -> None:
    """A store that has missed something, or knows nothing, says so and does nothing."""
    async with joined(store, prefix := fresh()) as a, joined(store, prefix) as b:
        await a.batch(add("k", 5))
        peeked = expect(Peeked, await a.send(Peek(a.name)), "a peek")
        same(peeked.incarnation, a.session.incarnation, "the incarnation peeked at")
        request = a.compose(add("k", 1))
        for changed, recorded in (
            (request._replace(seq=request.seq + 1, before=request.seq), request.seq - 1),
            (request._replace(instance=fresh()), None),
            (request._replace(incarnation=request.incarnation + 1), None),
        ):
            reply = expect(MustResume, await a.send(changed), f"{changed}")
            same((reply.recorded, reply.born), (recorded, peeked.born), f"answer to {changed}")
        older = request._replace(incarnation=request.incarnation - 1)
        conflict = expect(Conflict, await a.send(older), "a batch of an older incarnation")
        same(conflict.incarnation, request.incarnation, "the incarnation that holds the id")
        same(await b.total("k"), 5, "after batches that must not be executed")
        a.take(await a.send(request))
        same(await b.total("k"), 6, "after the right one")
        same(await b.send(Peek(fresh())), Peeked(0, peeked.born), "a peek at nobody")


async def what_was_withdrawn_is_noticed(store: Store) -> None:
    """A batch that ran though its instance gave it up is told from the next one, and undone."""
    async with joined(store, prefix := fresh()) as a, joined(store, prefix) as b:
        await a.batch(add("k", 5), add("gone", 1))
        await b.batch(add("k", 100))
        withdrawn = a.compose(add("k", 10), put("gone", 0), put("new", 7))
        expect(Applied, await a.send(withdrawn), "a batch that is withdrawn")
        a.session.withdraw()
        following = a.compose(add("other", 1))
        reply = expect(MustResume, await a.send(following), "a batch after one that was withdrawn")
        same(reply.recorded, withdrawn.seq, "the last seq recorded")
        same(await b.values("k", "other"), [(115, 100), (0, 0)], "before the resume")
        a.take(reply)
        results = await a.batch(add("other", 1), add("k", 1))
        same(list(results), [Previous(0, 0), Previous(105, 5)], "what the next batch found")
        expect(Stale, await a.send(withdrawn), "a late copy of what was withdrawn")
        values = await b.values("k", "gone", "new", "other")
        same(values, [(106, 100), (1, 0), (0, 0), (1, 0)], "after what was withdrawn was undone")
        a.compose(add("k", 1000))
        a.session.withdraw()  # and never sent
        same(list(await a.batch(add("k", 1))), [Previous(106, 6)], "what followed one never sent")


async def links_work_side_by_side(store: Store) -> None:
    """Two links to one namespace are used at once, and outlived by what they did."""
    prefix = fresh()
    seen: list[int] = []

    async def count(client: Client) -> None:
        for _ in range(50):
            (before,) = await client.batch(add("k", 1))
            assert isinstance(before, Previous)
            seen.append(before.cumulative)

    async with joined(store, prefix) as a, joined(store, prefix) as b:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(count, a)
            nursery.start_soon(count, b)
        assert a.link.connected, "a link that just worked says that it is not connected"
        same(sorted(seen), list(range(100)), "cumulatives found by two links")
    async with joined(store, prefix) as c:
        same(await c.total("k"), 100, "seen by a new link, after the others were closed")
