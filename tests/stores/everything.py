"""Everything that can be done to counters, in small pieces that check what they are told."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

import trio

from distkit_actors import (
    Eq,
    Fleet,
    FleetLimiter,
    Ge,
    InstanceAwareCounter,
    LaxInstanceAwareCounter,
    LimitReachedError,
    Lt,
    Store,
    StrictInstanceAwareCounter,
)

#: Seconds that a thing takes only where it hangs.
PATIENCE = 60.0


async def writes(counter: InstanceAwareCounter, one: str, two: str) -> None:
    """Operations on single keys and on several; what is there before goes."""
    await counter.clear()
    assert await counter.set(one, 5) == (5, 5)
    assert (await counter.inc(one)).cumulative == 6
    assert (await counter.dec(two, 2)).cumulative == -2
    assert await counter.set_on_instance(two, 7) == (7, 7)
    assert await counter.get(one) == (6, 6)
    assert await counter.inc_all({one: 1, two: 1}) == {one: (7, 7), two: (8, 8)}
    assert await counter.set_all({one: 1, two: 2}) == {one: (1, 1), two: (2, 2)}
    assert await counter.set_all_on_instance({one: 3, two: 4}) == {one: (3, 3), two: (4, 4)}
    assert (await counter.inc_if(one, Lt(4))).current == (4, 4)
    assert not (await counter.set_if(one, Eq(3), 9)).applied
    assert (await counter.set_on_instance_if(one, Ge(4), 5)).current == (5, 5)
    assert (await counter.inc_all_if({two: (Eq(4), 1)}))[two].applied
    assert await counter.get_all([one, two]) == {one: (5, 5), two: (5, 5)}
    assert await counter.get_all_on_instance([one, two]) == {one: 5, two: 5}
    assert await counter.delete(one) == (5, 5)
    assert await counter.delete_on_instance(two) == (0, 5)
    await counter.inc(one)
    await counter.clear_on_instance()
    assert await counter.get(one) == (0, 0)


async def lax_writes(counter: LaxInstanceAwareCounter, one: str, two: str) -> None:
    counter.inc_nowait(one, 3)
    counter.inc_nowait(two)
    await counter.flush()
    assert counter.get_nowait(one).cumulative == 3
    await counter.bind(one).delete()
    assert counter.get_nowait(one) == (0, 0)
    await counter.delete(two)


async def looks(counter: InstanceAwareCounter | Fleet, key: str, value: int) -> None:
    """With the one slice of somebody else."""
    assert key in await counter.keys()
    assert await counter.slices(key) == {"somebody": value}
    assert any(info.instance_id == "somebody" for info in await counter.instances())
    assert (await counter.get(key)).cumulative == value


async def watches(
    watcher: InstanceAwareCounter | Fleet, other: InstanceAwareCounter, *keys: str
) -> None:
    """Changes of single keys, of several at once, and of all."""
    for key in keys:
        await other.set(key, 1)
    for key in keys:
        async with watcher.watch(key) as values:
            await until(values, 1)
            await other.inc_all(dict.fromkeys(keys, 1))
            await until(values, 2)
            await other.set_all(dict.fromkeys(keys, 1))
            await until(values, 1)
            await other.inc(key, 6)
            await until(values, 7)
            await other.clear()
            await until(values, 0)
        await other.set_all(dict.fromkeys(keys, 1))
        await watcher.wait_until(key, Eq(1))
    await other.clear()


async def until(values: trio.MemoryReceiveChannel[tuple[int, int]], wanted: int) -> None:
    while (await values.receive())[0] != wanted:
        pass


async def holds(counter: InstanceAwareCounter, key: str) -> None:
    async with counter.hold(key), counter.hold(key, limit=3, count=2):
        assert (await counter.get(key)).cumulative == 3
        try:
            async with counter.hold(key, limit=3):
                raise AssertionError("more than the limit")
        except LimitReachedError:
            pass
    limiter = FleetLimiter(counter, key, 1)
    async with limiter:
        assert limiter.statistics().borrowed_tokens == 1
    with trio.fail_after(PATIENCE):
        await counter.wait_until(key, Eq(0))


Kinds = type[StrictInstanceAwareCounter] | type[LaxInstanceAwareCounter]


def opened(
    kind: Kinds, prefix: str, store: Store, name: str | None = None
) -> AbstractAsyncContextManager[InstanceAwareCounter]:
    return kind.open(prefix, store, instance_id=name)


async def by_counters(prefix: str, store: Store, one: str, two: str) -> None:
    """Every operation of counters of both kinds."""
    kinds: list[Kinds] = [StrictInstanceAwareCounter, LaxInstanceAwareCounter]
    with trio.fail_after(PATIENCE):
        for kind in kinds:
            async with opened(kind, prefix, store) as counter:
                await writes(counter, one, two)
                if isinstance(counter, LaxInstanceAwareCounter):
                    await lax_writes(counter, one, two)
                await holds(counter, two)
                async with opened(StrictInstanceAwareCounter, prefix, store, "somebody") as other:
                    await other.set(one, 9)
                    await looks(counter, one, 9)
                async with kind.open(prefix, store, instance_id="heir", on_exit="linger") as other:
                    await other.set(one, 8)
                async with kind.open(prefix, store, instance_id="heir", inherit=True) as heir:
                    # A lax one may answer from memory on a busy machine.
                    assert (await heir.wait_until(one, Eq(8))) == (8, 8)
                    await counter.forget("heir")
                    assert (await heir.inc(one)).cumulative in (1, 9)


async def by_watchers(prefix: str, store: Store, *keys: str) -> None:
    with trio.fail_after(PATIENCE):
        async with (
            opened(StrictInstanceAwareCounter, prefix, store) as other,
            opened(LaxInstanceAwareCounter, prefix, store) as lax,
        ):
            await watches(lax, other, *keys)
            async with Fleet.open(prefix, store) as fleet:
                await watches(fleet, other, *keys)


async def by_onlookers(prefix: str, store: Store, key: str) -> None:
    with trio.fail_after(PATIENCE):
        async with (
            opened(StrictInstanceAwareCounter, prefix, store, "somebody") as counter,
            Fleet.open(prefix, store) as fleet,
        ):
            await counter.set(key, 4)
            await looks(fleet, key, 4)
            assert (await fleet.get_all([key]))[key].cumulative == 4
            await fleet.forget("nobody")
