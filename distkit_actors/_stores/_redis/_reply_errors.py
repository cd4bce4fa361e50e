"""What the error replies of a Redis server mean, and what to do about them.

The table is closed: only a line that is known to be sent before anything is executed proves that
nothing was. All others leave that open (P16, repeat): nobody knows what stands between us and the
server.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from ..._errors import StoreError, StoreUnavailableError
from .._contract import NotPermittedError, StoreAwayError
from ._connection import ErrorReplyError
from ._error_lines import IN_SCRIPT, NO_CLIENT, NO_COMMAND, NO_DATABASE, NO_PASSWORD, OWN_CODES

#: Error replies that mean: not now. Nothing was executed, and it may go well later.
_AWAY: Final = frozenset(
    {
        "BUSY",
        "CLUSTERDOWN",
        "LOADING",
        "MASTERDOWN",
        "NOREPLICAS",
        "NOSCRIPT",  # forgotten again since we loaded them
        "READONLY",
        "TRYAGAIN",
        NO_CLIENT,
    }
)

#: The same where keys move from server to server.
_MOVING: Final = frozenset({"ASK", "MOVED"})

#: What a node of a cluster says of some slots, while it may serve others.
_OF_SLOT: Final = frozenset({*_MOVING, "CLUSTERDOWN", "TRYAGAIN"})

#: What to do about some of them.
_AWAY_ADVICE: Final[Mapping[str | None, str]] = {
    NO_CLIENT: "it takes no more connections, so raise its maxclients, or end some of them",
}

#: What to do about the others that mean that nothing was executed.
_ADVICE: Final = {
    "ASK": "this server is a node of a cluster and does not hold the keys of this prefix: "
    "begin the store's URL with redis+cluster://, or connect to a proxy",
    "CROSSSLOT": "the server does not honour hash tags in key names, which this package needs",
    "DENIED": "Redis is in protected mode: give its users passwords, or let it listen on an "
    "address that is yours alone and turn protected-mode off",
    "MISCONF": "Redis cannot save its data and refuses writes: see its log, and free the disk",
    "NOAUTH": "user name or password are missing or wrong: check the store's URL, or what its "
    "credential provider says",
    "NOPERM": "the user may not do what is needed: grant it EVALSHA, SCRIPT LOAD, the commands "
    "that the scripts call, and all keys that match 'dk:*' (`distkit-actors acl` prints the rule)",
    "NOPROTO": "the server does not speak RESP2, which every Redis does",
    "OOM": "Redis is out of memory: raise its maxmemory or delete something",
    "WRONGTYPE": "something else uses a key of this package, 'dk:{p.<prefix>}:…': delete it or "
    "choose another prefix",
    IN_SCRIPT: "a script has failed",
    NO_COMMAND: "the server, or a proxy in front of it, does not know a command that is needed: "
    "EVALSHA or EVAL, or one that the scripts call",
    NO_DATABASE: "the server has no such database: use another number in the store's URL (0 is "
    "always there), or raise the server's setting `databases`",
    NO_PASSWORD: "the store's URL has a password, but the server has none: take it out of the "
    "URL, or give the server one",
}
_ADVICE["MOVED"] = _ADVICE["ASK"]
_ADVICE["WRONGPASS"] = _ADVICE["NOAUTH"]

#: Answers of one that has the wrong role, or the wrong word of who we are: to ask it again is of no
#: use, and the name we have may lead to another one by now.
_ELSEWHERE: Final = frozenset(
    {
        "ASK",
        "CLUSTERDOWN",
        "MASTERDOWN",
        "MISCONF",
        "MOVED",
        "NOAUTH",
        "NOREPLICAS",
        "READONLY",
        "WRONGPASS",
        NO_CLIENT,
    }
)
#: After so many answers in a row that mean "not now", the name is looked up again in any case.
_TRIES: Final = 3


def to_store_error(
    error: ErrorReplyError,
    special: Mapping[str, str] = MappingProxyType({}),
    *,
    moves: bool = False,
) -> StoreError:
    """Return what to raise for an error reply, with ``special`` advice for some codes.

    ``moves``: keys may be on their way to another server, which is known to serve them later.
    """
    code = error.code
    if code in _AWAY or (moves and code in _MOVING):
        advice = f": {_AWAY_ADVICE[code]}" if code in _AWAY_ADVICE else ""
        return StoreAwayError(f"the store cannot serve now{advice} ({_said(code, error.text)})")
    if code is None or code not in _ADVICE:
        return StoreUnavailableError(
            "the store, or something in front of it, answered with an error that leaves open "
            f"whether the request was executed: {error.text}"
        )
    advice = special.get(code) or _ADVICE[code]
    refusal = NotPermittedError if code == "NOPERM" else StoreError
    return refusal(f"the store refuses: {advice} ({_said(code, error.text)})")


def _said(code: str, text: str) -> str:
    """Return the server's words, with the code if they do not name it.

    redis-py takes it off some of them, some lines have none, and words may be withheld. A code of
    our own is left out: the advice says the same.
    """
    named = code in OWN_CODES or re.search(rf"\b{code}\b", text)
    return text if named else f"{code}: {text}"


def ends_connection(error: ErrorReplyError, in_a_row: int) -> bool:
    """Return whether the connection on which it came is to be closed.

    ``in_a_row``: how many errors it has brought since it brought an answer, this one included.
    """
    code = error.code
    known = code in _AWAY or code in _ADVICE
    return not known or code in _ELSEWHERE or (code in _AWAY and in_a_row >= _TRIES)


def concerns_slot(error: ErrorReplyError) -> bool:
    """Return whether a node of a cluster says it of one slot, so that others may be served."""
    return error.code in _OF_SLOT
