"""The floor that CPython itself sets: counting with nothing behind it."""

from __future__ import annotations

import trio

NAME = "plain method"
ASYNC_NAME = "plain async method"
DICT_NAME = "item of a dict"
GET_NAME = "plain method that reads"


class Plain:
    """Counts in an attribute."""

    def __init__(self) -> None:
        self.n = 0

    def inc(self, count: int = 1) -> None:
        self.n += count

    def get(self) -> int:
        return self.n

    async def inc_async(self, count: int = 1) -> int:
        """Do as `inc`, and be a checkpoint, as every async function of trio's style is."""
        await trio.lowlevel.checkpoint()
        self.n += count
        return self.n
