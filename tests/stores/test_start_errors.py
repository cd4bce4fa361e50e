"""What is printed where a counter cannot start: one block, without what is inside the package."""

from __future__ import annotations

import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

import distkit_actors
from distkit_actors import (
    InstanceConflictError,
    LaxInstanceAwareCounter,
    MemoryStore,
    Store,
    StoreError,
    StoreUnavailableError,
    StrictInstanceAwareCounter,
)
from distkit_actors._stores._contract import Link
from distkit_actors.testing import FaultyStore
from tests.harness.ports import free_port
from tests.harness.server import RedisServer

PACKAGE = str(Path(distkit_actors.__file__).parent)


class OthersStore(MemoryStore):
    """Somebody else's, whose message does not say why."""

    @asynccontextmanager
    async def link(self, prefix: str) -> AsyncIterator[Link]:
        raise StoreUnavailableError("the store is away") from OSError("no route to host")
        yield


async def begin(how: str, store: Store | str, **options: object) -> None:
    """Start a counter in one of the ways there are, which fails."""
    kind = LaxInstanceAwareCounter if "lax" in how else StrictInstanceAwareCounter
    counter = kind("app", store, **options)  # type: ignore[arg-type]  # some of its options
    if "block" in how:
        async with counter._running():
            raise AssertionError("it has started")
    elif "start" in how:
        async with trio.open_nursery() as nursery:
            await nursery.start(counter.run)
    else:
        await counter.run()


def check(error: BaseException, *, words: str) -> None:
    """Hold that an error is one block, and shows one line of the package at most."""
    text = "".join(traceback.format_exception(error))
    last = text.splitlines()[-1]
    assert words in text
    assert words in last, last
    assert "The above exception" not in text
    assert "During handling" not in text
    assert text.count("Traceback (most recent call last)") == 1
    frames = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    assert len([name for name in frames if name.startswith(PACKAGE)]) <= 1, text
    assert frames[0] == __file__, "whose code it was is not told"


def sole(error: BaseException) -> BaseException:
    """Take off the group of the user's own nursery."""
    return sole(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


HOW = pytest.mark.parametrize("how", ["strict block", "lax block", "strict start", "strict run"])


@HOW
async def test_a_store_that_is_not_there_is_told_in_one_block(how: str) -> None:
    with pytest.raises((StoreUnavailableError, ExceptionGroup)) as caught:
        await begin(how, f"redis://:secret@127.0.0.1:{free_port()}")
    check(sole(caught.value), words="refused")


@HOW
async def test_a_wrong_password_is_told_in_one_block(how: str, redis_server: RedisServer) -> None:
    url = f"redis://somebody:secret@{redis_server.host}:{redis_server.port}"
    with pytest.raises((StoreError, ExceptionGroup)) as caught:
        await begin(how, url)
    check(sole(caught.value), words="WRONGPASS")


@HOW
async def test_an_id_that_is_taken_is_told_in_one_block(how: str) -> None:
    store = MemoryStore()
    async with StrictInstanceAwareCounter.open("app", store, instance_id="me"):
        with pytest.raises((InstanceConflictError, ExceptionGroup)) as caught:
            await begin(how, store, instance_id="me", on_conflict="refuse")
        check(sole(caught.value), words="'me'")


@HOW
async def test_parts_that_are_not_there_are_told_in_one_block(how: str) -> None:
    store = distkit_actors.RedisStore(f"redis://127.0.0.1:{free_port()}", partitions=3)
    with pytest.raises((StoreUnavailableError, ExceptionGroup)) as caught:
        await begin(how, store)
    check(sole(caught.value), words="refused")


@HOW
async def test_a_cause_that_the_message_does_not_tell_is_in_the_notes(how: str) -> None:
    with pytest.raises((StoreUnavailableError, ExceptionGroup)) as caught:
        await begin(how, OthersStore())
    check(sole(caught.value), words="because of OSError('no route to host')")
    assert str(sole(caught.value)) == "the store is away"


async def test_what_ends_a_counter_later_keeps_its_cause(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """It may be a bug, or a stop that fails: there all is told."""
    store = FaultyStore(MemoryStore())

    async def live() -> None:
        async with LaxInstanceAwareCounter.open("app", store, exit_grace=1.0) as counter:
            counter.inc_nowait("k")
            store.refuse(StoreError("OOM"))

    with pytest.raises(StoreUnavailableError) as caught:
        await live()
    assert str(caught.value.__cause__) == "OOM"
