"""Checks that a store keeps what instances say of themselves, and gives it out as it is."""

from __future__ import annotations

import uuid

from .._instance._session import Session
from .._protocol._messages import Applied, Query, QueryKind, QueryPage, Resume
from .._stores._contract import Store
from ._driver import Client, add, clear, expect, fresh, joined, put, same

_LONG_TEXT = '["ü🦆 \n\0{}","' + 250 * "h" + '",1,"1.0"]'


async def _say(client: Client, text: str) -> None:
    """Take the id, or take it over, and say something of oneself."""
    client.session = Session(client.name, uuid.uuid4().hex, client.session.periods)
    client.session.about = text
    await client.register()


async def _said(client: Client) -> dict[str, tuple[int, str]]:
    """Return which incarnation of whom has said what."""
    found: dict[str, tuple[int, str]] = {}
    cursor: str | None = ""
    while cursor is not None:
        await client.link.connect()
        query = Query(client.name, QueryKind.INSTANCES, "", cursor)
        page = expect(QueryPage, await client.link.exchange(query), "who is there")
        same(len(page.about), len(page.rows), "how many have said something of themselves")
        found |= {row[0]: said for row, said in zip(page.rows, page.about, strict=True)}
        cursor = page.cursor or None
    return found  # noqa: ASYNC910 - there is one page at least


async def instances_say_who_they_are(store: Store) -> None:
    """What is said at the opening is kept with the instance, through clears, until it leaves."""
    prefix = fresh()
    async with joined(store, prefix) as a, joined(store, prefix) as b, joined(store, prefix) as c:
        said: dict[str, tuple[int, str]] = {}
        for client, text in ((a, '["a b",null,1]'), (b, ""), (c, _LONG_TEXT)):
            await _say(client, text)
            said[client.name] = (client.session.incarnation, text)
        same(await _said(a), said, "what was said at the start")
        await c.batch(add("k", 3))
        await a.batch(clear())
        await c.batch(add("k", 1), add("j", 2))
        same(await _said(b), said, "after a clear")

        # A successor speaks for itself, and so does one that comes back to a store that lost it.
        before = a.session.incarnation
        await _say(a, '["the next"]')
        same(a.session.incarnation > before, True, "an incarnation that is newer")
        said[a.name] = (a.session.incarnation, '["the next"]')
        same(await _said(b), said, "after a takeover")
        same(await c.values("k"), [(1, 1)], "what was counted")

        c.take(await c.send(c.compose(put("k", 0), put("j", 0), leave=True)))
        del said[c.name]
        same(await _said(b), said, "after one has left")


async def the_lost_say_who_they_are(store: Store) -> None:
    """With the first piece of a resume; the pieces behind it leave that as it is."""
    prefix = fresh()
    async with joined(store, prefix) as a, joined(store, prefix) as lost:
        opened = a.opened_by
        assert opened is not None
        name, incarnation = fresh("stranger"), lost.session.incarnation + 1
        periods = lost.session.periods
        for seq, first, text in ((1, True, '["back"]'), (2, False, "")):
            piece = Resume(name, incarnation, seq, 0, periods, opened.born, first, about=text)
            expect(Applied, await lost.send(piece), "a piece of a resume")
            said = await _said(a)
            same(said.get(name), (incarnation, '["back"]'), "what was said with a resume")
            same(said.get(a.name), (a.session.incarnation, ""), "what was never said")
