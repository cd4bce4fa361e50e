"""Links of a store share a connection to the primary that sentinels name."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from distkit_actors import RedisStore, StoreError, StoreUnavailableError
from distkit_actors._protocol._messages import (
    Applied,
    Apply,
    Entry,
    Kind,
    Load,
    Loaded,
    Peek,
    Peeked,
    Periods,
)
from distkit_actors._stores._contract import StoreAwayError
from distkit_actors._stores._redis import _sentinel
from distkit_actors._stores._redis._sentinel import SentinelLocator

from .fakes import started
from .nodes import Node, ask, linked
from .test_sentinels import A, FakeSentinel


@asynccontextmanager
async def watched(nursery: trio.Nursery) -> AsyncIterator[tuple[RedisStore, FakeSentinel, Node]]:
    sentinel, server = FakeSentinel(A), Node()
    await started(nursery, sentinel, server)
    sentinel.primary = server.node
    yield (
        RedisStore(f"redis+sentinel://{sentinel.node}/service", response_timeout=30),
        sentinel,
        server,
    )


@pytest.fixture
def seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looks before a test says so."""
    monkeypatch.setattr(_sentinel, "_PACE", 1e9)


def let_look(store: RedisStore) -> None:
    """Have a look be due."""
    assert isinstance(store._locator, SentinelLocator)
    store._locator._looked_at.set(-float("inf"))


def questions(sentinel: FakeSentinel) -> int:
    return sum(words[1] == "MASTER" for words in sentinel.said)


def roles(server: Node) -> int:
    return server.said.count(["ROLE"])


async def test_all_links_share_the_connection_to_the_primary(nursery: trio.Nursery) -> None:
    async with watched(nursery) as (store, sentinel, server), linked(store, *"abcdefgh") as links:
        assert server.connections == roles(server) == questions(sentinel) == 1
        assert all(link.can_send_nowait for link in links)


@pytest.mark.usefixtures("seldom")
async def test_one_looks_for_all(nursery: trio.Nursery) -> None:
    async with watched(nursery) as (store, sentinel, server), linked(store, *"abcdefgh") as links:
        for number in range(1, 4):
            assert questions(sentinel) == number
            let_look(store)
            for link in links:
                assert link.connected
                assert isinstance(await link.exchange(Peek("i")), Peeked)
                assert not link.connected
            async with trio.open_nursery() as asking:
                for link in links:
                    asking.start_soon(ask, link)
        assert server.connections == 1


async def test_who_asks_seldom_looks_before_each_request(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, mock_clock: trio.testing.MockClock
) -> None:
    """An old primary would answer it, and what it says may be seconds old."""
    monkeypatch.setattr(_sentinel, "_PACE", 2.0)
    async with watched(nursery) as (store, sentinel, server), linked(store, "p") as (p,):
        for number in range(1, 4):
            assert questions(sentinel) == number
            await ask(p)
            await ask(p)
            assert p.can_send_nowait
            mock_clock.jump(3)
            assert not p.can_send_nowait
            await ask(p)
        assert server.connections == 1


async def test_nobody_looks_between_two_pages_of_a_load(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, mock_clock: trio.testing.MockClock
) -> None:
    """To look is to connect, and on a new connection a load begins anew."""
    monkeypatch.setattr(_sentinel, "_PACE", 2.0)
    async with watched(nursery) as (store, _, server), linked(store, "p") as (p,):
        server.say("p", ["loaded", "500"])
        for _ in range(3):
            assert await p.exchange(Load("i", 1, 1, "")) == Loaded("500", [])
            mock_clock.jump(3)
            assert p.connected
        server.say("p", ["loaded", ""])
        assert await p.exchange(Load("i", 1, 1, "500")) == Loaded("", [])
        mock_clock.jump(3)
        assert not p.connected


async def test_nobody_looks_while_an_answer_is_on_its_way(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, mock_clock: trio.testing.MockClock
) -> None:
    """Whoever waits for it would take the connection for lost."""
    monkeypatch.setattr(_sentinel, "_PACE", 2.0)
    async with watched(nursery) as (store, sentinel, server), linked(store, "p") as (p,):
        p.send_nowait(Peek("i"))
        mock_clock.jump(3)
        assert p.connected
        assert isinstance(await p.receive(Peek("i")), Peeked)
        assert not p.connected
        await ask(p)
        server.say("p", Exception("OOM command not allowed"))
        for number in range(2, 5):  # though it only refuses
            assert questions(sentinel) == number
            with pytest.raises(StoreError):
                await p.exchange(Peek("i"))
            assert p.connected
            mock_clock.jump(3)
            assert not p.connected
            await p.connect()


async def test_who_writes_and_waits_for_replicas_looks_too(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, mock_clock: trio.testing.MockClock
) -> None:
    """`WAIT` and `INFO` are asked on the side."""
    monkeypatch.setattr(_sentinel, "_PACE", 2.0)
    async with watched(nursery) as (_, sentinel, server):
        store = RedisStore(
            f"redis+sentinel://{sentinel.node}/service", response_timeout=30, min_replicas=1
        )
        async with linked(store, "p") as (p,):
            server.say("p", "1|0|1,1 1 0 0 0")
            batch = Apply("i", 1, 1, 0, Periods(1, 1, 1), [Entry(Kind.ADD, "k", 1)])
            for number in range(1, 4):
                assert questions(sentinel) == number
                assert isinstance(await p.exchange(batch), Applied)
                await p.inspect()
                assert p.connected
                mock_clock.jump(3)
                assert not p.connected
                await p.connect()


@pytest.mark.usefixtures("seldom")
async def test_only_the_one_who_looks_waits_for_the_sentinels(nursery: trio.Nursery) -> None:
    async with watched(nursery) as (store, sentinel, _), linked(store, "p", "q") as (p, q):
        let_look(store)
        sentinel.silent = True
        await ask(p)
        assert not p.connected
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as asking:
                asking.start_soon(ask, p)
                await trio.testing.wait_all_tasks_blocked()
                await ask(q)
                scope.cancel()
        sentinel.silent = False
        await ask(p)


@pytest.mark.usefixtures("seldom")
async def test_when_one_learns_of_another_primary_all_leave_the_old_one(
    nursery: trio.Nursery,
) -> None:
    """What is on its way there is in doubt, and all that follows goes on one new connection."""
    async with watched(nursery) as (store, sentinel, old):
        new = Node()
        await started(nursery, new)
        async with linked(store, "p", "q", "r") as (p, q, r):
            let_look(store)
            await ask(p)
            old.silent = True
            await q.send(Peek("i"))
            sentinel.primary, sentinel.epoch = new.node, 2
            async with trio.open_nursery() as asking:
                asking.start_soon(ask, p)
                with pytest.raises(StoreUnavailableError) as caught:
                    await q.receive(Peek("i"))
            assert not isinstance(caught.value, StoreAwayError)
            for link in (q, r):
                await ask(link)
        assert new.connections == roles(new) == 1
        assert old.asked("q") == 2
        assert old.asked("r") == 1
        assert questions(sentinel) == 3  # at first, by the look, and for the new connection


async def test_a_server_that_refuses_to_write_is_left_by_all(nursery: trio.Nursery) -> None:
    async with watched(nursery) as (store, sentinel, old):
        new = Node()
        await started(nursery, new)
        async with linked(store, "p", "q") as (p, q):
            old.say("p", Exception("READONLY You can't write against a read only replica."))
            sentinel.primary, sentinel.epoch = new.node, 2
            with pytest.raises(StoreAwayError):
                await p.exchange(Peek("i"))
            assert not q.connected
            async with trio.open_nursery() as asking:
                asking.start_soon(ask, p)
                asking.start_soon(ask, q)
        assert new.connections == roles(new) == 1
        assert questions(sentinel) == 2
