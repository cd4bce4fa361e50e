"""An operation that is alone is sent by its caller's own task: nothing else changes.

P38, lone operation.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager

import pytest
import trio

from distkit_actors import StrictInstanceAwareCounter
from distkit_actors._protocol._messages import Request
from distkit_actors._stores._redis._link import RedisLink
from distkit_actors._stores._redis._sockets import SocketStream
from tests.faults.fleet import UNHURRIED, proxied, strict
from tests.faults.lens import Lens
from tests.harness.server import RedisServer

#: After so many operations, one by one, the next is expected to be alone too.
STREAK = 5


@pytest.fixture
def senders(monkeypatch: pytest.MonkeyPatch) -> list[trio.lowlevel.Task]:
    """Return the tasks that have sent an operation themselves, in order."""
    seen: list[trio.lowlevel.Task] = []
    send_nowait = RedisLink.send_nowait

    def noting(link: RedisLink, request: Request) -> None:
        seen.append(trio.lowlevel.current_task())
        send_nowait(link, request)

    monkeypatch.setattr(RedisLink, "send_nowait", noting)
    return seen


def open_lone(
    url: str, prefix: str, patience: float = 5.0
) -> AbstractAsyncContextManager[StrictInstanceAwareCounter]:
    return strict(url, prefix, threshold=UNHURRIED, response_timeout=patience, transport="trio")


async def alone(counter: StrictInstanceAwareCounter) -> None:
    """Make it expect that whoever comes is alone."""
    for _ in range(STREAK):
        await counter.get("k")


async def test_its_caller_sends_it(
    redis_url: str, fresh_prefix: str, senders: list[trio.lowlevel.Task]
) -> None:
    async with open_lone(redis_url, fresh_prefix) as counter:
        await counter.get("k")
        assert not senders
        await alone(counter)
        before = len(senders)
        for number in range(1, 20):
            assert await counter.inc("k") == (number, number)
        assert senders[before:] == [trio.lowlevel.current_task()] * 19


async def test_those_who_come_together_travel_together(
    redis_url: str, fresh_prefix: str, senders: list[trio.lowlevel.Task]
) -> None:
    """The first of them may be taken for one who is alone, but only once."""

    async def count() -> None:
        for _ in range(50):
            await counter.inc("k")

    async with open_lone(redis_url, fresh_prefix) as counter:
        await alone(counter)
        for crowd in (2, 3, 10):
            senders.clear()
            before = counter.statistics().batches_done
            async with trio.open_nursery() as nursery:
                for _ in range(crowd):
                    nursery.start_soon(count)
            assert counter.statistics().batches_done - before < 70
            assert len(senders) <= 8  # at the ends of the crowds, where one is alone


@pytest.mark.parametrize(
    "scope",
    [
        lambda: _cancelled(trio.CancelScope()),
        lambda: trio.CancelScope(deadline=trio.current_time() - 1),
    ],
    ids=["cancelled", "after its deadline"],
)
async def test_cancelled_before_it_is_never_sent(
    scope: Callable[[], trio.CancelScope],
    redis_url: str,
    fresh_prefix: str,
    senders: list[trio.lowlevel.Task],
) -> None:
    async with open_lone(redis_url, fresh_prefix) as counter:
        await alone(counter)
        before = len(senders)
        with scope() as cancelled:
            await counter.inc("k")
        assert cancelled.cancelled_caught
        assert len(senders) == before
        assert await counter.get("k") == (0, 0)


def _cancelled(scope: trio.CancelScope) -> trio.CancelScope:
    scope.cancel()
    return scope


async def test_cancelled_on_its_way_it_happens_once_or_never(
    redis_url: str, fresh_prefix: str, senders: list[trio.lowlevel.Task]
) -> None:
    dice = random.Random(38)
    done = gone = 0
    async with open_lone(redis_url, fresh_prefix) as counter:
        for _ in range(60):
            start = trio.current_time()
            await alone(counter)
            usual = (trio.current_time() - start) / STREAK  # now, on this machine
            for _ in range(5):
                with trio.move_on_after(dice.uniform(0, 2 * usual)) as limit:
                    await counter.inc("k")
                    done += 1
                gone += limit.cancelled_caught
        total = (await counter.get("k")).cumulative
        assert done <= total <= done + gone
        assert await counter.get("k") == (total, total)
        assert len(senders) > 100
        assert done > 10
        assert gone > 10


async def test_a_stop_waits_for_it(redis_url: str, fresh_prefix: str) -> None:
    async with open_lone(redis_url, fresh_prefix) as counter:
        await alone(counter)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_expect, counter.inc, (1, 1))
            nursery.start_soon(counter.aclose)


async def _expect(act: Callable[[str], Awaitable[object]], value: object) -> None:
    assert await act("k") == value


async def test_that_is_not_answered_in_time_it_is_asked_again(
    redis_server: RedisServer, fresh_prefix: str, senders: list[trio.lowlevel.Task]
) -> None:
    async with (
        proxied(redis_server) as proxy,
        open_lone(proxy.url, fresh_prefix, patience=0.3) as counter,
    ):
        for number in range(1, 4):
            await alone(counter)
            before, begun = counter.statistics().reconnects, len(senders)
            proxy.delay_reply(1.0)
            assert await counter.inc("k") == (number, number)
            assert len(senders) > begun
            assert counter.statistics().reconnects > before
        assert Lens(redis_server, fresh_prefix).look().of(counter.instance_id) == {"k": 3}


async def test_it_has_as_long_for_its_answer_as_any_other(
    redis_server: RedisServer, fresh_prefix: str, senders: list[trio.lowlevel.Task]
) -> None:
    async with (
        proxied(redis_server) as proxy,
        open_lone(proxy.url, fresh_prefix, patience=1.0) as counter,
    ):
        await alone(counter)
        proxy.delay_reply(0.4, None)
        for number in range(1, 7):
            assert await counter.inc("k") == (number, number)
        assert len(senders) >= 6
        assert counter.statistics().reconnects == 0


async def test_scripts_that_the_server_has_forgotten_are_loaded(
    own_redis: RedisServer, fresh_prefix: str, senders: list[trio.lowlevel.Task]
) -> None:
    async with open_lone(own_redis.url, fresh_prefix) as counter:
        await alone(counter)
        begun = len(senders)
        await own_redis.command_async("SCRIPT", "FLUSH")
        assert await counter.inc("k") == (1, 1)
        assert len(senders) == begun + 1


@pytest.mark.parametrize("size", [0, 1, 100])
async def test_what_does_not_fit_into_the_socket_is_sent_later(
    size: int, redis_url: str, fresh_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = SocketStream.send_nowait
    monkeypatch.setattr(
        SocketStream, "send_nowait", lambda stream, data: send(stream, data[:size]) if size else 0
    )
    async with open_lone(redis_url, fresh_prefix) as counter:
        await alone(counter)
        for number in range(1, 20):
            assert await counter.inc("k") == (number, number)


async def test_what_is_sent_into_a_broken_connection_is_sent_again(
    redis_server: RedisServer, fresh_prefix: str, senders: list[trio.lowlevel.Task]
) -> None:
    async with proxied(redis_server) as proxy, open_lone(proxy.url, fresh_prefix) as counter:
        for number in range(1, 20):
            await alone(counter)
            begun = len(senders)
            proxy.cut_all()
            if number % 2:
                await trio.sleep(0.01)  # so that the socket knows
            assert await counter.inc("k") == (number, number)
            assert len(senders) > begun
