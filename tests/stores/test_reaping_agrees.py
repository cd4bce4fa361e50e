"""Lua reaps as Python does, also on the short way that it has for what is common.

Random histories rarely go that way: there somebody dies in the very step that reaps.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from distkit_actors._instance._session import Session
from distkit_actors._protocol._messages import Entry, Kind, Watch
from tests.harness import unique_prefix
from tests.harness.server import RedisServer
from tests.stores.test_redis_agrees import KEYS, PERIODS, SECOND, histories
from tests.stores.test_redis_limits import add, run
from tests.stores.twin import Twin, connect, counting_reaping

#: Most slices are small. Where numbers are large, Lua has to be more careful.
SMALL = [-3, -1, 1, 2, 5, 10**6]
LARGE = [10**15 - 1, 1 - 10**15, 10**15, -(10**17) - 1, 10**17 + 1, 2**63 - 1, -(2**63)]


@pytest.fixture
def client(own_redis: RedisServer) -> Iterator[redis.Redis]:
    with connect(own_redis.url) as client:
        yield client


def departures(twin: Twin, seed: int, steps: int) -> None:
    """Some come, count and leave, or fall silent, in each step; one stays and reaps.

    Most of what that one does is common. It may take away all, as in Redis it is chance which
    slices go first.
    """
    rnd = random.Random(seed)
    heir = Session("heir", "n", PERIODS)
    run(twin, heir)
    kinds = [Kind.ADD] * rnd.choice([4, 40]) + [Kind.MOVE]
    values = SMALL if rnd.random() < 0.5 else SMALL * 3 + LARGE
    for number in range(steps):
        for name in range(rnd.choice([0, 1, 1, 2, 3])):
            counts = [
                Entry(rnd.choice(kinds), key, rnd.choice(values))
                for key in KEYS
                if rnd.random() < 0.5
            ]
            other = Session(f"{number}-{name}", "n", PERIODS)
            run(twin, other, *counts, leave=rnd.random() < 0.9)
        if rnd.random() < 0.2:  # so some slices do not count any more
            moving = Entry(Kind.MOVE, rnd.choice(KEYS), 0)
            run(twin, heir, rnd.choice([moving, Entry(Kind.CLEAR, "", 0)]), budget=0)
        if rnd.random() < 0.1:
            twin.execute(Watch("heir", SECOND))
        twin.now += rnd.choice([0, 1, 1000, 1000, SECOND // 2])
        for _ in range(rnd.choice([0, 1, 2, 2, 2])):
            run(twin, heir, budget=0)  # it is heard, hears of moves, and says so
        twin.now += rnd.choice([1, 10, 1000])
        entries = [add(key, rnd.choice([*values, 0])) for key in KEYS if rnd.random() < 0.3]
        run(twin, heir, *entries, budget=rnd.choice([0, 1000, 1000, 1000]))
        twin.compare()
    twin.wipe()


@histories
@given(seed=st.integers(0, 2**32), steps=st.integers(1, 12))
def test_reaping_what_others_have_left_is_equal(client: redis.Redis, seed: int, steps: int) -> None:
    departures(Twin(client, unique_prefix()), seed, steps)


def test_reaping_goes_the_short_way_often(client: redis.Redis) -> None:
    for seed in range(30):
        twin = Twin(client, unique_prefix())
        twin.lua.scripts = counting_reaping()
        departures(twin, seed, 20)
    ways = {way.decode(): int(count) for way, count in client.hgetall("reaping").items()}
    assert ways["short"] >= 100, ways
    assert ways["long"] >= 100, ways
    assert ways["where keys have moved"] >= 100, ways
