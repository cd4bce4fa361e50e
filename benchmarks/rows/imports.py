"""What it takes until a program can begin."""

from __future__ import annotations

import os
import sys
from functools import partial
from tempfile import TemporaryDirectory

import trio

from benchmarks.bench import Bench

_OURS = "import distkit_actors; distkit_actors.StrictInstanceAwareCounter('p', 'memory://')"
_TRIO = "import trio"


async def imports(bench: Bench) -> None:
    """Measure imports, each in a fresh process, by the clock of that process."""
    with TemporaryDirectory() as cache:
        await _seconds(_OURS, cache)  # which compiles everything
        seen = await bench.interleave(
            {source: partial(_seconds, source, cache) for source in (_OURS, _TRIO)},
            times=bench.choose(4, 1),
        )
    bench.row(
        "import distkit_actors, and a counter with memory://",
        "time in a fresh process",
        seen[_OURS],
        "import trio",
        seen[_TRIO],
        aim=1.3,
    )


async def _seconds(source: str, cache: str) -> float:
    program = (
        f"import time; start = time.perf_counter(); {source}; print(time.perf_counter() - start)"
    )
    words = [sys.executable, "-X", f"pycache_prefix={cache}", "-c", program]
    # A shell may ask for no bytecode, and then each process compiles the package anew.
    environment = {n: v for n, v in os.environ.items() if n != "PYTHONDONTWRITEBYTECODE"}
    done = await trio.run_process(words, env=environment, capture_stdout=True)
    return float(done.stdout)
