"""The life of the actors of all parts of a namespace as one life (P44, parts).

They have one instance id. They start, stop and are superseded together, and the end of one is the
end of all.

Part 0 registers before the others. So an instance with the wrong number of parts, or with an id
that it must leave to somebody else, finds out before it has disturbed anybody in another part.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

import trio

from .._errors import (
    CounterClosedError,
    DistkitError,
    InstanceConflictError,
)
from ._actor import Actor
from ._admission import closed_text
from ._groups import all_of, first_of, sole
from ._life import Life

if TYPE_CHECKING:
    from ._statistics import CounterState

_T = TypeVar("_T")

#: The states of parts that have all registered, the worst first.
_WORST_FIRST: Final = (
    Life.SUPERSEDED,
    Life.STOPPING,
    Life.AWAY,
    Life.STARTING,
    Life.RUNNING,
)

#: Seconds that parts which have registered have to leave, when the start is cancelled. Nobody has
#: counted anything yet. But the next one may want the same id, and would find it alive.
_FAREWELL: Final = 0.5


class SharedLife:
    """Owns the actors of all parts: whether they work, where in their life they are, their end."""

    def __init__(self, parts: Sequence[Actor], *, detached_start: bool) -> None:
        self.parts = parts
        self.failure: Exception | None = None  # what a stop could not do
        self._detached_start = detached_start
        self._begun = False  # `run` has been called; its parts begin in later turns
        self._working = False  # all parts have started, and none has ended
        self._stopping = False
        self._asked_to_stop = False  # by a caller, not by a part's end
        self._closed = trio.Event()
        self._ready = 0
        self._starting = trio.CancelScope()  # of the task that waits for a cancellation
        self._errors: dict[Actor, BaseException] = {}

    @property
    def state(self) -> CounterState:
        """Where in its life it is, in the words of `CounterStatistics`."""
        life = self.life
        if life is Life.RUNNING and any(part.state == "starting" for part in self.parts):
            return "starting"
        return life.value

    @property
    def life(self) -> Life:
        """Where in its life it is: where the part is that is worst off."""
        lives = {part.life for part in self.parts}
        if self._begun and lives == {Life.NEW}:
            return Life.STARTING
        if len(lives) == 1:
            return next(iter(lives))
        if not lives.isdisjoint((Life.SUPERSEDED, Life.STOPPING)):
            return Life.SUPERSEDED if Life.SUPERSEDED in lives else Life.STOPPING
        if Life.CLOSED in lives:
            return Life.STOPPING
        if self._ready < len(self.parts):
            return Life.STARTING
        return next(life for life in _WORST_FIRST if life in lives)

    @property
    def instance_id(self) -> str | None:
        """The name of the instance; None if it is not drawn yet."""
        return self.parts[0].instance_id

    async def of_each(self, work: Callable[[Actor], Awaitable[_T]]) -> list[_T]:
        """Do ``work`` with every part at the same time, and return what it returns."""
        return await all_of([partial(work, part) for part in self.parts])

    # ----------------------------------------------------------------- admission

    async def wait_open(self) -> None:  # noqa: ASYNC910 - internal: callers make the checkpoint
        """Do as `Actor.wait_open`."""
        self.check_task()
        if not self._is_open:
            await trio.lowlevel.checkpoint_if_cancelled()
            self.check_open()

    @property
    def _is_open(self) -> bool:
        return self._working and self.parts[0].open  # which a fork closes with all others

    def check_open(self) -> None:
        """Raise the error for an operation that comes too early, too late or at a wrong place."""
        self.check_thread()
        if self._is_open:
            return
        for part in self.parts:
            if part.life is Life.SUPERSEDED or self._working or self.life is Life.NEW:
                part.check_open()
        state = "not started" if self.life is Life.NEW else self.life.value
        raise CounterClosedError(closed_text(state))

    def check_thread(self) -> None:
        """Raise RuntimeError in a thread that is not the one it runs in."""
        self.parts[0].check_thread()

    def check_task(self) -> None:
        """Raise RuntimeError where no task of trio runs, or one of another thread."""
        self.parts[0].check_task()

    def now(self) -> float:
        """Return the time by the clock of the run it runs in."""
        return self.parts[0].now()

    # ---------------------------------------------------------------------- life

    @trio.lowlevel.enable_ki_protection
    async def run(self, started: Callable[[], None]) -> None:  # noqa: ASYNC910 - internal: callers make the checkpoint
        """Live in all parts: do as `Actor.run`."""
        self.check_task()
        if self.life is not Life.NEW:
            raise CounterClosedError(f"a counter runs once, and this one is {self.life.value}")
        self._begun = True
        name = self.instance_id or str(uuid.uuid4())
        for part in self.parts:
            part.call(name, trio.current_time())

        def ready() -> None:
            self._ready += 1
            if self._ready == len(self.parts):
                self._starting.cancel()
                self._working = not self._stopping
                if self._working:
                    started()

        failure: Exception | None = None
        try:
            await self._live(ready)
        except BaseException as error:  # noqa: ASYNC103 - says what the stop could not do
            failure = self._close()
            if failure is None:
                raise
            if sole(error) is not None:
                error.add_note(str(failure))
                raise
        else:
            failure = self._close()
        if failure is not None:
            raise failure

    @trio.lowlevel.enable_ki_protection
    async def _live(self, ready: Callable[[], None]) -> None:  # noqa: ASYNC910 - internal
        first, *others = self.parts
        try:
            async with trio.open_nursery() as outer:
                outer.start_soon(self._hurry_when_cancelled)
                async with trio.open_nursery() as nursery:
                    if self._detached_start:
                        others = list(self.parts)
                    else:
                        await nursery.start(self._host, first, ready)
                    if not self._stopping:
                        for part in others:
                            nursery.start_soon(self._host, part, ready)
                self._starting.cancel()
        finally:
            for part in self.parts:
                if part.life is Life.NEW:
                    part.dismiss()

    @trio.lowlevel.enable_ki_protection
    async def _hurry_when_cancelled(self) -> None:  # noqa: ASYNC910 - internal: it ends by being cancelled
        """Let the parts that have registered leave soon if the start is cancelled."""
        try:
            with self._starting:
                await trio.sleep_forever()
        except trio.Cancelled:
            if self._ready < len(self.parts):
                for part in self.parts:
                    part.leave_inherited()
                    part.hurry(_FAREWELL)
            raise

    @trio.lowlevel.enable_ki_protection
    async def _host(  # noqa: ASYNC114, ASYNC910 - only `_live` starts it; `run` is a checkpoint
        self,
        part: Actor,
        ready: Callable[[], None],
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Run a part; when it ends, for whatever reason, all others do."""
        waited_for = True

        def registered() -> None:
            nonlocal waited_for
            waited_for = False
            ready()
            task_status.started()

        try:
            if part.life is Life.NEW:  # else it was killed before this task ran
                await part.run(registered)
        except BaseException as error:  # noqa: ASYNC103 - told by `_close`
            self._errors[part] = sole(error) or error
            if not isinstance(self._errors[part], Exception):
                raise
        finally:
            self._working, self._stopping = False, True
            for other in self.parts:
                if part.life is Life.SUPERSEDED:
                    other.supersede()
                else:
                    if part.crashed is not None:
                        other.watches.close(part.crashed)
                    if self._ready < len(self.parts) and not self._asked_to_stop:
                        other.leave_inherited()
                    other.stop()
            if waited_for:
                task_status.started()

    def _close(self) -> Exception | None:
        """Return what has to be said of how the parts have ended."""
        self._working = False
        undone = sum(part.undone for part in self.parts)
        errors = [e for e in self._errors.values() if isinstance(e, Exception)]
        conflicts = [e for e in errors if isinstance(e, InstanceConflictError)]
        at_end = all(
            error is part.failure
            for part, error in self._errors.items()
            if isinstance(error, Exception)
        )
        failure: Exception | None = None
        if conflicts and any(part.life is Life.SUPERSEDED for part in self.parts):
            refused = (part for part in self.parts if part.refused)
            failure = next(refused, self.parts[0]).conflict(undone)
        elif errors and at_end:
            counts = {k: v for part in self.parts for k, v in part.refused_counts.items()}
            failure = self.parts[0].unfinished(undone, counts)
            assert failure is not None
            causes = (error.__cause__ for error in errors)
            failure.__cause__ = next(filter(None, causes), None)
        elif errors:
            # What nobody expected says more than what follows from it.
            failure = first_of(sorted(errors, key=lambda e: isinstance(e, DistkitError)))
        if any(part.failure is not None for part in self.parts):
            self.failure = failure
        self._closed.set()
        return failure

    def stop(self) -> None:
        """Ask for a graceful stop; `run` returns when it is done."""
        self._stopping = self._asked_to_stop = True
        for part in self.parts:
            part.stop()

    async def kill(self) -> None:
        """Do as `Actor.kill`, in all parts at once."""
        self.check_task()
        self._stopping = True
        if self.life is Life.NEW:
            await self.close()
            return
        await self.of_each(Actor.kill)
        await self._closed.wait()

    async def close(self) -> None:
        """Stop and wait for the end; raise what the stop could not do."""
        self.check_task()
        if self.life is Life.NEW:
            for part in self.parts:
                part.dismiss()
            self._closed.set()
        if self._closed.is_set() or any(part.forked for part in self.parts):
            await trio.lowlevel.checkpoint()
            return
        self.stop()
        await self._closed.wait()
        if self.failure is not None:
            raise self.failure
