"""Counters in processes of their own, which are killed, frozen, replaced and told to end."""

import signal
import time
from contextlib import suppress

import pytest
import trio
import trio.lowlevel

from distkit_actors import LaxInstanceAwareCounter
from distkit_actors._instance._session_view import SHARED
from tests.faults.fleet import (
    HEARTBEAT,
    SLACK,
    THRESHOLD,
    Counter,
    doomed,
    lax,
    proxied,
    strict,
    until,
)
from tests.faults.lens import Lens
from tests.harness.proxy import FaultProxy
from tests.harness.server import RedisServer
from tests.harness.workers import Kind, WorkerDiedError, WorkerError, WorkerProcess

#: Generous: starting a process on a busy machine takes its time.
PATIENCE = 30.0

SLICES = {"k": 5, "negative": -3, "untouched": 11}


async def _count(worker: WorkerProcess) -> None:
    for key, count in SLICES.items():
        await worker.call("inc", key=key, count=count)
    if "lax" in " ".join(worker._arguments):
        await worker.call("flush")


async def test_two_processes_agree(redis_url: str, fresh_prefix: str) -> None:
    """A strict and a lax one see the same sums, and each its own slice."""
    with trio.fail_after(PATIENCE):
        async with (
            WorkerProcess(redis_url, fresh_prefix) as a,
            WorkerProcess(redis_url, fresh_prefix, kind="lax") as b,
        ):
            assert await a.call("inc", key="k", count=5) == [5, 5]
            assert await b.call("inc", key="k", count=-7) == [-2, -7]
            await b.call("flush")
            assert await a.call("get", key="k") == [-2, 5]
            for worker, own in ((a, 5), (b, -7)):
                await trio.sleep(0.03)
                assert await worker.call("get", key="k") == [-2, own]
            assert await b.call("set", key="k", count=40) == [40, 40]
            assert await a.call("get", key="k") == [40, 0]


async def test_killed_process_is_noticed_within_threshold_and_one_heartbeat(
    redis_server: RedisServer, fresh_prefix: str
) -> None:
    """`kill -9` takes its slices away, though the other does nothing but beat."""
    lens = Lens(redis_server, fresh_prefix)
    threshold = 1.5  # longer than elsewhere, so that the bound leaves a busy machine some room
    heartbeat = threshold / 3
    with trio.fail_after(PATIENCE):
        async with (
            strict(redis_server.url, fresh_prefix, threshold=threshold) as other,
            WorkerProcess(
                redis_server.url, fresh_prefix, kind="lax", threshold=threshold
            ) as worker,
        ):
            await _count(worker)
            await other.inc("k", 7)
            assert lens.look().of(worker.instance_id) == SLICES
            worker.kill()
            await worker.wait()
            took = await until(lambda: not lens.look().of(worker.instance_id), 5)
            assert threshold - heartbeat - SLACK < took < threshold + heartbeat + 2 * SLACK
            snapshot = lens.look()
            assert snapshot.sums == {"k": 7}
            snapshot.check()


async def test_operation_after_a_death_does_not_count_the_dead(
    redis_server: RedisServer, fresh_prefix: str
) -> None:
    """The first answer behind the deadline is right already (I3)."""
    with trio.fail_after(PATIENCE):
        async with (
            WorkerProcess(redis_server.url, fresh_prefix, threshold=THRESHOLD) as worker,
            strict(redis_server.url, fresh_prefix) as other,
        ):
            await _count(worker)
            worker.kill()
            await worker.wait()
            deadline = trio.current_time() + THRESHOLD + 0.02
            while trio.current_time() < deadline:
                assert (await other.get("untouched")).cumulative in {0, 11}
                await trio.sleep(0.01)
            assert await other.get("untouched") == (0, 0)


@pytest.mark.parametrize("kind", ["strict", "lax"])
async def test_frozen_process_gets_every_slice_back(
    kind: Kind, redis_server: RedisServer, fresh_prefix: str
) -> None:
    """SIGSTOP past the threshold takes them away, SIGCONT brings them back, but no moved ones."""
    lens = Lens(redis_server, fresh_prefix)
    with trio.fail_after(PATIENCE):
        async with (
            strict(redis_server.url, fresh_prefix) as other,
            WorkerProcess(redis_server.url, fresh_prefix, kind=kind, threshold=THRESHOLD) as worker,
        ):
            await _count(worker)
            await worker.call("inc", key="moved", count=70)
            await worker.call("get", key="k")
            await until(lambda: "moved" in lens.look().of(worker.instance_id), 2)
            worker.stop()
            await until(lambda: not lens.look().of(worker.instance_id), 5)
            assert await other.set("moved", 1) == (1, 1)
            assert await other.inc("k", 1) == (1, 1)
            worker.cont()
            took = await until(lambda: lens.look().of(worker.instance_id) == SLICES, 5)
            assert took < HEARTBEAT + SLACK
            assert await other.get("k") == (6, 1)
            assert await other.get("negative") == (-3, 0)
            assert await worker.call("delete_on_instance", key="moved") == [1, 0]
            await trio.sleep(0.03)
            assert await worker.call("get", key="k") == [6, 5]
            assert await worker.call("inc", key="k", count=-6) == [0, -1]


@pytest.mark.parametrize(("kind", "inherit"), [("strict", True), ("lax", False)])
async def test_newcomer_under_the_same_id_takes_over(
    kind: Kind, inherit: bool, redis_server: RedisServer, fresh_prefix: str
) -> None:
    """The older one is told and changes nothing more, not even when it ends (I11)."""
    lens = Lens(redis_server, fresh_prefix)
    with trio.fail_after(PATIENCE):
        async with WorkerProcess(
            redis_server.url, fresh_prefix, kind=kind, instance_id="x", threshold=THRESHOLD
        ) as older:
            await _count(older)
            async with WorkerProcess(
                redis_server.url,
                fresh_prefix,
                kind=kind,
                instance_id="x",
                threshold=THRESHOLD,
                inherit=inherit,
            ) as newer:
                mine = dict(SLICES) if inherit else {}
                assert lens.look().of("x") == mine
                await newer.call("set_on_instance", key="k", count=2)
                if kind == "lax":
                    await newer.call("flush")
                mine["k"] = 2
                for op, arguments in (
                    ("delete", {"key": "k"}),
                    ("set", {"key": "k", "count": 1}),
                    ("inc", {"key": "k", "count": 50}),
                    ("clear", {}),
                ):
                    # It may hear of it by a heartbeat, and end, at any moment.
                    conflict = pytest.raises(WorkerError, match="InstanceConflictError")
                    with suppress(WorkerDiedError), conflict:
                        await older.call(op, **arguments)
                await _ends_superseded(older)
                assert lens.look().of("x") == mine
                value = await newer.call("get", key="k")
                assert value == [2, 2]
                lens.look().check()


async def _ends_superseded(worker: WorkerProcess) -> None:
    """Wait until a worker has ended of what it was told."""
    assert await worker.wait() == 1
    assert "InstanceConflictError" in worker.stderr()


@pytest.mark.parametrize("kind", ["strict", "lax"])
async def test_frozen_predecessor_wakes_up_fenced(
    kind: Kind, redis_server: RedisServer, fresh_prefix: str
) -> None:
    """One that slept through its own death and its replacement changes nothing."""
    lens = Lens(redis_server, fresh_prefix)
    with trio.fail_after(PATIENCE):
        async with WorkerProcess(
            redis_server.url, fresh_prefix, kind=kind, instance_id="x", threshold=THRESHOLD
        ) as older:
            await _count(older)
            older.stop()
            async with strict(redis_server.url, fresh_prefix, instance_id="x") as newer:
                await newer.inc("k", 1)
                if kind == "lax":
                    await older.submit("inc_nowait", key="k", count=1000)
                else:
                    await older.submit("inc", key="k", count=1000)
                older.cont()
                await _ends_superseded(older)
                assert lens.look().of("x") == {"k": 1}
                assert await newer.inc("k", 1) == (2, 2)


@pytest.mark.parametrize(("kind", "on_exit"), [("strict", "leave"), ("lax", "linger")])
async def test_sigterm_flushes_and_leaves(
    kind: Kind, on_exit: str, redis_server: RedisServer, fresh_prefix: str
) -> None:
    """With exit code 0; those who linger have everything counted in the store (I9)."""
    lens = Lens(redis_server, fresh_prefix)
    with trio.fail_after(PATIENCE):
        async with WorkerProcess(
            redis_server.url, fresh_prefix, kind=kind, on_exit=on_exit, threshold=9.0
        ) as worker:
            await _count(worker)
            if kind == "lax":
                await worker.call("inc_nowait", key="k", count=100)
            else:
                await worker.call("inc", key="k", count=100)
            start = time.monotonic()
            worker.terminate()
            assert await worker.wait() == 0
            assert time.monotonic() - start < 2.0
        assert not worker.stderr()
        snapshot = lens.look()
        counted = SLICES | {"k": 105} if on_exit == "linger" else {}
        assert snapshot.of(worker.instance_id) == counted
        assert snapshot.sums == counted


@pytest.mark.parametrize(("kind", "away"), [("lax", "dead"), ("lax", "frozen"), ("strict", "dead")])
async def test_exit_without_the_store_is_bounded_and_says_what_is_lost(
    kind: Kind, away: str, own_redis: RedisServer, fresh_prefix: str
) -> None:
    """A process told to end does so within its grace, and does not pretend (I9)."""
    grace = 0.5
    with trio.fail_after(PATIENCE):
        async with WorkerProcess(
            own_redis.url, fresh_prefix, kind=kind, threshold=THRESHOLD, exit_grace=grace
        ) as worker:
            await _count(worker)
            if away == "dead":
                own_redis.kill()
            else:
                own_redis.pause()
            if kind == "lax":
                for n in range(3):
                    await worker.call("inc_nowait", key=f"k{n}")
            else:
                for n in range(3):
                    await worker.submit("inc", key=f"k{n}")
                await trio.sleep(0.1)
                assert (await worker.call("statistics"))["operations_done"] == len(SLICES)
            start = time.monotonic()
            worker.terminate()
            code = await worker.wait()
            took = time.monotonic() - start
            stderr = worker.stderr()
    if kind == "lax":
        assert code == 1
        assert "StoreUnavailableError: stopped with 3 counts" in stderr
    # A strict caller was cancelled and knows that its operation may not have happened.
    assert code in {0, 1}
    assert took < grace + 2.0  # the interpreter's own end included


async def test_killed_while_counting_keeps_at_most_one_more_than_acknowledged(
    redis_server: RedisServer, fresh_prefix: str
) -> None:
    """Each of its tasks has one operation that nobody knows of, and the slice shows it."""
    lens = Lens(redis_server, fresh_prefix)
    with trio.fail_after(PATIENCE):
        async with WorkerProcess(redis_server.url, fresh_prefix, threshold=60.0) as worker:
            await worker.submit("spin", key="k", n=1_000_000, tasks=4)
            await worker.wait_acked(50)
            worker.kill()
            assert await worker.wait() == -signal.SIGKILL
            slices = lens.look().of(worker.instance_id)
            assert worker.acked <= slices["k"] <= worker.acked + 4


# ---------------------------------------------------------------------------- 10 000 keys

MANY = 10_000


async def _fill(counter: Counter) -> dict[str, int]:
    assert isinstance(counter, LaxInstanceAwareCounter)
    slices = {f"key{n}": n - MANY // 2 for n in range(MANY) if n != MANY // 2}
    for key, count in slices.items():
        counter.inc_nowait(key, count)
    with trio.fail_after(5):
        await counter.flush()
    return slices


def _scripts(proxy: FaultProxy) -> int:
    return proxy.commands["EVALSHA"]


async def test_many_keys_leave_and_return_in_bounded_steps(
    redis_server: RedisServer, fresh_prefix: str
) -> None:
    """Ten thousand slices go out and in by the thousand, and the other is never held up."""
    lens = Lens(redis_server, fresh_prefix)
    slowest = 0.0

    async def watch() -> None:
        nonlocal slowest
        while True:
            start = trio.current_time()
            await other.inc("key7", 0)
            slowest = max(slowest, trio.current_time() - start)
            await trio.sleep(0.005)

    with trio.fail_after(PATIENCE):
        async with (
            strict(redis_server.url, fresh_prefix, threshold=2.0) as other,
            proxied(redis_server) as proxy,
            trio.open_nursery() as nursery,
        ):
            async with lax(proxy.url, fresh_prefix, threshold=2.0, response_timeout=2.0) as many:
                slices = await _fill(many)
                assert lens.look().of(many.instance_id) == slices
                nursery.start_soon(watch)
                proxy.refuse()
                await until(lambda: not lens.holds(many.instance_id), 10)
                assert not lens.look().sums
                before = _scripts(proxy)
                proxy.accept()
                await until(lambda: many.statistics().connected, 2)
                many.inc_nowait("key0", 1)
                await many.flush()
                slices["key0"] += 1
                # Pieces are smaller where answers are slow.
                assert _scripts(proxy) - before < MANY / 100
                snapshot = lens.look()
                assert snapshot.of(many.instance_id) == slices
                snapshot.check()
                before = _scripts(proxy)
            assert _scripts(proxy) - before < MANY / 100
            snapshot = lens.look()
            assert not snapshot.sums
            assert not snapshot.slices
            nursery.cancel_scope.cancel()
    assert slowest < 1.0


async def test_many_keys_of_a_dead_process_do_not_slow_the_living(
    redis_server: RedisServer, fresh_prefix: str
) -> None:
    """They are reaped a few at a time, those asked for first (H4, H9, I3)."""
    lens = Lens(redis_server, fresh_prefix)
    with trio.fail_after(PATIENCE):
        async with (
            strict(redis_server.url, fresh_prefix) as other,
            proxied(redis_server) as proxy,
        ):
            async with doomed(lax(proxy.url, fresh_prefix, exit_grace=0.0)) as many:
                await _fill(many)
                proxy.refuse()
            await until(lambda: not lens.lives(many.instance_id), 2)
            times = []
            for n in range(50):
                start = trio.current_time()
                assert await other.inc(f"key{n * 100}", 1) == (1, 1)
                times.append(trio.current_time() - start)
            assert sorted(times)[len(times) // 2] < 0.1
            await until(lambda: not lens.holds(many.instance_id), 10)
            snapshot = lens.look()
            assert snapshot.sums == {f"key{n * 100}": 1 for n in range(50)}
            snapshot.check()


async def test_counts_of_a_long_outage_arrive_in_a_few_batches(
    redis_server: RedisServer, proxy: FaultProxy, fresh_prefix: str
) -> None:
    """However often was counted: what matters is the number of keys."""
    keys = 2500
    async with lax(proxy.url, fresh_prefix, threshold=60.0, response_timeout=2.0) as counter:
        proxy.refuse()
        for _ in range(40):
            for n in range(keys):
                counter.inc_nowait(f"key{n}")
            await trio.lowlevel.checkpoint()
        assert counter.statistics().pending_keys == keys
        before = _scripts(proxy)
        proxy.accept()
        with trio.fail_after(5):
            await counter.flush()
        # One of them may have been on its way when the outage began.
        assert _scripts(proxy) - before <= keys / SHARED + 2
        slices = Lens(redis_server, fresh_prefix).look().of(counter.instance_id)
        assert slices == {f"key{n}": 40 for n in range(keys)}
