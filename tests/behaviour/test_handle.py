"""What `bind` returns has every operation of its key, without the key."""

# ruff: noqa: SIM300 - expected == actual, all through

from __future__ import annotations

import inspect
from collections.abc import Callable

import pytest

from distkit_actors import (
    BoundCounter,
    BoundLaxCounter,
    CounterOverflowError,
    Eq,
    Gt,
    InstanceAwareCounter,
    LaxInstanceAwareCounter,
    LimitReachedError,
    Lt,
    StrictInstanceAwareCounter,
)
from tests.behaviour.world import MAX, Flavour, World, both_flavours

KINDS: list[tuple[type, type]] = [
    (InstanceAwareCounter, BoundCounter),
    (StrictInstanceAwareCounter, BoundCounter),
    (LaxInstanceAwareCounter, BoundLaxCounter),
]


def methods(cls: type) -> dict[str, Callable[..., object]]:
    """Return the public methods of a class, inherited ones too."""
    return {
        name: member
        for name, member in inspect.getmembers(cls, inspect.isroutine)
        if not name.startswith("_")
    }


def per_key(cls: type) -> dict[str, inspect.Signature]:
    """Return the signatures of the methods of one key, without the key."""
    found = {}
    for name, method in methods(cls).items():
        signature = inspect.signature(method)
        names = list(signature.parameters)
        if names[1:2] == ["key"] and name != "bind":
            rest = [p for p in signature.parameters.values() if p.name != "key"]
            found[name] = signature.replace(parameters=rest)
    return found


@pytest.mark.parametrize(("counter", "handle"), KINDS)
def test_each_operation_of_a_key_has_its_twin(counter: type, handle: type) -> None:
    """With the same parameters, defaults and annotations; and a handle has nothing else."""
    wanted = per_key(counter)
    assert {"inc", "hold", "set_on_instance_if", "slices"} <= wanted.keys()
    found = {name: inspect.signature(method) for name, method in methods(handle).items()}
    assert wanted == found


@pytest.mark.parametrize(("counter", "handle"), KINDS)
def test_a_twin_waits_if_the_operation_does(counter: type, handle: type) -> None:
    for name, method in methods(handle).items():
        its_own = getattr(counter, name)
        assert inspect.iscoroutinefunction(its_own) == inspect.iscoroutinefunction(method)
        assert method.__doc__ is not None


@both_flavours
async def test_conditions(world: World, flavour: Flavour) -> None:
    counter = await world.make(flavour)
    handle = counter.bind("k")
    assert ((0, 0), (1, 1), True) == await handle.inc_if(Eq(0))
    assert ((1, 1), (5, 5), True) == await handle.inc_if(Lt(2), 4)
    assert ((5, 5), (5, 5), False) == await handle.inc_if(Lt(2), count=4)
    assert ((5, 5), (9, 9), True) == await handle.set_if(Gt(0), 9)
    assert ((9, 9), (2, 2), True) == await handle.set_on_instance_if(Eq(9), 2)
    assert (2, 2) == await counter.get("k")
    assert (0, 0) == await counter.get("else")


@both_flavours
async def test_holds(world: World, flavour: Flavour) -> None:
    counter, other = await world.make(flavour), await world.strict()
    handle = counter.bind("k")
    async with handle.hold() as value, handle.hold(5, limit=6):
        assert (1, 1) == value
        with pytest.raises(LimitReachedError):
            await handle.hold(limit=6).__aenter__()
        await world.settle()
        assert {counter.instance_id: 6} == await handle.slices() == await other.slices("k")
    assert (0, 0) == await world.value(counter, "k")
    with pytest.raises(CounterOverflowError):
        handle.hold(MAX + 1)


async def test_watching(world: World) -> None:
    counter = await world.strict()
    handle = counter.bind("k")
    async with handle.watch(allowed_lag=0.01) as values:
        assert (0, 0) == await values.receive()
        await handle.inc(3)
        assert (3, 3) == await values.receive()
    assert (3, 3) == await handle.wait_until(Eq(3))
