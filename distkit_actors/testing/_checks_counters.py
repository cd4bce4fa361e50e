"""Checks of a store through real counters: what operations do and return."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Final

import trio

from .._counters._counter import InstanceAwareCounter
from .._counters._lax import LaxInstanceAwareCounter
from .._counters._strict import StrictInstanceAwareCounter
from .._errors import CounterOverflowError
from .._protocol._values import INT64_MAX, INT64_MIN
from .._stores._contract import Store
from ._driver import LONG, fresh, joined, move, put, same

#: Seconds that a stop may take, of a counter whose store is broken.
_GRACE: Final = 1.0

#: Numbers at which something ends: int64, what a double holds exactly, a fold.
_NUMBERS: Final = (
    INT64_MAX,
    INT64_MIN,
    INT64_MAX - 1,
    INT64_MIN + 1,
    2**53 - 1,
    2**53 + 1,
    -(2**53) + 1,
    -(2**53) - 1,
    10**18,
    -(10**18),
)

#: Keys that are easily taken for each other, or for something else.
_NAMES: Final = (
    *("a", "A", " a", "a ", "a\n", "a\0", "a\0b", "á", "a\u0301", "\uff41", "\ufeffa"),
    *("ß", "ss", "😀", "😀" * 255, "k" * 255, "k" * 254, "k" * 254 + "l"),
    *("0", "-0", "1", "01", "+1", "1.0", "1e0", "-1", "None", "nil", "inf", "nan"),
    *(" ", "\t", "\n", "\r\n", "\0", "\x7f", "\u0085", "\u2028", "\\", "\\n", "'", '"'),
    *("{", "}", "{}", "{a}", "a,b", "a;b", "a@b", "a|b", "a=b", "a/b", "a.b", "%s", "$"),
    *(":", "::", "a:b", "b:", ":a", ":inc", ":pad", ":born", ":clock", ":due", "a::b", "b:a"),
    *("!", "*", "^", "~", "/", "&", "=", "+", "?", "#", "[a]", "(a)", "inc", "seq", "n"),
)


def strict_counter(
    store: Store, prefix: str
) -> AbstractAsyncContextManager[StrictInstanceAwareCounter]:
    """Return a block that runs a strict counter, which nobody takes for dead."""
    return StrictInstanceAwareCounter.open(
        prefix, store, dead_instance_threshold=LONG, exit_grace=_GRACE
    )


def lax_counter(store: Store, prefix: str) -> AbstractAsyncContextManager[LaxInstanceAwareCounter]:
    """Return a block that runs a lax counter, which nobody takes for dead."""
    # With such periods nothing is sent but by `flush` and by operations that act at once.
    return LaxInstanceAwareCounter.open(
        prefix,
        store,
        dead_instance_threshold=LONG,
        exit_grace=_GRACE,
        flush_interval=LONG,
        allowed_lag=LONG,
    )


async def _overflows(operation: Awaitable[object], what: str) -> None:
    try:
        value = await operation
    except CounterOverflowError:
        return  # noqa: ASYNC910 - the operation had a checkpoint
    raise AssertionError(f"{what} returned {value!r} instead of being refused")


async def strict_operations(store: Store) -> None:
    """Each operation of a strict counter does and returns what it must."""
    prefix = fresh()
    async with strict_counter(store, prefix) as a, strict_counter(store, prefix) as b:
        same(await a.get("k"), (0, 0), "get of a missing key")
        same(await a.inc("k", 10), (10, 10), "inc")
        same(await b.inc("k", 5), (15, 5), "inc by another instance")
        same(await b.dec("k", 7), (8, -2), "dec below 0")
        same(await a.get("k"), (8, 10), "get")
        same(await a.set_on_instance("k", 3), (1, 3), "set_on_instance")
        same(await b.get("k"), (1, -2), "get after another's set_on_instance")
        same(await a.delete_on_instance("k"), (-2, 3), "delete_on_instance")
        same(await a.delete_on_instance("k"), (-2, 0), "delete_on_instance of nothing")
        same(await b.inc("k", 2), (0, 0), "inc to 0")
        same(await a.inc("k"), (1, 1), "inc by 1")
        same(await a.set("k", 100), (100, 100), "set")
        same(await b.get("k"), (100, 0), "get after another's set")
        same(await b.inc("k"), (101, 1), "inc after another's set")
        same(await b.delete("k"), (101, 1), "delete")
        same(await a.delete("k"), (0, 0), "delete of a missing key")
        same(await a.inc("k", 4), (4, 4), "inc after delete")
        same(await a.set("k", 0), (0, 0), "set to 0")
        same(await b.get("k"), (0, 0), "get after set to 0")
        await b.inc("k", 7)
        await a.inc("other", 1)
        await a.clear_on_instance()
        same(await a.get("other"), (0, 0), "get after clear_on_instance")
        same(await a.get("k"), (7, 0), "get of another's slice after clear_on_instance")
        await a.inc("other", 1)
        await b.clear()
        same(await a.get("other"), (0, 0), "get after another's clear")
        same(await b.get("k"), (0, 0), "get after clear")
        same(await a.inc("other", 2), (2, 2), "inc after another's clear")


async def lax_operations(store: Store) -> None:
    """Lax counts arrive, once, and count together with strict ones."""
    prefix = fresh()
    async with strict_counter(store, prefix) as strict, lax_counter(store, prefix) as lax:
        lax.inc_nowait("k", 5)
        lax.dec_nowait("k", 2)
        lax.inc_nowait("other", -4)
        await lax.flush()
        same(await strict.get("k"), (3, 0), "strict get after a flush")
        same(await strict.inc("other", 1), (-3, 1), "strict inc after a flush")
        same(await lax.set("k", 50), (50, 50), "lax set")
        same(await strict.inc("k", 1), (51, 1), "strict inc after a lax set")
        same(await lax.delete_on_instance("k"), (1, 50), "lax delete_on_instance")
        same(await lax.set_on_instance("k", 7), (8, 7), "lax set_on_instance")
        await lax.flush()
        same(await strict.get("k"), (8, 1), "strict get after a lax set_on_instance")
        lax.inc_nowait("k", 2)
        same(await lax.delete("k"), (10, 9), "lax delete, behind a pending count")
        same(await strict.get("k"), (0, 0), "strict get after a lax delete")
        lax.inc_nowait("k", 2)
        await lax.clear_on_instance()
        same(await strict.get("k"), (0, 0), "strict get after a lax clear_on_instance")
        same(await strict.get("other"), (1, 1), "the own slice after another's")
        lax.inc_nowait("k", 2)
        await lax.clear()
        same(await strict.get("other"), (0, 0), "strict get after a lax clear")
        lax.inc_nowait("k", 2)
    async with strict_counter(store, prefix) as strict:
        same(await strict.get("k"), (0, 0), "get after all have left")


async def numbers_are_exact(store: Store) -> None:
    """Values are exact over the whole of int64, whatever way they are come by."""
    prefix = fresh()
    async with strict_counter(store, prefix) as a, strict_counter(store, prefix) as b:
        for number in _NUMBERS:
            key, step = f"at {number}", 1 if number < 0 else -1
            same(await a.inc(key, number), (number, number), f"inc by {number}")
            same(await b.get(key), (number, 0), "get of another's")
            same(await a.inc(key, step), (number + step,) * 2, "inc by 1 of it")
            same(await a.inc(key, -step), (number, number), "inc back")
            same(await b.inc(key, step), (number + step, step), "inc by 1 of another's")
            same(await a.delete_on_instance(key), (step, number), "delete_on_instance")
            same(await a.set_on_instance(key, number), (number + step, number), "set_on_instance")
            same(await b.set(key, number), (number, number), "set")
            same(await a.get(key), (number, 0), "get after another's set")
            same(await a.delete(key), (number, 0), "delete")
        # What is replaced and what replaces it are judged together, not one after the other.
        await b.inc("swap", 5)
        for number in (INT64_MIN, INT64_MAX - 5, INT64_MIN, -1, INT64_MIN, 0):
            value = await a.set_on_instance("swap", number)
            same(value, (number + 5, number), f"set_on_instance to {number}")


async def overflow_is_refused(store: Store) -> None:
    """What would leave int64 changes nothing, be it slice or cumulative."""
    prefix = fresh()
    async with AsyncExitStack() as stack:
        a, b, c = [await stack.enter_async_context(strict_counter(store, prefix)) for _ in range(3)]
        for top, one in ((INT64_MAX, 1), (INT64_MIN, -1)):
            key = f"near {top}"
            await a.set(key, top)
            await _overflows(b.inc(key, one), f"{one} more on a cumulative of {top}")
            same(await b.get(key), (top, 0), "after an inc was refused")
            await _overflows(a.inc(key, one), f"{one} more on a slice of {top}")
            same(await a.get(key), (top, top), "after an inc was refused")
            await b.inc(key, -one)
            await _overflows(a.inc(key, one), f"{one} more on a slice of {top}, not the cumulative")
            same(await a.get(key), (top - one, top), "after an inc was refused for the slice")
            await c.inc(key, one)
            await _overflows(b.delete_on_instance(key), "delete_on_instance of what is needed")
            await _overflows(b.set_on_instance(key, one), "set_on_instance past the end")
            same(await b.get(key), (top, -one), "after operations were refused")
            await _overflows(b.clear_on_instance(), "clear_on_instance of what is needed")
            same(await b.get(key), (top, -one), "after clear_on_instance was refused")
            same(await a.set_on_instance(key, top - one), (top - one, top - one), "making room")
            same(await b.delete_on_instance(key), (top, -one), "delete_on_instance with room")
            same(await c.delete(key), (top, one), "delete at the limit")
            # The old value taken away first, or the new one added first, would not fit.
            await a.set_on_instance("tight", -10 * one)
            await b.set_on_instance("tight", top)
            await c.set_on_instance("tight", 5 * one)
            same(await a.set_on_instance("tight", -7 * one), (top - 2 * one, -7 * one), "replacing")
            same(await c.set_on_instance("tight", 6 * one), (top - one, 6 * one), "replacing")
            await a.clear()


async def many_at_once(store: Store) -> None:
    """A thousand operations in flight each get their own answer, with bad ones among them."""
    prefix = fresh()
    values: list[tuple[int, int]] = []
    refused: list[int] = []

    async def one(counter: InstanceAwareCounter) -> None:
        values.append(await counter.inc("one key"))

    async def another(counter: InstanceAwareCounter, index: int) -> None:
        value = await counter.inc(f"key {index}", index)
        same(value, (index, index), "inc of one of many keys")

    async def too_much(counter: InstanceAwareCounter) -> None:
        await _overflows(counter.inc("full"), "an inc past the end among others")
        refused.append(1)

    async with strict_counter(store, prefix) as a, strict_counter(store, prefix) as b:
        await a.set("full", INT64_MAX)
        async with trio.open_nursery() as nursery:
            for index in range(250):
                nursery.start_soon(one, a)
                nursery.start_soon(one, b)
                nursery.start_soon(another, a, index + 1)
                nursery.start_soon(too_much, (a, b)[index % 2])
        totals = sorted(cumulative for cumulative, _ in values)
        same(totals, list(range(1, 501)), "cumulatives seen by 500 incs of one key")
        same(await a.get("one key"), (500, 250), "get after 500 incs of one key")
        same(await b.get("full"), (INT64_MAX, 0), "get of the full key")


async def names_do_not_mix(store: Store) -> None:
    """Keys, prefixes and instance ids are taken as they are, whatever is in them."""
    token = fresh("")
    prefixes = [token, token.upper(), f"{token}}}", f"}}{token}", f"{{{token}}}", f"{{{token}"]
    prefixes += [f"{token}:", f"{token}:42", f":{token}", f"{token}}}:i:", f"{token}}}:i:same id"]
    prefixes += [f"{token}%7D", f"{token}%", f"{token}%25", f"{token}\0", f"{token}\n"]
    prefixes += [f"a}}b{token}", f"a{token}", f"é{token}", f"e\u0301{token}", f"{token} "]
    long = "k" * (255 - len(token)) + token
    prefixes += [long, long[:-1], long[:-1] + "x", token + "😀" * (255 - len(token))]
    async with AsyncExitStack() as stack:
        spaces = [
            await stack.enter_async_context(joined(store, prefix, "same id")) for prefix in prefixes
        ]
        for number, client in enumerate(spaces, start=1):
            await client.batch(put("key", number))
        for number, client in enumerate(spaces, start=1):
            where = f"the one key of prefix {prefixes[number - 1]!r}"
            same(await client.total("key"), number, where)

    await _keep_apart(store, fresh(), _NAMES)

    prefix = fresh()
    ids = ["i", "i:", "i:1", ":i", "I", "i ", "i\0", "{i}", "n", "s:n", "😀" * 255, "k" * 255]
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(joined(store, prefix, name)) for name in ids]
        for number, client in enumerate(clients, start=1):
            await client.batch(put("key", number))
        everything = sum(range(1, len(ids) + 1))
        for number, client in enumerate(clients, start=1):
            values = await client.values("key")
            same(values, [(everything, number)], f"the slice of instance {client.name!r}")


async def _keep_apart(store: Store, prefix: str, keys: Sequence[str]) -> None:
    async with joined(store, prefix) as a, joined(store, prefix) as b:
        numbers = range(1, len(keys) + 1)
        await a.batch(*(put(key, number) for key, number in zip(keys, numbers, strict=True)))
        values = await b.values(*keys)
        for key, number, value in zip(keys, numbers, values, strict=True):
            same(value, (number, 0), f"the value of key {key!r}")
        async with joined(store, prefix, a.name, inherit=True) as heir:
            inherited = {key: own.value for key, own in heir.session.slices.items()}
            same(inherited, dict(zip(keys, numbers, strict=True)), "what an heir was given")
            await b.batch(*map(move, keys))
            await heir.batch()
            same(heir.session.slices, {}, "slices after all epochs were moved")
