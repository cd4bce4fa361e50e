"""The groups of rows; each module of this package measures one with `measure(bench)`."""

from __future__ import annotations

import importlib
from collections.abc import Awaitable, Callable
from typing import Final, cast

from benchmarks.bench import Bench

#: In the order in which they run and are shown.
GROUPS: Final = {
    "latency": "one task: how long a call takes",
    "strict": "strict counters under load",
    "peers": "strict counters and other ways to Redis",
    "ceiling": "strict counters and the server itself",
    "lax": "lax counters: what a call costs",
    "million": "lax counters: what a million calls send",
    "flush": "lax counters: what a flush costs",
    "script": "what the server works for a batch",
    "growth": "what grows with the namespace",
    "bounds": "what takes long with very many keys",
    "crowd": "a fleet that starts at once",
    "memory": "what a key and an instance weigh",
    "idle": "what an idle counter costs",
    "fleet": "many instances that only live",
    "reaping": "many instances that have died",
}


async def measure(group: str, bench: Bench) -> None:
    """Measure a group; its results are then in ``bench``."""
    # Not imported before it is wanted: each peer brings its own packages.
    module = importlib.import_module(f"{__name__}.{group}")
    await cast("Callable[[Bench], Awaitable[None]]", module.measure)(bench)
