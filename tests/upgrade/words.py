"""What was said once between counters and the scripts, word by word, and what came of it.

A file of it is JSON. Bytes are written as text, in which ``\\xNN`` is a byte that is not printed
and ``\\x5c`` a backslash, so that people can read it and see in a diff what has changed.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self, TypeAlias

import redis

from distkit_actors._protocol._messages import Reply, Request
from distkit_actors._stores._redis._lua_constants import Word
from distkit_actors._stores._redis._scripts import Script
from distkit_actors._stores._redis._wire import KeyNames, around, encode
from tests.stores.twin import Ear
from tests.upgrade.conversation import PREFIX, Talk, converse

#: What today's package says and does.
TODAY = Path(__file__).with_name("words.json")

Scripts = Mapping[str, Script]

#: What a script answers: one word, or some.
Answer: TypeAlias = bytes | list[bytes]


@dataclass(frozen=True)
class Step:
    """One request, and what it leads to.

    Attributes:
        title: what it is about.
        script: which one runs.
        time: what the script is told, in microseconds.
        words: the instance, and what else it is told but for the time.
        reply: what it answers, in an order that does not depend on the server.
        announced: what it publishes, likewise.
    """

    title: str
    script: str
    time: int
    words: list[bytes]
    reply: Answer
    announced: list[bytes]

    @property
    def instance(self) -> str:
        """Who asks."""
        return self.words[0].decode()


@dataclass(frozen=True)
class Mark:
    """What Redis holds between two steps: the content of each key, and if it has a time to live.

    A hash is a list of pairs in the order of their names, a sorted set one in its own order.
    """

    title: str
    data: dict[bytes, tuple[str, list[list[bytes]], bool]]

    def counts(self) -> dict[bytes, dict[bytes, bytes]]:
        """Return what the hashes have for each key: sums, slices and epochs, by Redis key."""
        return {
            name: counted
            for name, (kind, pairs, _) in self.data.items()
            if kind == "hash"
            and (counted := {field: value for field, value in pairs if field[:1] != b":"})
        }


@dataclass(frozen=True)
class Record:
    """A whole conversation.

    Attributes:
        names: by instance, the Redis keys that each request of it declares.
        channel: where changes are announced.
        story: what happened.
    """

    names: dict[str, list[bytes]]
    channel: bytes
    story: list[Step | Mark]

    @property
    def steps(self) -> list[Step]:
        """What was said."""
        return [told for told in self.story if isinstance(told, Step)]


# ---------------------------------------------------------------------- playing

#: A script, the names that it declares, and its arguments.
Line: TypeAlias = tuple[Script, Sequence[bytes], Sequence[bytes]]

#: The id of every request. It stands behind all words of a request, and is repeated in its reply.
ID = b"7a"

#: Between what two steps announce.
_NEXT = b"\xff\xff"


class Stage:
    """A server on which words are said, in a namespace that is empty before and afterwards."""

    def __init__(self, client: redis.Redis, channel: bytes) -> None:
        self._client = client
        self._channel = channel
        self._loaded: set[bytes] = set()
        self._base = channel.removesuffix(Word.CHANNEL_SUFFIX)
        self._ear = Ear(client, channel)
        self._ear.words()

    def __enter__(self) -> Self:
        self._wipe()
        return self

    def __exit__(self, *_: object) -> None:
        self._ear.pubsub.close()
        self._wipe()

    def say(self, *lines: Line) -> list[tuple[Answer, list[bytes]]]:
        """Run scripts, and return the reply of each and what it has announced, put in order."""
        with self._client.pipeline(transaction=False) as pipeline:
            for script, names, arguments in lines:
                if script.sha not in self._loaded:
                    self._client.execute_command("SCRIPT LOAD", script.source)
                    self._loaded.add(script.sha)
                pipeline.execute_command("EVALSHA", script.sha, len(names), *names, *arguments)
                pipeline.publish(self._channel, _NEXT)
            replies = pipeline.execute()[::2]
        heard = iter(self._ear.words())
        return [
            (
                in_order(without_id(reply, arguments)),
                [_sorted_keys(word) for word in iter(heard.__next__, _NEXT)],
            )
            for reply, (_, _, arguments) in zip(replies, lines, strict=True)
        ]

    def look(self, title: str) -> Mark:
        """Return all there is."""
        names = sorted(self._names())
        with self._client.pipeline(transaction=False) as pipeline:
            for name in names:
                pipeline.type(name).pttl(name)
            found = pipeline.execute()
            types, expiries = [kind.decode() for kind in found[::2]], found[1::2]
            assert set(types) <= {"hash", "zset"}
            for name, kind in zip(names, types, strict=True):
                if kind == "hash":
                    pipeline.hgetall(name)
                else:
                    pipeline.zrange(name, 0, -1, withscores=True)
            contents = pipeline.execute()
        data = {
            name: (kind, _pairs(content), expiry >= 0)
            for name, kind, content, expiry in zip(names, types, contents, expiries, strict=True)
        }
        return Mark(title, data)

    def _names(self) -> list[bytes]:
        return [name for name in self._client.keys(b"dk:*") if name.startswith(self._base)]

    def _wipe(self) -> None:
        if names := self._names():
            self._client.delete(*names)


def _pairs(content: dict[bytes, bytes] | list[tuple[bytes, float]]) -> list[list[bytes]]:
    """Return what is in a hash, by field, or in a sorted set, as it is sorted."""
    if isinstance(content, dict):
        return sorted(map(list, content.items()))
    return [[member, b"%d" % score] for member, score in content]


def arguments_of(script: str, time: int, words: Sequence[bytes]) -> list[bytes]:
    """Return the words of a step as a script is given them, with the time and an id."""
    before, behind = around(script, b"%d" % time, words[0].decode())
    return [*before, *words[1:], *behind, ID]


def without_id(reply: Answer, arguments: Sequence[bytes]) -> Answer:
    """Return a reply without the id of the request, if that had one: steps are told without."""
    if arguments[-1] != ID:
        return reply
    if isinstance(reply, bytes):
        assert reply.startswith(ID + b" ")
        return reply[len(ID) + 1 :]
    assert reply[-1] == ID
    return reply[:-1]


def in_order(reply: Answer) -> Answer:
    """Return a reply with its slices or rows in order: the server has one of its own."""
    if isinstance(reply, bytes):
        return reply
    assert all(isinstance(word, bytes) for word in reply)
    first, width = {Word.LOADED: (2, 2), Word.QUERIED: (4, 3)}.get(reply[0], (len(reply), 1))
    rows = sorted(reply[at : at + width] for at in range(first, len(reply), width))
    return reply[:first] + [word for row in rows for word in row]


def _sorted_keys(announced: bytes) -> bytes:
    return Word.SEPARATOR.join(sorted(announced.split(Word.SEPARATOR)))


def record(client: redis.Redis, scripts: Scripts, decode: Callable[[Answer], Reply]) -> Record:
    """Have the conversation with scripts, and take it down."""
    names = KeyNames(PREFIX)
    told = Record({}, names.channel, [])
    with Stage(client, names.channel) as stage:

        def ask(title: str, time: int, request: Request) -> Reply:
            script, arguments = encode(request)
            words = [request.instance.encode(), *arguments]
            declared = told.names.setdefault(request.instance, [*names.keys(request.instance)])
            line = (scripts[script], declared, arguments_of(script, time, words))
            ((reply, announced),) = stage.say(line)
            told.story.append(Step(title, script, time, words, reply, announced))
            return decode(reply)

        converse(Talk(ask, lambda title: told.story.append(stage.look(title))))
    return told


def play(
    client: redis.Redis,
    told: Record,
    scripts_for: Callable[[Step], Scripts],
    *,
    before_each: Line | None = None,
) -> list[Step | Mark]:
    """Say the words once more; return what happens now.

    ``scripts_for``: gives the scripts that are told a step. ``before_each``: is said ahead of each.
    """
    story: list[Step | Mark] = []
    with Stage(client, told.channel) as stage:
        for is_mark, some in itertools.groupby(told.story, lambda was: isinstance(was, Mark)):
            if is_mark:
                story += [stage.look(was.title) for was in some]
                continue
            steps = [was for was in some if isinstance(was, Step)]
            lines: list[Line] = []
            for was in steps:
                if before_each is not None:
                    lines.append(before_each)
                arguments = arguments_of(was.script, was.time, was.words)
                lines.append((scripts_for(was)[was.script], told.names[was.instance], arguments))
            heard = stage.say(*lines)
            if before_each is not None:
                heard = heard[1::2]
            for was, (reply, announced) in zip(steps, heard, strict=True):
                story.append(replace(was, reply=reply, announced=announced))
    return story


# ---------------------------------------------------------------------- on paper


def to_text(word: bytes) -> str:
    """Return bytes as text that people can read."""
    return "".join(chr(b) if 32 <= b < 127 and b != 92 else f"\\x{b:02x}" for b in word)


def from_text(text: str) -> bytes:
    """Return the bytes that a text stands for."""
    return re.sub(rb"\\x(..)", lambda match: bytes.fromhex(match[1].decode()), text.encode())


def load(text: str) -> Record:
    """Read what `dump` has written."""
    found = json.loads(text)
    story: list[Step | Mark] = []
    for told in found["story"]:
        if "data" in told:
            data = {
                from_text(name): (kind, [list(map(from_text, pair)) for pair in pairs], expires)
                for name, (kind, pairs, expires) in told["data"].items()
            }
            story.append(Mark(told["mark"], data))
        else:
            words, announced = (list(map(from_text, told[part])) for part in ("words", "announced"))
            said = told["reply"]
            reply: Answer = from_text(said) if isinstance(said, str) else list(map(from_text, said))
            story.append(Step(told["step"], told["script"], told["time"], words, reply, announced))
    names = {instance: list(map(from_text, keys)) for instance, keys in found["names"].items()}
    return Record(names, from_text(found["channel"]), story)


def dump(told: Record) -> str:
    """Write a conversation so that people can read it: a line for each part of a step."""
    return _laid_out(
        {
            "channel": to_text(told.channel),
            "names": {name: list(map(to_text, keys)) for name, keys in told.names.items()},
            "story": list(map(_plain, told.story)),
        }
    )


def _plain(told: Step | Mark) -> dict[str, Any]:
    if isinstance(told, Step):
        return {
            "step": told.title,
            "script": told.script,
            "time": told.time,
            "words": list(map(to_text, told.words)),
            "reply": (
                to_text(told.reply)
                if isinstance(told.reply, bytes)
                else list(map(to_text, told.reply))
            ),
            "announced": list(map(to_text, told.announced)),
        }
    data = {
        to_text(name): [kind, [list(map(to_text, pair)) for pair in pairs], expires]
        for name, (kind, pairs, expires) in told.data.items()
    }
    return {"mark": told.title, "data": data}


def _laid_out(value: Any, depth: int = 0) -> str:
    """Return JSON with the members of each object on lines of their own, and lists on one."""
    indent = " " * (depth + 1)
    if isinstance(value, dict) and value:
        lines = [f"{json.dumps(k)}: {_laid_out(v, depth + 1)}" for k, v in value.items()]
        return "{\n" + ",\n".join(indent + line for line in lines) + "\n" + indent[1:] + "}"
    if isinstance(value, list) and value and isinstance(value[0], dict):
        lines = [_laid_out(item, depth + 1) for item in value]
        return "[\n" + ",\n".join(indent + line for line in lines) + "\n" + indent[1:] + "]"
    return json.dumps(value)
