"""How a counter begins: it registers with the store, and may wait for one that is away."""

from __future__ import annotations

import trio

from .._errors import StoreUnavailableError
from .._stores._contract import Link
from ._batch_loop import BatchLoop


class Start:
    """The start of one counter, which `call_off` may end."""

    def __init__(self, loop: BatchLoop, grace: float) -> None:
        self.begun_at: float | None = None  # for all parts, if there are several (P44, parts)
        self._loop = loop
        self._grace = grace
        self._called_off = False
        self._scope = trio.CancelScope()
        self._pause = trio.CancelScope()

    async def register(self, link: Link) -> bool:
        """Take the id; try again while the store is away, until ``grace`` seconds are over.

        When the time is over, it tries once more. Returns False if the start was called off
        before it was done.
        """
        begun_at = trio.current_time() if self.begun_at is None else self.begun_at
        deadline = begun_at + self._grace
        with self._scope:
            while not await self._try(link, last=trio.current_time() >= deadline):
                if not self._called_off:
                    with trio.CancelScope(deadline=deadline) as self._pause:
                        await self._loop.availability.pause()
                if self._called_off:
                    return False  # noqa: ASYNC910 - trying was a checkpoint
            return True
        return False

    async def _try(self, link: Link, *, last: bool) -> bool:  # noqa: ASYNC910 - registering is one
        availability = self._loop.availability
        try:
            await self._loop.start(link)
        except StoreUnavailableError as error:
            if last and not self._called_off:
                raise
            self._loop.requester.connected = False
            if not self._called_off:
                availability.away(error)
            return False  # noqa: ASYNC910 - internal: trying was one
        availability.over()
        return True

    def call_off(self, deadline: float) -> None:
        """End the start: a try under way may last until ``deadline``, and there is no other."""
        self._called_off = True
        self._scope.deadline = min(self._scope.deadline, deadline)
        self._pause.cancel()
