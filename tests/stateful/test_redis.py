"""The same random histories over a real Redis."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import ClassVar, Final

from distkit_actors import RedisStore, Store
from distkit_actors._stores._redis._parts import hash_tag
from tests.harness import unique_prefix
from tests.harness.server import RedisServer
from tests.stateful.history import History
from tests.stateful.limit_rules import LimitHistories
from tests.stateful.machine import Histories
from tests.stateful.operations import EXTREME
from tests.stateful.part_rules import PARTS, PartedHistories
from tests.stateful.profile import run_histories
from tests.stores.twin import connect

#: The instant of the server's clock when a history begins: one of today. With the instants of 1970
#: no operation would go the way of lone ones, as those have fewer digits.
_BEGINNING: Final = 1_700_000_000_000_000


class InRedis(History):
    """A history whose store is a real server."""

    server: ClassVar[RedisServer]

    def make_store(self) -> Store:
        self.prefix = unique_prefix()
        # With a clock of ours for the server's, thresholds pass at once.
        store = RedisStore._with_clock(self.server.url, self._microseconds)
        store._partitions = self.partitions
        # Word of changes comes in the server's time, so that no time of ours is too long for it.
        store._response_timeout = math.inf
        return store

    def wipe_store(self, part: int) -> None:
        # All that it knows of the namespace: the server belongs to other tests too.
        names = self.server.command("KEYS", self._named(part, "*"))
        if names:
            self.server.command("DEL", *names)

    def copy_of_store(self, part: int) -> object:
        with connect(self.server.url) as client:
            names = client.keys(self._named(part, "*"))
            return {name: (client.dump(name), max(0, client.pttl(name))) for name in names}

    def restore_store(self, part: int, content: object) -> None:
        assert isinstance(content, dict)
        self.wipe_store(part)
        with connect(self.server.url) as client:
            for name, (value, left) in content.items():
                client.restore(name, left, value)

    def contents_of(self, part: int) -> Mapping[str, Mapping[str, int]]:
        named = partial(self._named, part)
        held: dict[str, dict[str, int]] = {}
        epochs: dict[str, int] = {}
        space = self.server.command("HGETALL", named("n"))
        moved = self.server.command("ZRANGE", named("m"), 0, -1, "WITHSCORES")
        epochs.update(zip(moved[::2], map(int, moved[1::2]), strict=True))
        late = self.server.command("HGETALL", named("l"))
        epochs.update((key, int(stamp)) for key, stamp in late.items() if key in epochs)
        cleared = int(space.get(":clear", 0))
        for name in self.server.command("KEYS", named("i:*")):
            record = self.server.command("HGETALL", name)
            instance = name.removeprefix(named("i:"))
            for key, word in record.items():
                value, at, stamp = word.partition("@")
                if key.startswith(":") or not at:
                    continue
                if int(stamp) >= max(cleared, epochs.get(key, 0)):
                    waits = key == EXTREME and self.model[key].loose  # until it fits (I12)
                    assert waits or record[":state"] == "live", f"{instance} still counts"
                    assert self.part_of(key) == part, f"{key} is in part {part}"
                    held.setdefault(key, {})[instance] = int(value)
        sums = {key: int(value) for key, value in space.items() if not key.startswith(":")}
        assert sums == {
            key: total for key, slices in held.items() if (total := sum(slices.values()))
        }
        return held

    def _microseconds(self) -> int:
        return _BEGINNING + int(self.clock.now() * 1_000_000)

    def _named(self, part: int, suffix: str) -> str:
        return f"dk:{{{hash_tag(self.prefix.encode(), part).decode()}}}:{suffix}"


class RedisHistories(InRedis, Histories):
    pass


class PartedRedisHistories(PartedHistories, RedisHistories):
    partitions = PARTS


class RedisLimitHistories(InRedis, LimitHistories):
    beginning = _BEGINNING / 1000
    prompt = 7.0  # word of changes comes in the server's time, and all look every six seconds


def test_histories_over_redis(redis_server: RedisServer) -> None:
    class OnThisServer(RedisHistories):
        server = redis_server

    run_histories(OnThisServer, default=30)


def test_histories_over_the_parts_of_a_redis(redis_server: RedisServer) -> None:
    class OnThisServer(PartedRedisHistories):
        server = redis_server

    run_histories(OnThisServer, default=8)


def test_histories_of_a_limit_over_redis(redis_server: RedisServer) -> None:
    class OnThisServer(RedisLimitHistories):
        server = redis_server

    run_histories(OnThisServer, default=6)
