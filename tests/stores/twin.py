"""A namespace kept twice, in Redis and in memory, that must never differ."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from distkit_actors._namespace import _epochs
from distkit_actors._namespace._namespace import Namespace
from distkit_actors._namespace._observed_time import RECENT_PART, Blackouts, Heard
from distkit_actors._namespace._registry import State
from distkit_actors._protocol._messages import (
    Applied,
    Apply,
    Loaded,
    Periods,
    Query,
    QueryPage,
    Reply,
    Request,
    Watch,
)
from distkit_actors._stores._redis._correlation import reply_of
from distkit_actors._stores._redis._heartbeats import NOT_DONE
from distkit_actors._stores._redis._lua_constants import ARCHIVE_HASHES, CONSTANTS, Word
from distkit_actors._stores._redis._scripts import (
    SCRIPTS,
    Script,
    load_scripts,
    read_sources,
    render,
)
from distkit_actors._stores._redis._wire import KeyNames, around, decode, encode, read_key

# What the scripts keep in a hash beside keys.
SPACE_FIELDS = {
    ":born",
    ":clear",
    ":clock",
    ":due",
    ":floor",
    ":last",
    ":latest",
    ":parts",
    ":shift",
    ":watch",
}
OWN_FIELDS = {
    ":inc",
    ":nonce",
    ":inherited",
    ":head",
    ":reply",
    ":state",
    ":thr",
    ":until",
    ":int",
    ":ret",
    ":hold",
    ":beat",
    ":lost",
    ":graced",
    ":swept",
    ":pad",
}

#: Limits of the journal so low that moves go to the archive at once.
ARCHIVING = {
    "JOURNAL_KEPT": 0,
    "ARCHIVE_AT_LEAST": 1,
    "ARCHIVE_AT_MOST": 2,
    "SEGMENTS_OF_RETENTION": 60,
    "MAX_SEGMENTS": 3,
}
#: And so few hashes that each has several keys.
FEW_HASHES = 3

#: The instant at which a twin begins, in microseconds.
START = 1_700_000_000_000_000


def connect(url: str, timeout: float | None = None) -> redis.Redis:
    # With one connection: what a pool does for each command takes as long as the command.
    return redis.Redis.from_url(
        url,
        protocol=2,
        retry=Retry(NoBackoff(), 0),
        socket_timeout=timeout,
        single_connection_client=True,
    )


def ask(client: redis.Redis, *commands: Sequence[bytes | str | int]) -> list[Any]:
    """Send commands together, and return the answers as the server gives them."""
    connection = client.connection
    assert connection is not None
    connection.send_packed_command(connection.pack_commands(commands))
    answers, refusals = [], []
    for _ in commands:  # else the next to ask would read what is left
        try:
            answers.append(connection.read_response())
        except redis.ResponseError as error:
            refusals.append(error)
    if refusals:
        raise refusals[0]
    return answers


Scripts = Mapping[str, Script]
#: A segment of the archive: the stamps of its first and last move, and the epochs of its keys.
Archived = tuple[int, int, dict[str, int]]

#: From here on the scripts do not compare instants as strings.
_FAR = 9 * 10**15

#: The id of every request.
ID = b"id"

#: More than any test has in all pages of one answer.
MOST_ROWS = 100_000


_COUNT = b"""
local words = {}
for index = 4, #ARGV - 1, 4 do
  words[#words + 1] = string.sub(ARGV[index], 2)
end
words = table.concat(words)
local way = lone_reply and 'lone' or not common and 'slow'
  or common.overdue and 'reaping' or 'quick'
redis.call('HINCRBY', 'paths', way, 1)
redis.call('HINCRBY', 'paths', way .. ' with conditions', string.find(words, '[co]') and 1 or 0)
redis.call('HINCRBY', 'paths', way .. ' with guards', string.find(words, 'g', 1, true) and 1 or 0)
redis.call('HINCRBY', 'paths', way .. ' all or none', string.sub(ARGV[1], 1, 1) == 'w' and 1 or 0)
"""

_COUNT_BEATS = {
    b"    local answer = noted and at .. '|0|' or later\n": (
        b"redis.call('HINCRBY', 'paths', 'beat', 1)\n"
    ),
    b"    if noted then\n": b"redis.call('HINCRBY', 'paths', 'beat soon after another', 1)\n",
    b"    if overdue then\n": b"redis.call('HINCRBY', 'paths', 'beat past a deadline', 1)\n",
}


def counting_paths() -> Scripts:
    """The scripts, which count in a Redis hash "paths" how often each way was gone."""
    source = load_scripts()["apply"].source
    at_once = b"if lone_reply and not lone_change then"
    later = b"local common = read_common()"
    assert source.count(at_once) == source.count(later) == 1
    alone = b"if lone_reply then\nlocal common\n" + _COUNT + b"end\n"
    source = source.replace(at_once, alone + at_once).replace(later, later + _COUNT)
    together = load_scripts()["beats"].source
    for begin, count in _COUNT_BEATS.items():
        assert source.count(begin) == together.count(begin) == 1
        source, together = (each.replace(begin, begin + count) for each in (source, together))
    return {**load_scripts(), "apply": _script(source), "beats": _script(together)}


_COUNT_REAPING = {
    b"  local living, with_sums = fast_reap(common)\n": (
        b"redis.call('HINCRBY', 'reaping', living and 'short' or 'long', 1)\n"
    ),
    b"    moved = call('ZMSCORE', front .. 'm', unpack(keys))\n": (
        b"redis.call('HINCRBY', 'reaping', 'where keys have moved', 1)\n"
    ),
}


def counting_reaping() -> Scripts:
    """The scripts, which count in a Redis hash "reaping" which way that went."""
    source = load_scripts()["apply"].source
    for line, count in _COUNT_REAPING.items():
        assert source.count(line) == 1
        source = source.replace(line, line + count)
    return {**load_scripts(), "apply": _script(source)}


def with_constants(changed: Mapping[str, int]) -> Scripts:
    """The scripts, with other limits."""
    constants = {**CONSTANTS, **changed}
    return {name: render(name, read_sources(), constants) for name in SCRIPTS}


def _script(source: bytes) -> Script:
    return Script(source, hashlib.sha1(source, usedforsecurity=False).hexdigest().encode())


class LuaStore:
    """The scripts by themselves: no trio, and a clock that is told the time."""

    def __init__(self, client: redis.Redis, prefix: str, scripts: Scripts | None = None) -> None:
        self.client = client
        self.names = KeyNames(prefix)
        self.base = f"{KeyNames.base(prefix)}:".encode()
        self.scripts = scripts or load_scripts()
        self.heartbeats = 0

    def execute(self, request: Request, now: int | None = None) -> Reply:
        name, arguments = encode(request)
        time = b"" if now is None else b"%d" % now
        before, behind = around(name, time, request.instance)
        keys = self.names.main_keys(request.instance)
        if isinstance(request, Apply) and not (request.entries or request.leave or request.atomic):
            self.heartbeats += 1
            if self.heartbeats % 2:  # half of them travel with others, if there are any
                heads, limits = arguments[:2], arguments[2]
                (answer,) = self.call("beats", 2, *keys, limits, ID, *heads, *behind)
                if answer != ID + NOT_DONE:
                    return decode(reply_of(answer, ID))
        return decode(self.call(name, 2, *keys, *before, *arguments, *behind))

    def call(self, name: str, *words: bytes | int) -> Any:
        """Have a script executed. Heartbeats bring an id each, all others are given one here."""
        script, own_ids = self.scripts[name], name == "beats"
        command = ("EVALSHA", script.sha, *words, *(() if own_ids else (ID,)))
        try:
            (answer,) = ask(self.client, command)
        except redis.exceptions.NoScriptError:
            _, answer = ask(self.client, ("SCRIPT", "LOAD", script.source), command)
        return answer if own_ids else reply_of(answer, ID)

    def names_in_use(self) -> list[bytes]:
        """Every Redis key of the namespace."""
        return [key for key in self.client.keys(b"dk:*") if key.startswith(self.base)]

    def wipe(self) -> None:
        if names := self.names_in_use():
            self.client.delete(*names)

    def hash_of(self, instance: str) -> bytes:
        return self.base + b"i:" + instance.encode()

    def expiring(self) -> list[bytes]:
        """Which Redis keys that all instances share have a time to live."""
        first, _, *others = self.names.keys("")
        keys = (first, *others)
        left = ask(self.client, *(("PTTL", key) for key in keys))
        return [key for key, time in zip(keys, left, strict=True) if time >= 0]

    # Everything in it, in terms of the reference.

    def dump(self) -> dict[str, Any]:
        names, words, late, *scores = ask(
            self.client,
            ("KEYS", "dk:*"),
            ("HGETALL", self.base + b"n"),
            ("HGETALL", self.base + b"l"),
            *(
                ("ZRANGE", self.base + suffix, 0, -1, "WITHSCORES")
                for suffix in (b"m", b"a", b"h", b"d")
            ),
        )
        moved, deadlines, known, queue = map(_scores, scores)
        found = list(_pairs(words))
        namespace = {k.decode(): v.decode() for k, v in found if k.startswith(b":")}
        space = {field: int(namespace.get(field, 0)) for field in sorted(SPACE_FIELDS)}
        sums = {read_key(key): int(sum_) for key, sum_ in found if not key.startswith(b":")}
        space[":parts"] = max(1, space[":parts"])  # there is always one
        records = {}
        self._check_bounds(space, namespace)
        prefix = self.base + b"i:"
        hashes = [name for name in names if name.startswith(prefix)]
        fields = ask(self.client, *(("HGETALL", name) for name in hashes))
        left = ask(self.client, *(("PTTL", name) for name in hashes))
        for name, own, time in zip(hashes, fields, left, strict=True):
            records[name.removeprefix(prefix).decode()] = self._record(dict(_pairs(own)), time)
        return {
            "space": space,
            "by_periods": _paces(namespace.get(":paces", "")),
            "sums": sums,
            "moved": moved,
            "late": {read_key(key): int(stamp) for key, stamp in _pairs(late)},
            "archive": self._archive(names, namespace.get(":segments", "")),
            "deadlines": deadlines,
            "known": known,
            "reap_queue": list(queue),
            "records": records,
        }

    def _archive(self, names: Sequence[bytes], listed: str) -> list[Archived]:
        """The listed segments, each with what its hashes have; and what belongs to none of them."""
        prefix = self.base + b"s:"
        numbers = [int(name.removeprefix(prefix)) for name in names if name.startswith(prefix)]
        hashes = ask(self.client, *(("HGETALL", prefix + b"%d" % number) for number in numbers))
        found = dict[int, dict[str, int]]()
        for number, words in zip(numbers, hashes, strict=True):
            pairs = [pair for pair in _pairs(words) if pair[0] != b":pad"]
            epochs = {read_key(key): int(epoch) for key, epoch in pairs}
            found.setdefault(number // ARCHIVE_HASHES, {}).update(epochs)
        archive = list[Archived]()
        for segment in filter(None, listed.split(";")):
            place, first, last = map(int, segment.split(","))
            assert place < _epochs.MAX_SEGMENTS
            archive.append((first, last, found.pop(place, {})))
        return archive + [(0, 0, epochs) for epochs in found.values()]

    def _check_bounds(self, space: dict[str, int], written: dict[str, str]) -> None:
        """What is made of the other fields of the namespace, for lone steps."""
        if not space[":born"]:
            assert not written.keys() & {":from", ":to"}
            return
        shift, watch = space[":shift"], space[":watch"]
        since, *tail = written[":from"].split(" ")
        assert since == f"{space[':clock']:016}"
        assert space[":last"] - shift <= space[":clock"]
        if tail or shift or watch > int(since):
            assert tail == [f"{shift}", f"{watch:016}"]
        until, *told = written[":to"].split(" ")
        to = min(max(0, space[":due"] - shift - 1), _FAR)
        if max(int(since), space[":last"], watch) >= _FAR:
            to = 0
        assert until == f"{to:016}"
        assert told == [str(space[field]) for field in (":clear", ":floor", ":latest")]

    def _record(self, found: dict[bytes, bytes], left: int) -> dict[str, Any]:
        fields = {k.decode(): v.decode() for k, v in found.items() if k.startswith(b":")}
        assert fields.keys() >= OWN_FIELDS
        done = decode([b"done", fields[":reply"].encode()])
        threshold, beat = int(fields[":thr"]), int(fields[":beat"])
        until = f"{beat + threshold // RECENT_PART:016}" if fields[":state"] == "live" else "0"
        assert fields[":until"] == until
        known, incarnation, seq = fields[":head"].split(" ")
        assert (known, incarnation) == (f"{int(fields[':hold']):016}", fields[":inc"])
        slices = {}
        for name, word in found.items():
            if not name.startswith(b":"):
                value, stamp = word.split(b"@")
                assert len(stamp) == 16  # it is cut off by its length
                slices[read_key(name)] = (int(value), int(stamp))
        return {
            "incarnation": int(fields[":inc"]),
            "nonce": fields[":nonce"],
            "about": fields[":pad"].rstrip(" "),
            "inherited": fields[":inherited"] == "1",
            "seq": int(seq),
            "reply": done,
            "state": fields[":state"],
            "periods": Periods(int(fields[":thr"]), int(fields[":int"]), int(fields[":ret"])),
            "heard": Heard(int(fields[":beat"]), int(fields[":lost"]), int(fields[":graced"])),
            "known": int(fields[":hold"]),
            "swept": int(fields[":swept"]),
            "slices": slices,
            "expires": left >= 0,
        }


def _pairs(words: Sequence[bytes]) -> Iterator[tuple[bytes, bytes]]:
    return zip(words[::2], words[1::2], strict=True)


def _scores(words: Sequence[bytes]) -> dict[str, int]:
    return {read_key(member): int(float(score)) for member, score in _pairs(words)}


def _paces(text: str) -> dict[tuple[int, int], Blackouts]:
    by_periods = {}
    for periods in filter(None, text.split(";")):
        threshold, interval, *numbers = map(int, periods.split(","))
        by_periods[threshold, interval] = Blackouts(*numbers)
    return by_periods


def dump_namespace(namespace: Namespace) -> dict[str, Any]:
    registry, epochs = namespace.registry, namespace.registry.epochs
    return {
        "space": {
            ":born": namespace.born,
            ":clear": epochs.cleared,
            ":clock": namespace.clock,
            ":due": registry.due,
            ":floor": epochs.floor,
            ":last": registry.observed.last,
            ":latest": epochs.latest,
            ":parts": registry.partitions,
            ":shift": registry.observed.shift,
            ":watch": namespace.watched,
        },
        "by_periods": registry.observed.by_periods,
        "sums": registry.sums,
        "moved": epochs.moved,
        "late": epochs.late,
        "archive": [(each.first, each.last, each.epochs) for each in epochs.archive],
        "deadlines": {i: r.deadline for i, r in registry.records.items() if r.state is State.LIVE},
        "known": {i: record.known for i, record in registry.contributors()},
        "reap_queue": list(registry.reap_queue),
        "records": {
            instance: {
                "incarnation": record.incarnation,
                "nonce": record.nonce,
                "about": record.about,
                "inherited": record.inherited,
                "seq": record.seq,
                "reply": record.reply,
                "state": record.state.value,
                "periods": record.periods,
                "heard": record.heard,
                "known": record.known,
                "swept": record.swept,
                "slices": {key: tuple(own) for key, own in record.slices.items()},
                "expires": instance in registry.expiring,
            }
            for instance, record in registry.records.items()
        },
    }


def kinds(reply: Reply) -> list[type]:
    """Of which kind each result is: as tuples, what was executed equals what was declined."""
    return [type(result) for result in reply.results] if isinstance(reply, Applied) else []


def normalised(reply: Reply) -> Reply:
    """A reply without the order that does not matter: of moves in one step, of slices and rows."""
    if isinstance(reply, Loaded):
        return reply._replace(slices=sorted(reply.slices))
    if isinstance(reply, QueryPage):
        rows = sorted(set(zip(reply.rows, reply.about or [None] * len(reply.rows), strict=True)))
        about = [said for _, said in rows if said is not None]
        return reply._replace(rows=[row for row, _ in rows], about=about)
    if isinstance(reply, Applied) and reply.journal is not None:
        moves = tuple(sorted(reply.journal.moves))
        return reply._replace(journal=reply.journal._replace(moves=moves))
    return reply


class Ear:
    """Hears what the scripts announce."""

    def __init__(self, client: redis.Redis, channel: bytes) -> None:
        self.pubsub = client.pubsub(ignore_subscribe_messages=True)
        self.pubsub.subscribe(channel)

    def heard(self) -> list[frozenset[str] | None]:
        """Everything announced up to now; None is "any key"."""
        announced: list[frozenset[str] | None] = []
        for word in self.words():
            if word == Word.ANY_KEY:
                announced.append(None)
                continue
            names = list(map(read_key, word.split(Word.SEPARATOR)))
            assert len(set(names)) == len(names)
            announced.append(frozenset(names))
        return announced

    def words(self) -> list[bytes]:
        """The same, as it is announced."""
        announced: list[bytes] = []
        self.pubsub.ping("all")
        deadline = monotonic() + 30
        while True:
            message = self.pubsub.get_message(timeout=5)
            if message is None:
                assert monotonic() < deadline, "the server does not answer"
                continue  # it was the confirmation of our subscription
            if message["type"] == "pong":
                return announced
            announced.append(message["data"])


@dataclass
class Snapshot:
    namespace: Namespace
    keys: dict[bytes, tuple[bytes, int]]


class Twin:
    """Runs everything twice and compares."""

    def __init__(self, client: redis.Redis, prefix: str, scripts: Scripts | None = None) -> None:
        self.lua = LuaStore(client, prefix, scripts)
        self.namespace = Namespace()
        self.now = START
        self.ear: Ear | None = None
        self.announced: list[frozenset[str] | None] = []

    def execute(self, request: Request) -> Reply:
        self._expire()
        if self.ear is None and (isinstance(request, Watch) or self.namespace.watched):
            self.ear = Ear(self.lua.client, self.lua.names.channel)
        sums = self.namespace.registry.sums.copy()
        expected = self.namespace.execute(request, self.now)
        actual = self.lua.execute(request, self.now)
        if isinstance(request, Query):
            actual = self._all_pages(request, actual)
        assert normalised(actual) == normalised(expected), request
        assert kinds(actual) == kinds(expected), request
        self._note(sums)
        return expected

    def _all_pages(self, request: Query, page: Reply) -> Reply:
        """Read the pages behind a first one; the reference has but one."""
        rows: list[tuple[str, int, bool]] = []
        about: list[tuple[int, str]] = []
        while True:
            assert isinstance(page, QueryPage)
            rows += page.rows
            assert len(rows) < MOST_ROWS, "the pages do not end"
            about += page.about
            if not page.cursor:
                return page._replace(rows=rows, about=about)
            page = self.lua.execute(request._replace(cursor=page.cursor), self.now)

    def _note(self, before: dict[str, int]) -> None:
        """Take down what is announced, and see that it names all that changed."""
        changed = self.namespace.changed
        if changed is None or changed:
            self.announced.append(changed)
        if changed is not None and self.now < self.namespace.watched:
            after = self.namespace.registry.sums
            assert {k for k, _ in before.items() ^ after.items()} <= changed

    def compare(self) -> None:
        self._expire()
        found = self.lua.dump()
        assert found == dump_namespace(self.namespace)
        if found["deadlines"] or found["reap_queue"]:
            assert not self.lua.expiring(), "the namespace goes though somebody is in it"
        assert (self.ear.heard() if self.ear else []) == self.announced
        self.announced.clear()

    def check_sums(self) -> None:
        """Sums are those of the slices that count, and fit (P9, exact sums)."""
        registry = self.namespace.registry
        counted: dict[str, int] = {}
        for _, record in registry.contributors():
            for key, own in record.slices.items():
                if own.stamp >= registry.epochs.of(key):
                    counted[key] = counted.get(key, 0) + own.value
        assert {k: v for k, v in counted.items() if v} == registry.sums

    def wipe(self) -> None:
        self.namespace = Namespace()
        self.lua.wipe()
        if self.ear:
            self.ear.pubsub.close()
            self.ear = None
        self.announced.clear()

    def snapshot(self) -> Snapshot:
        client = self.lua.client
        return Snapshot(
            copy.deepcopy(self.namespace),
            {key: (client.dump(key), max(0, client.pttl(key))) for key in self.lua.names_in_use()},
        )

    def roll_back(self, snapshot: Snapshot) -> None:
        self.namespace = copy.deepcopy(snapshot.namespace)
        self.lua.wipe()
        for key, (content, ttl) in snapshot.keys.items():
            self.lua.client.restore(key, ttl, content)

    def _expire(self) -> None:
        """Forget what has expired: Redis would, but its clock is not the one of the test."""
        records = self.namespace.registry.records
        before = set(records)
        count = 0
        while count != (count := len(records)):  # a few at a time
            self.namespace.registry.expire(self.now)
        for instance in before - set(records):
            assert self.lua.client.pttl(self.lua.hash_of(instance)) > 0
            self.lua.client.delete(self.lua.hash_of(instance))
