"""Which rights it takes to look, and pages of the dead on a real server."""

from __future__ import annotations

import pytest
import trio

from distkit_actors import Fleet, RedisStore, StoreError, StrictInstanceAwareCounter
from distkit_actors._instance._session import Session
from distkit_actors._protocol._liveness import LivenessConfig
from distkit_actors._protocol._messages import JUST_COME, Entry, Kind, Query, QueryKind, QueryPage
from tests.harness.server import RedisServer
from tests.harness.transports import OTHER, store_at

#: What it takes to look, in a server's words.
READS = ("-@all", "+@read", "+@connection", "+time", "+info", "+evalsha", "+eval", "+script")
READS_ONLY = (*READS, "+evalsha_ro", "+eval_ro", "-evalsha", "-eval")


def grant(server: RedisServer, *rights: str) -> str:
    """Return the URL of a user who has these rights."""
    server.command("ACL", "SETUSER", "onlooker", "reset", "on", ">pw", *rights)
    return server.url.replace("redis://", "redis://onlooker:pw@")


async def look(url: str, prefix: str) -> None:
    async with Fleet.open(prefix, url) as fleet:
        assert await fleet.get("k") == (3, 0)
        assert await fleet.keys() == ["k"]
        (info,) = await fleet.instances()
        assert info.alive
        assert list((await fleet.slices("k")).values()) == [3]
        with trio.fail_after(30):
            async with fleet.watch("k") as values:
                assert await values.receive() == (3, 0)
        with pytest.raises(StoreError, match="the user may not do what is needed"):
            await fleet.forget(info.instance_id)
    assert prefix in await Fleet.prefixes(url)


async def test_rights_to_read_are_enough(own_redis: RedisServer, fresh_prefix: str) -> None:
    """Before 7.0 rights to keys are to read and to write; from 7.0 on, reading can be had alone."""
    async with StrictInstanceAwareCounter.open(fresh_prefix, own_redis.url) as counter:
        await counter.inc("k", 3)
        own_redis.command("SCRIPT", "FLUSH")
        await look(grant(own_redis, "~dk:*", "&*", *READS), fresh_prefix)
        if own_redis.version >= (7, 0):
            own_redis.command("SCRIPT", "FLUSH")
            await look(grant(own_redis, "%R~dk:*", "&*", *READS_ONLY), fresh_prefix)
            await look(grant(own_redis, "%R~dk:*", "&*", *READS, "+evalsha_ro"), fresh_prefix)
            own_redis.command("SCRIPT", "FLUSH")
            url = grant(own_redis, "%R~dk:*", "&*", *READS_ONLY, "-script")
            await look(url, fresh_prefix)
        assert await counter.get("k") == (3, 3)


async def test_a_right_that_is_missing_is_named(own_redis: RedisServer, fresh_prefix: str) -> None:
    url = grant(own_redis, "~dk:*", "+@connection", "+info")
    with pytest.raises(StoreError, match="EVALSHA"):
        async with Fleet.open(fresh_prefix, url):
            pytest.fail("it has begun")
    with pytest.raises(StoreError, match="grant it SCAN"):
        await Fleet.prefixes(url)


async def test_prefixes_are_found_among_very_many_keys(own_redis: RedisServer) -> None:
    script = "for n = 1, 5000 do redis.call('SET', 'dk:{p.x' .. n .. '}:i:}:h', n) end"
    own_redis.command("EVAL", script, 0)
    own_redis.command("SET", "dk:{p.\xff}:h".encode("latin-1"), 1)
    url = own_redis.url
    async with StrictInstanceAwareCounter.open("one", url, instance_id="}:h"):
        async with StrictInstanceAwareCounter.open("two", url):
            assert await Fleet.prefixes(url) == ["one", "two"]
        assert await Fleet.prefixes(store_at(url, OTHER)) == ["one"]


async def test_thousands_of_dead_come_in_pages(redis_url: str, fresh_prefix: str) -> None:
    """So that no step takes long; together they have all."""
    dead, periods = 1100, LivenessConfig.of(0.3, None).periods
    now = 1_000_000_000_000
    store = RedisStore._with_clock(redis_url, lambda: now)
    async with store.link(fresh_prefix) as link:
        await link.connect()
        for number in range(dead):
            session = Session(f"i{number}", "nonce", periods)
            session_batches = [Entry(Kind.ADD, "k", number + 1)]
            while (request := session.request()) is not None:
                session.receive(await link.exchange(request))
            session.begin(session_batches, budget=0)
            while (request := session.request()) is not None:
                session.receive(await link.exchange(request))
        total = dead * (dead + 1) // 2
        assert await sums(link, ("k", "j")) == ({"k": total, "j": 0}, 0, 1)
        now += 10_000_000
        assert await sums(link, ("k",)) == ({"k": 0}, dead, 2)
        assert await sums(link, ("k", *(f"key-{n}" for n in range(99)))) == (
            {"k": 0, **{f"key-{n}": 0 for n in range(99)}},
            dead,
            3 * 12 + 2,
        )


async def sums(link, keys: tuple[str, ...]) -> tuple[dict[str, int], int, int]:  # type: ignore[no-untyped-def]
    """Return values without the dead, how many dead there are, and on how many pages."""
    values, dead, pages, cursor = dict.fromkeys(keys, 0), 0, 0, ""
    while True:
        reply = await link.exchange(Query("", QueryKind.VALUES, "", cursor, keys, JUST_COME))
        assert isinstance(reply, QueryPage)
        pages += 1
        for key, number, lives in reply.rows:
            values[key] += number if lives else -number
            dead += not lives
        cursor = reply.cursor
        if not cursor:
            return values, dead, pages
