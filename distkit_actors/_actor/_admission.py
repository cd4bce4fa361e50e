"""Who may ask an actor, where and when: in the trio run that started it, while it lives there.

It keeps the thread's id, which every operation is compared with at the door, and the clock of the
run, so that it can tell ages in any thread and after the run. In a process that is forked, all
actors that run are closed by a hook: what is left of them there sends nothing.
"""

from __future__ import annotations

import os
import sys
import weakref
from threading import get_ident
from typing import TYPE_CHECKING, Final

import trio

from .._errors import CounterClosedError, InstanceConflictError
from .._instance._session import Phase, Session
from ._life import Course, Event, Life

if TYPE_CHECKING:
    from ._statistics import CounterState

_FENCED: Final = Phase.FENCED  # looked up once, see `_session`


def closed_text(state: str) -> str:
    """Return the message for an operation that comes before the start or after the end."""
    return (
        f"the counter is {state}: operations work inside the block of `open`, or after "
        "`await nursery.start(counter.run)` and until that has ended"
    )


class Admission:
    """Whether one actor takes operations, and the errors of those that it does not take."""

    def __init__(self, session: Session) -> None:
        self.open = False  # to operations: it runs, and is not superseded
        self.thread: int | None = None  # where it runs, while it does
        self.forked = False  # it runs in the process that this one was forked from
        self._course = Course()
        self._session = session
        self._clock: trio.abc.Clock | None = None  # of the run it runs in, or ran in

    @property
    def state(self) -> CounterState:
        """Where in its life it is, in the words of `CounterStatistics`."""
        if self.life is Life.RUNNING and not self._session.registered:
            return "starting"  # detached, and not registered yet
        return self.life.value

    @property
    def life(self) -> Life:
        """Where in its life it is."""
        return self._course.now

    @property
    def instance_id(self) -> str | None:
        """The name of the instance; None if it is not drawn yet."""
        return self._session.instance or None

    async def wait_open(self) -> None:  # noqa: ASYNC910 - internal: callers make the checkpoint
        """Do as `check_task` and `check_open`, but a cancelled caller gets its `Cancelled` first.

        One cancellation may end both the counter and those who use it, in any order.
        """
        self.check_task()
        if not self.open:
            await trio.lowlevel.checkpoint_if_cancelled()
        self.check_open()

    def check_open(self) -> None:
        """Raise the error for an operation that cannot start.

        It comes before the start or after the end, from another thread, in a forked process, or
        after another counter has taken the id over.
        """
        # First what is so of nearly every operation. The rest finds out what is wrong.
        if self.open and get_ident() == self.thread and self._session.phase is not _FENCED:
            return
        self.check_thread()
        if self.forked:
            raise CounterClosedError(
                "the counter runs in the process that this one was forked from, and is closed "
                "here: make another one after the fork"
            )
        if self._taken_over:
            raise self._conflict()
        life = self._course.now
        if life is not Life.RUNNING and life is not Life.AWAY:
            if life is Life.NEW and _asyncio_runs() and not trio.lowlevel.in_trio_task():
                raise RuntimeError(_elsewhere())
            state = "not started" if life is Life.NEW else life.value
            raise CounterClosedError(closed_text(state))

    @property
    def _taken_over(self) -> bool:
        """Whether another counter has the id now; the tasks of this one may not have ended yet."""
        return self._course.now is Life.SUPERSEDED or self._session.phase is Phase.FENCED

    def check_thread(self) -> None:
        """Raise RuntimeError in a thread that is not the one it runs in."""
        if self.thread is not None and get_ident() != self.thread:
            raise RuntimeError(_elsewhere())

    def check_task(self) -> None:
        """Raise RuntimeError where no task of trio runs, or one of another thread."""
        self.check_thread()
        if not trio.lowlevel.in_trio_task():
            raise RuntimeError(_elsewhere())

    def now(self) -> float:
        """Return the time by the clock of the run it runs in."""
        return trio.current_time() if self._clock is None else self._clock.current_time()

    def _conflict(self, remark: str = "") -> InstanceConflictError:
        if self._session.phase is Phase.REFUSED:
            return InstanceConflictError(
                f"a living counter has the instance_id {self._session.instance!r}, and "
                f"on_conflict is 'refuse'; nothing was changed{remark}"
            )
        return InstanceConflictError(
            f"another counter with instance_id {self._session.instance!r} has taken over; "
            f"this one changes nothing more{remark}"
        )

    # ------------------------------------------------------------ the run it is in

    def _enter_run(self) -> None:
        self.thread, self._clock = get_ident(), trio.lowlevel.current_clock()
        _running.add(self)

    def _leave_run(self) -> None:
        self.thread = None
        _running.discard(self)

    def abandon(self) -> None:
        """Close this copy of the counter, in a process that was forked.

        The counter itself goes on in the process that started it.
        """
        self._course.happens(Event.ABANDONED)
        self.open, self.thread = False, None
        self.forked = True
        self._session.abandon()


#: What to close in a process that is forked.
_running: Final = weakref.WeakSet[Admission]()


def _abandon_all() -> None:
    for actor in list(_running):
        actor.abandon()
    _running.clear()


if hasattr(os, "register_at_fork"):  # not everywhere
    os.register_at_fork(after_in_child=_abandon_all)


def _elsewhere() -> str:
    """Return the message for a call from where the counter's own trio run is not."""
    if _asyncio_runs():
        return (
            "called under asyncio: counters work in trio tasks only, so the program has to run on "
            "trio, as with hypercorn -k trio; from a thread beside trio that runs asyncio use "
            "trio.from_thread.run_sync, or trio.from_thread.run, with a trio_token"
        )
    return (
        "called outside the counter's own trio thread: from another thread use "
        "trio.from_thread.run_sync(counter.inc_nowait, key), or trio.from_thread.run for what is "
        "async"
    )


def _asyncio_runs() -> bool:
    """Tell whether asyncio runs in this thread, without importing it."""
    asyncio = sys.modules.get("asyncio")
    try:
        return asyncio is not None and asyncio.get_running_loop() is not None
    except RuntimeError:
        return False
