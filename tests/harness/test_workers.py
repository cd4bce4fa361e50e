"""Worker processes obey, answer, freeze and end as told."""

import os
import shutil
import signal
from pathlib import Path

import pytest
import trio

import distkit_actors
from tests.harness.server import RedisServer
from tests.harness.workers import Kind, WorkerDiedError, WorkerError, WorkerProcess


@pytest.mark.parametrize("kind", ["strict", "lax"])
async def test_commands(kind: Kind, redis_url: str, fresh_prefix: str) -> None:
    with trio.fail_after(30):
        async with WorkerProcess(
            redis_url, fresh_prefix, kind=kind, instance_id="a", threshold=9.0, heartbeat=1.0
        ) as worker:
            assert worker.instance_id == "a"
            assert await worker.call("inc", key="k", count=3) == [3, 3]
            assert await worker.call("inc", key="k") == [4, 4]
            assert await worker.call("get", key="k") == [4, 4]
            assert await worker.call("enter", key="k", count=2, limit=6) == [6, 6]
            await worker.call("leave", key="k")
            assert await worker.call("inc", key="k", count=0) == [4, 4]
            assert isinstance(await worker.call("statistics"), dict)
            with pytest.raises(WorkerError, match="ValueError: unknown op 'fly'"):
                await worker.call("fly")


async def test_a_followed_key_is_heard(redis_url: str, fresh_prefix: str) -> None:
    with trio.fail_after(30):
        async with WorkerProcess(redis_url, fresh_prefix) as worker:
            await worker.call("follow", key="k")
            number = await worker.submit("hear", key="k", count=5)
            for count in (2, 5):
                await worker.call("set", key="k", count=count)
            assert await worker.result(number) == [5, 5]


async def test_a_worker_imports_the_package_of_another_folder(
    redis_url: str, fresh_prefix: str, tmp_path: Path
) -> None:
    ours = Path(distkit_actors.__file__).parent
    shutil.copytree(ours, tmp_path / ours.name, ignore=shutil.ignore_patterns("__pycache__"))
    with trio.fail_after(30):
        async with WorkerProcess(redis_url, fresh_prefix) as worker:
            assert await worker.call("package") == str(ours.parent)
        async with WorkerProcess(redis_url, fresh_prefix, package=tmp_path) as worker:
            assert await worker.call("package") == str(tmp_path)
            assert await worker.call("inc", key="k") == [1, 1]


async def test_spin_reports_while_it_runs(redis_url: str, fresh_prefix: str) -> None:
    with trio.fail_after(30):
        async with WorkerProcess(redis_url, fresh_prefix) as worker:
            number = await worker.submit("spin", key="k", n=60, tasks=4)
            await worker.wait_acked(10)
            assert isinstance(await worker.call("statistics"), dict)
            assert await worker.result(number) == {"done": 60, "errors": {}}
            assert worker.acked == 60
            assert await worker.call("get", key="k") == [60, 60]


async def test_calls_run_concurrently(redis_url: str, fresh_prefix: str) -> None:
    results: list[int] = []

    async def increment() -> None:
        cumulative, _ = await worker.call("inc", key="k")
        results.append(cumulative)

    with trio.fail_after(30):
        async with WorkerProcess(redis_url, fresh_prefix) as worker, trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(increment)
    assert sorted(results) == list(range(1, 21))


async def test_cancelled_call_loses_only_its_answer(redis_url: str, fresh_prefix: str) -> None:
    with trio.fail_after(30):
        async with WorkerProcess(redis_url, fresh_prefix) as worker:
            with trio.CancelScope() as scope:
                scope.cancel()
                await worker.call("inc", key="k")
            worker.stop()
            with trio.move_on_after(0.05) as scope:
                await worker.call("inc", key="k")
            assert scope.cancelled_caught
            worker.cont()
            assert (await worker.call("inc", key="k"))[0] in {1, 2}


async def test_sigterm_closes_in_good_order(redis_url: str, fresh_prefix: str) -> None:
    with trio.fail_after(30):
        async with WorkerProcess(redis_url, fresh_prefix) as worker:
            await worker.call("inc", key="k")
            worker.terminate()
            assert await worker.wait() == 0
            with pytest.raises(WorkerDiedError):
                await worker.call("inc", key="k")
        assert not worker.stderr()


async def test_kill(redis_url: str, fresh_prefix: str) -> None:
    with trio.fail_after(30):
        async with WorkerProcess(redis_url, fresh_prefix) as worker:
            number = await worker.submit("spin", key="k", n=1_000_000, tasks=4)
            await worker.wait_acked(10)
            worker.kill()
            assert await worker.wait() == -signal.SIGKILL
            assert worker.acked >= 10
            with pytest.raises(WorkerDiedError, match="-9"):
                await worker.result(number)


async def test_end_of_the_block_ends_the_process(redis_url: str, fresh_prefix: str) -> None:
    with trio.fail_after(30):
        async with WorkerProcess(redis_url, fresh_prefix) as worker:
            pid = worker.pid
            worker.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_counter_that_cannot_be_opened(own_redis: RedisServer, fresh_prefix: str) -> None:
    own_redis.kill()
    worker = WorkerProcess(own_redis.url, fresh_prefix)
    with trio.fail_after(60), pytest.raises(WorkerError) as caught:
        await worker.__aenter__()
    assert caught.value.error
    assert worker.returncode is not None
