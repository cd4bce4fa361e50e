"""What is measured of counters: one table, for every kind of monitoring.

Only what an instance knows of itself is in it. The cumulatives are not: each worker of a fleet sees
all of a cumulative, so that a sum over workers would be that many times too much, each worker sees
it at another instant, and it is known to each only as far as somebody has read it there. The
slices of all instances do add up to it.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, get_args

from .._actor._statistics import CounterState, CounterStatistics
from .._counters._counter import InstanceAwareCounter
from .._counters._lax import LaxInstanceAwareCounter
from .._errors import CounterClosedError


@dataclass(frozen=True, slots=True)
class Measure:
    """One thing that is measured of a counter, by its `CounterStatistics`."""

    name: str
    """In words: each kind of monitoring joins them as is its habit."""
    kind: Literal["total", "gauge"]
    unit: str
    """``"s"``, or what is counted."""
    text: str
    read: Callable[[CounterStatistics], float | None]
    """None: there is nothing to be said now."""


MEASURES: Final[tuple[Measure, ...]] = (
    Measure(
        "connected",
        "gauge",
        "",
        "Whether a connection to the store is up, as far as is known.",
        lambda now: float(now.connected),
    ),
    Measure(
        "heartbeat age",
        "gauge",
        "s",
        "Age of the store's word: how long ago what it acknowledged last was sent.",
        lambda now: now.last_heartbeat_age,
    ),
    Measure(
        "in flight age",
        "gauge",
        "s",
        "How long the batch on its way has had no answer.",
        lambda now: now.in_flight_age,
    ),
    Measure(
        "outage age",
        "gauge",
        "s",
        "How long the store has been away, or has refused; 0 if it does neither.",
        lambda now: now.outage_age or 0.0,
    ),
    Measure(
        "outages",
        "total",
        "outages",
        "How often the store went away, or began to refuse.",
        lambda now: now.outages,
    ),
    Measure(
        "reconnects",
        "total",
        "connections",
        "How often the connection was lost and made again.",
        lambda now: now.reconnects,
    ),
    Measure(
        "operations",
        "total",
        "operations",
        "Operations that the store has answered; lax counts are none.",
        lambda now: now.operations_done,
    ),
    Measure(
        "batches",
        "total",
        "batches",
        "Exchanges with the store that were acknowledged, heartbeats included.",
        lambda now: now.batches_done,
    ),
    Measure(
        "waiting operations",
        "gauge",
        "operations",
        "Operations that wait to be sent.",
        lambda now: now.mailbox_length,
    ),
    Measure(
        "pending keys",
        "gauge",
        "keys",
        "Lax: keys with counts that the store has not acknowledged.",
        lambda now: now.pending_keys,
    ),
    Measure(
        "refused keys",
        "total",
        "keys",
        "Lax: keys of which the store had to refuse counts, which are lost.",
        lambda now: now.refused_keys,
    ),
    Measure(
        "withheld slices",
        "gauge",
        "slices",
        "Own slices that wait until the cumulative has room for them.",
        lambda now: now.withheld_slices,
    ),
    Measure(
        "stuck slices",
        "gauge",
        "slices",
        "Slices of the dead that wait until the cumulative can do without them.",
        lambda now: now.stuck_slices,
    ),
    Measure(
        "store warnings",
        "gauge",
        "warnings",
        "How many things are wrong with how the store is set up.",
        lambda now: len(now.warnings),
    ),
)

STATE_TEXT: Final = "1 for the state of its life in which the counter is, 0 for the others."
STATES: Final[tuple[CounterState, ...]] = get_args(CounterState)
SLICE_TEXT: Final = "What this instance contributes to the key, as the store has acknowledged it."
OWN_KEYS_TEXT: Final = "Keys that this instance contributes to, those left out as slices included."


class Sample(NamedTuple):
    """One counter at one moment."""

    labels: tuple[str, str, str]
    """As `LABELS` names them."""
    statistics: CounterStatistics
    own_keys: int
    slices: dict[str, int]
    """Of the keys that are shown."""


LABELS: Final = ("prefix", "kind", "instance_id")


class Watched:
    """The counters that are measured, as long as somebody else has them and they have not ended.

    Any thread may use it, also while others do.
    """

    def __init__(self, keys: Collection[str] | None, max_keys: int) -> None:
        if isinstance(keys, str):
            raise TypeError(f"keys must be a collection of keys, not the string {keys!r}")
        if max_keys < 0:
            raise ValueError(f"max_keys must be at least 0, not {max_keys}")
        self._keys = None if keys is None else frozenset(keys)
        self._max_keys = max_keys
        self._counters: list[weakref.ref[InstanceAwareCounter]] = []
        self._lock = threading.Lock()

    def add(self, counter: InstanceAwareCounter) -> None:
        """Measure ``counter``, once."""
        if not isinstance(counter, InstanceAwareCounter):  # pyright: ignore[reportUnnecessaryIsInstance] - users without a type checker
            raise TypeError(f"a counter is needed, not {counter!r}")
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
        """Return each counter that has a name and has not ended, in the order of their coming."""
        with self._lock:
            counters = self._living()
        for counter in counters:
            try:
                instance = counter.instance_id
            except CounterClosedError:
                continue  # it has not been started, and so has none
            kind = "lax" if isinstance(counter, LaxInstanceAwareCounter) else "strict"
            slices = counter.own_slices()
            shown = sorted(slices if self._keys is None else slices.keys() & self._keys)
            yield Sample(
                (counter.prefix, kind, instance),
                counter.statistics(),
                len(slices),
                {key: slices[key] for key in shown[: self._max_keys]},
            )
