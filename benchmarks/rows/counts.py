"""What a lone call takes, counted and not timed: a machine's moods change that least."""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Final

import trio

from benchmarks import server
from benchmarks.bench import Bench
from benchmarks.floors import BARE, PLAIN, bare_socket
from benchmarks.load import FOREVER, Inc, key_names
from benchmarks.server import RedisServer, wrapped
from distkit_actors import StrictInstanceAwareCounter

_WHAT: Final = "what one strict inc takes, awaited by one task"
_IN_MEMORY: Final = "what one count in memory takes"
#: So that starting Python takes the same each time, which is more than what is counted.
_SEED: Final = {"PYTHONHASHSEED": "0"}
_VALGRIND: Final = (
    "valgrind",
    "--tool=cachegrind",
    "--cache-sim=no",
    "--cachegrind-out-file=/dev/null",
)


async def counts(bench: Bench) -> None:
    """Count calls always, and instructions where there is valgrind."""
    times = bench.choose(1000, 100)
    host, port = bench.server.host, bench.server.port
    async with (
        StrictInstanceAwareCounter.open(
            "counts", bench.server.url, dead_instance_threshold=FOREVER
        ) as counter,
        bare_socket(host, port) as bare,
    ):
        seen = await bench.interleave(
            {
                f"{kind}'s {side}": partial(count, bench, inc, times)
                for kind, inc in (("ours", counter.inc), ("bare", bare))
                for side, count in (("client", _python_calls), ("server", _redis_calls))
            }
        )
    for side, name in (
        ("client", "calls of functions in Python and C, in the client"),
        ("server", "calls of commands in the server, those of a script included"),
    ):
        ours, theirs = seen[f"ours's {side}"], seen[f"bare's {side}"]
        bench.row(name, _WHAT, ours, BARE, theirs, unit="calls")
    if bench.quick:
        return
    if shutil.which("valgrind") is None:
        bench.say("there is no valgrind, so instructions are not counted")
        return
    for side in ("client", "server"):
        bench.say(f"counting instructions in the {side}")
        mine, other = [await instructions(side, kind) for kind in ("strict", "bare")]
        name = f"instructions in user space, in the {side}"
        bench.row(name, _WHAT, [mine], BARE, [other], unit="instructions")
    crowd = await instructions("server", "crowd", few=20, many=120) / 100
    name = "instructions in user space, in the server, for each of 100 entries"
    what = "what one strict inc takes, awaited by 100 tasks on a key each"
    bench.row(name, what, [crowd], BARE, [other], unit="instructions")
    beat = await instructions("server", "beats", few=30, many=330)
    name, what = "instructions in user space, in the server", "what one heartbeat takes"
    bench.row(name, what, [beat], BARE, [other], unit="instructions")
    bench.say("counting instructions of lax counts")
    plain = await instructions_in_memory("plain")
    for kind, what in (("lax", "inc_nowait(key)"), ("bound", "bound inc_nowait()")):
        seen = [await instructions_in_memory(kind)]
        name = f"instructions in user space, of {what}"
        bench.row(name, _IN_MEMORY, seen, PLAIN, [plain], unit="instructions")


async def _redis_calls(bench: Bench, inc: Inc, times: int) -> float:
    """Return the calls of commands that the server sees for one `inc`."""
    (key,) = key_names(1)
    server.forget_use(bench.server)
    for _ in range(times):
        await inc(key)
    return server.calls(bench.server) / times


async def _python_calls(bench: Bench, inc: Inc, times: int) -> float:  # noqa: ARG001 - as above
    """Return the calls of functions that this thread makes for one `inc`."""
    (key,) = key_names(1)
    count = 0

    def note(frame: FrameType, event: str, argument: object) -> None:  # noqa: ARG001 - sys's
        nonlocal count
        count += event in {"call", "c_call"}

    sys.setprofile(note)
    try:
        for _ in range(times):
            await inc(key)
    finally:
        sys.setprofile(None)
    return count / times


async def instructions(side: str, kind: str, *, few: int = 200, many: int = 1200) -> float:
    """Return the instructions of one call: two loops are counted by valgrind, and subtracted.

    Args:
        side: Where to count, ``client`` or ``server``.
        kind: What counts, see `benchmarks.child.incs`.
        few: Calls in the shorter loop.
        many: Calls in the longer loop.
    """
    less, more = [await _in_loop(side, kind, times) for times in (few, many)]
    return (more - less) / (many - few)


async def instructions_in_memory(kind: str, *, few: int = 1000, many: int = 1_001_000) -> float:
    """Return the instructions of one count in memory, as `instructions` does.

    Args:
        kind: What counts, see `benchmarks.child.counts`.
        few: Counts in the shorter loop.
        many: Counts in the longer loop.
    """
    with tempfile.TemporaryDirectory() as directory:
        log = Path(directory) / "log"
        counted: list[int] = []
        for times in (few, many):
            words = [sys.executable, "-m", "benchmarks.child", "counts", kind, str(times)]
            command = [*_VALGRIND, f"--log-file={log}", *words]
            await trio.run_process(command, env=os.environ | _SEED)
            counted.append(_counted(log))
    return (counted[1] - counted[0]) / (many - few)


async def _in_loop(side: str, kind: str, times: int) -> int:
    with tempfile.TemporaryDirectory() as directory:
        log = Path(directory) / "log"
        counting = [*_VALGRIND, f"--log-file={log}"]
        counted = side == "server"
        with wrapped(*counting) if counted else RedisServer() as redis:
            words = [sys.executable, "-m", "benchmarks.child", "incs", kind]
            words += [redis.host, str(redis.port), str(times)]
            await trio.run_process(
                words if counted else [*counting, *words], env=os.environ | _SEED
            )
        return _counted(log)


def _counted(log: Path) -> int:
    """Return what valgrind has counted."""
    # ==123== I   refs:      1,234,567
    found = re.search(r"I\s+refs:\s+([\d,]+)", log.read_text())
    if found is None:
        raise RuntimeError(f"valgrind has not counted: {log.read_text()}")
    return int(found[1].replace(",", ""))
