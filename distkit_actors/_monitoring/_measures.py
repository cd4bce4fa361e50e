"""What is measured of counters: one table, for every kind of monitoring.

Only what an instance knows of itself is in it. The cumulatives are not: each worker of a fleet sees
all of a cumulative, so that a sum over workers would be that many times too much, each worker sees
it at another instant, and it is known to each only as far as somebody has read it there. The
slices of all instances do add up to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final, Literal, NamedTuple, get_args

from .._actor._statistics import CounterState, CounterStatistics

#: What tells one counter from another.
_LABELS: Final = ("prefix", "kind", "instance_id")
_STATES: Final[tuple[CounterState, ...]] = get_args(CounterState)


class Sample(NamedTuple):
    """One counter at one moment."""

    labels: tuple[str, str, str]
    """As `_LABELS` names them."""
    statistics: CounterStatistics
    own_keys: int
    slices: dict[str, int]
    """Of the keys that are shown."""


class Measure:
    """One thing that is measured of a counter."""

    def __init__(
        self,
        name: str,
        kind: Literal["total", "gauge", "sum"],
        unit: str,
        text: str,
        read: Callable[[Sample], Iterable[tuple[tuple[str, ...], float]]],
        *labels: str,
    ) -> None:
        self.name = name
        """In words: each kind of monitoring joins them as is its habit."""
        self.kind = kind
        """A total only grows; a sum adds up over instances, which a gauge does not."""
        self.unit = unit
        """``"s"``, or what is counted."""
        self.text = text
        self._read = read
        self.labels = (*_LABELS, *labels)

    def points(self, sample: Sample) -> Iterator[tuple[tuple[str, ...], float]]:
        """Return a value for each of `labels`, and what was measured there."""
        for labels, value in self._read(sample):
            yield (*sample.labels, *labels), value


def _statistic(
    name: str,
    kind: Literal["total", "gauge"],
    unit: str,
    text: str,
    read: Callable[[CounterStatistics], float | None],
) -> Measure:
    """Return what is one number of the statistics; None: there is nothing to be said now."""

    def points(sample: Sample) -> Iterator[tuple[tuple[str, ...], float]]:
        value = read(sample.statistics)
        if value is not None:
            yield (), value

    return Measure(name, kind, unit, text, points)


MEASURES: Final[tuple[Measure, ...]] = (
    _statistic(
        "connected",
        "gauge",
        "",
        "1 if a connection to the store is up, as far as is known, else 0.",
        lambda now: float(now.connected),
    ),
    _statistic(
        "heartbeat age",
        "gauge",
        "s",
        "How long ago the last batch was first sent that the store has acknowledged.",
        lambda now: now.last_heartbeat_age,
    ),
    _statistic(
        "in flight age",
        "gauge",
        "s",
        "How long the batch that is on its way has waited for its answer.",
        lambda now: now.in_flight_age,
    ),
    _statistic(
        "outage age",
        "gauge",
        "s",
        "How long the store has been away, or has refused; 0 if all is well.",
        lambda now: now.outage_age or 0.0,
    ),
    _statistic(
        "outages",
        "total",
        "outages",
        "How often the store went away, or began to refuse.",
        lambda now: now.outages,
    ),
    _statistic(
        "reconnects",
        "total",
        "connections",
        "How often the connection was lost and made again.",
        lambda now: now.reconnects,
    ),
    _statistic(
        "operations",
        "total",
        "operations",
        "Operations that the store has answered; counts of a lax counter are not among them.",
        lambda now: now.operations_done,
    ),
    _statistic(
        "batches",
        "total",
        "batches",
        "Requests that the store has acknowledged, heartbeats included.",
        lambda now: now.batches_done,
    ),
    _statistic(
        "waiting operations",
        "gauge",
        "operations",
        "Operations that wait to be sent.",
        lambda now: now.mailbox_length,
    ),
    _statistic(
        "pending keys",
        "gauge",
        "keys",
        "Keys of a lax counter with counts that the store has not acknowledged.",
        lambda now: now.pending_keys,
    ),
    _statistic(
        "refused keys",
        "total",
        "keys",
        "How often the store has refused the counts of a key of a lax counter; they are lost.",
        lambda now: now.refused_keys,
    ),
    _statistic(
        "withheld slices",
        "gauge",
        "slices",
        "Own slices that count nowhere for now: the cumulative would leave the 64-bit range.",
        lambda now: now.withheld_slices,
    ),
    _statistic(
        "stuck slices",
        "gauge",
        "slices",
        "Slices of dead instances that still count: without them the cumulative would leave the "
        "64-bit range.",
        lambda now: now.stuck_slices,
    ),
    _statistic(
        "store warnings",
        "gauge",
        "warnings",
        "How many settings of the server are wrong, as far as is known.",
        lambda now: len(now.warnings),
    ),
    Measure(
        "state",
        "gauge",
        "",
        "1 for the state that the counter is in, 0 for all other states.",
        lambda sample: (((name,), int(name == sample.statistics.state)) for name in _STATES),
        "state",
    ),
    Measure(
        "slice",
        "sum",
        "",
        "What this instance contributes to the key, as the store has acknowledged it.",
        lambda sample: (((key,), value) for key, value in sample.slices.items()),
        "key",
    ),
    Measure(
        "own keys",
        "gauge",
        "keys",
        "Keys that this instance contributes to, including those whose slices are not shown.",
        lambda sample: [((), sample.own_keys)],
    ),
)
