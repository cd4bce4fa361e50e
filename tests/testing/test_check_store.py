"""The conformance kit lets good stores pass and finds what is wrong with bad ones."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock

import distkit_actors
import distkit_actors.testing
from distkit_actors import MemoryStore, RedisStore, Store
from distkit_actors._core._messages import Done, Journal, Reply, Request
from distkit_actors._core._namespace import Namespace
from distkit_actors._errors import StoreUnavailableError
from distkit_actors._stores._contract import Link
from distkit_actors.testing import check_store
from distkit_actors.testing._check_store import CHECKS, check_name
from tests.testing.mutants import MUTANTS, NamespaceStore


async def test_memory_store_passes(autojump_clock: MockClock) -> None:
    await check_store(MemoryStore)


async def test_one_memory_store_passes_for_all_checks(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    await check_store(lambda: store)
    await check_store(lambda: store)


async def test_memory_store_passes_in_real_time_soon() -> None:
    started = trio.current_time()
    await check_store(MemoryStore)
    assert trio.current_time() - started < 6


async def test_redis_store_passes(redis_url: str) -> None:
    async def make() -> Store:
        await trio.lowlevel.checkpoint()
        return RedisStore(redis_url)

    await check_store(make)


class TellsMoreToRepeats(Namespace):
    """Nothing forbids to bring the news with a repeated answer too."""

    def execute(self, request: Request, now: int) -> Reply:
        reply = super().execute(request, now)
        if isinstance(reply, Done) and reply.journal is None:
            return replace(reply, journal=Journal(self.registry.epochs.cleared, 0, 0))
        return reply


@pytest.mark.parametrize("make", [Namespace, TellsMoreToRepeats])
async def test_another_good_store_passes(
    make: Callable[[], Namespace], autojump_clock: MockClock
) -> None:
    await check_store(lambda: NamespaceStore(make))


@pytest.mark.parametrize("mutant", MUTANTS)
async def test_a_broken_store_fails(mutant: str, autojump_clock: MockClock) -> None:
    with pytest.raises(AssertionError) as caught:
        await check_store(MUTANTS[mutant])
    assert str(caught.value)
    (note,) = caught.value.__notes__
    assert any(repr(check_name(check)) in note for check in CHECKS)


async def test_a_store_that_is_away_fails(autojump_clock: MockClock) -> None:
    class Away(Store):
        @asynccontextmanager
        async def link(self, prefix: str) -> AsyncIterator[Link]:
            raise StoreUnavailableError("nobody there")
            yield

    with pytest.raises(AssertionError, match="nobody there") as caught:
        await check_store(Away)
    assert isinstance(caught.value.__cause__, StoreUnavailableError)


async def test_a_store_that_hangs_fails(autojump_clock: MockClock) -> None:
    class Hangs(Namespace):
        pass

    class HangingStore(NamespaceStore):
        @asynccontextmanager
        async def link(self, prefix: str) -> AsyncIterator[Link]:
            await trio.sleep_forever()
            async with super().link(prefix) as link:
                yield link

    with pytest.raises(AssertionError, match="no end after"):
        await check_store(HangingStore)


async def test_cancelling_the_kit_cancels_it() -> None:
    with trio.move_on_after(0.05) as scope:
        await check_store(MemoryStore)
    assert scope.cancelled_caught


def test_checks_have_names_and_say_what_they_check() -> None:
    names = [check_name(check) for check in CHECKS]
    assert len(set(names)) == len(names)
    assert all(check.__doc__ for check in CHECKS)


def test_public_names() -> None:
    names = distkit_actors.testing.__all__
    assert sorted(set(names)) == names
    for name in names:
        value = getattr(distkit_actors.testing, name)
        assert (value.__module__, value.__qualname__) == ("distkit_actors.testing", name)
        assert value.__doc__


def test_importing() -> None:
    """The package does not need the kit, and the kit needs no test framework."""
    code = (
        "import sys, distkit_actors; print('distkit_actors.testing' in sys.modules);"
        "import distkit_actors.testing; print('pytest' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "False"]
