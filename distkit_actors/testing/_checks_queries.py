"""Checks of a store request by request: who is there and has what, and who is forgotten."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import trio

from .._protocol._liveness import MICROSECONDS
from .._protocol._messages import MAX_PURGE, Applied, MustResume, Previous, QueryKind, Rejection
from .._protocol._values import INT64_MAX, INT64_MIN
from .._stores._contract import Store
from ._driver import (
    LONG,
    Client,
    add,
    answers,
    expect,
    forget,
    fresh,
    joined,
    move,
    put,
    read,
    same,
)

#: More instances than one page of any store should hold.
_CROWD: Final = 600

#: A threshold for those who are to die, seconds after which they have, and how often they are
#: looked at meanwhile.
_SHORT, _WAIT, _LOOKS = 0.25, 0.35, 5


async def the_forgotten_are_dead(store: Store) -> None:
    """Their slices go at once; they return with all that is not void, at their next contact."""
    prefix = fresh()
    async with (
        joined(store, prefix) as a,
        joined(store, prefix) as b,
        joined(store, prefix, "k") as c,
    ):
        await b.batch(add("k", 5), add("negative", -4), add("void", 9))
        await c.batch(add("k", 100))
        await a.batch(move("void", 1), add("k", 1))
        # An id may look like a key, or like anything.
        others = [forget(name) for name in ("void", "nobody", ":inc", ":", prefix)]
        results = await a.batch(read("k"), forget(b.name), read("k"), *others)
        expected = [Previous(106, 1), Previous(0, 3), Previous(101, 1)]
        same(
            answers(results),
            answers(expected + [Previous(0, 0)] * len(others)),
            "a batch that forgets",
        )
        values = [(101, 1), (0, 0), (1, 1)]
        same(await a.values("k", "negative", "void"), values, "after it")
        same(list(await a.batch(forget(b.name))), [Previous(0, 0)], "forgotten once more")
        same(list(await a.batch(forget(a.name))), [Rejection.REFUSED], "forgetting oneself")
        same(await a.values("k"), [(101, 1)], "after that was refused")

        request = b.compose(add("k", 1))
        reply = expect(MustResume, await b.send(request), "a batch of one who was forgotten")
        same(reply.recorded, request.seq - 1, "the last seq recorded")
        b.take(reply)
        same(list(await b.batch(add("k", 1))), [Previous(106, 5)], "the first batch back")
        values = [(107, 6), (-4, -4), (1, 0)]
        same(await b.values("k", "negative", "void"), values, "after the return")
        await b.batch(put("k", 0), put("negative", 0))
        same(list(await a.batch(forget(b.name))), [Previous(0, 0)], "one without slices, forgotten")
        expect(MustResume, await b.send(b.compose()), "a batch of one without slices, forgotten")


async def forgetting_is_bounded(store: Store) -> None:
    """It takes up to 500 slices in a step, says how it goes on, and leaves what does not fit."""
    count = MAX_PURGE + 50
    keys = [f"key {number}" for number in range(count)]
    async with joined(store, prefix := fresh()) as a, joined(store, prefix) as b:
        await b.batch(*(put(key, 1) for key in keys[:MAX_PURGE]))
        await b.batch(*(put(key, 1) for key in keys[MAX_PURGE:]))
        left, gone = await _forgotten(a, b.name)
        assert 0 < gone <= MAX_PURGE, f"{gone} slices in one step, of {MAX_PURGE} at most"
        same(left, count - gone, "what is left of the slices")
        while left:
            left, gone = await _forgotten(a, b.name)
            assert gone > 0, "a step of forgetting that does nothing"
        values = [*await a.values(*keys[:MAX_PURGE]), *await a.values(*keys[MAX_PURGE:])]
        same(values, [(0, 0)] * count, "after all was forgotten")
        async with joined(store, prefix) as c, joined(store, prefix) as d:
            await c.batch(put("tight", -10), put("k", 5))
            await a.batch(put("tight", INT64_MAX))
            await d.batch(put("tight", 3))
            same(await _forgotten(a, c.name), (1, 1), "left and gone, where one does not fit")
            same(await _forgotten(a, c.name), (1, 0), "left and gone, the second time")
            values = [(INT64_MAX - 7, INT64_MAX), (0, 0)]
            same(await a.values("tight", "k"), values, "what does not fit stays")


async def _forgotten(client: Client, name: str) -> tuple[int, int]:
    (result,) = await client.batch(forget(name), budget=0)
    assert isinstance(result, Previous), f"{result!r} for one who was to be forgotten"
    return result


async def queries_tell_who_has_what(store: Store) -> None:
    """Of each key the slices that count, and every key with a sum; and they change nothing."""
    prefix = fresh()
    async with joined(store, prefix) as a:
        same(await a.query(QueryKind.KEYS), {}, "keys of an empty namespace")
        same(await a.slices("k"), {}, "slices of a key that nobody counts")
        async with joined(store, prefix, "ü:{}* ") as b, joined(store, prefix) as c:
            await a.batch(add("k", INT64_MAX), add("void", 1), add("zero", 4), add("gone", 3))
            await b.batch(add("k", INT64_MIN), add("zero", -4), add("a\n\0🦆", 2))
            await c.batch(add("void", 1), move("void", 7), add("gone", 1), move("gone"))
            slices = {"k": {a.name: INT64_MAX, b.name: INT64_MIN}, "void": {c.name: 7}}
            slices |= {"zero": {a.name: 4, b.name: -4}, "gone": {}, "a\n\0🦆": {b.name: 2}}
            for key, expected in slices.items():
                same(await c.slices(key), expected, f"slices of {key!r}")
            keys = {"k": (-1, True), "void": (7, True), "a\n\0🦆": (2, True)}
            same(await b.query(QueryKind.KEYS), keys, "keys")
            # Whoever looks hears of no moves by it, and need not be known.
            done = expect(Applied, await a.send(a.compose()), "a heartbeat")
            moves = dict(done.journal.moves) if done.journal else {}
            same(set(moves), {"void", "gone"}, "moves told after queries")
            a.take(done)
            c.name = "stranger"
            same(await c.query(QueryKind.KEYS), keys, "keys told to a stranger")
            same(
                set(await c.query(QueryKind.INSTANCES)), {a.name, b.name, c.session.instance}, "who"
            )


async def queries_tell_who_is_there(store: Store) -> None:
    """Who lives and when it was heard; the dead as long as their slices count; looks are none."""
    prefix = fresh()
    async with (
        joined(store, prefix, threshold=_SHORT) as mortal,
        joined(store, prefix) as a,
        joined(store, prefix) as gone,
    ):
        await gone.batch(add("k", 1))
        gone.take(await gone.send(gone.compose(put("k", 0), leave=True)))
        await mortal.batch(add("k", 5))
        rows = await a.query(QueryKind.INSTANCES)
        same({name: alive for name, (_, alive) in rows.items()}, _alive(a, mortal), "at first")
        for _ in range(_LOOKS):
            await trio.sleep(_WAIT / _LOOKS)
            await mortal.query(QueryKind.INSTANCES)
        rows = await a.query(QueryKind.INSTANCES)
        alive = {a.name: True, mortal.name: False}
        same({name: lives for name, (_, lives) in rows.items()}, alive, "after its threshold")
        age = rows[mortal.name][0]
        least, most = _WAIT * MICROSECONDS * 0.9, LONG * MICROSECONDS / 2
        assert least <= age <= most, f"{age} µs since a sign of life, in over {_WAIT} s of silence"
        same(await a.slices("k"), {mortal.name: 5}, "slices of the dead, not reaped yet")
        await a.batch(read("k"))
        rows = await a.query(QueryKind.INSTANCES)
        same({name: lives for name, (_, lives) in rows.items()}, _alive(a), "after reaping")
        same(await a.slices("k"), {}, "slices after reaping")
        await mortal.batch()
        rows = await a.query(QueryKind.INSTANCES)
        same({name: lives for name, (_, lives) in rows.items()}, _alive(a, mortal), "returned")
        assert rows[mortal.name][0] < least, "the age of one who was just heard"


def _alive(*clients: Client) -> dict[str, bool]:
    return {client.name: True for client in clients}


async def queries_come_in_pages(store: Store) -> None:
    """All of them together name everything, though there may be very much of it."""
    many = 2 * MAX_PURGE
    keys = [f"key {number}" for number in range(many)]
    async with joined(store, fresh()) as a:
        for start in range(0, many, MAX_PURGE):
            await a.batch(*(put(key, 1) for key in keys[start : start + MAX_PURGE]))
        _same_names(await a.query(QueryKind.KEYS), keys, "keys")
        names = [a.name]
        await a.batch(put("k", 3))
        for number in range(_CROWD):
            other = Client(a.link, f"{a.name} {number}", a.session.periods)
            await other.register()
            await other.batch(put("k", number + 1))
            names.append(other.name)
        _same_names(await a.query(QueryKind.INSTANCES), names, "instances")
        slices = await a.slices("k")
        _same_names(slices, names, "slices")
        same(sum(slices.values()), await a.total("k"), "the sum of the slices")
        await a.batch(move("k", 1))
        same(len(await a.slices("k")), 1, "slices left after a move")


def _same_names(found: Iterable[str], expected: Iterable[str], what: str) -> None:
    difference = set(found) ^ set(expected)
    assert not difference, f"{len(difference)} {what} are missing or too many in their pages"
