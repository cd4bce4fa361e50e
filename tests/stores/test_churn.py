"""Instances and keys come and go, and the server keeps nothing of them."""

from __future__ import annotations

import time

import redis

from distkit_actors._instance._session import Session
from distkit_actors._protocol._messages import Entry, Kind, Periods
from tests.harness import unique_prefix
from tests.harness.server import RedisServer

from .twin import LuaStore, connect

SECOND = 1_000_000
START = 1_700_000_000 * SECOND
#: The retention is real time, in which the server has keys expire; all else is told time.
PERIODS = Periods(threshold=3 * SECOND, interval=SECOND, retention=SECOND // 4)
INSTANCES, PATIENCE = 600, 60.0


class Churn:
    """A namespace in which instances come and go; one of them stays."""

    def __init__(self, client: redis.Redis) -> None:
        self.store = LuaStore(client, unique_prefix())
        self.now = START
        self.staying = Session("staying", "nonce", PERIODS)

    def settle(self, session: Session) -> None:
        while (request := session.request()) is not None:
            session.receive(self.store.execute(request, self.now))

    def run(self, session: Session, *entries: Entry, leave: bool = False) -> None:
        self.settle(session)
        session.begin(entries, leave=leave, budget=48)
        self.settle(session)

    def wait_until_left(self, *suffixes: bytes) -> None:
        """Wait until the server has no keys of the namespace but these."""
        expected = sorted(self.store.base + suffix for suffix in suffixes)
        end = time.monotonic() + PATIENCE
        while (found := sorted(self.store.names_in_use())) != expected:
            assert time.monotonic() < end, f"{len(found)} keys are left, such as {found[:8]}"
            time.sleep(0.01)

    def come_and_go(self, number: int) -> None:
        """Count a key of its own; then leave, or die, or delete the key and leave."""
        session, key = Session(f"i{number}", "nonce", PERIODS), f"key{number}"
        self.run(session, Entry(Kind.ADD, key, 1), Entry(Kind.ADD, "shared", 1))
        match number % 3:
            case 0:
                self.run(session, Entry(Kind.PUT, key, 0), Entry(Kind.PUT, "shared", 0), leave=True)
            case 1:
                self.run(session, Entry(Kind.MOVE, key, 0))
                self.run(session, Entry(Kind.PUT, "shared", 0), leave=True)
            case _:
                pass  # it is never heard of again


def test_i10_of_instances_and_keys_that_come_and_go_no_key_is_left(
    redis_server: RedisServer,
) -> None:
    """Nor of the namespace, when the last one has left."""
    with connect(redis_server.url) as client:
        churn = Churn(client)
        churn.run(churn.staying, Entry(Kind.ADD, "mine", 1))
        for number in range(INSTANCES):
            churn.now += SECOND // 4
            churn.come_and_go(number)
            churn.run(churn.staying)
        for _ in range(20):  # the last ones die, and the last moves are old
            churn.now += SECOND
            churn.run(churn.staying)
        sums = client.hgetall(churn.store.base + b"n")
        assert {name for name in sums if not name.startswith(b":")} == {b"mine"}
        churn.wait_until_left(b"a", b"h", b"i:staying", b"n")
        churn.run(churn.staying, Entry(Kind.PUT, "mine", 0), leave=True)
        churn.wait_until_left()
