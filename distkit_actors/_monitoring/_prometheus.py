"""Counters as Prometheus is shown them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Final, final

from ._extras import explained

try:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
    from prometheus_client.registry import Collector
except ModuleNotFoundError as error:  # pragma: no cover - where it is not installed
    raise explained(
        error, module="prometheus_client", distribution="prometheus-client", extra="prometheus"
    ) from None

from .._counters._counter import InstanceAwareCounter
from ._measures import MEASURES, Measure
from ._watched import Watched

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

    One that is superseded is shown until the object is gone, or another counter of this process
    has its id: an alert could not see it otherwise, as it ends at once.

    The metrics, their labels and units are in ``docs/observability.md``. There are no cumulatives:
    each of ten workers would show the whole, and the sum of that is ten times too large. The slices
    of all instances add up to the cumulative: ``sum by (prefix, key) (distkit_actors_slice)``.

    Args:
        counters: Those to begin with.
        keys: Show the slices of these keys only; by default of all but the tickets of limiters.
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
        self._watched = Watched(counters, keys, max_keys)

    def add(self, counter: InstanceAwareCounter) -> None:
        """Show ``counter``, too, from its start to its end, or longer if it is superseded.

        Not a checkpoint; any thread may call it. Raises `TypeError` for what is no counter.
        """
        self._watched.add(counter)

    def collect(self) -> Iterator[Metric]:
        """Return what there is now; Prometheus' client calls it for each scrape."""
        samples = list(self._watched.samples())
        for measure in MEASURES:
            family = _family(measure)
            for sample in samples:
                for labels, value in measure.points(sample):
                    family.add_metric(labels, value)
            yield family

    def describe(self) -> Iterator[Metric]:
        """Return the metrics without their values; Prometheus' client compares the names."""
        return map(_family, MEASURES)


def _family(measure: Measure) -> CounterMetricFamily | GaugeMetricFamily:
    name = f"{_NAMESPACE}_{measure.name.replace(' ', '_')}{_UNITS.get(measure.unit, '')}"
    if measure.kind == "total":
        return CounterMetricFamily(name, measure.text, labels=measure.labels)  # it adds _total
    return GaugeMetricFamily(name, measure.text, labels=measure.labels)
