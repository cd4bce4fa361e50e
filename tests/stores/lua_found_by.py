"""Which checks find the defects of a rule in a file of the Lua, so that they are tried first.

Nothing depends on it but the time that the tests take: `find_fault` goes on with all other checks.
A check that stands at the front of `CHECKS` needs no mention.
"""

from __future__ import annotations

from typing import Final

#: By the rule and the file of `lua_mutants.MUTANTS`: names of `lua_checks.CHECKS`.
FOUND_BY: Final[dict[str, dict[str, tuple[str, ...]]]] = {
    "conditions": {
        "numbers": ("histories", "rare steps"),
        "fast_path": ("lone steps", "rare steps", "more histories"),
    },
    "overflow": {
        "numbers": ("lone steps",),
        "sums": ("rare steps", "lone steps"),
        "fast_path": ("lone steps", "rare steps"),
        "entries": ("rare steps",),
        "lone": ("lone steps", "more lone steps"),
    },
    "all or none": {
        "entries": ("rare steps",),
    },
    "epochs": {
        "entries": ("histories", "limits 11", "rare steps", "more histories"),
        "resume": ("stamps of the future", "moves are forgotten", "histories", "rare steps"),
        "query": ("limits",),
    },
    "learning moves": {
        "journal": ("behind its own move", "limits", "history 8"),
        "finish": ("history 8", "limits"),
        "lone": ("history 8",),
    },
    "forgetting moves": {
        "finish": ("moves are forgotten",),
        "entries": ("moves are forgotten",),
        "open": ("leftovers with old moves",),
        "resume": ("leftovers with old moves",),
        "journal": ("leftovers with old moves",),
        "step": ("leftovers with old moves",),
    },
    "archive": {
        "archive": ("archives", "more archives"),
        "forgetting": ("archives", "archive scenarios", "more archives", "many archives"),
        "entries": ("archives", "more archives"),
        "resume": ("archives", "more archives", "many archives"),
        "beat": ("archive scenarios",),
        "finish": ("archives", "more archives"),
        "registry": ("archive scenarios",),
        "space": ("archive scenarios",),
    },
    "one clock": {
        "fast_path": ("lone steps",),
        "lone": ("lone steps", "histories", "more lone steps"),
        "open": ("lone steps",),
        "step": ("heartbeats", "rare steps"),
        "entries": ("histories", "rare steps"),
    },
    "remembered answers, gaps, unique numbers": {
        "fast_path": ("lone steps",),
        "lone": ("lone steps",),
    },
    "fence, resume, opening": {
        "step": ("limits",),
        "load": ("history 8",),
        "open": ("histories", "heartbeats", "limits 7", "rare steps", "more histories"),
        "registry": ("rare steps",),
    },
    "liveness and observed time": {
        "observed": ("heartbeats", "histories", "rare steps", "lone steps", "long rare steps"),
        "fast_path": ("heartbeats", "lone steps", "histories", "more histories"),
        "lone": ("lone steps", "rare steps"),
        "registry": ("histories", "lone steps", "rare steps"),
        "resume": ("rare steps",),
        "step": ("histories", "limits 4", "long rare steps"),
    },
    "heartbeats": {
        "beats": ("heartbeats together",),
        "beat": (
            "heartbeats",
            "heartbeats together",
            "history 8",
            "long rare steps",
            "lone steps",
            "histories",
            "rare steps",
            "crowds",
            "limits 7",
        ),
    },
    "reaper": {
        "registry": ("histories", "rare steps"),
        "reaper": (
            "first in the queue",
            "bodies that do not fit",
            "many die at once",
            "histories",
            "rare steps",
            "long rare steps",
        ),
        "entries": ("more histories",),
    },
    "reaping on the short way": {
        "fast_reaper": ("departures", "rare steps"),
        "apply": ("departures",),
    },
    "holds": {
        "fast_path": ("lone steps",),
    },
    "queries": {
        "query": ("values in pages", "history 18", "limits", "rare steps", "many lone steps"),
    },
    "looking": {
        "observed": ("histories", "lone steps", "rare steps"),
        "forget": ("histories", "rare steps", "more lone steps"),
    },
    "retention": {
        "registry": ("histories", "heartbeats", "rare steps"),
    },
    "the number of parts": {
        "registry": ("limits", "rare steps"),
        "open": ("rare steps",),
        "resume": ("rare steps",),
    },
    "notifications": {
        "sums": ("limits", "rare steps"),
        "announce": ("limits",),
        "fast_path": ("histories", "more lone steps"),
        "lone": ("lone steps", "more histories"),
        "apply": ("lone steps",),
        "space": ("histories", "more lone steps"),
    },
    "out of memory": {
        "space": ("out of memory",),
        "sums": ("out of memory",),
        "registry": ("out of memory",),
    },
}
