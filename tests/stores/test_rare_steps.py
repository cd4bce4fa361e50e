"""Lua against Python where random histories hardly ever go."""

from __future__ import annotations

from itertools import product

import pytest
import redis

from distkit_actors._instance._session import Phase, Session
from distkit_actors._namespace._namespace import Namespace
from distkit_actors._namespace._observed_time import RECENT_PART, longest_silence
from distkit_actors._namespace._reaper import QUEUED_PER_STEP
from distkit_actors._protocol._conditions import Eq, Ge, Gt, Le, Lt, Ne
from distkit_actors._protocol._messages import (
    JUST_COME,
    MAX_PURGE,
    Applied,
    Apply,
    Conflict,
    Entry,
    Forget,
    Forgotten,
    Kind,
    Load,
    Mismatch,
    Open,
    Opened,
    Peek,
    Peeked,
    Periods,
    Previous,
    Query,
    QueryKind,
    QueryPage,
    Rejection,
    Request,
    Result,
    Resume,
    Watch,
)
from tests.stores.test_redis_limits import PERIODS, SECOND, add, run, session_of
from tests.stores.twin import START, Twin

TOP, BOTTOM = 2**63 - 1, -(2**63)
#: From here on instants are not compared as strings (`FAR` in space.lua).
FAR = 9 * 10**15


def resume(
    twin: Twin, instance: str, moves: list[tuple[str, int]], *claims: Entry, cleared: int = 0
) -> Applied:
    """Send one piece that is not the first, of an instance that the store knows."""
    record = twin.namespace.registry.records[instance]
    request = Resume(
        instance,
        record.incarnation,
        record.seq + 1,
        record.known,
        PERIODS,
        twin.namespace.born,
        False,
        cleared,
        moves,
        claims,
    )
    reply = twin.execute(request)
    twin.compare()
    assert isinstance(reply, Applied)
    return reply


def start_again(twin: Twin, instance: str) -> Applied:
    """Send the first piece of a resume, of an instance that has lost nothing but says so."""
    record = twin.namespace.registry.records[instance]
    born, seq = twin.namespace.born, record.seq + 1
    reply = twin.execute(Resume(instance, record.incarnation, seq, 0, PERIODS, born, True))
    assert isinstance(reply, Applied)
    return reply


def test_a_sum_that_is_no_number_ends_the_step(twin: Twin) -> None:
    session = session_of("i")
    run(twin, session, add("b"))
    store = twin.lua
    for word, entry in {
        "fast": Entry(Kind.ADD, "a", 1, 1),
        "slow": Entry(Kind.PUT, "a", 1),
    }.items():
        store.client.hset(store.base + b"n", "a", word)
        before = store.client.hgetall(store.base + b"n"), store.client.hgetall(store.hash_of("i"))
        request = Apply("i", session.incarnation, session.seq + 1, session.known, PERIODS, [entry])
        with pytest.raises(redis.exceptions.ResponseError, match="not an integer"):
            store.execute(request, twin.now)
        after = store.client.hgetall(store.base + b"n"), store.client.hgetall(store.hash_of("i"))
        assert after == before


def test_the_clock_may_have_any_number_of_digits(twin: Twin) -> None:
    """Instants are compared as strings only where that is like comparing them."""
    session, mover = session_of("i"), session_of("mover")
    for instant in (5 * SECOND, 10**15 - 1000, START, FAR - 1000, FAR + SECOND):
        twin.now = max(twin.now, instant) if instant > START else instant
        run(twin, session, add("old"))
        for value in (1, 2, 0, -3, 1, 4):
            twin.now += 300
            run(twin, session, add("a", value), budget=20)
            run(twin, session, add("old", value), budget=20)
            twin.compare()
        run(twin, mover, Entry(Kind.MOVE, "moved", 1))
        run(twin, session, add("a"))
        twin.compare()


def test_a_heartbeat_ends_a_silence_that_is_too_long_for_others_only(twin: Twin) -> None:
    """Who came first may pause for longer than others. To these its pause is a blackout."""
    first = session_of("first")
    other = session_of("other", Periods(2 * SECOND, 9 * SECOND // 10, PERIODS.retention))
    run(twin, first, add("a"), budget=20)
    run(twin, other, add("a"), budget=20)
    twin.now += longest_silence(PERIODS.threshold, PERIODS.interval)
    run(twin, first, budget=20)
    twin.compare()
    both = twin.namespace.registry.observed.by_periods.values()
    assert [bool(blackouts.ended) for blackouts in both] == [False, True]


def test_a_heartbeat_with_other_periods_than_the_recorded_ones_changes_none(twin: Twin) -> None:
    session = session_of("i")
    run(twin, session, add("a"), budget=20)
    other = Periods(2 * PERIODS.threshold, 2 * PERIODS.interval, PERIODS.retention)
    for seq in range(session.seq + 1, session.seq + 3):  # by itself, and together with others
        twin.now += SECOND
        twin.execute(Apply("i", session.incarnation, seq, session.known, other, (), budget=20))
        twin.compare()


def test_a_sign_of_life_is_written_down_as_soon_as_the_last_is_not_recent(twin: Twin) -> None:
    session, recent = session_of("i"), PERIODS.threshold // RECENT_PART
    run(twin, session, add("a"), budget=20)
    for jump in (0, 1000):
        twin.now -= jump
        run(twin, session, add("a"), budget=20)
        registry = twin.namespace.registry
        heard, shift = registry.records["i"].heard.at, registry.observed.shift
        for silence in (1, recent - 1):
            twin.now = heard - shift + silence
            run(twin, session, add("a"), budget=20)
            twin.compare()
            assert registry.records["i"].heard.at == heard
        twin.now += 1
        run(twin, session, add("a"), budget=20)
        twin.compare()
        assert registry.records["i"].heard.at == heard + recent


def test_a_lease_may_last_for_ever(twin: Twin) -> None:
    session = session_of("i")
    run(twin, session, add("a"))
    twin.execute(Watch("i", FAR))
    for value in (1, 0, 1):
        run(twin, session, add("a", value), budget=20)
        twin.compare()


def test_who_had_its_fresh_threshold_is_seen_dead_only_if_somebody_watched(twin: Twin) -> None:
    patient = Periods(9 * SECOND, 3 * SECOND, PERIODS.retention)
    silent, asker = session_of("silent"), session_of("asker", patient)
    run(twin, silent, add("a"))
    run(twin, asker)
    twin.now += 2 * SECOND  # a blackout for such as the silent one, but the other one was there
    run(twin, asker, budget=10)
    twin.now += SECOND + SECOND // 5
    run(twin, asker, budget=10)
    assert twin.namespace.registry.records["silent"].heard.graced

    def is_alive_after(pause: int) -> bool:
        twin.now += pause
        reply = twin.execute(Query("asker", QueryKind.INSTANCES))
        twin.now -= pause
        assert isinstance(reply, QueryPage)
        return {name: alive for name, _, alive in reply.rows}["silent"]

    assert is_alive_after(SECOND)
    assert not is_alive_after(2 * SECOND)
    assert is_alive_after(5 * SECOND)  # nobody was there for too long
    twin.now += SECOND + SECOND // 10
    run(twin, asker, budget=10)
    assert is_alive_after(SECOND // 2)
    assert not is_alive_after(5 * SECOND)  # one interval of it counts
    twin.compare()


def test_who_would_get_a_fresh_threshold_is_seen_alive(twin: Twin) -> None:
    silent, asker = session_of("silent"), session_of("asker")
    run(twin, silent, add("a"))
    run(twin, asker)
    for _ in range(2):
        twin.now += SECOND
        run(twin, asker, budget=10)
    twin.now += 3 * SECOND  # nobody is heard
    reply = twin.execute(Query("asker", QueryKind.INSTANCES))
    assert isinstance(reply, QueryPage)
    assert {name: alive for name, _, alive in reply.rows}["silent"]


def test_a_clock_that_was_put_back_makes_nobody_younger_than_now(twin: Twin) -> None:
    run(twin, session_of("i"))
    twin.now -= 5
    reply = twin.execute(Query("i", QueryKind.INSTANCES))
    assert isinstance(reply, QueryPage)
    assert reply.rows == [("i", 0, True)]


def test_a_namespace_that_all_have_left_gets_a_time_to_live(twin: Twin) -> None:
    first, last = session_of("first"), session_of("last")
    run(twin, first, Entry(Kind.MOVE, "a", 1))
    run(twin, last)
    names = [twin.lua.base + suffix for suffix in (b"n", b"m")]

    def lives() -> list[bool]:
        return [twin.lua.client.pttl(name) > 0 for name in names]

    run(twin, first, Entry(Kind.PUT, "a", 0), leave=True)
    assert lives() == [False, False]
    left = twin.lua.client.pttl(twin.lua.hash_of("first"))
    assert 0 < left <= PERIODS.retention // 1000
    run(twin, last, leave=True)
    assert lives() == [True, True]
    assert twin.lua.client.pttl(names[0]) <= PERIODS.retention // 1000
    run(twin, session_of("next"))
    assert lives() == [False, False]
    twin.compare()


def test_a_namespace_of_which_the_last_is_forgotten_gets_a_time_to_live(twin: Twin) -> None:
    run(twin, session_of("i"), add("a"))
    assert twin.execute(Forget("", "i")) == Forgotten(0, 1)
    assert 0 < twin.lua.client.pttl(twin.lua.base + b"n") <= PERIODS.retention // 1000
    twin.compare()


def test_a_namespace_is_not_forgotten_before_the_clock_has_come_to_its_stamps(twin: Twin) -> None:
    """The clock was put back, and later fencing numbers have to be greater than the former ones."""
    back = 2 * PERIODS.retention
    for name, by in (("first", 0), ("second", -back)):
        twin.now += by
        session = session_of(name)
        run(twin, session, add("a"))
        run(twin, session, Entry(Kind.PUT, "a", 0), leave=True)
    left = twin.lua.client.pttl(twin.lua.base + b"n")
    assert left > (back + PERIODS.retention) // 1000 - 5000
    twin.compare()


def test_to_forget_somebody_unknown_leaves_a_namespace_its_time_to_live(twin: Twin) -> None:
    """Else it would stay for ever, and what it remembers of moves would not."""
    session = session_of("i")
    run(twin, session, Entry(Kind.MOVE, "a", 1))
    run(twin, session, Entry(Kind.PUT, "a", 0), leave=True)
    assert twin.execute(Forget("", "nobody")) == Forgotten(0, 0)
    for suffix in (b"n", b"m"):
        assert 0 < twin.lua.client.pttl(twin.lua.base + suffix) <= PERIODS.retention // 1000
    twin.execute(Peek("nobody"))
    assert 0 < twin.lua.client.pttl(twin.lua.base + b"n") <= PERIODS.retention // 1000
    twin.compare()


@pytest.mark.parametrize("name", [":", "n", ":pad", "i:", " ", "\x00", "\xfe"])
def test_who_tries_what_it_may_harms_nobody_whatever_the_name(twin: Twin, name: str) -> None:
    run(twin, session_of(name), add("a", 5))
    twin.execute(Peek("other"))
    twin.compare()
    twin.execute(Forget("", "other"))
    twin.compare()


def test_forgetting_where_nobody_is_makes_nothing(twin: Twin) -> None:
    assert twin.execute(Forget("", "i")) == Forgotten(0, 0)
    assert twin.lua.names_in_use() == []


def test_who_knows_of_no_namespace_opens_nothing(twin: Twin) -> None:
    """Also where there is none: who looks for one makes it."""
    unborn = Open("a", "nonce", 0, 0, False, PERIODS)
    assert twin.execute(unborn) == Conflict(0)
    twin.compare()
    run(twin, session_of("b"), add("k"))
    assert twin.execute(unborn) == Conflict(0)
    twin.compare()


def test_a_watch_keeps_a_namespace_no_shorter_than_who_is_in_it(twin: Twin) -> None:
    twin.execute(Watch("", SECOND))
    assert twin.lua.client.pttl(twin.lua.base + b"n") > SECOND // 1000
    run(twin, session_of("i"))
    twin.execute(Watch("", SECOND))
    assert twin.lua.client.pttl(twin.lua.base + b"n") == -1
    twin.compare()


def test_a_namespace_with_slices_of_the_departed_stays(twin: Twin) -> None:
    session = session_of("i")
    run(twin, session, add("a"))
    run(twin, session, leave=True)
    assert twin.lua.client.pttl(twin.lua.base + b"n") == -1
    twin.compare()


def test_a_late_clear_takes_the_reap_queue_too(twin: Twin) -> None:
    dead, caller, other = session_of("dead"), session_of("caller"), session_of("other")
    run(twin, dead, add("a", 5), leave=True)
    run(twin, caller, add("a", 2))
    run(twin, other, add("b", 3))
    assert list(twin.namespace.registry.reap_queue) == ["dead"]
    resume(twin, "caller", [], cleared=twin.now + 1)
    assert not twin.namespace.registry.reap_queue
    assert twin.lua.dump()["sums"] == {}


def test_a_late_clear_makes_no_body_that_a_server_has_evicted(twin: Twin) -> None:
    """One of the living, and one of the dead: the step goes on, and whoever looks later can."""
    dead, caller, other = session_of("dead"), session_of("caller"), session_of("other")
    run(twin, dead, add("a", 5), leave=True)
    run(twin, caller, add("a", 2))
    run(twin, other, add("b", 3))
    store = twin.lua
    store.client.delete(store.hash_of("dead"), store.hash_of("other"))
    record = twin.namespace.registry.records["caller"]
    born, seq, late = twin.namespace.born, record.seq + 1, twin.now + 1
    clear = Resume("caller", record.incarnation, seq, record.known, PERIODS, born, False, late)
    assert isinstance(store.execute(clear, twin.now), Applied)
    assert not store.client.exists(store.hash_of("dead"), store.hash_of("other"))
    everybody = store.execute(Query("", QueryKind.INSTANCES, ""), twin.now)
    assert isinstance(everybody, QueryPage)
    assert [name for name, *_ in everybody.rows] == ["caller"]


def test_a_late_move_leaves_what_is_younger_with_its_owner(twin: Twin) -> None:
    session, other = session_of("i"), session_of("other")
    run(twin, session, add("a", 5))
    run(twin, other, add("a", 2))
    stamp = session.slices["a"].stamp
    claim = Entry(Kind.CLAIM, "a", 1, 6, stamp=stamp)
    reply = resume(twin, "i", [("a", stamp)], claim)
    assert reply.results == (Previous(7, 5),)
    twin.check_sums()


def test_leftovers_go_in_pieces_and_those_that_do_not_fit_apart(twin: Twin) -> None:
    small, big, third = session_of("small"), session_of("big"), session_of("third")
    run(twin, small, add("a", -1), add("b", 4))
    run(twin, big, add("a", TOP))
    run(twin, third, add("a", 1))
    start_again(twin, "small")
    twin.compare()
    (orphan,) = twin.namespace.registry.reap_queue
    assert orphan == f"small:{twin.namespace.clock}"
    reply = twin.execute(Query("big", QueryKind.INSTANCES))
    assert isinstance(reply, QueryPage)
    assert {name for name, _, _ in reply.rows} == {"small", "big", "third"}
    run(twin, third, add("c"))
    assert third.slices["c"].stamp > int(orphan.partition(":")[2])
    twin.compare()


def test_a_budget_is_not_overdrawn(twin: Twin) -> None:
    heir = session_of("heir")
    run(twin, heir)
    for value in (1, 10**15):  # what is large is reaped on the long way
        for name, keys in (("one", "a"), ("two", "abc"), ("three", "abc")):
            entries = [add(key, value) for key in keys]
            run(twin, session_of(f"{name} with {value}"), *entries, leave=True)
        assert run(twin, heir, *(add(key, 0) for key in "abc"), budget=2).backlog
        assert sum(twin.lua.dump()["sums"].values()) == 5 * value
        assert run(twin, heir, add("b", 0), budget=3).backlog
        assert sum(twin.lua.dump()["sums"].values()) == 2 * value
        assert not run(twin, heir, budget=3).backlog
        twin.compare()


def test_who_leaves_first_is_reaped_first(twin: Twin) -> None:
    heir = session_of("heir")
    run(twin, heir)
    for name in ("z", "y", "x"):  # all in the same microsecond
        run(twin, session_of(name), add(name), leave=True)
    assert run(twin, heir, budget=1).backlog
    assert twin.lua.dump()["sums"] == {"x": 1, "y": 1}
    twin.compare()


def test_who_dies_while_others_wait_to_be_reaped_is_found(twin: Twin) -> None:
    heir = session_of("heir")
    run(twin, heir)
    run(twin, session_of("silent"), add("a", 5))
    for _ in range(4):
        twin.now += SECOND
        run(twin, heir, budget=0)
    run(twin, session_of("gone"), add("a", 7), leave=True)
    twin.now += 1
    assert run(twin, heir, add("a", 0), budget=9).results == (Previous(0, 0),)
    twin.compare()


@pytest.mark.parametrize("ahead", [-SECOND, 0, SECOND])
@pytest.mark.parametrize("back", [0, 5 * SECOND])
def test_after_the_last_body_is_known_when_somebody_may_die(
    twin: Twin, ahead: int, back: int
) -> None:
    """Also where instants are far away, and where the clock has jumped back."""
    twin.now, heir = FAR - PERIODS.threshold + ahead, session_of("heir")
    run(twin, heir)
    twin.now -= back
    for lease in (0, SECOND):
        run(twin, session_of(f"gone{lease}"), add("a", 7), leave=True)
        if lease:
            twin.execute(Watch("heir", lease))
        run(twin, heir, budget=0)
        twin.now += 1
        assert run(twin, heir, add("a", 0), budget=9).results == (Previous(0, 0),)
        twin.compare()
        left = twin.lua.client.pttl(twin.lua.hash_of(f"gone{lease}"))
        assert 0 < left <= PERIODS.retention // 1000


def test_more_may_wait_to_be_reaped_than_a_step_looks_at(twin: Twin) -> None:
    heir = session_of("heir")
    run(twin, heir)
    for number in range(QUEUED_PER_STEP + 1):
        run(twin, session_of(f"gone{number}"), add("a"), leave=True)
    assert run(twin, heir, budget=QUEUED_PER_STEP).backlog
    twin.compare()
    assert not run(twin, heir, budget=QUEUED_PER_STEP).backlog
    twin.compare()


def test_only_what_counts_leaves_its_sum(twin: Twin) -> None:
    for kind in (Kind.MOVE, Kind.CLEAR):
        heir, old, young = (session_of(f"{kind.value}{name}") for name in ("heir", "old", "young"))
        run(twin, heir)
        run(twin, old, add("a", 3), leave=True)
        if kind is Kind.MOVE:  # the slice is as old as its epoch
            run(twin, young, Entry(kind, "a", 5), budget=0)
        else:
            run(twin, heir, Entry(kind, "", 0), budget=0)
            run(twin, young, add("a", 5), budget=0)
        for _ in range(2):  # it hears of that, and says so
            run(twin, heir, budget=0)
        run(twin, young, leave=True)
        twin.now += 1
        assert run(twin, heir, add("a", 0), budget=9).results == (Previous(0, 0),)
        twin.compare()


def test_a_slice_counts_that_is_younger_than_a_late_move(twin: Twin) -> None:
    heir, gone = session_of("heir"), session_of("gone")
    run(twin, heir, add("a", 2))
    twin.now += SECOND
    run(twin, gone, add("a", 3))
    twin.now += SECOND
    resume(twin, "gone", [("a", twin.now - SECOND // 2 * 3)])
    for _ in range(2):  # it hears of that, and says so
        run(twin, heir, budget=0)
    record = twin.namespace.registry.records["gone"]
    last, incarnation = record.seq, record.incarnation
    leave = Apply("gone", incarnation, last + 1, record.known, PERIODS, [], True, before=last)
    assert isinstance(twin.execute(leave), Applied)
    twin.now += 1
    (found,) = run(twin, heir, add("a", 0), budget=9).results
    assert found == Previous(0, 0)
    twin.compare()


def test_a_body_that_a_late_move_has_emptied_goes_when_it_is_forgotten(twin: Twin) -> None:
    """Else it would stay for ever, and so would the namespace that everybody has left."""
    body, mover = session_of("body"), session_of("mover")
    run(twin, mover, budget=0)
    run(twin, body, add("a", 5), leave=True)
    run(twin, mover, budget=0)
    assert list(twin.namespace.registry.reap_queue) == ["body"]
    twin.now += SECOND
    resume(twin, "mover", [("a", twin.now)])
    assert not twin.namespace.registry.records["body"].slices
    for name in ("mover", "body"):
        assert twin.execute(Forget("", name)) == Forgotten(0, 0)
        twin.compare()
    assert not twin.namespace.registry.reap_queue
    assert twin.lua.client.pttl(twin.lua.base + b"n") > 0


def test_a_budget_for_one_of_two_in_the_keys_of_a_step(twin: Twin) -> None:
    heir = session_of("heir")
    run(twin, heir)
    for name in ("one", "two"):
        run(twin, session_of(name), add("a"), leave=True)
    assert run(twin, heir, add("a", 0), budget=1).results == (Previous(1, 0),)
    assert run(twin, heir, add("a", 0), budget=1).results == (Previous(0, 0),)
    twin.compare()


def test_what_is_reaped_leaves_a_sum_exactly(twin: Twin) -> None:
    """Of 16 digits and more, not every number is a double."""
    heir = session_of("heir")
    run(twin, heir)
    numbers = [sign * (10**digits - 1) for digits in (1, 14, 15, 16, 17, 18) for sign in (1, -1)]
    for index, (own, others) in enumerate(product(numbers, repeat=2)):
        run(twin, heir, Entry(Kind.PUT, "a", own))
        run(twin, session_of(f"gone{index}"), add("a", others), leave=True)
        assert run(twin, heir, add("a", 0), budget=9).results == (Previous(own, own),)
    twin.compare()


def test_a_budget_for_one_of_two_large_slices(twin: Twin) -> None:
    heir, large = session_of("heir"), 10**15
    run(twin, heir)
    for name in ("one", "two"):
        run(twin, session_of(name), add("a", large), leave=True)
    assert run(twin, heir, add("a", 0), budget=1).results == (Previous(large, 0),)
    assert run(twin, heir, add("a", 0), budget=1).results == (Previous(0, 0),)
    twin.compare()


def test_a_body_with_fields_of_a_later_version_retires(twin: Twin) -> None:
    heir, later = session_of("heir"), twin.lua.hash_of("later")
    run(twin, heir)
    run(twin, session_of("later"), add("a"), add("b"), leave=True)
    twin.lua.client.hset(later, mapping={":1": "x", ":2": "y"})
    run(twin, heir, budget=1)
    run(twin, heir, budget=9)  # of few fields that are picked at random, none might be a slice
    twin.lua.client.hdel(later, ":1", ":2")
    assert twin.lua.dump()["reap_queue"] == []
    twin.compare()


REPLACEMENTS = [(TOP, BOTTOM, 1), (TOP, -1, TOP), (1, BOTTOM, TOP), (BOTTOM, TOP, 1)]


@pytest.mark.parametrize(("others", "old", "new"), REPLACEMENTS)
def test_a_replacement_that_is_refused_leaves_the_sum(
    twin: Twin, others: int, old: int, new: int
) -> None:
    session, other = session_of("i"), session_of("other")
    run(twin, other, add("a", others))
    run(twin, session, add("a", old))
    (result,) = run(twin, session, Entry(Kind.PUT, "a", new)).results
    assert (result is Rejection.REFUSED) == (not BOTTOM <= others + new <= TOP)
    twin.compare()
    twin.check_sums()


def test_a_replacement_is_tried_in_both_orders(twin: Twin) -> None:
    """The others' slices alone would be out of int64."""
    for key, old, new in (("a", BOTTOM, -10), ("b", -10, -20), ("c", 10, 20)):
        session, other, third = (session_of(f"{name} of {key}") for name in ("i", "j", "k"))
        far = -1 if old > 0 else 1
        run(twin, other, add(key, TOP * far))
        run(twin, session, add(key, old))
        run(twin, third, add(key, 6 * far))
        (result,) = run(twin, session, Entry(Kind.PUT, key, new)).results
        assert isinstance(result, Previous)
    twin.compare()
    twin.check_sums()


def test_conditions_hold_for_numbers_of_any_length(twin: Twin) -> None:
    numbers = [BOTTOM, -100, -10, -9, -5, 0, 5, 9, 10, 100, TOP]
    session = session_of("i")
    for current in numbers:
        run(twin, session, Entry(Kind.PUT, "a", current))
        asked = [
            Entry(Kind.ADD, "a", 0, condition=kind(number))
            for number in numbers
            for kind in (Eq, Ne, Lt, Le, Gt, Ge)
        ]
        run(twin, session, *asked)
    run(twin, session, Entry(Kind.ADD, "a", -1, condition=Gt(TOP - 1), of_own=True))
    run(twin, session, Entry(Kind.ADD, "a", 1, condition=Ge(TOP), guarded=True))
    twin.compare()


def both_ways(twin: Twin, session: Session, entry: Entry) -> list[Result]:
    """Run an entry on the fast path, and beside one that forbids it."""
    slow = run(twin, session, entry, Entry(Kind.PUT, "other key", 1)).results[0]
    return [run(twin, session, entry).results[0], slow]


def test_a_slice_that_has_no_room_is_refused_though_the_sum_has(twin: Twin) -> None:
    session, other = session_of("i"), session_of("other")
    run(twin, session, add("a", TOP))
    run(twin, other, add("a", -10))
    assert both_ways(twin, session, add("a", 5)) == [Rejection.REFUSED] * 2
    twin.compare()


def test_a_folded_entry_is_split_from_a_certain_sum_on(twin: Twin) -> None:
    session, other = session_of("i"), session_of("other")
    folded = Entry(Kind.ADD, "a", 1, folded=True)
    for sign in (1, -1):
        run(twin, other, Entry(Kind.PUT, "a", sign * (10**18 - 1)))
        run(twin, session, Entry(Kind.PUT, "a", 0))
        run(twin, session, folded._replace(value=sign))
        assert both_ways(twin, session, folded) == [Rejection.SPLIT] * 2
        run(twin, session, Entry(Kind.PUT, "a", 0))
        run(twin, session, folded._replace(value=sign), Entry(Kind.PUT, "b", 1))
        twin.compare()


def test_a_batch_of_which_one_is_refused_is_undone(twin: Twin) -> None:
    session, other = session_of("i"), session_of("other")
    run(twin, session, add("a", 5), add("full", 1))
    run(twin, other, add("full", TOP - 1))
    clock = twin.namespace.clock
    entries = [add("a", 2), add("new", 3), Entry(Kind.PUT, "a", 9), add("full", 1)]
    reply = run(twin, session, *entries, atomic=True)
    assert reply.results == (Rejection.UNDONE,) * 3 + (Rejection.REFUSED,)
    assert twin.namespace.clock == clock
    twin.compare()
    twin.check_sums()


#: Own slice, those of others, and an addition for which there is no room.
NO_ROOM = {
    "by a large number": (0, 1, TOP),
    "to a large sum": (0, TOP - 1, 2),
    "to a large slice": (TOP, -TOP, 1),
}


@pytest.mark.parametrize(("own", "of_others", "more"), NO_ROOM.values(), ids=NO_ROOM)
def test_additions_of_which_one_is_refused_are_undone(
    twin: Twin, own: int, of_others: int, more: int
) -> None:
    session, other = session_of("i"), session_of("other")
    run(twin, other, add("full", of_others))
    run(twin, session, add("a", 5), add("full", own))
    run(twin, session, add("a", 0), add("full", 0), budget=20)  # so that the next is a quick one
    reply = run(twin, session, add("a", 2), add("new", 3), add("full", more), atomic=True)
    assert reply.results == (Rejection.UNDONE,) * 2 + (Rejection.REFUSED,)
    twin.compare()
    twin.check_sums()


def test_additions_are_undone_where_the_dead_had_made_room(twin: Twin) -> None:
    """Their slices go at the beginning of the step, and one of its additions does not fit then."""
    session, other, dead = session_of("i"), session_of("other"), session_of("dead")
    run(twin, other, add("full", TOP))
    run(twin, dead, add("full", -TOP))
    run(twin, session, add("a", 5), budget=20)
    while twin.namespace.registry.records["dead"].heard.at + PERIODS.threshold >= twin.now:
        twin.now += PERIODS.threshold // 4
        run(twin, other)
        run(twin, session)
    reply = run(twin, session, add("a", 2), add("full", 1), atomic=True, budget=20)
    assert reply.results == (Rejection.UNDONE, Rejection.REFUSED)
    twin.compare()
    twin.check_sums()


def test_a_clear_takes_the_moves_of_its_own_step(twin: Twin) -> None:
    session, other = session_of("i"), session_of("other")
    run(twin, other, add("a"))
    run(twin, session, Entry(Kind.MOVE, "a", 3), Entry(Kind.CLEAR, "", 0), add("b"))
    twin.compare()
    run(twin, other, add("a"))
    twin.compare()


def test_a_sign_of_life_is_written_down_from_a_64th_of_the_threshold_on(twin: Twin) -> None:
    session = session_of("i")
    run(twin, session, add("a"))
    beat = twin.namespace.registry.records["i"].heard.at
    for later, written in ((PERIODS.threshold // 64 - 1, False), (PERIODS.threshold // 64, True)):
        twin.now = beat + later
        run(twin, session, add("a"))
        assert (twin.namespace.registry.records["i"].heard.at > beat) is written
        twin.compare()


def test_the_dead_are_found_after_the_clock_was_put_back(twin: Twin) -> None:
    dead, awake = session_of("dead"), session_of("awake")
    run(twin, dead, add("a", 7))
    run(twin, awake)
    twin.now -= 100 * SECOND
    for _ in range(12):
        run(twin, awake, add("a"), budget=10)
        twin.now += PERIODS.threshold // 65
        run(twin, awake, add("a"), budget=10)
        twin.now += SECOND // 3
    assert "dead" in twin.namespace.registry.expiring
    twin.compare()


def test_times_are_compared_to_the_microsecond(twin: Twin) -> None:
    """At the longest silence that is no blackout, and at thresholds."""
    quick = Periods(SECOND // 10, SECOND // 30, PERIODS.retention)
    patient = Periods(9 * SECOND, 3 * SECOND, PERIODS.retention)
    everybody = (PERIODS, quick, patient)
    silences = [longest_silence(*periods[:2]) for periods in everybody]
    pauses = {*silences, *(p.threshold for p in everybody), *(p.threshold // 64 for p in everybody)}
    for pause in sorted(pauses):
        for near in (pause - 1, pause, pause + 1):
            twin.wipe()
            sessions = [session_of(f"i{nth}", periods) for nth, periods in enumerate(everybody)]
            for session in sessions:
                run(twin, session, add("a"))
            for session in sessions:
                twin.now += near
                for asker in sessions:
                    twin.execute(Query(asker.instance, QueryKind.INSTANCES))
                run(twin, session, budget=10)
                twin.compare()


def test_a_lease_ends_to_the_microsecond(twin: Twin) -> None:
    session = session_of("i")
    run(twin, session, add("a"))
    for late in (-1, 0):
        twin.execute(Watch("i", SECOND))
        twin.now += SECOND + late
        run(twin, session, Entry(Kind.CLEAR, "", 0))
        twin.compare()


def test_lateness_is_compared_to_the_microsecond(twin: Twin) -> None:
    """One is heard after just the silence that is too long for others."""
    patient = Periods(9 * SECOND, 3 * SECOND, PERIODS.retention)
    silence = longest_silence(*patient[:2])
    for near in (silence - 1, silence, silence + 1):
        twin.wipe()
        late, awake = session_of("late"), session_of("awake", patient)
        run(twin, late, add("a"))
        run(twin, awake)
        start = twin.now
        for pause in (silence // 3, silence // 3 * 2):
            twin.now = start + pause
            run(twin, awake)
        twin.now = start + near
        run(twin, late)
        twin.compare()


def losing_the_sums(twin: Twin, first: Request | None) -> None:
    """A server may evict a single key, and that one has the namespace's own fields, too."""
    a, b, left = session_of("a"), session_of("b"), session_of("left")
    run(twin, left, add("k", 4))
    run(twin, left, leave=True)
    run(twin, a, add("k", 3), add("own"))
    run(twin, b, add("k", 2), Entry(Kind.MOVE, "moved", 7))
    twin.lua.client.delete(twin.lua.base + b"n")
    twin.namespace = Namespace()
    if isinstance(first, Load):
        first = first._replace(incarnation=a.incarnation)
    if first is not None:
        twin.execute(first)
    for session in (a, b):
        run(twin, session, add("k"))  # which has to resume, and is not executed
    assert twin.namespace.registry.sums == {"k": 5, "own": 1, "moved": 7}
    twin.compare()
    run(twin, b, leave=True)
    run(twin, a, leave=True, budget=10)
    twin.compare()


#: What may come first after that; nothing is a batch.
FIRST_AFTER_A_LOSS: tuple[Request | None, ...] = (
    None,
    Peek("new"),
    Forget("", "left"),
    Watch("a", SECOND),
    Load("a", 1, 1, ""),
    *(Query("", kind, "k", keys=("k", "moved")) for kind in QueryKind if kind.value != "held"),
    Query("", QueryKind.HELD, "a"),
)


@pytest.mark.parametrize("first", FIRST_AFTER_A_LOSS, ids=lambda first: type(first).__name__)
def test_the_loss_of_the_sums_alone_is_one_of_all(twin: Twin, first: Request | None) -> None:
    losing_the_sums(twin, first)


def test_forgetting_takes_many_slices_in_pieces(twin: Twin) -> None:
    big, other = session_of("big"), session_of("other")
    run(twin, big, *(add(f"key{number}") for number in range(MAX_PURGE + 100)))
    forget = Entry(Kind.FORGET, "big", 0)
    assert run(twin, other, forget).results == (Previous(100, MAX_PURGE),)
    assert twin.lua.dump()["reap_queue"] == ["big"]
    assert run(twin, other, forget).results == (Previous(0, 100),)
    assert run(twin, other, forget).results == (Previous(0, 0),)
    twin.compare()


def test_an_own_slice_is_judged_by_a_move_that_is_told_later(twin: Twin) -> None:
    """There are more moves than one answer tells of, and the last is of a key of the batch."""
    other, mover = session_of("other"), session_of("mover")
    run(twin, other, add("last"))
    run(twin, mover, *(Entry(Kind.MOVE, f"key{number}", 1) for number in range(1000)))
    run(twin, mover, Entry(Kind.MOVE, "last", 70))
    run(twin, other, add("last"))
    twin.compare()
    assert twin.namespace.registry.total("last") == 71
    assert other.slices["last"].value == 1


def test_a_claim_makes_a_slice_as_old_as_itself(twin: Twin) -> None:
    session = session_of("i")
    run(twin, session, add("k"))
    older = session.slices["k"].stamp - 1
    resume(twin, "i", [], Entry(Kind.CLAIM, "k", 5, 6, stamp=older))
    assert twin.namespace.registry.records["i"].slices["k"] == (6, older)


def test_one_who_has_just_come_does_not_believe_a_clock_that_was_put_back(twin: Twin) -> None:
    run(twin, session_of("i"))
    heard = twin.now
    twin.now -= 5 * SECOND
    page = twin.execute(Query("", QueryKind.INSTANCES, observed=JUST_COME))
    assert isinstance(page, QueryPage)
    assert page.at == heard


def test_values_leave_out_who_waits_to_be_reaped(twin: Twin) -> None:
    dead, living = session_of("dead"), session_of("living")
    run(twin, dead, add("a"), add("b"), add("c"))
    run(twin, living, add("a"), add("b"), add("c"))
    while not twin.namespace.registry.reap_queue:
        twin.now += PERIODS.interval
        run(twin, living, add("a", 0), budget=1)  # what the step is about goes first
    page = twin.execute(Query("", QueryKind.VALUES, keys=("a", "b", "c"), observed=JUST_COME))
    assert isinstance(page, QueryPage)
    assert [flag for _, _, flag in page.rows].count(False) == 2
    twin.compare()


def opening(twin: Twin, instance: str, partitions: int) -> Open:
    """Return what takes an id, of an instance that spreads the namespace over so many parts."""
    found = twin.execute(Peek(instance))
    assert isinstance(found, Peeked)
    inc, born = found.incarnation, found.born
    return Open(instance, "other", inc, born, True, PERIODS, partitions=partitions)


def number_told(twin: Twin) -> int:
    page = twin.execute(Query("", QueryKind.KEYS))
    assert isinstance(page, QueryPage)
    return page.partitions


def test_the_number_of_parts_is_that_of_the_living(twin: Twin) -> None:
    assert number_told(twin) == 0
    a, b = session_of("a"), session_of("b")
    run(twin, a, add("k"), add("j"))
    run(twin, b, add("k"))
    assert number_told(twin) == 1
    assert twin.execute(opening(twin, "c", 3)) == Mismatch(1)
    assert twin.execute(opening(twin, "a", 3)) == Mismatch(1)  # in place of its predecessor, too
    twin.now += PERIODS.threshold // 2
    run(twin, b)
    twin.now += PERIODS.threshold - 1  # the last whom it was heard is alive to the end
    assert twin.execute(opening(twin, "c", 3)) == Mismatch(1)
    twin.compare()
    twin.now += 1
    assert isinstance(twin.execute(opening(twin, "c", 3)), Opened)
    twin.compare()
    assert number_told(twin) == 3
    assert {twin.namespace.registry.records[i].state.value for i in "ab"} == {"dead"}
    # Whoever lives all the same comes back when those of the other number have gone, not before.
    first = Resume("a", a.incarnation, a.used + 1, a.known, PERIODS, twin.namespace.born, True)
    assert twin.execute(first) == Mismatch(3)
    assert isinstance(twin.execute(first._replace(partitions=3)), Applied)
    twin.compare()
    twin.now += PERIODS.threshold + 1
    again = first._replace(seq=first.seq + 1)
    assert isinstance(twin.execute(again), Applied)
    assert number_told(twin) == 1
    twin.compare()


def test_one_that_starts_with_another_number_inherits_nothing(twin: Twin) -> None:
    run(twin, session_of("a"), add("k"))
    twin.now += PERIODS.threshold + 1
    reply = twin.execute(opening(twin, "a", 3))
    assert isinstance(reply, Opened)
    assert not reply.inherited
    twin.compare()


def test_the_heir_of_one_who_is_loading_inherits_all(twin: Twin) -> None:
    run(twin, session_of("a"), add("k", 3))
    for nonce in ("heir", "second heir"):
        heir = Session("a", nonce, PERIODS, inherit=True)
        while heir.phase is not Phase.LOAD:
            request = heir.request()
            assert request is not None
            heir.receive(twin.execute(request))
    assert run(twin, heir, add("k", 0)).results == (Previous(3, 3),)
    twin.compare()


def test_a_clear_leaves_the_number_of_parts(twin: Twin) -> None:
    assert isinstance(twin.execute(opening(twin, "a", 3)), Opened)
    session = session_of("b")
    while (request := session.request()) is not None:
        other = request._replace(partitions=3) if isinstance(request, Open) else request
        session.receive(twin.execute(other))
    run(twin, session, Entry(Kind.CLEAR, "", 0))
    assert number_told(twin) == 3
    twin.compare()


def test_who_has_heard_of_later_times_is_told_of_what_is_moved_after_a_loss(twin: Twin) -> None:
    """The store lost everything, and its clock is behind what an instance has read up to."""
    late, mover, newcomer = (session_of(name) for name in ("late", "mover", "newcomer"))
    run(twin, late, add("k"))
    twin.now += 3600 * SECOND
    run(twin, mover, Entry(Kind.MOVE, "other", 1))
    run(twin, late, add("k"))
    twin.wipe()
    twin.now = START + SECOND
    run(twin, late, add("k"))
    run(twin, newcomer, Entry(Kind.MOVE, "k", 5))
    run(twin, late, add("k"))
    assert late.slices["k"].value == 1
    assert twin.namespace.registry.total("k") == 6
    twin.check_sums()
    twin.compare()


def beat(twin: Twin, session: Session) -> Applied:
    reply = run(twin, session, budget=1000)
    twin.compare()
    return reply


def test_a_heartbeat_forgets_moves_that_are_old(twin: Twin) -> None:
    """By the clock, which gives no stamp twice after it was put back."""
    periods = Periods(3 * SECOND, SECOND, 10 * SECOND)
    mover = session_of("mover", periods)
    beat(twin, mover)
    twin.now -= 20 * SECOND
    beat(twin, mover)
    moved = run(twin, mover, Entry(Kind.MOVE, "k", 1)).at
    for _ in range(35):
        twin.now += SECOND
        beat(twin, mover)
        assert bool(twin.namespace.registry.epochs.moved) == (twin.now - moved < 10 * SECOND)


def find_dead_at_its_deadline(twin: Twin, *, back: int) -> None:
    one, other = session_of("one"), session_of("other")
    beat(twin, one)
    twin.now -= back
    beat(twin, one)
    run(twin, other, add("k"))
    beat(twin, one)
    registry = twin.namespace.registry
    deadline = registry.records["other"].deadline - registry.observed.shift
    while twin.now < deadline:
        assert registry.total("k") == 1
        twin.now = min(twin.now + SECOND, deadline)
        beat(twin, one)
    assert registry.total("k") == 0


def test_a_heartbeat_at_the_very_deadline_of_another_finds_it_dead(twin: Twin) -> None:
    find_dead_at_its_deadline(twin, back=0)


def test_a_heartbeat_finds_the_dead_after_the_clock_was_put_back(twin: Twin) -> None:
    find_dead_at_its_deadline(twin, back=2 * SECOND)
