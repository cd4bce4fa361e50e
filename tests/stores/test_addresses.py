"""Connecting by a name: whose threads look it up, and which of its addresses is taken."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any, Final, NoReturn

import pytest
import trio
import trio.testing

from distkit_actors import RedisStore, StoreUnavailableError
from distkit_actors._stores._redis import _addresses
from distkit_actors._stores._redis._addresses import open_tcp_stream
from tests.harness.ports import LOOPBACK, free_port

from .listener import listen

#: Nobody is there: an address for documents.
SILENT: Final = "192.0.2.1"


def place(address: str, port: int) -> tuple[object, ...]:
    return (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))


#: Stands in the last argument of one that only reads an address, as trio does ahead of all else.
READS: Final = socket.AI_NUMERICHOST


def named(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Give the name "server" these addresses."""
    read = socket.getaddrinfo

    def look_up(host: str, port: int, *rest: int, **more: int) -> Any:
        if rest and rest[-1] & READS:
            return read(host, port, *rest)
        assert host == "server"
        return [place(address, port) for address in addresses for _ in range(2)]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """No name server answers before the test is over; which names were asked for."""
    asked: list[str] = []
    over = threading.Event()
    read = socket.getaddrinfo

    def look_up(host: str, port: int, *rest: int, **more: int) -> Any:
        if rest and rest[-1] & READS:
            return read(host, port, *rest)
        asked.append(host)
        over.wait()
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    yield asked
    over.set()


async def test_looking_names_up_takes_no_thread_from_the_application(hanging: list[str]) -> None:
    """However many connects are given up while name servers are silent."""

    async def connect(number: int) -> None:
        async with RedisStore(f"redis://host{number}").link("p") as link:
            await link.connect()

    async with trio.open_nursery() as nursery:
        for number in range(60):
            nursery.start_soon(connect, number)
        await trio.testing.wait_all_tasks_blocked(0.01)
        nursery.cancel_scope.cancel()
    assert len(hanging) == _addresses._LOOKUPS
    assert trio.to_thread.current_default_thread_limiter().borrowed_tokens == 0
    assert await trio.to_thread.run_sync(threading.get_ident)


async def test_a_store_whose_name_is_not_found_in_time_says_so(
    hanging: list[str],
) -> None:
    with pytest.raises(StoreUnavailableError, match="no answer for 0"):
        async with RedisStore("redis://server", response_timeout=0.1).link("p") as link:
            await link.connect()
    assert hanging == ["server"]


async def test_an_address_is_not_looked_up(hanging: list[str]) -> None:
    for address in (LOOPBACK, "::1", "fe80::1%lo"):
        with pytest.raises(OSError, match="all attempts to connect"):
            await open_tcp_stream(address, free_port())
    assert not hanging


async def hang_up(stream: trio.abc.Stream) -> None:
    """Serve nobody."""
    await trio.lowlevel.checkpoint()


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[trio.SocketStream]:
    """The connections that were made; with `SILENT` none ever is."""
    made: list[trio.SocketStream] = []
    connect = trio.open_tcp_stream

    async def watched(host: str, port: int) -> trio.SocketStream:
        if host == SILENT:
            await trio.sleep_forever()
        stream = await connect(host, port)
        made.append(stream)
        return stream

    monkeypatch.setattr(trio, "open_tcp_stream", watched)
    return made


@pytest.mark.parametrize("first", ["127.0.0.2", SILENT], ids=["refuses", "is silent"])
async def test_another_address_is_taken_if_the_first_one(
    first: str,
    nursery: trio.Nursery,
    opened: list[trio.SocketStream],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    port = await listen(nursery, hang_up)
    named(monkeypatch, first, LOOPBACK)
    with trio.fail_after(5):
        stream = await open_tcp_stream("server", port)
    assert stream.socket.getpeername() == (LOOPBACK, port)
    await stream.aclose()
    assert opened == [stream]


async def test_of_two_that_answer_one_is_closed(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, opened: list[trio.SocketStream]
) -> None:
    port = await listen(nursery, hang_up)
    named(monkeypatch, LOOPBACK, "localhost")
    monkeypatch.setattr(_addresses, "_STAGGER", 0)
    both = trio.Event()
    connect = trio.open_tcp_stream

    async def together(host: str, port: int) -> trio.SocketStream:
        stream = await connect(LOOPBACK, port)
        with trio.CancelScope(shield=True):
            both.set() if len(opened) == 2 else await both.wait()
        return stream

    monkeypatch.setattr(trio, "open_tcp_stream", together)
    with trio.fail_after(5):
        stream = await open_tcp_stream("server", port)
    (late,) = [other for other in opened if other is not stream]
    assert late.socket.fileno() == -1
    await stream.aclose()


async def test_a_cancelled_connect_leaves_nothing_open(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, opened: list[trio.SocketStream]
) -> None:
    port = await listen(nursery, hang_up)
    named(monkeypatch, LOOPBACK, LOOPBACK + "0")
    connect = trio.open_tcp_stream
    scope = trio.CancelScope()

    async def just_then(host: str, port: int) -> trio.SocketStream:
        stream = await connect(LOOPBACK, port)
        scope.cancel()
        return stream

    monkeypatch.setattr(trio, "open_tcp_stream", just_then)
    with scope:
        await open_tcp_stream("server", port)
    assert scope.cancelled_caught
    assert {stream.socket.fileno() for stream in opened} == {-1}


async def test_if_none_answers_it_is_said_why(monkeypatch: pytest.MonkeyPatch) -> None:
    named(monkeypatch, LOOPBACK, "127.0.0.2")
    with pytest.raises(OSError, match="all attempts to connect to server:") as caught:
        await open_tcp_stream("server", free_port())
    group = caught.value.__cause__
    assert isinstance(group, ExceptionGroup)
    assert len(group.exceptions) == 2


async def test_an_interface_goes_with_an_address(
    monkeypatch: pytest.MonkeyPatch, opened: list[trio.SocketStream]
) -> None:
    """An address of a link means nothing without it."""
    asked: list[str] = []

    async def note(host: str, port: int) -> NoReturn:
        asked.append(host)
        raise OSError

    def look_up(*_: object, **__: object) -> list[tuple[object, ...]]:
        places = ("fe80::1", 1, 0, 7), ("fe80::1", 1, 0, 8), ("2001:db8::1", 1, 0, 0)
        return [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", each) for each in places]

    monkeypatch.setattr(trio, "open_tcp_stream", note)
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with pytest.raises(OSError, match="all attempts"):
        await open_tcp_stream("server", 1)
    assert asked == ["fe80::1%7", "fe80::1%8", "2001:db8::1"]


class Resolver(trio.abc.HostnameResolver):
    """The application's own."""

    async def getaddrinfo(self, *_: object) -> list[Any]:
        raise socket.gaierror(socket.EAI_NONAME, "of the application")

    async def getnameinfo(self, *_: object) -> NoReturn:
        raise NotImplementedError


async def test_an_application_that_looks_names_up_itself_is_asked(hanging: list[str]) -> None:
    own = Resolver()
    trio.socket.set_custom_hostname_resolver(own)
    with pytest.raises(OSError, match="of the application"):
        await open_tcp_stream("server", 6379)
    assert trio.socket.set_custom_hostname_resolver(None) is own
    assert not hanging
