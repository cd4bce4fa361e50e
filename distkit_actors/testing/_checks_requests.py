"""Checks of a store request by request: once, in order, for the right incarnation."""

from __future__ import annotations

from dataclasses import replace

import trio

from .._instance._session import Phase
from .._protocol._messages import (
    MAX_ENTRIES,
    MAX_MOVES,
    Applied,
    Conflict,
    Kind,
    Load,
    MustResume,
    Open,
    Opened,
    Peek,
    Peeked,
    Previous,
    Rejection,
    Result,
    Resume,
    Stale,
)
from .._protocol._values import INT64_MAX
from .._stores._contract import Store
from ._driver import (
    Client,
    add,
    answers,
    claim,
    clear,
    expect,
    fresh,
    joined,
    move,
    put,
    read,
    same,
)

#: Nearly two messages full.
_MANY = MAX_ENTRIES + MAX_ENTRIES // 2


# ------------------------------------------------------------------------------ batches


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


# ------------------------------------------------------------------------- exactly once


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
            first = expect(Applied, await a.send(request), "a batch")
            await b.batch(add("k", 100), put("full", 1), put("high", 1))
            others = others + 100 if entry.kind in (Kind.ADD, Kind.PUT) else 100
            await another_link.connect()
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


# ------------------------------------------------------------------------ incarnations


async def newcomers_take_over(store: Store) -> None:
    """The newer incarnation starts empty, the older one changes nothing more."""
    prefix = fresh()
    async with joined(store, prefix) as old, joined(store, prefix) as other:
        await old.batch(add("k", 5), add("negative", -3))
        await other.batch(add("k", 1))
        async with joined(store, prefix, old.name) as new:
            incarnation = new.session.incarnation
            assert incarnation > old.session.incarnation, "incarnations do not increase"
            same(await other.values("k", "negative"), [(1, 1), (0, 0)], "after a takeover")
            await new.batch(add("k", 2))
            request = old.compose(add("k", 10))
            opened_old, opened_new = old.opened_by, new.opened_by
            assert opened_old is not None
            assert opened_new is not None
            revival = Resume(
                *(
                    old.name,
                    old.session.incarnation,
                    request.seq + 1,
                    request.known,
                    request.periods,
                ),
                born=opened_new.born,
                first=True,
                claims=(claim("k", 10, other.session.known),),
            )
            for late in (
                request,
                revival,
                Load(old.name, old.session.incarnation, 1, ""),
                opened_old,
            ):
                reply = expect(Conflict, await old.send(late), f"{late} of the older one")
                same(reply.incarnation, incarnation, "the incarnation that holds the id")
            same(await other.total("k"), 3, "after requests of the older one")

            again = expect(Opened, await new.send(opened_new), "an open that was repeated")
            same(again.incarnation, incarnation, "the incarnation of a repeated open")
            same(await new.values("k"), [(3, 2)], "after an open was repeated")
            await _refused_opens(new, opened_new)
            same(await new.values("k"), [(3, 2)], "after opens that were refused")

            await new.batch(put("k", 0))
            new.take(await new.send(new.compose(leave=True)))
        expect(Conflict, await old.send(request), "the older one, after the newer has left")
        same(await other.total("k"), 1, "after all")


async def _refused_opens(holder: Client, opened: Open) -> None:
    born = opened.born + 1
    for changed in (
        replace(opened, nonce=fresh(), expected=0),
        replace(opened, nonce=fresh(), expected=opened.expected),
        replace(opened, nonce=fresh(), expected=holder.session.incarnation, born=born),
        replace(opened, nonce=fresh(), instance=fresh(), expected=7),
    ):
        expect(Conflict, await holder.send(changed), f"{changed}")


async def heirs_continue(store: Store) -> None:
    """Who inherits is given the slices that count, and nothing else."""
    prefix = fresh()
    async with joined(store, prefix) as old, joined(store, prefix) as other:
        await old.batch(put("a", 5), put("b", -7), put("void", 9))
        await other.batch(move("void", 1))
        async with joined(store, prefix, old.name, inherit=True) as new:
            inherited = {key: piece.value for key, piece in new.session.slices.items()}
            same(inherited, {"a": 5, "b": -7}, "what was inherited")
            # The last page is recorded, and so what follows it is executed at once.
            new.take(expect(Applied, await new.send(new.compose()), "the first batch of an heir"))
            same(await new.values("a", "b", "void"), [(5, 5), (-7, -7), (1, 0)], "inherited")
            expect(Conflict, await old.send(old.compose(add("a", 1))), "the older one")
            # The stamps are inherited too: an older move makes void, a newer slice does not.
            await new.skip()
            await new.batch(add("a", 1))
            same(await other.values("a", "b", "void"), [(6, 0), (-7, 0), (1, 1)], "re-asserted")
            await other.batch(move("b", 2))
            same(await new.values("b"), [(2, 0)], "an inherited slice after a move")
            await new.batch(put("a", 0))
            new.take(await new.send(new.compose(leave=True)))
        async with joined(store, prefix, old.name, inherit=True) as late:
            same(late.session.slices, {}, "inherited from one that has left")


async def thousands_of_slices(store: Store) -> None:
    """Loading, re-asserting and purging go in pages."""
    prefix = fresh()
    numbers = {f"key {number}": number + 1 for number in range(_MANY)}
    keys = list(numbers)
    async with joined(store, prefix) as old, joined(store, prefix) as other:
        for part in (keys[:MAX_ENTRIES], keys[MAX_ENTRIES:]):
            await old.batch(*(put(key, numbers[key]) for key in part))
        async with joined(store, prefix, old.name, inherit=True) as heir:
            inherited = {key: piece.value for key, piece in heir.session.slices.items()}
            same(inherited, numbers, "what was inherited")
            await heir.skip()
            await heir.batch()
            values = await other.values(*keys[-MAX_ENTRIES:])
            expected = [(numbers[key], 0) for key in keys[-MAX_ENTRIES:]]
            same(values, expected, "after all was re-asserted")
            # Only one of them is asserted now: everything else is a leftover.
            for key in keys[1:]:
                del heir.session.slices[key]
            await heir.skip()
            await heir.batch()
        async with joined(store, prefix, old.name):
            for part in (keys[:MAX_ENTRIES], keys[MAX_ENTRIES:]):
                same(await other.values(*part), [(0, 0)] * len(part), "after a takeover")


# ------------------------------------------------------------------------------ healing


async def resumes_reassert(store: Store) -> None:
    """A resume brings back what is claimed and not void, and nothing else, once."""
    async with joined(store, prefix := fresh()) as a, joined(store, prefix) as b:
        await a.batch(add("k", 5), add("negative", -4), add("gone", 6), add("void", 7))
        await b.batch(add("k", 1), move("void", 70))
        before = a.compose(add("k", 50))
        a.session.withdraw()
        del a.session.slices["gone"]
        reply = await a.skip()
        same(reply.recorded, before.seq - 1, "the last seq recorded")
        resume = a.session.request()
        assert isinstance(resume, Resume)
        same(await b.total("gone"), 6, "before the resume")
        wrong = replace(resume, born=resume.born + 1)
        expect(MustResume, await a.send(wrong), "a resume for another namespace")
        first = expect(Applied, await a.send(resume), "a resume")
        await b.batch(add("negative", 1))
        again = expect(Applied, await a.send(resume), "a resume that was repeated")
        said = (again.at, list(again.results))
        same(said, (first.at, list(first.results)), "the answer to a repeated resume")
        a.take(first)
        same(a.session.phase, Phase.LIVE, "the instance after its resume")
        held = {key: piece.value for key, piece in a.session.slices.items()}
        same(held, {"k": 5, "negative": -4}, "what the instance holds after its resume")
        await a.batch(add("k", 1))
        expect(Stale, await a.send(resume), "a late copy of a resume")
        expect(Stale, await a.send(before), "a late copy of a batch from before")
        values = await b.values("k", "negative", "gone", "void")
        same(values, [(7, 1), (-3, 1), (0, 0), (70, 70)], "after the resume")
        same(await a.values("k", "negative"), [(7, 6), (-3, -4)], "own slices after the resume")


async def strangers_resume(store: Store) -> None:
    """An instance that the store has no record of tells it what was lost."""
    async with joined(store, prefix := fresh()) as b, joined(store, prefix) as c:
        stamps: list[int] = []
        for entry in (put("old", 9), put("moved", 5), put("later", 1), move("k", 3)):
            request = b.compose(entry)
            done = expect(Applied, await b.send(request), "a batch")
            stamps.append(done.at)
            b.take(done)
        assert sorted(set(stamps)) == stamps, f"stamps do not increase: {stamps}"
        await c.batch(put("moved", 4))
        same(await b.total("moved"), 9, "before the stranger")
        peeked = expect(Peeked, await c.send(Peek("stranger")), "a peek")
        resume = Resume(
            *("stranger", stamps[0], 7, c.session.known, c.session.periods),
            born=peeked.born,
            first=True,
            moves=(("moved", stamps[2]), ("k", stamps[0])),
            claims=(
                claim("own", 6, stamps[0]),
                claim("k", 1, stamps[2]),
                claim("moved", 2, stamps[2]),
            ),
        )
        done = expect(Applied, await c.send(resume), "a resume of a stranger")
        same(list(done.results), [Previous(0, 0), Rejection.MOVED, Previous(4, 0)], "its results")
        values = await c.values("old", "moved", "later", "own", "k")
        same(values, [(9, 0), (6, 4), (1, 0), (6, 0), (3, 0)], "after a stranger's resume")
        await b.batch()
        held = {key: piece.value for key, piece in b.session.slices.items()}
        same(held, {"old": 9, "later": 1, "k": 3}, "what another holds after a stranger's move")

        late_clear = replace(
            resume, seq=8, known=done.at, cleared=stamps[2], moves=(), claims=resume.claims[2:]
        )
        expect(Applied, await c.send(late_clear), "a resume with a clear")
        for client in (b, c):
            await client.batch()
        values = await c.values("old", "moved", "later", "own", "k")
        same(values, [(0, 0), (6, 4), (1, 0), (0, 0), (3, 0)], "after a stranger's clear")
        held = {key: piece.value for key, piece in b.session.slices.items()}
        same(held, {"later": 1, "k": 3}, "what another holds after a stranger's clear")


async def slices_become_one(store: Store) -> None:
    """A claim onto a slice becomes a part of it, and a late move that makes one void takes both."""
    async with joined(store, prefix := fresh()) as a, joined(store, prefix) as b:
        stamps: list[int] = []
        for entries in (
            (put("was old", 5), put("is old", 5)),
            (put("a move", 1),),
            (put("was young", 5), put("is young", 5)),
            (put("the last", 1),),
        ):
            request = a.compose(*entries)
            done = expect(Applied, await a.send(request), "a batch")
            stamps.append(done.at)
            a.take(done)
        old, epoch, _, last = stamps
        claims = [("was old", last), ("is old", old), ("was young", old), ("is young", last)]
        results = await a.batch(*(claim(key, 1, stamp)._replace(after=6) for key, stamp in claims))
        same(list(results), [Previous(5, 5)] * 4, "claims onto slices")
        keys = [key for key, _ in claims]
        same(await a.values(*keys), [(6, 6)] * 4, "after claims onto slices")
        peeked = expect(Peeked, await b.send(Peek("stranger")), "a peek")
        resume = Resume(
            *("stranger", old, 7, b.session.known, b.session.periods),
            born=peeked.born,
            first=True,
            moves=[(key, epoch) for key in keys],
        )
        expect(Applied, await b.send(resume), "a resume of a stranger")
        expected = [(0, 0), (0, 0), (0, 0), (6, 0)]
        same(await b.values(*keys), expected, "after a late move of what has become one")
        await a.batch()
        held = {key: a.session.slices[key].value for key in keys if key in a.session.slices}
        same(held, {"is young": 6}, "what its instance holds then")


# ------------------------------------------------------------------------------- epochs


async def epochs_are_told(store: Store) -> None:
    """Everybody hears of others' moves, until they know them."""
    async with joined(store, prefix := fresh()) as a, joined(store, prefix) as b:
        await a.batch(add("k", 1), add("j", 1))
        await b.batch(move("k", 5))
        beat = a.compose()
        done = expect(Applied, await a.send(beat), "a heartbeat")
        assert done.journal is not None, "the first answer to a batch brings no journal"
        told = dict(done.journal.moves)
        assert told.get("k", 0) > 0, f"a heartbeat does not tell of another's move: {done.journal}"
        same(list(a.take(done).epochs), list(told), "the moves that the instance took in")
        same(set(a.session.slices), {"j"}, "the slices left to the instance")
        done = expect(Applied, await a.send(a.compose()), "a heartbeat")
        assert done.journal is not None
        same(list(done.journal.moves), [], "moves told to one who knows them")
        a.take(done)
        await b.batch(add("j", 1))
        await b.batch(clear())
        same(await a.values("k", "j"), [(0, 0), (0, 0)], "after a clear")
        same(a.session.slices, {}, "slices after a clear")
        same(list(await a.batch(add("j", 2))), [Previous(0, 0)], "an add after a clear")
        same(await b.values("k", "j"), [(0, 0), (2, 0)], "after an add")

        # The mover of a missing key cannot know who holds a slice of it.
        await a.batch(add("m", 4), add("n", 4))
        await b.batch(add("m", -4), add("n", -4))
        same(await b.values("m", "n"), [(0, -4), (0, -4)], "sums of 0")
        await b.batch(move("m"), move("n", 0))
        same(list(await a.batch(add("m", 1), read("n"))), [Previous(0, 0)] * 2, "after the moves")
        same(await b.values("m", "n"), [(1, 0), (0, 0)], "an add after a move at 0")


async def clears_take_what_is_older(store: Store) -> None:
    """What an instance makes after a clear stays, though it has not heard of the clear yet."""
    async with joined(store, prefix := fresh()) as a, joined(store, prefix) as b:
        await a.batch(add("old", 1), add("both", 1))
        await b.batch(clear())
        request = a.compose(add("both", 5), add("young", 5))
        await a.send(request)
        a.session.lost()
        update = a.take(expect(Applied, await a.send(request), "a batch that was repeated"))
        expected: list[Result] = [Previous(0, 0), Previous(0, 0)]
        same(answers(update.results or ()), answers(expected), "a batch after a clear")
        await a.batch(add("late", 7))
        keys = ("old", "both", "young", "late")
        values = [(0, 0), (5, 5), (5, 5), (7, 7)]
        same(await a.values(*keys), values, "after the clear was heard")
        same(await b.values(*keys), [(total, 0) for total, _ in values], "after a clear")


async def long_journals_come_in_pages(store: Store) -> None:
    """A batch is executed though its instance has missed more moves than an answer holds."""
    keys = [f"key {number}" for number in range(MAX_ENTRIES + 100)]
    async with joined(store, prefix := fresh()) as a, joined(store, prefix) as b:
        await a.batch(add(keys[0], 1), add(keys[-1], 1), add("kept", 1))
        for part in (keys[:MAX_ENTRIES], keys[MAX_ENTRIES:]):
            await b.batch(*map(move, part))
        request = a.compose(add("kept", 1), add(keys[-1], 1), read(keys[0]))
        reply = expect(Applied, await a.send(request), "a batch after many moves")
        expected: list[Result] = [Previous(1, 1), Previous(0, 0), Previous(0, 0)]
        same(answers(reply.results), answers(expected), "a batch after many moves")
        update = a.take(reply)
        moved, pages = set(update.epochs), 1
        assert keys[-1] in moved, "the move of a key of the batch was not told"
        while update.backlog and pages < 10:
            update = a.take(expect(Applied, await a.send(a.compose()), "an empty batch"))
            moved |= update.epochs.keys()
            pages += 1
        assert pages > 1, "more moves than an answer may hold, and it does not say so"
        assert pages < 10, "no end of moves"
        same(sorted(moved), sorted(keys), "the moves told")
        same(a.session.slices.keys(), {"kept", keys[-1]}, "the slices that are left")
        values = await b.values("kept", keys[0], keys[-1])
        same(values, [(2, 0), (0, 0), (1, 0)], "after the journal was read")


async def moves_are_reasserted(store: Store) -> None:
    """A resume may bring as many own moves as the protocol allows; known ones do nothing."""
    keys = [f"key {number}" for number in range(MAX_MOVES + 1)]
    async with joined(store, prefix := fresh()) as a, joined(store, prefix) as b:
        await a.batch(*(move(key, 1) for key in keys))
        await b.batch(*(add(key, 1) for key in keys))
        await a.skip()
        await a.batch()
        same(await b.values(*keys), [(2, 1)] * len(keys), "after known moves were told again")


async def leavers_leave(store: Store) -> None:
    """The last batch takes the slices away, at once where they are read, and the id stays taken."""
    async with joined(store, prefix := fresh()) as a, joined(store, prefix) as b:
        await a.batch(add("k", 5), add("j", 2), add("void", 3))
        await b.batch(add("k", 1), move("void", 30))
        leave = a.compose(put("k", 0), leave=True)
        first = expect(Applied, await a.send(leave), "a last batch")
        again = expect(Applied, await a.send(leave), "a last batch that was repeated")
        same(list(first.results), [Previous(6, 5)], "the answer to a last batch")
        # It would be all that is left of the instance, for long; and nobody needs it.
        same(list(again.results), [], "the results in the answer to a repeated last batch")
        a.take(again)
        same(a.session.phase, Phase.LEFT, "the instance after its last batch")
        values = await b.values("k", "j", "void")
        same(values, [(1, 1), (0, 0), (30, 30)], "after one has left")
        more = leave._replace(
            seq=leave.seq + 1, before=leave.seq, entries=(add("k", 1),), leave=False
        )
        reply = expect(MustResume, await a.send(more), "a batch after the last")
        same(reply.recorded, leave.seq, "the last seq recorded")
        peeked = expect(Peeked, await b.send(Peek(a.name)), "a peek at one that has left")
        same(peeked.incarnation, a.session.incarnation, "the incarnation that left")
        same(await b.total("k"), 1, "after all")
