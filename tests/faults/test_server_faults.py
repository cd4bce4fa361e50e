"""Whatever the server does, nothing is lost, doubled or revived, and the living stay."""

import logging
import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

import pytest
import trio
import trio.lowlevel

from distkit_actors import (
    Fleet,
    LaxInstanceAwareCounter,
    OutcomeUnknownError,
    RedisStore,
    StoreUnavailableError,
    StrictInstanceAwareCounter,
)
from distkit_actors._stores._redis._wire import KeyNames
from tests.faults.fleet import (
    HEARTBEAT,
    PATIENCE,
    RESPONSE_TIMEOUT,
    SLACK,
    THRESHOLD,
    UNHURRIED,
    Counter,
    Spinner,
    becomes,
    lax,
    proxied,
    strict,
    until,
)
from tests.faults.lens import Lens
from tests.faults.troubles import LOSSES, TROUBLES, doubt
from tests.harness.logs import events
from tests.harness.proxy import FaultProxy, anything
from tests.harness.server import RedisServer
from tests.harness.transports import OTHER

# ------------------------------------------------------------------------ under load


@pytest.mark.parametrize("trouble", TROUBLES)
async def test_counting_goes_on_exactly(
    trouble: str, durable_redis: RedisServer, fresh_prefix: str
) -> None:
    """Strict and lax tasks count through it, three times over; each count is there once.

    Over both transports at the same time.
    """
    server = durable_redis
    with trio.fail_after(120):
        async with (
            strict(server.url, fresh_prefix, transport="trio") as a,
            strict(server.url, fresh_prefix, transport=OTHER) as b,
            lax(server.url, fresh_prefix, transport="trio") as c,
            lax(server.url, fresh_prefix, transport=OTHER) as d,
        ):

            def lax_spinner(counter: LaxInstanceAwareCounter) -> Spinner:
                async def count() -> None:
                    counter.inc_nowait("k")
                    await trio.lowlevel.checkpoint()

                return Spinner(count, tasks=2)

            spinners = (
                Spinner(lambda: a.inc("k")),
                Spinner(lambda: b.dec("k")),
                lax_spinner(c),
                lax_spinner(d),
            )
            await a.inc("quiet", 7)
            await b.dec("quiet", 3)
            async with trio.open_nursery() as nursery:
                for spinner in spinners:
                    nursery.start_soon(spinner.run)
                for _ in range(3):
                    await further(spinners)
                    await TROUBLES[trouble](server)
                await further(spinners)
                for spinner in spinners:
                    spinner.stop()
            await c.flush()
            await d.flush()
            up, down, late, later = (spinner.done for spinner in spinners)
            wanted = {
                a.instance_id: {"k": up, "quiet": 7},
                b.instance_id: {"k": -down, "quiet": -3},
                c.instance_id: {"k": late},
                d.instance_id: {"k": later},
            }
            # What was lost last is back with the next beats.
            lens = Lens(server, fresh_prefix)
            await becomes(lambda: lens.look().slices, wanted)
            lens.look().check()
            assert await a.get("k") == (up - down + late + later, up)


async def further(spinners: Sequence[Spinner]) -> None:
    """Wait until each has counted some more."""
    goals = [spinner.done + 3 for spinner in spinners]
    await until(
        lambda: all(s.done >= goal for s, goal in zip(spinners, goals, strict=True)), PATIENCE
    )


# ------------------------------------------------------------------------- data loss


@pytest.mark.parametrize("loss", LOSSES)
async def test_idle_instances_heal_a_data_loss_within_one_heartbeat(
    loss: str, own_redis: RedisServer, fresh_prefix: str
) -> None:
    """Nobody does anything but beat, and all slices are back (I7)."""
    async with (
        strict(own_redis.url, fresh_prefix, transport="trio") as a,
        strict(own_redis.url, fresh_prefix, transport=OTHER) as b,
        lax(own_redis.url, fresh_prefix, transport=OTHER) as c,
    ):
        await a.inc("k", 5)
        await a.dec("negative", 9)
        await b.inc("k", 7)
        c.inc_nowait("k", 20)
        await c.flush()
        lens = Lens(own_redis, fresh_prefix)
        before = lens.look()
        for _ in range(3):
            await trio.sleep(0.05)
            await TROUBLES[loss](own_redis)
            took = await until(lambda: lens.look().slices == before.slices, 5)
            assert took < HEARTBEAT + SLACK
            lens.look().check()
            assert await a.get("k") == (32, 5)


@pytest.mark.parametrize("learned", ["everybody knew of the move", "nobody knew of the move"])
@pytest.mark.parametrize("first", ["mover back first", "others back first"])
@pytest.mark.parametrize("move", ["set", "delete", "clear"])
async def test_moves_of_living_movers_survive_a_data_loss(
    move: str, first: str, learned: str, redis_server: RedisServer, fresh_prefix: str
) -> None:
    """No slice that was void before the loss counts after it, whoever is back first (I2, I7)."""
    async with (
        RedisServerBlock() as server,
        proxied(server) as near,
        proxied(server) as far,
        strict(near.url, fresh_prefix) as mover,
        strict(far.url, fresh_prefix) as other,
        lax(far.url, fresh_prefix) as third,
    ):
        await other.inc("k", 10)
        await other.inc("l", 1)
        third.inc_nowait("k", 20)
        await third.flush()
        await mover.inc("k", 5)
        await mover.inc("l", 2)
        if learned == "nobody knew of the move":
            far.pause()
        if move == "set":
            await mover.set("k", 100)
            sums = {"k": 100, "l": 3}
        elif move == "delete":
            await mover.delete("k")
            sums = {"l": 3}
        else:
            await mover.clear()
            sums = {}
        if learned != "nobody knew of the move":
            await trio.sleep(HEARTBEAT + 0.05)
        ahead, behind = (near, far) if first == "mover back first" else (far, near)
        behind.pause()
        await server.command_async("FLUSHALL")
        ahead.resume()
        await trio.sleep(1.5 * HEARTBEAT)
        behind.resume()
        lens = Lens(server, fresh_prefix)
        beats = 2 if move == "clear" else 1
        took = await until(lambda: lens.look().sums == sums, 5)
        assert took < beats * HEARTBEAT + RESPONSE_TIMEOUT + SLACK
        await trio.sleep(HEARTBEAT)
        snapshot = lens.look()
        assert snapshot.sums == sums
        snapshot.check()
        # And not by way of an operation of an owner of the void slice.
        assert await other.inc("k", 1) == (sums.get("k", 0) + 1, 1)


@pytest.mark.parametrize(
    "first", ["a heartbeat", "an inc", "a newcomer", "forget", "clear", "a watch", "a look"]
)
async def test_the_loss_of_the_sums_alone_heals(
    first: str, own_redis: RedisServer, fresh_prefix: str
) -> None:
    """A server that evicts may take them away and leave the records."""
    lens, name = Lens(own_redis, fresh_prefix), KeyNames.base(fresh_prefix) + ":n"
    async with (
        strict(own_redis.url, fresh_prefix) as a,
        lax(own_redis.url, fresh_prefix) as b,
        strict(own_redis.url, fresh_prefix, threshold=UNHURRIED) as seldom,
        Fleet.open(fresh_prefix, own_redis.url) as fleet,
    ):
        wanted = {a.instance_id: {"k": 5, "own": 1}, b.instance_id: {"k": 2}}
        wanted[seldom.instance_id] = {"k": 4}
        await a.inc_all({"k": 5, "own": 1})
        await b.inc("k", 2)
        await b.flush()
        await seldom.inc("k", 4)
        await seldom.delete("gone")
        for _ in range(2):
            await own_redis.command_async("DEL", name)
            match first:
                case "an inc":
                    await a.inc("own")
                    wanted[a.instance_id]["own"] += 1
                case "a newcomer":
                    async with strict(own_redis.url, fresh_prefix) as newcomer:
                        await newcomer.inc("k")
                case "forget":
                    await fleet.forget(b.instance_id)
                case "clear":
                    with suppress(OutcomeUnknownError):  # if its answer was late
                        await a.clear()
                    await a.clear()
                    await a.inc("own")
                    wanted = {a.instance_id: {"own": 1}}
                case "a watch":
                    async with fleet.watch("k") as values:
                        await values.receive()
                case "a look":
                    await fleet.instances()
            await seldom.inc("k", 0)  # whose heartbeats are rare
            await becomes(lambda: lens.look().slices, wanted)
            lens.look().check()
            assert own_redis.command("TTL", name) == -1
            assert await a.get("own") == (wanted[a.instance_id]["own"],) * 2
    left = own_redis.command("KEYS", KeyNames.base(fresh_prefix) + ":*")
    assert all(own_redis.command("TTL", key) > 0 for key in left)


@asynccontextmanager
async def RedisServerBlock() -> AsyncIterator[RedisServer]:  # noqa: N802
    """Run a server of one's own."""
    with RedisServer() as server:
        yield server


async def test_blackout_of_twice_the_threshold_shows_no_dip(
    own_redis: RedisServer, fresh_prefix: str
) -> None:
    """A server that stood still finds everybody silent and reaps nobody (I5)."""
    seen: list[int] = []
    async with (
        strict(own_redis.url, fresh_prefix, transport="trio") as a,
        strict(own_redis.url, fresh_prefix, transport=OTHER) as b,
        lax(own_redis.url, fresh_prefix, transport=OTHER) as c,
    ):
        for counter in (a, b, c):
            await counter.inc("k", 10)
        await c.flush()
        await trio.sleep(0.03)

        async def watch(counter: Counter) -> None:
            while True:
                seen.append((await counter.get("k")).cumulative)
                await trio.sleep(0.01)

        async with trio.open_nursery() as nursery:
            for counter in (a, b, c):
                nursery.start_soon(watch, counter)
            own_redis.pause()
            await trio.sleep(2 * THRESHOLD)
            own_redis.resume()
            await trio.sleep(2 * THRESHOLD)
            enough = len(seen) + 10
            await until(lambda: len(seen) >= enough, 5)
            nursery.cancel_scope.cancel()
    assert set(seen) == {30}


# -------------------------------------------------------------------------- failover


@pytest.mark.usefixtures("transport")
async def test_replica_refuses_until_it_is_promoted(
    own_redis: RedisServer, fresh_prefix: str
) -> None:
    """READONLY means "away": operations wait, nobody gets an error, nothing changes twice."""
    with RedisServer(replica_of=own_redis) as replica:
        async with (
            proxied(own_redis) as proxy,
            strict(proxy.url, fresh_prefix) as a,
            lax(proxy.url, fresh_prefix) as b,
        ):
            await a.inc("k", 5)
            b.inc_nowait("k", 7)
            await b.flush()
            replica.wait_in_sync()
            results: list[object] = []

            async def inc() -> None:
                results.append(await a.inc("k", 1))

            with trio.fail_after(5):
                async with trio.open_nursery() as nursery:
                    own_redis.kill()
                    proxy.point_at(replica)
                    nursery.start_soon(inc)
                    b.inc_nowait("k", 10)
                    await trio.sleep(0.2)
                    assert not results
                    await trio.to_thread.run_sync(replica.promote)
                await b.flush()
            assert results in ([(13, 6)], [(23, 6)])
            assert await a.get("k") == (23, 6)
            Lens(replica, fresh_prefix).look().check()


@pytest.mark.usefixtures("transport")
async def test_failover_that_rolls_back_acknowledged_writes_is_healed(
    own_redis: RedisServer, fresh_prefix: str
) -> None:
    """What the replica had not seen yet is asserted again, moves included (I7)."""
    with RedisServer(replica_of=own_redis) as replica:
        async with (
            proxied(own_redis) as proxy,
            strict(proxy.url, fresh_prefix) as a,
            strict(proxy.url, fresh_prefix) as b,
            lax(proxy.url, fresh_prefix) as c,
        ):
            for counter in (a, b, c):
                await counter.inc("k", 5)
                await counter.inc("moved", 5)
                await counter.inc("gone", 5)
            await c.flush()
            replica.wait_in_sync()
            replica.promote()  # from here on it sees nothing more
            await a.inc("k", 2)
            await b.set("moved", 50)
            await b.inc("moved", 1)
            await c.delete_on_instance("gone")
            await c.inc("k", 1)
            await a.inc("new", 3)
            await c.flush()
            await trio.sleep(HEARTBEAT + 0.05)
            own_redis.kill()
            proxy.point_at(replica)
            lens = Lens(replica, fresh_prefix)
            sums = {"k": 18, "moved": 51, "gone": 10, "new": 3}
            took = await until(lambda: lens.look().sums == sums, 5)
            assert took < HEARTBEAT + RESPONSE_TIMEOUT + SLACK
            lens.look().check()
            assert await a.inc("moved", 1) == (52, 1)


# --------------------------------------------------------------------------- outages


async def test_loading_server_is_waited_for(fresh_prefix: str) -> None:
    """LOADING means "away": nobody gets an error, and what was counted is there afterwards."""
    # While it loads, a server answers after every 2 MB; the start of the file is in the format
    # for which it can be told to take its time.
    config = {"key-load-delay": "0", "aof-use-rdb-preamble": "yes", "rdbcompression": "no"}
    with RedisServer(persistent=True, config=config) as server:
        server.command("MSET", *(w for n in range(100) for w in (f"filler{n}", "x" * 200_000)))
        async with (
            strict(server.url, fresh_prefix, transport="trio") as a,
            lax(server.url, fresh_prefix) as b,
            strict(server.url, fresh_prefix, transport=OTHER) as c,
        ):
            await a.inc("k", 5)
            b.inc_nowait("k", 7)
            await b.flush()
            server.command("BGREWRITEAOF")
            await until(
                lambda: (
                    server.command("INFO", "persistence")["aof_rewrite_in_progress"] == 0
                    and server.command("INFO", "persistence")["aof_rewrite_scheduled"] == 0
                ),
                5,
            )
            server._config["key-load-delay"] = "12000"
            server.kill()
            await server.start_async()
            assert server.command("INFO", "persistence")["loading"] == 1
            b.inc_nowait("k", 10)
            with trio.fail_after(10):
                async with trio.open_nursery() as nursery:
                    for counter in (a, c):
                        nursery.start_soon(counter.inc, "k", 1)
                await b.flush()
                assert server.command("INFO", "persistence")["loading"] == 0
                assert await a.get("k") == (24, 6)
            assert "errorstat_LOADING" in server.command("INFO", "errorstats")
            Lens(server, fresh_prefix).look().check()


@pytest.mark.usefixtures("transport")
async def test_a_start_waits_for_a_server_that_is_slow(
    proxy: FaultProxy, fresh_prefix: str
) -> None:
    """Whatever it is asked first: who we are, how it is set up, our id."""
    with RedisServer(config={"requirepass": "secret"}) as server:
        proxy.point_at(server)
        proxy.delay_reply(0.25, None, when=anything)
        store = RedisStore(proxy.url, response_timeout=0.2)
        async with StrictInstanceAwareCounter.open(fresh_prefix, store) as counter:
            assert await counter.inc("a") == (1, 1)


@pytest.mark.usefixtures("transport")
async def test_a_start_ends_if_a_server_never_answers(proxy: FaultProxy, fresh_prefix: str) -> None:
    proxy.delay_reply(math.inf, None, when=anything)
    store = RedisStore(proxy.url, response_timeout=0.1)
    with pytest.raises(StoreUnavailableError, match=r"no answer for 0\.4 seconds"):
        async with StrictInstanceAwareCounter.open(fresh_prefix, store):
            raise AssertionError("it has started")


async def test_long_outage_logs_two_lines(
    own_redis: RedisServer, fresh_prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    """One when it goes, one when it is back, however often was tried; it has lost everything."""
    caplog.set_level(logging.INFO, "distkit_actors")
    async with strict(own_redis.url, fresh_prefix, response_timeout=5.0) as counter:
        await counter.inc("k", 5)
        own_redis.kill()
        await trio.sleep(2 * THRESHOLD)
        await own_redis.start_async()
        with trio.fail_after(2):
            assert await counter.get("k") == (5, 5)
    assert events(caplog) == ["registered", "away", "back", "returned", "stopped"]


@pytest.mark.usefixtures("transport")
async def test_in_doubt_when_the_store_is_emptied(
    own_redis: RedisServer, fresh_prefix: str
) -> None:
    """Own counts are folded into what is re-asserted; moves are not repeated (I6)."""

    async with (
        proxied(own_redis) as proxy,
        strict(proxy.url, fresh_prefix, threshold=UNHURRIED) as a,
    ):
        await a.inc("k", 5)
        for operation, value in (
            (lambda: a.inc("k", 2), (7, 7)),
            (lambda: a.set_on_instance("k", 3), (3, 3)),
            (lambda: a.delete_on_instance("k"), (0, 3)),
            (lambda: a.inc("k", -4), (-4, -4)),
            (a.clear_on_instance, None),
            (lambda: a.inc("k", 9), (9, 9)),
        ):
            async with doubt(proxy, own_redis):
                assert await operation() == value
        for move in (lambda: a.set("k", 2), lambda: a.delete("k"), a.clear):
            async with doubt(proxy, own_redis):
                with pytest.raises(OutcomeUnknownError):
                    await move()
