"""Random histories on a server that loses single keys of Redis, as one that evicts does (A4).

No script may fail, and nobody who lives may be kept out.
"""

from __future__ import annotations

import hashlib
import os
from typing import Any, TypeAlias

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distkit_actors._protocol._messages import QueryKind
from distkit_actors._stores._redis._lua_constants import ARCHIVE_HASHES

from .lost_keys import KEYS, NAMES, Fleet
from .test_redis_limits import PERIODS

WHO = st.integers(0, len(NAMES) - 1)
COUNT = st.tuples(st.just("count"), WHO, st.sampled_from(KEYS), st.integers(-2, 3))
#: Which hash of the archive has the key that is moved, of the segment at the first place.
ARCHIVED = hashlib.sha1(KEYS[0].encode(), usedforsecurity=False).digest()[0] % ARCHIVE_HASHES
WHICH = st.sampled_from(
    [*"nmlahd", "s:0", "s:1", f"s:{ARCHIVED}", *(f"i:{name}" for name in NAMES)]
)
LOSS = st.lists(WHICH, min_size=1, max_size=3).map(lambda suffixes: ("lose", *suffixes))
STEP = st.one_of(
    COUNT,
    COUNT,
    LOSS,
    LOSS,
    st.tuples(st.just("wait"), st.integers(1, 5)),
    st.tuples(st.just("move"), WHO, st.integers(0, 2)),
    st.tuples(st.sampled_from(["clear", "leave", "die", "watch", "forget"]), WHO),
    st.tuples(st.just("away"), WHO, st.integers(1, 5)),
    st.tuples(st.just("look"), st.sampled_from(QueryKind)),
)
History: TypeAlias = list[tuple[Any, ...]]
HISTORY = st.lists(STEP, min_size=12, max_size=30)

histories = settings(
    max_examples=int(os.environ.get("DISTKIT_HISTORIES", "60")),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def play(client: redis.Redis, history: History, *, lose: str = "lose") -> Fleet:
    """Let all happen; ``lose`` is how keys are lost."""
    fleet = Fleet(client)
    for name, *arguments in history:
        getattr(fleet, lose if name == "lose" else name)(*arguments)
    return fleet


@histories
@given(history=HISTORY)
def test_all_can_go_on_and_a_wipe_heals(client: redis.Redis, history: History) -> None:
    fleet = play(client, history)
    fleet.wait(2)
    fleet.store.wipe()
    fleet.check_all()
    fleet.end()


@histories
@given(history=HISTORY)
def test_after_a_clear_the_sums_are_right_and_stay_so(
    client: redis.Redis, history: History
) -> None:
    fleet = play(client, history)
    fleet.wait(1)
    fleet.clear(0)
    fleet.check_sums()
    fleet.count(1, KEYS[0], 1)
    fleet.die(1)
    fleet.check_sums()
    fleet.store.wipe()


@histories
@given(history=HISTORY)
def test_the_loss_of_the_sums_and_one_more_heals(client: redis.Redis, history: History) -> None:
    fleet = play(client, history, lose="lose_what_heals")
    fleet.check_all()
    fleet.end()


def test_an_idle_fleet_goes_on_without_the_list_of_who_lives(client: redis.Redis) -> None:
    """A deadline passes, and a heartbeat looks for the next one."""
    fleet = Fleet(client)
    fleet.count(0, "kept", 1)
    fleet.wait(2)
    fleet.lose("a")
    fleet.wait(2)
    fleet.check_all()
    fleet.end()


@pytest.mark.parametrize("suffixes", ["nh", "na", "nha"])
def test_who_lives_goes_on_without_the_sums_and_the_lists(
    client: redis.Redis, suffixes: str
) -> None:
    fleet = Fleet(client)
    fleet.count(0, "kept", 1)
    fleet.count(1, "kept", 2)
    fleet.lose(*suffixes)
    fleet.wait(3)
    fleet.count(0, "kept", 1)
    if len(suffixes) > 2:
        fleet.store.wipe()
    fleet.check_all()
    fleet.end()


def test_who_dies_after_the_list_of_who_lives_was_lost_is_reaped(client: redis.Redis) -> None:
    """A deadline passes while nobody is in the list."""
    fleet = Fleet(client)
    fleet.count(0, "kept", 1)
    fleet.count(1, "kept", 2)
    fleet.now += PERIODS.threshold - 5000
    fleet.run(fleet.session(0))
    fleet.lose("a")
    fleet.now += 10_000
    fleet.count(0, "kept", 1)
    fleet.wait(1)
    fleet.die(1)
    fleet.check_all()
    fleet.end()
