"""What anybody may ask about a namespace."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from .._protocol._messages import Query, QueryKind, QueryPage
from ._registry import Record, Registry, State


def answer(registry: Registry, request: Query, now: int) -> QueryPage:
    """Answer a `Query`, all on one page."""
    rows: Iterable[tuple[str, int, bool]]
    at = registry.observed.seen_by(request.observed, now)
    about: list[tuple[int, str]] = []
    match request.kind:
        case QueryKind.INSTANCES:
            rows = list(_instances(registry, request, now, at))
            records = [registry.records[instance] for instance, _, _ in rows]
            about = [(record.incarnation, record.about) for record in records]
        case QueryKind.SLICES:
            rows = _slices(registry, request, now, at)
        case QueryKind.KEYS:
            rows = ((key, total, True) for key, total in registry.sums.items())
        case QueryKind.VALUES:
            rows = _values(registry, request, now, at)
        case QueryKind.HELD:
            rows = _held(registry, request.key)
    anybody = any(True for _ in registry.contributors())
    return QueryPage("", list(rows), at, about, registry.partitions if anybody else 0)


def _is_alive(registry: Registry, request: Query, record: Record, now: int, at: int) -> bool:
    """Return whether the asker shall take an instance for alive."""
    if request.observed is None:
        return registry.seen_alive(record, now, registry.records.get(request.instance))
    return registry.alive_at(record, at)


def _instances(
    registry: Registry, request: Query, now: int, at: int
) -> Iterator[tuple[str, int, bool]]:
    steady = registry.observed.steady(now)
    for instance, record in registry.contributors():
        if record.incarnation:  # else it is an orphan (P18, empty ground)
            alive = _is_alive(registry, request, record, now, at)
            yield instance, max(0, steady - record.heard.at), alive


def _slices(
    registry: Registry, request: Query, now: int, at: int
) -> Iterator[tuple[str, int, bool]]:
    epoch = registry.epochs.in_journal(request.key)
    for instance, record in registry.contributors():
        found = record.slices.get(request.key)
        if found is not None and found.stamp >= epoch:
            yield instance, found.value, _is_alive(registry, request, record, now, at)


def _values(
    registry: Registry, request: Query, now: int, at: int
) -> Iterator[tuple[str, int, bool]]:
    """Give the sums, and then the slices of the dead in them that are not reaped yet."""
    for key in request.keys:
        yield key, registry.total(key), True
    epochs = {key: registry.epochs.in_journal(key) for key in request.keys}
    for record in _dead(registry, request, now, at):
        for key, epoch in epochs.items():
            found = record.slices.get(key)
            if found is not None and found.stamp >= epoch:
                yield key, found.value, False


def _dead(registry: Registry, request: Query, now: int, at: int) -> Iterator[Record]:
    """Give those in the reap queue, and those of the living who are to be taken for dead."""
    for record in map(registry.records.__getitem__, registry.reap_queue):
        yield record
    for record in registry.records.values():
        if record.state is State.LIVE and not _is_alive(registry, request, record, now, at):
            yield record


def _held(registry: Registry, instance: str) -> Iterator[tuple[str, int, bool]]:
    record = registry.records.get(instance)
    for key, found in record.slices.items() if record else ():
        if found.stamp >= registry.epochs.in_journal(key):
            yield key, found.value, True
