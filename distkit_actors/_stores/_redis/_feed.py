"""One connection for all who listen to a node, each to a channel.

As with a `Pipeline` there is no task that receives: of those who wait one receives for all. A
channel is subscribed to when its first listener comes, and given up with the last one that goes.
The server is asked for a sign of life after a silence, once for all. A feed may be of sharded
channels, which the nodes of a cluster have from version 7.0 on: who listens is told when the slot
of a channel has moved.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, cast

import hiredis
import trio

from ..._errors import StoreError, StoreUnavailableError
from .._contract import StoreSilentError
from ._connection import LOST, Answer, ErrorReplyError, copy_of, pack
from ._listener import NOTHING, Listener
from ._reply_errors import to_store_error
from ._sockets import CLOSED
from ._stream import StreamConnection
from ._subscription import ADVICE, NO_REDIS, changed_keys

_ELSEWHERE: Final = "another server serves now"


class Feed:
    """A connection that is made, with those who listen on it, until it is lost.

    Args:
        connection: Who finds the words for what fails.
        patience: Seconds of silence after which the server is asked for a sign of life, and
            that this may take.
        serves: Whether the server serves anybody still, as far as is known.
        sharded: Whether its channels are.
    """

    def __init__(
        self,
        connection: StreamConnection,
        patience: float,
        serves: Callable[[], bool],
        *,
        sharded: bool,
    ) -> None:
        self.loss: StoreError | None = None
        self._words = connection
        self._stream, self._reader = connection.take()
        self._patience = patience
        self._serves = serves
        self._verb_prefix, self._kind_prefix = (b"S", b"s") if sharded else (b"", b"")
        self._listeners: dict[bytes, set[Listener]] = {}  # by channel
        self._asked: deque[tuple[bytes, bytes]] = deque()  # commands without an answer
        self._given_up = b""  # the channel, if the last answer seems to be to an UNSUBSCRIBE
        self._receiving = False
        self._since = trio.current_time()  # when it was heard of, or asked for a sign of life
        self._pinged = False
        self._looked_at = self._since  # whether another server has taken over

    # --------------------------------------------------------------------- listening

    async def subscribe(self, listener: Listener) -> None:  # noqa: ASYNC910 - internal: callers make the checkpoint
        """Listen to a channel. Raises `ErrorReplyError` or `StoreError`.

        When cancelled, it does not listen.
        """
        listener.feed, listener.confirmed, listener.refusal = self, False, None
        listener.untold = NOTHING
        others = self._listeners.setdefault(listener.channel, set())
        listener.confirmed = any(other.confirmed for other in others)
        if not others:
            self._ask(b"SUBSCRIBE", listener.channel)
        others.add(listener)
        try:
            with trio.move_on_after(self._patience):
                await self._listen_until(listener, lambda: listener.confirmed or listener.refusal)
        finally:
            if not listener.confirmed:
                self.leave(listener)
        if listener.refusal is not None:
            raise ErrorReplyError(listener.refusal.code, listener.refusal.text)
        if not listener.confirmed:
            if trio.current_time() - self._since >= self._patience:
                self._lose(self._silent())
            raise copy_of(self.loss or self._silent())

    async def wait(self, listener: Listener) -> frozenset[str] | None:
        """Return the next changes. A checkpoint; when cancelled, nothing is lost."""
        if listener.untold != NOTHING or self.loss is not None:
            await trio.lowlevel.checkpoint()
        await self._listen_until(
            listener, lambda: listener.untold != NOTHING or listener.feed is not self
        )
        if self.loss is not None:
            self.leave(listener)
            raise copy_of(self.loss)
        if listener.feed is not self:
            raise StoreUnavailableError(_ELSEWHERE)
        changed, listener.untold = listener.untold, NOTHING
        return changed  # noqa: ASYNC910 - one of the branches was one

    def leave(self, listener: Listener) -> None:
        """Listen no more."""
        if listener.feed is not self:
            return
        listener.feed, listener.confirmed = None, False
        others = self._listeners.get(listener.channel, set())
        others.discard(listener)
        if not others and self._listeners.pop(listener.channel, None) is not None:
            self._ask(b"UNSUBSCRIBE", listener.channel)

    # --------------------------------------------------------------------- receiving

    async def _listen_until(  # noqa: ASYNC910 - internal: receiving is one
        self, listener: Listener, over: Callable[[], object]
    ) -> None:
        """Receive for all, or sleep while somebody else does, until something has come."""
        try:
            while not over() and self.loss is None:
                if self._receiving:
                    await self._sleep(listener)
                    continue
                self._receiving = True
                try:
                    await self._receive()
                finally:
                    self._receiving = False
        finally:
            if not self._receiving:
                self._wake_one()

    async def _receive(self) -> None:
        stream, data = self._stream, None
        try:
            with trio.CancelScope(deadline=self._since + self._patience) as silence:
                if stream.unsent:
                    await stream.flush()
                else:
                    data = await stream.receive_some()
        except trio.ClosedResourceError:
            return  # lost  # noqa: ASYNC910 - receiving was one
        except Exception as error:  # noqa: BLE001 - what they raise is much more than OSError
            self._lose(self._words.failure(error))
            return  # noqa: ASYNC910 - receiving was one
        if data:
            self._take(data)
        elif data is not None:
            self._lose(self._words.failure(trio.BrokenResourceError(CLOSED)))
        elif silence.cancelled_caught:
            if come := stream.receive_nowait():  # while nobody received
                self._take(come)
            elif self._pinged:
                self._lose(self._silent())
            else:
                self._ask(b"PING")

    async def _sleep(self, listener: Listener) -> None:
        def abort(_: object) -> trio.lowlevel.Abort:
            listener.task = None
            return trio.lowlevel.Abort.SUCCEEDED

        listener.task = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(abort)

    def _wake_one(self) -> None:
        """See that somebody receives, as long as anybody waits."""
        for listeners in self._listeners.values():
            for listener in listeners:
                if listener.task is not None:
                    listener.wake()
                    return

    def _ask(self, verb: bytes, channel: bytes = b"") -> None:
        """Send a command, whose answer comes among what is announced."""
        if self.loss is not None:
            return
        if verb == b"PING":
            self._pinged, self._since = True, trio.current_time()
        elif not self._asked:
            self._since = trio.current_time()
        self._send(verb, channel)
        if verb == b"UNSUBSCRIBE" and self._verb_prefix:
            self._asked.append((b"PING", channel))  # shows where its answer ends: see `_hand_out`
            self._stream.write(pack((b"PING",)))

    def _send(self, verb: bytes, channel: bytes = b"") -> None:
        self._asked.append((verb, channel))
        self._stream.write(pack((self._verb_prefix + verb, channel) if channel else (verb,)))

    def _take(self, data: bytes) -> None:
        """Hand out what has come."""
        now = trio.current_time()
        self._since, self._pinged = now, False
        try:
            self._reader.feed(data)
            while self.loss is None and (message := self._reader.gets()) is not False:
                self._hand_out(cast("Answer | ErrorReplyError", message))
        except Exception as error:  # noqa: BLE001 - what reads them may raise anything
            self._lose(self._words.failure(error))
        if now - self._looked_at >= self._patience:
            self._looked_at = now
            self._let_go()

    def _let_go(self) -> None:
        """Let those go of whose changes another server tells now."""
        if not self._serves():
            self._lose(StoreUnavailableError(_ELSEWHERE))
            return
        listeners = [one for those in self._listeners.values() for one in those]
        for listener in listeners:
            if listener.confirmed and not listener.serves():
                self.leave(listener)
                listener.wake()

    def _hand_out(self, message: Answer | ErrorReplyError) -> None:
        match message:
            case [b"message" | b"smessage", bytes() as channel, bytes() as payload]:
                changed = changed_keys(payload)
                for listener in self._listeners.get(channel, ()):
                    listener.tell(changed)
                return
            case [b"sunsubscribe", bytes() as channel, int()] if not self._asked or self._asked[
                0
            ] != (b"UNSUBSCRIBE", channel):  # its slot has moved
                if not any(other == channel for _, other in self._asked):
                    for listener in self._listeners.pop(channel, ()):
                        listener.dismiss()
                return
            case ErrorReplyError(code=str()) if (
                self._asked and self._asked[0] == (b"PING", self._given_up) and self._given_up
            ):
                # This PING is behind an UNSUBSCRIBE. The notice of a moved slot was taken for the
                # answer to that. This error is the real one.
                self._words.withhold(message)
                self._given_up = b""
                return
            case _ if self._asked:
                verb, channel = self._asked.popleft()
                told = verb == b"UNSUBSCRIBE" and not isinstance(message, ErrorReplyError)
                self._given_up = channel if told else b""
            case _:
                raise hiredis.ProtocolError(f"an answer to nothing: {message!r:.100}")
        if isinstance(message, ErrorReplyError):
            self._words.withhold(message)
            if verb == b"SUBSCRIBE":
                self._end_of_asking(channel, message)
            elif verb == b"UNSUBSCRIBE" and message.code is not None:
                pass  # the server goes on with the channel, whose messages go to nobody
            else:
                self._lose(to_store_error(message, ADVICE))
        elif verb == b"SUBSCRIBE":
            match message:
                case [kind, bytes() as confirmed, int()] if (
                    kind == self._kind_prefix + b"subscribe" and confirmed == channel
                ):
                    self._end_of_asking(channel, None)
                case _:
                    self._lose(StoreError(NO_REDIS))

    def _end_of_asking(self, channel: bytes, refusal: ErrorReplyError | None) -> None:
        if any(other == channel for _, other in self._asked):
            return  # what was asked later counts
        listeners = self._listeners.get(channel, set())
        if refusal is not None:
            self._listeners.pop(channel, None)  # as there is nothing to unsubscribe from
        for listener in listeners:
            listener.confirmed, listener.refusal = refusal is None, refusal
            listener.wake()

    # ------------------------------------------------------------------------- ending

    def _lose(self, loss: StoreError) -> None:
        """Close the connection, and tell all who listen."""
        if self.loss is None:
            self.loss = loss
            self._stream.close()
            for listeners in self._listeners.values():
                for listener in listeners:
                    listener.wake()

    def _silent(self) -> StoreSilentError:
        return StoreSilentError(f"{LOST}: no answer for {self._patience:g} seconds")

    def close(self) -> None:
        """Close the connection."""
        self._lose(StoreUnavailableError(LOST))
