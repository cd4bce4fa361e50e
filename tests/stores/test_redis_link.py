"""The connection to Redis: what can go wrong with it, and what is said about it."""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
import trio

from distkit_actors._errors import StoreError, StoreUnavailableError
from distkit_actors._instance._session import Session
from distkit_actors._protocol._messages import (
    Applied,
    Apply,
    Entry,
    Kind,
    Peek,
    Peeked,
    Periods,
)
from distkit_actors._stores._contract import Link, StoreAwayError
from distkit_actors._stores._memory import MemoryStore
from distkit_actors._stores._redis import _rights, _server_check
from distkit_actors._stores._redis._store import RedisStore
from distkit_actors._stores._redis._urls import read_url
from distkit_actors._stores._urls import open_store
from tests.harness.proxy import FaultProxy, is_script
from tests.harness.server import RedisServer

PERIODS = Periods(3_000_000, 1_000_000, 600_000_000)


# Everything here holds for both ways to reach the server.
pytestmark = pytest.mark.usefixtures("transport")


@asynccontextmanager
async def linked(store: RedisStore, prefix: str) -> AsyncIterator[Link]:
    async with store.link(prefix) as link:
        await link.connect()
        yield link


async def opened(link: Link, instance: str = "i") -> Session:
    session = Session(instance, "nonce", PERIODS)
    while (request := session.request()) is not None:
        session.receive(await link.exchange(request))
    return session


async def add(link: Link, session: Session, key: str, value: int) -> Applied:
    session.begin([Entry(Kind.ADD, key, value)])
    request = session.request()
    assert request is not None
    reply = await link.exchange(request)
    session.receive(reply)
    assert isinstance(reply, Applied)
    return reply


# ------------------------------------------------------------------------------ it works


@pytest.mark.parametrize("scheme", ["redis", "unix"])
async def test_requests_are_answered(
    redis_server: RedisServer, fresh_prefix: str, scheme: str
) -> None:
    store = RedisStore(redis_server.url if scheme == "redis" else redis_server.unix_url)
    async with store.link(fresh_prefix) as link:
        assert not link.connected
        await link.connect()
        assert link.connected
        await link.connect()
        session = await opened(link)
        await add(link, session, "a", 2**62)
        await add(link, session, "a", -1)
        assert session.slices["a"].value == 2**62 - 1
    assert not link.connected


async def test_the_app_sees_no_asyncio(redis_url: str, fresh_prefix: str) -> None:
    async with linked(RedisStore(redis_url), fresh_prefix):
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop()


async def test_the_bodys_exception_comes_out_as_it_is(redis_url: str, fresh_prefix: str) -> None:
    with pytest.raises(KeyError, match="mine"):
        async with linked(RedisStore(redis_url), fresh_prefix):
            raise KeyError("mine")


async def test_it_outlives_a_cancelled_scope(redis_url: str, fresh_prefix: str) -> None:
    """A last request under a shield works, and then everything ends."""
    with trio.CancelScope() as scope:
        async with linked(RedisStore(redis_url), fresh_prefix) as link:
            session = await opened(link)
            scope.cancel()
            with trio.move_on_after(5, shield=True):
                await add(link, session, "a", 1)
            assert session.slices["a"].value == 1
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert not link.connected


async def test_links_do_not_disturb_each_other(redis_url: str, fresh_prefix: str) -> None:
    store = RedisStore(redis_url)

    async def count(instance: str) -> None:
        async with linked(store, fresh_prefix) as link:
            session = await opened(link, instance)
            for _ in range(20):
                await add(link, session, "a", 1)
            assert session.slices["a"].value == 20

    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(count, f"i{number}")


async def test_a_forgotten_script_is_sent_again(own_redis: RedisServer, fresh_prefix: str) -> None:
    async with linked(RedisStore(own_redis.url), fresh_prefix) as link:
        session = await opened(link)
        await own_redis.command_async("SCRIPT", "FLUSH")
        await add(link, session, "a", 1)
        await own_redis.command_async("SCRIPT", "FLUSH")
        await add(link, session, "a", 1)
        assert session.slices["a"].value == 2
        assert session.seq == 2


@pytest.mark.parametrize("how", ["lost", "cancelled"])
async def test_scripts_are_loaded_again_though_what_followed_the_last_time_was_cut_off(
    how: str, own_redis: RedisServer, nursery: trio.Nursery, fresh_prefix: str
) -> None:
    proxy = FaultProxy(own_redis)
    await nursery.start(proxy.run)
    async with linked(RedisStore(proxy.url, response_timeout=30), fresh_prefix) as link:
        await opened(link)
        await own_redis.command_async("SCRIPT", "FLUSH")
        loaded = proxy.commands["SCRIPT"]
        cut_off = proxy.drop_request if how == "lost" else proxy.hang_reply
        cut_off(when=lambda request: is_script(request) and proxy.commands["SCRIPT"] > loaded)
        if how == "lost":
            with pytest.raises(StoreUnavailableError):
                await link.exchange(Peek("i"))
        else:
            async with trio.open_nursery() as waiting:
                waiting.start_soon(link.exchange, Peek("i"))
                await proxy.wait_for("hang_reply")
                waiting.cancel_scope.cancel()
            proxy.cut_all()
        await own_redis.command_async("SCRIPT", "FLUSH")
        loaded = proxy.commands["SCRIPT"]
        with suppress(StoreUnavailableError):  # it may have to notice first that it was cut
            await link.connect()
            await link.exchange(Peek("i"))
        await link.connect()
        assert isinstance(await link.exchange(Peek("i")), Peeked)
        assert proxy.commands["SCRIPT"] > loaded
        assert proxy.commands["EVAL"] == 0


# --------------------------------------------------------------------- the connection fails


async def test_nobody_there(fresh_prefix: str, own_redis: RedisServer) -> None:
    own_redis.kill()
    async with RedisStore(own_redis.url).link(fresh_prefix) as link:
        with pytest.raises(StoreUnavailableError, match="onnect"):
            await link.connect()
        assert not link.connected
        with pytest.raises(StoreUnavailableError):
            await link.exchange(Peek("i"))
        await own_redis.start_async()
        await link.connect()
        assert isinstance(await link.exchange(Peek("i")), Peeked)


async def test_no_answer_in_time(own_redis: RedisServer, fresh_prefix: str) -> None:
    async with linked(RedisStore(own_redis.url, response_timeout=0.2), fresh_prefix) as link:
        session = await opened(link)
        own_redis.pause()
        with trio.fail_after(2):
            with pytest.raises(StoreUnavailableError, match=r"no answer for 0\.2 s"):
                await add(link, session, "a", 1)
            assert not link.connected
        own_redis.resume()
        await link.connect()
        request = session.request()
        assert request is not None
        session.receive(await link.exchange(request))  # the same once more: it counts once
        assert session.slices["a"].value == 1


async def test_a_lost_reply_is_never_taken_for_the_next(
    proxy: FaultProxy, fresh_prefix: str
) -> None:
    async with linked(RedisStore(proxy.url), fresh_prefix) as link:
        session = await opened(link)
        for _ in range(10):
            proxy.drop_reply()
            with pytest.raises(StoreUnavailableError):
                await add(link, session, "a", 1)
            await link.connect()
            request = session.request()
            assert request is not None
            session.receive(await link.exchange(request))
        assert session.slices["a"].value == 10


async def test_a_cancelled_request_drops_a_connection_that_is_not_shared(
    own_redis: RedisServer, fresh_prefix: str
) -> None:
    store = RedisStore(own_redis.url)
    async with linked(store, fresh_prefix) as link:
        session = await opened(link)
        own_redis.pause()
        with trio.move_on_after(0.1) as scope:
            await add(link, session, "a", 1)
        assert scope.cancelled_caught
        assert link.connected == (store._pool is None)
        own_redis.resume()
        await link.connect()
        request = session.request()
        assert request is not None
        session.receive(await link.exchange(request))
        assert session.slices["a"].value == 1


async def test_cancelled_at_every_moment_it_still_counts_right(
    redis_url: str, fresh_prefix: str
) -> None:
    async with linked(RedisStore(redis_url), fresh_prefix) as link:
        session = await opened(link)
        cancelled, patience = 0, 0.0
        for _ in range(400):
            if session.idle:
                session.begin([Entry(Kind.ADD, "a", 1)])
            with trio.move_on_after(0.00005 * patience) as scope:
                await link.connect()
                while (request := session.request()) is not None:
                    session.lost()  # from here on, unless there is an answer
                    session.receive(await link.exchange(request))
            cancelled += scope.cancelled_caught
            # A little later each time, until it succeeds, however slow the machine is.
            patience = 1.05 * patience + 1 if scope.cancelled_caught else 0
        await link.connect()
        while (request := session.request()) is not None:
            session.receive(await link.exchange(request))
        assert session.slices["a"].value == session.seq
        assert 0 < cancelled < 400


async def test_a_connection_closed_while_idle(own_redis: RedisServer, fresh_prefix: str) -> None:
    async with linked(RedisStore(own_redis.url), fresh_prefix) as link:
        await opened(link)
        await own_redis.command_async("CLIENT", "KILL", "TYPE", "normal")
        await trio.sleep(0.05)
        with pytest.raises(StoreUnavailableError):
            await link.exchange(Peek("i"))
        await link.connect()
        assert isinstance(await link.exchange(Peek("i")), Peeked)


# ----------------------------------------------------------------------- the server refuses


async def refusal(store: RedisStore, prefix: str) -> StoreError:
    """What connecting and a first request come to."""
    with pytest.raises(StoreError) as caught:
        async with linked(store, prefix) as link:
            await opened(link)
    return caught.value


@pytest.fixture
def guarded_redis() -> RedisServer:
    return RedisServer(config={"requirepass": "hunter2"})


async def test_a_password(guarded_redis: RedisServer, fresh_prefix: str) -> None:
    with guarded_redis as server:
        store = RedisStore(server.url)
        async with linked(store, fresh_prefix) as link:
            await opened(link)
        assert "hunter2" not in repr(store)
        for url in (f"redis://{server.host}:{server.port}", server.url.replace("ter2", "ter3")):
            error = await refusal(RedisStore(url), fresh_prefix)
            assert not isinstance(error, StoreUnavailableError)
            assert "password" in str(error)
            assert "hunter" not in str(error)


async def test_a_user_without_rights(own_redis: RedisServer, fresh_prefix: str) -> None:
    own_redis.command(
        "ACL", "SETUSER", "poor", "on", ">pw", "~dk:*", "+evalsha", "+script", "+time"
    )
    url = f"redis://poor:pw@{own_redis.host}:{own_redis.port}"
    error = await refusal(RedisStore(url), fresh_prefix)
    assert "NOPERM" in str(error)
    assert not isinstance(error, StoreUnavailableError)


#: What the scripts call.
COMMANDS = list(_rights._OF_SCRIPTS)


def grant(server: RedisServer, commands: list[str]) -> RedisStore:
    rights = [f"+{command}" for command in ["evalsha", "script|load", *commands]]
    server.command("ACL", "SETUSER", "u", "reset", "on", ">pw", "~dk:*", *rights)
    return RedisStore(f"redis://u:pw@{server.host}:{server.port}")


async def test_a_user_with_just_enough_rights(own_redis: RedisServer, fresh_prefix: str) -> None:
    async with linked(grant(own_redis, COMMANDS), fresh_prefix) as link:
        await add(link, await opened(link), "a", 1)


async def test_a_missing_right_shows_before_anything_is_done(
    own_redis: RedisServer, fresh_prefix: str
) -> None:
    for missing in COMMANDS:
        store = grant(own_redis, [command for command in COMMANDS if command != missing])
        error = await refusal(store, fresh_prefix)
        assert "NOPERM" in str(error)
        assert own_redis.command("KEYS", "*") in ([], [f"dk:{{p.{fresh_prefix}}}:n"])


async def test_a_server_that_evicts(own_redis: RedisServer, fresh_prefix: str) -> None:
    own_redis.command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    error = await refusal(RedisStore(own_redis.url), fresh_prefix)
    assert "allkeys-lru" in str(error)


async def test_an_old_server(
    redis_url: str, fresh_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def info(*_args: object) -> dict[str, str]:
        return {"redis_version": "6.0.20"}

    monkeypatch.setattr(_server_check, "_info", info)
    error = await refusal(RedisStore(redis_url), fresh_prefix)
    assert "6.0.20 is too old" in str(error)


async def test_out_of_memory(own_redis: RedisServer, fresh_prefix: str) -> None:
    async with linked(RedisStore(own_redis.url), fresh_prefix) as link:
        session = await opened(link)
        own_redis.command("CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(StoreError, match="out of memory") as caught:
            await add(link, session, "a", 1)
        assert not isinstance(caught.value, StoreUnavailableError)
        assert link.connected
        own_redis.command("CONFIG", "SET", "maxmemory", "0")
        request = session.request()
        assert request is not None
        session.receive(await link.exchange(request))
        assert session.slices["a"].value == 1


async def test_a_replica_is_away(own_redis: RedisServer, fresh_prefix: str) -> None:
    with RedisServer(replica_of=own_redis) as replica:
        replica.wait_in_sync()
        error = await refusal(RedisStore(replica.url), fresh_prefix)
        assert isinstance(error, StoreAwayError)
        assert "READONLY" in str(error)


async def test_a_busy_server_is_away(own_redis: RedisServer, fresh_prefix: str) -> None:
    own_redis.command("CONFIG", "SET", "lua-time-limit", "10")
    async with linked(RedisStore(own_redis.url), fresh_prefix) as link:
        session = await opened(link)
        async with trio.open_nursery() as nursery:

            async def hog() -> None:
                with pytest.raises(Exception, match="killed"):
                    await own_redis.command_async("EVAL", "while true do end", "0")

            nursery.start_soon(hog)
            await trio.sleep(0.2)
            with pytest.raises(StoreAwayError, match="BUSY"):
                await add(link, session, "a", 1)
            await own_redis.command_async("SCRIPT", "KILL")
        request = session.request()
        assert request is not None
        session.receive(await link.exchange(request))
        assert session.slices["a"].value == 1


async def test_somebody_elses_key(own_redis: RedisServer, fresh_prefix: str) -> None:
    own_redis.command("SET", f"dk:{{p.{fresh_prefix}}}:n", "mine")
    error = await refusal(RedisStore(own_redis.url), fresh_prefix)
    assert "WRONGTYPE" in str(error)
    assert "another prefix" in str(error)


async def test_a_database_that_is_not_there(own_redis: RedisServer, fresh_prefix: str) -> None:
    url = f"redis://{own_redis.host}:{own_redis.port}/99"
    error = await refusal(RedisStore(url), fresh_prefix)
    assert not isinstance(error, StoreUnavailableError)


# ------------------------------------------------------------------------------------ URLs


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://", "redis://localhost:6379 db 0"),
        ("redis://example.org/3", "redis://example.org:6379 db 3"),
        ("redis://u:hunter2@example.org:1?db=4", "redis://example.org:1 db 4"),
        ("redis://[::1]:7", "redis://[::1]:7 db 0"),
        ("rediss://:hunter2@h?ssl_cert_reqs=none", "rediss://h:6379 db 0"),
        ("unix://u:hunter2@/tmp/redis.sock?db=2", "unix:///tmp/redis.sock db 2"),
        ("redis://h?password=hunter2", "redis://h:6379 db 0"),
        ("valkey://", "valkey://localhost:6379 db 0"),
        ("VALKEY://u:hunter2@example.org:1/4", "valkey://example.org:1 db 4"),
        ("valkeys://:hunter2@h?ssl_cert_reqs=none", "valkeys://h:6379 db 0"),
        ("redis://h?protocol=2&db=1", "redis://h:6379 db 1"),
        ("redis+sentinel://h/s", "redis+sentinel://h:26379/s db 0"),
        (
            "redis+sentinel://u:hunter2@h:1,[::1]:2,[::2],i/s/3?sentinel_password=hunter2",
            "redis+sentinel://h:1,[::1]:2,[::2]:26379,i:26379/s db 3",
        ),
        ("redis+cluster://:hunter2@h:1,[::1],i/", "redis+cluster://h:1,[::1]:6379,i:6379 db 0"),
        ("valkeys+cluster://h/0?db=0", "valkeys+cluster://h:6379 db 0"),
        ("VALKEYS+SENTINEL://:hunter2@h/s/", "valkeys+sentinel://h:26379/s db 0"),
    ],
)
def test_good_urls(url: str, shown: str) -> None:
    store = open_store(url)
    assert isinstance(store, RedisStore)
    assert repr(store) == f"<RedisStore at {shown}>"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "hunter2",
        "http://hunter2",
        "redis://:hunter2/x@h",
        "redis://h:99999/hunter2",
        "redis://h/hunter2",
        "redis://h#hunter2",
        "redis://u@h?x=@&hunter2=1",
        "redis://h?password=x&hunter2=1",
        "redis://h?socket_timeout=5",
        "redis://h?db=hunter2",
        "redis://h?ssl_ca_certs=hunter2",
        "rediss://h?ssl_min_version=hunter2",
        "valkey://h?ssl_ca_certs=hunter2",
        "valkeys://:hunter2/x@h",
        "valkey://:hunter2@h?db=x",
        "redis+sentinel://:hunter2/x@h,i/s",
        "redis+sentinel://:1,hunter2/x@h,i/s",
        "redis+sentinel://:1/hunter2@h,i/s",
        "redis+sentinel://h/s?sentinel_password=hunter2&x=1",
        "redis+sentinel://h/hunter2@i/s",
        "unix://",
        "memory://hunter2",
    ],
)
def test_bad_urls_are_refused_in_one_line_without_secrets(url: str) -> None:
    with pytest.raises(ValueError, match=r"\Athe |\Aan |\Amemory") as caught:
        open_store(url)
    message = str(caught.value)
    assert "\n" not in message
    assert "hunter2" not in message
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("url", "said"),
    [
        # What would silently be something else.
        ("redis://h/3?db=", "the option db .* must be a number"),
        ("redis://h/3?db=4", "says db twice"),
        ("redis://:a@h?password=b", "says password twice"),
        ("redis://h?db=1&db=1", "db stands twice"),
        ("redis://h:0", "from 1 to 65535"),
        ("redis://h#3", "no '#'"),
        ("redis://h/1\n2", "percent-encoded"),
        ("redis://:%ff@h", "UTF-8"),
        ("unix://relative", "three slashes"),
        ("unix://relative/path", "three slashes"),
        ("unix:///", "three slashes"),
        ("redis://h?client_name=", "the option client_name .* must not be empty"),
        # What would fail later, or in words of others.
        ("memory", "with redis://, valkey://, rediss://, valkeys://, .*unix:// or memory://"),
        ("redis:/localhost", "begin with redis://, valkey://, rediss://, valkeys://, .* unix://"),
        ("http://h", r"rediss://, valkeys://, redis\+sentinel://"),
        # Of sentinels.
        ("redis+sentinel://h", "needs the name that the sentinels have"),
        ("redis+sentinel://h/", "needs the name that the sentinels have"),
        ("redis+sentinel://h/s/0/1", "needs the name that the sentinels have"),
        ("redis+sentinel://h/p@i/s", "must be percent-encoded"),
        ("redis+sentinel://h/s/x", "the database .* must be a number"),
        ("redis+sentinel://h:x/s", "from 1 to 65535"),
        ("redis+sentinel://h,i:0/s", "from 1 to 65535"),
        ("redis+sentinel://h,/s", "a host that cannot be one"),
        ("redis+sentinel:///s", "a host that cannot be one"),
        ("redis+sentinel://h/s?ssl_ca_certs=x", "for rediss:// and valkeys:// only"),
        ("redis+sentinel://h/s?sentinel_kwargs=1", "none .* sentinel_password, sentinel_username"),
        ("redis+sentinel://h/s/1?db=2", "says db twice"),
        ("redis://h?sentinel_password=x", r"is for redis\+sentinel:// only"),
        # Of clusters.
        ("redis+cluster://h/1", "no database but 0"),
        ("redis+cluster://h?db=1", "no database but 0"),
        ("redis+cluster://h/x", "the database .* must be a number"),
        ("redis+cluster://", "a host that cannot be one"),
        ("redis+cluster://h,i:x", "from 1 to 65535"),
        ("redis+cluster://h?sentinel_password=x", r"is for redis\+sentinel:// only"),
        ("redis+sentinels://h/s", "begins with redis://"),
        ("unix+sentinel://h/s", "begins with redis://"),
        ("valkey:/localhost", "must begin with redis://, valkey://"),
        ("valkeyss://localhost", "begins with redis://, valkey://"),
        ("valkey://h/x", "must be a number"),
        ("valkey://h?ssl_ca_certs=x", "for rediss:// and valkeys:// only"),
        ("valkeys://h?ssl_foo=1", "the option ssl_foo is none"),
        ("redis://h?protocol=3", "the option protocol .* must be 2"),
        ("redis://h?max_connections=5", "the option max_connections is none"),
        ("redis://h?decode_responses=true", "the option decode_responses is none"),
        ("redis://h?read_timeout=5s", "the option read_timeout is none .*response_timeout"),
        ("redis://h?password=x&pool_size=3", "the option pool_size is none"),
        ("rediss://h?password=x&skip_verify=true", "the option skip_verify is none"),
        ("redis://h/" + 5000 * "9", "must be a number"),
        ("rediss://h?ssl_foo=1", "the option ssl_foo is none"),
        ("rediss://h?ssl_check_hostname=maybe", "the option ssl_check_hostname .* true or false"),
        ("rediss://h?ssl_cert_reqs=no", "the option ssl_cert_reqs .* none, optional or required"),
        ("rediss://h?ssl_min_version=2", "the option ssl_min_version .* TLSv1.2"),
        ("redis://h?ssl_ca_certs=x", "ssl_ca_certs .* rediss:// and valkeys:// only"),
        ("redis://h?socket_timeout=5", "the option socket_timeout is none .*response_timeout"),
        ("redis://h?max_conn=5", "the option max_conn is none"),
    ],
)
def test_bad_urls_say_what_is_wrong(url: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        open_store(url)


def test_a_url_is_a_str() -> None:
    for make in (open_store, RedisStore):
        with pytest.raises(TypeError, match="must be a str, not bytes"):
            make(b"redis://h")  # type: ignore[arg-type]


def test_options_in_a_url_are_what_they_say() -> None:
    store = RedisStore(
        "rediss://u%40:p%2Fw@h:7/3?client_name=a+b&ssl_ca_certs=/ca&ssl_check_hostname=false"
        "&ssl_min_version=TLSv1.3&ssl_password=s%2525&ssl_include_verify_flags=VERIFY_X509_STRICT"
    )
    settings = store._credentials._make()
    assert (settings.username, settings.password) == ("u@", "p/w")
    assert (settings.db, settings.client_name) == (3, "a b")
    context = settings.ssl_context  # type: ignore[attr-defined]
    assert (context.ca_certs, context.check_hostname, context.password) == ("/ca", False, "s%25")
    assert context.min_version is ssl.TLSVersion.TLSv1_3
    assert context.include_verify_flags == [ssl.VerifyFlags.VERIFY_X509_STRICT]


def test_a_url_says_who_we_are_to_sentinels_too() -> None:
    place = read_url(
        "rediss+sentinel://u:p%40@h,i:7/my%20service/3?client_name=c&sentinel_username=su"
        "&sentinel_password=s%2Fp&ssl_check_hostname=false"
    )
    assert place.nodes == [("h", 26379), ("i", 7)]
    assert place.service == "my service"
    assert (place.settings["username"], place.settings["password"]) == ("u", "p@")
    assert place.settings["db"] == 3
    assert place.to_sentinels == {
        "username": "su",
        "password": "s/p",
        "client_name": "c",
        "ssl_check_hostname": False,
    }


def test_sentinels_are_told_no_password_of_the_servers() -> None:
    assert read_url("redis+sentinel://u:p@h/s").to_sentinels == {}


@pytest.mark.parametrize("scheme", ["rediss", "valkeys"])
@pytest.mark.parametrize("word", ["none", "NONE", "CERT_NONE", "cert_none"])
def test_whether_the_server_is_verified_is_said_as_others_say_it(scheme: str, word: str) -> None:
    settings = RedisStore(f"{scheme}://h?ssl_cert_reqs={word}")._credentials._make()
    assert settings.ssl_context.cert_reqs is ssl.CERT_NONE  # type: ignore[attr-defined]


async def test_a_valkey_url_leads_to_the_server(redis_url: str, fresh_prefix: str) -> None:
    assert redis_url.startswith("redis://")
    url = f"valkey://{redis_url.removeprefix('redis://')}?protocol=2"
    async with linked(RedisStore(url), fresh_prefix) as link:
        await opened(link)


def test_memory() -> None:
    store = open_store("memory://")
    assert isinstance(store, MemoryStore)
    assert store is not open_store("memory://")


def test_response_timeout_must_be_positive() -> None:
    with pytest.raises(ValueError, match="response_timeout"):
        RedisStore("redis://", response_timeout=0)


def test_asyncio_is_not_patched_by_an_import() -> None:
    code = (
        "import asyncio, sys; before = asyncio.get_running_loop;"
        "import distkit_actors._stores._redis._store;"
        "assert 'trio_asyncio' not in sys.modules; assert asyncio.get_running_loop is before"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


# ------------------------------------------------------------------ what is sent at once


async def begun(link: Link, session: Session) -> Apply:
    session.begin([Entry(Kind.ADD, "k", 1)])
    request = session.request()
    assert isinstance(request, Apply)
    if link.can_send_nowait:
        link.send_nowait(request)
    else:
        await link.send(request)
    return request


@pytest.mark.parametrize("lost", [False, True])
async def test_what_was_begun_is_executed_once(
    redis_url: str, fresh_prefix: str, lost: bool
) -> None:
    """Also if it is asked anew, as the connection that it was begun on is lost."""
    async with linked(RedisStore(redis_url), fresh_prefix) as link:
        session = await opened(link)
        for number in range(5):
            request = await begun(link, session)
            await trio.sleep(0.01)
            if lost:
                await link._lane.drop()  # type: ignore[attr-defined]  # it is Redis'
                assert not link.can_send_nowait
                await link.connect()
                await link.send(request)
            reply = await link.receive(request)
            assert isinstance(reply, Applied)
            assert reply.results == ((number, number),)
            session.receive(reply)


async def test_beginning_on_a_broken_connection_fails_only_when_it_is_asked_for(
    redis_url: str, fresh_prefix: str
) -> None:
    async with linked(RedisStore(redis_url), fresh_prefix) as link:
        session = await opened(link)
        can_send_nowait = link.can_send_nowait
        if can_send_nowait:
            pipeline = link._lane._connection.pipeline  # type: ignore[attr-defined]  # it is Redis'
            pipeline._stream._socket.shutdown(socket.SHUT_RDWR)
        request = await begun(link, session)
        if can_send_nowait:
            with pytest.raises(StoreUnavailableError):
                await link.receive(request)
            await link.connect()
            await link.send(request)
        reply = await link.receive(request)
        assert isinstance(reply, Applied)
        assert reply.results == ((0, 0),)


async def test_over_the_bridge_nothing_is_sent_at_once(redis_url: str, fresh_prefix: str) -> None:
    store = RedisStore(redis_url)
    async with linked(store, fresh_prefix) as link:
        assert link.can_send_nowait == (store._pool is None)
    assert not link.can_send_nowait
