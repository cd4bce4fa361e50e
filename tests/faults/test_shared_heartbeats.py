"""Heartbeats that travel together: what befalls them, or one of them, and what must not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest

from distkit_actors import RedisStore, StoreError, StrictInstanceAwareCounter
from distkit_actors._stores._redis._scripts import load_scripts
from tests.faults.fleet import proxied, until
from tests.faults.lens import Lens
from tests.faults.together import FAULTS, counters, names
from tests.harness.faults import is_script
from tests.harness.pressure import pressure
from tests.harness.proxy import FaultProxy
from tests.harness.resp import Request
from tests.harness.server import RedisServer

#: Seconds for what comes soon, on a busy machine.
PATIENCE = 30.0
#: Seconds between two heartbeats.
INTERVAL = 0.1


def is_shared(request: Request) -> bool:
    """Match the heartbeats of several."""
    return is_script(request) and load_scripts()["beats"].sha in request.args


@asynccontextmanager
async def idle(
    proxy: FaultProxy, prefix: str, number: int = 5
) -> AsyncIterator[list[StrictInstanceAwareCounter]]:
    """Start so many counters, of which each has counted once, and does nothing but beat now."""
    store = RedisStore(proxy.url, response_timeout=0.4 * pressure())
    async with counters(store, names(prefix, number), interval=INTERVAL) as many:
        for counter in many:
            assert await counter.inc("k") == (1, 1)
        yield many


async def all_beat(many: Sequence[StrictInstanceAwareCounter], times: int = 3) -> None:
    """Wait until the store has acknowledged so many batches more of each."""
    before = [counter.statistics().batches_done for counter in many]

    def enough() -> bool:
        done = (counter.statistics().batches_done for counter in many)
        return all(now >= then + times for now, then in zip(done, before, strict=True))

    await until(enough, PATIENCE)


async def shared(proxy: FaultProxy, times: int = 2) -> None:
    """Wait until so many commands more have had the heartbeats of several."""
    before = proxy.counts["delay"]
    proxy.delay(0, times, when=is_shared)
    await proxy.wait_for("delay", before + times)


async def test_those_who_are_idle_beat_together(
    redis_server: RedisServer, fresh_prefix: str
) -> None:
    async with proxied(redis_server) as proxy, idle(proxy, fresh_prefix) as many:
        await shared(proxy)
        lenses = [Lens(redis_server, counter.prefix) for counter in many]
        before = [lens.look().signs for lens in lenses]
        await shared(proxy)
        await until(
            lambda: all(
                lens.look().signs != signs for lens, signs in zip(lenses, before, strict=True)
            ),
            PATIENCE,
        )
        assert not any(counter.statistics().reconnects for counter in many)


@pytest.mark.parametrize("fault", FAULTS)
async def test_nothing_is_lost_whatever_befalls_them(
    fault: str, redis_server: RedisServer, fresh_prefix: str
) -> None:
    async with proxied(redis_server) as proxy, idle(proxy, fresh_prefix) as many:
        for _ in range(3):
            await shared(proxy)
            FAULTS[fault](proxy)
            await all_beat(many)
        for counter in many:
            assert await counter.inc("k") == (2, 2)
            snapshot = Lens(redis_server, counter.prefix).look()
            assert snapshot.of(counter.instance_id) == {"k": 2}
            snapshot.check()


def broken(server: RedisServer, prefix: str) -> Callable[[], object]:
    """Make one of the Redis keys of a namespace unusable; return what makes it good again."""
    key = f"dk:{{p.{prefix}}}:a"
    server.command("RENAME", key, "kept")
    server.command("SET", key, "no sorted set")
    return lambda: server.command("RENAME", "kept", key)


async def test_one_whose_namespace_is_broken_harms_no_other(
    own_redis: RedisServer, fresh_prefix: str
) -> None:
    async with proxied(own_redis) as proxy, idle(proxy, fresh_prefix) as many:
        await shared(proxy)
        mend = broken(own_redis, many[2].prefix)
        await until(lambda: many[2].statistics().outage_age is not None, PATIENCE)
        await all_beat([*many[:2], *many[3:]])
        mend()
        await all_beat(many)
        for counter in many:
            assert await counter.inc("k") == (2, 2)


async def test_one_that_may_not_any_more_harms_no_other(
    own_redis: RedisServer, fresh_prefix: str
) -> None:
    """The server refuses all of them, and each asks alone then."""
    prefixes = names(fresh_prefix, 3)
    rights = ["on", ">secret", "allcommands", "allchannels", "resetkeys"]
    patterns = [f"~dk:{{p.{prefix}}}:*" for prefix in prefixes]
    own_redis.command("ACL", "SETUSER", "us", *rights, *patterns)
    store = RedisStore(f"redis://us:secret@{own_redis.host}:{own_redis.port}")
    async with counters(store, prefixes, interval=INTERVAL) as many:
        await all_beat(many)
        own_redis.command("ACL", "SETUSER", "us", *rights, *patterns[1:])
        with pytest.raises(StoreError, match="NOPERM"):
            await many[0].inc("k")
        await all_beat(many[1:])
        own_redis.command("ACL", "SETUSER", "us", *rights, *patterns)
        for counter in many:
            assert await counter.inc("k") == (1, 1)


async def test_the_scripts_are_loaded_again_once_for_all(
    own_redis: RedisServer, fresh_prefix: str
) -> None:
    async with proxied(own_redis) as proxy, idle(proxy, fresh_prefix) as many:
        await shared(proxy)
        await own_redis.command_async("SCRIPT", "FLUSH")
        await all_beat(many)
        await shared(proxy)
        assert proxy.commands["SCRIPT"] == 2 * len(load_scripts())


async def test_after_a_loss_of_data_each_brings_its_slices_back(
    own_redis: RedisServer, fresh_prefix: str
) -> None:
    async with proxied(own_redis) as proxy, idle(proxy, fresh_prefix) as many:
        await shared(proxy)
        await own_redis.command_async("FLUSHALL")
        lenses = [Lens(own_redis, counter.prefix) for counter in many]
        await until(lambda: all(lens.look().sums == {"k": 1} for lens in lenses), PATIENCE)
