"""What is measured of counters: one table, for every kind of monitoring.

Only what an instance knows of itself is in it. The cumulatives are not: each worker of a fleet sees
all of a cumulative, so that a sum over workers would be that many times too much, each worker sees
it at another instant, and it is known to each only as far as somebody has read it there. The
slices of all instances do add up to it.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Final, Literal, NamedTuple, get_args

from .._actor._statistics import CounterState, CounterStatistics
from .._counters._counter import InstanceAwareCounter
from .._counters._lax import LaxInstanceAwareCounter
from .._errors import CounterClosedError
from .._limiter._names import has_tickets

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


class Watched:
    """The counters that are measured, as long as somebody else has them and they have not ended.

    One that is superseded stays beyond its end: that comes sooner than anybody looks, and an alert
    is to see it. It goes once another one with its id is shown. Any thread may use it, also while
    others do.
    """

    def __init__(
        self,
        counters: Iterable[InstanceAwareCounter],
        keys: Collection[str] | None,
        max_keys: int,
    ) -> None:
        if isinstance(keys, str):
            raise TypeError(f"keys must be a collection of keys, not the string {keys!r}")
        if max_keys < 0:
            raise ValueError(f"max_keys must be at least 0, not {max_keys}")
        self._keys = None if keys is None else frozenset(keys)
        self._max_keys = max_keys
        self._counters: list[weakref.ref[InstanceAwareCounter]] = []
        self._lock = threading.Lock()
        for counter in counters:
            self.add(counter)

    def add(self, counter: InstanceAwareCounter) -> None:
        """Measure ``counter``, once."""
        if not isinstance(counter, InstanceAwareCounter):  # pyright: ignore[reportUnnecessaryIsInstance] - users without a type checker
            raise TypeError(f"a counter is needed, not {counter!r}")
        counter = counter._whole  # pyright: ignore[reportPrivateUsage] - both faces are one
        with self._lock:
            if counter not in self._living():
                self._counters.append(weakref.ref(counter))

    def _living(self) -> list[InstanceAwareCounter]:
        """Return the counters that are still there, and forget the others."""
        found = [counter for ref in self._counters if (counter := ref()) is not None]
        found = [counter for counter in found if counter.statistics().state != "closed"]
        self._counters = [weakref.ref(counter) for counter in found]
        return found

    def samples(self) -> Iterator[Sample]:
        """Return each counter that has been started, in any order.

        No labels come twice: who has the id now is shown in place of whoever is superseded. That
        one is forgotten: its totals must not come back when the other one has ended.
        """
        # Of those who do not know it yet, and of the superseded, whoever has come last has the id.
        samples = list(self._samples())[::-1]
        samples.sort(key=lambda found: found[1].statistics.state == "superseded")
        shown: dict[tuple[str, str, str], Sample] = {}
        held: set[tuple[str, str]] = set()  # prefix and id, whatever the kind
        replaced: list[InstanceAwareCounter] = []
        for counter, sample in samples:
            prefix, _, instance = sample.labels
            if sample.statistics.state == "superseded" and (prefix, instance) in held:
                replaced.append(counter)
            else:
                shown.setdefault(sample.labels, sample)
            held.add((prefix, instance))
        with self._lock:
            self._counters = [ref for ref in self._counters if ref() not in replaced]
        yield from shown.values()

    def _samples(self) -> Iterator[tuple[InstanceAwareCounter, Sample]]:
        with self._lock:
            counters = self._living()
        for counter in counters:
            statistics = counter.statistics()
            if statistics.state == "new":
                continue  # though it may have been given an id that another one has
            try:
                instance = counter.instance_id
            except CounterClosedError:
                continue  # it starts at this moment, and has drawn none yet
            kind = "lax" if isinstance(counter, LaxInstanceAwareCounter) else "strict"
            slices = counter.own_slices()
            if self._keys is None:
                shown = sorted(key for key in slices if not has_tickets(key))
            else:
                shown = sorted(slices.keys() & self._keys)
            sample = Sample(
                (counter.prefix, kind, instance),
                statistics,
                len(slices),
                {key: slices[key] for key in shown[: self._max_keys]},
            )
            yield counter, sample
