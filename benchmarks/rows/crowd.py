"""A fleet that starts at once: how long until all is counted, and who was reaped meanwhile."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import Final

import trio

from benchmarks.bench import Bench
from benchmarks.measure import Spread
from benchmarks.results import Figure, compare
from benchmarks.wording import amount

_PROCESSES: Final = 2
#: Seconds. The work of the large crowd takes longer than that.
_THRESHOLD: Final = 2.0


@dataclass
class _Seen:
    """What was seen of one size, in each round."""

    total: list[float] = field(default_factory=list)
    returns: list[float] = field(default_factory=list)


async def measure(bench: Bench) -> None:
    """Measure."""
    keys = bench.choose(2000, 50)
    sizes = bench.choose((60, 300), (4, 8))
    seen = {size: _Seen() for size in sizes}
    for number in range(bench.rounds):
        for size in sizes:
            await _round(bench, f"crowd{size}-{number}", size, keys, seen[size])
    smallest, *_ = sizes
    for size, ours in seen.items():
        bench.add(
            compare(
                "crowd",
                f"{amount(size, 'instance')} with {amount(keys, 'key')} each",
                what="time until all is counted that starts at once, for each instance",
                unit="s",
                ours=[total / size for total in ours.total],
                peer=amount(smallest, "instance"),
                theirs=[total / smallest for total in seen[smallest].total],
                better="less",
                also=[
                    Figure("in all, and longest wait of a caller", Spread.of(ours.total), "s"),
                    Figure("taken for dead though alive", Spread.of(ours.returns), ""),
                ],
            )
        )


async def _round(bench: Bench, prefix: str, size: int, keys: int, seen: _Seen) -> None:
    words = (str(size // _PROCESSES), str(keys), str(_THRESHOLD))
    environment = {**os.environ, "CROWD_URL": bench.server.url, "CROWD_PREFIX": prefix}
    start = time.perf_counter()
    crowd = [
        await trio.lowlevel.open_process(
            [sys.executable, "-m", "tests.faults.crowd", *words],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for _ in range(_PROCESSES)
    ]
    for process in crowd:
        await _line(process)
    seen.total.append(time.perf_counter() - start)
    returns = 0
    for process in crowd:
        assert process.stdin is not None
        await process.stdin.aclose()
        count, _ = (await _line(process)).split()
        returns += int(count)
        await process.wait()
    seen.returns.append(returns)


async def _line(process: trio.Process) -> str:
    assert process.stdout is not None
    read = b""
    while not read.endswith(b"\n"):
        more = await process.stdout.receive_some()
        assert more, "the program has ended"
        read += more
    return read.decode()
