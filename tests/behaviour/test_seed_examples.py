"""Every example of the interface that the behaviour comes from, for strict and lax."""

# ruff: noqa: SIM300 - expected == actual, all through

from __future__ import annotations

import pytest

from tests.behaviour.world import Counter, Flavour, World, both_flavours, on_both

pytestmark = [both_flavours, on_both]


async def two(world: World, flavour: Flavour, a: int, b: int) -> tuple[Counter, Counter]:
    """Return two counters that have counted on one key, and know of each other."""
    server_a = await world.make(flavour)
    server_b = await world.make(flavour)
    await server_a.inc("connections", a)
    await world.settle()
    await server_b.inc("connections", b)
    await world.settle()
    assert (a + b, a) == await world.value(server_a, "connections")
    return server_a, server_b


async def test_an_instance_has_an_id(world: World, flavour: Flavour) -> None:
    """Each counter has a UUID of its own unless it is given a name."""
    counter = await world.make(flavour)
    other = await world.make(flavour)
    assert len("7ff8d1c5-6a61-4ff7-9b52-6e0d44a0f0b5") == len(counter.instance_id)
    assert counter.instance_id != other.instance_id


async def test_inc(world: World, flavour: Flavour) -> None:
    """`inc` returns the sum over all and the slice of this one."""
    server_a = await world.make(flavour)
    server_b = await world.make(flavour)
    assert (3, 3) == await server_a.inc("connections", 3)
    await world.settle()
    assert (8, 5) == await server_b.inc("connections", 5)


async def test_dec(world: World, flavour: Flavour) -> None:
    """`dec` is `inc` of the negative."""
    counter = await world.make(flavour)
    await counter.inc("connections", 10)
    assert (6, 6) == await counter.dec("connections", 4)


async def test_set(world: World, flavour: Flavour) -> None:
    """`set` makes the caller the sole owner of the entire count."""
    server_a, server_b = await two(world, flavour, 10, 5)
    assert (100, 100) == await server_a.set("connections", 100)
    assert (100, 0) == await world.value(server_b, "connections")


async def test_set_on_instance(world: World, flavour: Flavour) -> None:
    """`set_on_instance` leaves the slices of others where they are."""
    server_a, server_b = await two(world, flavour, 10, 5)
    assert (12, 7) == await server_a.set_on_instance("connections", 7)
    await world.settle()
    assert (12, 5) == await world.value(server_b, "connections")


async def test_get(world: World, flavour: Flavour) -> None:
    """A key that nobody counts is (0, 0)."""
    counter = await world.make(flavour)
    assert (0, 0) == await counter.get("connections")
    await counter.inc("connections", 5)
    assert (5, 5) == await counter.get("connections")


async def test_delete(world: World, flavour: Flavour) -> None:
    """`delete` returns the old value; afterwards everybody starts from 0."""
    server_a, server_b = await two(world, flavour, 3, 7)
    assert (10, 3) == await server_a.delete("connections")
    assert (0, 0) == await world.value(server_b, "connections")
    assert (1, 1) == await server_b.inc("connections", 1)


async def test_delete_on_instance(world: World, flavour: Flavour) -> None:
    """`delete_on_instance` returns what remains, and what it took away."""
    server_a, server_b = await two(world, flavour, 3, 7)
    assert (7, 3) == await server_a.delete_on_instance("connections")
    assert (7, 7) == await world.value(server_b, "connections")


async def test_clear(world: World, flavour: Flavour) -> None:
    """`clear` removes every key of everybody."""
    counter = await world.make(flavour)
    await counter.inc("a", 10)
    await counter.inc("b", 20)
    assert await counter.clear() is None
    assert (0, 0) == await counter.get("a")
    assert (0, 0) == await counter.get("b")


async def test_clear_on_instance(world: World, flavour: Flavour) -> None:
    """`clear_on_instance` removes the slices of this instance, and no others."""
    server_a, server_b = await two(world, flavour, 3, 7)
    assert await server_a.clear_on_instance() is None
    assert (7, 7) == await world.value(server_b, "connections")


@pytest.mark.parametrize("other", ["strict", "lax"])
async def test_strict_and_lax_count_together(
    world: World, flavour: Flavour, other: Flavour
) -> None:
    """Instances of one prefix count together, whatever their kind."""
    one = await world.make(flavour)
    two = await world.make(other)
    await one.inc("connections", 3)
    await world.settle()
    assert (7, 4) == await two.inc("connections", 4)
    await world.settle()
    assert (7, 3) == await world.value(one, "connections")
