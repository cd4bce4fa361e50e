"""A program on asyncio that a measurement starts: ``python -m benchmarks.child_asyncio HOST PORT``.

As those of `benchmarks.child`, it says in a line of JSON that it is ready, and answers lines.
"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import asdict

import redis.asyncio as redis_asyncio

from benchmarks.load import Crowd

#: As many as the pool that trio programs are compared with.
_CONNECTIONS = 10


async def main(host: str, port: int) -> None:
    """``load TASKS KEYS SECONDS`` does what `benchmarks.load.drive` does, in asyncio's tasks."""
    pool = redis_asyncio.BlockingConnectionPool(
        host=host, port=port, max_connections=_CONNECTIONS, timeout=None
    )
    async with redis_asyncio.Redis.from_pool(pool) as client:

        async def inc(key: str) -> object:
            return await client.hincrby("plain_asyncio", key, 1)

        print(json.dumps({"ready": 1}), flush=True)
        for line in sys.stdin:  # nothing else is to be done meanwhile
            _, tasks, keys, seconds = line.split()
            crowd = Crowd(inc, int(tasks), int(keys), float(seconds))
            async with asyncio.TaskGroup() as group:
                for member in crowd.members:
                    group.create_task(member())
            print(json.dumps(asdict(crowd.load())), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
