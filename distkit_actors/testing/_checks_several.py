"""Checks of a store through real counters: several keys, conditions, holds, the fleet."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, AsyncExitStack

import trio

from .._counters._counter import InstanceAwareCounter
from .._errors import CounterOverflowError, LimitReachedError
from .._protocol._conditions import Condition, Eq, Ge, Gt, Lt
from .._protocol._values import INT64_MAX, Change, CounterValue
from .._stores._contract import Store
from ._checks_counters import lax_counter, strict_counter
from ._driver import beside, fresh, same


def _change(previous: tuple[int, int], current: tuple[int, int] | None = None) -> Change:
    """Return the change to a value; without one, that nothing was changed."""
    after = previous if current is None else current
    return Change(CounterValue(*previous), CounterValue(*after), current is not None)


async def several_keys(store: Store) -> None:
    """Operations on several keys do to each what is done to one; in a part, all or none of them."""
    prefix = fresh()
    w, full = beside(store, "x", "w", "full")
    async with strict_counter(store, prefix) as a, strict_counter(store, prefix) as b:
        same(await a.inc_all({"x": 5, "y": -5}), {"x": (5, 5), "y": (-5, -5)}, "inc_all")
        same(await b.inc_all({"x": 1, "z": 2}), {"x": (6, 1), "z": (2, 2)}, "inc_all of another")
        value = await a.set_all_on_instance({"x": 0, "z": 7})
        same(value, {"x": (1, 0), "z": (9, 7)}, "set_all_on_instance")
        same(await b.set_all({"x": 10, "new": 0}), {"x": (10, 10), "new": (0, 0)}, "set_all")
        expected = {"z": (9, 7), "x": (10, 0), "y": (-5, -5)}
        same(await a.get_all(["z", "x", "y", "x"]), expected, "get_all")
        same(await b.get_all_on_instance(["x", "y"]), {"x": 10, "y": 0}, "get_all_on_instance")
        await b.set(full, INT64_MAX)
        try:
            await a.inc_all({"x": 1, full: 1, w: 1})
        except CounterOverflowError as error:
            same(error.applied, (), "the keys that had taken effect")
        else:
            raise AssertionError("inc_all past the end was not refused")
        same(await a.get_all(["x", w]), {"x": (10, 0), w: (0, 0)}, "after a refused inc_all")
        counts = {f"key {number}": number for number in range(1100)}
        values = {key: (number, number) for key, number in counts.items()}
        same(await a.inc_all(counts), values, "inc_all of many")
        same(await a.get_all(counts), values, "get_all of many")
        async with lax_counter(store, prefix) as lax:
            same(await lax.inc_all({"x": 1, "w": 2}), {"x": (11, 1), "w": (2, 2)}, "lax inc_all")
            same((await a.get("x")).cumulative, 10, "before the flush")
            await lax.flush()
            same(await a.get_all(["x", "w"]), {"x": (11, 0), "w": (2, 0)}, "after the flush")
            lax.inc_nowait("w", 1)
            same(await lax.set_all({"x": 3, "w": 4}), {"x": (3, 3), "w": (4, 4)}, "lax set_all")
            same(await b.get_all(["x", "w"]), {"x": (3, 0), "w": (4, 0)}, "after a lax set_all")


async def conditional_operations(store: Store) -> None:
    """A conditional operation takes effect only where its condition holds, then once."""
    prefix = fresh()
    async with (
        strict_counter(store, prefix) as strict,
        lax_counter(store, prefix) as lax,
        strict_counter(store, prefix) as other,
    ):
        for a in (strict, lax):
            await other.set("k", 8)
            same(await a.inc_if("k", Lt(10)), _change((8, 0), (9, 1)), "inc_if")
            same(await a.inc_if("k", Lt(9), 5), _change((9, 1)), "inc_if that does not apply")
            value = await a.set_on_instance_if("k", Eq(1), 4)
            same(value, _change((9, 1), (12, 4)), "set_on_instance_if")
            value = await a.set_on_instance_if("k", Eq(12), 5)
            same(value, _change((12, 4)), "set_on_instance_if that does not apply")
            same(await a.set_if("k", Gt(12), 1), _change((12, 4)), "set_if that does not apply")
            same(await other.inc("k"), (13, 9), "after a set_if that does not apply")
            same(await a.set_if("k", Ge(13), 1), _change((13, 4), (1, 1)), "set_if")
            same(await other.get("k"), (1, 0), "after a set_if")
            pairs: dict[str, tuple[Condition, int]] = {"k": (Eq(1), 1), "j": (Gt(0), 1)}
            expected = {"k": _change((1, 1), (2, 2)), "j": _change((0, 0))}
            same(await a.inc_all_if(pairs), expected, "inc_all_if")
            await a.delete("k")
        lax.inc_nowait("k", 3)
        same(await lax.inc_if("k", Eq(3)), _change((3, 3), (4, 4)), "inc_if behind a count")

        applied: list[int] = []

        async def take(counter: InstanceAwareCounter) -> None:
            change = await counter.inc_if("seats", Lt(7))
            if change.applied:
                applied.append(change.current.cumulative)

        async with trio.open_nursery() as nursery:
            for number in range(30):
                nursery.start_soon(take, (strict, lax, other)[number % 3])
        same(sorted(applied), list(range(1, 8)), "seats taken, of seven")


async def holds_end(store: Store) -> None:
    """What is held is taken back, unless somebody has made it void."""
    prefix = fresh()
    async with (
        strict_counter(store, prefix) as strict,
        lax_counter(store, prefix) as lax,
        strict_counter(store, prefix) as other,
    ):
        for a in (strict, lax):
            async with a.hold("k") as value, a.hold("k", 4, limit=5):
                same(value, (1, 1), "the value in a hold")
                await _settled(a)
                same(await other.get("k"), (5, 0), "while it is held")
                await _turned_away(a)
            await _settled(a)
            same(await other.get("k"), (0, 0), "after the holds")
            for what in ("set", "delete", "clear"):
                async with a.hold("k"), a.hold("k", 4, limit=5):
                    await _settled(a)
                    same(await other.get("k"), (5, 0), "while it is held once more")
                    if what == "set":
                        await other.set("k", 7)
                    else:
                        await (other.delete("k") if what == "delete" else other.clear())
                await _settled(a)
                left = 7 if what == "set" else 0
                same(await other.delete("k"), (left, left), f"after a {what} in the midst")
        same(await strict.slices("k"), {}, "slices after all")


async def _settled(counter: InstanceAwareCounter) -> None:
    """Have all that was counted or given back in the store: this comes behind it."""
    await counter.set_if("k", Lt(-INT64_MAX), 0)


async def _turned_away(counter: InstanceAwareCounter) -> None:  # noqa: ASYNC910 - entering is one
    entered = False
    try:
        async with counter.hold("k", limit=5):
            entered = True
    except LimitReachedError:
        pass
    same(entered, False, "a hold beyond its limit was entered")


async def the_fleet_is_seen(store: Store) -> None:
    """Counters see each other, and what each contributes; who is forgotten returns."""
    prefix = fresh()
    (y,) = beside(store, "x", "y")  # of who was forgotten, each part hears by itself
    async with AsyncExitStack() as stack:

        async def join(
            counter: AbstractAsyncContextManager[InstanceAwareCounter],
        ) -> InstanceAwareCounter:
            return await stack.enter_async_context(counter)

        a, b = await join(strict_counter(store, prefix)), await join(strict_counter(store, prefix))
        lax = await join(lax_counter(store, prefix))
        ids = sorted(counter.instance_id for counter in (a, b, lax))
        found = await a.instances()
        same([(info.instance_id, info.alive) for info in found], [(i, True) for i in ids], "who")
        assert all(0 <= info.heartbeat_age < 60 for info in found), f"ages in {found}"
        await a.inc_all({"x": 5, y: 1})
        await b.inc_all({"x": -7, y: -1})
        await lax.inc("x", 1)
        same(await a.slices("x"), {a.instance_id: 5, b.instance_id: -7}, "slices")
        expected = {a.instance_id: 5, b.instance_id: -7, lax.instance_id: 1}
        same(await lax.slices("x"), expected, "slices, with what is pending")
        same(await a.keys(), ["x", y], "keys")
        same(await lax.keys(), ["x"], "keys of one without a slice of what adds up to 0")
        await a.forget(b.instance_id)
        same(await a.slices(y), {a.instance_id: 1}, "slices after one was forgotten")
        same(await b.inc("x"), (-1, -6), "its next operation")
        same(await a.slices(y), {a.instance_id: 1, b.instance_id: -1}, "slices after its return")
