"""What may happen to a server that counters are at work with."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio

from tests.faults.fleet import THRESHOLD
from tests.harness.proxy import FaultProxy
from tests.harness.server import RedisServer


async def kill_and_restart(server: RedisServer) -> None:
    server.kill()
    await trio.sleep(0.1)
    await server.start_async()


async def restart_empty(server: RedisServer) -> None:
    await server.restart_async(empty=True)


async def freeze(server: RedisServer) -> None:
    server.pause()
    await trio.sleep(1.5 * THRESHOLD)
    server.resume()


async def flush_all(server: RedisServer) -> None:
    await server.command_async("FLUSHALL")


async def forget_scripts(server: RedisServer) -> None:
    await server.command_async("SCRIPT", "FLUSH")


async def cut_clients(server: RedisServer) -> None:
    for _ in range(5):
        for kind in ("normal", "pubsub"):
            await server.command_async("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
        await trio.sleep(0.01)


async def stop_clients(server: RedisServer) -> None:
    await server.command_async("CLIENT", "PAUSE", "400", "ALL")
    await trio.sleep(0.4)


async def stop_writes(server: RedisServer) -> None:
    await server.command_async("CLIENT", "PAUSE", "400", "WRITE")
    await trio.sleep(0.4)


TROUBLES: dict[str, Callable[[RedisServer], Awaitable[None]]] = {
    "SIGKILL, restarted with its file": kill_and_restart,
    "SIGKILL, restarted empty": restart_empty,
    "SIGSTOP": freeze,
    "FLUSHALL": flush_all,
    "SCRIPT FLUSH": forget_scripts,
    "CLIENT KILL": cut_clients,
    "CLIENT PAUSE": stop_clients,
    "CLIENT PAUSE WRITE": stop_writes,
}
#: Those after which the server knows nothing of any counter.
LOSSES = ("SIGKILL, restarted empty", "FLUSHALL")


@asynccontextmanager
async def doubt(proxy: FaultProxy, server: RedisServer) -> AsyncIterator[None]:
    """Have the block's operation executed and its answer lost, and then everything else too."""

    async def strike() -> None:
        await proxy.wait_for("drop_reply")
        proxy.refuse()
        await server.command_async("FLUSHALL")
        proxy.accept()

    proxy.counts["drop_reply"] = 0
    proxy.drop_reply()
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(strike)
            yield
