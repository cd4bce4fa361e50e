"""Keys and prefixes may be any text: in every operation, over a real server."""

from __future__ import annotations

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distkit_actors import Fleet, MemoryStore, RedisStore, Store
from tests.harness import unique_prefix

from .everything import by_counters, by_onlookers, by_watchers

#: With all that has a meaning in names, in hashes, in announcements and in patterns.
odd = st.text(":{}%*?[]^\\7D,;|@!\0\n\r ac\x7fþÿ語\ufeff\U0010ffff", min_size=1, max_size=8)
keys = st.lists(
    odd | st.sampled_from([":born", ":pad", ":", "*", "room:42", "2001:db8::1", "😀" * 255]),
    min_size=2,
    max_size=2,
    unique=True,
)


@pytest.fixture(params=["memory", "redis"])
def url(request: pytest.FixtureRequest, redis_url: str) -> str:
    return redis_url if request.param == "redis" else "memory://"


async def everything(prefix: str, store: Store, one: str, two: str) -> None:
    await by_counters(prefix, store, one, two)
    await by_onlookers(prefix, store, one)
    await by_watchers(prefix, store, one, two)


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(odd, keys)
def test_any_prefix_and_key_will_do_for_every_operation(
    url: str, odd_end: str, two_keys: list[str]
) -> None:
    store = RedisStore(url) if url.startswith("redis") else MemoryStore()
    trio.run(everything, unique_prefix() + odd_end, store, *two_keys)


async def test_what_people_use(redis_url: str, fresh_prefix: str) -> None:
    prefix = f"app:{fresh_prefix}"
    await everything(prefix, RedisStore(redis_url), "room:42", "2001:db8::1")
    await everything(f"{prefix}}}:i:", RedisStore(redis_url), ":born", "*")
    async with Fleet.open(prefix, redis_url) as fleet:
        assert await fleet.keys() == []
