"""Commands of several tasks on one connection, and the answers, which come in the same order.

There is no task that receives. Of those who wait for an answer one receives for all, and hands out
what has come; when its own answer is there, it lets the next one of those who wait do that. The
same goes for sending what did not fit into the socket. So a command that is alone costs no turn of
the scheduler more than on a connection of its own.

=================  =============================================================
a call is          until
=================  =============================================================
on its way         its answer is handed out, or the connection is lost
given up           the same, but nobody is told: its task was cancelled
over               (it has an answer, or an error)
=================  =============================================================

A task that is cancelled gives up its own call and nothing else: what it has sent stays sent, what
it has not is sent by others, and the answer that comes is thrown away in its turn.

An interrupt by the keyboard waits until a command, or an answer, is where it belongs: others use
the connection, too.

Heartbeats are gathered until all tasks that run now have sent theirs; see `_heartbeats`.

This file is longer than others: whoever sends, receives or gives up changes the same line of calls.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, Literal, Protocol, TypeAlias, cast

import hiredis
import trio

from ..._errors import StoreUnavailableError
from .._contract import StoreSilentError
from ._connection import LOST, Answer, ErrorReplyError, copy_of
from ._heartbeats import Heartbeat, in_groups, write_together
from ._silence import Silence
from ._sockets import CLOSED

#: What comes in answer to a command.
Message: TypeAlias = "Answer | ErrorReplyError"


_LONG_AGO: Final = float("-inf")


class Stream(Protocol):
    """What it needs of a `SocketStream`."""

    unsent: bytearray

    def write(self, data: bytes) -> None: ...
    async def flush(self) -> None: ...
    async def receive_some(self) -> bytes | None: ...
    def receive_nowait(self) -> bytes: ...
    def interrupt(self) -> None: ...
    def close(self) -> None: ...


class Words(Protocol):
    """Who finds the words for what has failed, and leaves out secrets."""

    def failure(self, error: Exception) -> StoreUnavailableError: ...
    def withhold(self, error: ErrorReplyError) -> None: ...


class Call:
    """A command that was sent, and its answer once that is there."""

    __slots__ = ("answer", "over", "pipeline", "posted_at", "sharing", "task", "waiter")

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.posted_at = pipeline.time_if_slow()
        self.sharing = 0  # how many calls have one answer in common, if it is the first of several
        self.over = False
        self.answer: Message | StoreUnavailableError = None
        self.waiter: trio.lowlevel.Task | None = None  # that waits for it, whatever it does
        self.task: trio.lowlevel.Task | None = None  # the same, while it sleeps

    def end(self, answer: Message | StoreUnavailableError) -> None:
        """Note the answer, and wake who waits for it."""
        self.over, self.answer = True, answer
        if self.task is not None:
            self.wake()

    def wake(self) -> None:
        """Let its task go on, which sleeps."""
        assert self.task is not None
        task, self.task = self.task, None
        trio.lowlevel.reschedule(task)


class Pipeline:
    """A connection that is made, with those who use it.

    Once it is lost (``up`` is False), all calls are over, and none succeeds any more.

    Args:
        stream: The connection; the pipeline closes it.
        reader: What reads answers. Nothing has been fed that is not read.
        words: Who finds the words for what fails.
        silence: What other connections to the server have taught of how slow it is.
    """

    def __init__(
        self, stream: Stream, reader: hiredis.Reader, words: Words, silence: Silence
    ) -> None:
        self.up = True
        self._stream = stream
        self._reader = reader
        self._next_answer = cast(
            "Callable[[], Answer | ErrorReplyError | Literal[False]]", reader.gets
        )
        self._words = words
        self._calls: deque[Call] = deque()  # on their way, given up or not; oldest first
        self._gathered: list[tuple[Call, Heartbeat]] = []  # not sent yet; in no line yet
        self._receiving = False
        self._sending: Call | None = None  # whose task sends
        self._woken: Call | None = None  # whose task is to receive or to send, and has not run yet
        self._clock = trio.lowlevel.current_clock()
        self._silence = silence
        self._owes_since = 0.0  # when the first command was sent that has no answer …
        self._heard_at = self._clock.current_time()  # … or when something came, if that is later
        self._loss: StoreUnavailableError | None = None

    def time_if_slow(self) -> float:
        """Return the time, if it matters how long answers take: the server was found slow."""
        return self._clock.current_time() if self._silence.least else _LONG_AGO

    # ------------------------------------------------------------------------ calls

    @trio.lowlevel.enable_ki_protection
    def post(self, command: bytes) -> Call:
        """Send a command, as far as that goes without waiting; `receive` follows."""
        call = Call(self)
        if self._gathered:
            self._send_gathered()
        if self.up:
            if not self._calls:
                self._owes_since = self._clock.current_time()
            self._calls.append(call)
            self._stream.write(command)
        else:
            call.end(self._loss or StoreUnavailableError(LOST))
        return call

    def post_heartbeat(self, heartbeat: Heartbeat) -> tuple[Call, bool]:
        """Have a heartbeat sent together with others.

        Returns its call, and whether it is the first one. If so, the caller lets all others that
        run now add theirs, and calls `send_gathered`.
        """
        call, gathered = Call(self), self._gathered
        if not self.up:
            call.end(self._loss or StoreUnavailableError(LOST))
            return call, False
        gathered.append((call, heartbeat))
        return call, len(gathered) == 1

    def send_gathered(self) -> None:
        """Send the heartbeats that have been gathered, if nobody has done so since."""
        if self._gathered:
            self._send_gathered()
            if self._stream.unsent:
                self._pass_on()

    @trio.lowlevel.enable_ki_protection
    def _send_gathered(self) -> None:
        gathered, self._gathered = self._gathered, []
        if not self._calls:
            self._owes_since = self._clock.current_time()
        commands = list[bytes]()
        for some in in_groups(gathered):
            if len(some) > 1:
                some[0][0].sharing = len(some)
            self._calls.extend(call for call, _ in some)
            commands.append(write_together([heartbeat for _, heartbeat in some]))
        self._stream.write(b"".join(commands))

    async def receive(self, call: Call) -> Answer:
        """Return the answer to a call. A checkpoint.

        When cancelled, the call is given up, and nothing else changes. It may be received again,
        also by another task, with the same answer.

        Raises:
            ErrorReplyError: The answer is an error.
            StoreUnavailableError: The connection is lost.
        """
        if call.over:
            await trio.lowlevel.checkpoint()
        while not call.over:
            await self.wait(call)
        answer = call.answer
        if isinstance(answer, Exception):
            if isinstance(answer, ErrorReplyError):
                self._words.withhold(answer)
                raise answer
            raise copy_of(answer)
        return answer  # noqa: ASYNC910 - one of the branches was one

    async def wait(self, call: Call) -> None:  # noqa: ASYNC910 - a checkpoint if it has to wait
        """Wait until a call is over, or `interrupt` is called. A checkpoint if it has to wait.

        It raises nothing, and when cancelled nothing changes: any task can receive the call.
        """
        call.waiter = task = trio.lowlevel.current_task()
        try:
            while not call.over and call.waiter is task:
                if self._stream.unsent and self._sending is None:
                    await self._send(call)
                elif self._receiving:
                    await self._sleep(call)
                else:
                    await self._receive()
        finally:
            if self._calls or self._gathered:
                self._pass_on()

    def interrupt(self, call: Call) -> None:
        """Have `wait` return for a call, if a task is in it: another one may receive it now."""
        call.waiter = None
        if call.task is not None:
            call.wake()
        elif not call.over:
            self._stream.interrupt()  # in case that it receives or sends for all

    @trio.lowlevel.enable_ki_protection
    async def _receive(self) -> None:
        """Receive once, for all."""
        self._receiving = True
        try:
            data = await self._stream.receive_some()
        except trio.ClosedResourceError:
            return  # lost, or to see who sends  # noqa: ASYNC910 - receiving was one
        except Exception as error:  # noqa: BLE001 - what they raise is much more than OSError
            self._fail(error)
            return  # noqa: ASYNC910 - receiving was one
        finally:
            self._receiving = False
        if data:
            self._take(data)
        elif data is not None:
            self._fail(trio.BrokenResourceError(CLOSED))

    @trio.lowlevel.enable_ki_protection
    async def _send(self, call: Call) -> None:  # noqa: ASYNC910 - internal: receiving is one
        """Send for all what did not fit into the socket."""
        self._sending = call
        self._pass_on()  # to one who receives meanwhile
        try:
            await self._stream.flush()
        except trio.ClosedResourceError:
            pass  # lost, or the answer is there
        except Exception as error:  # noqa: BLE001 - as above
            self._fail(error)
        finally:
            self._sending = None

    async def _sleep(self, call: Call) -> None:
        """Wait until a call is over, or it is its task's turn to receive or to send."""

        def abort(_: object) -> trio.lowlevel.Abort:
            call.task = None
            return trio.lowlevel.Abort.SUCCEEDED

        call.task = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(abort)
        if self._woken is call:
            self._woken = None

    def _pass_on(self) -> None:
        """See that somebody receives and somebody sends, as long as anybody waits."""
        sends = bool(self._stream.unsent) and self._sending is None
        if self._woken is not None or (self._receiving and not sends):
            return
        for call in (*self._calls, *(call for call, _ in self._gathered)):
            if call.task is not None:
                self._woken = call
                call.wake()
                return
        if sends and self._receiving:
            self._stream.interrupt()  # the only one who waits receives, and can do both

    # ---------------------------------------------------------------------- answers

    @trio.lowlevel.enable_ki_protection
    def _take(self, data: bytes) -> None:
        """Hand out the answers that have come."""
        self._heard_at = now = self._clock.current_time()
        if self._silence.least and self._calls:
            self._silence.heard(now - self._calls[0].posted_at)
        next_answer, calls = self._next_answer, self._calls
        try:
            self._reader.feed(data)
            while (answer := next_answer()) is not False:
                if not calls:
                    self._fail(hiredis.ProtocolError(f"an answer to nothing: {answer!r:.100}"))
                    return
                call = calls[0]
                if call.sharing:
                    self._share_out(answer, call.sharing)
                    continue
                calls.popleft()
                call.end(answer)
                if call is self._sending:
                    self._stream.interrupt()  # others send the rest
        except Exception as error:  # noqa: BLE001 - what reads them may raise anything
            self._fail(error)

    def _share_out(self, answer: Message, count: int) -> None:
        """Hand out an answer that the next ``count`` calls have in common: to each its own part."""
        if isinstance(answer, ErrorReplyError):
            parts: list[Message] = [ErrorReplyError(answer.code, answer.text) for _ in range(count)]
        elif isinstance(answer, list) and len(answer) == count:
            parts = list(answer)
        else:
            raise hiredis.ProtocolError(f"an answer to {count} heartbeats: {answer!r:.100}")
        for part in parts:
            call = self._calls.popleft()
            call.end(part)
            if call is self._sending:
                self._stream.interrupt()

    # -------------------------------------------------------------------- being lost

    def lose(self, loss: StoreUnavailableError) -> None:
        """Close the connection. Whoever has a call on its way is told ``loss``."""
        if self.up:
            self.up, self._loss = False, loss
            self._stream.close()
            calls = [*self._calls, *(call for call, _ in self._gathered)]
            self._calls, self._gathered = deque(), []
            for call in calls:
                call.end(loss)

    @trio.lowlevel.enable_ki_protection
    def lose_if_silent(self, patience: float) -> None:
        """Close the connection if it is dead, for one whose patience is over: ``patience`` seconds.

        It is not if it brings answers to others: then the server has much to do.
        """
        if not self.up:
            return
        if data := self._stream.receive_nowait():
            self._take(data)  # who receives has only not come to it yet
            self._stream.interrupt()  # and may have its answer now
        elif self._silence.is_dead(self._silent_for(), patience):
            self.lose(StoreSilentError(f"{LOST}: no answer for {patience:g} seconds"))

    def _silent_for(self) -> float:
        """Return for how many seconds it has owed an answer and brought nothing."""
        return self._clock.current_time() - max(self._owes_since, self._heard_at)

    def _fail(self, error: Exception) -> None:
        self.lose(self._words.failure(error))
