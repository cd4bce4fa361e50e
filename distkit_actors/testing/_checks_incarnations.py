"""Checks of a store request by request: who has an id, and how one comes back that was lost."""

from __future__ import annotations

from .._instance._session import Phase
from .._protocol._messages import (
    MAX_ENTRIES,
    Applied,
    Conflict,
    Load,
    MustResume,
    Open,
    Opened,
    Peek,
    Peeked,
    Previous,
    Rejection,
    Resume,
    Stale,
)
from .._stores._contract import Store
from ._driver import Client, add, claim, expect, fresh, joined, move, put, same

#: Nearly two messages full.
_MANY = MAX_ENTRIES + MAX_ENTRIES // 2


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
        opened._replace(nonce=fresh(), expected=0),
        opened._replace(nonce=fresh(), expected=opened.expected),
        opened._replace(nonce=fresh(), expected=holder.session.incarnation, born=born),
        opened._replace(nonce=fresh(), instance=fresh(), expected=7),
    ):
        expect(Conflict, await holder.send(changed), f"{changed}")


async def heirs_continue(store: Store) -> None:
    """Who inherits is given the slices that count, and nothing else."""
    prefix = fresh()
    async with joined(store, prefix) as old, joined(store, prefix) as other:
        await old.batch(put("a", 5), put("b", -7), put("void", 9))
        await other.batch(move("void", 1))
        async with joined(store, prefix, old.name, inherit=True) as new:
            inherited = {key: own.value for key, own in new.session.slices.items()}
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
            inherited = {key: own.value for key, own in heir.session.slices.items()}
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
        async with joined(store, prefix, old.name) as empty:
            for part in (keys[:MAX_ENTRIES], keys[MAX_ENTRIES:]):
                same(await other.values(*part), [(0, 0)] * len(part), "after a takeover")
                await empty.batch(*(put(key, numbers[key]) for key in part))
            # It is replaced in its turn before it has removed all that it finds.
            new = Client(empty.link, old.name, empty.session.periods)
            while new.session.phase in (Phase.PEEK, Phase.OPEN):
                request = new.session.request()
                assert request is not None
                new.take(await new.send(request))
        async with joined(store, prefix, old.name, inherit=True) as heir:
            same(heir.session.slices, {}, "inherited from one that started empty")
        same(await other.values(keys[-1]), [(0, 0)], "after all takeovers")


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
        wrong = resume._replace(born=resume.born + 1)
        expect(MustResume, await a.send(wrong), "a resume for another namespace")
        first = expect(Applied, await a.send(resume), "a resume")
        await b.batch(add("negative", 1))
        again = expect(Applied, await a.send(resume), "a resume that was repeated")
        said = (again.at, list(again.results))
        same(said, (first.at, list(first.results)), "the answer to a repeated resume")
        a.take(first)
        same(a.session.phase, Phase.LIVE, "the instance after its resume")
        held = {key: own.value for key, own in a.session.slices.items()}
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
        held = {key: own.value for key, own in b.session.slices.items()}
        same(held, {"old": 9, "later": 1, "k": 3}, "what another holds after a stranger's move")

        late_clear = resume._replace(
            seq=8, known=done.at, cleared=stamps[2], moves=(), claims=resume.claims[2:]
        )
        expect(Applied, await c.send(late_clear), "a resume with a clear")
        for client in (b, c):
            await client.batch()
        values = await c.values("old", "moved", "later", "own", "k")
        same(values, [(0, 0), (6, 4), (1, 0), (0, 0), (3, 0)], "after a stranger's clear")
        held = {key: own.value for key, own in b.session.slices.items()}
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
