"""Which error a server's line is, whatever version of which server has written it.

The codes are those of Redis, and a few of our own for lines that all begin with ``ERR``. A line
that is none of these has no code: it may come from anything between us and the server, before
or after the request was executed.
"""

from __future__ import annotations

import re
from typing import Final

#: The server does not know a command, or something in front of it does not let it pass.
NO_COMMAND: Final = "no such command"
#: The server has as many clients as it takes, and closes the connection.
NO_CLIENT: Final = "no more clients"
#: There is no such database.
NO_DATABASE: Final = "no such database"
#: It was sent a password, and wants none.
NO_PASSWORD: Final = "no password"
#: A script has failed for none of the reasons that have a code.
IN_SCRIPT: Final = "failed script"

#: All of these, which no server names.
OWN_CODES: Final = frozenset({NO_COMMAND, NO_CLIENT, NO_DATABASE, NO_PASSWORD, IN_SCRIPT})

#: What begins a line, if that says all.
_CODES: Final = frozenset(
    {
        "ASK",
        "BUSY",
        "CLUSTERDOWN",
        "CROSSSLOT",
        "DENIED",
        "LOADING",
        "MASTERDOWN",
        "MISCONF",
        "MOVED",
        "NOAUTH",
        "NOPERM",
        "NOPROTO",
        "NOREPLICAS",
        "NOSCRIPT",
        "OOM",
        "READONLY",
        "TRYAGAIN",
        "WRONGPASS",
        "WRONGTYPE",
    }
)

#: Lines with no code of Redis' own, by how they begin (behind ``ERR``, which a client may have
#: taken off).
_TEXTS: Final = (
    (NO_COMMAND, r"(?:unknown|unsupported) (?:sub)?command\b|command\b.{0,60}\bnot support"),
    (NO_CLIENT, r"max number of clients (?:\+ cluster connections )?reached"),
    (NO_DATABASE, r"(?:DB index is out of range|invalid DB index|SELECT is not allowed)"),
    (NO_PASSWORD, r"(?:AUTH <password> called without any|Client sent AUTH, but no) password"),
    ("WRONGPASS", r"invalid password"),
    ("NOAUTH", r"Protocol error: unauthenticated"),  # to a long command, before it is read
    (IN_SCRIPT, r"Error compiling script"),
)
_KNOWN_TEXT: Final = re.compile(
    "(?:ERR )?(?:" + "|".join(f"({pattern})" for _, pattern in _TEXTS) + ")", re.IGNORECASE
)

#: What a server adds to an error inside a script: where in which script. Nobody else does.
_FROM_SCRIPT: Final = re.compile(r"\buser_script:|^ERR Error running script|script: [0-9a-f]{40}")
#: Such an error has its code anywhere: at the beginning, behind ``ERR``, or behind the place.
_CODE_FROM_SCRIPT: Final = re.compile(
    r"(?:^|[-: ])(ASK|CLUSTERDOWN|CROSSSLOT|MASTERDOWN|MISCONF|MOVED|NOPERM|NOREPLICAS|OOM"
    r"|READONLY|TRYAGAIN|WRONGTYPE)\b"
)
#: In a script a missing right has no code, but for the newest servers.
_NO_RIGHT_IN_SCRIPT: Final = re.compile(r"executing the script can't|ACL failure in script")
#: What a node says in a script that has lost the others, if it lets everybody read meanwhile.
_CLUSTER_DOWN_IN_SCRIPT: Final = re.compile(r"attempted to execute a .{0,60}cluster is down\b")


def is_from_script(line: str) -> bool:
    """Tell whether an error has happened inside a script, which the server has begun to run."""
    return _FROM_SCRIPT.search(line) is not None


def code_of(line: str) -> str | None:
    """Return the code of an error line, or None if it is none that we know."""
    if _CLUSTER_DOWN_IN_SCRIPT.search(line):
        return "CLUSTERDOWN"
    if is_from_script(line):
        if _NO_RIGHT_IN_SCRIPT.search(line):
            return "NOPERM"
        found = _CODE_FROM_SCRIPT.search(line)
        return found[1] if found else IN_SCRIPT
    word = line.partition(" ")[0]
    if word in _CODES:
        return word
    known = _KNOWN_TEXT.match(line)
    if known is None:
        return None
    return next(code for (code, _), part in zip(_TEXTS, known.groups(), strict=True) if part)
