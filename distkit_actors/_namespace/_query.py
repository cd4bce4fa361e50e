"""What anybody may ask about a namespace."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from .._protocol._messages import Query, QueryKind, QueryPage
from ._registry import Registry


def answer(registry: Registry, request: Query, now: int) -> QueryPage:
    """Answer a `Query`, all on one page."""
    rows: Iterable[tuple[str, int, bool]]
    if request.kind is QueryKind.INSTANCES:
        rows = list(_instances(registry, request.instance, now))
        records = [registry.records[instance] for instance, _, _ in rows]
        return QueryPage("", rows, about=[(one.incarnation, one.about) for one in records])
    if request.kind is QueryKind.SLICES:
        rows = _slices(registry, request.key)
    else:
        rows = ((key, total, True) for key, total in registry.sums.items())
    return QueryPage("", list(rows))


def _instances(registry: Registry, asker: str, now: int) -> Iterator[tuple[str, int, bool]]:
    steady, by = registry.observed.steady(now), registry.records.get(asker)
    for instance, record in registry.holders():
        if record.incarnation:  # else it is an orphan (P18, empty ground)
            alive = registry.seen_alive(record, now, by)
            yield instance, max(0, steady - record.heard.at), alive


def _slices(registry: Registry, key: str) -> Iterator[tuple[str, int, bool]]:
    epoch = registry.epochs.of(key)
    for instance, record in registry.holders():
        piece = record.slices.get(key)
        if piece is not None and piece.stamp >= epoch:
            yield instance, piece.value, True
