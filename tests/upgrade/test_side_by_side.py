"""Processes of an old version and of today's count on one prefix, and notice no difference."""

from __future__ import annotations

import random
from collections import Counter as Tally
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import pytest
import trio

import distkit_actors
from distkit_actors import StrictInstanceAwareCounter
from distkit_actors._stores._redis._wire import KeyNames
from tests.faults.fleet import until
from tests.harness.workers import WorkerDiedError, WorkerError, WorkerProcess
from tests.stores.twin import Ear, connect

#: Generous: starting a process on a busy machine takes its time.
PATIENCE = 120.0
#: Seconds, of those who are frozen and killed.
THRESHOLD = 0.6
KEYS = ("a", ":b", "ç d")

Side: TypeAlias = Literal["old", "new"]
DIRECTIONS: Sequence[tuple[Side, Side]] = (("old", "new"), ("new", "old"))
both_ways = pytest.mark.parametrize(("one", "other"), DIRECTIONS)


@dataclass
class Deployment:
    """A service on one prefix, of whose processes each is of an old or of today's version."""

    url: str
    prefix: str
    old_package: Path

    def worker(
        self,
        side: Side,
        instance_id: str | None = None,
        *,
        threshold: float | None = None,
        heartbeat: float | None = None,
        on_exit: str | None = None,
        inherit: bool = False,
    ) -> WorkerProcess:
        """Return a process that has not been started."""
        return WorkerProcess(
            self.url,
            self.prefix,
            instance_id=instance_id,
            threshold=threshold,
            heartbeat=heartbeat,
            on_exit=on_exit,
            inherit=inherit,
            package=self.old_package if side == "old" else None,
        )

    async def check(self, side: Side, worker: WorkerProcess) -> None:
        """See that a process is of the version that the test speaks of."""
        ours = Path(distkit_actors.__file__).parents[1]
        expected = self.old_package if side == "old" else ours
        assert await worker.call("package") == str(expected)

    @asynccontextmanager
    async def pair(
        self, one: Side, other: Side, *, threshold: float | None = None
    ) -> AsyncIterator[tuple[WorkerProcess, WorkerProcess]]:
        """Start two processes at a time; only the first lives by the threshold."""
        heartbeat = None if threshold is None else threshold / 3
        async with _killed_at_the_end(
            self.worker(one, threshold=threshold, heartbeat=heartbeat)
        ) as first:
            await first.spawn()
            async with self.worker(other, heartbeat=heartbeat) as second:
                await first.wait_ready()
                await self.check(one, first)
                await self.check(other, second)
                yield first, second


@asynccontextmanager
async def _killed_at_the_end(worker: WorkerProcess) -> AsyncIterator[WorkerProcess]:
    """For one that is started later, or not at once."""
    async with AsyncExitStack() as stack:
        stack.push_async_exit(worker)
        yield worker


@pytest.fixture
def deployment(redis_url: str, fresh_prefix: str, old_package: Path) -> Deployment:
    return Deployment(redis_url, fresh_prefix, old_package)


async def test_both_tell_the_same_after_each_step(deployment: Deployment) -> None:
    chance = random.Random(1)
    slices: tuple[Tally[str], Tally[str]] = (Tally(), Tally())
    with trio.fail_after(PATIENCE):
        async with deployment.pair("old", "new") as workers:
            for _ in range(90):
                who, key, count = chance.randrange(2), chance.choice(KEYS), chance.randint(-9, 9)
                own, others = slices[who], slices[1 - who]
                op = chance.choice(OPERATIONS)
                match op:
                    case "inc":
                        own[key] += count
                    case "set_on_instance":
                        own[key] = count
                    case "set":
                        own[key], others[key] = count, 0
                    case "delete":
                        own[key] = others[key] = 0
                    case "delete_on_instance":
                        own[key] = 0
                    case "clear":
                        own.clear()
                        others.clear()
                    case _:
                        own.clear()
                arguments: dict[str, object] = {} if op.startswith("clear") else {"key": key}
                if op in {"inc", "set", "set_on_instance"}:
                    arguments["count"] = count
                await workers[who].call(op, **arguments)
                for worker, held in zip(workers, slices, strict=True):
                    total = own[key] + others[key]
                    assert await worker.call("get", key=key) == [total, held[key]], op


#: Moves of all keys are rare, as little would come together otherwise.
OPERATIONS = [
    *(["inc", "set_on_instance", "set", "delete", "delete_on_instance"] * 5),
    "clear",
    "clear_on_instance",
]


@both_ways
async def test_the_other_version_takes_the_dead_away_and_has_them_back(
    one: Side, other: Side, deployment: Deployment
) -> None:
    with trio.fail_after(PATIENCE):
        async with deployment.pair(one, other, threshold=THRESHOLD) as (victim, survivor):
            for key in KEYS:
                await victim.call("inc", key=key, count=5)
                await survivor.call("inc", key=key, count=2)
            await victim.call("enter", key="held", count=3)
            await survivor.call("follow", key="a")
            await survivor.call("hear", key="a", count=7)
            victim.stop()
            await survivor.call("hear", key="a", count=2)
            assert await survivor.call("set", key=":b", count=4) == [4, 4]  # while it is away
            victim.cont()
            await survivor.call("hear", key="a", count=7)
            for key, total, own in (("ç d", 7, 5), (":b", 4, 0), ("held", 3, 3)):
                assert await victim.call("get", key=key) == [total, own]
            victim.kill()
            await survivor.call("hear", key="a", count=2)
            for key, total in (("ç d", 2), (":b", 4), ("held", 0)):
                assert (await survivor.call("get", key=key))[0] == total


async def test_each_hears_what_the_other_does(deployment: Deployment) -> None:
    """Both listen to one channel, and what either does is said there."""
    channel = KeyNames(deployment.prefix).channel
    with trio.fail_after(PATIENCE), connect(deployment.url) as client:
        ear = Ear(client, channel)
        async with deployment.pair("old", "new") as workers:
            for worker in workers:
                await worker.call("follow", key=":b")
            await until(lambda: client.pubsub_numsub(channel) == [(channel, 3)], PATIENCE)
            for value in (1, 2):
                for speaker, listener in (workers, workers[::-1]):
                    await speaker.call("set", key=":b", count=value)
                    await listener.call("hear", key=":b", count=value)
                    assert ear.heard() == [{":b"}]
                    await speaker.call("clear")
                    await listener.call("hear", key=":b", count=0)
                    assert ear.heard() == [None]
        ear.pubsub.close()


async def test_holds_end_whoever_looks(deployment: Deployment) -> None:
    with trio.fail_after(PATIENCE):
        async with deployment.pair("old", "new") as workers:
            for holder, other in (workers, workers[::-1]):
                assert await holder.call("enter", key="k", count=2, limit=3) == [2, 2]
                with pytest.raises(WorkerError, match="LimitReachedError"):
                    await other.call("enter", key="k", count=2, limit=3)
                assert await other.call("enter", key="k", count=1, limit=3) == [3, 1]
                await holder.call("leave", key="k")  # which does not wait for the store
                while await other.call("get", key="k") != [1, 1]:  # noqa: ASYNC110 - a process sets none
                    await trio.sleep(0.01)
                assert await holder.call("enter", key="k", count=2, limit=3) == [3, 2]
                # What the other sets is not taken away again where the block ends.
                assert await other.call("set", key="k", count=10) == [10, 10]
                await holder.call("leave", key="k")
                await other.call("leave", key="k")
                assert await holder.call("get", key="k") == [10, 0]
                await other.call("delete", key="k")
            holder, other = workers
            await holder.call("enter", key="k", count=2, limit=2)
            holder.terminate()
            assert await holder.wait() == 0
            assert await other.call("enter", key="k", count=2, limit=2) == [2, 2]


async def test_a_deploy_loses_and_doubles_nothing(deployment: Deployment) -> None:
    """One id goes from old to new after an exit, and one back from new to old while it lives."""
    done: Tally[str] = Tally()

    async def spin(worker: WorkerProcess, times: int) -> None:
        assert await worker.call("spin", key="k", n=times) == {"done": times, "errors": {}}
        done[worker.instance_id] += times

    async def see_it_grow(counter: StrictInstanceAwareCounter) -> None:
        seen = 0
        while True:
            total = (await counter.get("k")).cumulative
            assert total >= seen
            seen = total
            await trio.sleep(0.01)

    with trio.fail_after(PATIENCE):
        async with (
            StrictInstanceAwareCounter.open(deployment.prefix, deployment.url) as onlooker,
            deployment.worker("old", "ends", on_exit="linger") as ends,
            deployment.worker("new", "lives on") as lives_on,
            _killed_at_the_end(deployment.worker("new", "ends", inherit=True)) as successor,
            _killed_at_the_end(deployment.worker("old", "lives on", inherit=True)) as newcomer,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(see_it_grow, onlooker)
            async with trio.open_nursery() as counting:
                counting.start_soon(spin, lives_on, 90)
                await spin(ends, 30)
                ends.terminate()
                assert await ends.wait() == 0
                await successor.start()
                await deployment.check("new", successor)
                await spin(successor, 30)
            async with trio.open_nursery() as counting:
                counting.start_soon(spin, successor, 90)
                await newcomer.start()
                await deployment.check("old", newcomer)
                with pytest.raises((WorkerError, WorkerDiedError), match="InstanceConflictError"):
                    await lives_on.call("inc", key="k")
                await spin(newcomer, 30)
            nursery.cancel_scope.cancel()
            assert done == {"ends": 150, "lives on": 120}
            for worker in (successor, newcomer):
                own = done[worker.instance_id]
                assert await worker.call("get", key="k") == [270, own]
            assert await onlooker.get("k") == (270, 0)
