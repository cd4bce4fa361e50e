"""Counters that are made before their process is forked."""

import os
import subprocess
import sys

import pytest
import trio

from tests.harness.workers import Kind

#: Starting processes on a busy machine takes its time.
PATIENCE = 60.0


async def _run(how: str, kind: Kind, url: str, prefix: str) -> list[tuple[str, int]]:
    """Run the program; return what each of its processes has seen."""
    with trio.fail_after(PATIENCE):
        ended = await trio.run_process(
            [sys.executable, "-m", "tests.faults.forked", how, kind],
            env={**os.environ, "FORKED_URL": url, "FORKED_PREFIX": prefix},
            capture_stdout=True,
            stderr=subprocess.STDOUT,
            check=False,
        )
    assert not ended.returncode, ended.stdout.decode()
    lines = [line.split() for line in ended.stdout.decode().splitlines()]
    return [(name, int(value)) for name, value in lines]


@pytest.mark.parametrize("kind", ["strict", "lax"])
@pytest.mark.parametrize("how", ["os.fork", "fork", "spawn"])
async def test_i11_a_counter_made_before_a_fork_is_another_one_in_each_process(
    how: str, kind: Kind, redis_url: str, fresh_prefix: str
) -> None:
    """What both have counted counts, and nobody dies."""
    seen = await _run(how, kind, redis_url, fresh_prefix)
    assert [value for _, value in seen] == [8, 8]
    assert len({name for name, _ in seen}) == 2


async def test_a_counter_that_runs_is_closed_in_a_process_that_is_forked(
    redis_url: str, fresh_prefix: str
) -> None:
    """Nothing is counted there in silence, and where it runs it goes on."""
    assert [value for _, value in await _run("running", "lax", redis_url, fresh_prefix)] == [8]
