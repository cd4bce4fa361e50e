"""What the Lua scripts and Python both know: words, signs and limits.

They stand here or where Python defines them, and are written into the scripts in the places of
their names when these are loaded. A script says ``MAX_JOURNAL``, and the server gets ``1000``: a
local variable would cost each run of a script, and each function that uses it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ..._namespace._epochs import (
    ARCHIVE_AT_LEAST,
    ARCHIVE_AT_MOST,
    FORGET_AT_LEAST,
    JOURNAL_KEPT,
    JOURNAL_PAGE,
    MAX_SEGMENTS,
    SEGMENTS_OF_RETENTION,
)
from ..._namespace._observed_time import PERIOD_TENTHS, RECENT_PART
from ..._namespace._reaper import DEATHS_PER_STEP, OVERDUE_PER_STEP, QUEUED_PER_STEP
from ..._namespace._registry import State
from ..._protocol._conditions import Eq, Ge, Gt, Le, Lt, Ne
from ..._protocol._liveness import MICROSECONDS
from ..._protocol._messages import (
    FOLD_LIMIT,
    JUST_COME,
    MAX_CHANGED,
    MAX_ENTRIES,
    MAX_JOURNAL,
    MAX_PURGE,
    Kind,
    QueryKind,
    Rejection,
)
from ..._protocol._values import INT64_MAX, INT64_MIN

#: How many digits an instant has that is compared as a string.
INSTANT_DIGITS: Final = 16
#: Half of them. A number with so many digits fits into any integer of the machine.
HALF_DIGITS: Final = INSTANT_DIGITS // 2
#: The smallest number with more digits than that.
HALF_INSTANT: Final = 10**HALF_DIGITS
#: How both halves of an instant are written.
TWO_HALVES: Final = f"%0{HALF_DIGITS}d" * 2
#: Instants above it are far away, and may have too many digits to be compared as strings.
FAR: Final = 9 * 10**15
#: With so many digits, numbers of Lua are exact, and so are their sums and differences.
EXACT_DIGITS: Final = 15
#: What the fields of an instance begin with, and no key does; and how many of them there are. They
#: are listed in ``base.lua``.
COLON: Final = ord(":")
OWN_FIELDS: Final = 16
#: Over how many hashes a segment of the archive is spread (``archive.lua``). Fixed: versions share
#: them (docs/protocol.md, section 4).
ARCHIVE_HASHES: Final = 64


class Word:
    """What is said on the wire and has no other home in Python."""

    # What a reply begins with.
    DONE: Final = b"done"
    RESUME: Final = b"resume"
    CONFLICT: Final = b"conflict"
    MISMATCH: Final = b"mismatch"
    STALE: Final = b"stale"
    WATCHED: Final = b"watched"
    PEEKED: Final = b"peeked"
    OPENED: Final = b"opened"
    LOADED: Final = b"loaded"
    QUERIED: Final = b"surveyed"
    FORGOTTEN: Final = b"forgotten"

    # The kind of an entry, if it is folded; what may stand behind a kind; what of a batch.
    FOLDED: Final = b"&"
    GUARDED: Final = b"g"
    OF_CUMULATIVE: Final = b"c"
    OF_OWN: Final = b"o"
    LEAVES: Final = b"l"
    ATOMIC: Final = b"w"

    # Behind the values of an entry whose condition does not hold.
    UNMET: Final = b"?"

    # What ends the name of an instance's hash, but for its id, and that of the channel; and what
    # is announced there if any key may have changed.
    INSTANCE_SUFFIX: Final = b"i:"
    CHANNEL_SUFFIX: Final = b"c"
    ANY_KEY: Final = b"\xff*"

    # Between keys that are announced: a byte that no text in UTF-8 has.
    SEPARATOR: Final = b"\xff"


_WORDS: Final = {
    name: word.decode("latin-1") for name, word in vars(Word).items() if name.isupper()
}

#: By the name that a script has for it. A ``str`` is a Lua string, with a character for each byte;
#: an ``int`` is a number.
CONSTANTS: Final[Mapping[str, int | str]] = {
    **{name: word for name, word in _WORDS.items() if name != "OF_CUMULATIVE"},
    **{kind.name: kind.value for kind in Kind},
    "BYTE_OF_ADD": ord(Kind.ADD.value),
    "BYTE_OF_FOLDED": ord(Word.FOLDED),
    "GUARDED_ADD": Kind.ADD.value + _WORDS["GUARDED"],
    "GUARDED_FOLDED": _WORDS["FOLDED"] + _WORDS["GUARDED"],
    "INSTANT_DIGITS": INSTANT_DIGITS,
    "HALF_INSTANT": HALF_INSTANT,
    "TWO_HALVES": TWO_HALVES,
    "FAR": FAR,
    "EXACT_DIGITS": EXACT_DIGITS,
    "COLON": COLON,
    "OWN_FIELDS": OWN_FIELDS,
    "REFUSED": Rejection.REFUSED.value,
    "SPLIT": Rejection.SPLIT.value,
    "MOVED": Rejection.MOVED.value,
    "UNDONE": Rejection.UNDONE.value,
    "EQUAL": Eq.sign,
    "UNEQUAL": Ne.sign,
    "LESS": Lt.sign,
    "AT_MOST": Le.sign,
    "GREATER": Gt.sign,
    "AT_LEAST": Ge.sign,
    "QUERY_SLICES": QueryKind.SLICES.value,
    "QUERY_KEYS": QueryKind.KEYS.value,
    "QUERY_VALUES": QueryKind.VALUES.value,
    "QUERY_HELD": QueryKind.HELD.value,
    "JUST_COME": str(JUST_COME),
    **{state.name: state.value for state in State},
    "INT64_MIN": str(INT64_MIN),
    "INT64_MAX": str(INT64_MAX),
    "FOLD_DIGITS": len(str(FOLD_LIMIT)) - 1,
    "MAX_ENTRIES": MAX_ENTRIES,
    "MAX_JOURNAL": MAX_JOURNAL,
    "MAX_PURGE": MAX_PURGE,
    "MAX_CHANGED": MAX_CHANGED,
    "FORGET_AT_LEAST": FORGET_AT_LEAST,
    "JOURNAL_KEPT": JOURNAL_KEPT,
    "JOURNAL_PAGE": JOURNAL_PAGE,
    "ARCHIVE_AT_LEAST": ARCHIVE_AT_LEAST,
    "ARCHIVE_AT_MOST": ARCHIVE_AT_MOST,
    "ARCHIVE_HASHES": ARCHIVE_HASHES,
    "SEGMENTS_OF_RETENTION": SEGMENTS_OF_RETENTION,
    "MAX_SEGMENTS": MAX_SEGMENTS,
    "OVERDUE_PER_STEP": OVERDUE_PER_STEP,
    "DEATHS_PER_STEP": DEATHS_PER_STEP,
    "QUEUED_PER_STEP": QUEUED_PER_STEP,
    "MICROSECONDS": MICROSECONDS,
    "RECENT_PART": RECENT_PART,
    "PERIOD_TENTHS": PERIOD_TENTHS,
}
