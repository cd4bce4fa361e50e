"""Connecting to a server by its name, with threads of our own to look names up.

A look-up that is given up keeps its thread until the resolver has an answer, which may take half a
minute where name servers are silent. `trio.open_tcp_stream` takes these threads from those that the
whole application shares; there are 40. So a store that connects again and again would keep the
application from using threads.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from functools import partial
from ipaddress import ip_address
from typing import Final

import trio

from ._per_run import PerRun

#: How many names may be looked up at the same time, by all stores of a run.
_LOOKUPS: Final = 8
#: Seconds after which the next address of a name is tried, too.
_STAGGER: Final = 0.25

_THREADS: Final = PerRun(lambda: trio.CapacityLimiter(_LOOKUPS))


async def open_tcp_stream(host: str, port: int) -> trio.SocketStream:
    """Connect to the first address of a host that answers. A checkpoint.

    As trio's own function, it raises `OSError`; when cancelled, there is no connection.
    """
    # Other letters than ASCII's are for trio, which knows the later of two ways to write them.
    if _is_address(host) or not host.isascii() or _has_own_resolver():
        return await trio.open_tcp_stream(host, port)
    look_up = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    found = await trio.to_thread.run_sync(look_up, abandon_on_cancel=True, limiter=_THREADS.get())
    addresses = list(dict.fromkeys(_address(place) for *_, place in found))
    return await _first_of(addresses, host, port)


async def _first_of(addresses: list[str], host: str, port: int) -> trio.SocketStream:
    streams: list[trio.SocketStream] = []
    failures: list[OSError] = []

    async def connect(address: str, over: trio.Event) -> None:  # noqa: ASYNC910 - connecting is one
        try:
            streams.append(await trio.open_tcp_stream(address, port))
            nursery.cancel_scope.cancel()
        except OSError as error:
            failures.append(error)
        finally:
            over.set()

    try:
        async with trio.open_nursery() as nursery:
            for address in addresses:
                over = trio.Event()
                nursery.start_soon(connect, address, over)
                with trio.move_on_after(_STAGGER):
                    await over.wait()
    except BaseException:
        for stream in streams:
            stream.socket.close()
        raise
    for late in streams[1:]:
        late.socket.close()
    if not streams:
        everything = ExceptionGroup("", failures)
        raise OSError(f"all attempts to connect to {host}:{port} failed") from everything
    return streams[0]


def _address(place: Sequence[object]) -> str:
    """Return the address in what stands for a place: with the interface, where it matters."""
    address, _, *more = place
    interface = more[-1] if more else 0
    return f"{address}%{interface}" if interface else str(address)


def _is_address(host: str) -> bool:
    try:
        ip_address(host.partition("%")[0])  # behind it is the name of an interface
    except ValueError:
        return False
    return True


def _has_own_resolver() -> bool:
    """Return whether the application looks names up in a way of its own: it uses no threads."""
    resolver = trio.socket.set_custom_hostname_resolver(None)  # which returns the one there was
    trio.socket.set_custom_hostname_resolver(resolver)
    return resolver is not None
