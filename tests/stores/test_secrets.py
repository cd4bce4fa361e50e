"""No part of a secret is in any error, in what it came from, in a note, or in a log."""

from __future__ import annotations

import logging
import re
import traceback
from collections.abc import Iterator
from urllib.parse import quote

import pytest
import trio
from hypothesis import example, given
from hypothesis import strategies as st
from redis.asyncio import ConnectionPool

from distkit_actors import (
    LaxInstanceAwareCounter,
    RedisStore,
    StoreError,
    StrictInstanceAwareCounter,
    open_store,
)
from distkit_actors._errors import StoreUnavailableError
from tests.faults.fleet import until
from tests.harness import transports
from tests.harness.ports import LOOPBACK, free_port
from tests.harness.server import RedisServer
from tests.harness.transports import BOTH, Transport
from tests.stores.listener import (
    Handler,
    babble,
    complain,
    keep_silent,
    listen,
    repeat,
    saying,
)

#: Letters that no message has, three in a row, so that whatever is found comes from a secret …
LETTERS = "QXZJΨЖ789"
#: … and what has a meaning in a URL, or is made something else on the way.
SPECIALS = ":/?#[]@!$&'()*+,;=%℀\u2044\uff20\uff03 \n\t\\\"<>{}|^`~\ud800"


def everything_said(error: BaseException, seen: set[int] | None = None) -> Iterator[str]:
    """Return all the words of an error, and of every other that can be reached from it."""
    seen = set() if seen is None else seen
    if id(error) in seen:
        return
    seen.add(id(error))
    yield str(error)
    yield repr(error)
    yield from (f"{argument} {argument!r}" for argument in error.args)
    yield repr(error.__dict__)
    yield from getattr(error, "__notes__", ())
    # Numbers of lines are no words: they may happen to be a part of what is looked for.
    text = "".join(traceback.format_exception(error))
    yield re.sub(r", line \d+, in ", ", in ", text)
    for other in (error.__cause__, error.__context__, *getattr(error, "exceptions", ())):
        if other is not None:  # suppressed or not: there are those who look
            yield from everything_said(other, seen)
    for argument in error.args:
        if isinstance(argument, BaseException):
            yield from everything_said(argument, seen)


def parts_of(secret: str) -> set[str]:
    """Return what would give a secret away: three characters, one of them a letter."""
    threes = {secret[start : start + 3] for start in range(len(secret) - 2)}
    return {part for part in threes if any(letter in LETTERS for letter in part)}


def check(secret: str, *said: str) -> None:
    """Hold that nothing gives the secret away, written plainly or as in a URL."""
    text = "\n".join(said)
    for part in parts_of(secret):
        assert part not in text
    if any(letter in LETTERS for letter in secret):
        assert len(secret) < 3 or quote(secret, safe="", errors="replace") not in text


def test_the_check_finds_a_part() -> None:
    for said in ("… XQZ7 …", "… Q%2FX …"):
        with pytest.raises(AssertionError):
            check("XQZ" if "XQZ" in said else "Q/X", said)
    check("XQZ", "XQ Z")


PLACES = [
    "{}",
    "{}://h",
    "http://:{}@h",
    "memory://:{}@h",
    "redis:{}",
    "redis://{}",
    "redis://:{}@h/0",
    "redis://u:{}@h/0",
    "redis://{}@h/0",
    "redis://{}:pw@h",
    "redis://:{}@[::1]:7/3",
    "redis://:{}@h:port",
    "redis://:{}@h:99999",
    "redis://:{}@h/x",
    "redis://:{}@h?foo=1",
    "redis://:{}@h?socket_timeout=1",
    "redis://:{}@h#x",
    "redis://h?password={}",
    "redis://h?db=x&password={}",
    "redis://h?password={}&db=x",
    "redis://h?password={}&password={}",
    "redis://:{}@h?password=pw",
    "redis://:pw@h?password={}",
    "redis://h?username={}&foo=1",
    "rediss://:{}@h?ssl_foo=1",
    "rediss://h?ssl_password={}&ssl_min_version=x",
    "rediss://h?ssl_password={}&ssl_keyfile=",
    "unix://:{}@/tmp/s",
    "unix://:{}@relative",
    "unix://:{}@/tmp/s?db=x",
    "unix:///tmp/s?password={}&x=1",
    "redis+sentinel://:{}@h,i:7/s",
    "redis+sentinel://u:{}@h/s/0",
    "redis+sentinel://{}@h,i/s",
    "redis+sentinel://{}:pw@h/s",
    "redis+sentinel://:{}@h:port/s",
    "redis+sentinel://:{}@h/s/x",
    "redis+sentinel://:{}@h/s?foo=1",
    "redis+sentinel://h/s?sentinel_password={}",
    "redis+sentinel://h/s?sentinel_password={}&db=x",
    "redis+sentinel://h/s?sentinel_username={}&foo=1",
    "redis+cluster://:{}@h,i:7",
    "redis+cluster://u:{}@h/0",
    "redis+cluster://:{}@h/x",
    "redis+cluster://:{}@h?foo=1",
]

#: Where nobody could know that it is a secret.
NAMES_OF_HOSTS = ["redis://{}", "redis://{}:pw@h", "redis+sentinel://{}:pw@h/s"]


@given(st.text(LETTERS + SPECIALS, min_size=1, max_size=24), st.booleans())
@example("hun[ter2]x".replace("ter", "QXZ"), False)
@example("QXZ℀JJJ", False)
@example("7/8?QXZ", False)
@example("QXZ%ff", False)
@example("QXZ\ud800", False)
@example("JJJ", False)
def test_a_url_that_is_refused_or_taken_tells_nothing(secret: str, escaped: bool) -> None:
    written = quote(secret, safe="", errors="replace") if escaped else secret
    for place in PLACES:
        url = place.replace("{}", written)
        error: ValueError | None = None
        said: list[str] = []
        try:
            said.append(repr(open_store(url)))
        except ValueError as raised:
            error = raised
        if error is not None:
            assert (error.__cause__, error.__context__) == (None, None)
            said += everything_said(error)
        if place not in NAMES_OF_HOSTS:
            check(secret, *said)


# ------------------------------------------------------------------ around a connection

SECRET = "QXZ-ZJX/Ж?J@Ψ:ZZX[J]"  # no digits, which a port may have
URL = f"redis://user%2FJJJ:{quote(SECRET, safe='')}@{LOOPBACK}:"


@pytest.fixture(params=BOTH)
def transport(request: pytest.FixtureRequest) -> Transport:
    name: Transport = request.param
    return name


def store_at(port: int, transport: Transport, rest: str = "") -> RedisStore:
    return transports.store_at(f"{URL}{port}{rest}", transport, 0.5)


class Provider:
    """Says what the password is when it is asked."""

    def get_credentials(self) -> tuple[str, str]:
        return "user/JJJ", SECRET


class AsyncProvider:
    async def get_credentials_async(self) -> tuple[str, str]:
        return "user/JJJ", SECRET


class FailingProvider:
    def get_credentials(self) -> tuple[str, str]:
        raise ValueError(f"no answer to {SECRET}")


async def failure_of(store: RedisStore, prefix: str) -> StoreError:
    """What a counter says that cannot start, with all that it came from."""
    with pytest.raises(StoreError) as caught:
        async with LaxInstanceAwareCounter.open(prefix, store):
            pytest.fail("it started")
    return caught.value


def check_all(error: BaseException, store: RedisStore, caplog: pytest.LogCaptureFixture) -> None:
    # With the data of each record, which handlers may write.
    logged = [
        f"{record.getMessage()} {record.exc_text} {vars(record)!r}" for record in caplog.records
    ]
    check(SECRET, *everything_said(error), repr(store), caplog.text, *logged)


def test_the_check_finds_it_in_the_data_of_a_record(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("distkit_actors").error("no words", extra={"store": f"<at {URL}1>"})
    with pytest.raises(AssertionError):
        check_all(StoreError(), RedisStore(f"redis://{LOOPBACK}"), caplog)


@pytest.mark.parametrize(
    "handler",
    [
        pytest.param(complain, id="an error that repeats the words"),
        pytest.param(repeat, id="the words"),
        pytest.param(babble, id="no protocol"),
        pytest.param(keep_silent, id="nothing"),
        pytest.param(saying(b""), id="the end"),
        pytest.param(saying(b"HTTP/1.1 400 Bad Request\r\n\r\n"), id="HTTP"),
        pytest.param(saying(b"-WRONGPASS wrong: " + SECRET.encode() + b"\r\n"), id="WRONGPASS"),
        pytest.param(saying(b"-ERR invalid password " + SECRET[3:9].encode() + b"\r\n"), id="part"),
        pytest.param(saying(b"-LOADING " + SECRET.encode() + b"\r\n"), id="LOADING"),
        pytest.param(saying(b"+" + SECRET.encode() + b"\r\n"), id="no OK"),
    ],
)
async def test_a_server_that_answers_oddly_gets_nothing_told(
    handler: Handler,
    transport: Transport,
    nursery: trio.Nursery,
    fresh_prefix: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    store = store_at(await listen(nursery, handler), transport)
    check_all(await failure_of(store, fresh_prefix), store, caplog)


@pytest.mark.parametrize("provider", [Provider, AsyncProvider, FailingProvider])
async def test_a_provider_is_told_of_to_nobody(
    provider: type[Provider],
    transport: Transport,
    nursery: trio.Nursery,
    fresh_prefix: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    url = f"redis://{LOOPBACK}:{await listen(nursery, complain)}"
    if transport == "trio":
        store = RedisStore(url, credential_provider=provider())
    else:
        store = RedisStore.from_pool(ConnectionPool.from_url(url, credential_provider=provider()))
    check_all(await failure_of(store, fresh_prefix), store, caplog)


@pytest.mark.parametrize("rest", ["", "/3?client_name=me", "?ssl"], ids=["plain", "options", "TLS"])
async def test_a_server_that_is_not_there_gets_nothing_told(
    rest: str, transport: Transport, fresh_prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    if rest == "?ssl":
        url = f"redis{URL[5:]}{free_port()}".replace("redis:", "rediss:")
        store = transports.store_at(url, transport)
    else:
        store = store_at(free_port(), transport, rest)
    error = await failure_of(store, fresh_prefix)
    assert isinstance(error, StoreUnavailableError)
    check_all(error, store, caplog)


async def test_a_server_without_the_command_tells_nothing(
    transport: Transport, fresh_prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Redis repeats the words of a command that it does not know."""
    caplog.set_level(logging.DEBUG)
    with RedisServer(config={"rename-command AUTH": ""}) as server:
        store = store_at(server.port, transport)
        error = await failure_of(store, fresh_prefix)
    assert "does not know a command" in str(error)
    check_all(error, store, caplog)


async def test_a_password_that_is_changed_tells_nothing(
    transport: Transport,
    own_redis: RedisServer,
    fresh_prefix: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """While a counter runs, and loses its connection."""
    caplog.set_level(logging.DEBUG)

    def set_password(*words: str) -> None:
        own_redis.command("ACL", "SETUSER", "user/JJJ", "on", "~*", "&*", "+@all", *words)

    set_password(f">{SECRET}")
    store = store_at(own_redis.port, transport)
    with trio.fail_after(30):
        async with StrictInstanceAwareCounter.open(fresh_prefix, store) as counter:
            await counter.inc("k")
            set_password("resetpass", ">other")
            await own_redis.command_async("CLIENT", "KILL", "USER", "user/JJJ")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(counter.get, "k")  # in doubt, so that it waits
                await until(lambda: "user name or password" in caplog.text, 20)
                with pytest.raises(StoreError, match="user name or password") as caught:
                    await counter.inc("k")
                check_all(caught.value, store, caplog)
                set_password("resetpass", f">{SECRET}")
                await counter.get("k")
    check_all(caught.value, store, caplog)
