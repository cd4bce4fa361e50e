"""What the scripts do with a lot, with little memory, and in odd places."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest
import redis
from redis.crc import key_slot

from distkit_actors._instance._session import Phase, Session
from distkit_actors._namespace._observed_time import RECENT_PART
from distkit_actors._protocol._messages import (
    MAX_PURGE,
    Applied,
    Apply,
    Entry,
    Forget,
    Kind,
    Load,
    Open,
    Opened,
    Peek,
    Peeked,
    Periods,
    Previous,
    Rejection,
    Reply,
    Request,
    Resume,
)
from distkit_actors._stores._redis._rights import _OF_SCRIPTS
from distkit_actors._stores._redis._wire import KeyNames
from tests.harness import unique_prefix
from tests.harness.server import RedisServer

from .test_redis_agrees import History
from .twin import START, LuaStore, Twin, connect

SECOND = 1_000_000
PERIODS = Periods(threshold=3 * SECOND, interval=SECOND, retention=600 * SECOND)


@pytest.fixture
def own_client(own_redis: RedisServer) -> Iterator[redis.Redis]:
    with connect(own_redis.url) as client:
        yield client


@pytest.fixture
def store(client: redis.Redis) -> Iterator[LuaStore]:
    store = LuaStore(client, unique_prefix())
    yield store
    store.wipe()


def session_of(instance: str, periods: Periods = PERIODS) -> Session:
    return Session(instance, "nonce", periods, inherit=False)


def settle(store: Twin | LuaStore | Half, session: Session) -> list[Reply]:
    """Exchange messages until the session has nothing left to send."""
    replies = []
    while (request := session.request()) is not None:
        replies.append(store.execute(request))
        session.receive(replies[-1])
    return replies


def run(
    store: Twin | LuaStore | Half, session: Session, *entries: Entry, **options: Any
) -> Applied:
    settle(store, session)
    session.begin(entries, **options)
    last = settle(store, session)[-1]
    assert isinstance(last, Applied)
    return last


def add(key: str, value: int = 1) -> Entry:
    return Entry(Kind.ADD, key, value)


def names(count: int) -> list[str]:
    return [f"key{number}" for number in range(count)]


# ------------------------------------------------------------------------------ a lot


def fill(twin: Twin, session: Session, kind: Kind, keys: list[str], value: int = 1) -> None:
    for first in range(0, len(keys), 1000):
        run(twin, session, *(Entry(kind, key, value) for key in keys[first : first + 1000]))
        twin.now += 1000


def test_a_body_of_8500_slices_goes_in_bounded_steps(twin: Twin) -> None:
    dead, heir = session_of("dead"), session_of("heir")
    settle(twin, heir)
    fill(twin, dead, Kind.ADD, names(8500))
    run(twin, heir, add("key1", 5))
    for _ in range(4):
        twin.now += SECOND
        run(twin, heir)
    # Only the scripts: which slices of the body go first is not the same.
    steps = 0
    heir.begin([], budget=100)
    while (request := heir.request()) is not None:
        sums = twin.lua.client.hlen(twin.lua.base + b"n")
        reply = twin.lua.execute(request, twin.now)
        assert sums - twin.lua.client.hlen(twin.lua.base + b"n") <= 100
        heir.receive(reply)
        steps += 1
        assert isinstance(reply, Applied)
        if reply.backlog:
            heir.begin([], budget=100)
    assert 85 <= steps <= 90  # one may find fewer slices than it may take
    assert twin.lua.dump()["sums"] == {"key1": 5}
    assert twin.lua.dump()["reap_queue"] == []


def test_a_returning_instance_with_8500_slices_replaces_them_all(twin: Twin) -> None:
    session = session_of("i")
    fill(twin, session, Kind.ADD, names(8500))
    record = twin.namespace.registry.records["i"]
    again = 0
    # As after a rollback: the store has slices of which the instance knows nothing.
    request = Resume("i", session.incarnation, 99, 0, PERIODS, twin.namespace.born, first=True)
    while True:
        # Not compared in between: which thousand goes first is not the same.
        expected = twin.namespace.execute(request, twin.now)
        actual = twin.lua.execute(request, twin.now)
        assert actual == expected
        assert isinstance(actual, Applied)
        request = Resume(
            "i", session.incarnation, request.seq + 1, 0, PERIODS, twin.namespace.born, first=True
        )
        if not actual.again:
            break
        again += 1
    assert again == -(-8500 // MAX_PURGE) - 1
    assert record.slices == {}
    twin.compare()


def test_10000_moves_are_told_in_pages(twin: Twin) -> None:
    keys = names(10_000)
    mover, other = session_of("mover"), session_of("other")
    fill(twin, other, Kind.ADD, keys)
    # Steps of 700: no page of 1000 ends where a step does.
    for first in range(0, len(keys), 700):
        run(twin, mover, *(Entry(Kind.MOVE, key, 2) for key in keys[first : first + 700]))
        twin.now += 1000
    other.begin([add("key1"), add("key9999")])
    (first,) = settle(twin, other)
    assert isinstance(first, Applied)
    assert first.results == (Previous(2, 0), Previous(2, 0))
    assert first.journal is not None
    assert len(first.journal.moves) == 700 + 1
    answers = [first]
    while answers[-1].backlog:
        other.begin([])
        (reply,) = settle(twin, other)
        assert isinstance(reply, Applied)
        answers.append(reply)
    assert len(answers) == 14
    assert set(other.slices) == {"key1", "key9999"}
    twin.compare()
    twin.check_sums()


def work_of(twin: Twin) -> int:
    """How many commands the server has executed, those of scripts included."""
    return sum(calls(twin.lua.client).values()) - calls(twin.lua.client)["info"]


def test_i10_what_a_clear_made_void_goes_at_once(twin: Twin) -> None:
    """In a step that does no more the more slices there are, and takes nothing younger."""

    def work(count: int) -> int:
        owner, other = session_of(f"owner of {count}"), session_of(f"another of {count}")
        fill(twin, owner, Kind.ADD, names(count))
        run(twin, other, Entry(Kind.CLEAR, "", 0))
        run(twin, owner)
        fill(twin, owner, Kind.ADD, names(count))
        run(twin, other, Entry(Kind.CLEAR, "", 0))
        before = work_of(twin)
        owner.begin([add("key1"), add("young")])
        request = owner.request()
        assert request is not None
        twin.execute(request)
        owner.lost()
        spent = work_of(twin) - before
        settle(twin, owner)  # the answer from the record tells nothing of the clear
        run(twin, owner, add("late"))
        assert owner.slices.keys() == {"key1", "young", "late"}
        assert twin.namespace.registry.records[owner.instance].slices == owner.slices
        twin.compare()
        twin.check_sums()
        run(twin, owner, *(Entry(Kind.PUT, key, 0) for key in owner.slices))
        return spent

    work(1)  # loads the scripts
    assert work(3000) == work(1000)


def test_i10_a_clear_that_was_lost_costs_the_same_however_many_moves_there_were(
    twin: Twin,
) -> None:
    def work(count: int) -> int:
        twin.wipe()
        mover, other = session_of("mover"), session_of("other")
        run(twin, other)
        fill(twin, mover, Kind.MOVE, names(count))
        other.own.cleared = twin.now  # the store knows of none
        twin.now += SECOND
        lost = twin.namespace.registry.records["other"]
        other.begin([])
        request = other.request()
        assert isinstance(request, Apply)
        other.receive(twin.execute(request._replace(seq=lost.seq + 2, before=lost.seq + 1)))
        before = work_of(twin)
        request_ = other.request()
        assert isinstance(request_, Resume)
        other.receive(twin.execute(request_))
        spent = work_of(twin) - before
        assert twin.namespace.registry.epochs.cleared == other.cleared
        twin.compare()
        return spent

    work(1)  # loads the scripts
    assert work(4000) == work(2000)  # more than one answer tells, in either case


def test_i10_little_is_left_of_who_has_left(twin: Twin) -> None:
    keys = names(1000)
    leaver = session_of("leaver")
    fill(twin, leaver, Kind.ADD, keys)
    leaver.begin([Entry(Kind.PUT, key, 0) for key in keys], leave=True)
    request = leaver.request()
    assert request is not None
    first = twin.execute(request)
    assert isinstance(first, Applied)
    assert first.results == tuple(Previous(1, 1) for _ in keys)
    again = twin.execute(request)
    assert again == Applied(first.at, ())
    left = twin.lua.client.hgetall(twin.lua.hash_of("leaver"))
    assert sum(len(field) + len(value) for field, value in left.items()) < 400
    leaver.receive(again)
    assert leaver.phase is Phase.LEFT
    twin.compare()


def test_a_step_of_1000_moves_is_never_torn(twin: Twin) -> None:
    keys = names(1500)
    mover, other = session_of("mover"), session_of("other")
    fill(twin, other, Kind.ADD, keys)
    run(twin, mover, *(Entry(Kind.MOVE, key, 0) for key in keys[:500]))
    twin.now += 1000
    run(twin, mover, *(Entry(Kind.MOVE, key, 0) for key in keys[500:]))
    assert run(twin, other).backlog
    assert other.slices.keys() == set(keys[500:])
    assert not run(twin, other).backlog
    assert other.slices == {}
    twin.compare()


def test_a_large_instance_is_inherited_in_pages(twin: Twin) -> None:
    fill(twin, session_of("i"), Kind.ADD, names(8500), 3)
    heir = Session("i", "other nonce", PERIODS, inherit=True)
    while (request := heir.request()) is not None:
        # Not compared: the pages are cut differently.
        heir.receive(twin.lua.execute(request, twin.now))
    assert {key: piece.value for key, piece in heir.slices.items()} == dict.fromkeys(names(8500), 3)


@pytest.mark.parametrize("returns", [False, True])
@pytest.mark.parametrize("pieces", [0, 1])
def test_leftovers_are_not_inherited(twin: Twin, returns: bool, pieces: int) -> None:
    """Whoever was throwing them away was replaced before all of them were gone."""
    session = session_of("i")
    fill(twin, session, Kind.ADD, names(4 * MAX_PURGE))
    if returns:
        twin.execute(Forget("", "i"))
        session.begin([])
    else:
        session = Session("i", "newcomer", PERIODS)
    while session.phase is not Phase.RESUME:
        session.receive(twin.execute(request_of(session)))
    for _ in range(pieces):
        session.receive(twin.execute(request_of(session)))
    heir = Session("i", "heir", PERIODS, inherit=True)
    run(twin, heir, add("mine"))
    assert twin.namespace.registry.sums == {"mine": 1}
    twin.compare()
    settle(twin, Session("i", "second heir", PERIODS, inherit=True))
    assert twin.namespace.registry.sums == {"mine": 1}
    twin.compare()


def request_of(session: Session) -> Request:
    """Return what a session has to send."""
    request = session.request()
    assert request is not None
    return request


def test_clear_with_many_keys(twin: Twin) -> None:
    session, other = session_of("i"), session_of("other")
    fill(twin, session, Kind.ADD, names(3000))
    fill(twin, other, Kind.ADD, names(3000))
    run(twin, session, add("before"), Entry(Kind.CLEAR, "", 0), add("after", 7))
    twin.compare()
    run(twin, other, add("key1"))
    assert set(other.slices) == {"key1"}
    twin.compare()
    twin.check_sums()


def test_many_die_at_once_but_few_in_one_step(twin: Twin) -> None:
    for number in range(11):
        run(twin, session_of(f"i{number}"), add("a"))
    twin.now += SECOND
    last = session_of("last")
    run(twin, last, add("a"))
    for _ in range(2):  # it is awake all the time
        twin.now += SECOND
        run(twin, last)
    for left in (8, 4, 1):
        assert run(twin, last, add("a", 0), budget=100).results[0] == Previous(left, 1)
        twin.compare()
    assert not run(twin, last, budget=100).backlog
    twin.compare()


def test_a_body_does_not_wait_behind_those_that_do_not_fit(twin: Twin) -> None:
    for number in range(20):
        run(twin, session_of(f"i{number:02}"), add("a", -1))
    run(twin, session_of("z"), add("b", 5))
    twin.now += SECOND
    last, other = session_of("last"), session_of("other")
    run(twin, last, add("a", 2**63 - 1))
    run(twin, other, add("a", 20))
    for _ in range(2):  # they are awake all the time
        twin.now += SECOND
        run(twin, last)
        run(twin, other)
    for _ in range(10):
        reply = run(twin, last, budget=100)
        twin.compare()
    assert reply.stuck == 16
    assert not reply.backlog
    assert twin.lua.dump()["sums"] == {"a": 2**63 - 1}
    run(twin, last, add("a", -100), budget=100)
    for _ in range(2):  # 16 bodies in each step
        run(twin, last, budget=100)
    assert twin.lua.dump()["sums"] == {"a": 2**63 - 1 - 80}
    twin.compare()


def test_leftovers_that_do_not_fit_become_a_body_of_their_own(twin: Twin) -> None:
    early, other = session_of("i"), session_of("other")
    run(twin, early, add("a", -1), add("b", 1))
    run(twin, other, add("a", 2**63 - 1))
    run(twin, session_of("third"), add("a", 1))
    late = Session("i", "other nonce", PERIODS)
    run(twin, late, add("b", 5))
    twin.compare()
    (orphan,) = twin.lua.dump()["reap_queue"]
    assert orphan.startswith("i:")
    assert twin.lua.dump()["known"].keys() == {orphan, "i", "other", "third"}
    assert run(twin, other, add("a", 0), budget=100).stuck == 1
    assert run(twin, other, budget=100).stuck == 1
    run(twin, other, add("a", -50))
    run(twin, other, budget=100)
    assert twin.lua.dump()["reap_queue"] == []
    assert twin.lua.dump()["sums"] == {"a": 2**63 - 50, "b": 5}
    twin.compare()


class Half:
    """One of the two in which a twin keeps its namespace."""

    def __init__(self, twin: Twin, kind: str) -> None:
        self._twin, self._kind = twin, kind

    def execute(self, request: Request) -> Reply:
        if self._kind == "lua":
            return self._twin.lua.execute(request, self._twin.now)
        return self._twin.namespace.execute(request, self._twin.now)

    def sums(self) -> dict[str, int]:
        if self._kind == "lua":
            return dict(self._twin.lua.dump()["sums"])
        return dict(self._twin.namespace.registry.sums)

    def state_of(self, instance: str) -> tuple[int, int]:
        """Return what is asked in a first piece: the incarnation, and when this was born."""
        reply = self.execute(Peek(instance))
        assert isinstance(reply, Peeked)
        return reply.incarnation, reply.born


def with_old_moves(twin: Twin, kind: str) -> tuple[Half, int]:
    """Leave a dead instance with void slices alone, whose moves are old enough to be forgotten.

    Returns the stamp of the last of these moves, too.
    """
    half, keys = Half(twin, kind), names(3 * MAX_PURGE)
    dead, mover = session_of("i"), session_of("mover")
    for start in range(0, len(keys), MAX_PURGE):
        run(half, dead, *(add(key) for key in keys[start : start + MAX_PURGE]))
    keys.reverse()
    for start in range(0, len(keys), MAX_PURGE):
        run(half, mover, *(Entry(Kind.MOVE, key, 0) for key in keys[start : start + MAX_PURGE]))
    moved = run(half, mover, leave=True).at
    twin.now += PERIODS.retention + SECOND
    return half, moved


@pytest.mark.parametrize("kind", ["lua", "python"])
def test_no_move_is_forgotten_before_a_newcomer_has_removed_all(twin: Twin, kind: str) -> None:
    """It removes its predecessor's slices in several steps, and each forgets old moves."""
    half, _ = with_old_moves(twin, kind)
    run(half, Session("i", "another nonce", PERIODS, inherit=False), add("mine"))
    assert half.sums() == {"mine": 1}


@pytest.mark.parametrize("kind", ["lua", "python"])
@pytest.mark.parametrize("newer", [0, 1])
def test_no_move_is_forgotten_before_who_returns_has_removed_all(
    twin: Twin, kind: str, newer: int
) -> None:
    """The store has an old copy of it, from before it heard of these moves."""
    half, moved = with_old_moves(twin, kind)
    incarnation, born = half.state_of("i")
    for seq in range(99, 120):
        reply = half.execute(
            Resume("i", incarnation + newer, seq, moved, PERIODS, born, first=True)
        )
        assert isinstance(reply, Applied)
        if not reply.again:
            break
    assert half.sums() == {}


def test_a_late_move_that_pushes_a_sum_out_of_int64_buries_an_owner(twin: Twin) -> None:
    stale, big, small = session_of("stale"), session_of("big"), session_of("small")
    run(twin, stale, add("a", -10), add("b", -10))
    twin.now += SECOND
    run(twin, big, add("a", 2**63 - 1), add("b", 2**63 - 1))
    run(twin, small, add("a", 5), add("b", 5), add("c", 1))
    born, epoch = twin.namespace.born, twin.now - 1
    mover = Resume("mover", twin.now, 1, 0, PERIODS, born, True, 0, [("a", epoch), ("b", epoch)])
    twin.execute(mover)
    twin.compare()
    twin.check_sums()
    assert twin.lua.dump()["reap_queue"] == ["small"]
    run(twin, small, add("c"))  # it comes back, and keeps to itself what does not fit
    assert small.withheld
    twin.compare()
    # A piece that is not the first, of an instance with slices of its own.
    run(twin, big, add("d", 1))
    piece = Resume(
        "big", big.incarnation, big.seq + 1, 0, PERIODS, born, False, 0, [("d", twin.now + 9)]
    )
    twin.execute(piece)
    claim = Entry(Kind.CLAIM, "d", 3, 3, stamp=twin.now + 9)
    moves = [("d", twin.now + 10)]
    twin.execute(
        Resume("big", big.incarnation, big.seq + 2, 0, PERIODS, born, False, 0, moves, [claim])
    )
    twin.compare()
    twin.check_sums()


def test_stamps_of_the_future_are_never_given_out_again(twin: Twin) -> None:
    session = session_of("i")
    run(twin, session, add("a", 1))
    born, future = twin.namespace.born, twin.now + 10 * SECOND
    twin.execute(Resume("late", twin.now, 1, 0, PERIODS, born, True, future))
    twin.compare()
    twin.execute(Resume("late", twin.now, 2, 0, PERIODS, born, False, future, [("a", future + 5)]))
    twin.compare()
    run(twin, session)  # it must return first
    run(twin, session, add("a", 2))
    assert session.slices["a"].stamp > future + 5
    twin.compare()
    twin.check_sums()


# ------------------------------------------------------------------------- int64's limits

TOP, BOTTOM = 2**63 - 1, -(2**63)


@pytest.mark.parametrize("others", [0, 1, -1, TOP, BOTTOM, 2**62, -(2**62)])
def test_replacing_a_slice_is_judged_by_the_final_sum(client: redis.Redis, others: int) -> None:
    for old, new in product([0, 1, -1, TOP, BOTTOM], repeat=2):
        twin = Twin(client, unique_prefix())
        session, other = session_of("i"), session_of("other")
        # Bring both in by way of sums that fit.
        run(twin, other, add("a", others))
        run(twin, session, add("a", old))
        own = session.slices["a"].value if "a" in session.slices else 0
        (result,) = run(twin, session, Entry(Kind.PUT, "a", new)).results
        fits = BOTTOM <= others + new <= TOP
        assert (old, new, result is Rejection.REFUSED) == (old, new, not fits)
        kept = new if fits else own
        assert (old, new, twin.lua.dump()["sums"].get("a", 0)) == (old, new, others + kept)
        twin.compare()
        twin.wipe()


# --------------------------------------------------------------------------- what it costs


def calls(client: redis.Redis) -> dict[str, int]:
    stats: dict[str, Any] = client.info("commandstats")
    return {name.removeprefix("cmdstat_"): stat["calls"] for name, stat in stats.items()}


def test_a_lone_inc_costs_five_calls(own_client: redis.Redis) -> None:
    store = LuaStore(own_client, unique_prefix())
    session = session_of("i")
    run(store, session, add("a"), budget=20)
    before = calls(own_client)
    run(store, session, add("a"), budget=20)
    after = calls(own_client)
    used = {name: after[name] - before.get(name, 0) for name in after}
    used = {name: count for name, count in used.items() if count and name != "info"}
    assert used == {"evalsha": 1, "time": 1, "hmget": 2, "hincrby": 1, "hset": 1}


def now_of(client: redis.Redis) -> int:
    seconds, microseconds = client.time()
    return int(seconds) * SECOND + int(microseconds)


def beat_when_due(store: LuaStore, session: Session) -> Applied:
    """Send a heartbeat once the last sign of life is no longer recent."""
    recent = PERIODS.threshold // RECENT_PART
    until = now_of(store.client) + recent
    while now_of(store.client) <= until:
        time.sleep(recent / SECOND / 10)
    return run(store, session, budget=20)


def test_a_heartbeat_costs_six_calls(own_client: redis.Redis) -> None:
    store = LuaStore(own_client, unique_prefix())
    session = session_of("i")
    run(store, session, budget=20)
    before = calls(own_client)
    beat_when_due(store, session)
    after = calls(own_client)
    used = {name: after[name] - before.get(name, 0) for name in after}
    used = {name: count for name, count in used.items() if count and name not in ("info", "time")}
    assert used == {"evalsha": 1, "hmget": 2, "hset": 2, "zadd": 1}  # and TIME, as the test asks


def test_a_heartbeat_goes_by_the_clock_of_the_server(store: LuaStore) -> None:
    session = session_of("i")
    run(store, session, budget=20)
    for _ in range(2):  # one of them travels with others
        before = now_of(store.client)
        beat_when_due(store, session)
        heard = store.client.hget(store.hash_of("i"), ":beat")
        assert before < int(heard) < now_of(store.client)


def test_hashes_are_hash_tables_from_the_start(store: LuaStore) -> None:
    run(store, session_of("i"), add("a"))
    for key in (store.base + b"n", store.hash_of("i")):
        assert store.client.object("encoding", key) == b"hashtable"
    run(store, session_of("j"), Entry(Kind.CLEAR, "", 0), add("a"))
    for key in (store.base + b"n", store.hash_of("j")):
        assert store.client.object("encoding", key) == b"hashtable"


def test_an_instance_that_left_is_forgotten(store: LuaStore) -> None:
    periods = Periods(3 * SECOND, SECOND, retention=SECOND // 5)
    session = session_of("i", periods)
    run(store, session, *map(add, names(100)))
    run(store, session, *(Entry(Kind.PUT, key, 0) for key in names(100)))
    run(store, session, leave=True)
    assert session.phase is Phase.LEFT
    assert sorted(store.names_in_use()) == [store.hash_of("i"), store.base + b"n"]
    assert 0 < store.client.pttl(store.hash_of("i")) <= 200
    assert 0 < store.client.pttl(store.base + b"n") <= 200  # nobody is left
    time.sleep(0.3)
    assert store.names_in_use() == []


def test_the_last_who_leaves_takes_along_who_is_overdue(twin: Twin) -> None:
    """Nobody comes later who would find that one, so the namespace would stay for ever."""
    last = session_of("last")
    for session in (last, session_of("dead")):
        run(twin, session, add("a"))
    for _ in range(3):
        twin.now += SECOND
        run(twin, last)
    twin.now += 1
    assert run(twin, last, Entry(Kind.PUT, "a", 0), leave=True, budget=1).results == (
        Previous(1, 1),
    )
    assert twin.lua.expiring() == [twin.lua.base + b"n"]
    twin.compare()


def test_a_revived_record_does_not_expire(store: LuaStore) -> None:
    periods = Periods(SECOND // 10, SECOND // 30, retention=SECOND // 2)
    early, late = session_of("early", periods), session_of("late")
    run(store, late)
    run(store, early)
    for _ in range(2):  # it has a fresh threshold after the first pause, in which nobody was heard
        time.sleep(0.15)
        run(store, late, budget=10)
    assert store.client.pttl(store.hash_of("early")) > 0
    run(store, early, add("a", 3))  # by way of a resume
    assert store.client.pttl(store.hash_of("early")) == -1
    assert store.dump()["deadlines"].keys() == {"early", "late"}


def test_i10_a_namespace_that_nobody_joins_goes_by_itself(store: LuaStore) -> None:
    """Whoever came may have died, or may lack the rights, before it was registered."""
    session = session_of("i")
    run(store, session, add("a"))
    store.wipe()
    late = Apply("i", session.incarnation, session.seq + 1, session.known, PERIODS, [add("a")])
    for request in (Peek("i"), late, Load("i", session.incarnation, 1, "")):
        store.execute(request)
        assert store.names_in_use() == [store.base + b"n"]
        assert 0 < store.client.pttl(store.base + b"n") <= 3600_000
        store.wipe()
    store.execute(Peek("i"))
    run(store, session, add("a"))
    assert store.client.pttl(store.base + b"n") == -1


# ------------------------------------------------------------------ refused, and nothing done


def situations(store: LuaStore, *, informed: bool = False) -> dict[str, Request]:
    """Fill a store, and return requests of every kind that it would execute.

    ``informed``: of one who knows all moves; else some of its slices are void.
    """
    early = START
    mover, dead, session = session_of("mover"), session_of("dead"), session_of("i")

    def exchange(who: Session, *entries: Entry) -> None:
        while (request := who.request()) is not None:
            who.receive(store.execute(request, early))
        who.begin(entries)
        while (request := who.request()) is not None:
            who.receive(store.execute(request, early))

    exchange(session, add("a", 5), add("b", -2))
    exchange(dead, add("a", 7), add("dead", 1))
    exchange(mover, Entry(Kind.MOVE, "b", 1), add("a", 1))
    for _ in range(2 if informed else 0):  # hears of the move, and says so
        exchange(session)
    inc, seq, born = session.incarnation, session.seq + 1, session._takeover.born

    known = session.known if informed else 0

    def apply(*entries: Entry, **options: Any) -> Apply:
        return Apply("i", inc, seq, known, PERIODS, entries, **options)

    def claim(key: str, value: int, stamp: int) -> Entry:
        return Entry(Kind.CLAIM, key, value, value, stamp=stamp)

    return {
        "beat": apply(),
        "inc": apply(Entry(Kind.ADD, "a", 1, 6)),
        "new": apply(Entry(Kind.ADD, "new", 1, 1)),
        "get": apply(add("a", 0)),
        "put": apply(Entry(Kind.PUT, "a", 1)),
        "remove": apply(Entry(Kind.PUT, "a", 0)),
        "set": apply(Entry(Kind.MOVE, "a", 1)),
        "delete": apply(Entry(Kind.MOVE, "a", 0)),
        "clear": apply(Entry(Kind.CLEAR, "", 0)),
        "leave": apply(leave=True),
        "forget": apply(Entry(Kind.FORGET, "dead", 0)),
        "reap": apply(budget=100),
        "resume": Resume(
            "i", inc, seq, 0, PERIODS, born, True, 0, [("c", START)], [claim("a", 1, START)]
        ),
        "late clear": Resume("i", inc, seq, 0, PERIODS, born, True, START * 2),
        "take over": Open("i", "other", inc, born, True, PERIODS),
        "start afresh": Open("i", "other", inc, born, False, PERIODS),
        "newcomer": Open("new", "nonce", 0, born, True, PERIODS),
        "first": Peek("new"),
    }


KINDS = [
    "beat",
    "inc",
    "new",
    "get",
    "put",
    "remove",
    "set",
    "delete",
    "clear",
    "leave",
    "forget",
    "reap",
    "resume",
    "late clear",
    "take over",
    "start afresh",
    "newcomer",
    "first",
]
LATER = START + 2 * SECOND + SECOND // 2


def everything(client: redis.Redis) -> dict[bytes, Any]:
    """What is stored; a hash may be dumped in another order once it has been read."""
    read = {
        b"hash": client.hgetall,
        b"zset": lambda key: client.zrange(key, 0, -1, withscores=True),
    }
    return {key: read[client.type(key)](key) for key in client.scan_iter()}


@pytest.mark.parametrize("kind", KINDS)
def test_out_of_memory_nothing_is_changed(own_client: redis.Redis, kind: str) -> None:
    for recent, informed in ((False, False), (True, False), (True, True)):
        store = LuaStore(own_client, unique_prefix())
        out_of_memory(store, kind, recent=recent, informed=informed)


def out_of_memory(store: LuaStore, kind: str, *, recent: bool, informed: bool) -> None:
    client, request = store.client, situations(store, informed=informed)[kind]
    # Reaping has something to do; or else the last sign of life is recent.
    now = START + (1000 if recent else PERIODS.threshold + 1)
    client.hset(store.base + b"n", ":last", now - 1)
    before = everything(client)
    client.config_set("maxmemory", 1)
    try:
        with pytest.raises(redis.exceptions.RedisError, match=r"OOM|memory"):
            store.execute(request, now)
    finally:
        client.config_set("maxmemory", 0)
    assert everything(client) == before
    assert isinstance(store.execute(request, now), (Applied, Opened, Peeked))
    assert (everything(client) == before) == isinstance(request, Peek)


def test_on_a_replica_nothing_is_changed(own_redis: RedisServer) -> None:
    with RedisServer(replica_of=own_redis) as replica:
        with connect(own_redis.url) as client:
            requests = situations(LuaStore(client, "p"))
        replica.wait_in_sync()
        with connect(replica.url) as client:
            store = LuaStore(client, "p")
            before = everything(client)
            for request in requests.values():
                with pytest.raises(redis.exceptions.RedisError, match=r"READONLY|read.only"):
                    store.execute(request, LATER)
            assert everything(client) == before


@pytest.mark.parametrize("command", _OF_SCRIPTS)
def test_without_a_right_an_onlooker_forgets_nobody(
    own_redis: RedisServer, own_client: redis.Redis, command: str
) -> None:
    """It may be the first of this user's requests, and must not stop half-way."""
    prefix, dead = unique_prefix(), session_of("dead")
    store = LuaStore(own_client, prefix)
    run(store, session_of("other"), add("a", 3))
    run(store, dead, *(add(f"{number}") for number in range(MAX_PURGE + 5)), add("a", 7))
    store.execute(Forget("", "dead"))  # some slices are left, and wait to be reaped
    before = everything(own_client)
    own_redis.command("ACL", "SETUSER", "u", "reset", "on", ">pw", "~*", "+@all", f"-{command}")
    url = own_redis.url.replace("redis://", "redis://u:pw@")
    refused = pytest.raises(redis.exceptions.RedisError, match=r"NOPERM|ACL|can't run")
    with connect(url) as client, refused:
        LuaStore(client, prefix).execute(Forget("", "dead"))
    assert everything(own_client) == before


# ------------------------------------------------------------------------------ odd names


PREFIXES = ["a", "}", "a}b", "a}c", "{a}", "{", "}}", "ü}", "p.", "a b\n"]


@pytest.mark.parametrize("prefix", PREFIXES)
def test_all_names_of_a_prefix_share_a_slot(prefix: str) -> None:
    keys = [*KeyNames(prefix).keys("i"), *KeyNames(prefix).keys("}{:x")]
    assert len({key_slot(key) for key in keys}) == 1


def test_no_two_prefixes_share_a_name(client: redis.Redis) -> None:
    sessions = {prefix: session_of("i") for prefix in PREFIXES}
    stores = {prefix: LuaStore(client, prefix) for prefix in PREFIXES}
    for value, (prefix, session) in enumerate(sessions.items(), 1):
        run(stores[prefix], session, add("k", value))
    for value, store in enumerate(stores.values(), 1):
        assert store.dump()["sums"] == {"k": value}
    for store in stores.values():
        store.wipe()


@pytest.mark.parametrize("prefix", ["plain", "a}b"])
def test_scripts_run_in_a_cluster(prefix: str) -> None:
    with (
        RedisServer(config={"cluster-enabled": "yes"}) as server,
        connect(server.url) as client,
    ):
        client.execute_command("CLUSTER ADDSLOTS", *range(16384))
        deadline = time.monotonic() + 5
        while client.execute_command("CLUSTER INFO")["cluster_state"] != "ok":
            assert time.monotonic() < deadline
            time.sleep(0.02)
        for seed in range(3):
            history = History(Twin(client, prefix), seed, budgets=[0, 1000])
            for _ in range(100):
                history.step()
            history.twin.compare()
            history.twin.wipe()
