"""Bad input raises before anything changes, anywhere."""

# ruff: noqa: SIM300 - expected == actual, all through

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio

from distkit_actors import (
    CounterOverflowError,
    DistkitError,
    InvalidKeyError,
    LaxInstanceAwareCounter,
    MemoryStore,
    RedisStore,
    StrictInstanceAwareCounter,
    open_store,
)
from tests.behaviour.world import MAX, MIN, Flavour, World, both_flavours

BAD_NAMES = [
    pytest.param("", id="empty"),
    pytest.param("x" * 256, id="256 characters"),
    pytest.param("\ud800", id="surrogate"),
    pytest.param(b"bytes", id="bytes"),
    pytest.param(7, id="int"),
    pytest.param(None, id="None"),
    pytest.param(("k",), id="tuple"),
    pytest.param(["unhashable"], id="list"),
]
BAD_TYPES = [True, False, 1.0, "1", None, b"1", 1j]
TOO_BIG = [MAX + 1, MIN - 1, 2**64, -(10**30)]
#: Counts that are no counts, and what they raise.
BAD_COUNTS = [
    *((count, TypeError) for count in BAD_TYPES),
    *((count, CounterOverflowError) for count in TOO_BIG),
]

KEYED = ["inc", "dec", "get", "set", "set_on_instance", "delete", "delete_on_instance", "bind"]
KEYED_NOWAIT = ["inc_nowait", "dec_nowait", "get_nowait", "age"]
COUNTED = ["inc", "dec", "set", "set_on_instance"]
COUNTED_NOWAIT = ["inc_nowait", "dec_nowait"]


async def call(counter: object, name: str, *arguments: Any) -> object:
    """Call a method, and await it if need be."""
    result = getattr(counter, name)(*arguments)
    return await result if hasattr(result, "__await__") else result


def arguments_of(name: str, key: object) -> tuple[object, ...]:
    """Return what else a method takes."""
    return (key, 1) if name in ("set", "set_on_instance") else (key,)


class Untouched:
    """Holds that a block changes nothing in the store, and sends nothing."""

    def __init__(self, world: World, counter: Any) -> None:
        self._world = world
        self._counter = counter

    async def __aenter__(self) -> None:
        await self._counter.set("present", 5)
        for _ in range(2):  # the second tells the store that the first was heard
            await self._world.value(self._counter, "present")
        self._print = await self._world.backend.footprint(self._world.prefix)
        self._sent = len(self._world.requests(self._counter))

    async def __aexit__(self, *exc_info: object) -> None:
        entries = [
            entry
            for request in self._world.requests(self._counter)[self._sent :]
            for entry in getattr(request, "entries", ())
        ]
        assert [] == entries
        assert (5, 5) == await self._world.value(self._counter, "present")
        await self._world.until(self._as_before)
        if isinstance(self._counter, LaxInstanceAwareCounter):
            assert 0 == self._counter.statistics().pending_keys

    async def _as_before(self) -> bool:
        """Who was taken for dead on a busy machine is back with this step."""
        await self._world.value(self._counter, "present")
        return self._print == await self._world.backend.footprint(self._world.prefix)


@both_flavours
@pytest.mark.parametrize("key", BAD_NAMES)
async def test_bad_keys(world: World, flavour: Flavour, key: object) -> None:
    """No operation takes a key that no store could hold."""
    counter = await world.make(flavour)
    async with Untouched(world, counter):
        for name in KEYED + KEYED_NOWAIT * (flavour == "lax"):
            with pytest.raises(InvalidKeyError) as info:
                await call(counter, name, *arguments_of(name, key))
            assert isinstance(info.value, (ValueError, DistkitError))


@both_flavours
@pytest.mark.parametrize("count", BAD_TYPES, ids=repr)
async def test_counts_that_are_no_ints(world: World, flavour: Flavour, count: object) -> None:
    """A count is an int; a bool is not, and a float is not."""
    counter = await world.make(flavour)
    handle = counter.bind("k")
    async with Untouched(world, counter):
        for name in COUNTED + COUNTED_NOWAIT * (flavour == "lax"):
            for key in ("k", "present"):
                with pytest.raises(TypeError, match="must be an int, not"):
                    await call(counter, name, key, count)
            with pytest.raises(TypeError, match="must be an int, not"):
                await call(handle, name, count)


@both_flavours
@pytest.mark.parametrize("count", TOO_BIG)
async def test_counts_outside_int64(world: World, flavour: Flavour, count: int) -> None:
    """A count outside int64 is an overflow, whatever the value would be."""
    counter = await world.make(flavour)
    handle = counter.bind("present")
    async with Untouched(world, counter):
        for name in COUNTED + COUNTED_NOWAIT * (flavour == "lax"):
            with pytest.raises(CounterOverflowError) as info:
                await call(counter, name, "k", count)
            assert isinstance(info.value, OverflowError)
            with pytest.raises(CounterOverflowError):
                await call(handle, name, count)


@both_flavours
async def test_the_least_int_has_no_negative(world: World, flavour: Flavour) -> None:
    """`dec` of -2**63 is `inc` of 2**63, which does not fit; `dec` of 2**63-1 does."""
    counter = await world.make(flavour)
    async with Untouched(world, counter):
        with pytest.raises(CounterOverflowError):
            await counter.dec("k", MIN)
    assert (-MAX, -MAX) == await counter.dec("k", MAX)


@both_flavours
async def test_counts_outside_int64_after_very_large_ones(world: World, flavour: Flavour) -> None:
    """However small both together are; a lax counter has added nothing to the slice yet."""
    counter = await world.make(flavour)
    handle = counter.bind("j")
    await counter.inc("k", MIN)
    await handle.inc(MIN)
    for name in COUNTED + COUNTED_NOWAIT * (flavour == "lax"):
        with pytest.raises(CounterOverflowError):
            await call(counter, name, "k", -MIN if "inc" in name or "set" in name else MIN)
        with pytest.raises(CounterOverflowError):
            await call(handle, name, -MIN if "inc" in name or "set" in name else MIN)
    assert (MIN + MAX, MIN + MAX) == await counter.inc("k", MAX)
    assert (0, 0) == await counter.inc("k", 1)
    assert (5, 5) == await counter.inc("k", 5)


async def test_a_count_outside_int64_behind_the_end_of_a_very_large_hold(world: World) -> None:
    counter = await world.lax(flush_interval=60.0)
    async with counter.hold("k", MAX):
        await counter.flush()
        counter.inc_nowait("k", -1)
    with pytest.raises(CounterOverflowError):
        counter.inc_nowait("k", -MIN)
    assert (-1, -1) == await world.value(counter, "k")


@both_flavours
async def test_names_of_255_characters(world: World, flavour: Flavour) -> None:
    """255 characters are fine, however many bytes they take."""
    prefix = world.prefix + "☃" * (255 - len(world.prefix))
    counter = world.build(flavour, prefix=prefix)
    await world.start(counter)
    assert (1, 1) == await counter.inc("☃" * 255)
    assert (1, 1) == await world.value(counter, "☃" * 255)


@pytest.mark.parametrize("kind", [StrictInstanceAwareCounter, LaxInstanceAwareCounter])
@pytest.mark.parametrize("prefix", BAD_NAMES)
def test_bad_prefixes(kind: Callable[..., object], prefix: object) -> None:
    """A prefix has the same rules as a key."""
    with pytest.raises(InvalidKeyError):
        kind(prefix, MemoryStore())


@pytest.mark.parametrize("kind", [StrictInstanceAwareCounter, LaxInstanceAwareCounter])
@pytest.mark.parametrize(
    "options",
    [
        {"dead_instance_threshold": 0},
        {"dead_instance_threshold": -1.0},
        {"dead_instance_threshold": float("inf")},
        {"dead_instance_threshold": float("nan")},
        {"heartbeat_interval": 0},
        {"heartbeat_interval": -1.0},
        {"heartbeat_interval": 15.01},
        {"heartbeat_interval": float("nan")},
        {"dead_instance_threshold": 10.0, "heartbeat_interval": 6.0},
        {"mailbox_size": 0},
        {"mailbox_size": -5},
        {"mailbox_size": float("nan")},
        {"on_exit": "stay"},
        {"on_exit": None},
        {"exit_grace": -1.0},
        {"exit_grace": float("nan")},
        {"exit_grace": 10**400},
        {"start_grace": 10**400},
        {"dead_instance_threshold": 10**400},
        {"mailbox_size": 10**400},
        {"instance_id": ""},
        {"instance_id": 7},
        {"instance_id": "x" * 256},
        {"instance_id": "\ud800"},
    ],
    ids=lambda options: str(options)[:40],
)
def test_bad_options(kind: Callable[..., object], options: dict[str, object]) -> None:
    """Options that cannot work are refused when the counter is made."""
    with pytest.raises(ValueError):  # noqa: PT011 - which words, is not the point
        kind("p", MemoryStore(), **options)


@pytest.mark.parametrize(
    "options",
    [
        {"flush_interval": 0},
        {"flush_interval": -1},
        {"flush_interval": float("inf")},
        {"flush_interval": float("nan")},
        {"allowed_lag": -0.1},
        {"allowed_lag": float("nan")},
        {"allowed_lag": 10**400},
        {"flush_interval": 10**400},
    ],
    ids=lambda options: str(options)[:40],
)
def test_bad_lax_options(options: dict[str, Any]) -> None:
    """So are those of lax counters."""
    with pytest.raises(ValueError):  # noqa: PT011 - which words, is not the point
        LaxInstanceAwareCounter("p", MemoryStore(), **options)


@pytest.mark.parametrize("value", ["30", None, [1]])
@pytest.mark.parametrize(
    "name",
    [
        *("dead_instance_threshold", "exit_grace", "start_grace", "mailbox_size"),
        *("heartbeat_interval", "flush_interval", "allowed_lag"),
    ],
)
def test_a_number_of_the_wrong_type_is_named(name: str, value: object) -> None:
    """As one that comes from the environment, where all is text."""
    if (name, value) == ("heartbeat_interval", None):
        value = "None"  # which itself is the default
    said = f"{name} must be .*, not {type(value).__name__}$"
    with pytest.raises(TypeError, match=said):
        LaxInstanceAwareCounter("p", MemoryStore(), **{name: value})  # type: ignore[arg-type]


def test_a_response_timeout_of_the_wrong_type_is_named() -> None:
    with pytest.raises(TypeError, match=r"response_timeout must be .*, not str$"):
        RedisStore("redis://localhost", response_timeout="2")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        ("localhost:6379", "; did you mean redis://localhost:6379?"),
        ("10.0.0.1:6379/1", "; did you mean redis://10.0.0.1:6379/1?"),
        ("localhost", "; did you mean redis://localhost?"),
        ("memory", "; did you mean memory://?"),
        ("s3cret.pass-word", ""),  # the wrong variable: it may be a password
        ("http://localhost:1", ", not http://"),
        ("redsi://localhost", ", not redsi://"),
        ("my_app:secret@localhost", ""),
        ("htp://:secret@localhost", ", not htp://"),
    ],
)
def test_a_url_that_begins_wrongly_is_corrected(url: str, hint: str) -> None:
    with pytest.raises(ValueError, match="begins with redis://") as caught:
        open_store(url)
    assert str(caught.value).partition("memory://")[2] == hint


def test_strict_counters_have_no_lax_options() -> None:
    """A strict counter has nothing to flush."""
    with pytest.raises(TypeError):
        StrictInstanceAwareCounter("p", MemoryStore(), flush_interval=1.0)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    "options",
    [
        {"dead_instance_threshold": 10.0, "heartbeat_interval": 5.0},
        {"dead_instance_threshold": 0.001},
        {"mailbox_size": 1},
        {"exit_grace": 0},
        {"on_exit": "linger"},
        {"instance_id": "with:colon and space"},
    ],
    ids=str,
)
async def test_options_at_their_limits(world: World, options: dict[str, Any]) -> None:
    """What is just allowed works."""
    async with StrictInstanceAwareCounter.open("p", MemoryStore(), **options) as counter:
        assert (1, 1) == await counter.inc("k")


BAD_URLS = [
    "",
    "localhost",
    "localhost:6379",
    "http://localhost",
    "redis",
    "redis:/localhost",
    "rediss",
    "memory",
    "memory://somewhere",
    "redis://localhost:notaport",
    "redis://localhost:99999",
    "redis://localhost/notadb",
]


@pytest.mark.parametrize("url", BAD_URLS)
def test_bad_urls(url: str) -> None:
    """A URL that names no store is a ValueError, when the counter is made."""
    with pytest.raises(ValueError):  # noqa: PT011 - which words, is not the point
        open_store(url)
    with pytest.raises(ValueError):  # noqa: PT011 - which words, is not the point
        StrictInstanceAwareCounter("p", url)


@pytest.mark.parametrize(
    "url",
    [
        "redis://user:hunter2@localhost:notaport",
        "redis://:hunter2@localhost/notadb",
        "http://user:hunter2@localhost",
        "redis://:hunter2@localhost?no_such_option=1",
        "redis://localhost?password=hunter2&db=x",
    ],
)
def test_bad_urls_keep_their_secrets(url: str) -> None:
    """The message of a bad URL does not give a password away."""
    with pytest.raises(ValueError) as info:  # noqa: PT011 - which words, is not the point
        open_store(url)
    error: BaseException | None = info.value
    while error is not None:
        assert "hunter2" not in str(error)
        error = None if error.__suppress_context__ else error.__cause__ or error.__context__


def test_good_urls_make_stores_without_contacting_anybody() -> None:
    """All schemes."""
    assert isinstance(open_store("memory://"), MemoryStore)
    assert open_store("memory://") is not open_store("memory://")
    for url in (
        "redis://localhost",
        "redis://user:hunter2@localhost:6380/3",
        "rediss://localhost:6380",
        "unix:///tmp/redis.sock?db=2",
        "valkey://user:hunter2@localhost",
        "valkeys://localhost:6380",
    ):
        store = open_store(url)
        assert isinstance(store, RedisStore)
        assert "hunter2" not in repr(store)


async def test_a_url_in_place_of_a_store(world: World) -> None:
    """A counter takes a URL where it takes a store; each "memory://" is a world of its own."""
    async with (
        StrictInstanceAwareCounter.open("p", "memory://") as a,
        LaxInstanceAwareCounter.open("p", "memory://") as b,
    ):
        await a.inc("k", 3)
        await trio.sleep(1)
        assert (0, 0) == await b.get("k")
