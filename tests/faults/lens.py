"""What Redis holds of a namespace, seen past all counters.

It knows the names and fields that the heads of the Lua scripts state, and no more: what
counts and what does not is worked out here once more, from docs/protocol.md.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import Any, Protocol

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

_DUMP = """
local dump = {}
for _, name in ipairs(redis.call('KEYS', ARGV[1])) do
  if redis.call('TYPE', name).ok == 'hash' then
    dump[name] = redis.call('HGETALL', name)
  else
    dump[name] = redis.call('ZRANGE', name, 0, -1, 'WITHSCORES')
  end
end
return cjson.encode(dump)
"""


class Address(Protocol):
    """Where a server is."""

    @property
    def host(self) -> str:
        """Its address."""

    @property
    def port(self) -> int:
        """Its port."""

    @property
    def password(self) -> str | None:
        """What it asks for."""


@dataclass(frozen=True)
class Snapshot:
    """A namespace at one moment.

    Attributes:
        sums: the cumulative of each key, as stored.
        slices: by instance and key, those that count.
        living: the instances with a deadline to come.
        states: "live", "dead" or "left", by instance.
        signs: of life, by instance; a new one differs.
        names: all Redis keys.
    """

    sums: Mapping[str, int]
    slices: Mapping[str, Mapping[str, int]]
    living: frozenset[str]
    states: Mapping[str, str]
    names: frozenset[str]
    signs: Mapping[str, str] = dataclass_field(default_factory=dict, compare=False)

    def of(self, instance: str) -> dict[str, int]:
        """Return the slices of one instance."""
        return dict(self.slices.get(instance, {}))

    def is_like(self, other: "Snapshot") -> bool:
        """Return whether the same instances live, with the same slices."""
        return (self.living, self.slices, self.sums) == (other.living, other.slices, other.sums)

    def check(self) -> None:
        """Assert that each sum is that of the slices (I1)."""
        totals: Counter[str] = Counter()
        for slices in self.slices.values():
            totals.update(slices)
        assert {key: total for key, total in totals.items() if total} == self.sums


class Lens:
    """Takes snapshots of one namespace. It blocks for a moment, so the server must answer.

    Each look has a connection of its own, as the server may have been restarted since.
    """

    def __init__(self, server: Address, prefix: str) -> None:
        self._base = f"dk:{{p.{prefix}}}:"
        self._client = redis.Redis(
            host=server.host,
            port=server.port,
            password=server.password,
            protocol=2,
            decode_responses=True,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=5.0,
        )

    def holds(self, instance: str) -> bool:
        """Return whether an instance lives or has slices left; cheap, however many."""
        try:
            return self._client.zscore(f"{self._base}h", instance) is not None
        finally:
            self._client.close()

    def lives(self, instance: str) -> bool:
        """Return whether an instance has a deadline to come; cheap."""
        try:
            return self._client.zscore(f"{self._base}a", instance) is not None
        finally:
            self._client.close()

    def look(self) -> Snapshot:
        """Return what is there now, all of it at the same moment."""
        try:
            text: Any = self._client.eval(_DUMP, 0, f"{self._base}*")
        finally:
            self._client.close()
        raw: dict[str, Any] = json.loads(text)
        return _read(self._base, {name: list(words) for name, words in raw.items()})


def _read(base: str, raw: Mapping[str, Sequence[str]]) -> Snapshot:
    def table(name: str) -> dict[str, str]:
        words = raw.get(base + name, ())
        return dict(zip(words[::2], words[1::2], strict=True))

    space, moved, late = table("n"), table("m"), table("l")

    def epoch(key: str) -> int:
        return max(int(space.get(":clear", "0")), int(late.get(key) or moved.get(key, "0")))

    slices: dict[str, dict[str, int]] = defaultdict(dict)
    states, signs = {}, {}
    for name in raw:
        if not name.startswith(f"{base}i:"):
            continue
        instance = name.removeprefix(f"{base}i:")
        for field, text in table(name.removeprefix(base)).items():
            if field == ":state":
                states[instance] = text
            elif field == ":beat":
                signs[instance] = text
            elif not field.startswith(":"):
                value, stamp = map(int, text.split("@"))
                if stamp >= epoch(field):
                    slices[instance][field] = value
    return Snapshot(
        sums={key: int(value) for key, value in space.items() if not key.startswith(":")},
        slices=dict(slices),
        living=frozenset(table("a")),
        states=states,
        names=frozenset(raw),
        signs=signs,
    )
