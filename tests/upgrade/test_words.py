"""What is said between counters and scripts is what was promised, and older scripts know it."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Literal

import pytest
import redis

from distkit_actors._namespace._namespace import Namespace
from distkit_actors._protocol._conditions import Eq, Ge, Gt, Le, Lt, Ne
from distkit_actors._protocol._messages import Kind, QueryKind, Rejection, Reply, Request
from distkit_actors._protocol._partitions import part_of
from distkit_actors._stores._redis._lua_constants import Word
from distkit_actors._stores._redis._scripts import SCRIPTS, load_scripts
from distkit_actors._stores._redis._wire import KeyNames, decode, encode
from tests.stores.twin import kinds, normalised
from tests.upgrade import words
from tests.upgrade.conversation import ODD_KEYS, PREFIX, Talk, converse
from tests.upgrade.package import OLD, OLD_WORDS, scripts_of
from tests.upgrade.words import Mark, Record, Scripts, Step


@pytest.fixture(scope="module")
def long_ago(old_package: Path) -> Record:
    """What the old package said and was told."""
    return words.load((old_package / OLD_WORDS).read_text("utf-8"))


@pytest.fixture(scope="module")
def old_scripts(old_package: Path) -> Scripts:
    return scripts_of(old_package)


FIRST_ENTRY = 4  # among the words of a batch
REPLIES = {
    Word.DONE,
    Word.RESUME,
    Word.CONFLICT,
    Word.MISMATCH,
    Word.STALE,
    Word.WATCHED,
    Word.PEEKED,
    Word.OPENED,
    Word.LOADED,
    Word.QUERIED,
    Word.FORGOTTEN,
}


# -------------------------------------------------------------------------------- today


def test_requests_are_written_as_they_were(today: Record) -> None:
    steps = iter(today.steps)

    def ask(title: str, time: int, request: Request) -> Reply:
        step = next(steps)
        script, arguments = encode(request)
        said = (title, script, time, [request.instance.encode(), *arguments])
        assert said == (step.title, step.script, step.time, step.words)
        return decode(step.reply)

    converse(Talk(ask, lambda title: None))
    assert next(steps, None) is None


def test_scripts_answer_and_announce_and_store_what_they_did(
    client: redis.Redis, today: Record
) -> None:
    story = words.play(client, today, lambda _: load_scripts())
    for was, now in zip(today.story, story, strict=True):
        assert now == was


def test_replies_are_read_as_what_they_meant(today: Record) -> None:
    """That is what the store's half of the protocol in Python replies."""
    namespace, steps = Namespace(), iter(today.steps)

    def ask(title: str, time: int, request: Request) -> Reply:
        reply, read = namespace.execute(request, time), decode(next(steps).reply)
        assert (normalised(read), kinds(read)) == (normalised(reply), kinds(reply)), title
        return read

    converse(Talk(ask, lambda title: None))
    assert next(steps, None) is None


def test_names_are_what_they_were(today: Record) -> None:
    names = KeyNames(PREFIX)
    assert {i: [*names.keys(i)] for i in today.names} == today.names
    assert names.channel == today.channel


def test_keys_and_parts_are_where_they_were() -> None:
    assert [part_of(key, 256) for key in ODD_KEYS] == [63, 132, 189, 58, 157, 220, 75, 9, 247]
    assert [KeyNames.base("a%}", part) for part in (0, 1, 2, 100, 255)] == [
        "dk:{p.a%25%7D}",
        "dk:{p1.a%25%7D.0b}",
        "dk:{p2.a%25%7D.3d}",
        "dk:{p100.a%25%7D.12}",
        "dk:{p255.a%25%7D.24}",
    ]


def test_every_word_is_said(today: Record) -> None:
    """Whoever adds one has to add to the conversation."""
    kinds_said, behind, results = set(), set(), set()
    for step in today.steps:
        if step.script == "apply":
            for word in step.words[FIRST_ENTRY::4]:
                kinds_said.add(word[:1])
                behind |= set(re.findall(rb"[gco]|[=~<>][=.]", word[1:]))
            if isinstance(step.reply, bytes):
                results |= _results(step.reply)
            elif step.reply[0] == Word.DONE:
                results |= _results(step.reply[1])
    assert kinds_said == {kind.value.encode() for kind in Kind} | {Word.FOLDED}
    signs = {kind.sign.encode() for kind in (Eq, Ne, Lt, Le, Gt, Ge)}
    assert behind == {Word.GUARDED, Word.OF_CUMULATIVE, Word.OF_OWN} | signs
    on_wire = {Rejection.REFUSED, Rejection.SPLIT, Rejection.MOVED, Rejection.UNDONE}
    assert {sign.value.encode() for sign in on_wire} < results
    assert any(result.endswith(Word.UNMET) for result in results)
    # What that one is told is what "apply" is.
    assert {step.script for step in today.steps} == set(SCRIPTS) - {"beats"}
    topics = {step.words[1] for step in today.steps if step.script == "query"}
    assert topics == {kind.value.encode() for kind in QueryKind}
    assert {step.reply[0] for step in today.steps if isinstance(step.reply, list)} == REPLIES
    assert any(isinstance(step.reply, bytes) for step in today.steps)
    announced = {word for step in today.steps for word in step.announced}
    assert Word.ANY_KEY in announced
    assert any(Word.SEPARATOR in word for word in announced - {Word.ANY_KEY})


def _results(answer: bytes) -> set[bytes]:
    return set(answer.partition(b" ")[0].split(b"|")[2].split(b";"))


# ---------------------------------------------------------------- old ones and new ones


@pytest.mark.parametrize("words_of", ["today", "long_ago"])
@pytest.mark.parametrize("first", ["old", "new"])
def test_old_and_new_scripts_in_turn_are_like_one(
    words_of: Literal["today", "long_ago"],
    first: Literal["old", "new"],
    client: redis.Redis,
    long_ago: Record,
    old_scripts: Scripts,
    request: pytest.FixtureRequest,
) -> None:
    """Each works on what the other has left in Redis, and does the same with it.

    What the old package has never said is said to today's scripts alone, as it would be.
    """
    told: Record = request.getfixturevalue(words_of)
    scripts = (old_scripts, load_scripts())
    turns = itertools.cycle(scripts if first == "old" else scripts[::-1])
    known = {step.title for step in long_ago.steps}

    def scripts_for(step: Step) -> Scripts:
        return next(turns) if step.title in known else load_scripts()

    story = words.play(client, told, scripts_for)
    for was, now in zip(told.story, story, strict=True):
        if isinstance(was, Mark) and isinstance(now, Mark):
            assert now.counts() == was.counts(), was.title
        else:
            assert isinstance(was, Step)
            assert isinstance(now, Step)
            reply, expected = decode(now.reply), decode(was.reply)
            assert (normalised(reply), kinds(reply)) == (normalised(expected), kinds(expected)), was
            assert now.announced == was.announced, was.title


def test_the_copy_is_small() -> None:
    """As it is in every clone."""
    assert OLD.stat().st_size < 250_000
