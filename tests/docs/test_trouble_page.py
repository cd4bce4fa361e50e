"""The page for those in trouble shows errors as they are: each one is made to happen here."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import NoReturn

import pytest
import trio

from distkit_actors import (
    LaxInstanceAwareCounter,
    MemoryStore,
    RedisStore,
    StrictInstanceAwareCounter,
)
from distkit_actors._actor._groups import sole
from tests.harness.ports import LOOPBACK, free_port

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = (ROOT / "docs" / "howto" / "trouble.md").read_text(encoding="utf-8")
ERRORS = PAGE.partition("## Errors")[2].partition("## ")[0]
#: The last line of a traceback, without the module of the class; ``…`` is any text.
QUOTED = re.findall(r"^\| `([^`]+)`", ERRORS, re.MULTILINE)


async def start(url: str, response_timeout: float = 2) -> None:
    """Start a counter, which should fail."""
    store = RedisStore(url, response_timeout=response_timeout)
    async with StrictInstanceAwareCounter.open("trouble", store):
        pass


@asynccontextmanager
async def answering(answer: Callable[[bytes], bytes]) -> AsyncGenerator[str]:
    """Give host and port of somebody who says ``answer`` to whatever comes."""

    async def serve(stream: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError):  # whoever has read enough ends the connection
            async with stream:
                async for request in stream:
                    await stream.send_all(answer(request))

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host=LOOPBACK)
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        host, port = listener.socket.getsockname()
        yield f"{host}:{port}"
        nursery.cancel_scope.cancel()


def told(line: bytes, user: str = "") -> Callable[[], Awaitable[None]]:
    """Return what starts a counter whose server says ``line``."""

    async def trouble() -> None:
        async with answering(lambda _: line) as address:
            await start(f"redis://{user}{address}")

    return trouble


async def silence() -> None:
    async with answering(lambda _: b"") as address:
        await start(f"redis://{address}", response_timeout=0.3)


async def silence_to_scripts() -> None:
    async with answering(lambda request: b"$0\r\n\r\n" * request.count(b"INFO")) as address:
        await start(f"redis://{address}", response_timeout=0.3)


async def nobody_listens() -> None:
    await start(f"redis://{LOOPBACK}:{free_port()}")


class NoNames(trio.abc.HostnameResolver):
    """Knows no host."""

    async def getaddrinfo(self, *_: object) -> NoReturn:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    async def getnameinfo(self, *_: object) -> NoReturn:
        raise NotImplementedError


async def unknown_host() -> None:
    trio.socket.set_custom_hostname_resolver(NoNames())
    await start("redis://nowhere")


async def no_url() -> None:
    StrictInstanceAwareCounter("redis://localhost", "my_app")


async def not_started() -> None:
    await StrictInstanceAwareCounter("trouble", MemoryStore()).inc("jobs")


async def ended() -> None:
    async with StrictInstanceAwareCounter.open("trouble", MemoryStore()) as counter:
        pass
    await counter.inc("jobs")


async def stopped_in_an_outage() -> None:
    async with LaxInstanceAwareCounter.open(
        "trouble", f"redis://{LOOPBACK}:{free_port()}", detached_start=True, exit_grace=0
    ) as counter:
        counter.inc_nowait("jobs")


async def two_with_one_id() -> None:
    store = MemoryStore()
    async with (
        StrictInstanceAwareCounter.open("trouble", store, instance_id="web") as counter,
        StrictInstanceAwareCounter.open("trouble", store, instance_id="web"),
    ):
        await counter.inc("jobs")


async def odd_key() -> None:
    async with StrictInstanceAwareCounter.open("trouble", MemoryStore()) as counter:
        await counter.inc(1)


async def odd_count() -> None:
    async with StrictInstanceAwareCounter.open("trouble", MemoryStore()) as counter:
        await counter.inc("jobs", 0.5)


async def text_for_a_number() -> None:
    StrictInstanceAwareCounter("trouble", MemoryStore(), exit_grace="5")


async def no_room() -> None:
    async with (
        StrictInstanceAwareCounter.open("trouble", MemoryStore()) as counter,
        counter.hold("jobs", limit=0),
    ):
        pass


async def under_asyncio() -> None:
    counter = StrictInstanceAwareCounter("trouble", MemoryStore())

    def run() -> None:
        loop = asyncio.SelectorEventLoop()  # one of `asyncio.run` may be trio-asyncio's
        try:
            loop.run_until_complete(counter.inc("jobs"))
        finally:
            loop.close()

    await trio.to_thread.run_sync(run)


#: What leads to each row, in the order of the page.
TROUBLES: list[Callable[[], Awaitable[None]]] = [
    nobody_listens,
    unknown_host,
    told(b"HTTP/1.1 400 Bad Request\r\n"),
    silence,
    silence_to_scripts,
    told(b"-NOAUTH Authentication required.\r\n"),
    told(b"-ERR AUTH <password> called without any password configured\r\n", ":secret@"),
    told(b"-NOPERM this user has no permissions to run the 'evalsha' command\r\n"),
    no_url,
    not_started,
    ended,
    stopped_in_an_outage,
    two_with_one_id,
    odd_key,
    odd_count,
    text_for_a_number,
    no_room,
    under_asyncio,
]


@pytest.mark.parametrize(
    ("quoted", "trouble"), list(zip(QUOTED, TROUBLES, strict=True)), ids=QUOTED
)
async def test_each_error_is_shown_as_a_traceback_ends(
    quoted: str, trouble: Callable[[], Awaitable[None]]
) -> None:
    with pytest.raises(Exception) as raised:  # noqa: PT011 - the page says which
        await trouble()
    error = sole(raised.value)  # the nursery of a server has put it into a group
    name, _, message = quoted.partition(":")
    assert type(error).__name__ == name
    assert re.search(re.escape(message.strip()).replace("…", ".*"), str(error), re.DOTALL)


def test_no_row_is_left_out() -> None:
    assert len(QUOTED) == ERRORS.count("\n| ") - 1
