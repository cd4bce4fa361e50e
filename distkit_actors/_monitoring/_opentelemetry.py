"""Counters as OpenTelemetry is shown them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import final

try:
    from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation, get_meter
except ModuleNotFoundError as error:  # pragma: no cover - where it is not installed
    if (error.name or "").partition(".")[0] != "opentelemetry":
        raise
    raise ModuleNotFoundError(
        "distkit_actors.opentelemetry needs opentelemetry-api: pip install "
        "'distkit-actors[opentelemetry]'",
        name=error.name,
    ) from None

from .._counters._counter import InstanceAwareCounter
from .._version import __version__
from ._measures import (
    LABELS,
    MEASURES,
    OWN_KEYS_TEXT,
    SLICE_TEXT,
    STATE_TEXT,
    STATES,
    Measure,
    Sample,
    Watched,
)


@final
class CounterInstruments:
    """Shows counters to OpenTelemetry: their own slices, their statistics, and outages.

    Make it once for each meter provider, and `add` counters as they come. They are not kept alive,
    and one that has ended is not shown any more. It asks nobody, so that reading takes no longer
    while the store is away, and any thread may read.

    The instruments and their attributes are in ``docs/observability.md``. There are no
    cumulatives: every worker sees the whole of one, so their sum would be too much as many times
    as there are workers. The slices of all instances, ``distkit_actors.slice``, add up to it.

    Args:
        counters: Those to begin with.
        keys: Show the slices of these keys only; by default of all.
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
        self._watched = Watched(keys, max_keys)
        for counter in counters:
            self.add(counter)
        meter = get_meter("distkit_actors", __version__, meter_provider)
        for measure in MEASURES:
            name = "distkit_actors." + measure.name.replace(" ", "_")
            unit = measure.unit if measure.unit in ("", "s") else f"{{{measure.unit}}}"
            callbacks = [self._callback(_reading(measure))]
            if measure.kind == "total":
                meter.create_observable_counter(name, callbacks, unit, measure.text)
            else:
                meter.create_observable_gauge(name, callbacks, unit, measure.text)
        meter.create_observable_gauge(
            "distkit_actors.state", [self._callback(_states)], "", STATE_TEXT
        )
        # What adds up over instances is an up-down counter, and no gauge.
        meter.create_observable_up_down_counter(
            "distkit_actors.slice", [self._callback(_slices)], "", SLICE_TEXT
        )
        meter.create_observable_gauge(
            "distkit_actors.own_keys", [self._callback(_own_keys)], "{keys}", OWN_KEYS_TEXT
        )

    def add(self, counter: InstanceAwareCounter) -> None:
        """Show ``counter``, too, from its start to its end. Not a checkpoint; any thread may."""
        self._watched.add(counter)

    def _callback(
        self, read: Callable[[Sample], Iterable[Observation]]
    ) -> Callable[[CallbackOptions], Iterator[Observation]]:
        def observe(_: CallbackOptions) -> Iterator[Observation]:
            for sample in self._watched.samples():
                yield from read(sample)

        return observe


def _attributes(sample: Sample) -> dict[str, str]:
    return dict(zip(LABELS, sample.labels, strict=True))


def _reading(measure: Measure) -> Callable[[Sample], Iterator[Observation]]:
    def read(sample: Sample) -> Iterator[Observation]:
        value = measure.read(sample.statistics)
        if value is not None:
            yield Observation(value, _attributes(sample))

    return read


def _states(sample: Sample) -> Iterator[Observation]:
    for name in STATES:
        here = int(sample.statistics.state == name)
        yield Observation(here, _attributes(sample) | {"state": name})


def _slices(sample: Sample) -> Iterator[Observation]:
    for key, value in sample.slices.items():
        yield Observation(value, _attributes(sample) | {"key": key})


def _own_keys(sample: Sample) -> Iterator[Observation]:
    yield Observation(sample.own_keys, _attributes(sample))
