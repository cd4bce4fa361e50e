"""Checks of who may take an id, and for how long one is remembered. Each waits by any clock."""

from __future__ import annotations

import trio

from .._instance._session import Phase
from .._protocol._messages import Conflict, Open, Opened, Peek, Peeked, Previous
from .._stores._contract import Store
from ._driver import Client, add, expect, forget, fresh, joined, put, same

#: A threshold, in seconds, for those who are to die.
_SHORT = 0.25
#: Seconds within which everything ends that should.
_PATIENCE = 5.0


async def the_departed_are_forgotten(store: Store) -> None:
    """A record outlives its instance by the retention, and not for ever."""
    prefix = fresh()
    async with (
        joined(store, prefix, threshold=_SHORT, retention=_SHORT) as a,
        joined(store, prefix) as b,
    ):
        await a.batch(add("k", 5))
        a.take(await a.send(a.compose(put("k", 0), leave=True)))
        with trio.move_on_after(_PATIENCE):
            while await _incarnation(b, a.name):  # noqa: ASYNC110 - nobody tells us
                await trio.sleep(_SHORT)
        same(await _incarnation(b, a.name), 0, "the incarnation of one whose retention is over")


async def the_living_keep_their_ids(store: Store) -> None:
    """Who refuses to take an id over gets it from the dead and the departed only."""
    prefix = fresh()
    async with (
        joined(store, prefix) as a,
        joined(store, prefix) as b,
        joined(store, prefix, threshold=_SHORT) as mortal,
        joined(store, prefix) as leaver,
        store.link(prefix) as link,
    ):
        await a.batch(add("k", 5))
        await _peeked(b, a, alive=True)
        newcomer = Client(link, a.name, a.session.periods, refuse=True)
        await newcomer.register()
        same(newcomer.session.phase, Phase.REFUSED, "a newcomer that refuses to take over")
        # It may have looked at the holder while that was taken for dead.
        reply = expect(Conflict, await b.send(_refusing(a)), "an open that refuses to take over")
        same(reply.incarnation, a.session.incarnation, "the incarnation that holds the id")
        same(await a.values("k"), [(5, 5)], "the holder, after it was left alone")

        same(list(await b.batch(forget(a.name))), [Previous(0, 1)], "the holder is taken for dead")
        await _peeked(b, a, alive=False)
        expect(Opened, await b.send(_refusing(a)), "an open that takes the id of one forgotten")
        expect(Conflict, await a.send(a.compose()), "a batch of the one that was forgotten")
        leaver.take(await leaver.send(leaver.compose(leave=True)))
        await _peeked(b, leaver, alive=False)
        expect(Opened, await b.send(_refusing(leaver)), "an open that takes the id of a leaver")

        with trio.move_on_after(_PATIENCE):
            while (await _peek(b, mortal.name)).alive:  # noqa: ASYNC110 - nobody tells us
                await b.batch(budget=0)  # so that it is overdue, and nobody has noticed
                await trio.sleep(_SHORT / 4)
        await _peeked(b, mortal, alive=False)
        expect(Opened, await b.send(_refusing(mortal)), "an open that takes the id of one overdue")


def _refusing(holder: Client) -> Open:
    opened = holder.opened_by
    assert opened is not None
    expected = holder.session.incarnation
    return opened._replace(nonce=fresh(), expected=expected, refuse=True)


async def _peeked(client: Client, holder: Client, *, alive: bool) -> None:
    found = await _peek(client, holder.name)
    same(found.incarnation, holder.session.incarnation, "the incarnation peeked at")
    same(found.alive, alive, "whether it is alive")


async def _peek(client: Client, name: str) -> Peeked:
    return expect(Peeked, await client.send(Peek(name)), "a peek")


async def _incarnation(client: Client, name: str) -> int:
    return (await _peek(client, name)).incarnation
