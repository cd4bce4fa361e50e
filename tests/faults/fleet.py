"""Counters with short thresholds, and proxies to put in front of them."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Literal, TypeAlias, TypeVar

import trio

from distkit_actors import (
    LaxInstanceAwareCounter,
    RedisStore,
    StoreUnavailableError,
    StrictInstanceAwareCounter,
)
from tests.harness.proxy import FaultProxy
from tests.harness.server import RedisServer
from tests.harness.transports import Transport, store_at

Kind = Literal["strict", "lax"]
Counter: TypeAlias = StrictInstanceAwareCounter | LaxInstanceAwareCounter

CounterT = TypeVar("CounterT", StrictInstanceAwareCounter, LaxInstanceAwareCounter)

#: Seconds.
THRESHOLD = 0.6
HEARTBEAT = THRESHOLD / 3
RESPONSE_TIMEOUT = 0.25
#: So long that no heartbeat gets in the way of a test that counts requests.
UNHURRIED = 60.0
#: What a busy machine may add to a period.
SLACK = 0.4
#: Until what must come is given up, on a machine with next to no time for us, too.
PATIENCE = 60.0
_TICK = 0.005
_LONGEST_TICK = 0.02


def strict(
    url: str | RedisStore,
    prefix: str,
    *,
    instance_id: str | None = None,
    threshold: float = THRESHOLD,
    response_timeout: float = RESPONSE_TIMEOUT,
    exit_grace: float = 2.0,
    inherit: bool = False,
    transport: Transport | None = None,
) -> AbstractAsyncContextManager[StrictInstanceAwareCounter]:
    """Return a block around a strict counter."""
    return _patiently(
        lambda: StrictInstanceAwareCounter.open(
            prefix,
            _store(url, response_timeout, transport),
            instance_id=instance_id,
            dead_instance_threshold=threshold,
            exit_grace=exit_grace,
            inherit=inherit,
        )
    )


def lax(
    url: str | RedisStore,
    prefix: str,
    *,
    instance_id: str | None = None,
    threshold: float = THRESHOLD,
    response_timeout: float = RESPONSE_TIMEOUT,
    exit_grace: float = 2.0,
    inherit: bool = False,
    transport: Transport | None = None,
) -> AbstractAsyncContextManager[LaxInstanceAwareCounter]:
    """Return a block around a lax counter."""
    return _patiently(
        lambda: LaxInstanceAwareCounter.open(
            prefix,
            _store(url, response_timeout, transport),
            instance_id=instance_id,
            dead_instance_threshold=threshold,
            exit_grace=exit_grace,
            inherit=inherit,
        )
    )


OPEN: dict[Kind, Callable[..., AbstractAsyncContextManager[Counter]]] = {
    "strict": strict,
    "lax": lax,
}


def _store(
    url: str | RedisStore, response_timeout: float, transport: Transport | None
) -> RedisStore:
    if isinstance(url, RedisStore):  # which has all of it
        return url
    if transport is None:  # what the `transport` fixture has chosen, or the default
        return RedisStore(url, response_timeout=response_timeout)
    return store_at(url, transport, response_timeout)


@asynccontextmanager
async def _patiently(
    make: Callable[[], AbstractAsyncContextManager[CounterT]],
) -> AsyncIterator[CounterT]:
    """Run a counter; should a busy machine miss the short timeout at its start, try again."""
    async with AsyncExitStack() as stack:
        for tries_left in reversed(range(20)):
            try:
                counter = await stack.enter_async_context(make())
            except StoreUnavailableError:
                if not tries_left:
                    raise
                await trio.sleep(0.05)
            else:
                break
        yield counter


@asynccontextmanager
async def proxied(server: RedisServer) -> AsyncIterator[FaultProxy]:
    """Run a proxy in front of ``server``; at the end of the block it is healed and stopped."""
    async with trio.open_nursery() as nursery:
        proxy = FaultProxy(server)
        await nursery.start(proxy.run)
        yield proxy
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def doomed(block: AbstractAsyncContextManager[Counter]) -> AsyncIterator[Counter]:
    """Let the counter of ``block`` end without its store, as one does that was killed."""
    try:
        async with block as counter:
            yield counter
    except StoreUnavailableError:
        pass


async def settle(counter: Counter) -> None:
    """Wait until what ``counter`` has counted is in the store."""
    if isinstance(counter, LaxInstanceAwareCounter):
        await counter.flush()


async def until(condition: Callable[[], bool], within: float) -> float:
    """Wait until ``condition`` holds, and return how long it took in seconds.

    Only as far as this process was served. Counters run in here, or on the same machine: while
    nobody is served, nobody can be late.
    """
    took = 0.0
    while not condition():
        assert took < within, f"not within {within} s"
        before = trio.current_time()
        await trio.sleep(_TICK)
        took += min(trio.current_time() - before, _LONGEST_TICK)
    return took


async def becomes(look: Callable[[], object], wanted: object, within: float = PATIENCE) -> None:
    """Wait until what ``look`` returns equals ``wanted``."""
    try:
        await until(lambda: look() == wanted, within)
    except AssertionError:
        assert look() == wanted  # says how they differ
        raise


class Spinner:
    """Tasks that count 1 at a time on one key, and how often they were told that it was done."""

    def __init__(self, inc: Callable[[], Awaitable[object]], tasks: int = 4) -> None:
        self.done = 0
        self._inc = inc
        self._tasks = tasks
        self._stopping = False

    async def run(self) -> None:
        """Count until `stop`; all that was begun is finished."""
        async with trio.open_nursery() as nursery:
            for _ in range(self._tasks):
                nursery.start_soon(self._spin)

    def stop(self) -> None:
        """Begin nothing more."""
        self._stopping = True

    async def _spin(self) -> None:
        while not self._stopping:
            await self._inc()
            self.done += 1
            # Leaves the processor to the others, on a machine with one core.
            await trio.sleep(0.002)
