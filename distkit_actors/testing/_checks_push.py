"""Checks of what a store tells by itself, and of what counters make of it."""

from __future__ import annotations

import trio

from .._protocol._conditions import Ge
from .._protocol._liveness import MICROSECONDS
from .._protocol._messages import Entry, Forget, Forgotten, Watch, Watched
from .._protocol._values import CounterValue
from .._stores._contract import Store, Subscription
from ._checks_counters import lax_counter, strict_counter
from ._driver import LONG, Client, add, clear, expect, forget, fresh, joined, move, put, same

#: Seconds within which word must come: pushed, not polled.
_SOON = 2.0
#: A threshold, in seconds, for those who are to die, and seconds after which they are dead.
_SHORT, _WAIT = 0.25, 0.35


async def changes_are_told(store: Store) -> None:
    """Every kind of change is told to all who watch the part that it is in."""
    prefix = fresh()
    await _changes_are_told(store, prefix)
    if store.partitions > 1:
        await _changes_are_told(store.part(1), prefix)


async def _changes_are_told(part: Store, prefix: str) -> None:
    async with (
        part.subscribe(prefix) as one,
        part.subscribe(prefix) as other,
        joined(part, prefix) as client,
    ):
        if one is None or other is None:  # it cannot push: counters poll, as the other check sees
            await trio.lowlevel.checkpoint()
            return
        await one.connect()
        await other.connect()
        lease = Watch(client.name, int(LONG * MICROSECONDS))
        expect(Watched, await client.send(lease), "asking for notice of changes")
        entries: dict[str, Entry] = {
            "an addition": add("k", 2),
            "a replacement": put("k", 5),
            "a move": move("k", 1),
            "a removal": move("k"),
            "a clear": clear(),
        }
        for what, entry in entries.items():
            await client.batch(entry)
            await _told((one, other), {"k"}, what)
        for keys in (("a:b", "*", ":"), ("::", "*"), ("*",), ("\0,;|\n ", "ÿ", "%", "😀")):
            await client.batch(*(add(key, 1) for key in keys))
            await _told((one, other), set(keys), f"an addition to {', '.join(map(repr, keys))}")
        for key in ("first", "second"):
            await client.batch(add(key, 1))
        await _told((one, other), {"first", "second"}, "one of two additions that nobody awaited")
        await _losses_are_told(part, prefix, client, (one, other))


async def _losses_are_told(
    part: Store, prefix: str, client: Client, watchers: tuple[Subscription, ...]
) -> None:
    """What becomes of all that an instance has is told as well."""
    async with joined(part, prefix, threshold=_SHORT) as mortal, joined(part, prefix) as b:
        await mortal.batch(add("m", 1))
        await _told(watchers, {"m"}, "an addition of a mortal")
        for _ in range(2):  # where notices are slow, the first one may find a blackout instead
            await trio.sleep(_WAIT)
            await b.batch()
        await _told(watchers, {"m"}, "a death")
        await b.batch(add("b", 1))
        await _told(watchers, {"b"}, "an addition of another")
        await client.batch(forget(b.name))
        await _told(watchers, {"b"}, "one who was forgotten")
        await b.batch()
        await _told(watchers, {"b"}, "a return")
        expect(Forgotten, await client.send(Forget("", b.name)), "forgetting")
        await _told(watchers, {"b"}, "one whom an onlooker forgot")
        await b.batch()
        await _told(watchers, {"b"}, "a second return")
        async with joined(part, prefix, b.name):
            await _told(watchers, {"b"}, "a takeover")


async def _told(  # noqa: ASYNC910 - there is somebody who watches
    watchers: tuple[Subscription, ...], keys: set[str], what: str
) -> None:
    """Fail if word of a change does not come soon, to each of those who watch."""
    for subscription in watchers:
        with trio.move_on_after(_SOON) as patience:
            await _hear(subscription, keys)
        assert not patience.cancelled_caught, f"of {what} nothing was told for {_SOON} seconds"


async def _hear(subscription: Subscription, keys: set[str]) -> None:
    while True:
        changed = await subscription.wait()
        if changed is None:
            return
        keys = keys - changed
        if not keys:
            return


async def values_are_followed(store: Store) -> None:
    """A watched value comes first as it is, then as others make it."""
    prefix = fresh()
    async with strict_counter(store, prefix) as strict, strict_counter(store, prefix) as other:
        async with lax_counter(store, prefix) as lax:
            for a in (strict, lax):
                await other.set("k", 3)
                async with a.watch("k") as values:
                    await _seen(values, (3, 0), "the value at first")
                    await other.inc("k", 2)
                    await _seen(values, (5, 0), "an addition of another")
                    await a.inc("k")
                    await _seen(values, (6, 1), "an addition of its own")
                    await other.delete("k")
                    await _seen(values, (0, 0), "a removal")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(other.inc, "k", 7)
            same((await strict.wait_until("k", Ge(7))).cumulative, 7, "wait_until")


async def _seen(
    values: trio.abc.ReceiveChannel[CounterValue], wanted: tuple[int, int], what: str
) -> None:
    seen: list[CounterValue] = []
    with trio.move_on_after(2 * _SOON) as patience:
        await _receive_until(values, wanted, seen)
    assert not patience.cancelled_caught, f"{what}: {wanted} was not seen, but {seen}"


async def _receive_until(  # noqa: ASYNC910 - there is something to be seen
    values: trio.abc.ReceiveChannel[CounterValue],
    wanted: tuple[int, int],
    seen: list[CounterValue],
) -> None:
    while wanted not in seen:
        seen.append(await values.receive())
