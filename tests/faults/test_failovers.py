"""Batches, conditions, holds, limits and watches where a server takes over, or loses its record."""

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import pytest
import trio

from distkit_actors import Eq, FleetLimiter, Ge, Le, LimitReachedError, OutcomeUnknownError
from tests.faults.fleet import (
    HEARTBEAT,
    RESPONSE_TIMEOUT,
    SLACK,
    UNHURRIED,
    lax,
    proxied,
    strict,
    until,
)
from tests.faults.lens import Lens
from tests.faults.troubles import doubt
from tests.harness.server import RedisServer

pytestmark = pytest.mark.usefixtures("transport")


async def test_everything_waits_for_a_replica_to_be_promoted(
    own_redis: RedisServer, fresh_prefix: str
) -> None:
    """READONLY means "away": nobody gets an error, and what is held is let go without waiting."""
    results: dict[str, object] = {}

    async def call(name: str, function: Callable[[], Awaitable[object]]) -> None:
        results[name] = await function()

    with RedisServer(replica_of=own_redis) as replica, trio.fail_after(10):
        async with (
            proxied(own_redis) as proxy,
            strict(proxy.url, fresh_prefix) as a,
            lax(proxy.url, fresh_prefix) as b,
            a.watch("k") as seen,
            AsyncExitStack() as held,
        ):
            limiter = FleetLimiter(b, "tokens", 1)
            await limiter.acquire_on_behalf_of("before")
            for counter in (a, b):
                await held.enter_async_context(counter.hold("held", 3, limit=6))
                await held.enter_async_context(counter.hold("unlimited", 3))
            await b.flush()
            replica.wait_in_sync()
            calls: dict[str, Callable[[], Awaitable[object]]] = {
                "inc_all": lambda: a.inc_all({"k": 1, "l": 2}),
                "inc_if": lambda: a.inc_if("m", Eq(0), 3),
                "set_if": lambda: b.set_if("n", Eq(0), 4),
                "set_all": lambda: b.set_all({"o": 5, "p": 6}),
                "get_all": lambda: a.get_all(["nobody's"]),
                "hold": a.hold("q", 7, limit=7).__aenter__,
                "acquire": FleetLimiter(a, "tokens", 1).acquire,
                "wait_until": lambda: b.wait_until("l", Ge(2)),
            }
            async with trio.open_nursery() as nursery:
                own_redis.kill()
                proxy.point_at(replica)
                for name, function in calls.items():
                    nursery.start_soon(call, name, function)
                await trio.sleep(0.1)
                start = trio.current_time()
                await held.aclose()
                limiter.release_on_behalf_of("before")
                assert trio.current_time() - start < SLACK
                await trio.sleep(0.1)
                assert not results
                await trio.to_thread.run_sync(replica.promote)
            assert results == {
                "inc_all": {"k": (1, 1), "l": (2, 2)},
                "inc_if": ((0, 0), (3, 3), True),
                "set_if": ((0, 0), (4, 4), True),
                "set_all": {"o": (5, 5), "p": (6, 6)},
                "get_all": {"nobody's": (0, 0)},
                "hold": (7, 7),
                "acquire": None,
                "wait_until": (2, 0),
            }
            lens = Lens(replica, fresh_prefix)
            slices = {
                a.instance_id: {"k": 1, "l": 2, "m": 3, "q": 7, "tokens": 1},
                b.instance_id: {"n": 4, "o": 5, "p": 6},
            }
            await until(lambda: lens.look().slices == slices, HEARTBEAT + SLACK)
            lens.look().check()
            while await seen.receive() != (1, 1):
                pass


async def test_what_a_failover_rolled_back_is_healed(
    own_redis: RedisServer, fresh_prefix: str
) -> None:
    """Batches whole, holds that were entered or left meanwhile too, and watches hear of it."""
    with RedisServer(replica_of=own_redis) as replica, trio.fail_after(10):
        async with (
            proxied(own_redis) as proxy,
            strict(proxy.url, fresh_prefix) as a,
            lax(proxy.url, fresh_prefix) as b,
            b.watch("x") as seen,
            AsyncExitStack() as after,
        ):
            limiter = FleetLimiter(a, "tokens", 2)
            async with a.hold("held", 1, limit=2), b.hold("held", 1, limit=2):
                await a.inc_all({"x": 1, "y": 2, "moved": 3})
                await limiter.acquire_on_behalf_of("before")
                await b.flush()
                replica.wait_in_sync()
                replica.promote()  # from here on it sees nothing more
            await a.inc_all({"x": 10, "y": 20})
            while (await seen.receive()).cumulative != 11:
                pass
            await after.enter_async_context(a.hold("late", 1, limit=2))
            await after.enter_async_context(b.hold("late", 1, limit=2))
            limiter.release_on_behalf_of("before")
            await trio.sleep(HEARTBEAT + 0.05)
            await b.set_all({"moved": 5, "p": 6})  # of which nobody else hears in time
            assert (await b.inc_if("p", Eq(6), 1)).applied
            own_redis.kill()
            proxy.point_at(replica)
            lens = Lens(replica, fresh_prefix)
            slices = {
                a.instance_id: {"x": 11, "y": 22, "late": 1},
                b.instance_id: {"moved": 5, "p": 7, "late": 1},
            }
            took = await until(lambda: lens.look().slices == slices, 5)
            assert took < HEARTBEAT + RESPONSE_TIMEOUT + SLACK
            lens.look().check()
            for counter in (a, b):
                with pytest.raises(LimitReachedError):
                    await counter.hold("late", 1, limit=2).__aenter__()
            await after.aclose()
            await until(lambda: "late" not in lens.look().sums, HEARTBEAT + SLACK)
            await a.inc_all({"x": 1, "y": 2})
            while (await seen.receive()).cumulative != 12:
                pass


async def test_in_doubt_when_the_store_is_emptied(
    own_redis: RedisServer, fresh_prefix: str
) -> None:
    """Decided anew, what is about the own slice counts once; moves are not repeated.

    P20, doubtful batch.
    """

    async with (
        proxied(own_redis) as proxy,
        strict(proxy.url, fresh_prefix, threshold=UNHURRIED) as a,
        lax(proxy.url, fresh_prefix, threshold=UNHURRIED) as b,
        AsyncExitStack() as held,
    ):
        await a.inc_all({"k": 5, "l": 1})
        decided: list[tuple[Callable[[], Awaitable[object]], object]] = [
            (lambda: a.inc_all({"k": 2, "l": 1}), {"k": (7, 7), "l": (2, 2)}),
            (lambda: a.set_all_on_instance({"k": 1, "l": 3}), {"k": (1, 1), "l": (3, 3)}),
            (lambda: a.inc_if("k", Le(1), 4), ((1, 1), (5, 5), True)),
            (lambda: a.inc_if("k", Le(1), 4), ((5, 5), (5, 5), False)),
            (lambda: a.set_on_instance_if("k", Eq(5), 6), ((5, 5), (6, 6), True)),
            (lambda: a.inc_all_if({"l": (Eq(3), 1)}), {"l": ((3, 3), (4, 4), True)}),
            (lambda: a.get_all(["k", "l"]), {"k": (6, 6), "l": (4, 4)}),
            (lambda: held.enter_async_context(a.hold("k", 2)), (8, 8)),
            (lambda: held.enter_async_context(a.hold("k", 2, limit=10)), (10, 10)),
            (lambda: held.enter_async_context(b.hold("m", 2, limit=2)), (2, 2)),
            (FleetLimiter(a, "tokens", 1).acquire, None),
            (FleetLimiter(b, "more tokens", 1).acquire, None),
        ]
        for operation, value in decided:
            async with doubt(proxy, own_redis):
                assert await operation() == value
        mine = {"k": 10, "l": 4, "tokens": 1}
        theirs = {"m": 2, "more tokens": 1}
        lens = Lens(own_redis, fresh_prefix)
        for counter in (a, b):
            await counter.inc_if("k", Ge(99))  # after the last loss not everybody was in touch
        assert lens.look().slices == {a.instance_id: mine, b.instance_id: theirs}
        await held.aclose()
        await a.inc("l", 0)
        for move in (
            lambda: a.set_all({"k": 2, "l": 2}),
            lambda: a.set_if("k", Ge(0), 2),
            lambda: a.set_all_if({"k": (Ge(0), 2)}),
        ):
            async with doubt(proxy, own_redis):
                with pytest.raises(OutcomeUnknownError):
                    await move()
        await b.inc_if("k", Ge(99))
        theirs.pop("m")
        mine["k"] = 6
        assert lens.look().slices == {a.instance_id: mine, b.instance_id: theirs}
        lens.look().check()
