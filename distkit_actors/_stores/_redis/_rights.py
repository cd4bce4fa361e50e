"""What a user of a Redis server must be allowed to do: the least that is enough. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, Literal, TypeAlias

from ._wire import KeyNames

#: How servers are found: ``redis://``, ``redis+sentinel://`` or ``redis+cluster://``.
Topology: TypeAlias = Literal["single", "sentinel", "cluster"]

#: All that the scripts call, but for PUBLISH, which may be refused. The first request of an
#: instance tries them all (``rights.lua``).
_OF_SCRIPTS: Final = (
    *("exists", "hdel", "hget", "hincrby", "hlen", "hmget", "hrandfield", "hscan", "hset"),
    *("persist", "pexpire", "time", "unlink", "zadd", "zcard", "zmscore", "zrange"),
    *("zrangebyscore", "zrem", "zrevrange", "zscan", "zscore"),
)
#: What of that it takes to look.
_OF_QUERIES: Final = (
    *("hmget", "hscan", "time", "zcard", "zmscore", "zrange", "zrangebyscore", "zscan"),
)
#: What else is sent.
_TO_RUN_SCRIPTS: Final = ("evalsha", "script|load", "info")
_TO_READ_ONLY: Final = ("evalsha_ro", "script|load", "info")
_TO_TELL: Final = ("publish", "subscribe", "unsubscribe", "ping")
_TO_TELL_IN_CLUSTERS: Final = ("spublish", "ssubscribe", "sunsubscribe", "ping")
_TO_LIST_PREFIXES: Final = ("scan",)
_TO_CHOOSE: Final = ("select",)
#: To find the server that serves, and to wait for its replicas (``min_replicas``).
_TO_FIND: Final = {"single": (), "sentinel": ("role",), "cluster": ("cluster|slots",)}
_TO_CONFIRM: Final = ("wait",)

#: What a pattern gives a meaning to.
_SPECIAL: Final = re.compile(r"[*?\[\]\\]")
#: What cannot be in a rule, blanks and the zero byte, but any character can stand for it.
_IMPOSSIBLE: Final = re.compile(r"[\x00\t-\r ]")
_PLAIN: Final = re.compile(r"[A-Za-z0-9_.:{}~%&>+|@*?-]+")


def acl_rule(
    prefix: str | None,
    *,
    watch: bool = False,
    read_only: bool = False,
    before_7: bool = False,
    database: int = 0,
    partitions: int = 1,
    topology: Topology = "single",
    confirmed: bool = False,
) -> list[str]:
    """Return what a user of the namespaces of ``prefix``, or of all for None, must be granted.

    Args:
        prefix: of the counters.
        watch: whether changes are to be told of at once.
        read_only: whether to look is all.
        before_7: whether the server is Redis 6.2: before 7.0, rights to keys are to read and to
            write.
        database: the number of the database.
        partitions: over how many parts the keys of ``prefix`` are spread.
        topology: how the servers are found, by the URL.
        confirmed: whether replicas are to confirm writes.
    """
    bases = ["dk:{p*}"]
    if prefix is not None:
        bases = [_pattern(KeyNames.base(prefix, part)) for part in range(partitions)]
    sign = "%R~" if read_only and not before_7 else "~"
    keys = [f"{sign}{base}:*" for base in bases]
    if read_only:
        commands = [*(_TO_RUN_SCRIPTS if before_7 else _TO_READ_ONLY), *_OF_QUERIES]
    else:
        commands = [*_TO_RUN_SCRIPTS, *_OF_SCRIPTS]
    commands += _TO_FIND[topology]
    if confirmed:
        commands += _TO_CONFIRM
    if watch:
        sharded = topology == "cluster" and not before_7
        commands += _TO_TELL_IN_CLUSTERS if sharded else _TO_TELL
    if prefix is None:
        commands += _TO_LIST_PREFIXES
    if database:
        commands += _TO_CHOOSE
    channels = [f"&{KeyNames.channel_of(base)}" for base in bases] if watch else []
    return [*keys, *channels, *(f"+{command}" for command in commands)]


def acl_command(user: str, rule: Sequence[str]) -> str:
    """Return the command that makes a user with these rights, as ``redis-cli`` reads it."""
    words = ["ACL", "SETUSER", user, "reset", "on", ">secret", "resetchannels", *rule]
    return " ".join(word if _PLAIN.fullmatch(word) else _quoted(word) for word in words)


def _pattern(text: str) -> str:
    return _IMPOSSIBLE.sub("?", _SPECIAL.sub(r"\\\g<0>", text))


def _quoted(word: str) -> str:
    letters = (chr(byte) if _is_plain(byte) else f"\\x{byte:02x}" for byte in word.encode())
    return f'"{"".join(letters)}"'


def _is_plain(byte: int) -> bool:
    return 32 <= byte < 127 and chr(byte) not in '"\\'
