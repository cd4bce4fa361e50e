"""Trio in a thread of its own, on a mock clock, for rules that are not async."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import trio
from trio.testing import MockClock

T = TypeVar("T")

#: Seconds, on a real clock, in which nothing at all happens: then nothing ever will.
_SILENCE: Final = 10.0
#: Most steps of tasks while no time passes; whatever takes more will never rest.
_UNREST: Final = 500_000


class Traffic:
    """How much is under way between counters and store, at this moment."""

    def __init__(self) -> None:
        self.busy = 0
        self.idle = trio.Event()

    def begin(self) -> None:
        """Something sets out."""
        self.busy += 1

    def end(self) -> None:
        """It is over."""
        self.busy -= 1
        if not self.busy:
            self.idle.set()
            self.idle = trio.Event()


class _Steps(trio.abc.Instrument):
    """Counts the steps of tasks since time last passed, and ends what never rests."""

    def __init__(self, end: Callable[[], None]) -> None:
        self.count = 0
        self._end = end

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.count += 1
        if self.count > _UNREST:
            self.count = 0
            self._end()


class Host:
    """Runs async functions, one at a time, and lets time pass only when told to."""

    def __init__(self) -> None:
        self._clock = MockClock()
        self._token: trio.lowlevel.TrioToken | None = None
        self._nursery: trio.Nursery | None = None
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._called: trio.CancelScope | None = None  # around what runs now
        self.endings: list[trio.Event] = []  # of bodies that only end when they are told to
        self._steps = _Steps(self._end_what_runs)
        self._thread = threading.Thread(target=self._main, name="trio", daemon=True)
        self._thread.start()
        self._ready.wait()

    def call(self, function: Callable[[], Awaitable[T]]) -> T:
        """Run ``function`` in the trio thread, from this one, and return what it returns."""
        assert self._token is not None

        async def run() -> T:
            self._steps.count = 0
            with trio.CancelScope() as scope:
                self._called = scope
                try:
                    return await function()
                finally:
                    self._called = None
            raise AssertionError(
                "it waits for an answer or a time that nobody lets pass, or somebody never rests"
            )

        return trio.from_thread.run(run, trio_token=self._token)

    @property
    def nursery(self) -> trio.Nursery:
        """Where tasks live longer than a call."""
        assert self._nursery is not None
        return self._nursery

    def close(self) -> None:
        """End the thread and all tasks in it."""

        async def stop() -> None:
            self._clock.autojump_threshold = 0.01  # shielded scopes end by their deadlines
            self.nursery.cancel_scope.cancel()
            for ending in self.endings:
                ending.set()

        if self._failure is None:
            self.call(stop)
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    async def quiesce(self, traffic: Traffic) -> None:
        """Wait until everybody waits for time to pass or for a fault to end."""
        await trio.testing.wait_all_tasks_blocked()
        while traffic.busy:
            await traffic.idle.wait()
            await trio.testing.wait_all_tasks_blocked()

    async def advance(self, traffic: Traffic, seconds: float) -> None:
        """Let time pass, with everything happening at its time."""
        end = trio.current_time() + seconds
        await self.quiesce(traffic)
        while (now := trio.current_time()) < end:
            due = trio.lowlevel.current_statistics().seconds_to_next_deadline
            await self.suspend(traffic, max(min(due, end - now), 1e-6))

    async def suspend(self, traffic: Traffic, seconds: float) -> None:
        """Let time pass while every process is frozen."""
        self._clock.jump(seconds)
        self._steps.count = 0
        await self.quiesce(traffic)

    def _end_what_runs(self) -> None:
        if self._called is not None:
            self._called.cancel()

    def _main(self) -> None:
        try:
            trio.run(self._serve, clock=self._clock, instruments=[self._steps])
        except BaseException as error:  # noqa: BLE001 (raised by close)
            self._failure = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        async with trio.open_nursery() as self._nursery:
            self._ready.set()
            while True:  # what hangs is a failure like any other
                await trio.testing.wait_all_tasks_blocked(_SILENCE)
                self._end_what_runs()
