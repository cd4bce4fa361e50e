"""Fetches a server for the tests if there is none: ``python -m tests.servers.provide``."""

import sys
from pathlib import Path

from tests.harness.binary import FETCHED, RedisServerMissing, find_redis_server
from tests.servers.catalogue import SERVERS
from tests.servers.fetch import FetchError, fetch


def main() -> int:
    """Return the exit code. What cannot be had is said by the tests that need it, too."""
    try:
        find_redis_server()
    except RedisServerMissing as missing:
        (server,) = [server for server in SERVERS if server.name == FETCHED]
        try:
            fetch(server, Path(sys.prefix) / "servers")
        except FetchError as error:
            print(f"{missing}\n\nNor can one be fetched: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
