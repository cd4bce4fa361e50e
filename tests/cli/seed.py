"""A namespace that is alive for a while, though nobody runs: those who were in it linger."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import trio

from distkit_actors import StrictInstanceAwareCounter


def seed(url: str, prefix: str, slices: Mapping[str, Mapping[str, int]], **options: Any) -> None:
    """Have instances count, ``{instance_id: {key: slice}}``, and stop beating."""

    async def count() -> None:
        for instance_id, counts in slices.items():
            async with StrictInstanceAwareCounter.open(
                prefix, url, instance_id=instance_id, on_exit="linger", **options
            ) as counter:
                await counter.inc_all(counts)

    trio.run(count)
