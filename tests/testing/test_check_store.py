"""The conformance kit lets good stores pass and finds what is wrong with bad ones."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

import distkit_actors
import distkit_actors.testing
from distkit_actors import MemoryStore, RedisStore, Store
from distkit_actors._core._conditions import Lt
from distkit_actors._core._messages import (
    Apply,
    Before,
    Conflict,
    Declined,
    Done,
    Entry,
    Journal,
    Kind,
    Load,
    Loaded,
    MustResume,
    Opened,
    Pace,
    Peek,
    Peeked,
    Reply,
    Request,
    Resume,
    Stale,
    Survey,
    Surveyed,
    Topic,
    Verdict,
)
from distkit_actors._core._namespace import Namespace
from distkit_actors._errors import StoreUnavailableError
from distkit_actors._stores._contract import Link
from distkit_actors.testing import _check_store, check_store
from distkit_actors.testing._check_store import CHECKS, check_name
from distkit_actors.testing._witness import Witness
from tests.testing.mutants import MUTANTS, NamespaceStore
from tests.testing.mutants_of_entries import BY_CHECK


async def test_memory_store_passes_soon(autojump_clock: MockClock) -> None:
    started = trio.current_time()
    await check_store(MemoryStore)
    assert trio.current_time() - started < 4  # on this clock, only waiting takes time


async def test_one_memory_store_passes_for_all_checks(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    await check_store(lambda: store)
    await check_store(lambda: store)


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
            return reply._replace(journal=Journal(self.registry.epochs.cleared, 0, 0))
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
    assert "TypeError" not in str(caught.value)  # it is the mutant that is broken
    (note,) = caught.value.__notes__
    assert any(repr(check_name(check)) in note for check in CHECKS)


@pytest.mark.parametrize(
    ("name", "mutant"), [(name, mutant) for name, kinds in BY_CHECK.items() for mutant in kinds]
)
async def test_a_check_finds_what_it_is_for(
    name: str, mutant: type[Namespace], autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By itself: whatever other checks may find."""
    (check,) = [check for check in CHECKS if check_name(check) == name]
    monkeypatch.setattr(_check_store, "CHECKS", (check,))
    await check_store(MemoryStore)
    with pytest.raises(AssertionError) as caught:
        await check_store(lambda: NamespaceStore(mutant))
    assert "TypeError" not in str(caught.value)


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
    class HangingStore(NamespaceStore):
        @asynccontextmanager
        async def link(self, prefix: str) -> AsyncIterator[Link]:
            await trio.sleep_forever()
            async with super().link(prefix) as link:
                yield link

    with pytest.raises(AssertionError, match="no end after"):
        await check_store(HangingStore)


async def test_what_counters_make_of_a_broken_store_is_unpacked(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = next(check for check in CHECKS if check_name(check) == "many_at_once")
    monkeypatch.setattr(_check_store, "CHECKS", (check,))
    with pytest.raises(AssertionError, match="instead of being refused"):
        await check_store(MUTANTS["WrapsAround"])


APPLY = Apply("i", 1, 1, 0, Pace(1, 1, 1), [Entry(Kind.ADD, "k", 1)])
LESS = Entry(Kind.ADD, "k", 1, condition=Lt(5), guarded=True)
CONDITIONAL = APPLY._replace(entries=[LESS, Entry(Kind.FORGET, "i", 0)])
WHOLE = APPLY._replace(entries=[LESS._replace(guarded=False), Entry(Kind.PUT, "j", 1)], whole=True)
SURVEY = Survey("i", Topic.KEYS)
CLAIM = Resume("i", 1, 1, 0, Pace(1, 1, 1), 0, first=True, claims=[Entry(Kind.CLAIM, "k", 1)])


def told(moves: Sequence[tuple[str, int]]) -> Done:
    return Done(1, [Before(0, 0)], Journal(0, 0, 0, moves))


@pytest.mark.parametrize(
    ("request_", "reply", "complaint"),
    [
        (Peek("i"), Stale(), "Peek was answered by Stale"),
        (APPLY, Opened(1, 1, inherited=False, leftovers=False), "Apply was answered by Opened"),
        (Peek("i"), Peeked(-1, 0), "-1 as incarnation"),
        (Peek("i"), Peeked(1, 0, 1), "1 as alive"),  # type: ignore[arg-type]
        (Load("i", 1, ""), Loaded("", [("k", 2**63, 1)]), "as a slice of 'k'"),
        (Load("i", 1, ""), MustResume(None, 1.5), "1.5 as born"),  # type: ignore[arg-type]
        (APPLY, Conflict(True), "True as incarnation"),
        (APPLY, told([("k", 1)] * 1002), "1002 moves at once, of 1001 at most"),
        (APPLY, told([("k", 1.0)]), "1.0 as the epoch"),  # type: ignore[list-item]
        (APPLY, Done(1, []), "0 results for 1 entries"),
        (APPLY, Done(1, [Before(0, -(2**63) - 1)]), "Before"),
        (APPLY, Done(1, [Verdict.MOVED]), "MOVED"),
        (APPLY, Done(1, [Verdict.SPLIT]), "SPLIT"),
        (APPLY, Done(1, [Verdict.RETRY]), "RETRY"),
        (APPLY, Done(1, [(0, 0)]), "(0, 0)"),  # type: ignore[list-item]
        (APPLY, Done(1, [Before(0, 0)], Journal(0, -1, 0)), "-1 as floor"),
        (CLAIM, Done(1, [Before(0, 0)], again=True), "to be sent again"),
        (APPLY, Done(1, [Declined(9, 9)]), "Declined"),
        (APPLY, Done(1, [Verdict.UNDONE]), "nothing was refused"),
        (CONDITIONAL, Done(1, [Declined(4, 0), Before(0, 0)]), "Declined"),
        (CONDITIONAL, Done(1, [Declined(5, 2**63), Before(0, 0)]), "Declined"),
        (CONDITIONAL, Done(1, [Before(0, 0), Verdict.MOVED]), "MOVED"),
        (CONDITIONAL, Done(1, [Verdict.UNDONE, Verdict.REFUSED]), "nothing was refused"),
        (WHOLE, Done(1, [Before(0, 0), Verdict.REFUSED]), "as a whole"),
        (WHOLE, Done(1, [Verdict.MOVED, Before(0, 0)]), "MOVED"),
        (WHOLE, Done(1, [Verdict.UNDONE, Verdict.UNDONE]), "nothing was refused"),
        (SURVEY, Peeked(1, 1), "Survey was answered by Peeked"),
        (SURVEY, Surveyed("", [("k", 2**63, True)]), "as a row"),
        (SURVEY, Surveyed("", [("k", 1, 1)]), "as a row"),  # type: ignore[list-item]
        (SURVEY, Surveyed(7, []), "7 as a cursor"),  # type: ignore[arg-type]
    ],
)
def test_malformed_replies_are_found(request_: Request, reply: Reply, complaint: str) -> None:
    witness = Witness(MemoryStore())
    with pytest.raises(AssertionError) as caught:
        witness.judge(request_, reply)
    assert complaint in str(caught.value)
    assert witness.complaint == str(caught.value)


@pytest.mark.parametrize(
    ("request_", "reply"),
    [
        (APPLY, Done(1, [Verdict.REFUSED])),
        (APPLY, Stale()),
        (CLAIM, Done(1, [Verdict.MOVED])),
        (CLAIM, Done(1, [], again=True)),
        (Load("i", 1, ""), Loaded("", [("k", -(2**63), 1)])),
        (CONDITIONAL, Done(1, [Declined(5, 0), Verdict.REFUSED])),
        (CONDITIONAL, Done(1, [Verdict.MOVED, Before(0, 3)])),
        (WHOLE, Done(1, [Verdict.UNDONE, Verdict.REFUSED])),
        (WHOLE, Done(1, [Declined(5, 0), Before(0, 0)])),
        (SURVEY, Surveyed("next", [("k", -(2**63), False)])),
    ],
)
def test_well_formed_replies_pass(request_: Request, reply: Reply) -> None:
    Witness(MemoryStore()).judge(request_, reply)


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
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
