"""What the error replies of a Redis server mean, and what to do about them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from .._errors import StoreError
from ._connection import ErrorReplyError
from ._contract import StoreAwayError

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
    }
)

#: What to do about the others.
_ADVICE: Final = {
    "ASK": "this server is a node of a cluster and does not hold the keys of this prefix: "
    "connect to the node that does, or to a proxy",
    "CROSSSLOT": "the server does not honour hash tags in key names, which this package needs",
    "MISCONF": "Redis cannot save its data and refuses writes: see its log, and free the disk",
    "NOAUTH": "user name or password are missing or wrong: check the store's URL",
    "NOPERM": "the user may not do what is needed: grant it EVALSHA, SCRIPT LOAD, the commands "
    "that the scripts call, and all keys that match 'dk:*'",
    "OOM": "Redis is out of memory: raise its maxmemory or delete something",
    "WRONGTYPE": "something else uses a key of this package, 'dk:{p.<prefix>}:…': delete it or "
    "choose another prefix",
}
_ADVICE["MOVED"] = _ADVICE["ASK"]
_ADVICE["WRONGPASS"] = _ADVICE["NOAUTH"]


def mapped(error: ErrorReplyError, special: Mapping[str, str] = MappingProxyType({})) -> StoreError:
    """Return what to raise for an error reply, with ``special`` advice for some codes."""
    if error.code in _AWAY:
        return StoreAwayError(f"the store cannot serve now ({error.code}): {error.text}")
    advice = special.get(error.code) or _ADVICE.get(error.code)
    reason = f"{advice} ({error.code}: {error.text})" if advice else error.text
    return StoreError(f"the store refuses: {reason}")
