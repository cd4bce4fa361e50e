"""Counters as Prometheus is shown them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Final, final

try:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
    from prometheus_client.registry import Collector
except ModuleNotFoundError as error:  # pragma: no cover - where it is not installed
    if (error.name or "").partition(".")[0] != "prometheus_client":
        raise
    raise ModuleNotFoundError(
        "distkit_actors.prometheus needs prometheus-client: pip install "
        "'distkit-actors[prometheus]'",
        name=error.name,
    ) from None

from .._counters._counter import InstanceAwareCounter
from ._measures import (
    LABELS,
    MEASURES,
    OWN_KEYS_TEXT,
    SLICE_TEXT,
    STATE_TEXT,
    STATES,
    Measure,
    Watched,
)

#: How all names begin.
_NAMESPACE: Final = "distkit_actors"
#: Units as Prometheus writes them in names; what is counted is in the name already.
_UNITS: Final = {"s": "_seconds"}


@final
class CounterCollector(Collector):
    """Shows counters to Prometheus: their own slices, their statistics, and outages.

    Register it once, with `prometheus_client.REGISTRY` or another registry; `add` counters as they
    come. They are not kept alive, and one that has ended is not shown any more. It asks nobody, so
    a scrape takes no longer while the store is away, and any thread may scrape.

    The metrics and their labels are in ``docs/observability.md``. There are no cumulatives:
    every worker sees the whole of one, so their sum would be too much as many times as there are
    workers. The slices of all instances add up to it: ``sum by (prefix, key)
    (distkit_actors_slice)``.

    Args:
        counters: Those to begin with.
        keys: Show the slices of these keys only; by default of all.
        max_keys: Show the slices of so many keys of a counter at most, the first by name. How many
            it has is in ``distkit_actors_own_keys``.

    Raises:
        TypeError: Not a counter.
        ValueError: ``max_keys`` is negative.
    """

    def __init__(
        self,
        *counters: InstanceAwareCounter,
        keys: Collection[str] | None = None,
        max_keys: int = 1000,
    ) -> None:
        self._watched = Watched(keys, max_keys)
        for counter in counters:
            self.add(counter)

    def add(self, counter: InstanceAwareCounter) -> None:
        """Show ``counter``, too, from its start to its end. Not a checkpoint; any thread may."""
        self._watched.add(counter)

    def collect(self) -> Iterator[Metric]:
        """Return what there is now; Prometheus' client calls it for each scrape."""
        samples = list(self._watched.samples())
        for measure in MEASURES:
            family = _family(measure)
            for sample in samples:
                value = measure.read(sample.statistics)
                if value is not None:
                    family.add_metric(sample.labels, value)
            yield family
        state, slices, own_keys = _further()
        for sample in samples:
            for name in STATES:
                state.add_metric((*sample.labels, name), sample.statistics.state == name)
            for key, value in sample.slices.items():
                slices.add_metric((*sample.labels, key), value)
            own_keys.add_metric(sample.labels, sample.own_keys)
        yield from (state, slices, own_keys)

    def describe(self) -> Iterator[Metric]:
        """Return the metrics without their values; Prometheus' client compares the names."""
        yield from map(_family, MEASURES)
        yield from _further()


def _family(measure: Measure) -> CounterMetricFamily | GaugeMetricFamily:
    name = f"{_NAMESPACE}_{measure.name.replace(' ', '_')}{_UNITS.get(measure.unit, '')}"
    if measure.kind == "total":
        return CounterMetricFamily(name, measure.text, labels=LABELS)  # it adds _total
    return GaugeMetricFamily(name, measure.text, labels=LABELS)


def _further() -> tuple[GaugeMetricFamily, GaugeMetricFamily, GaugeMetricFamily]:
    return (
        GaugeMetricFamily(f"{_NAMESPACE}_state", STATE_TEXT, labels=(*LABELS, "state")),
        GaugeMetricFamily(f"{_NAMESPACE}_slice", SLICE_TEXT, labels=(*LABELS, "key")),
        GaugeMetricFamily(f"{_NAMESPACE}_own_keys", OWN_KEYS_TEXT, labels=LABELS),
    )
