"""Checks of what a store tells by itself, and of what counters make of it."""

from __future__ import annotations

import trio

from .._protocol._conditions import Ge
from .._protocol._liveness import MICROSECONDS
from .._protocol._messages import Entry, Watch, Watched
from .._protocol._values import CounterValue
from .._stores._contract import Store, Subscription
from ._checks_counters import lax_counter, strict_counter
from ._driver import LONG, add, clear, expect, fresh, joined, move, put, same

#: Seconds within which word must come: pushed, not polled.
_SOON = 2.0


async def changes_are_told(store: Store) -> None:
    """While somebody watches, every kind of change is told, and one that is not is no change."""
    prefix = fresh()
    async with store.subscribe(prefix) as subscription, joined(store, prefix) as client:
        if subscription is None:  # it cannot push: counters poll, as the other check sees
            await trio.lowlevel.checkpoint()
            return
        await subscription.connect()
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
            await _told(subscription, {"k"}, what)
        for keys in (("a:b", "*", ":"), ("::", "*"), ("*",), ("\0,;|\n ", "ÿ", "%", "😀")):
            await client.batch(*(add(key, 1) for key in keys))
            await _told(subscription, set(keys), f"an addition to {', '.join(map(repr, keys))}")


async def _told(subscription: Subscription, keys: set[str], what: str) -> None:
    """Fail if word of a change does not come soon."""
    with trio.move_on_after(_SOON):
        while True:
            changed = await subscription.wait()
            if changed is None:
                return
            keys = keys - changed
            if not keys:
                return
    raise AssertionError(f"of {what} nothing was told for {_SOON} seconds")


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
