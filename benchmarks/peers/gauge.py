"""prometheus_client's gauge that is summed over the live processes ("livesum")."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Literal, TypeAlias

from benchmarks.children import Child, spawn

NAME = "prometheus livesum gauge"
BOUND_NAME = "prometheus livesum gauge, labels resolved"

Timed: TypeAlias = Callable[[Literal["labels", "bound"], int], Awaitable[float]]


@asynccontextmanager
async def livesum_gauge() -> AsyncGenerator[Timed]:
    """Return what times so many increments in a process of the gauge's own, in nanoseconds.

    Its library reads where to keep its files when it is imported, and keeps to it.
    """
    with tempfile.TemporaryDirectory() as directory:
        child: Child
        async with spawn("gauge", env={"PROMETHEUS_MULTIPROC_DIR": directory}) as child:

            async def timed(kind: Literal["labels", "bound"], calls: int) -> float:
                answer = await child.ask(kind, calls)
                return float(answer["nanoseconds"])

            yield timed
