"""prometheus_client's gauge that is summed over processes: counting without a server."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, Literal, TypeAlias

from benchmarks.processes import spawn

#: Times so many increments; seconds for each.
TimedGauge: TypeAlias = Callable[[Literal["labels", "bound"], int], Awaitable[float]]

GAUGE: Final = "prometheus livesum gauge"
BOUND_GAUGE: Final = "prometheus livesum gauge, labels resolved"


@asynccontextmanager
async def livesum_gauge() -> AsyncGenerator[TimedGauge]:
    """Return what times prometheus_client's gauge that is summed over the live processes.

    It is in a process of its own: its library reads where to keep its files when it is imported,
    and keeps to it.
    """
    with tempfile.TemporaryDirectory() as directory:
        async with spawn("gauge", env={"PROMETHEUS_MULTIPROC_DIR": directory}) as child:

            async def timed(kind: Literal["labels", "bound"], calls: int) -> float:
                return (await child.ask(kind, calls))["seconds"]

            yield timed
