"""Requests and replies on the wire: what was written is what is read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot

from distkit_actors._protocol._conditions import Condition, Eq, Ge, Gt, Le, Lt, Ne
from distkit_actors._protocol._messages import (
    JUST_COME,
    Applied,
    Apply,
    ConditionFailed,
    Conflict,
    Entry,
    Forget,
    Forgotten,
    Journal,
    Kind,
    Load,
    Loaded,
    Mismatch,
    MustResume,
    Open,
    Opened,
    Peek,
    Peeked,
    Periods,
    Previous,
    Query,
    QueryKind,
    QueryPage,
    Rejection,
    Reply,
    Result,
    Resume,
    Stale,
    Watch,
    Watched,
)
from distkit_actors._protocol._values import INT64_MAX, INT64_MIN
from distkit_actors._stores._redis._wire import KeyNames, decode, encode, read_key, write_key

PERIODS: Final = Periods(30_000_000, 10_000_000, 3_600_000_000)
CONDITIONS: Final = {kind.sign: kind for kind in (Eq, Ne, Lt, Le, Gt, Ge)}
SIGNS: Final = [Rejection.REFUSED, Rejection.SPLIT, Rejection.MOVED, Rejection.UNDONE]

int64 = st.integers(INT64_MIN, INT64_MAX)
stamps = st.integers(0, 2**53)
#: With all that has a meaning somewhere in the messages, or in the name of a key.
names = st.text(":%725DFab0-}{.@,;|?!*\0\né語😀\U0010ffffþÿ ", min_size=1, max_size=6)


# -------------------------------------------------------------------------------- entries


def read_entries(words: Sequence[bytes]) -> list[Entry]:
    """Read entries by the heads of the scripts: word, key, value, after, and again."""
    groups = zip(words[::4], words[1::4], words[2::4], words[3::4], strict=True)
    return [read_entry(word.decode(), *rest) for word, *rest in groups]


def read_entry(word: str, key: bytes, value: bytes, after: bytes) -> Entry:
    kind, folded, rest = Kind("+" if word[0] == "&" else word[0]), word[0] == "&", word[1:]
    if kind is Kind.FORGET:
        return Entry(kind, value.decode(), 0)
    guarded, rest = rest.startswith("g"), rest.removeprefix("g")
    condition = CONDITIONS[rest[1:3]](int(rest[3:])) if rest else None
    amount, _, stamp = value.partition(b"@")
    return Entry(
        kind,
        read_key(key),
        int(amount),
        int(after) if after else None,
        folded,
        int(stamp or 0),
        condition,
        rest[:1] == "o",
        guarded,
    )


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    kind, key, value = draw(st.sampled_from(Kind)), draw(names), draw(int64)
    if kind is Kind.FORGET:
        return Entry(kind, key, 0)
    condition: Condition | None = None
    if kind in (Kind.ADD, Kind.PUT, Kind.MOVE):
        build = st.sampled_from(sorted(CONDITIONS)).map(CONDITIONS.__getitem__)
        condition = draw(st.none() | build.flatmap(int64.map))
    adds = kind in (Kind.ADD, Kind.CLAIM)
    return Entry(
        kind,
        key,
        value,
        draw(st.none() | int64) if adds else None,
        kind is Kind.ADD and condition is None and draw(st.booleans()),
        draw(stamps) if kind is Kind.CLAIM else 0,
        condition,
        condition is not None and draw(st.booleans()),
        kind in (Kind.ADD, Kind.PUT, Kind.CLAIM) and draw(st.booleans()),
    )


@given(st.lists(entries(), max_size=5), st.booleans(), stamps)
def test_a_batch_is_read_as_it_was_written(batch: list[Entry], leave: bool, before: int) -> None:
    request = Apply("me", 7, 9, 5, PERIODS, batch, leave, budget=12, before=before)
    script, words = encode(request)
    assert script == "apply"
    assert words[:3] == [
        b"l" * leave + b"0000000000000005 7 %d" % before,
        b"0000000000000005 7 9",
        b"30000000 10000000 3600000000 12",
    ]
    assert read_entries(words[3:]) == batch


@given(st.lists(entries(), max_size=3), st.lists(st.tuples(names, stamps), max_size=3))
def test_a_part_of_a_resume_is_read_as_it_was_written(
    claims: list[Entry], moves: list[tuple[str, int]]
) -> None:
    request = Resume("me", 7, 9, 5, PERIODS, 11, True, 4, moves, claims, "it is me", since=3)
    script, words = encode(request)
    assert script == "resume"
    assert words[:6] == [b"7", b"9", b"5", b"30000000", b"10000000", b"3600000000"]
    assert words[6:10] == [b"11", b"1", b"4", b"%d" % len(moves)]
    assert words[10:12] == [b"it is me", b"3"]
    pairs = words[12 : 12 + 2 * len(moves)]
    assert [(read_key(k), int(e)) for k, e in zip(pairs[::2], pairs[1::2], strict=True)] == moves
    assert read_entries(words[12 + 2 * len(moves) :]) == claims


def test_an_atomic_batch_has_a_word_of_its_own() -> None:
    words = encode(Apply("me", 7, 9, 5, PERIODS, (), atomic=True))[1]
    assert words[0] == b"w0000000000000005 7 8"


def test_the_other_requests_are_a_few_words() -> None:
    assert encode(Peek("me")) == ("peek", [])
    assert encode(Load("me", 7, 2, "500")) == ("load", [b"7", b"2", b"500"])
    assert encode(Watch("me", 5)) == ("watch", [b"5"])
    assert encode(Query("me", QueryKind.SLICES, "é", "3")) == (
        "query",
        [b"slices", "é".encode(), b"3", b""],
    )
    assert encode(Query("", QueryKind.VALUES, keys=("é", ":k"), observed=JUST_COME)) == (
        "query",
        [b"values", b"", b"", b"-1", "é".encode(), b"\xfe:k"],
    )
    assert encode(Query("me", QueryKind.SLICES, ":inc"))[1][1] == b"\xfe:inc"
    assert encode(Query("me", QueryKind.HELD, ":inc"))[1][1] == b":inc"
    assert encode(Forget("", "you")) == ("forget", [b"you"])
    periods = [b"30000000", b"10000000", b"3600000000"]
    assert encode(Open("me", "n.1", 7, 3, True, PERIODS, refuse=True, about="é")) == (
        "open",
        [b"n.1", b"7", b"3", b"1", *periods, b"1", "é".encode(), b"1"],
    )
    assert encode(Open("me", "n.1", 7, 3, True, PERIODS, partitions=16))[1][-1] == b"16"


def test_a_first_part_of_a_resume_says_over_how_many_parts_the_namespace_is_spread() -> None:
    for first, word in ((True, b"16"), (False, b"0")):
        request = Resume("me", 7, 9, 5, PERIODS, 11, first, partitions=16)
        assert encode(request)[1][7] == word


# -------------------------------------------------------------------------------- replies


def write_result(result: Result) -> str:
    if isinstance(result, Rejection):
        return result.value
    mark = "?" if isinstance(result, ConditionFailed) else ""
    return f"{result.cumulative},{result.slice}{mark}"


def write(reply: Reply) -> list[bytes]:
    """Write a reply as the heads of the scripts say it."""
    match reply:
        case Applied(at, results, journal, backlog, stuck, again):
            said = ";".join(map(write_result, results))
            words: list[object] = ["done", f"{at}|{again:d}|{said}"]
            if journal is not None:
                moves = ((write_key(key), epoch) for key, epoch in journal.moves)
                words += [int(backlog), stuck, *journal[:3], *flat(moves)]
                words += [journal.archived] if journal.archived else []
        case MustResume(recorded, born):
            words = ["resume", "" if recorded is None else recorded, born]
        case Conflict(incarnation):
            words = ["conflict", incarnation]
        case Mismatch(partitions):
            words = ["mismatch", partitions]
        case Peeked(incarnation, born, alive):
            words = ["peeked", incarnation, born, int(alive)]
        case Opened(incarnation, known, inherited, leftovers):
            words = ["opened", incarnation, known, int(inherited), int(leftovers)]
        case Loaded(cursor, slices):
            words = [
                "loaded",
                cursor,
                *flat((write_key(k), f"{v}@{stamp}") for k, v, stamp in slices),
            ]
        case Forgotten(left, gone):
            words = ["forgotten", left, gone]
        case QueryPage(cursor, rows, at, about, partitions):
            said_of = [f"{incarnation} {text}  " for incarnation, text in about]
            said_of = said_of or [""] * len(rows)
            flags = zip(rows, said_of, strict=True)
            write_name = str.encode if about else write_key  # of instances, or of keys
            page = flat((write_name(name), n, f"{flag:d}{more}") for (name, n, flag), more in flags)
            words = ["surveyed", cursor, at, partitions, *page]
        case Stale() | Watched():
            words = [type(reply).__name__.lower()]
    return [word if isinstance(word, bytes) else str(word).encode() for word in words]


def flat(rows: Iterable[Iterable[object]]) -> list[object]:
    return [word for row in rows for word in row]


results = st.one_of(
    st.builds(Previous, int64, int64),
    st.builds(ConditionFailed, int64, int64),
    st.sampled_from(SIGNS),
)
journals = st.builds(
    Journal,
    stamps,
    stamps,
    stamps,
    st.lists(st.tuples(names, stamps), max_size=3).map(tuple),
    stamps,
)


@st.composite
def answers(draw: st.DrawFn) -> Applied:
    some = draw(st.lists(results, max_size=5) | st.lists(st.builds(Previous, int64, int64)))
    journal, again = draw(st.none() | journals), draw(st.booleans())
    if journal is None:  # the stored answer, which tells of nothing else
        return Applied(draw(stamps), tuple(some), again=again)
    return Applied(draw(stamps), tuple(some), journal, draw(st.booleans()), draw(stamps), again)


replies = st.one_of(
    answers(),
    st.builds(MustResume, st.none() | stamps, stamps),
    st.builds(Conflict, stamps),
    st.builds(Mismatch, st.integers(1, 256)),
    st.builds(Stale),
    st.builds(Watched),
    st.builds(Forgotten, stamps, stamps),
    st.builds(Peeked, stamps, stamps, st.booleans()),
    st.builds(Opened, stamps, stamps, st.booleans(), st.booleans()),
    st.builds(Loaded, st.just("") | st.just("500"), st.lists(st.tuples(names, int64, stamps))),
    st.builds(
        QueryPage,
        st.just("") | st.just("5"),
        st.lists(st.tuples(names, int64, st.booleans())),
        stamps,
        st.just([]),
        st.integers(0, 256),
    ),
    st.builds(
        lambda rows: QueryPage("", [row for row, _ in rows], 7, [about for _, about in rows]),
        st.lists(
            st.tuples(
                st.tuples(names, int64, st.booleans()),
                st.tuples(stamps, names.map(lambda name: name.rstrip(" "))),
            ),
            min_size=1,
        ),
    ),
)


@given(replies)
def test_a_reply_is_read_as_it_was_written(reply: Reply) -> None:
    assert decode(write(reply)) == reply


@pytest.mark.parametrize(
    "words",
    [
        [b"what"],
        [b"done", b"1|0"],
        [b"done", b"x|0|"],
        [b"done", b"1|0|1,2,3"],
        [b"done", b"1|0|1;2"],
        [b"done", b"1|0|1,2;3"],
        [b"done", b"1|0|", b"0", b"0", b"1", b"2"],
        [b"done", b"1|0|", b"0", b"0", b"1", b"2", b"3", b"key without an epoch"],
        [b"conflict"],
        [b"resume", b"1"],
        [b"loaded", b"", b"key without a slice"],
        [b"loaded", b"", b"key", b"5"],
        [b"surveyed", b"", b"1", b"1", b"a", b"5"],
        [b"forgotten", b"1"],
    ],
    ids=str,
)
def test_what_no_script_replies_is_an_error(words: list[bytes]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        decode(words)


# ---------------------------------------------------------------------------------- names


@given(names, names, names, names)
def test_no_two_namespaces_or_instances_share_a_name(
    prefix: str, other: str, instance: str, another: str
) -> None:
    mine, theirs = KeyNames(prefix), KeyNames(other)
    every = {*mine.keys(instance), *mine.keys(another), mine.channel}
    assert len(every) == (8 if instance == another else 9)
    if prefix != other:
        assert every.isdisjoint({*theirs.keys(instance), theirs.channel})


@pytest.mark.parametrize(
    ("one", "other"),
    [("one}:i:", "one"), ("one", "one}:i:x"), ("a}", "a%7D"), ("a%", "a%25"), ("a:b", "a")],
)
def test_a_name_in_which_another_seems_to_begin(one: str, other: str) -> None:
    some = {*KeyNames(one).keys("n"), *KeyNames(one).keys("i:n"), KeyNames(one).channel}
    for instance in ("n", "}:n", "i:n", "}:i:n", "x}:n"):
        assert some.isdisjoint({*KeyNames(other).keys(instance), KeyNames(other).channel})


@given(names, names)
def test_all_keys_of_a_namespace_have_one_hash_tag(prefix: str, instance: str) -> None:
    """It is of the whole prefix, so that namespaces are spread over the slots of a cluster."""
    keys = KeyNames(prefix).keys(instance)
    (tag,) = {name.partition(b"{")[2].partition(b"}")[0] for name in keys}
    assert unquote_to_bytes(tag) == b"p." + prefix.encode()
    assert {key_slot(name) for name in keys} == {key_slot(tag)}


@given(names, names)
def test_a_key_is_no_field_of_the_namespace_or_a_session(key: str, other: str) -> None:
    assert not write_key(key).startswith(b":")
    assert read_key(write_key(key)) == key
    assert b"\xff" not in write_key(key), "it separates keys that are announced"
    assert (write_key(key) == write_key(other)) == (key == other)


@given(names)
def test_a_prefix_is_found_in_the_name_that_every_namespace_has(prefix: str) -> None:
    for name in (prefix, f"{prefix}:42", f":{prefix}", f"{prefix}}}:h", f"%7D{prefix}%25"):
        (of_all,) = [key for key in KeyNames(name).keys("me") if key.endswith(b"}:h")]
        assert KeyNames.prefix_of(of_all) == name


@pytest.mark.parametrize(
    "name", [b"dk:{p.}:h", b"dk:{p.\xff}:h", b"dk:{p.a}b}:h", b"dk:{p.a%20}:h", b"dk:{p.a}:i:}:h"]
)
def test_what_is_of_somebody_else_has_no_prefix(name: bytes) -> None:
    assert KeyNames.prefix_of(name) is None
