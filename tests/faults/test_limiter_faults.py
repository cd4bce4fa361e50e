"""A fleet-wide limit where links fail and processes are killed."""

import itertools
import math
import random
import signal
import time
from collections.abc import Iterable
from contextlib import AsyncExitStack

import pytest
import trio

from distkit_actors import FleetLimiter
from distkit_actors._limiter._token_lease import TURN
from tests.faults.fleet import OPEN, SLACK, UNHURRIED, Kind, proxied, settle, strict, until
from tests.faults.lens import Lens
from tests.harness.proxy import FaultProxy
from tests.harness.server import RedisServer
from tests.harness.workers import WorkerProcess

#: Generous: starting a process on a busy machine takes its time.
PATIENCE = 30.0

KEY = "seats"


def trouble(proxy: FaultProxy, chance: random.Random) -> None:
    """Let a link fail in one way or another."""
    chance.choice(
        [
            proxy.drop_request,
            proxy.drop_reply,
            proxy.drop_reply,
            proxy.duplicate,
            proxy.cut_reply_midframe,
            proxy.hang_reply,
            proxy.cut_all,
            lambda: proxy.late_copy(0.02),
            lambda: proxy.delay(0.02),
        ]
    )()


@pytest.mark.parametrize("seed", [1])
async def test_link_faults_let_nobody_in_above_the_limit(
    seed: int, redis_server: RedisServer, fresh_prefix: str
) -> None:
    """The store keeps its data, and nobody is taken for dead: then it holds whatever fails."""
    total = 3
    chance = random.Random(seed)
    lens = Lens(redis_server, fresh_prefix)
    holders = uses = peak = 0
    stopping = False

    async def user(limiter: FleetLimiter) -> None:
        nonlocal holders, uses, peak
        while not stopping:
            with trio.move_on_after(chance.choice([0.001, 0.02, 0.2, math.inf])):
                async with limiter:
                    holders, uses = holders + 1, uses + 1
                    peak = max(peak, holders)
                    try:
                        assert holders <= total
                        await trio.sleep(chance.choice([0, 0.001, 0.02]))
                    finally:
                        holders -= 1
            await trio.sleep(chance.choice([0, 0.001, 0.01]))

    with trio.fail_after(PATIENCE):
        async with AsyncExitStack() as stack:
            proxies, counters, limiters = list[FaultProxy](), [], []
            kinds: tuple[Kind, ...] = ("strict", "strict", "lax")
            for kind in kinds:
                proxies.append(await stack.enter_async_context(proxied(redis_server)))
                block = OPEN[kind](
                    proxies[-1].url, fresh_prefix, threshold=UNHURRIED, response_timeout=0.1
                )
                counters.append(await stack.enter_async_context(block))
                limiters.append(FleetLimiter(counters[-1], KEY, total))
            async with trio.open_nursery() as nursery:
                for limiter in limiters:
                    for _ in range(5):
                        nursery.start_soon(user, limiter)
                for _ in range(50):
                    proxy = chance.choice(proxies)
                    if not proxy.armed:  # who waits asks seldom: troubles must not pile up
                        trouble(proxy, chance)
                    await trio.sleep(0.02)
                for proxy in proxies:
                    proxy.disarm()
                # However slow the machine is. A trouble at each try would make the pauses long.
                await until(lambda: peak == total and uses > 100, PATIENCE)
                stopping = True
            for counter in counters:
                await settle(counter)
            await until(lambda: not lens.look().sums, 2)
            lens.look().check()
            for limiter in limiters:  # none is lost
                for number in range(total):
                    await limiter.acquire_on_behalf_of(number)
                for number in range(total):
                    limiter.release_on_behalf_of(number)


@pytest.mark.parametrize("kind", ["strict", "lax"])
async def test_killed_process_loses_its_tokens(
    kind: Kind, redis_server: RedisServer, fresh_prefix: str
) -> None:
    """Not before its threshold, and not long after it."""
    threshold = 0.7
    heartbeat = threshold / 3
    with trio.fail_after(PATIENCE):
        async with (
            strict(redis_server.url, fresh_prefix, threshold=threshold) as other,
            WorkerProcess(redis_server.url, fresh_prefix, kind=kind, threshold=threshold) as worker,
        ):
            await worker.submit("borrow", key=KEY, total=2, n=2, tasks=2, seconds=60)
            await worker.wait_uses(2)
            limiter = FleetLimiter(other, KEY, 2)
            worker.kill()
            await worker.wait()
            start = trio.current_time()
            await limiter.acquire_on_behalf_of(1)
            took = trio.current_time() - start
            await limiter.acquire_on_behalf_of(2)
            assert threshold - heartbeat - SLACK < took
            assert took < threshold + heartbeat + TURN + 2 * SLACK
            assert await other.get(KEY) == (2, 2)


def most_at_once(uses: Iterable[tuple[float, float]]) -> int:
    """Return how many intervals overlap at most."""
    steps = sorted([(end, -1) for _, end in uses] + [(start, 1) for start, _ in uses])
    return max(itertools.accumulate(step for _, step in steps))


def intervals(worker: WorkerProcess, *, killed_at: float) -> list[tuple[float, float]]:
    """Return when the tokens of a worker were in use."""
    began: dict[int, float] = {}
    found = []
    for number, what, at in worker.uses:
        if what == "+":
            began[number] = at
        else:
            found.append((began.pop(number), at))
    return found + [(at, killed_at) for at in began.values() if at < killed_at]


async def test_processes_keep_to_the_limit_and_a_killed_one_does_not_diminish_it(
    redis_server: RedisServer, fresh_prefix: str
) -> None:
    """Each process says when it had tokens, on the machine's clock."""
    total, threshold = 4, 0.8
    kinds: tuple[Kind, ...] = ("strict", "lax", "strict")
    with trio.fail_after(PATIENCE):
        async with AsyncExitStack() as stack:
            workers = [
                WorkerProcess(redis_server.url, fresh_prefix, kind=kind, threshold=threshold)
                for kind in kinds
            ]
            for worker in workers:
                await worker.spawn()
                stack.push_async_exit(worker)
            calls = []
            for worker in workers:
                await worker.wait_ready()
                arguments = {"key": KEY, "total": total, "tasks": 4, "n": 80, "seconds": 0.01}
                calls.append(await worker.submit("borrow", **arguments))
            await workers[0].wait_uses(20)
            killed_at = time.monotonic()
            workers[0].kill()
            assert await workers[0].wait() == -signal.SIGKILL
            for worker, call in zip(workers[1:], calls[1:], strict=True):
                assert await worker.result(call) == 80
    uses = [use for worker in workers for use in intervals(worker, killed_at=killed_at)]
    assert len(uses) > 160
    assert most_at_once(uses) <= total
