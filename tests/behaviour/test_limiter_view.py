"""A limiter of the fleet where trio wants one of its own."""

# ruff: noqa: SIM300 - expected == actual, all through

from __future__ import annotations

import inspect

import pytest
import trio
import trio.testing

from distkit_actors import FleetLimiter
from tests.behaviour.limits import KEY, idle, in_use
from tests.behaviour.world import World


async def test_threads_are_limited(world: World) -> None:
    """The token is had for as long as the thread runs."""
    a, b = await world.strict(), await world.strict()
    one, two = FleetLimiter(a, KEY, 2), FleetLimiter(b, KEY, 2)
    running: list[int] = []

    def work() -> int:
        trio.from_thread.run_sync(running.append, 1)
        found = trio.from_thread.run_sync(
            lambda: one.borrowed_tokens + two.borrowed_tokens  # of both, as it happens
        )
        trio.from_thread.run_sync(running.pop)
        return found

    async def start(limiter: FleetLimiter) -> None:
        found = await trio.to_thread.run_sync(work, limiter=limiter.as_capacity_limiter())
        assert 1 <= found <= 2

    async with trio.open_nursery() as nursery:
        for limiter in (one, two):
            for _ in range(5):
                nursery.start_soon(start, limiter)
    assert idle(one)
    assert idle(two)
    await in_use(world, a, 0, 0)


async def test_a_view_does_what_the_limiter_does(world: World) -> None:
    limiter = FleetLimiter(await world.strict(), KEY, 2)
    view = limiter.as_capacity_limiter()
    async with view:
        await view.acquire_on_behalf_of("x")
        task = trio.lowlevel.current_task()
        assert (2, 2, 0) == (view.total_tokens, view.borrowed_tokens, view.available_tokens)
        assert trio.CapacityLimiterStatistics(2, 2, [task, "x"], 0) == view.statistics()
        assert repr(limiter) == repr(view)
        view.release_on_behalf_of("x")
        view.acquire_on_behalf_of_nowait("x")
        limiter.release_on_behalf_of("x")
        view.total_tokens = 5
        assert 5 == limiter.total_tokens
        with pytest.raises(TypeError, match="total_tokens"):
            view.total_tokens = float("inf")
    await view.acquire()
    view.release()
    view.acquire_nowait()
    view.release()
    assert idle(limiter)


async def test_a_view_has_all_that_trios_has(world: World) -> None:
    """With the same parameters, as type checkers believe that it is one."""
    view = type(FleetLimiter(world.build("strict"), KEY, 2).as_capacity_limiter())
    for name in vars(trio.CapacityLimiter).keys() | {"__aenter__", "__aexit__"}:
        if name.startswith("_") and name not in {"__aenter__", "__aexit__", "__repr__"}:
            continue
        theirs, ours = getattr(trio.CapacityLimiter, name), getattr(view, name)
        if isinstance(theirs, property):
            assert bool(theirs.fset) == bool(ours.fset)
        else:
            assert list(inspect.signature(theirs).parameters) == list(
                inspect.signature(ours).parameters
            )
            assert inspect.iscoroutinefunction(theirs) == inspect.iscoroutinefunction(ours)
