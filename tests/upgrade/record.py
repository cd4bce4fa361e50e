"""Writes down anew what counters and scripts say to each other: ``python -m tests.upgrade.record``.

README.md says when that may be done.
"""

from __future__ import annotations

from distkit_actors._stores._redis._scripts import load_scripts
from distkit_actors._stores._redis._wire import decode
from tests.harness.server import RedisServer
from tests.stores.twin import connect
from tests.upgrade import words


def main() -> None:
    """Have the conversation with today's scripts, and write it down."""
    with RedisServer() as server, connect(server.url) as client:
        told = words.record(client, load_scripts(), decode)
    words.TODAY.write_text(words.dump(told) + "\n", "utf-8")
    print(f"{len(told.steps)} requests written to {words.TODAY.name}")


if __name__ == "__main__":
    main()
