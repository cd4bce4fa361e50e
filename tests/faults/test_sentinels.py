"""Counters whose server is whichever the sentinels name."""

import logging
import math
from collections.abc import Iterator

import pytest
import trio

from distkit_actors import (
    RedisStore,
    StoreError,
    StoreUnavailableError,
    StrictInstanceAwareCounter,
)
from distkit_actors._stores._redis._sentinel import SentinelLocator
from distkit_actors._stores._redis._survey import Node
from tests.faults.counting import PATIENCE, counting
from tests.faults.fleet import strict, until
from tests.harness.ports import LOOPBACK
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


class Newcomer:
    """A service that the sentinels are told of while they run."""

    name = "newcomer"

    def __init__(self, sentinels: SentinelTrio) -> None:
        self._sentinels = sentinels
        self.url = url_of(sentinels).replace(f"/{sentinels.service}?", f"/{self.name}?")

    def tell(self) -> None:
        """Have all of them watch over it."""
        _, port = self._sentinels.primary_address()
        for sentinel in self._sentinels.sentinels:
            sentinel.command("SENTINEL", "MONITOR", self.name, LOOPBACK, port, 2)
            sentinel.command("SENTINEL", "SET", self.name, "auth-pass", self._sentinels.password)

    def forget(self) -> None:
        """Have those forget it that know it."""
        for sentinel in self._sentinels.sentinels:
            if len(sentinel.command("SENTINEL", "MASTERS")) > 1:
                sentinel.command("SENTINEL", "REMOVE", self.name)


@pytest.fixture
def newcomer(sentinels: SentinelTrio) -> Iterator[Newcomer]:
    service = Newcomer(sentinels)
    yield service
    service.forget()


async def test_a_service_that_no_sentinel_knows_is_named(
    newcomer: Newcomer, fresh_prefix: str
) -> None:
    """They may be told of it later, as a server may start later: so it is no refusal."""
    said = "know no service named 'newcomer': .* `sentinel monitor`"
    with pytest.raises(StoreUnavailableError, match=said) as caught:
        async with StrictInstanceAwareCounter.open(fresh_prefix, RedisStore(newcomer.url)):
            pass
    assert str(caught.value).count("newcomer") == 1  # and not once for each of them


async def test_a_start_waits_until_the_sentinels_know_the_service(
    newcomer: Newcomer, fresh_prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "distkit_actors")
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:

            async def tell() -> None:
                await until(lambda: "know no service named" in caplog.text, PATIENCE)
                newcomer.tell()

            nursery.start_soon(tell)
            async with StrictInstanceAwareCounter.open(
                fresh_prefix, RedisStore(newcomer.url), start_grace=math.inf
            ) as counter:
                assert await counter.inc("k") == (1, 1)


async def test_operations_wait_while_the_sentinels_have_forgotten_the_service(
    sentinels: SentinelTrio,
    newcomer: Newcomer,
    fresh_prefix: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As while they are given a new configuration: first it is removed, then told anew."""
    failures: list[StoreError] = []
    locate = SentinelLocator.locate

    async def locating(self: SentinelLocator, slot: int) -> Node:
        try:
            return await locate(self, slot)
        except StoreError as error:
            failures.append(error)
            raise

    monkeypatch.setattr(SentinelLocator, "locate", locating)
    newcomer.tell()
    with trio.fail_after(PATIENCE):
        async with strict(newcomer.url, fresh_prefix, response_timeout=1.0) as counter:
            assert await counter.inc("k") == (1, 1)
            newcomer.forget()
            sentinels.primary.command("CLIENT", "KILL", "TYPE", "normal")
            await until(lambda: len(failures) == 1, PATIENCE)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(counter.inc, "k")
                await until(lambda: len(failures) == 3, PATIENCE)
                newcomer.tell()
            assert await counter.get("k") == (2, 2)
