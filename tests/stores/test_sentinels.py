"""How a store asks sentinels for the primary: fakes say what real ones say in bad moments."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
import trio
import trio.testing
from redis.asyncio.connection import Connection as TcpConnection

from distkit_actors import (
    RedisStore,
    StoreError,
    StoreUnavailableError,
    StrictInstanceAwareCounter,
)
from distkit_actors._stores._contract import StoreAwayError
from distkit_actors._stores._redis import _sentinel, _survey
from distkit_actors._stores._redis._sentinel import SentinelLocator
from distkit_actors._stores._redis._survey import MakeTo, Node
from tests.faults.fleet import until
from tests.harness.ports import LOOPBACK, free_port
from tests.harness.server import RedisServer

from .fakes import Fake, started

A, B = Node(LOOPBACK, 7001), Node("::1", 7002)
PATIENCE = 30.0


class FakeSentinel(Fake):
    """Knows one service, until told otherwise."""

    def __init__(self, primary: Node, epoch: int = 1) -> None:
        super().__init__(self.tell)
        self.primary = primary
        self.epoch = epoch
        self.flags = "master"
        self.error: Exception | None = None

    def tell(self, *words: str) -> object:
        if words[0] == "AUTH":
            return "OK"
        if self.error is not None:
            return self.error
        _, question, service = words
        if service != "service":
            return None if question != "MASTER" else Exception("ERR No such master with that name")
        if question == "MASTER":
            return ["name", service, "config-epoch", str(self.epoch), "flags", self.flags]
        return [self.primary.host, str(self.primary.port)]


def locator(
    *nodes: Node, service: str = "service", patience: float = PATIENCE, **settings: object
) -> SentinelLocator:
    async def ready() -> MakeTo:
        return lambda node: TcpConnection(host=node.host, port=node.port, **settings)

    return SentinelLocator(ready, nodes, service, patience)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look is due at once, and the next sentinel is asked once one is silent for a moment."""
    monkeypatch.setattr(_sentinel, "_PACE", 0.0)
    monkeypatch.setattr(_survey, "_STAGGER", 0.05)


async def test_a_sentinel_that_is_away_is_passed_over(nursery: trio.Nursery) -> None:
    (node,) = await started(nursery, FakeSentinel(A))
    where = locator(Node(LOOPBACK, free_port()), node)
    assert await where.locate(0) == A


async def test_a_silent_sentinel_is_not_waited_for_and_is_asked_last_from_then_on(
    nursery: trio.Nursery,
) -> None:
    silent, other = FakeSentinel(A), FakeSentinel(B)
    silent.silent = True
    where = locator(*await started(nursery, silent, other))
    with trio.fail_after(PATIENCE / 2):
        assert await where.locate(0) == B
        asked = len(silent.said)
        assert await where.locate(0) == B
    assert len(silent.said) == asked == 1


async def test_silent_sentinels_are_not_waited_for_for_ever(nursery: trio.Nursery) -> None:
    silent = FakeSentinel(A)
    silent.silent = True
    where = locator(*await started(nursery, silent), patience=0.2)
    with pytest.raises(StoreUnavailableError, match=r"says which server .* answered in time"):
        await where.locate(0)
    silent.silent = False
    where._patience = PATIENCE
    assert await where.locate(0) == A


async def test_slow_sentinels_are_waited_for_longer_each_time(nursery: trio.Nursery) -> None:
    """Else a fleet that gives its servers much to do would find none of them for as long."""
    slow = FakeSentinel(A)
    dead = Node(LOOPBACK, free_port())  # which says so at once
    where = locator(dead, *await started(nursery, slow), patience=1.0)
    slow.seconds = 0.5  # for each of two answers
    with pytest.raises(StoreUnavailableError):
        await where.locate(0)
    found = None
    with trio.fail_after(PATIENCE):
        while found is None:
            with suppress(StoreUnavailableError):
                found = await where.locate(0)
    assert found == A


async def test_a_store_comes_to_its_primary_though_its_sentinels_are_slow(
    nursery: trio.Nursery, redis_server: RedisServer, fresh_prefix: str
) -> None:
    """The time of the sentinels is not that of the primary, which is asked behind them."""
    slow = FakeSentinel(Node(LOOPBACK, redis_server.port))
    await started(nursery, slow)
    slow.seconds = 0.6  # for each of two answers
    store = RedisStore(f"redis+sentinel://{slow.node}/service", response_timeout=1.0)
    async with store.link(fresh_prefix) as link, store.subscribe(fresh_prefix) as feed:
        assert feed is not None
        for one in (link, feed):
            with trio.fail_after(PATIENCE):
                while True:  # noqa: ASYNC913 - connecting is a checkpoint
                    with suppress(StoreUnavailableError):
                        await one.connect()
                        break
        assert link.connected


async def test_a_look_takes_no_longer_however_long_no_sentinel_answers(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    """Requests wait for it, though the primary may be well."""
    silent = FakeSentinel(A)
    where = locator(*await started(nursery, silent))
    assert await where.locate(0) == A
    silent.silent = True
    for _ in range(4):
        began = trio.current_time()
        await where.look()
        assert trio.current_time() - began <= _sentinel._LOOK * PATIENCE


async def test_a_sentinel_that_knows_less_is_not_believed(nursery: trio.Nursery) -> None:
    newer, older = FakeSentinel(B, 8), FakeSentinel(A, 7)
    where = locator(*await started(nursery, newer, older))
    assert await where.locate(0) == B
    for _ in range(3):
        await where.look()
        assert where.serves(0, B)
        assert not where.serves(0, A)
        assert await where.locate(0) == B
    assert older.said


async def test_a_sentinel_that_came_back_without_its_memory_is_not_asked_first_for_ever(
    nursery: trio.Nursery,
) -> None:
    """It names the first primary, which is dead: so nobody has told it of the others."""
    older, newer = FakeSentinel(A, 0), FakeSentinel(B, 8)
    where = locator(*await started(nursery, older, newer))
    assert B in [await where.locate(0) for _ in range(2)]
    for _ in range(4):
        assert await where.locate(0) == B


@pytest.mark.parametrize("flags", ["s_down,master", "master,o_down", "master,disconnected"])
@pytest.mark.parametrize("order", ["older first", "newer first"])
async def test_a_sentinel_that_cannot_reach_the_primary_is_not_believed_alone(
    nursery: trio.Nursery, flags: str, order: str
) -> None:
    older, newer = FakeSentinel(A, 0), FakeSentinel(B, 8)
    older.flags = flags
    nodes = await started(nursery, older, newer)
    where = locator(*(nodes if order == "older first" else nodes[::-1]))
    assert await where.locate(0) == B
    newer.flags = flags
    for _ in range(3):
        assert await where.locate(0) == B


@pytest.mark.parametrize("how", ["locate", "look"])
async def test_sentinels_that_were_set_up_anew_are_believed(
    nursery: trio.Nursery, how: str
) -> None:
    one, two = FakeSentinel(A, 8), FakeSentinel(A, 8)
    where = locator(*await started(nursery, one, two))
    assert await where.locate(0) == A
    one.primary, one.epoch = B, 0
    for _ in range(2):  # one alone may know less
        await where.look()
        assert where.serves(0, A)
    two.primary, two.epoch = B, 0
    if how == "look":
        one.flags = two.flags = "master,s_down"  # none of them can reach it
        await where.look()
        assert where.serves(0, A)
        one.flags = two.flags = "master"
        await where.look()
        assert where.serves(0, B)
    else:
        assert await where.locate(0) == B


async def test_a_primary_that_sentinels_name_differently_stays(nursery: trio.Nursery) -> None:
    """One says its name, one its address, of one and the same configuration."""
    one, other = FakeSentinel(A, 3), FakeSentinel(B, 3)
    where = locator(*await started(nursery, one, other))
    first = await where.locate(0)
    for _ in range(4):
        await where.look()
        assert where.serves(0, first)
        assert await where.locate(0) == first
    one.primary = other.primary = A if first == B else B
    await where.look()
    assert where.serves(0, one.primary)  # all of them say it


async def test_a_look_finds_another_primary(nursery: trio.Nursery) -> None:
    fake = FakeSentinel(A, 1)
    where = locator(*await started(nursery, fake))
    assert await where.locate(0) == A
    assert where.serves(0, A)
    fake.primary, fake.epoch = B, 2
    assert where.serves(0, A)
    assert where.look_due
    await where.look()
    assert not where.serves(0, A)
    assert where.serves(0, B)


async def test_a_look_that_finds_nobody_changes_nothing(nursery: trio.Nursery) -> None:
    fake = FakeSentinel(A, 1)
    where = locator(*await started(nursery, fake))
    await where.locate(0)
    fake.error = Exception("LOADING it is")
    await where.look()
    assert where.serves(0, A)


async def test_each_run_of_trio_looks_by_its_own_clock(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their clocks begin anywhere, so that each would find the other's look too long ago."""
    monkeypatch.setattr(_sentinel, "_PACE", 1000.0)
    where = locator(*await started(nursery, FakeSentinel(A)))
    assert where.look_due
    await where.locate(0)
    assert not where.look_due

    async def elsewhere() -> list[bool]:
        due = [where.look_due]
        await where.locate(0)
        return [*due, where.look_due]

    assert await trio.to_thread.run_sync(trio.run, elsewhere) == [True, False]
    assert not where.look_due


async def test_sentinels_are_told_who_we_are(nursery: trio.Nursery) -> None:
    fake = FakeSentinel(A)
    where = locator(*await started(nursery, fake), username="su", password="sp")
    assert await where.locate(0) == A
    assert fake.said[0] == ["AUTH", "su", "sp"]


async def test_a_store_tells_sentinels_what_its_url_says(nursery: trio.Nursery) -> None:
    server = Fake(lambda *_: "OK")
    sentinel = FakeSentinel(A)
    await started(nursery, server, sentinel)
    sentinel.primary = server.node
    url = f"redis+sentinel://u:p@{sentinel.node}/service?sentinel_username=su&sentinel_password=sp"
    async with RedisStore(url).link("p") as link:
        with pytest.raises(StoreUnavailableError, match=f"server at {server.node}.* no primary"):
            await link.connect()
    assert sentinel.said[0] == ["AUTH", "su", "sp"]
    assert server.said == [["AUTH", "u", "p"], ["ROLE"]]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("NOAUTH Authentication required.", "sentinel_username and sentinel_password"),
        ("NOPERM this user has no permissions", "may not ask the sentinels"),
    ],
)
async def test_what_all_sentinels_refuse_is_refused(
    nursery: trio.Nursery, error: str, said: str
) -> None:
    one, two = FakeSentinel(A), FakeSentinel(A)
    where = locator(*await started(nursery, one, two))
    one.error = Exception(error)
    assert await where.locate(0) == A
    two.error = Exception(error)
    with pytest.raises(StoreError, match=said) as caught:
        await where.locate(0)
    assert not isinstance(caught.value, StoreUnavailableError)
    # The other one may know it.
    where = locator(one.node, Node(LOOPBACK, free_port()))
    with pytest.raises(StoreUnavailableError, match=said):
        await where.locate(0)


async def test_a_name_that_no_sentinel_knows_is_as_a_server_that_is_away(
    nursery: trio.Nursery,
) -> None:
    nodes = await started(nursery, FakeSentinel(A), FakeSentinel(A))
    where = locator(*nodes, service="other")
    with pytest.raises(StoreUnavailableError, match="know no service named 'other'") as caught:
        await where.locate(0)
    assert str(caught.value).count("other") == 1


@asynccontextmanager
async def link_to(role: object) -> AsyncIterator[tuple[RedisStore, Fake]]:
    def answer(*words: str) -> object:
        return role if words[0] == "ROLE" else "OK"

    async with trio.open_nursery() as nursery:
        server, sentinel = Fake(answer), FakeSentinel(A)
        await started(nursery, server, sentinel)
        sentinel.primary = server.node
        yield RedisStore(f"redis+sentinel://{sentinel.node}/service"), server
        nursery.cancel_scope.cancel()


async def test_a_replica_is_not_talked_to() -> None:
    async with link_to(["slave", LOOPBACK, 1, "connected", 5]) as (store, server):
        async with store.link("p") as link:
            for _ in range(2):
                with pytest.raises(StoreAwayError, match="is no primary"):
                    await link.connect()
                assert not link.connected
        async with store.subscribe("p") as subscription:
            assert subscription is not None
            with pytest.raises(StoreAwayError, match="is no primary"):
                await subscription.connect()
        with pytest.raises(StoreAwayError, match="is no primary"):
            await store.prefixes()
    assert server.said == [["ROLE"]] * 4


@pytest.mark.parametrize(
    "role",
    [
        ["master", 0, []],
        Exception("NOPERM this user has no permissions to run the 'role' command"),
        Exception("ERR unknown command 'ROLE'"),
    ],
)
async def test_a_server_that_does_not_say_its_role_is_taken_for_a_primary(role: object) -> None:
    async with link_to(role) as (store, server), store.link("p") as link:
        await link.connect()
        assert link.connected
        assert ["INFO", "server"] in server.said


def has(server: RedisServer, prefix: str, counter: StrictInstanceAwareCounter) -> bool:
    """Return whether a server knows an instance."""
    return bool(server.command("EXISTS", f"dk:{{p.{prefix}}}:i:{counter.instance_id}"))


async def test_a_primary_that_was_replaced_is_left_though_it_can_be_reached(
    nursery: trio.Nursery, redis_server: RedisServer, own_redis: RedisServer, fresh_prefix: str
) -> None:
    """Where a network is cut in two nothing but the sentinels tells."""
    sentinel = FakeSentinel(Node(LOOPBACK, redis_server.port))
    await started(nursery, sentinel)
    url = f"redis+sentinel://{sentinel.node}/service"
    with trio.fail_after(PATIENCE):
        async with (
            StrictInstanceAwareCounter.open(fresh_prefix, url) as busy,
            StrictInstanceAwareCounter.open(fresh_prefix, url, dead_instance_threshold=0.6) as idle,
        ):
            assert await busy.inc("k", 2) == (2, 2)
            assert await idle.inc("k", 1) == (3, 1)
            sentinel.primary, sentinel.epoch = Node(LOOPBACK, own_redis.port), 2
            # A heartbeat brings the idle one there.
            await until(lambda: has(own_redis, fresh_prefix, idle), PATIENCE)
            # What is asked next may still be answered by the old one.
            assert await busy.inc("k", 2) in {(5, 4), (4, 4)}
            while await busy.get("k") != (5, 4):
                pass
            assert has(own_redis, fresh_prefix, busy)


async def test_a_watch_leaves_a_primary_that_was_replaced(
    nursery: trio.Nursery, redis_server: RedisServer, own_redis: RedisServer, fresh_prefix: str
) -> None:
    sentinel = FakeSentinel(Node(LOOPBACK, redis_server.port))
    await started(nursery, sentinel)
    store = RedisStore(f"redis+sentinel://{sentinel.node}/service", response_timeout=0.5)
    with trio.fail_after(PATIENCE):
        async with (
            StrictInstanceAwareCounter.open(fresh_prefix, store) as counter,
            counter.watch("k") as seen,
        ):
            await counter.inc("k", 2)
            while await seen.receive() != (2, 2):
                pass
            sentinel.primary, sentinel.epoch = Node(LOOPBACK, own_redis.port), 2
            await counter.inc("k", 2)
            while not own_redis.command("PUBSUB", "CHANNELS"):
                await counter.get("k")
            await counter.inc("k", 2)
            while await seen.receive() != (6, 6):
                pass
