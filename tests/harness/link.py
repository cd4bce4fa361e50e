"""One client connection of the fault proxy."""

from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import trio

from tests.harness.faults import FORWARD, Fault, FaultBoard
from tests.harness.resp import FrameSplitter, Request, is_push, parse_request

_HANDSHAKE = frozenset({"HELLO", "AUTH", "SELECT"})
_SWALLOW_COPY = Fault("duplicate")
# After these a replica gets a file and then a stream of commands, not replies to requests.
_REPLICATION = frozenset({"SYNC", "PSYNC"})


@dataclass(frozen=True)
class LateCopy:
    """A request that is still to reach the server, and how to log in before."""

    frame: bytes
    handshake: tuple[bytes, ...]


class Gate:
    """Open or shut; those who pass wait while it is shut."""

    def __init__(self) -> None:
        self._opened: trio.Event | None = None

    def shut(self) -> None:
        """Make everyone wait."""
        if self._opened is None:
            self._opened = trio.Event()

    def open(self) -> None:
        """Let everyone go on."""
        if self._opened is not None:
            self._opened.set()
            self._opened = None

    async def passed(self) -> None:
        """Wait until open; a checkpoint only if it must wait."""
        while self._opened is not None:
            await self._opened.wait()


class Link:
    """A client's connection and its counterpart to the server.

    Args:
        board: decides what goes wrong.
        gate: shut while no byte may flow.
        send_later: takes requests that arrive late, and after how many seconds.
        client: the accepted connection.
    """

    def __init__(
        self,
        board: FaultBoard,
        gate: Gate,
        send_later: Callable[[LateCopy, float | None], None],
        client: trio.SocketStream,
    ) -> None:
        self._board = board
        self._gate = gate
        self._send_later = send_later
        self._client = client
        self._sending = trio.Lock()  # to the client: a request may be answered without the server
        self._server: trio.SocketStream | None = None
        self._scope = trio.CancelScope()
        self._handshake: list[bytes] = []
        # What to do with the replies to come, in order.
        self._expected: deque[Fault] = deque()
        self._ending = False
        self._hung = False
        self._is_cut = False
        self._is_replication = False

    async def run(self, host: str, port: int) -> None:
        """Connect to the server and carry messages until either side ends."""
        try:
            with self._scope:
                try:
                    self._server = await trio.open_tcp_stream(host, port)
                except OSError:
                    return
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._guarded, self._pump_requests)
                    nursery.start_soon(self._guarded, self._pump_replies)
        finally:
            self._close()

    def cut(self) -> None:
        """Close both connections at once."""
        if not self._is_cut:
            self._board.record("cut")
        self._close()

    def _close(self) -> None:
        # Sockets close here and now. Cancelling alone would let a byte pass
        # that a pump is just about to send.
        self._is_cut = True
        self._client.socket.close()
        if self._server is not None:
            self._server.socket.close()
        self._scope.cancel()

    async def _guarded(self, pump: Callable[[trio.SocketStream], Awaitable[None]]) -> None:
        assert self._server is not None
        try:
            await pump(self._server)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            await self._gate.passed()
            self._close()

    async def _pump_requests(self, server: trio.SocketStream) -> None:
        splitter = FrameSplitter()
        async for chunk in self._client:
            for frame in splitter.feed(chunk):
                await self._gate.passed()
                await self._handle(server, parse_request(frame))
                if self._ending:
                    return
        await self._gate.passed()
        # The server executes what it was sent before, then closes.
        await server.send_eof()

    async def _handle(self, server: trio.SocketStream, request: Request) -> None:
        if request.name in _HANDSHAKE:
            self._handshake.append(request.frame)
        elif request.name in _REPLICATION:
            # A replica asks for it once all that it asked for before is answered.
            self._is_replication = True
        elif self._is_replication:
            await server.send_all(request.frame)
            return
        fault = self._board.take(request)
        if fault.kind == "drop_request":
            self._end(fault)
        elif fault.kind == "late_copy":
            copy = LateCopy(request.frame, tuple(self._handshake))
            self._send_later(copy, fault.seconds)
            self._end(fault)
        elif fault.kind == "duplicate":
            self._expected.extend((FORWARD, _SWALLOW_COPY))
            await server.send_all(request.frame * 2)
        elif fault.kind == "answer_instead":
            self._expected.append(fault)
            await self._answer_instead()
        else:
            if fault.kind == "delay":
                self._board.record("delay")
                await trio.sleep(fault.seconds or 0)
                await self._gate.passed()
                fault = FORWARD
            self._expected.append(fault)
            await server.send_all(request.frame)

    def _end(self, fault: Fault) -> None:
        """Cut the connection as soon as earlier requests are answered."""
        self._ending = True
        self._expected.append(fault)
        self._cut_if_next()

    def _cut_if_next(self) -> None:
        if self._is_cut or not self._ending:
            return
        if self._hung or len(self._expected) == 1:
            fault = self._expected[-1]
            self.cut()
            self._board.record(fault.kind)

    async def _pump_replies(self, server: trio.SocketStream) -> None:
        splitter = FrameSplitter()
        async for chunk in server:
            if self._is_replication:
                await self._gate.passed()
                await self._deliver(chunk)
                continue
            for frame in splitter.feed(chunk):
                await self._gate.passed()
                if is_push(frame):
                    await self._deliver(frame)
                else:
                    await self._answer(frame)
                    await self._answer_instead()
                self._cut_if_next()
                if self._is_cut:
                    return
        await self._gate.passed()
        self._close()

    async def _answer(self, frame: bytes) -> None:
        """Do what was planned for the oldest unanswered request."""
        # Published messages (RESP2) and the second reply to one SUBSCRIBE
        # come without a request.
        fault = self._expected.popleft() if self._expected else FORWARD
        if fault.kind == "duplicate":
            self._board.record("duplicate")
        elif fault.kind == "drop_reply":
            self.cut()
            self._board.record("drop_reply")
        elif fault.kind == "cut_reply_midframe":
            await self._deliver(frame[: len(frame) // 2])
            self.cut()
            self._board.record("cut_reply_midframe")
        elif fault.kind == "hang_reply":
            self._hung = True
            self._board.record("hang_reply")
        elif fault.kind == "answer_afterwards":
            self._board.record("answer_afterwards")
            await self._deliver(fault.answer)
        elif fault.kind in {"answer_besides", "reply_twice"}:
            self._board.record(fault.kind)
            await self._deliver((fault.answer or frame) + frame)
        else:
            if fault.kind == "delay_reply":
                self._board.record("delay_reply")
                await trio.sleep(fault.seconds or 0)
                await self._gate.passed()
            if not self._hung:
                # First, so that whoever has the reply finds it counted.
                self._board.record("replies")
            await self._deliver(frame)

    async def _answer_instead(self) -> None:
        """Answer the oldest unanswered requests, as far as the server does not know of them."""
        while self._expected and self._expected[0].kind == "answer_instead":
            fault = self._expected.popleft()
            self._board.record("answer_instead")
            await self._deliver(fault.answer)

    async def _deliver(self, data: bytes) -> None:
        async with self._sending:
            if not self._hung:
                await self._client.send_all(data)


async def deliver_copy(copy: LateCopy, host: str, port: int) -> bytes:
    """Send a late request to the server and return the raw reply.

    Raises:
        OSError: the server cannot be reached.
        trio.BrokenResourceError: it closed the connection.
    """
    splitter = FrameSplitter()
    wanted = len(copy.handshake) + 1
    replies: list[bytes] = []
    stream = await trio.open_tcp_stream(host, port)
    async with stream:
        await stream.send_all(b"".join(copy.handshake) + copy.frame)
        async for chunk in stream:
            replies += (f for f in splitter.feed(chunk) if not is_push(f))
            if len(replies) >= wanted:
                return replies[-1]
    raise trio.BrokenResourceError("closed before the reply")
