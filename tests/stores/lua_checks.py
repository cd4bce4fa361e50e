"""What is run to see whether some Lua is right: short, each by itself, and told by a name.

Random histories find nearly everything soon. Scenarios are for what they meet too rarely.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from unittest import mock

import pytest
import redis

from distkit_actors._instance._session import Session
from distkit_actors._namespace import _epochs, _reaper, _registry
from distkit_actors._protocol._messages import (
    JUST_COME,
    Applied,
    Apply,
    Entry,
    Kind,
    Previous,
    Query,
    QueryKind,
    QueryPage,
    Resume,
)
from distkit_actors._stores._redis._lua_constants import CONSTANTS
from distkit_actors._stores._redis._scripts import SCRIPTS, render
from tests.harness import unique_prefix
from tests.stores import test_archive, test_rare_steps, test_redis_agrees, test_redis_limits
from tests.stores import twin as twin_module
from tests.stores.test_archive import Absent
from tests.stores.test_heartbeats_together import together
from tests.stores.test_reaping_agrees import departures
from tests.stores.test_redis_agrees import (
    KEYS,
    PERIODS,
    SECOND,
    Crowd,
    Fuzz,
    History,
    Idle,
    Solo,
    Unordered,
    Vigil,
)
from tests.stores.test_redis_limits import add, run, session_of
from tests.stores.twin import ARCHIVING, FEW_HASHES, LuaStore, Scripts, Twin, dump_namespace

#: Limits so low that short histories reach them, and where Python has them.
TIGHT = {
    "JOURNAL_PAGE": (4, [_epochs]),
    "MAX_JOURNAL": (8, [_epochs]),
    "FORGET_AT_LEAST": (2, [_epochs]),
    "MAX_CHANGED": (2, [_registry]),
    "DEATHS_PER_STEP": (1, [_reaper]),
    "OVERDUE_PER_STEP": (2, [_reaper]),
    "QUEUED_PER_STEP": (2, [_reaper]),
}
#: And those that only Lua has.
TIGHT_IN_LUA = [
    ("base", "local CHUNK = 500\n", "local CHUNK = 4\n"),
    ("query", "local PAGE = 500\n", "local PAGE = 2\n"),
    ("query", "LOOKS, HASH, FEWEST = 4500, 4, 8\n", "LOOKS, HASH, FEWEST = 12, 4, 1\n"),
]


@dataclass
class Subject:
    """Some Lua that is to be judged, and a server to run it on."""

    client: redis.Redis
    sources: Mapping[str, str]

    @cached_property
    def scripts(self) -> Scripts:
        return {name: render(name, self.sources) for name in SCRIPTS}

    @cached_property
    def tight_scripts(self) -> Scripts:
        sources = dict(self.sources)
        for file, old, new in TIGHT_IN_LUA:
            assert sources[file].count(old) == 1
            sources[file] = sources[file].replace(old, new)
        constants = {**CONSTANTS, **{name: value for name, (value, _) in TIGHT.items()}}
        return {name: render(name, sources, constants) for name in SCRIPTS}

    def twin(self) -> Twin:
        return Twin(self.client, unique_prefix(), self.scripts)

    def store(self) -> LuaStore:
        return LuaStore(self.client, unique_prefix(), self.scripts)


Check = Callable[[Subject], None]


@contextmanager
def tight(subject: Subject) -> Iterator[Twin]:
    """A twin whose limits are low, on both sides."""
    with ExitStack() as stack:
        for name, (value, modules) in TIGHT.items():
            for module in modules:
                stack.enter_context(mock.patch.object(module, name, value))
        stack.enter_context(mock.patch.object(test_redis_agrees, "KEYS", [*KEYS, *"bcdefgh"]))
        yield Twin(subject.client, unique_prefix(), subject.tight_scripts)


# ------------------------------------------------------------------------ random histories


def some_history(twin: Twin, seed: int) -> None:
    kind = (Fuzz, History, Fuzz, Vigil)[seed % 4]
    history = Fuzz(twin, seed) if kind is Fuzz else kind(twin, seed, [0, 1000])
    for _ in range(80):
        history.step()
    twin.compare()
    twin.wipe()


def histories(seeds: range) -> Check:
    def check(subject: Subject) -> None:
        for seed in seeds:
            some_history(subject.twin(), seed)

    return check


def histories_of(kind: type[History], seeds: range) -> Check:
    """Histories of nearly nothing but lone steps (`Solo`), or but heartbeats (`Idle`)."""

    def check(subject: Subject) -> None:
        for seed in seeds:
            twin = subject.twin()
            history = kind(twin, seed, [0, 1000])
            for number in range(80):
                history.step()
                if number % 10 == 0:
                    twin.compare()
            twin.compare()
            twin.wipe()

    return check


def tight_histories(seeds: range) -> Check:
    """Histories at the limits, beside one that moves many epochs."""

    def check(subject: Subject) -> None:
        for seed in seeds:
            with tight(subject) as twin:
                fuzz, mover = Fuzz(twin, seed), Session("mover", "n", PERIODS)
                for _ in range(100):
                    while (request := mover.request()) is not None:
                        mover.receive(twin.execute(request))
                    fuzz.step()
                    keys = fuzz.random.sample(
                        test_redis_agrees.KEYS, fuzz.random.choice([0, 0, 1, 7])
                    )
                    mover.begin([Entry(Kind.MOVE, key, 1) for key in keys])
                twin.compare()
                twin.wipe()

    return check


def archives(seeds: range) -> Check:
    """Histories in which moves go to the archive at once."""

    def check(subject: Subject) -> None:
        constants = {**CONSTANTS, **ARCHIVING, "ARCHIVE_HASHES": FEW_HASHES}
        scripts = {name: render(name, subject.sources, constants) for name in SCRIPTS}
        with ExitStack() as stack:
            for name, value in ARCHIVING.items():
                stack.enter_context(mock.patch.object(_epochs, name, value))
            stack.enter_context(mock.patch.object(twin_module, "ARCHIVE_HASHES", FEW_HASHES))
            for seed in seeds:
                twin = Twin(subject.client, unique_prefix(), scripts)
                history = Fuzz(twin, seed) if seed % 2 == 0 else Absent(twin, seed, [0, 1000])
                for number in range(150):
                    history.step()
                    if number % 10 == 0:
                        twin.compare()
                twin.compare()
                twin.wipe()

    return check


def crowds(seeds: range) -> Check:
    """Many die, and few slices may be taken away at once."""

    def check(subject: Subject) -> None:
        for seed in seeds:
            twin = Unordered(subject.client, unique_prefix(), subject.scripts)
            crowd = Crowd(twin, seed, [0, 1, 2, 3])
            crowd.values = test_redis_agrees.SMALL
            for _ in range(80):
                crowd.step()
            crowd.settle()
            assert twin.lua.dump()["sums"] == dump_namespace(twin.namespace)["sums"]
            assert twin.lua.dump()["reap_queue"] == []
            twin.wipe()

    return check


def departing(seeds: range) -> Check:
    """Others leave what is reaped on the short way."""

    def check(subject: Subject) -> None:
        for seed in seeds:
            departures(subject.twin(), seed, 12)

    return check


# ------------------------------------------------------------------------------- scenarios


#: Tests of rare steps that take longer than all others together.
LONG = [
    test_rare_steps.test_what_is_reaped_leaves_a_sum_exactly,
    test_rare_steps.test_times_are_compared_to_the_microsecond,
    test_rare_steps.test_a_heartbeat_forgets_moves_that_are_old,
    test_rare_steps.test_the_clock_may_have_any_number_of_digits,
]


def rare_steps(subject: Subject) -> None:
    """All other tests of that module that need nothing but a twin."""
    for name, test in vars(test_rare_steps).items():
        if name.startswith("test_") and not hasattr(test, "pytestmark") and test not in LONG:
            test(subject.twin())
    for others, old, new in test_rare_steps.REPLACEMENTS:
        test_rare_steps.test_a_replacement_that_is_refused_leaves_the_sum(
            subject.twin(), others, old, new
        )
    for numbers in test_rare_steps.NO_ROOM.values():
        test_rare_steps.test_additions_of_which_one_is_refused_are_undone(subject.twin(), *numbers)
    for first in test_rare_steps.FIRST_AFTER_A_LOSS:
        test_rare_steps.losing_the_sums(subject.twin(), first)
    for ahead, back in product((-SECOND, 0, SECOND), (0, 5 * SECOND)):
        test_rare_steps.test_after_the_last_body_is_known_when_somebody_may_die(
            subject.twin(), ahead, back
        )


def archive_scenarios(subject: Subject) -> None:
    for name, test in vars(test_archive).items():
        if name.startswith("test_") and "client" not in inspect.signature(test).parameters:
            test(subject.twin())


def long_rare_steps(subject: Subject) -> None:
    for test in LONG:
        test(subject.twin())


def twin_scenario(name: str) -> Check:
    return lambda subject: getattr(test_redis_limits, name)(subject.twin())


def store_scenario(name: str) -> Check:
    return lambda subject: getattr(test_redis_limits, name)(subject.store())


def leftovers_with_old_moves(subject: Subject) -> None:
    """They are judged by these moves, which may not be forgotten before."""
    test_redis_limits.test_no_move_is_forgotten_before_a_newcomer_has_removed_all(
        subject.twin(), "lua"
    )
    for newer in range(2):
        test_redis_limits.test_no_move_is_forgotten_before_who_returns_has_removed_all(
            subject.twin(), "lua", newer
        )


def leftovers_are_not_inherited(subject: Subject) -> None:
    for returns, pieces in product((False, True), (0, 1)):
        test_redis_limits.test_leftovers_are_not_inherited(subject.twin(), returns, pieces)


def tell(
    twin: Twin, instance: str, known: int, moves: list[tuple[str, int]], *claims: Entry
) -> None:
    """Send a piece of a resume that is not the first."""
    record = twin.namespace.registry.records[instance]
    seq, born = record.seq + 1, twin.namespace.born
    twin.execute(
        Resume(instance, record.incarnation, seq, known, PERIODS, born, False, 0, moves, claims)
    )


def moves_are_forgotten(subject: Subject) -> None:
    """A bounded number in each step that moves some or writes a sign of life down."""
    with tight(subject) as twin:
        mover, other = session_of("mover", PERIODS), session_of("other", PERIODS)
        run(twin, other, add("z", 4))
        early = other.slices["z"].stamp
        tell(twin, "other", 0, [("late", early)])
        for keys in ("abcdefg", "hijklmn", "12uvwxy"):
            twin.now += SECOND
            run(twin, mover, *(Entry(Kind.MOVE, key, 1) for key in keys))
        for _ in range(3):
            twin.now += PERIODS.retention // 2
            for _ in range(3):  # as it is told of one step's moves at once
                run(twin, other)
            run(twin, mover)
        twin.compare()
        run(twin, mover, *(Entry(Kind.MOVE, key, 2) for key in "opqrst"))  # not a sign of life
        twin.compare()
        floor = twin.namespace.registry.epochs.floor
        assert floor > early
        claim = Entry(Kind.CLAIM, "z", 1, 5, stamp=early)
        for known in (floor - 1, floor, floor + 1):
            tell(twin, "other", known, [(f"late at {known}", known)], claim)
        twin.compare()


def behind_its_own_move(subject: Subject) -> None:
    """Who lags keeps what it has set itself."""
    with tight(subject) as twin:
        mover, late = session_of("mover"), session_of("late")
        run(twin, late, add("a"))
        known = late.known
        for keys in ("bcdefgh", "ijklmno"):
            twin.now += 1000
            run(twin, mover, *(Entry(Kind.MOVE, key, 1) for key in keys))
        for seq, entry in enumerate([Entry(Kind.MOVE, "a", 5), add("a", 0)], late.seq + 1):
            twin.now += 1000
            request = Apply("late", late.incarnation, seq, known, PERIODS, [entry])
            reply = twin.execute(request)
        assert isinstance(reply, Applied)
        assert reply.results == (Previous(5, 5),)
        assert reply.backlog
        twin.compare()


def behind_anothers_move(subject: Subject) -> None:
    """Who lags loses what another has moved, though it is told of older moves first."""
    with tight(subject) as twin:
        mover, late = session_of("mover"), session_of("late")
        run(twin, late, add("a"))
        known = late.known
        for keys in ("bcdefgh", "ijklmno", "a"):
            twin.now += 1000
            run(twin, mover, *(Entry(Kind.MOVE, key, 1) for key in keys))
        request = Apply("late", late.incarnation, late.seq + 1, known, PERIODS, [add("a", 0)])
        reply = twin.execute(request)
        assert isinstance(reply, Applied)
        assert reply.results == (Previous(1, 0),)
        assert reply.backlog
        twin.compare()


def values_in_pages(subject: Subject) -> None:
    """Who has just come is told of all who are dead, page by page, and of the sums once."""
    with tight(subject) as twin:
        for number in range(7):
            run(twin, session_of(f"i{number}"), add("a"))
        twin.now += 100 * PERIODS.threshold
        request = Query("", QueryKind.VALUES, keys=("a",), observed=JUST_COME)
        first = twin.lua.execute(request, twin.now)
        assert isinstance(first, QueryPage)
        assert first.cursor
        rows, cursor = list(first.rows), first.cursor
        while cursor:
            page = twin.lua.execute(request._replace(cursor=cursor), twin.now)
            assert isinstance(page, QueryPage)
            rows, cursor = [*rows, *page.rows], page.cursor
            assert len(rows) < 100, "the pages do not end"
        assert sorted(rows) == [("a", 1, False)] * 7 + [("a", 7, True)]
        page = twin.execute(request)
        assert isinstance(page, QueryPage)
        assert sorted(page.rows) == [("a", 1, False)] * 7 + [("a", 7, True)]


def values_while_the_dead_are_reaped(subject: Subject) -> None:
    """Each page has all of its keys, so it may be of another instant than the one before."""
    with tight(subject) as twin:
        sessions = [session_of(name) for name in ("one", "other", "living")]
        for session in sessions:
            run(twin, session, *map(add, "abcd"))
        living = sessions[-1]
        for _ in range(PERIODS.threshold // PERIODS.interval + 1):
            twin.now += PERIODS.interval
            run(twin, living, budget=0)
        cursor, pages, dead = "", 0, 0
        while cursor or not pages:
            request = Query("", QueryKind.VALUES, "", cursor, tuple("abcd"), JUST_COME)
            page = twin.lua.execute(request, twin.now)
            assert isinstance(page, QueryPage)
            totals = {key: number for key, number, of_all in page.rows if of_all}
            for key, number, of_all in page.rows:
                totals[key] -= 0 if of_all else number
                dead += not of_all
            assert set(totals.values()) == {1}
            cursor, pages = page.cursor, pages + 1
            run(twin, living, budget=3)  # which of a body's slices go is not said
        assert pages == 2
        assert 4 < dead < 8  # some were taken away between the two


def first_in_the_queue(subject: Subject) -> None:
    """Where those in front are emptied at once, those behind them are next."""
    with tight(subject) as twin:
        heir = session_of("heir")
        run(twin, heir)
        for name in ("one", "two", "three"):
            run(twin, session_of(name), add("a" if name != "three" else "b"), leave=True)
        run(twin, heir, add("a", 0), budget=10)
        assert twin.lua.dump()["sums"] == {}
        twin.compare()


def out_of_memory(subject: Subject) -> None:
    """Steps of some kinds that must not begin."""
    for kind in ("remove", "delete", "clear", "leave", "forget", "late clear", "start afresh"):
        for informed in (False, True):
            subject.client.flushall()
            store = subject.store()
            test_redis_limits.out_of_memory(store, kind, recent=True, informed=informed)


def heartbeats_together(subject: Subject) -> None:
    """Several in one script."""
    together(subject.client, subject.scripts)


#: By name, from those that find most in the least time to those that find little.
CHECKS: dict[str, Check] = {
    "histories": histories(range(2)),
    "lone steps": histories_of(Solo, range(2)),
    "heartbeats": histories_of(Idle, range(2)),
    "limits": tight_histories(range(1)),
    "archives": archives(range(2)),
    "heartbeats together": heartbeats_together,
    "departures": departing(range(2)),
    "rare steps": rare_steps,
    "archive scenarios": archive_scenarios,
    "moves are forgotten": moves_are_forgotten,
    "behind its own move": behind_its_own_move,
    "behind another's move": behind_anothers_move,
    "first in the queue": first_in_the_queue,
    "values in pages": values_in_pages,
    "values while the dead are reaped": values_while_the_dead_are_reaped,
    "stamps of the future": twin_scenario("test_stamps_of_the_future_are_never_given_out_again"),
    "many die at once": twin_scenario("test_many_die_at_once_but_few_in_one_step"),
    "bodies that do not fit": twin_scenario(
        "test_a_body_does_not_wait_behind_those_that_do_not_fit"
    ),
    "leftovers that do not fit": twin_scenario(
        "test_leftovers_that_do_not_fit_become_a_body_of_their_own"
    ),
    "leftovers with old moves": leftovers_with_old_moves,
    "leftovers and heirs": leftovers_are_not_inherited,
    "long rare steps": long_rare_steps,
    # Each finds a defect that the others find late.
    "history 8": histories(range(8, 9)),
    "history 18": histories(range(18, 19)),
    "limits 4": tight_histories(range(4, 5)),
    "limits 7": tight_histories(range(7, 8)),
    "limits 11": tight_histories(range(11, 12)),
    "more histories": histories(range(2, 8)),
    "more lone steps": histories_of(Solo, range(2, 8)),
    "more limits": tight_histories(range(1, 4)),
    "more archives": archives(range(2, 8)),
    "out of memory": out_of_memory,
    "crowds": crowds(range(1)),
    "many lone steps": histories_of(Solo, range(8, 40)),
    "many histories": histories(range(8, 40)),
    "many limits": tight_histories(range(4, 16)),
    "many archives": archives(range(8, 32)),
}
#: Those that every good Lua is seen to pass. The others are for what nothing else finds.
SOON = list(CHECKS)[:-4]


def find_fault(subject: Subject, *likely: str) -> str | None:
    """Return the name of a check that fails.

    All are tried, those first that are ``likely`` to fail.
    """
    for name in dict.fromkeys((*likely, *CHECKS)):
        try:
            CHECKS[name](subject)
        except (Exception, pytest.fail.Exception):  # noqa: BLE001 - it may show in any way
            return name
    return None
