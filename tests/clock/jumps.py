"""Real counters on a real server whose clock jumps by an hour, under load (I3).

Not among the other tests, as these need a C compiler: ``make test-clock`` runs them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import trio

from distkit_actors import StrictInstanceAwareCounter
from tests.clock.preload import ClockLibraryMissing, JumpingClock
from tests.faults.fleet import PATIENCE, SLACK, Counter, Spinner, lax, strict, until
from tests.harness.pressure import pressure
from tests.harness.server import RedisServer
from tests.harness.workers import WorkerProcess

HOUR = 3600.0
#: Seconds; of those who live by the shortest pace, on an idle machine.
THRESHOLD = 1.0
#: How many tasks of each counter count all the time.
TASKS = 2


@pytest.fixture
def clock(tmp_path: Path) -> JumpingClock:
    return JumpingClock(tmp_path)


@pytest.fixture
def server(clock: JumpingClock) -> Iterator[RedisServer]:
    with RedisServer(environment=clock.environment) as server:
        yield server


class Onlooker:
    """Looks all the time whether everybody counts who lives, and nobody is seen dead."""

    def __init__(self, counter: StrictInstanceAwareCounter, living: set[str]) -> None:
        self.doomed = 0
        """What the doomed have counted, as it was seen last."""
        self._counter = counter
        self._living = living
        self._stopping = False

    async def look(self) -> None:
        """Look until `stop`."""
        while not self._stopping:
            here = (await self._counter.get("here")).cumulative
            assert here == len(self._living), "a living instance does not count"
            seen = {row.instance_id for row in await self._counter.instances() if row.alive}
            assert seen >= self._living, "a living instance is seen dead"
            self.doomed = (await self._counter.get("doomed")).cumulative
            await trio.sleep(0.001)

    def stop(self) -> None:
        """Look no more."""
        self._stopping = True


def test_a_missing_compiler_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", str(tmp_path / "none"))
    with pytest.raises(ClockLibraryMissing, match="install"):
        JumpingClock(tmp_path)


def test_the_servers_clock_can_be_set(server: RedisServer, clock: JumpingClock) -> None:
    """Both the command TIME and what scripts see."""
    script = "return redis.call('TIME')"
    for jump in (0.0, HOUR, -2 * HOUR):
        clock.jump(jump)
        right = time.time() + clock.offset
        seconds, micros = server.command("TIME")
        scripted = server.command("EVAL", script, 0)
        assert abs(seconds + micros / 1e6 - right) < PATIENCE
        assert abs(int(scripted[0]) - right) < PATIENCE


@pytest.mark.parametrize(
    "jumps",
    [(HOUR, -HOUR), (-HOUR, HOUR), (-HOUR, -HOUR), (HOUR, HOUR), (2.0, -2.0)],
    ids=["forth and back", "back and forth", "back twice", "forth twice", "by seconds"],
)
async def test_a_clock_that_jumps_kills_nobody_who_lives_and_keeps_no_dead(
    jumps: tuple[float, ...], server: RedisServer, clock: JumpingClock, fresh_prefix: str
) -> None:
    threshold = THRESHOLD * pressure()
    bound = 2 * threshold + 3 * (threshold / 3)
    async with (
        strict(server.url, fresh_prefix, threshold=threshold) as quick,
        strict(server.url, fresh_prefix, threshold=10 * threshold) as slow,
        lax(server.url, fresh_prefix, threshold=threshold) as relaxed,
    ):
        living: tuple[Counter, ...] = (quick, slow, relaxed)
        for counter in living:
            await counter.inc("here", 1)
        await relaxed.flush()
        onlooker = Onlooker(quick, {counter.instance_id for counter in living})
        spinners = [Spinner(partial(counter.inc, "load"), TASKS) for counter in living]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(onlooker.look)
            for spinner in spinners:
                nursery.start_soon(spinner.run)
            for jump in jumps:
                async with WorkerProcess(server.url, fresh_prefix, threshold=threshold) as doomed:
                    await doomed.call("inc", key="doomed", count=5)
                    await until(lambda: onlooker.doomed == 5, PATIENCE)
                    doomed.kill()
                    clock.jump(jump)
                    before = [spinner.done for spinner in spinners]
                    took = await until(lambda: onlooker.doomed == 0, bound + SLACK * pressure())
                print(f"jump of {jump:+} s: the dead were gone after {took:.2f} s of {bound:.2f} s")
                assert all(s.done > done for s, done in zip(spinners, before, strict=True))
            for each in (onlooker, *spinners):
                each.stop()
        await relaxed.flush()
        done = [spinner.done for spinner in spinners]
        for counter, own in zip(living, done, strict=True):
            assert (sum(done), own) == await counter.get("load")
