"""Where trio-asyncio does not work there are no pools, and `from_pool` says why."""

from __future__ import annotations

import subprocess
import sys

WITHOUT = """
import sys
import trio
import distkit_actors
from redis.asyncio import ConnectionPool


class AsOnPython314:
    def find_spec(self, name, path=None, target=None):
        if name == "trio_asyncio":
            raise ImportError("cannot import name 'AbstractChildWatcher' from 'asyncio'")


sys.meta_path.insert(0, AsOnPython314())
url, prefix = sys.argv[1:]
try:
    distkit_actors.RedisStore.from_pool(ConnectionPool.from_url(url))
except ImportError as error:
    print(error)


async def count():
    async with distkit_actors.StrictInstanceAwareCounter.open(prefix, url) as counter:
        print(await counter.inc("k"))


trio.run(count)
"""


def test_where_trio_asyncio_does_not_work_all_else_does(redis_url: str, fresh_prefix: str) -> None:
    words = [sys.executable, "-W", "error", "-c", WITHOUT, redis_url, fresh_prefix]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    error, counted = done.stdout.splitlines()
    assert "AbstractChildWatcher" in error
    assert "Python 3.14" in error
    assert "RedisStore(url)" in error
    assert counted == "CounterValue(cumulative=1, instance_count=1)"
