"""Heartbeats that several counters of a store send at the same time: they travel in one command.

A script that does nothing takes the server a third of what a heartbeat takes. Many heartbeats in
one script share that, and the time. Counters with the same periods beat at the same instants; see
`_actor._timers`.

The answer says of each heartbeat whether it was executed. One that was not, as there is more to do,
is sent again by its own link, alone. So is each of them if the answer is an error.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Final, NamedTuple, TypeVar

from ._connection import pack
from ._scripts import load_scripts

T = TypeVar("T")

#: Most heartbeats in one command, so that nobody waits for more than a millisecond or two.
MOST: Final = 50
#: What is said of one that was not executed, behind its id.
NOT_DONE: Final = b" "


class Heartbeat(NamedTuple):
    """A heartbeat that may travel with others."""

    keys: tuple[bytes, ...]  # two
    id: bytes  # which the answer repeats
    heads: tuple[bytes, bytes]  # what must be recorded, and what is recorded then
    limits: bytes
    time: tuple[bytes, ...]  # none: the server's own
    alone: Callable[[], bytes]  # writes the command that has it executed alone


def in_groups(gathered: Iterable[tuple[T, Heartbeat]]) -> Iterator[list[tuple[T, Heartbeat]]]:
    """Yield those that one command can have executed, with what each came with.

    No two of them are of one namespace: both would get the same stamp.
    """
    groups = defaultdict[tuple[object, ...], list[tuple[T, Heartbeat]]](list)
    seen = Counter[bytes]()
    for pair in gathered:
        heartbeat = pair[1]
        namespace = heartbeat.keys[0]
        seen[namespace] += 1
        groups[heartbeat.limits, heartbeat.time, seen[namespace]].append(pair)
    for some in groups.values():
        for start in range(0, len(some), MOST):
            yield some[start : start + MOST]


def write_together(heartbeats: Sequence[Heartbeat]) -> bytes:
    """Write the command that has these executed, which are a group."""
    if len(heartbeats) == 1:
        return heartbeats[0].alone()
    keys = [key for heartbeat in heartbeats for key in heartbeat.keys]
    heads = chain.from_iterable((heartbeat.id, *heartbeat.heads) for heartbeat in heartbeats)
    words = (b"EVALSHA", load_scripts()["beats"].sha, b"%d" % len(keys), *keys)
    last = heartbeats[-1]
    return pack((*words, last.limits, *heads, *last.time))
