"""`instances`, `slices`, `keys` and `forget`: who is there, and who contributes what."""

# ruff: noqa: SIM300 - expected == actual, all through

from __future__ import annotations

import os
import socket
import time
from typing import Any

import pytest
import trio

from distkit_actors import (
    CounterClosedError,
    CounterValue,
    Fleet,
    InstanceInfo,
    InvalidKeyError,
    LaxInstanceAwareCounter,
    StrictInstanceAwareCounter,
)
from distkit_actors._protocol._messages import MAX_PURGE, Apply, Kind, Open, Query, Resume
from distkit_actors._version import __version__
from tests.behaviour.test_bad_input import BAD_NAMES, Untouched
from tests.behaviour.world import (
    MAX,
    MIN,
    Flavour,
    RedisBackend,
    World,
    both_flavours,
    each,
    everywhere,
    gather,
    on_both,
    on_redis,
)


async def living(counter: Any) -> dict[str, bool]:
    """Return who is there, and whether it counts as alive."""
    return {info.instance_id: info.alive for info in await counter.instances()}


# ---------------------------------------------------------------------------- instances


@both_flavours
async def test_instances_are_listed_by_their_ids(world: World, flavour: Flavour) -> None:
    a = await world.make(flavour, instance_id="b")
    assert {"b": True} == await living(a)
    await world.strict(instance_id="a:{}")
    c = await world.lax(instance_id="ç")
    found = await a.instances()
    assert ["a:{}", "b", "ç"] == [info.instance_id for info in found]
    assert all(isinstance(info, InstanceInfo) and info.alive for info in found)
    assert [info.instance_id for info in found] == [i.instance_id for i in await c.instances()]
    await c.aclose()
    assert {"a:{}": True, "b": True} == await living(a)


@everywhere
async def test_instances_say_who_they_are(world: World, flavour: Flavour) -> None:
    """Label, host, process, version, and since when they are there by the store's clock."""
    a = await world.make(flavour, instance_id="a", label="checkout 1 ü")
    b = await world.make(flavour, instance_id="b")
    found = {info.instance_id: info for info in await b.instances()}
    assert ("checkout 1 ü", None) == (found["a"].label, found["b"].label)
    for info in found.values():
        assert (socket.gethostname(), os.getpid()) == (info.host, info.pid)
        assert __version__ == info.version
    started = found["a"].started_at, found["b"].started_at
    assert started[0] is not None
    assert started[1] is not None
    assert started[0] < started[1]
    now = trio.current_time() if world.backend.name == "memory" else time.time()
    assert now - 60 < started[0] <= now + 0.001
    await a.clear()
    await b.inc("k")
    assert started == tuple(info.started_at for info in await b.instances())


@both_flavours
async def test_a_store_that_lost_everything_hears_again_who_they_are(
    world: World, flavour: Flavour
) -> None:
    """With everything else that they re-assert; it is sent with nothing but that."""
    a = await world.make(flavour, instance_id="a", label="web")
    observer = await world.strict(instance_id="o")
    await a.inc("k")
    await world.settle(a)
    before = await observer.instances()
    await world.backend.wipe(world.prefix)

    async def healed() -> bool:
        return 2 == len(await observer.instances()) and (1, 0) == await observer.get("k")

    await world.until(healed)
    told = [info._replace(heartbeat_age=0.0) for info in await observer.instances()]
    assert [info._replace(heartbeat_age=0.0) for info in before] == told
    said = [r for r in world.requests(a) if "web" in repr(r)]
    assert [Open, Resume] == [type(request) for request in said]


async def test_a_successor_says_who_it_is(world: World) -> None:
    first = await world.strict(instance_id="a", label="first", on_exit="linger")
    observer = await world.strict()
    await first.aclose()
    labels = {info.instance_id: info.label for info in await observer.instances()}
    assert "first" == labels["a"]
    await world.strict(instance_id="a", label="second", inherit=True)
    labels = {info.instance_id: info.label for info in await observer.instances()}
    assert "second" == labels["a"]


@on_redis
async def test_an_older_version_has_not_said_who_it_is(world: World) -> None:
    """What it has not said is None; it is seen all the same, and its slices go when it is dead."""
    assert isinstance(world.backend, RedisBackend)
    a = await world.strict(instance_id="a", label="web")
    observer = await world.strict()
    await a.inc("k")
    name = f"dk:{{p.{world.prefix}}}:i:a"
    await world.backend.server.command_async("HSET", name, ":pad", 65 * ".")
    info = next(info for info in await observer.instances() if "a" == info.instance_id)
    assert (None, None, None, None) == (info.label, info.host, info.pid, info.version)
    assert info.alive
    await world.crash(a)
    await world.reaped(a, by=observer)
    assert (0, 0) == await observer.get("k")


@pytest.mark.parametrize("kind", [StrictInstanceAwareCounter, LaxInstanceAwareCounter])
def test_a_label_is_checked_as_a_key_is(kind: Any) -> None:
    for bad in ("", 256 * "x", "\ud800", 7):
        with pytest.raises(InvalidKeyError, match="a label"):
            kind("app", "memory://", label=bad)


async def test_how_long_ago_they_gave_a_sign_of_life(world: World) -> None:
    """By the store's clock; signs are written down every 64th part of a threshold at most."""
    a = await world.strict(instance_id="a", dead_instance_threshold=64.0, heartbeat_interval=16.0)
    b = await world.strict(instance_id="b", dead_instance_threshold=640.0, heartbeat_interval=300)
    await trio.sleep(8)
    ages = {info.instance_id: info.heartbeat_age for info in await a.instances()}
    assert 8.0 == pytest.approx(ages["b"])
    assert 0.0 <= ages["a"] <= 8.0
    await b.get("k")  # too soon to be written down
    await trio.sleep(5)
    ages = {info.instance_id: info.heartbeat_age for info in await a.instances()}
    assert 13.0 == pytest.approx(ages["b"])
    await b.get("k")
    await trio.sleep(0.5)
    ages = {info.instance_id: info.heartbeat_age for info in await a.instances()}
    assert 0.5 == pytest.approx(ages["b"])


@both_flavours
async def test_the_dead_are_listed_until_their_slices_are_gone(
    world: World, flavour: Flavour
) -> None:
    a, b = await world.make(flavour), await world.strict(instance_id="gone")
    # It cannot be taken away: the cumulative would leave int64 without it (I12).
    await b.inc("tight", -10)
    await b.inc("k", 5)
    await a.inc("tight", MAX)
    await world.settle()
    c = await world.strict()
    await c.inc("tight", 7)
    await world.crash(b)
    await world.until(lambda: _dead(a, "gone"))
    assert {a.instance_id: True, c.instance_id: True, "gone": False} == await living(a)
    assert {a.instance_id: MAX, c.instance_id: 7, "gone": -10} == await a.slices("tight")
    await world.sees(c, "k", 0, 0)
    await c.dec("tight", 7)
    await world.sees(c, "tight", MAX, 0)
    assert {a.instance_id: True, c.instance_id: True} == await living(a)


async def _dead(counter: Any, instance_id: str) -> bool:
    return (await living(counter)).get(instance_id) is False


async def test_the_dead_are_dead_before_they_are_reaped(world: World) -> None:
    """A look does not reap, and says what a step would find."""
    a = await world.strict(instance_id="a", dead_instance_threshold=600.0)
    b = await world.strict(instance_id="b", dead_instance_threshold=6.0)
    await b.inc("k", 5)
    world.kill(b)
    await trio.sleep(5.9)
    assert {"a": True, "b": True} == await living(a)
    await trio.sleep(0.2)
    assert {"a": True, "b": False} == await living(a)
    assert {"a": True, "b": False} == await living(a)
    assert {} == await a.slices("k")
    assert {"a": True} == await living(a)


async def test_after_a_blackout_everybody_counts_as_alive(world: World) -> None:
    a = await world.strict(instance_id="a")
    b = await world.strict(instance_id="b")
    await b.inc("k", 5)
    await world.cut(a)
    await world.cut(b)
    await trio.sleep(2 * world.threshold)
    await world.rejoin(a)
    assert {"a": True, "b": True} == await living(a)


@everywhere
async def test_who_lingers_counts_as_alive(world: World, flavour: Flavour) -> None:
    a = await world.make(flavour)
    b = await world.make(flavour, on_exit="linger", instance_id="lingers")
    await b.inc("k", 3)
    await b.aclose()
    assert {a.instance_id: True, "lingers": True} == await living(a)
    assert {"lingers": 3} == await a.slices("k")
    await world.sees(a, "k", 0, 0)


async def test_hundreds_of_instances(world: World) -> None:
    names = [f"i-{n:03}" for n in range(300)]
    for name in names:
        await world.strict(instance_id=name)
    a = await world.lax(instance_id="last")
    assert [*names, "last"] == [info.instance_id for info in await a.instances()]


@on_both
async def test_more_than_one_page_of_instances(world: World) -> None:
    """As many as need several pages, whatever the store."""
    count = 600
    store = world.backend.store()
    a = await world.strict(instance_id="a")
    async with trio.open_nursery() as nursery:
        for n in range(count):
            ghost = type(a)(
                world.prefix,
                store,
                on_exit="linger",
                dead_instance_threshold=60.0,
                instance_id=f"i-{n}",
            )
            await nursery.start(ghost.run)
            await ghost.inc("k", n + 1)
            ghost._actor.stop()
    assert {"a"} | {f"i-{n}" for n in range(count)} == set(await living(a))
    slices = await a.slices("k")
    assert {f"i-{n}": n + 1 for n in range(count)} == slices
    assert sum(slices.values()) == (await a.get("k")).cumulative


async def test_looking_is_no_sign_of_life_but_keeps_nobody_from_beating(world: World) -> None:
    """A counter that does nothing but look beats as ever, and is not reaped."""
    a, b = await world.strict(), await world.strict()
    await a.inc("k", 5)
    with trio.move_on_after(2 * world.threshold):
        while True:
            await a.instances()
            await trio.sleep(world.interval / 10)
    assert (5, 0) == await b.get("k")


# -------------------------------------------------------------------------------- slices


@everywhere
async def test_slices_add_up_to_the_cumulative(world: World, flavour: Flavour) -> None:
    counters = [await world.make(flavour), await world.strict(), await world.lax()]
    for counter, count in zip(counters, (5, -12, MAX), strict=True):
        await counter.inc("k", count)
    await world.settle()
    await counters[0].inc("other", 1)
    ids = [counter.instance_id for counter in counters]
    for counter in counters:
        slices = await counter.slices("k")
        assert dict(zip(ids, (5, -12, MAX), strict=True)) == slices
        assert sum(slices.values()) == (await world.value(counter, "k")).cumulative
        assert {} == await counter.slices("nobody's")
    await counters[0].set_on_instance("k", 0)
    await world.settle()
    for counter in counters:
        assert {ids[1]: -12, ids[2]: MAX} == await counter.slices("k")


@both_flavours
@pytest.mark.parametrize("how", ["set", "delete", "clear"])
async def test_slices_after_a_move_that_was_not_heard_of(
    world: World, flavour: Flavour, how: str
) -> None:
    """What another has made void is in nobody's view, not in its owner's either."""
    a, b = await world.make(flavour), await world.strict()
    await a.inc("k", 5)
    await world.settle()
    if how == "set":
        await b.set("k", 7)
    elif how == "delete":
        await b.delete("k")
    else:
        await b.clear()
    expected = {b.instance_id: 7} if how == "set" else {}
    # The mover looks first: the store has still what it has made void.
    assert expected == await b.slices("k")
    assert expected == await a.slices("k")
    assert list({"k": 7} if expected else {}) == await a.keys() == await b.keys()


@both_flavours
async def test_slices_of_one_that_was_reaped(world: World, flavour: Flavour) -> None:
    """It returns before it looks (I4): what it sees is what its reads show."""
    a, b = await world.make(flavour), await world.strict()
    await a.inc("k", 5)
    await world.cut(a)
    await world.reaped(a, by=b)
    assert {} == await b.slices("k")
    world.heal(a)
    assert {a.instance_id: 5} == await a.slices("k")
    assert "k" in await a.keys()
    assert (5, 5) == await a.get("k")


@both_flavours
async def test_slices_of_the_dead_are_gone_though_the_one_that_asks_returns_first(
    world: World, flavour: Flavour
) -> None:
    """A return takes nobody's slices away, so the sign of life that finds it needed is repeated."""
    a, b = await world.make(flavour), await world.strict()
    await a.set_on_instance("k", 3)
    await world.settle(a)
    await world.intervals(1.5)  # so that it is overdue between two heartbeats of the other
    await b.inc("k", 10)
    world.kill(b)
    await trio.sleep(1.01 * world.threshold)
    assert {a.instance_id: 3, b.instance_id: 10} == {
        name: record.slices["k"].value for name, record in world.registry.records.items()
    }
    async with Fleet.open(world.prefix, world.backend.store()) as fleet:
        await fleet.forget(a.instance_id)
    assert {a.instance_id: 3} == await a.slices("k")


async def test_a_lax_counters_own_slice_has_what_is_pending(world: World) -> None:
    a, b = await world.lax(flush_interval=1000.0), await world.strict()
    await b.inc("k", 10)
    a.inc_nowait("k", 3)
    assert {a.instance_id: 3, b.instance_id: 10} == await a.slices("k")
    assert {b.instance_id: 10} == await b.slices("k")
    await a.flush()
    a.inc_nowait("k", -3)
    assert {b.instance_id: 10} == await a.slices("k")
    assert {a.instance_id: 3, b.instance_id: 10} == await b.slices("k")
    a.inc_nowait("k", 1)
    await a.set_on_instance("k", -4)
    a.inc_nowait("k", -1)
    assert {a.instance_id: -5, b.instance_id: 10} == await a.slices("k")
    await a.flush()
    assert {a.instance_id: -5, b.instance_id: 10} == await b.slices("k")


async def test_a_lax_heir_counts_on_what_it_inherited(world: World) -> None:
    """Also on keys that it has never read."""
    a = await world.lax(instance_id="one", on_exit="linger")
    await a.inc_all({"k": 5, "j": 5, "i": 5})
    await a.aclose()
    heir = await world.lax(instance_id="one", inherit=True, flush_interval=1000.0)
    heir.inc_nowait("k", 2)
    await heir.set_on_instance("j", 1)
    for key, own in (("k", 7), ("j", 1), ("i", 5)):
        assert {"one": own} == await heir.slices(key)
    assert ["i", "j", "k"] == await heir.keys()


# ---------------------------------------------------------------------------------- keys


@everywhere
async def test_keys(world: World, flavour: Flavour) -> None:
    a, b = await world.make(flavour), await world.strict()
    assert [] == await a.keys()
    await a.inc("zebra", 1)
    await a.inc("cancelled", 5)
    await a.inc("gone", 1)
    await world.settle()
    await b.inc_all({"ä": -1, "cancelled": -5, ' "\n\0': 2, "theirs": 3})
    # Its sum is 0, but its owners know of it.
    everything = [' "\n\0', "cancelled", "gone", "theirs", "zebra", "ä"]
    assert everything == await a.keys()
    assert everything == await b.keys()
    c = await world.lax()
    assert [key for key in everything if key != "cancelled"] == await c.keys()
    await a.delete("gone")
    await b.dec("theirs", 3)
    await world.settle()
    assert [' "\n\0', "cancelled", "zebra", "ä"] == await a.keys()
    await b.clear()
    assert [] == await a.keys() == await b.keys() == await c.keys()


async def test_keys_of_a_lax_counter(world: World) -> None:
    """What is pending is a slice of its own; what it has only read is not."""
    a, b = await world.lax(flush_interval=1000.0), await world.strict()
    await b.inc("read", 5)
    assert (5, 0) == await a.get("read")
    a.inc_nowait("pending", 1)
    assert ["pending", "read"] == await a.keys()
    await b.dec("read", 5)
    assert ["pending"] == await a.keys()
    assert [] == await b.keys()


@on_both
async def test_thousands_of_keys(world: World) -> None:
    a, b = await world.strict(), await world.lax()
    keys = sorted(f"key-{n}" for n in range(3000))
    await a.inc_all(dict.fromkeys(keys, 1))
    assert keys == await a.keys() == await b.keys()


# -------------------------------------------------------------------------------- forget


@both_flavours
async def test_forget_takes_the_slices_of_a_partitioned_one_away_at_once(
    world: World, flavour: Flavour
) -> None:
    """Long before its threshold; when it is back, all its slices come back (I4)."""
    a, b = await world.make(flavour), await world.make(flavour)
    await b.inc("k", 5)
    await b.inc("negative", -7)
    await world.settle()
    await a.inc("k", 1)
    world.wire(b).cut()
    await a.forget(b.instance_id)
    assert {"k": (1, 1), "negative": (0, 0)} == {
        key: await world.value(a, key) for key in ("k", "negative")
    }
    assert {a.instance_id: True} == await living(a)
    assert {a.instance_id: 1} == await a.slices("k")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(b.inc, "k", 100)
        await trio.sleep(0.001)
        world.heal(b)
    await world.settle()
    await world.sees(a, "k", 106, 1)
    await world.sees(a, "negative", -7, 0)
    assert {a.instance_id: True, b.instance_id: True} == await living(a)


@both_flavours
async def test_forget_one_that_lingers(world: World, flavour: Flavour) -> None:
    a = await world.make(flavour)
    b = await world.make(flavour, on_exit="linger", dead_instance_threshold=1000.0)
    await b.inc("k", 5)
    await b.aclose()
    assert (5, 0) == await world.value(a, "k")
    await a.forget(b.instance_id)
    assert (0, 0) == await world.value(a, "k")
    assert {a.instance_id: True} == await living(a)
    await a.forget(b.instance_id)  # there is nothing left of it, and that is no error
    # An heir finds nothing either.
    heir = await world.make(flavour, instance_id=b.instance_id, inherit=True)
    assert (0, 0) == await heir.get("k")


@both_flavours
async def test_forget_one_that_beats(world: World, flavour: Flavour) -> None:
    """It comes back with all it has at its next contact."""
    a, b = await world.make(flavour), await world.strict()
    await b.inc("k", 5)
    await a.forget(b.instance_id)
    assert (6, 6) == await b.inc("k", 1)
    assert (6, 0) == await world.value(a, "k")
    await a.forget(b.instance_id)
    await world.sees(a, "k", 6, 0)


@everywhere
async def test_forget_leaves_what_counts_to_others(world: World, flavour: Flavour) -> None:
    """What a move of another had made void is not taken from the sum once more (H1)."""
    a, b = await world.make(flavour), await world.strict()
    await b.inc("k", 5)
    world.wire(b).cut()
    await a.set("k", 100)
    await a.forget(b.instance_id)
    assert (100, 100) == await world.value(a, "k")


@both_flavours
@pytest.mark.parametrize("instance_id", ["nobody", "k", ":inc", ":seq", ":", "x" * 255, "*"])
async def test_forget_nobody(world: World, flavour: Flavour, instance_id: str) -> None:
    """An id that nobody has is no error, however much it looks like something else."""
    a = await world.make(flavour)
    await a.inc("k", 5)
    await world.settle()
    await a.forget(instance_id)
    assert (6, 6) == await a.inc("k")
    await world.settle()
    assert {a.instance_id: True} == await living(a)


@both_flavours
async def test_forget_with_bad_ids(world: World, flavour: Flavour) -> None:
    a = await world.make(flavour)
    async with Untouched(world, a):
        with pytest.raises(ValueError, match="itself"):
            await a.forget(a.instance_id)
        for bad in ("", "x" * 256, None, 5, b"x", ["x"]):
            with pytest.raises(ValueError, match="instance_id"):
                await a.forget(bad)  # type: ignore[arg-type]
        with pytest.raises(ValueError):  # noqa: PT011 - the codec says which
            await a.forget("\ud800")


@on_both
async def test_forget_thousands_of_keys_in_steps(world: World) -> None:
    a, b = await world.strict(), await world.strict()
    await b.inc_all({f"key-{n}": n + 1 for n in range(2500)})
    world.wire(b).cut()
    await a.forget(b.instance_id)
    assert [] == await a.keys()
    assert -(-2500 // MAX_PURGE) == len([r for r in world.requests(a) if _forgets(r)])
    world.heal(b)
    await b.get("k")
    await world.until(lambda: _has(a, 2500))
    assert {f"key-{n}": (n + 1, 0) for n in range(2500)} == await a.get_all(
        f"key-{n}" for n in range(2500)
    )


async def _has(counter: Any, count: int) -> bool:
    return len(await counter.keys()) == count


def _forgets(request: object) -> bool:
    return isinstance(request, Apply) and any(e.kind is Kind.FORGET for e in request.entries)


async def test_forget_what_does_not_fit(world: World) -> None:
    """A slice the sum cannot do without stays until it fits, and `forget` does not wait (I12)."""
    a, b, c = await world.strict(), await world.strict(), await world.strict()
    await b.inc_all({"tight": -10, "k": 5})
    await a.inc("tight", MAX)
    await c.inc("tight", 3)
    world.wire(b).cut()
    await a.forget(b.instance_id)
    assert {"tight": (MAX - 7, MAX), "k": (0, 0)} == await a.get_all(["tight", "k"])
    assert {a.instance_id: True, b.instance_id: False, c.instance_id: True} == await living(a)
    await c.dec("tight", 3)
    await world.sees(a, "tight", MAX, MAX)
    world.tolerate(b)
    await a.set("tight", 0)


@pytest.mark.parametrize("fault", ["drop_request", "drop_reply", "late_copy", "duplicate", "away"])
async def test_forget_with_a_fault_on_the_way(world: World, fault: str) -> None:
    """It is done once; a late copy does not take the returned one's slices away again."""
    a, b = await world.strict(), await world.strict()
    await b.inc("k", 5)
    getattr(world.wire(a), fault)(when=_forgets)
    world.wire(b).cut()
    await a.forget(b.instance_id)
    assert (0, 0) == await a.get("k")
    world.heal(b)
    assert (5, 5) == await b.get("k")
    await world.wire(a).deliver_late_copies()
    assert (5, 0) == await a.get("k")


async def test_forget_in_doubt_with_its_record_lost(world: World) -> None:
    """It is done again: once more forgotten does no harm (P20, doubtful batch)."""
    a, b = await world.strict(), await world.strict()
    await b.inc("k", 5)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(a.forget, b.instance_id)
        async with world.reply_lost(a, _forgets):
            await world.backend.wipe(world.prefix)
    await world.sees(a, "k", 5, 0)
    assert (5, 5) == await b.get("k")


async def test_forget_cancelled_in_the_midst_goes_on(world: World) -> None:
    a, b = await world.strict(), await world.strict()
    await b.inc_all({f"key-{n}": 1 for n in range(2500)})
    world.wire(b).cut()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(a.forget, b.instance_id)
        while not any(map(_forgets, world.requests(a))):
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    assert {"key-2499": (0, 0)} == await a.get_all(["key-2499"])  # which comes after its end
    registry = world.registry
    assert {} == registry.sums


# ------------------------------------------------------------------------- whoever calls


VIEWS = {"instances": (), "slices": ("k",), "keys": (), "forget": ("nobody",)}


@both_flavours
async def test_a_counter_that_does_not_run(world: World, flavour: Flavour) -> None:
    a = world.build(flavour)
    for name, arguments in VIEWS.items():
        with pytest.raises(CounterClosedError):
            await getattr(a, name)(*arguments)
    await world.start(a)
    await a.aclose()
    for name, arguments in VIEWS.items():
        with pytest.raises(CounterClosedError):
            await getattr(a, name)(*arguments)


@both_flavours
async def test_bad_keys(world: World, flavour: Flavour) -> None:
    a = await world.make(flavour)
    async with Untouched(world, a):
        for parameter in BAD_NAMES:
            with pytest.raises(InvalidKeyError):
                await a.slices(*parameter.values)  # type: ignore[arg-type]


@both_flavours
async def test_looking_changes_nothing(world: World, flavour: Flavour) -> None:
    a = await world.make(flavour)
    async with Untouched(world, a):
        await a.instances()
        await a.slices("k")
        await a.slices("present")
        await a.keys()


@both_flavours
async def test_each_is_a_checkpoint_and_leaves_nothing_when_cancelled(
    world: World, flavour: Flavour
) -> None:
    a = await world.make(flavour)
    await a.inc("k", 1)
    await world.settle()
    for name, arguments in VIEWS.items():
        with trio.CancelScope() as scope:
            scope.cancel()
            await getattr(a, name)(*arguments)
        assert scope.cancelled_caught
        world.wire(a).hold()
        with trio.move_on_after(world.interval / 10) as scope:
            await getattr(a, name)(*arguments)
        assert scope.cancelled_caught
        world.wire(a).release()
        assert (1, 1) == await a.get("k")
    assert {a.instance_id: 1} == await a.slices("k")


@pytest.mark.parametrize("fault", ["drop_request", "drop_reply", "duplicate", "away"])
async def test_a_look_is_repeated_until_it_is_answered(world: World, fault: str) -> None:
    a = await world.strict()
    await a.inc("k", 1)
    for name, expected in (
        ("instances", [a.instance_id]),
        ("slices", [a.instance_id]),
        ("keys", ["k"]),
    ):
        getattr(world.wire(a), fault)(when=lambda request: isinstance(request, Query))
        found = await getattr(a, name)(*VIEWS[name])
        assert expected == [getattr(one, "instance_id", one) for one in found]


async def test_many_look_at_the_same_time(world: World) -> None:
    """Each gets its own answer, with all that was called before it, and maybe more."""
    a, b = await world.strict(), await world.strict()
    await b.inc("k", 10)
    results = await gather(
        each(a.inc, "k", 1),
        each(a.slices, "k"),
        each(a.inc, "k", 1),
        each(a.slices, "j"),
        each(a.keys),
        each(a.set, "k", 5),
        each(a.slices, "k"),
    )
    own, others = a.instance_id, {b.instance_id: 10}
    assert results[1] in ({own: 1, **others}, {own: 2, **others}, {own: 5})
    assert {} == results[3]
    assert ["k"] == results[4]
    assert {a.instance_id: 5} == results[6]
    assert CounterValue(5, 5) == results[5]


@everywhere
async def test_numbers_at_the_ends_of_int64(world: World, flavour: Flavour) -> None:
    a, b = await world.make(flavour), await world.strict()
    await b.inc("k", MIN)
    await a.inc("k", MAX)
    await world.settle()
    assert {a.instance_id: MAX, b.instance_id: MIN} == await a.slices("k") == await b.slices("k")
    if isinstance(a, LaxInstanceAwareCounter):
        a.dec_nowait("k", 1)
        assert {a.instance_id: MAX - 1, b.instance_id: MIN} == await a.slices("k")
