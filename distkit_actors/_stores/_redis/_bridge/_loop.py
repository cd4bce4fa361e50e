"""An asyncio loop that runs on trio, for all connections of a pool in one run of trio."""

from __future__ import annotations

import asyncio
import logging
import warnings
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Final, TypeAlias, cast

import trio
from redis.asyncio.connection import ConnectionPool
from redis.asyncio.sentinel import SentinelConnectionPool

from .._connection import Answer
from .._per_run import PerRun

if TYPE_CHECKING:
    from redis.asyncio.sentinel import Sentinel
    from trio_asyncio import TrioEventLoop

_log = logging.getLogger("distkit_actors")

#: Longest wait for something to end there, in seconds.
CLEAN_UP: Final = 2.0

AsyncioFunction: TypeAlias = "Callable[[], Awaitable[Answer]]"


class AsyncioLoop:
    """An asyncio loop on trio, in a task that outlives the cancellation of its users."""

    def __init__(self, pool: ConnectionPool, address: str) -> None:
        self._pool = pool
        self._address = address
        self._loop: TrioEventLoop | None = None
        self._stop = trio.Event()
        self._ended = trio.Event()
        self._scope = trio.CancelScope(shield=True)  # gets its deadline when stopped
        self.started = trio.Event()
        self.users = 0
        self.late: set[asyncio.Task[None]] = set()  # of which nobody waits for the end

    async def run(self, function: AsyncioFunction) -> Answer:
        """Run an asyncio function; raises `asyncio.CancelledError` if the loop has ended."""
        if self._loop is None:
            raise asyncio.CancelledError("the loop of the store's connection has ended")
        answer: Answer = await import_trio_asyncio().aio_as_trio(function, loop=self._loop)()
        return answer

    async def stop(self) -> None:  # noqa: ASYNC910 - internal: whoever leaves has had checkpoints
        """End the loop, within a bounded time."""
        self._scope.deadline = trio.current_time() + CLEAN_UP
        self._stop.set()
        with trio.move_on_after(2 * CLEAN_UP, shield=True):  # it ends by itself before
            await self._ended.wait()

    async def host(self) -> None:  # noqa: ASYNC910 - a task of its own
        """Run the loop until it is stopped."""
        try:
            _renew_locks(self._pool)
            with self._scope:
                async with import_trio_asyncio().open_loop() as loop:
                    # The default handler ends the loop, and the program with it.
                    loop.set_exception_handler(partial(_log_only, self._address))
                    self._loop = loop
                    self.started.set()
                    try:
                        await self._stop.wait()
                        while self.late:
                            await self.run(partial(_done, set(self.late)))
                        await self.run(partial(_close_idle, self._pool))
                    finally:
                        self._loop = None
        except Exception as error:  # noqa: BLE001 - a system task's error would end the program
            _log_only(self._address, None, {"message": "its loop has failed", "exception": error})
        finally:
            self.started.set()
            self._ended.set()


@asynccontextmanager
async def loop_of(pool: ConnectionPool, address: str) -> AsyncGenerator[AsyncioLoop]:
    """Return the loop of a pool, which begins with its first user and ends after its last."""
    loops = _loops.get()
    loop = loops.get(pool)
    if loop is None:
        loop = loops[pool] = AsyncioLoop(pool, address)
        trio.lowlevel.spawn_system_task(loop.host)
    loop.users += 1
    try:
        await loop.started.wait()
        yield loop
    finally:
        loop.users -= 1
        if not loop.users:
            del loops[pool]
            await loop.stop()  # noqa: ASYNC102 - it shields itself, briefly


#: The loop of each pool that is in use.
_loops: Final = PerRun[dict[ConnectionPool, AsyncioLoop]](dict)


def import_trio_asyncio() -> ModuleType:
    """Import trio_asyncio, which patches asyncio for the whole process: not before it must."""
    with warnings.catch_warnings():
        # It subclasses asyncio's child watchers, which Python 3.12 and 3.13 deprecate.
        warnings.filterwarnings("ignore", ".*AbstractChildWatcher", DeprecationWarning)
        import trio_asyncio  # noqa: PLC0415 - as said above

    return trio_asyncio


async def _close_idle(pool: ConnectionPool) -> Answer:
    """Close what is open in this loop, which is about to end: sentinels are asked in it, too."""
    for one in _all_of(pool):
        await one.disconnect(inuse_connections=False)
    return None  # noqa: ASYNC910 - it is one


def _renew_locks(pool: ConnectionPool) -> None:
    """Have a pool forget the loop in which somebody had to wait for it: it can wait in no other."""
    for one in _all_of(pool):
        for name in ("_condition", "_lock"):
            lock: object = getattr(one, name, None)
            if type(lock) in (asyncio.Condition, asyncio.Lock):
                setattr(one, name, type(lock)())


def _all_of(pool: ConnectionPool) -> list[ConnectionPool]:
    """Return a pool, and those through which it asks sentinels."""
    pools = [pool]
    if isinstance(pool, SentinelConnectionPool):
        manager = cast("Sentinel", pool.sentinel_manager)  # pyright: ignore[reportUnknownMemberType]
        pools += [sentinel.connection_pool for sentinel in manager.sentinels]
    return pools


async def _done(tasks: set[asyncio.Task[None]]) -> Answer:
    await asyncio.wait(tasks)
    return None


def _log_only(address: str, _loop: object, context: Mapping[str, object]) -> None:
    # Not the error's own words: nobody knows here what must not be repeated.
    error = type(context.get("exception")).__name__
    _log.warning(
        "asyncio, under a connection to %s: %s (%s)",
        address,
        context.get("message"),
        error,
        extra={
            "event": "asyncio",
            "prefix": "",
            "instance": "",
            "label": "",
            "store": f"<RedisStore at {address}>",
            "kind": "store",
            "error": error,
        },
    )
