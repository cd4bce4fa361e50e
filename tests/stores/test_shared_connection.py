"""All counters of a store share one connection: what one does, or suffers, harms no other."""

from __future__ import annotations

import os
import socket
import ssl
import threading
from contextlib import suppress
from pathlib import Path

import pytest
import trio
import trio.testing
import trustme

from distkit_actors import (
    Fleet,
    RedisStore,
    StoreError,
    StoreUnavailableError,
    StrictInstanceAwareCounter,
)
from distkit_actors._protocol._messages import Peek, Peeked, Query, QueryKind
from distkit_actors._stores._redis._scripts import load_scripts
from distkit_actors._stores._redis._sockets import SocketStream
from tests.faults.fleet import proxied, until
from tests.faults.lens import Lens
from tests.faults.together import FAULTS, count, counters, names, of
from tests.harness.faults import is_script
from tests.harness.ports import LOOPBACK
from tests.harness.pressure import pressure
from tests.harness.proxy import FaultProxy
from tests.harness.server import RedisServer
from tests.stores.listener import leading_to, listen

#: Seconds for what comes soon, on a busy machine.
PATIENCE = 20.0


def connections(server: RedisServer, prefix: str = "us") -> int:
    """How many connections have the name that we give them."""
    return str(server.command("CLIENT", "LIST")).count(f" name={prefix} ")


def named_url(server: RedisServer) -> str:
    return f"{server.url}?client_name=us"


# ------------------------------------------------------------------------- one connection


async def test_many_counters_have_one_connection(own_redis: RedisServer, fresh_prefix: str) -> None:
    async with counters(RedisStore(named_url(own_redis)), names(fresh_prefix, 20)) as many:
        assert connections(own_redis) == 1
        async with trio.open_nursery() as nursery:
            for counter in many:
                nursery.start_soon(count, counter, 20)
        assert connections(own_redis) == 1
    await until(lambda: connections(own_redis) == 0, PATIENCE)


async def test_the_last_one_that_leaves_closes_it(
    own_redis: RedisServer, fresh_prefix: str
) -> None:
    store = RedisStore(named_url(own_redis))
    for _ in range(2):
        async with store.link(fresh_prefix) as first:
            assert connections(own_redis) == 0
            await first.connect()
            async with store.link(fresh_prefix) as second:
                assert second.connected
                await second.exchange(Peek("i"))
            assert first.connected
            assert isinstance(await first.exchange(Peek("i")), Peeked)
            assert connections(own_redis) == 1
        assert not first.connected
        await until(lambda: connections(own_redis) == 0, PATIENCE)


async def test_whoever_starts_makes_one_anew_that_was_closed_and_nobody_noticed(
    own_redis: RedisServer, fresh_prefix: str
) -> None:
    """Servers close connections that are idle, and are restarted: that is no reason to fail."""
    store = RedisStore(named_url(own_redis))
    async with counters(store, [fresh_prefix]) as (first,):
        assert await first.inc("k") == (1, 1)
        for _ in range(2):
            own_redis.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            async with StrictInstanceAwareCounter.open(fresh_prefix, store) as second:
                assert await second.inc("k") == (2, 1)
            own_redis.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            async with Fleet.open(fresh_prefix, store) as fleet:
                assert await fleet.get("k") == (1, 0)
        assert connections(own_redis) == 1
        assert await first.inc("k") == (2, 2)


async def test_it_is_made_and_checked_once(proxy: FaultProxy, fresh_prefix: str) -> None:
    async with counters(RedisStore(f"{proxy.url}?client_name=us"), names(fresh_prefix, 10)):
        assert proxy.counts["connections"] == 1
        assert proxy.commands["INFO"] == 2
        assert proxy.commands["CLIENT"] == 1


async def test_scripts_are_loaded_once(own_redis: RedisServer, fresh_prefix: str) -> None:
    async with (
        proxied(own_redis) as proxy,
        counters(RedisStore(proxy.url), names(fresh_prefix, 20)) as many,
    ):
        assert proxy.commands["SCRIPT"] == len(load_scripts())
        await own_redis.command_async("SCRIPT", "FLUSH")
        async with trio.open_nursery() as nursery:
            for counter in many:
                nursery.start_soon(count, counter, 3)
        assert proxy.commands["SCRIPT"] == 2 * len(load_scripts())


async def test_scripts_that_another_one_has_loaded_meanwhile_are_not_loaded_again(
    own_redis: RedisServer, fresh_prefix: str
) -> None:
    async with proxied(own_redis) as proxy:
        store = RedisStore(proxy.url)
        async with store.link(fresh_prefix) as first, store.link(fresh_prefix) as second:
            await first.connect()
            for link in (first, second):
                await link.send(Peek("i"))
            for link in (first, second):
                assert isinstance(await link.receive(Peek("i")), Peeked)
        assert proxy.commands["SCRIPT"] == len(load_scripts())


async def test_requests_of_many_are_on_the_wire_at_once(
    proxy: FaultProxy, fresh_prefix: str
) -> None:
    store = RedisStore(proxy.url, response_timeout=PATIENCE)
    async with counters(store, names(fresh_prefix, 10)) as many:
        before = proxy.counts["requests"]
        proxy.hang_reply()
        async with trio.open_nursery() as nursery:
            for counter in many:
                nursery.start_soon(count, counter, 1)
            await proxy.wait_for("requests", before + 10)
            proxy.cut_all()


async def test_each_trio_run_has_its_own(own_redis: RedisServer, fresh_prefix: str) -> None:
    """As in several threads, with one store."""
    store = RedisStore(named_url(own_redis))
    all_there = threading.Barrier(3)

    def run(number: int) -> None:
        trio.run(count_in_step, f"{fresh_prefix}.{number}")

    async def count_in_step(prefix: str) -> None:
        async with StrictInstanceAwareCounter.open(prefix, store) as counter:
            await count(counter, 50)
            await trio.to_thread.run_sync(all_there.wait)
            await count_more(counter)
            await trio.to_thread.run_sync(all_there.wait)

    async def count_more(counter: StrictInstanceAwareCounter) -> None:
        for number in range(51, 101):
            assert await counter.inc("k") == (number, number)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    await trio.to_thread.run_sync(all_there.wait)
    assert connections(own_redis) == 2
    await trio.to_thread.run_sync(all_there.wait)
    for thread in threads:
        await trio.to_thread.run_sync(thread.join)
    await until(lambda: connections(own_redis) == 0, PATIENCE)


def test_each_trio_run_closes_its_own(own_redis: RedisServer, fresh_prefix: str) -> None:
    store = RedisStore(named_url(own_redis))

    async def once(number: int) -> None:
        async with StrictInstanceAwareCounter.open(
            fresh_prefix, store, on_exit="linger"
        ) as counter:
            assert (await counter.inc("k")).cumulative == number
            assert connections(own_redis) == 1

    for number in range(1, 4):
        trio.run(once, number)


def test_a_process_that_is_forked_has_its_own(own_redis: RedisServer, fresh_prefix: str) -> None:
    """Forked while the store is in use, it neither closes the parent's nor talks on it."""
    store = RedisStore(own_redis.url)

    async def in_the_child() -> None:
        async with StrictInstanceAwareCounter.open(fresh_prefix, store) as counter:
            for _ in range(20):
                await counter.inc("k")

    async def in_the_parent() -> None:
        async with StrictInstanceAwareCounter.open(fresh_prefix, store) as counter:
            await count(counter, 5)
            child = os.fork()
            if not child:
                failed = 1
                try:
                    thread = threading.Thread(target=trio.run, args=(in_the_child,))
                    thread.start()
                    thread.join()
                    failed = 0
                finally:
                    os._exit(failed)
            while not (ended := os.waitpid(child, os.WNOHANG))[0]:  # noqa: ASYNC222 - it looks
                await counter.inc("mine")
            assert not ended[1]
            assert (await counter.get("k")).instance_count == 5

    trio.run(in_the_parent)


async def test_each_node_has_its_own(
    own_redis: RedisServer, redis_server: RedisServer, fresh_prefix: str
) -> None:
    store = RedisStore(named_url(own_redis))
    node = (redis_server.host, redis_server.port)
    with store._shared.lane() as here, store._shared.lane(node) as there:
        for lane, port in ((here, own_redis.port), (there, redis_server.port)):
            await lane.connect()
            assert await lane.call(b"CONFIG", b"GET", b"port") == [b"port", b"%d" % port]
        assert connections(own_redis) == connections(redis_server) == 1
    await until(lambda: connections(redis_server) == 0, PATIENCE)


# ------------------------------------------------------------------------ harming nobody


async def test_a_counter_that_is_cancelled_disturbs_no_other(
    proxy: FaultProxy, fresh_prefix: str
) -> None:
    store = RedisStore(proxy.url, response_timeout=PATIENCE)
    async with counters(store, names(fresh_prefix, 3)) as many:
        for number in range(1, 6):
            async with trio.open_nursery() as nursery:
                with suppress(StoreUnavailableError), trio.CancelScope() as scope:
                    async with StrictInstanceAwareCounter.open(
                        f"{fresh_prefix}.victim.{number}", store, exit_grace=0
                    ) as victim:
                        proxy.delay(0.1, when=of(victim))
                        async with trio.open_nursery() as dying:
                            dying.start_soon(victim.inc, "k")
                            await proxy.wait_for("delay", number)
                            for counter in many:
                                nursery.start_soon(_expect, counter, number)
                            scope.cancel()
            for counter in many:
                assert (await counter.get("k")).instance_count == number
        assert proxy.counts["connections"] == 1
        assert not [c for c in many if c.statistics().reconnects]


async def _expect(counter: StrictInstanceAwareCounter, number: int) -> None:
    assert await counter.inc("k") == (number, number)


async def test_a_request_that_is_cancelled_and_sent_again_is_answered_in_its_turn(
    redis_url: str, fresh_prefix: str
) -> None:
    store = RedisStore(redis_url)
    async with store.link(fresh_prefix) as a, store.link(fresh_prefix) as b:
        await a.connect()
        for number in range(100):
            with trio.move_on_after(0.00001 * number):
                await a.exchange(Peek("i"))
            assert a.connected
            assert isinstance(await b.exchange(Peek("i")), Peeked)
            assert type(await a.exchange(Query("", QueryKind.VALUES))).__name__ == "QueryPage"


@pytest.mark.parametrize(
    "line",
    [
        "-OOM command not allowed when used memory > 'maxmemory'.",
        "-NOPERM this user has no permissions to run the 'evalsha' command",
        "-WRONGTYPE Operation against a key holding the wrong kind of value",
    ],
)
async def test_a_counter_that_is_refused_harms_no_other(
    line: str, proxy: FaultProxy, fresh_prefix: str
) -> None:
    store = RedisStore(proxy.url, response_timeout=PATIENCE)
    async with counters(store, names(fresh_prefix, 3)) as (refused, *others):
        proxy.answer(line, None, executed=False, when=of(refused))
        async with trio.open_nursery() as nursery:
            for counter in others:
                nursery.start_soon(count, counter, 20)
            for _ in range(5):
                with pytest.raises(StoreError, match=line.split(maxsplit=1)[0][1:]):
                    await refused.inc("k")
        proxy.disarm()
        assert await refused.inc("k") == (1, 1)
        assert proxy.counts["connections"] == 1


async def test_a_counter_whose_answers_are_large_and_slow_harms_no_other(
    redis_url: str, fresh_prefix: str
) -> None:
    store = RedisStore(redis_url)
    async with counters(store, names(fresh_prefix, 2)) as (large, small):
        keys = {f"key number {number}": number for number in range(900)}
        await large.inc_all(keys)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(count, small, 200)
            for _ in range(30):
                assert len(await large.get_all(keys)) == 900


# ------------------------------------------------------------------------ losing it together


@pytest.mark.parametrize("fault", FAULTS)
async def test_all_count_exactly_whatever_becomes_of_the_connection(
    fault: str, redis_server: RedisServer, fresh_prefix: str
) -> None:
    prefixes = names(fresh_prefix, 8)
    done = 0

    async def count_noting(counter: StrictInstanceAwareCounter) -> None:
        nonlocal done
        for number in range(1, 41):
            assert await counter.inc("k") == (number, number)
            done += 1

    async with (
        proxied(redis_server) as proxy,
        counters(RedisStore(proxy.url, response_timeout=0.4), prefixes) as many,
    ):
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                for counter in many:
                    nursery.start_soon(count_noting, counter)
                for strike in range(1, 6):
                    await until(lambda: done >= strike * 40, 60)  # noqa: B023 - awaited here
                    FAULTS[fault](proxy)
        for prefix, counter in zip(prefixes, many, strict=True):
            snapshot = Lens(redis_server, prefix).look()
            assert snapshot.of(counter.instance_id) == {"k": 40}
            snapshot.check()


async def test_when_it_is_silent_all_connect_together_and_once(
    redis_server: RedisServer, fresh_prefix: str
) -> None:
    async with (
        proxied(redis_server) as proxy,
        counters(RedisStore(proxy.url, response_timeout=0.5), names(fresh_prefix, 30)) as many,
    ):
        for number in range(1, 4):
            before = proxy.counts["connections"]
            proxy.hang_reply(when=is_script)
            async with trio.open_nursery() as nursery:
                for counter in many:
                    nursery.start_soon(_expect, counter, number)
            assert proxy.counts["connections"] == before + 1


async def test_a_start_goes_on_when_others_find_that_it_is_silent(
    redis_server: RedisServer, fresh_prefix: str
) -> None:
    store_timeout = 0.5 * pressure()
    async with proxied(redis_server) as proxy:
        store = RedisStore(proxy.url, response_timeout=store_timeout)
        async with counters(store, names(fresh_prefix, 1)) as (counter,):
            proxy.hang_reply(when=of(counter))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(count, counter, 1)
                await proxy.wait_for("hang_reply")
                await trio.sleep(store_timeout / 2)
                async with StrictInstanceAwareCounter.open(f"{fresh_prefix}.late", store) as late:
                    assert await late.inc("k") == (1, 1)
        assert proxy.counts["connections"] == 2


async def test_a_server_that_is_away_is_tried_by_one_for_all(
    own_redis: RedisServer, fresh_prefix: str
) -> None:
    """Each is told why, and starts when the server is back."""
    store = RedisStore(own_redis.url, response_timeout=0.5)
    own_redis.pause()
    errors: list[StoreError] = []

    async def connect() -> None:
        async with store.link(fresh_prefix) as link:
            with pytest.raises(StoreUnavailableError, match="no answer for") as caught:
                await link.connect()
            errors.append(caught.value)
            assert not link.connected

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(connect)
    own_redis.resume()
    assert len({id(error) for error in errors}) == 5
    assert len({(type(error), str(error)) for error in errors}) == 1


async def test_one_who_connects_and_is_cancelled_leaves_it_to_the_next(
    redis_server: RedisServer, fresh_prefix: str
) -> None:
    async with proxied(redis_server) as proxy:
        store = RedisStore(proxy.url, response_timeout=PATIENCE)
        proxy.pause()
        scopes = [trio.CancelScope() for _ in range(3)]
        connected: list[int] = []

        async def connect(number: int) -> None:
            with scopes[number]:
                async with store.link(fresh_prefix) as link:
                    await link.connect()
                    assert isinstance(await link.exchange(Peek("i")), Peeked)
                    connected.append(number)

        async with trio.open_nursery() as nursery:
            for number in range(3):
                nursery.start_soon(connect, number)
                await trio.testing.wait_all_tasks_blocked()
            await proxy.wait_for("connections", 1)
            scopes[0].cancel()
            await proxy.wait_for("connections", 2)
            proxy.resume()
        assert sorted(connected) == [1, 2]
        assert proxy.counts["connections"] == 2


async def test_new_credentials_end_it_for_all_who_use_it(
    own_redis: RedisServer, fresh_prefix: str
) -> None:
    store = RedisStore(named_url(own_redis))
    async with counters(store, names(fresh_prefix, 5)) as many:
        before = own_redis.command("CLIENT", "LIST")
        store._credentials._on_next(object())
        async with trio.open_nursery() as nursery:
            for counter in many:
                nursery.start_soon(count, counter, 10)
        assert connections(own_redis) == 1
        assert own_redis.command("CLIENT", "LIST") != before


# ------------------------------------------------------------------------------- the wire


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_what_does_not_fit_is_sent_whole_whoever_is_cancelled(
    tls: bool,
    redis_server: RedisServer,
    nursery: trio.Nursery,
    fresh_prefix: str,
    tmp_path: Path,
) -> None:
    """Through a socket that takes next to nothing, and one who reads slowly."""
    context, options, scheme = None, "", "redis"
    if tls:
        authority, scheme = trustme.CA(), "rediss"
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(LOOPBACK).configure_cert(context)
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        options = f"?ssl_ca_certs={tmp_path / 'ca.pem'}"
    port = await listen(nursery, leading_to(redis_server.port, slowly=True), context)
    store = RedisStore(f"{scheme}://{LOOPBACK}:{port}/0{options}", response_timeout=PATIENCE)
    keys = {f"a key with a long name, number {number}": 1 for number in range(800)}
    cancelled = 0

    async def ask_in_vain(patience: float) -> None:
        nonlocal cancelled
        async with store.link(fresh_prefix) as link:
            with trio.move_on_after(patience) as scope:
                await link.exchange(Query("", QueryKind.VALUES, keys=list(keys)))
            cancelled += scope.cancelled_caught

    async with counters(store, names(fresh_prefix, 4)) as many:
        pipeline = store._shared.nodes.used()[None].pipeline
        assert pipeline is not None
        stream = pipeline._stream
        assert isinstance(stream, SocketStream)
        async with store.link(fresh_prefix) as link:
            assert link.can_send_nowait  # through TLS, too
        stream._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        for _ in range(3):
            async with trio.open_nursery() as together:
                for number in range(10):
                    together.start_soon(ask_in_vain, 0.005 * number)
                for counter in many:
                    together.start_soon(counter.inc_all, keys)
        assert cancelled
        for counter in many:
            assert set((await counter.get_all(keys)).values()) == {(3, 3)}
            assert not counter.statistics().reconnects
        assert pipeline.up
