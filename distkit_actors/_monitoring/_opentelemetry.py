"""Counters as OpenTelemetry is shown them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import final

from ._extras import explained

try:
    from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation, get_meter
except ModuleNotFoundError as error:  # pragma: no cover - where it is not installed
    raise explained(
        error, module="opentelemetry", distribution="opentelemetry-api", extra="opentelemetry"
    ) from None

from .._counters._counter import InstanceAwareCounter
from .._version import __version__
from ._measures import MEASURES, Measure
from ._watched import Watched


@final
class CounterInstruments:
    """Shows counters to OpenTelemetry: their own slices, their statistics, and outages.

    Make it once for each meter provider, and `add` counters as they come. They are not kept alive,
    and one that has ended is not shown any more. It asks nobody, so that reading takes no longer
    while the store is away, and any thread may read.

    One that is superseded is shown until the object is gone, or another counter of this process
    has its id: an alert could not see it otherwise, as it ends at once.

    The instruments, their attributes and units are in ``docs/observability.md``. There are no
    cumulatives: each of ten workers would show the whole, and the sum of that is ten times too
    large. The slices of all instances, ``distkit_actors.slice``, add up to the cumulative.

    Args:
        counters: Those to begin with.
        keys: Show the slices of these keys only; by default of all but the tickets of limiters.
        max_keys: Show the slices of so many keys of a counter at most, the first by name. How many
            it has is in ``distkit_actors.own_keys``.
        meter_provider: Whose instruments they are; by default the global one's.

    Raises:
        TypeError: Not a counter.
        ValueError: ``max_keys`` is negative.
    """

    def __init__(
        self,
        *counters: InstanceAwareCounter,
        keys: Collection[str] | None = None,
        max_keys: int = 1000,
        meter_provider: MeterProvider | None = None,
    ) -> None:
        self._watched = Watched(counters, keys, max_keys)
        meter = get_meter("distkit_actors", __version__, meter_provider)
        make = {
            "total": meter.create_observable_counter,
            "gauge": meter.create_observable_gauge,
            "sum": meter.create_observable_up_down_counter,
        }
        for measure in MEASURES:
            name = "distkit_actors." + measure.name.replace(" ", "_")
            unit = measure.unit if measure.unit in ("", "s") else f"{{{measure.unit}}}"
            make[measure.kind](name, [self._callback(measure)], unit, measure.text)

    def add(self, counter: InstanceAwareCounter) -> None:
        """Show ``counter``, too, from its start to its end, or longer if it is superseded.

        Not a checkpoint; any thread may call it. Raises `TypeError` for what is no counter.
        """
        self._watched.add(counter)

    def _callback(self, measure: Measure) -> Callable[[CallbackOptions], Iterator[Observation]]:
        def observe(_: CallbackOptions) -> Iterator[Observation]:
            for sample in self._watched.samples():
                for labels, value in measure.points(sample):
                    yield Observation(value, dict(zip(measure.labels, labels, strict=True)))

        return observe
