"""A network between client and server that fails on request."""

import trio

from tests.harness.faults import FaultBoard, anything, is_script, named
from tests.harness.link import Gate, LateCopy, Link, deliver_copy
from tests.harness.ports import LOOPBACK, free_port, give_back, listening_socket
from tests.harness.server import RedisServer

__all__ = ["FaultProxy", "anything", "is_script", "named"]


class FaultProxy(FaultBoard):
    """A TCP proxy for the Redis protocol that loses, repeats and delays.

    It acts on whole requests and replies, and only as armed (see `FaultBoard`)
    or told: nothing is random. Run it with `await nursery.start(proxy.run)`.

    Args:
        server: where connections lead.
        port: where it listens, given back in the end; a free one if None.

    Attributes:
        late_replies: the raw replies to late copies, in order of delivery.
    """

    def __init__(self, server: RedisServer, *, port: int | None = None) -> None:
        super().__init__()
        self.late_replies: list[bytes] = []
        self._target = server
        self._port = port
        self._listener: trio.SocketListener | None = None
        self._nursery: trio.Nursery | None = None
        self._gate = Gate()
        # A dict as an ordered set: connections are cut oldest first.
        self._links: dict[Link, None] = {}
        self._held: list[LateCopy] = []

    @property
    def host(self) -> str:
        """The address it listens on."""
        return LOOPBACK

    @property
    def port(self) -> int:
        """The port it listens on, the same for its whole life.

        Raises:
            RuntimeError: it does not run yet.
        """
        if self._port is None:
            raise RuntimeError("the proxy is not running")
        return self._port

    @property
    def url(self) -> str:
        """The address as a redis-py URL, with the server's password if any."""
        password = self._target.password
        userinfo = "" if password is None else f":{password}@"
        return f"redis://{userinfo}{LOOPBACK}:{self.port}/0"

    @property
    def connections(self) -> int:
        """The number of connections open now."""
        return len(self._links)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; all connections are then cut."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                self.accept()
                task_status.started()
                await trio.sleep_forever()
        finally:
            self._nursery = None
            self.refuse()
            if self._port is not None:
                give_back(self._port)

    def point_at(self, server: RedisServer, *, cut: bool = True) -> None:
        """Lead connections to another server, as a failover does; ``cut`` the old ones."""
        self._target = server
        if cut:
            self.cut_all()

    def pause(self) -> None:
        """Stop all bytes, both ways; connections stay open and can be made."""
        self._gate.shut()

    def resume(self) -> None:
        """Let bytes flow again, those sent in the meantime included."""
        self._gate.open()

    def refuse(self) -> None:
        """Cut all connections and refuse new ones."""
        if self._listener is not None:
            self._listener.socket.close()
            self._listener = None
        self.cut_all()

    def accept(self) -> None:
        """Take connections, on the same port as ever.

        Raises:
            RuntimeError: the proxy does not run.
        """
        if self._nursery is None:
            raise RuntimeError("the proxy is not running")
        if self._listener is not None:
            return
        if self._port is None:
            self._port = free_port()
        sock = trio.socket.from_stdlib_socket(listening_socket(self._port))
        self._listener = trio.SocketListener(sock)
        self._nursery.start_soon(self._serve, self._nursery, self._listener)

    def cut_all(self) -> None:
        """Close all connections at once; what they had in transit is lost."""
        for link in list(self._links):
            link.cut()

    async def release_late_copies(self) -> None:
        """Deliver the held late copies, oldest first, and wait for their replies.

        A checkpoint if there are any.
        """
        held, self._held = self._held, []
        for copy in held:
            await self._deliver(copy)

    async def _serve(self, nursery: trio.Nursery, listener: trio.SocketListener) -> None:
        while True:
            try:
                client = await listener.accept()
            except trio.ClosedResourceError:
                return
            self.record("connections")
            link = Link(self, self._gate, self._send_later, client)
            self._links[link] = None
            nursery.start_soon(self._carry, link)

    async def _carry(self, link: Link) -> None:
        try:
            await link.run(self._target.host, self._target.port)
        finally:
            del self._links[link]
            self.record("closed")

    def _send_later(self, copy: LateCopy, seconds: float | None) -> None:
        if seconds is None:
            self._held.append(copy)
        elif self._nursery is not None:
            self._nursery.start_soon(self._deliver_after, copy, seconds)

    async def _deliver_after(self, copy: LateCopy, seconds: float) -> None:
        await trio.sleep(seconds)
        await self._deliver(copy)

    async def _deliver(self, copy: LateCopy) -> None:
        try:
            reply = await deliver_copy(copy, self._target.host, self._target.port)
        except (OSError, trio.BrokenResourceError):
            self.record("late_copy_lost")
        else:
            self.late_replies.append(reply)
            self.record("late_copy_delivered")
