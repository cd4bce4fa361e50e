"""Counters whose server is whichever the sentinels name."""

import pytest
import trio

from distkit_actors import RedisStore, StoreError, StrictInstanceAwareCounter
from tests.faults.counting import PATIENCE, counting
from tests.faults.fleet import strict
from tests.harness.sentinel import SentinelTrio


@pytest.fixture(autouse=True)
def whole(sentinels: SentinelTrio) -> None:
    """The test before may have left a server that is a primary still, or none that runs."""
    for server in sentinels.servers:
        server.start()
    sentinels.wait_until_ok()


def url_of(sentinels: SentinelTrio) -> str:
    hosts = ",".join(f"{one.host}:{one.port}" for one in sentinels.sentinels)
    return (
        f"redis+sentinel://:{sentinels.password}@{hosts}/{sentinels.service}"
        f"?sentinel_password={sentinels.sentinel_password}"
    )


async def test_all_go_on_at_the_new_primary_when_roles_are_swapped(
    sentinels: SentinelTrio, fresh_prefix: str
) -> None:
    """The old one stays a primary for some seconds more, and can be reached: nobody stays there."""
    with trio.fail_after(PATIENCE):
        async with counting(url_of(sentinels), [fresh_prefix]) as (load,):
            new = await trio.to_thread.run_sync(sentinels.failover)
            await load.more()
            await load.all_there(new)


async def test_all_go_on_at_the_new_primary_when_the_old_one_has_died(
    sentinels: SentinelTrio, fresh_prefix: str
) -> None:
    with trio.fail_after(PATIENCE):
        async with counting(url_of(sentinels), [fresh_prefix]) as (load,):
            dead = sentinels.kill_primary()
            new = await trio.to_thread.run_sync(sentinels.wait_for_heir, dead)
            await load.more()
            # Back again, as a replica: nobody asks it for anything.
            await dead.start_async()
            await trio.to_thread.run_sync(sentinels.wait_until_ok)
            await load.more()
            await load.all_there(new)
            assert "cmdstat_evalsha" not in dead.command("INFO", "commandstats")


async def test_counters_find_the_primary_though_most_sentinels_are_gone(
    sentinels: SentinelTrio, fresh_prefix: str
) -> None:
    gone = sentinels.sentinels[:2]
    try:
        for sentinel in gone:
            sentinel.kill()
        with trio.fail_after(PATIENCE):
            async with strict(url_of(sentinels), fresh_prefix, response_timeout=1.0) as counter:
                assert await counter.inc("k", 3) == (3, 3)
    finally:
        for sentinel in gone:
            sentinel.start()


async def test_a_watch_goes_on_at_the_new_primary(
    sentinels: SentinelTrio, fresh_prefix: str
) -> None:
    url = url_of(sentinels)
    with trio.fail_after(PATIENCE):
        async with (
            strict(url, fresh_prefix, response_timeout=1.0, threshold=6.0) as a,
            strict(url, fresh_prefix, response_timeout=1.0, threshold=6.0) as b,
            b.watch("k") as seen,
        ):
            await a.inc("k", 1)
            while (await seen.receive()).cumulative != 1:
                pass
            await trio.to_thread.run_sync(sentinels.failover)
            await a.inc("k", 1)
            while (await seen.receive()).cumulative != 2:
                pass


async def test_a_wrong_password_for_the_sentinels_is_said(
    sentinels: SentinelTrio, fresh_prefix: str
) -> None:
    url = url_of(sentinels).replace("sentinel_password=other", "sentinel_password=wr0ng")
    with pytest.raises(StoreError, match="sentinel_username and sentinel_password") as caught:
        async with StrictInstanceAwareCounter.open(fresh_prefix, RedisStore(url)):
            pass
    assert "wr0ng" not in str(caught.value)
