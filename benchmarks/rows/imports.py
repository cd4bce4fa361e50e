"""What it takes until a program can begin."""

from __future__ import annotations

import sys
from functools import partial

import trio

from benchmarks.bench import Bench

_OURS = "import distkit_actors; distkit_actors.StrictInstanceAwareCounter('p', 'memory://')"
_TRIO = "import trio"


async def imports(bench: Bench) -> None:
    """Measure imports, each in a fresh process, by the clock of that process."""
    seen = await bench.interleave(
        {source: partial(_seconds, source) for source in (_OURS, _TRIO)}, times=4
    )
    bench.row(
        "import distkit_actors, and a counter with memory://",
        "time in a fresh process",
        seen[_OURS],
        "import trio",
        seen[_TRIO],
        aim=1.3,
    )


async def _seconds(source: str) -> float:
    program = (
        f"import time; start = time.perf_counter(); {source}; print(time.perf_counter() - start)"
    )
    done = await trio.run_process([sys.executable, "-c", program], capture_stdout=True)
    return float(done.stdout)
