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
from distkit_actors._errors import StoreUnavailableError
from distkit_actors._namespace._namespace import Namespace
from distkit_actors._protocol._conditions import Lt
from distkit_actors._protocol._messages import (
    Applied,
    Apply,
    ConditionFailed,
    Conflict,
    Entry,
    Journal,
    Kind,
    Load,
    Loaded,
    MustResume,
    Opened,
    Peek,
    Peeked,
    Periods,
    Previous,
    Query,
    QueryKind,
    QueryPage,
    Rejection,
    Reply,
    Request,
    Resume,
    Stale,
)
from distkit_actors._stores._contract import Link
from distkit_actors.testing import FaultyStore, _check_store, check_store
from distkit_actors.testing._check_store import CHECKS, check_name
from distkit_actors.testing._reply_validator import ReplyValidator
from tests.conformance.mutants import MUTANTS, NamespaceStore
from tests.harness.cluster import RedisCluster
from tests.harness.sentinel import SentinelTrio


async def test_memory_store_passes_soon(autojump_clock: MockClock) -> None:
    started = trio.current_time()
    await check_store(MemoryStore)
    assert trio.current_time() - started < 8  # on this clock, only waiting takes time


async def test_one_memory_store_passes_for_all_checks(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    await check_store(lambda: store)
    await check_store(lambda: store)


@pytest.mark.parametrize("number", [2, 3, 16])
async def test_a_store_of_parts_passes(number: int, autojump_clock: MockClock) -> None:
    await check_store(lambda: MemoryStore(partitions=number))


async def test_redis_store_passes(redis_url: str) -> None:
    async def make() -> Store:
        await trio.lowlevel.checkpoint()
        return RedisStore(redis_url)

    await check_store(make)


async def test_a_cluster_passes(cluster: RedisCluster) -> None:
    store = RedisStore(f"redis+cluster://:{cluster.password}@127.0.0.1:{cluster.ports[0]}")
    await check_store(lambda: store)


async def test_a_primary_that_sentinels_name_passes(sentinels: SentinelTrio) -> None:
    hosts = ",".join(f"{one.host}:{one.port}" for one in sentinels.sentinels)
    url = (
        f"redis+sentinel://:{sentinels.password}@{hosts}/{sentinels.service}"
        f"?sentinel_password={sentinels.sentinel_password}"
    )
    store = RedisStore(url)
    await check_store(lambda: store)


class TellsMoreToRepeats(Namespace):
    """Nothing forbids to bring the news with a repeated answer too."""

    def execute(self, request: Request, now: int) -> Reply:
        reply = super().execute(request, now)
        if isinstance(reply, Applied) and reply.journal is None:
            return reply._replace(journal=Journal(self.registry.epochs.cleared, 0, 0))
        return reply


@pytest.mark.parametrize("make", [Namespace, TellsMoreToRepeats])
async def test_another_good_store_passes(
    make: Callable[[], Namespace], autojump_clock: MockClock
) -> None:
    await check_store(lambda: NamespaceStore(make))


@pytest.mark.parametrize("replies", [False, True])
async def test_a_slow_store_passes(replies: bool, autojump_clock: MockClock) -> None:
    """As slow as the documentation lets it be: that goes for every check."""

    def slow() -> Store:
        store = FaultyStore(MemoryStore())
        store.delay(0.0395, replies=replies)
        return store

    await check_store(slow)


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


APPLY = Apply("i", 1, 1, 0, Periods(1, 1, 1), [Entry(Kind.ADD, "k", 1)])
LESS = Entry(Kind.ADD, "k", 1, condition=Lt(5), guarded=True)
CONDITIONAL = APPLY._replace(entries=[LESS, Entry(Kind.FORGET, "i", 0)])
WHOLE = APPLY._replace(entries=[LESS._replace(guarded=False), Entry(Kind.PUT, "j", 1)], atomic=True)
QUERY = Query("i", QueryKind.KEYS)
INSTANCES = Query("i", QueryKind.INSTANCES)
CLAIM = Resume("i", 1, 1, 0, Periods(1, 1, 1), 0, first=True, claims=[Entry(Kind.CLAIM, "k", 1)])


def told(moves: Sequence[tuple[str, int]]) -> Applied:
    return Applied(1, [Previous(0, 0)], Journal(0, 0, 0, moves))


@pytest.mark.parametrize(
    ("request_", "reply", "complaint"),
    [
        (Peek("i"), Stale(), "Peek was answered by Stale"),
        (APPLY, Opened(1, 1, inherited=False, leftovers=False), "Apply was answered by Opened"),
        (Peek("i"), Peeked(-1, 0), "-1 as incarnation"),
        (Peek("i"), Peeked(1, 0, 1), "1 as alive"),  # type: ignore[arg-type]
        (Load("i", 1, 1, ""), Loaded("", [("k", 2**63, 1)]), "as a slice of 'k'"),
        (Load("i", 1, 1, ""), MustResume(None, 1.5), "1.5 as born"),  # type: ignore[arg-type]
        (APPLY, Conflict(True), "True as incarnation"),
        (APPLY, told([("k", 1)] * 1002), "1002 moves at once, of 1001 at most"),
        (APPLY, told([("k", 1.0)]), "1.0 as the epoch"),  # type: ignore[list-item]
        (APPLY, Applied(1, []), "0 results for 1 entries"),
        (APPLY, Applied(1, [Previous(0, -(2**63) - 1)]), "Previous"),
        (APPLY, Applied(1, [Rejection.MOVED]), "MOVED"),
        (APPLY, Applied(1, [Rejection.SPLIT]), "SPLIT"),
        (APPLY, Applied(1, [Rejection.RETRY]), "RETRY"),
        (APPLY, Applied(1, [(0, 0)]), "(0, 0)"),  # type: ignore[list-item]
        (APPLY, Applied(1, [Previous(0, 0)], Journal(0, -1, 0)), "-1 as floor"),
        (CLAIM, Applied(1, [Previous(0, 0)], again=True), "to be sent again"),
        (APPLY, Applied(1, [ConditionFailed(9, 9)]), "ConditionFailed"),
        (APPLY, Applied(1, [Rejection.UNDONE]), "nothing was refused"),
        (CONDITIONAL, Applied(1, [ConditionFailed(4, 0), Previous(0, 0)]), "ConditionFailed"),
        (CONDITIONAL, Applied(1, [ConditionFailed(5, 2**63), Previous(0, 0)]), "ConditionFailed"),
        (CONDITIONAL, Applied(1, [Previous(0, 0), Rejection.MOVED]), "MOVED"),
        (CONDITIONAL, Applied(1, [Rejection.UNDONE, Rejection.REFUSED]), "nothing was refused"),
        (WHOLE, Applied(1, [Previous(0, 0), Rejection.REFUSED]), "as a whole"),
        (WHOLE, Applied(1, [Rejection.MOVED, Previous(0, 0)]), "MOVED"),
        (WHOLE, Applied(1, [Rejection.UNDONE, Rejection.UNDONE]), "nothing was refused"),
        (QUERY, Peeked(1, 1), "Query was answered by Peeked"),
        (QUERY, QueryPage("", [("k", 2**63, True)]), "as a row"),
        (QUERY, QueryPage("", [("k", 1, 1)]), "as a row"),  # type: ignore[list-item]
        (QUERY, QueryPage(7, []), "7 as a cursor"),  # type: ignore[arg-type]
        (QUERY, QueryPage("", [("k", 1, True)], about=[(1, "")]), "1 times"),
        (INSTANCES, QueryPage("", [("i", 1, True)]), "0 times"),
        (INSTANCES, QueryPage("", [("i", 1, True)], about=[("1", "")]), "instance says"),  # type: ignore[list-item]
    ],
)
def test_malformed_replies_are_found(request_: Request, reply: Reply, complaint: str) -> None:
    validator = ReplyValidator(MemoryStore())
    with pytest.raises(AssertionError) as caught:
        validator.judge(request_, reply)
    assert complaint in str(caught.value)
    assert validator.complaint == str(caught.value)


@pytest.mark.parametrize(
    ("request_", "reply"),
    [
        (APPLY, Applied(1, [Rejection.REFUSED])),
        (APPLY, Stale()),
        (CLAIM, Applied(1, [Rejection.MOVED])),
        (CLAIM, Applied(1, [], again=True)),
        (Load("i", 1, 1, ""), Loaded("", [("k", -(2**63), 1)])),
        (CONDITIONAL, Applied(1, [ConditionFailed(5, 0), Rejection.REFUSED])),
        (CONDITIONAL, Applied(1, [Rejection.MOVED, Previous(0, 3)])),
        (WHOLE, Applied(1, [Rejection.UNDONE, Rejection.REFUSED])),
        (WHOLE, Applied(1, [ConditionFailed(5, 0), Previous(0, 0)])),
        (QUERY, QueryPage("next", [("k", -(2**63), False)])),
        (INSTANCES, QueryPage("", [("i", 1, True)], about=[(1, "")])),
    ],
)
def test_well_formed_replies_pass(request_: Request, reply: Reply) -> None:
    ReplyValidator(MemoryStore()).judge(request_, reply)


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
