"""Holds in processes of their own, which are killed and frozen inside their blocks."""

import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from distkit_actors import CounterValue, LimitReachedError
from tests.faults.fleet import HEARTBEAT, SLACK, THRESHOLD, Counter, strict, until
from tests.faults.lens import Lens
from tests.harness.server import RedisServer
from tests.harness.workers import Kind, WorkerProcess

#: Generous: starting a process on a busy machine takes its time.
PATIENCE = 30.0


@asynccontextmanager
async def sooner_or_later(
    counter: Counter, key: str, count: int, limit: int
) -> AsyncIterator[CounterValue]:
    """Hold as soon as there is room, as those do who must wait for it."""
    while True:
        try:
            block = counter.hold(key, count, limit)
            value = await block.__aenter__()
        except LimitReachedError:
            await trio.sleep(0.01)
        else:
            break
    try:
        yield value
    finally:
        await block.__aexit__(None, None, None)


@pytest.mark.parametrize("kind", ["strict", "lax"])
async def test_a_killed_process_holds_until_its_threshold_has_passed(
    kind: Kind, redis_server: RedisServer, fresh_prefix: str
) -> None:
    """Then whoever waits gets in, whether or not the dead one had a limit."""
    threshold = 0.7
    lens = Lens(redis_server, fresh_prefix)
    with trio.fail_after(PATIENCE):
        async with (
            strict(redis_server.url, fresh_prefix, threshold=threshold) as other,
            WorkerProcess(redis_server.url, fresh_prefix, kind=kind, threshold=threshold) as worker,
        ):
            last_words = trio.current_time()  # at the earliest
            assert await worker.call("enter", key="limited", count=3, limit=3) == [3, 3]
            assert await worker.call("enter", key="k", count=3) == [3, 3]
            await until(lambda: lens.look().of(worker.instance_id) == {"limited": 3, "k": 3}, 2)
            worker.kill()
            assert await worker.wait() == -signal.SIGKILL
            killed = trio.current_time()
            for key in ("limited", "k"):
                assert await other.get(key) == (3, 0)
                with pytest.raises(LimitReachedError):
                    await other.hold(key, 2, limit=4).__aenter__()
            async with (
                sooner_or_later(other, "limited", 2, limit=4) as first,
                sooner_or_later(other, "k", 2, limit=4) as second,
            ):
                now = trio.current_time()
                assert first == second == (2, 2)
                assert now - last_words > threshold - threshold / 64
                assert now - killed < threshold + 2 * SLACK
                snapshot = lens.look()
                snapshot.check()
                assert snapshot.slices == {other.instance_id: {"limited": 2, "k": 2}}
            assert await other.get_all(["limited", "k"]) == {"limited": (0, 0), "k": (0, 0)}


@pytest.mark.parametrize("kind", ["strict", "lax"])
async def test_a_frozen_process_takes_back_its_own_after_its_return(
    kind: Kind, redis_server: RedisServer, fresh_prefix: str
) -> None:
    """Its slices come back (I4), and each block ends with its own count, or with nothing if void.

    Whether it is left before the process hears of its death, or long after.
    """
    lens = Lens(redis_server, fresh_prefix)
    keys = ("early", "late", "moved")
    with trio.fail_after(PATIENCE):
        async with (
            strict(redis_server.url, fresh_prefix) as other,
            WorkerProcess(redis_server.url, fresh_prefix, kind=kind, threshold=THRESHOLD) as worker,
        ):
            for key in keys:
                await worker.call("inc", key=key, count=10)
                assert await worker.call("enter", key=key, count=3, limit=13) == [13, 13]
            await until(lambda: lens.look().of(worker.instance_id) == dict.fromkeys(keys, 13), 2)
            worker.stop()
            await until(lambda: not lens.look().of(worker.instance_id), 5)
            assert await other.set("moved", 1) == (1, 1)
            async with other.hold("late", 2, limit=2) as value:  # there is room for a while
                assert value == (2, 2)
                for key in ("early", "moved"):
                    await worker.submit("leave", key=key)  # done as soon as it wakes up
                worker.cont()
                back = {"early": 10, "late": 13}
                took = await until(lambda: lens.look().of(worker.instance_id) == back, 5)
                assert took < HEARTBEAT + SLACK
                assert await other.get("late") == (15, 2)
                with pytest.raises(LimitReachedError):
                    await other.hold("late", 1, limit=15).__aenter__()
                await worker.call("leave", key="late")
                left = {"early": 10, "late": 10}
                await until(lambda: lens.look().of(worker.instance_id) == left, HEARTBEAT + SLACK)
            assert await other.get_all(keys) == {"early": (10, 0), "late": (10, 0), "moved": (1, 1)}
            lens.look().check()
