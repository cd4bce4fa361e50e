"""The fault proxy does to requests and replies what it says, and nothing else."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Self

import pytest
import redis
import trio
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.harness.proxy import FaultProxy, anything, named
from tests.harness.resp import FrameSplitter, parse_request
from tests.harness.server import RedisServer

INCR = "return redis.call('INCR', KEYS[1])"


class Wire:
    """A client of which the test sees every byte."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._splitter = FrameSplitter()
        self._replies: list[bytes] = []

    @classmethod
    async def connect(cls, target: FaultProxy | RedisServer) -> Self:
        return cls(await trio.open_tcp_stream(target.host, target.port))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await trio.aclose_forcefully(self.stream)

    async def send(self, *args: str) -> None:
        words = "".join(f"${len(arg)}\r\n{arg}\r\n" for arg in args)
        await self.stream.send_all(f"*{len(args)}\r\n{words}".encode())

    async def reply(self) -> bytes | None:
        """Return the next whole reply, or None if the connection ended before."""
        while not self._replies:
            try:
                chunk = await self.stream.receive_some()
            except trio.BrokenResourceError:
                return None
            if not chunk:
                return None
            self._replies = self._splitter.feed(chunk)
        return self._replies.pop(0)

    async def ask(self, *args: str) -> bytes | None:
        await self.send(*args)
        return await self.reply()

    async def incr(self, key: str) -> bytes | None:
        return await self.ask("EVAL", INCR, "1", key)


Connect = Callable[[], Awaitable[Wire]]


@pytest.fixture
async def connect(proxy: FaultProxy) -> AsyncIterator[Connect]:
    """Opens connections through the proxy."""
    wires = []

    async def connect() -> Wire:
        wires.append(await Wire.connect(proxy))
        return wires[-1]

    yield connect  # a scope around this would not cancel the test
    for wire in wires:
        await trio.aclose_forcefully(wire.stream)


async def is_silent(wire: Wire) -> bool:
    """Return whether the connection stays open and without a byte for a while."""
    with trio.move_on_after(0.05):
        await wire.reply()
        return False
    return True


async def test_unarmed_proxy_changes_nothing(
    proxy: FaultProxy, connect: Connect, fresh_prefix: str
) -> None:
    wire = await connect()
    await wire.send("SET", fresh_prefix, "1")
    await wire.send("EVAL", "return {1, {'two', 3}, false}", "0")
    await wire.send("GET", "nothing-here")
    replies = [await wire.reply() for _ in range(3)]
    assert replies == [b"+OK\r\n", b"*3\r\n:1\r\n*2\r\n$3\r\ntwo\r\n:3\r\n$-1\r\n", b"$-1\r\n"]
    assert proxy.counts == {"connections": 1, "requests": 3, "replies": 3}


async def test_redis_py_in_both_protocols(proxy: FaultProxy, fresh_prefix: str) -> None:
    def talk(protocol: int) -> tuple[object, ...]:
        key = f"{fresh_prefix}:{protocol}"
        with redis.Redis.from_url(proxy.url, protocol=protocol) as client:
            client.hset(key, mapping={"a": "x" * 100_000, "b": ""})
            return client.hgetall(key), client.eval(INCR, 1, key + "n"), client.ping()

    for protocol in (2, 3):
        values = await trio.to_thread.run_sync(talk, protocol)
        assert values == ({b"a": b"x" * 100_000, b"b": b""}, 1, True)
    assert proxy.counts["connections"] == 2
    assert proxy.commands["EVAL"] == 2
    assert proxy.commands["HELLO"] == 1
    assert proxy.counts["replies"] == proxy.counts["requests"]


async def test_drop_request(
    proxy: FaultProxy, connect: Connect, redis_server: RedisServer, fresh_prefix: str
) -> None:
    proxy.drop_request()
    wire = await connect()
    assert await wire.ask("PING") == b"+PONG\r\n"
    assert await wire.incr(fresh_prefix) is None
    assert redis_server.command("GET", fresh_prefix) is None
    assert await (await connect()).incr(fresh_prefix) == b":1\r\n"
    assert proxy.counts["drop_request"] == proxy.counts["cut"] == 1
    assert proxy.armed == 0


async def test_drop_request_leaves_earlier_replies(
    proxy: FaultProxy, connect: Connect, fresh_prefix: str
) -> None:
    proxy.forward(2)
    proxy.drop_request()
    wire = await connect()
    for _ in range(4):
        await wire.send("EVAL", INCR, "1", fresh_prefix)
    replies = [await wire.reply() for _ in range(3)]
    assert replies == [b":1\r\n", b":2\r\n", None]
    assert await (await connect()).ask("GET", fresh_prefix) == b"$1\r\n2\r\n"


async def test_drop_reply(
    proxy: FaultProxy, connect: Connect, redis_server: RedisServer, fresh_prefix: str
) -> None:
    proxy.drop_reply(2)
    assert await (await connect()).incr(fresh_prefix) is None
    assert redis_server.command("GET", fresh_prefix) == "1"
    assert await (await connect()).incr(fresh_prefix) is None
    assert await (await connect()).incr(fresh_prefix) == b":3\r\n"
    assert proxy.counts["drop_reply"] == 2


async def test_retrying_client_counts_twice(
    proxy: FaultProxy, redis_server: RedisServer, fresh_prefix: str
) -> None:
    def increment() -> object:
        with redis.Redis(port=proxy.port, protocol=2, retry=Retry(NoBackoff(), 3)) as client:
            return client.eval(INCR, 1, fresh_prefix)

    proxy.drop_reply()
    assert await trio.to_thread.run_sync(increment) == 2


@pytest.mark.parametrize(("fault", "meanwhile"), [("delay", None), ("delay_reply", "1")])
async def test_delay(
    fault: str,
    meanwhile: str | None,
    proxy: FaultProxy,
    connect: Connect,
    redis_server: RedisServer,
    fresh_prefix: str,
) -> None:
    getattr(proxy, fault)(0.2)
    wire = await connect()
    start = trio.current_time()
    await wire.send("EVAL", INCR, "1", fresh_prefix)
    await proxy.wait_for(fault)
    assert redis_server.command("GET", fresh_prefix) == meanwhile
    assert await wire.reply() == b":1\r\n"
    assert trio.current_time() - start >= 0.2


async def test_duplicate(proxy: FaultProxy, connect: Connect, fresh_prefix: str) -> None:
    proxy.duplicate()
    wire = await connect()
    await wire.send("EVAL", INCR, "1", fresh_prefix)
    await wire.send("GET", fresh_prefix)
    assert await wire.reply() == b":1\r\n"
    assert await wire.reply() == b"$1\r\n2\r\n"
    assert proxy.counts["duplicate"] == 1


@pytest.mark.parametrize("executed", [True, False])
async def test_answer(
    proxy: FaultProxy,
    connect: Connect,
    redis_server: RedisServer,
    fresh_prefix: str,
    executed: bool,
) -> None:
    """Whatever is sent before and after it on the connection is answered in order."""
    proxy.forward()
    proxy.answer("-upstream failure", 2, executed=executed)
    wire = await connect()
    for _ in range(4):
        await wire.send("EVAL", INCR, "1", fresh_prefix)
    replies = [await wire.reply() for _ in range(4)]
    last = 4 if executed else 2
    assert replies[0] == b":1\r\n"
    assert replies[1:3] == [b"-upstream failure\r\n"] * 2
    assert replies[3] == b":%d\r\n" % last
    assert redis_server.command("GET", fresh_prefix) == str(last)
    assert proxy.counts["answer_afterwards" if executed else "answer_instead"] == 2


async def test_an_answer_besides_the_servers_own(
    proxy: FaultProxy, connect: Connect, redis_server: RedisServer, fresh_prefix: str
) -> None:
    """Everything behind is one answer late."""
    proxy.answer_besides("-upstream failure")
    proxy.reply_twice()
    wire = await connect()
    for _ in range(3):
        await wire.send("EVAL", INCR, "1", fresh_prefix)
    replies = [await wire.reply() for _ in range(5)]
    assert replies == [b"-upstream failure\r\n", b":1\r\n", b":2\r\n", b":2\r\n", b":3\r\n"]
    assert redis_server.command("GET", fresh_prefix) == "3"
    assert proxy.counts["answer_besides"] == proxy.counts["reply_twice"] == 1


async def test_late_copy_after_a_time(
    proxy: FaultProxy, connect: Connect, redis_server: RedisServer, fresh_prefix: str
) -> None:
    proxy.late_copy(0.1)
    assert await (await connect()).incr(fresh_prefix) is None
    assert await (await connect()).incr(fresh_prefix) == b":1\r\n"
    await proxy.wait_for("late_copy_delivered")
    assert proxy.late_replies == [b":2\r\n"]
    assert redis_server.command("GET", fresh_prefix) == "2"


async def test_late_copies_on_command(
    proxy: FaultProxy, connect: Connect, redis_server: RedisServer, fresh_prefix: str
) -> None:
    proxy.late_copy(None, 2)
    for protocol in ("2", "3"):
        wire = await connect()
        await wire.ask("HELLO", protocol)
        await wire.ask("SELECT", "1")
        assert await wire.incr(fresh_prefix) is None
    assert proxy.counts["late_copy"] == 2
    proxy.pause()
    await proxy.release_late_copies()
    proxy.resume()
    assert proxy.late_replies == [b":1\r\n", b":2\r\n"]
    assert redis_server.command("GET", fresh_prefix) is None
    wire = await connect()
    await wire.ask("SELECT", "1")
    assert await wire.ask("GETDEL", fresh_prefix) == b"$1\r\n2\r\n"


async def test_late_copy_to_a_dead_server(nursery: trio.Nursery, own_redis: RedisServer) -> None:
    proxy = FaultProxy(own_redis)
    await nursery.start(proxy.run)
    proxy.late_copy(None)
    async with await Wire.connect(proxy) as wire:
        assert await wire.incr("k") is None
    own_redis.kill()
    await proxy.release_late_copies()
    assert proxy.counts["late_copy_lost"] == 1


async def test_cut_reply_midframe(
    proxy: FaultProxy, connect: Connect, redis_server: RedisServer, fresh_prefix: str
) -> None:
    proxy.cut_reply_midframe()
    wire = await connect()
    await wire.send("EVAL", INCR, "1", fresh_prefix)
    assert bytes(await wire.stream.receive_some()) == b":1"
    assert await wire.reply() is None
    assert redis_server.command("GET", fresh_prefix) == "1"
    assert proxy.counts["cut_reply_midframe"] == 1


async def test_hang_reply(
    proxy: FaultProxy, connect: Connect, redis_server: RedisServer, fresh_prefix: str
) -> None:
    proxy.hang_reply()
    wire = await connect()
    await wire.send("EVAL", INCR, "1", fresh_prefix)
    await wire.send("EVAL", INCR, "1", fresh_prefix)
    await proxy.wait_for("hang_reply")
    assert await is_silent(wire)
    assert redis_server.command("GET", fresh_prefix) == "2"
    assert await (await connect()).incr(fresh_prefix) == b":3\r\n"
    assert proxy.connections == 2


async def test_hung_connection_ends_when_the_client_closes(
    proxy: FaultProxy, connect: Connect, fresh_prefix: str
) -> None:
    proxy.hang_reply()
    wire = await connect()
    await wire.send("EVAL", INCR, "1", fresh_prefix)
    await proxy.wait_for("hang_reply")
    await wire.stream.aclose()
    await proxy.wait_for("closed")
    assert proxy.connections == 0


async def test_plan_is_followed_in_order(
    proxy: FaultProxy, connect: Connect, fresh_prefix: str
) -> None:
    proxy.drop_request()
    proxy.forward(2)
    proxy.drop_reply()
    outcomes = []
    wire = await connect()
    for _ in range(5):
        outcomes.append(await wire.incr(fresh_prefix))
        if outcomes[-1] is None:
            wire = await connect()
    assert outcomes == [None, b":1\r\n", b":2\r\n", None, b":4\r\n"]


async def test_predicates(proxy: FaultProxy, connect: Connect, fresh_prefix: str) -> None:
    proxy.drop_request(when=named("get"))
    proxy.drop_request(when=lambda request: fresh_prefix.encode() in request.args)
    wire = await connect()
    assert await wire.ask("PING") == b"+PONG\r\n"
    assert await wire.ask("SET", fresh_prefix, "1") is None
    wire = await connect()
    assert await wire.ask("SET", fresh_prefix, "1") == b"+OK\r\n"
    assert await wire.ask("GET", fresh_prefix) is None
    assert proxy.armed == 0


async def test_until_disarmed(proxy: FaultProxy, connect: Connect) -> None:
    proxy.drop_reply(None, when=anything)
    for _ in range(5):
        assert await (await connect()).ask("PING") is None
    proxy.disarm()
    assert await (await connect()).ask("PING") == b"+PONG\r\n"


async def test_just_what_was_armed_for_somebody_is_disarmed(
    proxy: FaultProxy, connect: Connect
) -> None:
    mine, other = named("PING"), named("ECHO")
    proxy.drop_reply(None, when=mine)
    proxy.drop_reply(None, when=other)
    proxy.disarm(mine)
    assert await (await connect()).ask("PING") == b"+PONG\r\n"
    assert await (await connect()).ask("ECHO", "x") is None
    proxy.disarm()


async def test_nothing_flows_while_paused(
    proxy: FaultProxy, connect: Connect, redis_server: RedisServer, fresh_prefix: str
) -> None:
    wire = await connect()
    await wire.ask("PING")
    proxy.pause()
    newcomer = await connect()
    await wire.send("EVAL", INCR, "1", fresh_prefix)
    await newcomer.send("EVAL", INCR, "1", fresh_prefix)
    assert await is_silent(wire)
    assert await is_silent(newcomer)
    assert redis_server.command("GET", fresh_prefix) is None
    proxy.resume()
    replies = {await wire.reply(), await newcomer.reply()}
    assert replies == {b":1\r\n", b":2\r\n"}


async def test_replies_wait_for_the_end_of_a_pause(
    proxy: FaultProxy, connect: Connect, redis_server: RedisServer, fresh_prefix: str
) -> None:
    wire = await connect()
    proxy.delay_reply(0.02)
    await wire.send("EVAL", INCR, "1", fresh_prefix)
    await proxy.wait_for("delay_reply")
    proxy.pause()
    assert await is_silent(wire)
    assert redis_server.command("GET", fresh_prefix) == "1"
    proxy.resume()
    assert await wire.reply() == b":1\r\n"


async def test_closing_is_not_seen_through_a_pause(
    nursery: trio.Nursery, own_redis: RedisServer
) -> None:
    proxy = FaultProxy(own_redis)
    await nursery.start(proxy.run)
    async with await Wire.connect(proxy) as wire:
        assert await wire.incr("k") == b":1\r\n"
        proxy.pause()
        own_redis.kill()
        assert await is_silent(wire)
        proxy.resume()
        assert await wire.reply() is None


async def test_bytes_of_a_pause_are_lost_with_their_connection(
    proxy: FaultProxy, connect: Connect, redis_server: RedisServer, fresh_prefix: str
) -> None:
    wire = await connect()
    await wire.ask("PING")
    proxy.pause()
    await wire.send("EVAL", INCR, "1", fresh_prefix)
    assert await is_silent(wire)
    proxy.cut_all()
    proxy.resume()
    assert await wire.reply() is None
    assert redis_server.command("GET", fresh_prefix) is None


async def test_refuse_and_accept(proxy: FaultProxy, connect: Connect) -> None:
    wire, port = await connect(), proxy.port
    await wire.ask("PING")
    proxy.refuse()
    assert await wire.reply() is None
    with pytest.raises(OSError, match="all attempts to connect"):
        await connect()
    proxy.accept()
    assert proxy.port == port
    assert await (await connect()).ask("PING") == b"+PONG\r\n"


async def test_cut_all(proxy: FaultProxy, connect: Connect) -> None:
    wires = [await connect() for _ in range(3)]
    for wire in wires:
        await wire.ask("PING")
    proxy.cut_all()
    assert [await wire.reply() for wire in wires] == [None] * 3
    assert await (await connect()).ask("PING") == b"+PONG\r\n"
    assert proxy.counts["cut"] == 3
    assert proxy.connections == 1


async def test_dead_server_cuts(nursery: trio.Nursery, own_redis: RedisServer) -> None:
    proxy = FaultProxy(own_redis)
    await nursery.start(proxy.run)
    async with await Wire.connect(proxy) as wire:
        assert await wire.ask("PING") == b"+PONG\r\n"
        own_redis.kill()
        assert await wire.reply() is None
    async with await Wire.connect(proxy) as wire:
        assert await wire.reply() is None
    own_redis.start()
    async with await Wire.connect(proxy) as wire:
        assert await wire.ask("PING") == b"+PONG\r\n"


async def test_point_at(
    proxy: FaultProxy, connect: Connect, own_redis: RedisServer, fresh_prefix: str
) -> None:
    wire = await connect()
    assert await wire.incr(fresh_prefix) == b":1\r\n"
    own_redis.command("SET", fresh_prefix, 41)
    proxy.point_at(own_redis)
    assert await wire.reply() is None
    assert await (await connect()).incr(fresh_prefix) == b":42\r\n"


async def test_published_messages_pass(
    proxy: FaultProxy, connect: Connect, redis_server: RedisServer, fresh_prefix: str
) -> None:
    for protocol in ("2", "3"):
        wire = await connect()
        await wire.ask("HELLO", protocol)
        await wire.ask("SUBSCRIBE", fresh_prefix)
        redis_server.command("PUBLISH", fresh_prefix, "update")
        message = await wire.reply()
        assert message is not None
        assert b"update" in message
        assert await is_silent(wire)


async def test_end_cuts_everything(redis_server: RedisServer) -> None:
    proxy = FaultProxy(redis_server)
    async with trio.open_nursery() as nursery:
        await nursery.start(proxy.run)
        wire = await Wire.connect(proxy)
        await wire.ask("PING")
        nursery.cancel_scope.cancel()
    async with wire:
        assert await wire.reply() is None
    with pytest.raises(RuntimeError, match="not running"):
        proxy.accept()
    with pytest.raises(OSError, match="all attempts to connect"):
        await Wire.connect(proxy)


@pytest.mark.parametrize(
    "frame",
    [
        b"+OK\r\n",
        b":-12\r\n",
        b"$0\r\n\r\n",
        b"$-1\r\n",
        b"$4\r\n\r\n\r\n\r\n",
        b"*-1\r\n",
        b"*0\r\n",
        b"*2\r\n*2\r\n:1\r\n$1\r\na\r\n*0\r\n",
        b"%2\r\n+a\r\n:1\r\n+b\r\n~1\r\n_\r\n",
        b"|1\r\n+ttl\r\n:3\r\n*1\r\n#t\r\n",
        b">2\r\n+message\r\n=6\r\ntxt:hi\r\n",
        b"PING now\r\n",
    ],
)
def test_messages_are_cut_where_they_end(frame: bytes) -> None:
    stream = frame + b",1.5\r\n" + frame
    for size in range(1, len(stream) + 1):
        splitter = FrameSplitter()
        pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
        frames = [found for piece in pieces for found in splitter.feed(piece)]
        assert frames == [frame, b",1.5\r\n", frame]


def test_requests_are_read() -> None:
    request = parse_request(b"*2\r\n$3\r\nget\r\n$4\r\na\r\nb\r\n")
    assert (request.name, request.args) == ("GET", (b"get", b"a\r\nb"))
    assert parse_request(b"ping x\r\n").args == (b"ping", b"x")
    assert parse_request(b"\r\n").name == ""
    with pytest.raises(ValueError, match="bulk strings"):
        parse_request(b"*1\r\n:1\r\n")
