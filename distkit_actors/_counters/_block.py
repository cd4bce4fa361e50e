"""The block that runs a counter, in a nursery that stays out of sight."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

import trio

from .._actor._groups import bare, let_interrupt_out, one_of, sole
from .._errors import DistkitError, InstanceConflictError

if TYPE_CHECKING:
    from .._actor._partitioned import AnyActor

_C = TypeVar("_C")


@asynccontextmanager
async def running(counter: _C, actor: AnyActor) -> AsyncGenerator[_C]:
    """Return a block that runs ``actor``, which is the actor of ``counter``, and gives ``counter``.

    One error comes out of it: that of the body or that of the counter, by the table in
    ``docs/semantics.md``.
    """
    actor.check_task()
    raised: BaseException | None = None  # by the body, or by what cancels it
    hidden: BaseException | None = None  # by the nursery that nobody knows of
    body, end = trio.CancelScope(), _End()
    try:
        async with trio.open_nursery() as nursery:
            try:
                with body:
                    try:
                        await trio.lowlevel.checkpoint_if_cancelled()  # then nothing is begun
                        await nursery.start(_host, actor, body, end)
                        if end.error is None:
                            yield counter
                    except Exception as error:  # noqa: BLE001 - raised below, as it is
                        raised = error
            except BaseException as error:  # noqa: BLE001, ASYNC103 - raised below
                raised = error
            try:
                actor.stop()
            finally:
                end.life.shield = False  # an interrupt that comes here ends it, too
    except BaseException as error:  # noqa: BLE001, ASYNC103 - raised below
        hidden = error
    let_interrupt_out(raised, hidden, end.error)  # that came during the stop
    if raised is None or sole(raised) is None:
        # The body was only cancelled: the error that has ended the counter says more.
        raised = (hidden and sole(hidden)) or end.error or raised or (hidden and one_of(hidden))
    elif not end.known_to(raised):
        raised.add_note(f"the counter has ended with an error, too: {end.error}")
    if raised is not None:
        raise raised
    await trio.lowlevel.checkpoint_if_cancelled()  # nothing in the nursery has noticed


async def _host(  # noqa: ASYNC114, ASYNC910 - only `running` starts it; `run` is a checkpoint
    actor: AnyActor, body: trio.CancelScope, end: _End, task_status: trio.TaskStatus[None]
) -> None:
    """Run the actor. An error of it cancels the body, and is raised by `running`.

    Once the body runs, nothing cancels it: what the body does is counted until the body has ended,
    however long that takes after a cancellation. Then `running` stops the actor, which takes
    ``exit_grace`` seconds at most.
    """
    started = False

    def start() -> None:
        nonlocal started
        started = True
        # A start that is cancelled has to end by itself: then the body does not run.
        end.life.shield = trio.current_effective_deadline() > -math.inf
        task_status.started()

    try:
        with end.life:
            await actor.run(start)
    except BaseException as error:  # noqa: BLE001, ASYNC103 - raised by `running`
        end.error = sole(error)
        if end.error is None:
            raise one_of(error) from None  # noqa: ASYNC104 - a cancellation out of its group
        body.cancel()
        if not started:
            if isinstance(end.error, DistkitError):
                bare(end.error)
            task_status.started()


class _End:
    """How the life of a counter ends: what shields it, and the error that `running` raises."""

    def __init__(self) -> None:
        self.life = trio.CancelScope()
        self.error: BaseException | None = None

    def known_to(self, raised: BaseException) -> bool:
        """Whether the error of the body says the same, so that it needs no note."""
        conflict = isinstance(self.error, InstanceConflictError)
        return (
            self.error is None
            or self.error is raised
            or (conflict and isinstance(raised, InstanceConflictError))
        )
