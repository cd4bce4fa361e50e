"""What anybody may ask about a namespace."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ._messages import Survey, Surveyed, Topic
from ._registry import Record, Registry, State


def look(registry: Registry, request: Survey, now: int, grace: int) -> Surveyed:
    """Answer a `Survey`, all on one page."""
    rows: Iterable[tuple[str, int, bool]]
    if request.topic is Topic.INSTANCES:
        rows = _instances(registry, now, grace)
    elif request.topic is Topic.SLICES:
        rows = _slices(registry, request.key)
    else:
        rows = ((key, total, True) for key, total in registry.sums.items())
    return Surveyed("", list(rows))


def is_alive(record: Record, now: int, grace: int) -> bool:
    """Tell whether an instance counts as alive: live, and heard within its threshold."""
    # After a blackout everybody has a fresh threshold (P24).
    return record.state is State.LIVE and max(record.deadline, grace + record.pace.threshold) > now


def _instances(registry: Registry, now: int, grace: int) -> Iterator[tuple[str, int, bool]]:
    for instance, record in registry.holders():
        if record.incarnation:  # else it is a body of what had no room (P18)
            yield instance, max(0, now - record.beat), is_alive(record, now, grace)


def _slices(registry: Registry, key: str) -> Iterator[tuple[str, int, bool]]:
    epoch = registry.epochs.of(key)
    for instance, record in registry.holders():
        piece = record.slices.get(key)
        if piece is not None and piece.stamp >= epoch:
            yield instance, piece.value, True
