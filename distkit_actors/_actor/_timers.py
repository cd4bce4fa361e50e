"""The tasks that wake the batch loop: for a sign of life, and for lax counts that are due."""

from __future__ import annotations

from typing import Final

import trio

from .._instance._session import Session
from .._protocol._liveness import next_heartbeat
from ._batch_loop import BatchLoop
from ._log import Log

#: Seconds after which the store's set-up is looked at again, with the next request.
_LOOKS: Final = 60.0


class Timers:
    """When a batch is due without an operation."""

    def __init__(
        self,
        loop: BatchLoop,
        session: Session,
        log: Log,
        period: float,
        flush_interval: float,
    ) -> None:
        self.dirty = trio.Event()  # something was counted since the last flush
        self.flush_interval = flush_interval
        self._loop = loop
        self._session = session
        self._log = log
        self._period = period

    @trio.lowlevel.enable_ki_protection
    async def heartbeat(self) -> None:
        """Have a batch sent when the last one that was acknowledged is a beat old."""
        begun = trio.current_time()
        look_at = begun + _LOOKS
        seldom = self._period > _LOOKS  # it beats so seldom that a look needs a beat of its own
        while True:
            now = trio.current_time()
            self._log.note_withheld(len(self._session.withheld), now)
            if now >= look_at if seldom else now + self._period > look_at:  # the next is too late
                self._loop.look_due, look_at = True, now + _LOOKS
                if seldom:  # else it is looked with the next beat
                    self._loop.beat()
            heard_at = self._loop.requester.heard_at
            last = begun if heard_at is None else heard_at
            self._loop.requester.suspensions.since(last, now)  # so that each is noticed soon
            due = next_heartbeat(last, self._period)
            if due <= now + self._period / 100:  # not worth another wake-up
                self._loop.beat()
                due = next_heartbeat(now, self._period)
            await trio.sleep_until(min(due, look_at) if seldom else due)

    @trio.lowlevel.enable_ki_protection
    async def flush_regularly(self) -> None:
        """Have counts sent an interval after the first of them."""
        while True:
            await self.dirty.wait()
            await trio.sleep(self.flush_interval)
            self.dirty = trio.Event()
            self._loop.flush()
