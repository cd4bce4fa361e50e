"""Requests and replies as the Lua scripts read and write them (see the heads of the scripts).

Values travel as decimal strings, so that Lua never makes floating point numbers of them (P2,
exact integers). This file is longer than others, so that what writes a message and what reads it
stand side by side.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import repeat
from typing import Final

from redis.crc import key_slot

from ..._protocol._messages import (
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
    Request,
    Result,
    Resume,
    Stale,
    Watch,
    Watched,
    made,
)
from ..._protocol._partitions import MAX_PARTITIONS
from ._lua_constants import INSTANT_DIGITS, Word
from ._parts import hash_tag

# Looked up once: before Python 3.12 a member of an enum costs as much as a call.
_CLAIM: Final = Kind.CLAIM
_FORGET: Final = Kind.FORGET
_HELD: Final = QueryKind.HELD
_DONE: Final = Word.DONE
_FLAG: Final = (b"0", b"1")
#: What a record says of the last step of its instance: known and incarnation, behind which is seq.
_HEAD: Final = b"%%0%dd %%d " % INSTANT_DIGITS
#: What stands ahead of that in a batch that is atomic, or leaves.
_MORE: Final = {(True, False): Word.ATOMIC, (False, True): Word.LEAVES}
_KINDS: Final = {kind: kind.value.encode() for kind in Kind}
_SIGNS: Final = (Rejection.REFUSED, Rejection.UNDONE, Rejection.SPLIT, Rejection.MOVED)
_VERDICTS: Final = {verdict.value.encode(): verdict for verdict in _SIGNS}

#: A field of a hash that begins with this is no key. `_KEY` is written before a key that begins so:
#: a byte that no text in UTF-8 has.
_OWN_FIELD: Final = ":"
_KEY: Final = b"\xfe"


def write_key(key: str) -> bytes:
    """Return what ``key`` is called in Redis, where a hash has other fields beside keys."""
    return _KEY + key.encode() if key[:1] == _OWN_FIELD else key.encode()


def read_key(word: bytes, errors: str = "strict") -> str:
    """Return the key of which `write_key` made ``word``; the id of an instance as it is."""
    return word.removeprefix(_KEY).decode(errors=errors)


class KeyNames:
    """The names of a namespace's Redis keys, or of those of a part of it.

    They share one hash tag, ``p.`` and the prefix, so that they live in one slot of a cluster. A
    tag ends at the first ``}``. So that one of the prefix does not end it, that is written as in
    URLs, ``%7D``, and ``%`` as ``%25``. What follows the tag is one of a few letters, or ends with
    the id of an instance, as it is. So no two namespaces or instances share a name. Parts behind
    the first have more in their hash tag, see `hash_tag`.
    """

    __slots__ = ("_instance", "_shared", "_sums", "channel")

    def __init__(self, prefix: str, part: int = 0) -> None:
        base = f"{self.base(prefix, part)}:".encode()
        self._sums = base + b"n"
        self._shared = tuple(base + suffix for suffix in (b"m", b"l", b"a", b"h", b"d"))
        self._instance = base + Word.INSTANCE_SUFFIX
        # Where changes are announced (P37, notifications); not a key.
        self.channel = self.channel_of(self.base(prefix, part)).encode()

    @property
    def slot(self) -> int:
        """The hash slot of all the keys, in a cluster."""
        return int(key_slot(self.channel))

    def main_keys(self, instance: str) -> tuple[bytes, ...]:
        """Return what a script needs to be told for a request of ``instance``."""
        return self._sums, self._instance + instance.encode()

    def keys(self, instance: str) -> tuple[bytes, ...]:
        """Return what a script needs to declare where it matters: those, and the others."""
        return (*self.main_keys(instance), *self._shared)

    @staticmethod
    def base(prefix: str, part: int = 0) -> str:
        """Return what all names begin with, and the channel's: the hash tag is at its end."""
        written = prefix.replace("%", "%25").replace("}", "%7D")
        return f"dk:{{{hash_tag(written.encode(), part).decode()}}}"

    @staticmethod
    def channel_of(base: str) -> str:
        """Return the channel of the names that begin with ``base``, or a pattern of channels."""
        return f"{base}:{Word.CHANNEL_SUFFIX.decode()}"

    #: A pattern that matches one name of each namespace with anybody in it: the living, or the dead
    #: who have slices left.
    ANY: Final = b"dk:{p*}:h"

    @classmethod
    def prefix_of(cls, name: bytes) -> str | None:
        """Return the prefix of the namespace whose ``name`` this is, of those that match `ANY`.

        None if it is somebody else's.
        """
        try:
            text = name.decode()
        except UnicodeDecodeError:
            return None
        front, _, tag = text.removeprefix("dk:{p").removesuffix("}:h").partition(".")
        if front:  # a part behind the first
            if not (front.isascii() and front.isdigit() and 0 < int(front) < MAX_PARTITIONS):
                return None
            tag = tag[: -len(".tt")]
        prefix = tag.replace("%7D", "}").replace("%25", "%")
        return prefix if prefix and text == f"{cls.base(prefix, int(front or 0))}:h" else None


def encode(request: Request) -> tuple[str, list[bytes]]:
    """Return the script for ``request``, and its arguments behind the time and the instance."""
    match request:
        case Apply():
            _, incarnation, seq, known, periods, entries, leave, budget, atomic, _ = request
            head = _head(known, incarnation)
            before = b"%b%d" % (head, request.follows)
            return "apply", [
                _MORE[atomic, leave] + before if atomic or leave else before,
                b"%b%d" % (head, seq),
                _limits(periods, budget),
                *_entries(entries),
            ]
        case Peek():
            return "peek", []
        case Open():
            return "open", [
                request.nonce.encode(),
                b"%d" % request.expected,
                b"%d" % request.born,
                _FLAG[request.inherit],
                *_periods(request.periods),
                _FLAG[request.refuse],
                request.about.encode(),
                b"%d" % request.partitions,
            ]
        case Load():
            return "load", [
                b"%d" % request.incarnation,
                b"%d" % request.seq,
                request.cursor.encode(),
            ]
        case Resume():
            words = [
                *_session(request),
                b"%d" % request.born,
                b"%d" % (request.partitions if request.first else 0),
                b"%d" % request.cleared,
                b"%d" % len(request.moves),
                request.about.encode(),
                b"%d" % request.heard,
            ]
            for key, epoch in request.moves:
                words += (write_key(key), b"%d" % epoch)
            return "resume", words + _entries(request.claims)
        case Query():
            observed = b"" if request.observed is None else b"%d" % request.observed
            # Of one kind it is the id of an instance.
            of = request.key.encode() if request.kind is _HELD else write_key(request.key)
            words = [request.kind.value.encode(), of, request.cursor.encode(), observed]
            return "query", [*words, *map(write_key, request.keys)]
        case Watch():
            return "watch", [b"%d" % request.lease]
        case Forget():
            return "forget", [request.target.encode()]


def around(script: str, time: bytes, instance: str) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    """Return what stands before the arguments that `encode` gives, and what behind them.

    Args:
        script: Its name.
        time: The time that it is told, in microseconds, or nothing: then it asks the server.
        instance: Who asks.
    """
    if script != "apply":
        return (time, instance.encode()), ()
    return (), (time,) if time else ()


def _session(request: Resume) -> tuple[bytes, ...]:
    return (
        b"%d" % request.incarnation,
        b"%d" % request.seq,
        b"%d" % request.known,
        *_periods(request.periods),
    )


# The next batch and its answer mostly repeat these, so they are remembered: a lone call takes
# some 12 000 instructions less.
@lru_cache
def _head(known: int, incarnation: int) -> bytes:
    return _HEAD % (known, incarnation)


@lru_cache
def _limits(periods: Periods, budget: int) -> bytes:
    return b"%d %d %d %d" % (*periods, budget)


@lru_cache
def _lone_journal(words: bytes) -> Journal:
    """Read a journal that tells of no moves."""
    cleared, floor, latest = map(int, words.split(b" "))
    return Journal(cleared, floor, latest)


@lru_cache
def _periods(periods: Periods) -> tuple[bytes, ...]:
    return b"%d" % periods.threshold, b"%d" % periods.interval, b"%d" % periods.retention


def _entries(entries: Iterable[Entry]) -> list[bytes]:
    words: list[bytes] = []
    for kind, key, value, after, folded, stamp, condition, of_own, guarded in entries:
        word = Word.FOLDED if folded else _KINDS[kind]
        if guarded:
            word += Word.GUARDED
        if condition is not None:
            of = Word.OF_OWN if of_own else Word.OF_CUMULATIVE
            word += b"%s%s%d" % (of, condition.sign.encode(), condition.value)
        if kind is _FORGET:
            words += (word, b"", key.encode(), b"")  # an id is no key, and may look like a field
            continue
        words += (
            word,
            # As `write_key` does, which would cost more than this does.
            key.encode() if key[:1] != _OWN_FIELD else write_key(key),
            b"%d@%d" % (value, stamp) if kind is _CLAIM else b"%d" % value,
            b"" if after is None else b"%d" % after,
        )
    return words


def decode(reply: bytes | Sequence[bytes]) -> Reply:  # noqa: PLR0911 - one for each kind
    """Read the reply of a script."""
    if isinstance(reply, bytes):  # nearly always
        answer, _, journal = reply.split(b" ", 2)
        at, again, results = answer.split(b"|")
        fields = (int(at), _results(results), _lone_journal(journal), 0, 0, again == b"1")
        return made(Applied, fields)
    if reply[0] == _DONE:
        return _done(reply)
    match reply:
        case [Word.RESUME, recorded, born]:
            return MustResume(int(recorded) if recorded else None, int(born))
        case [Word.CONFLICT, incarnation]:
            return Conflict(int(incarnation))
        case [Word.MISMATCH, partitions]:
            return Mismatch(int(partitions))
        case [Word.STALE]:
            return Stale()
        case [Word.WATCHED]:
            return Watched()
        case [Word.PEEKED, incarnation, born, alive]:
            return Peeked(int(incarnation), int(born), alive == b"1")
        case [Word.OPENED, incarnation, known, inherited, leftovers]:
            return Opened(int(incarnation), int(known), inherited == b"1", leftovers == b"1")
        case [Word.LOADED, cursor, *words]:
            return Loaded(cursor.decode(), _slices(words))
        case [Word.FORGOTTEN, left, gone]:
            return Forgotten(int(left), int(gone))
        case [Word.QUERIED, cursor, at, partitions, *rows]:
            triples = zip(rows[::3], rows[1::3], rows[2::3], strict=True)
            return _page(cursor.decode(), int(at), int(partitions), triples)
        case _:
            raise ValueError(f"no script of ours replies {reply[:1]!r} with {len(reply) - 1} words")


def _page(
    cursor: str, at: int, partitions: int, triples: Iterable[tuple[bytes, bytes, bytes]]
) -> QueryPage:
    rows: list[tuple[str, int, bool]] = []
    abouts: list[tuple[int, str]] = []
    for name, number, flag in triples:
        rows.append((read_key(name), int(number), flag[:1] == b"1"))
        if len(flag) > 1:
            incarnation, _, about = flag[1:].partition(b" ")
            abouts.append((int(incarnation), about.decode().rstrip(" ")))
    return QueryPage(cursor, rows, at, abouts, partitions)


def _done(reply: Sequence[bytes]) -> Applied:
    at, again, results = reply[1].partition(b" ")[0].split(b"|")
    if len(reply) == 2:
        return Applied(int(at), _results(results), again=again == b"1")
    backlog, stuck = reply[2:4]
    journal = _journal(reply[4:])
    return Applied(int(at), _results(results), journal, int(backlog), int(stuck), again == b"1")


def _results(text: bytes) -> tuple[Result, ...]:
    """Read ``cumulative,slice;…``: nearly always nothing but values, and up to 1000 of them."""
    if not text:
        return ()
    results = text.split(b";")
    if len(results) == 1:
        return (_VERDICTS.get(text) or _values(text),)
    if _VERDICTS.keys().isdisjoint(results) and Word.UNMET not in text:
        if text.count(b",") != len(results):
            raise ValueError(f"not pairs of values: {text!r:.100}")
        numbers = map(int, text.replace(b";", b",").split(b","))
        return tuple(map(made, repeat(Previous), zip(numbers, numbers, strict=True)))
    return tuple(_VERDICTS.get(result) or _values(result) for result in results)


def _values(text: bytes) -> Previous | ConditionFailed:
    cumulative, own = text.split(b",")
    own = own.partition(b"@")[0]
    if own.endswith(Word.UNMET):
        return ConditionFailed(int(cumulative), int(own[:-1]))
    return made(Previous, (int(cumulative), int(own)))


def _journal(words: Sequence[bytes]) -> Journal:
    cleared, floor, latest = words[:3]
    if len(words) == 3:
        return Journal(int(cleared), int(floor), int(latest))
    moves, archived = words[3:], 0
    if len(moves) % 2:  # behind the pairs
        moves, archived = moves[:-1], int(moves[-1])
    epochs = tuple(
        (read_key(key), int(epoch)) for key, epoch in zip(moves[::2], moves[1::2], strict=True)
    )
    return Journal(int(cleared), int(floor), int(latest), epochs, archived)


def _slices(words: Sequence[bytes]) -> list[tuple[str, int, int]]:
    slices: list[tuple[str, int, int]] = []
    for key, word in zip(words[::2], words[1::2], strict=True):
        value, stamp = word.split(b"@")
        slices.append((read_key(key), int(value), int(stamp)))
    return slices
