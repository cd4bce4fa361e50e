"""The task that talks to the store: decide what to send, send it, receive, hand out; or rest.

What arrives while a batch is on its way goes together in the next one; of a crowd, half of it does
(`_crowd`).

================  ======================================================
decide            `Agenda.make_up`: a batch of the session, or a query
send, receive     `Requester.ask`, which returns the reply, `Lost` or `Refused`
hand out          `Session.receive`, then `Dispatch.settle`, here
================  ======================================================

While operations come one by one, their callers' tasks do all of this, and this task sleeps: see
`BatchLoop.send_alone` (P38, lone operation).

This file is longer than others: a turn of the loop goes one way, and each step has to be read with
those before and after it, and with the lone operation beside them. The steps themselves are in
modules of their own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable
from typing import Final, Literal, TypeAlias

import trio

from .._instance._pacing import Pacing
from .._instance._session import Phase, Session
from .._instance._session_view import Loss
from .._protocol._liveness import LivenessConfig
from .._protocol._messages import Applied, Entry, Kind, Load, MustResume, Previous, Reply, Request
from .._stores._contract import Link
from ._agenda import Agenda
from ._availability import Availability
from ._dispatch import Dispatch
from ._life import Course
from ._log import Log
from ._operations import LoneCaller, Operation
from ._requester import Lost, Refused, Requester

#: What becomes of a counter's slices at a clean stop; see `InstanceAwareCounter`.
OnExit: TypeAlias = Literal["leave", "linger"]

#: After so many seconds without an operation, a batch goes that only takes slices of the dead away.
#: It is long enough that a caller in a loop of single operations rarely waits behind such a batch.
_REAPING_PAUSE: Final = 0.0005
#: Seconds that are added for each other living instance. All of them do this at the same time, and
#: hundreds would leave the server no time for anything else.
_REAPING_TURN: Final = 0.004
#: After so many operations that came one by one, the next is expected to be alone too.
_SOLO_STREAK: Final = 4
# Looked up once, as elsewhere: see `_session`.
_FENCED: Final = Phase.FENCED
_REFUSED: Final = Phase.REFUSED
_LIVE: Final = Phase.LIVE
#: So many are looked at with each sign of life: it takes some milliseconds (I10, bounds).
_IDLE_AT_ONCE: Final = 10_000
#: A key without a slice is forgotten after this many thresholds without use.
_IDLE_THRESHOLDS: Final = 2


class BatchLoop:
    """Sends one batch after the other while there is work, and sleeps while there is none."""

    def __init__(  # noqa: PLR0917 - each is of another type
        self,
        log: Log,
        session: Session,
        dispatch: Dispatch,
        liveness: LivenessConfig,
        course: Course,
        on_exit: OnExit,
    ) -> None:
        self.on_exit: OnExit = on_exit
        # If the start has failed in another part, or was cancelled: whether what was inherited is
        # to stay when this ends. Else None.
        self.keeps_inherited: bool | None = None
        self.accepts_releases = True  # the end of a hold is told to the store
        self.look_due = False  # it is time to look at the store's settings
        self.availability = Availability(log, liveness.backoff_cap, course, dispatch.kept)
        self._pacing = Pacing(liveness.threshold)
        self.requester = Requester(self.availability, self._pacing)
        self._agenda = Agenda(session, dispatch, self.availability, self._pacing, liveness.period)
        self._log = log
        self._session = session
        self._dispatch = dispatch
        # What the store has lost, while it is told again; and since when.
        self._loss: tuple[Loss, float] | None = None
        # The last request of a start but a `Load`, and when it was first sent, by whichever try: a
        # repeated opening is no sign of life.
        self._begun: Request | None = None
        self._begun_at = 0.0
        self.returns = 0  # to a store that did not know enough of this instance
        self._registered = False  # its registration has been logged
        self._idle_patience = _IDLE_THRESHOLDS * liveness.threshold
        self.sleeper: trio.lowlevel.Task | None = None  # the task, if it has no work
        self._solo_streak = 0  # batches of one operation each, in a row
        self._solo_link: Link | None = None  # on which the next operation is sent by its caller
        self._lone: LoneCaller | None = None  # the caller that receives the answer itself
        self._sent: Request | None = None  # what a caller has sent, on the connection that is up
        self._failure: Exception | None = None  # what a caller's task ran into; this task raises it

    # -------------------------------------------------------------------- orders

    def wake(self) -> None:
        """Let the task look for work."""
        if self.sleeper is not None:
            task, self.sleeper = self.sleeper, None
            trio.lowlevel.reschedule(task)

    def send_alone(self, operation: Operation) -> bool:
        """Send an operation at once, from its caller's task, if it is expected to be alone.

        Returns whether it was sent. If so, the caller goes on with `receive_alone`, and the
        operation takes no more turns of the scheduler than it must (P38, lone operation). If not,
        it has to wait in the mailbox.
        """
        link = self._solo_link
        # Its deadline must not be over: what is cancelled before it is sent must never happen
        # (P33, cancelled callers).
        if (
            link is None
            or self.sleeper is None
            or self._sent is not None
            or self.look_due
            or not link.can_send_nowait
            or trio.current_effective_deadline() <= (now := trio.current_time())
        ):
            return False
        try:
            if not self._agenda.make_up_alone(operation, now):
                return False
            self._sent = request = self._session.request()
            assert request is not None
            link.send_nowait(request)
        except Exception as error:  # noqa: BLE001 - raised by the task, which all depend on
            self._failure = error
            return False
        self.requester.asked(link, now)
        self._lone = operation.task = LoneCaller()
        return True

    def send_now_or_wake(self) -> None:
        """Wake the task for an operation that has come to the mailbox.

        If it is expected to be alone, its batch is sent first, from the caller's task: `send_alone`
        sends plain additions only. The task does the rest while the store works.
        """
        link = self._solo_link
        if (
            link is not None
            and self.sleeper is not None
            and self._sent is None
            and link.can_send_nowait
        ):
            now = trio.current_time()
            if trio.current_effective_deadline() > now:
                try:
                    self._agenda.make_up(now)
                    self._sent = self._session.request()
                    if self._sent is not None:
                        link.send_nowait(self._sent)
                        # Before this task has its turn the deadline of the last one may be over.
                        self.requester.asked(link, now)
                except Exception as error:  # noqa: BLE001 - as above
                    self._failure = error
        self.wake()

    async def receive_alone(self, operation: Operation) -> tuple[int, int]:
        """Receive the answer to what `send_alone` has sent, and return what the operation found.

        A checkpoint. Only a plain answer is taken in here. Any other answer is left to the task;
        so is the rest of the work when this is cancelled.
        """
        me, link, request = self._lone, self._solo_link, self._sent
        assert me is not None
        assert link is not None
        assert request is not None
        try:
            waiting = link.wait_answer()
            if waiting is not None:
                await waiting
        except BaseException:
            operation(None)
            if self._lone is me:
                self.wake()
            raise
        if self._lone is me:
            self._lone = None
            try:
                reply = link.receive_nowait(request)
                if type(reply) is Applied and (found := self._answered_alone(reply)) is not None:
                    return found  # noqa: ASYNC910 - waiting for the answer was one
                self.wake()
            except Exception as error:  # noqa: BLE001 - as above
                self._failure = error
                self.wake()
        if me.result is not None:
            return me.result.unwrap()  # noqa: ASYNC910 - waiting for the answer was one
        operation.task = trio.lowlevel.current_task()
        values: tuple[int, int] = await trio.lowlevel.wait_task_rescheduled(operation)
        return values

    def _answered_alone(self, reply: Applied) -> Previous | None:
        """Take in the answer to what `send_alone` has sent, and return what the operation found.

        None if it was told that already, or if the task has to do the rest.

        `_hand_out` looks at more, but none of that can happen while the task sleeps.
        """
        self._sent = None
        self.requester.answered(reply)
        self._session.piece_size = self._pacing.piece_size
        found = self._session.receive_addition(reply)
        if found is not None:
            self._dispatch.settle_alone()
            return found
        update = self._session.receive(reply)
        self._agenda.backlog = update.backlog
        self._dispatch.settle(update, self.requester.answered_at)
        return None

    def beat(self) -> None:
        """Send a sign of life."""
        self._agenda.beat_due = True
        if self._dispatch.buffer is not None:  # no answer may come for long
            now = trio.current_time()
            self._dispatch.buffer.forget_idle(now, self._idle_patience, _IDLE_AT_ONCE)
        self.wake()

    def flush(self, *, urgent: bool = False) -> None:
        """Send the pending lax counts; ``urgent``: also if the store refuses."""
        self._agenda.flush(urgent=urgent)
        self.wake()

    def stop(self) -> None:
        """Send what waits, and end."""
        self._agenda.stopping = True
        self.availability.refusal = None  # one more try
        # Releases that were put off are tried once more, too, before all that waits. If each batch
        # tried them, those without room would be tried for ever.
        self._dispatch.releases.retry_deferred()
        self.availability.hurry()
        self.wake()

    def supersede(self) -> None:
        """Send nothing any more: another counter has the id in another part (P44, parts).

        The task may have been woken already, by an answer or a beat. Then no cancellation reaches
        it before it has sent the next request.
        """
        self._agenda.superseded = True

    def abandon(self) -> None:
        """Send nothing any more, in a process that was forked."""
        self._agenda.stopping, self.accepts_releases = True, False

    # ---------------------------------------------------------------------- task

    async def start(self, link: Link) -> None:
        """Take the id over. Refusals and lasting trouble fail the start."""
        await self.requester.start(link)
        session = self._session
        while (request := session.request()) is not None:
            if request != self._begun and not isinstance(request, Load):  # which is no sign of life
                self._begun, self._begun_at = request, trio.current_time()
            try:
                outcome = await self.requester.ask_to_start(link, request)
            except BaseException:
                session.lost()
                raise
            if isinstance(outcome, Lost):
                session.lost()
            else:
                session.receive(outcome)
        self.requester.heard_at = self._begun_at

    async def run(self, link: Link) -> bool:  # noqa: ASYNC910 - internal: callers make the checkpoint
        """Work until stopped, then leave; return whether another counter has taken the id over."""
        agenda, requester = self._agenda, self.requester
        while not agenda.superseded:
            if agenda.has_work():
                if not await requester.while_answered(self._work, link):
                    self._session.piece_size = self._pacing.piece_size
            elif agenda.stopping:
                break
            else:
                await self._rest()
        if self.keeps_inherited is not None:
            self.on_exit = "linger" if self.keeps_inherited and self._session.slices else "leave"
        finish = self._leave if self.on_exit == "leave" else self._end_holds
        while not agenda.superseded and not await requester.while_answered(finish, link):
            self._session.piece_size = self._pacing.piece_size
        return agenda.superseded  # noqa: ASYNC910 - internal: callers make the checkpoint

    async def _work(self, link: Link) -> None:  # noqa: ASYNC910 - internal: callers make the checkpoint
        """Send batches while there is something to send.

        After operations there may soon be more. So it waits for them here, until patience is over,
        which is cheaper than to come here anew. After a heartbeat it does not wait.
        """
        agenda, dispatch = self._agenda, self._dispatch
        while agenda.has_work():
            done, sent_by_caller = dispatch.operations_done, self._sent is not None
            await self._one_batch(link)
            if agenda.superseded:
                return
            answered = dispatch.operations_done - done
            if answered:
                self._solo_streak = self._solo_streak + 1 if answered == 1 else 0
            if sent_by_caller and dispatch.waiting:
                # That caller was not alone. It gets its answer, and time to ask again, before the
                # next batch: then its operation travels with those that wait. Else it and they
                # would take turns for ever.
                for _ in range(2):
                    await trio.lowlevel.cancel_shielded_checkpoint()
            elif answered and not (agenda.stopping or agenda.has_work()):
                # While the store refuses, each batch takes the refused releases along.
                alone = self._solo_streak >= _SOLO_STREAK and self.availability.refusal is None
                self._solo_link = link if alone else None
                try:
                    await self._rest()
                except BaseException:
                    if self._sent is not None:
                        self._sent = None
                        self._session.lost()
                    raise
                finally:
                    self._solo_link = None
                    if self._lone is not None:
                        self._lone = None
                        link.interrupt()
                if self._failure is not None:
                    raise self._failure

    async def _rest(self) -> None:
        """Sleep until there is work, or for a moment if the dead have slices to be taken away."""
        self._dispatch.crowd.back()
        living = self._agenda.backlog
        if not living:
            await self._sleep()
            return
        with trio.move_on_after(_REAPING_PAUSE + (living - 1) * _REAPING_TURN) as pause:
            await self._sleep()
        if pause.cancelled_caught:
            self._agenda.beat_due = True

    def _sleep(self) -> Awaitable[object]:
        def abort(_: object) -> trio.lowlevel.Abort:
            self.sleeper = None
            return trio.lowlevel.Abort.SUCCEEDED

        self.sleeper = trio.lowlevel.current_task()
        return trio.lowlevel.wait_task_rescheduled(abort)  # noqa: ASYNC105 - the caller awaits it

    # ------------------------------------------------------------------- batches

    async def _one_batch(self, link: Link) -> None:
        # A batch is made up only once it can be sent: until then callers may withdraw (P33,
        # cancelled callers). A request that its caller has sent may have its answer already, even
        # if the connection is gone by now. Such an answer must not be doubted.
        if not (link.connected or self._sent is not None or await self._connect(link)):
            self._agenda.beat_due = False  # connecting is tried again with the next beat
            return  # noqa: ASYNC910 - connecting was one
        now = trio.current_time()
        if self._session.idle:
            self.requester.sent_at = None  # of a query that had no answer
        self._agenda.make_up(now)
        await self._complete(link, now)
        if self.look_due and link.connected and not self._agenda.superseded:
            self.look_due = False
            if await self.requester.inspect(link):
                self._session.lost()

    async def _complete(self, link: Link, now: float) -> None:  # noqa: ASYNC910 - internal: callers make the checkpoint
        """Exchange requests and answers until the outstanding batch, or query, has ended."""
        session, requester, agenda = self._session, self.requester, self._agenda
        request = self._sent or session.request() or self._dispatch.queries.request()
        while request is not None:
            sent, self._sent = self._sent is not None, None
            if not sent and now >= requester.patience.deadline:
                await trio.sleep_forever()  # patience is over, so nothing must be sent any more
            try:
                outcome = await requester.ask(link, request, now, sent=sent)
            except BaseException:
                session.lost()
                raise
            if agenda.superseded:
                return  # noqa: ASYNC910 - asking was one
            if isinstance(outcome, Lost):
                # The next answer may come from another server; see `_connect`.
                if outcome.in_doubt or session.phase is Phase.LOAD:
                    session.lost()
                await requester.pause()
                if session.idle or agenda.superseded:
                    break  # a query ends its turn, as a sign of life may be due (P41, turns)
                now = trio.current_time()
            elif isinstance(outcome, Refused):
                if session.idle:  # it was a query, which says nothing of batches
                    self._dispatch.queries.fail(outcome.error)
                    break
                agenda.refused()
                self._refused(outcome)
                return  # noqa: ASYNC910 - asking was one
            else:
                now = requester.answered_at
                self._hand_out(request, outcome, now)
            request = session.request() or self._dispatch.queries.request()
            if request is not None and not link.connected:
                if not await self._connect(link):
                    return  # noqa: ASYNC910 - asking was one
                now = trio.current_time()  # the patience with the next answer begins
                request = session.request() or self._dispatch.queries.request()
        requester.sent_at = None

    async def _connect(self, link: Link) -> bool:
        """Make a connection, however long that takes; False if there is nothing to send on it.

        Then the store refuses us, or another counter has the id now.
        """
        if self._session.phase is Phase.LOAD:
            # Loading begins anew: to another server the cursor means something else.
            self._session.lost()
        refused = await self.requester.connect(link)
        if refused is None:
            return not self._agenda.superseded
        self._agenda.refused()
        self._refused(refused)
        self._dispatch.fail_waiting(refused.error)
        return False

    def _hand_out(self, request: Request, reply: Reply, now: float) -> None:
        """Take an answer in, and tell all whom it concerns."""
        session, dispatch = self._session, self._dispatch
        session.piece_size = self._pacing.piece_size
        query = dispatch.queries.taken
        if query is not None and request is query.request:
            self.availability.over(query=True)
            dispatch.operations_done += dispatch.queries.answered(reply)
            return
        if self.availability.over():
            self._agenda.recovered()
        if type(reply) is MustResume and self._loss is None and session.registered:
            self._loss = session.loss(reply), now
            self.returns += 1
        told = self._told_at(reply, now)
        update = session.receive(reply)
        phase = session.phase
        if phase is not _LIVE or self._loss is not None or not self._registered:
            self._note(now)
        self._agenda.backlog = update.backlog
        if phase is _FENCED or phase is _REFUSED:
            self._agenda.superseded = True
            return
        if dispatch.buffer is not None:
            dispatch.buffer.behind = now - told
        dispatch.settle(update, now)
        if dispatch.buffer is not None:
            dispatch.buffer.behind = 0.0
            dispatch.buffer.forget_idle(now, self._idle_patience)
            if dispatch.flush_waiters.waiting and dispatch.pending:
                self._agenda.flush(urgent=False)  # the counts they wait for may be pending again

    def _told_at(self, reply: Reply, now: float) -> float:
        """Return an instant that is not younger than any value in an answer that came ``now``."""
        if self._loss is not None:
            return self._loss[1]  # pieces of the return have told the values, one after the other
        heard_at = self.requester.heard_at
        if type(reply) is Applied and reply.journal is None and heard_at is not None:
            return heard_at  # they are those of the first execution (P14, what is remembered)
        return now

    def _note(self, now: float) -> None:
        """Log what has become of the session, if something has."""
        session = self._session
        if session.phase is _FENCED or session.phase is _REFUSED:
            return  # the actor logs it
        if session.registered and not self._registered:
            self.note_registered()
        if session.phase is _LIVE and self._loss is not None:
            loss, since = self._loss
            self._loss = None
            self._log.returned(loss, now - since, len(session.slices), len(session.withheld))

    def note_registered(self) -> None:
        """Log that the store has registered the instance."""
        self._registered = True
        self._log.registered(len(self._session.slices))

    def _refused(self, refused: Refused) -> None:
        """Take in a refusal: operations fail, unless the batch may have run before and is kept."""
        if self._session.phase is Phase.LIVE and not self._session.in_doubt:
            self.requester.sent_at = None
            self._session.withdraw()
            self._dispatch.refused(refused.error)
        else:
            if self._session.phase is Phase.LOAD:
                self._session.lost()  # others may connect anew before it goes on: see `_connect`
            self._dispatch.fail_waiting(refused.error)

    # ---------------------------------------------------------------------- exit

    async def _leave(self, link: Link) -> None:  # noqa: ASYNC910 - internal: callers make the checkpoint
        """Take the own slices back and say good-bye, in bounded steps (P27, leaving)."""
        self.accepts_releases = False
        session, left = self._session, deque[str]()
        used = session.used
        ends = (Phase.LEFT, Phase.FENCED, Phase.REFUSED)
        while session.phase not in ends and self.availability.refusal is None:
            if session.idle:
                left = left or deque(session.slices)
                some = [left.popleft() for _ in range(min(session.bulk_size, len(left)))]
                entries = [Entry(Kind.PUT, key, 0) for key in some]
                # The last to leave is the last who can find that somebody has died.
                session.begin(entries, leave=not left, budget=self._agenda.idle_budget)
                used = session.used
            if link.connected or await self._connect(link):
                await self._complete(link, trio.current_time())
            if session.used != used:  # it had to resume, which has brought all slices back
                left.clear()

    async def _end_holds(self, link: Link) -> None:  # noqa: ASYNC910 - internal: callers make the checkpoint
        """Take the counts of all holds back, as nobody will do it later; the slices stay.

        P36, holds.
        """
        self._dispatch.releases.release_all()
        while self.availability.refusal is None and self._agenda.has_work():
            await self._one_batch(link)
