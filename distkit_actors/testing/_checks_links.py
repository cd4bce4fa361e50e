"""Checks of what a link may have beyond the least, which saves time or tells of settings."""

from __future__ import annotations

from contextlib import suppress

import trio

from .._errors import CounterOverflowError, StoreError
from .._protocol._values import INT64_MAX
from .._stores._contract import Store
from ._checks_counters import strict_counter
from ._driver import add, fresh, joined, same


async def one_after_the_other(store: Store) -> None:
    """A task that does one operation after the other gets the answer to each.

    After some of them the task itself sends and receives, if the link can do that without waiting.
    """
    prefix = fresh()
    values: list[tuple[int, int]] = []

    async def another() -> None:
        values.append(await a.inc("k"))

    async with strict_counter(store, prefix) as a, strict_counter(store, prefix) as b:
        for number in range(1, 11):
            same(await a.inc("k"), (2 * number - 1, number), "inc, one after the other")
            same(await b.inc("k"), (2 * number, number), "inc, in turns with another instance")
        same(await a.get("k"), (20, 10), "get after many incs")
        await b.set("k", INT64_MAX)
        try:
            value = await a.inc("k")
        except CounterOverflowError:
            pass
        else:
            raise AssertionError(f"inc past the end returned {value!r} instead of being refused")
        same(await a.get("k"), (INT64_MAX, 0), "get after an inc was refused")
        await b.delete("k")
        same(await a.inc("k"), (1, 1), "inc after another's delete")
        await b.forget(a.instance_id)
        same(await a.inc("k"), (2, 2), "inc of one who was forgotten")
        for number in range(4, 13, 2):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(another)
                nursery.start_soon(another)  # it comes while the other one waits for its answer
            for _ in range(5):
                same(await a.get("k"), (number, number), "get after two incs at once")
        same(sorted(values), [(number, number) for number in range(3, 13)], "incs, two at once")


async def links_look_at_settings(store: Store) -> None:
    """A link tells which settings may make the store lose counts, or not; and then it goes on."""
    async with joined(store, fresh()) as client:
        await client.batch(add("k", 1))
        with suppress(StoreError):  # the store need not tell
            await client.link.inspect()
        same(await client.values("k"), [(1, 1)], "read after a look at the settings")
