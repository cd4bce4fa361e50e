"""What OpenTelemetry is shown of counters."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from distkit_actors import (
    InstanceConflictError,
    LaxInstanceAwareCounter,
    MemoryStore,
    StrictInstanceAwareCounter,
)
from distkit_actors._monitoring._measures import MEASURES
from distkit_actors.opentelemetry import CounterInstruments
from distkit_actors.prometheus import CounterCollector
from distkit_actors.testing import FaultyStore


class Reading:
    """A meter provider that is read on demand."""

    def __init__(self) -> None:
        self.reader = InMemoryMetricReader()
        self.provider = MeterProvider([self.reader], shutdown_on_exit=False)

    def metrics(self) -> dict[str, Any]:
        data = self.reader.get_metrics_data()
        return {
            metric.name: metric
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def values(self, name: str, **attributes: str) -> list[float]:
        metric = self.metrics().get(f"distkit_actors.{name}")
        points = metric.data.data_points if metric else ()
        return [p.value for p in points if attributes.items() <= dict(p.attributes).items()]


@pytest.fixture
def reading() -> Reading:
    return Reading()


async def test_it_shows_own_slices_that_add_up(reading: Reading) -> None:
    store = MemoryStore()
    async with (
        StrictInstanceAwareCounter.open("app", store, instance_id="a") as a,
        LaxInstanceAwareCounter.open("app", store, instance_id="b") as b,
    ):
        instruments = CounterInstruments(a, meter_provider=reading.provider)
        instruments.add(b)
        await a.inc("k", 5)
        await b.inc("k", 7)
        await b.flush()
        assert reading.values("slice", kind="strict", instance_id="a", key="k") == [5]
        assert reading.values("slice", kind="lax", instance_id="b", key="k") == [7]
        slices = reading.metrics()["distkit_actors.slice"]
        assert not slices.data.is_monotonic  # a sum, which goes up and down
        done = [counter.statistics().operations_done for counter in (a, b)]
        assert reading.values("operations") == done
        assert reading.metrics()["distkit_actors.operations"].data.is_monotonic
        assert sum(reading.values("state", instance_id="a")) == 1
    assert reading.values("slice") == []


async def test_both_faces_of_a_counter_are_shown_once(reading: Reading) -> None:
    async with LaxInstanceAwareCounter.open("app", MemoryStore(), instance_id="a") as a:
        instruments = CounterInstruments(a.strict, meter_provider=reading.provider)
        instruments.add(a)
        instruments.add(a.strict)
        await a.strict.inc("k", 5)
        assert reading.values("slice") == reading.values("slice", kind="lax") == [5]
    del instruments


async def test_one_that_was_not_started_is_not_shown_in_place_of_one_that_runs(
    reading: Reading,
) -> None:
    store = MemoryStore()
    async with StrictInstanceAwareCounter.open("app", store, instance_id="a") as a:
        await a.inc("k", 5)
        spare = StrictInstanceAwareCounter("app", store, instance_id="a")
        instruments = CounterInstruments(a, spare, meter_provider=reading.provider)
        assert reading.values("slice") == [5]
        assert reading.values("state", state="new") == [0]
    assert reading.values("state") == []
    del instruments


async def test_a_superseded_counter_does_not_come_back_after_its_successor(
    reading: Reading,
) -> None:
    store = MemoryStore()
    with pytest.raises(InstanceConflictError):  # noqa: PT012 - when the block is left
        async with StrictInstanceAwareCounter.open("app", store, instance_id="a") as old:
            instruments = CounterInstruments(old, meter_provider=reading.provider)
            async with StrictInstanceAwareCounter.open("app", store, instance_id="a") as new:
                with pytest.raises(InstanceConflictError):
                    await old.inc("k")
                assert reading.values("state", state="superseded") == [1]
                instruments.add(new)
                assert reading.values("state", state="running") == [1]
                await trio.sleep_forever()
    assert old.statistics().state == "superseded"
    assert reading.values("state") == []


async def test_it_shows_an_outage(reading: Reading, autojump_clock: trio.testing.MockClock) -> None:
    store = FaultyStore(MemoryStore())
    async with LaxInstanceAwareCounter.open("app", store) as counter:
        instruments = CounterInstruments(counter, meter_provider=reading.provider)
        store.cut()
        counter.inc_nowait("k")
        await trio.sleep(100)
        assert reading.values("outages") == [1]
        assert reading.values("pending_keys") == [1]
        assert reading.values("state", state="away") == [1]
        (age,) = reading.values("outage_age")
        assert 95 < age < 101
        assert reading.metrics()["distkit_actors.outage_age"].unit == "s"
        store.heal()
    del instruments


async def test_it_has_what_prometheus_has(reading: Reading) -> None:
    """By names that an OpenTelemetry exporter makes the same of."""
    async with LaxInstanceAwareCounter.open("app", MemoryStore()) as counter:
        CounterInstruments(counter, meter_provider=reading.provider)
        await counter.inc("k")
        await counter.flush()
        names = set()
        for name, metric in reading.metrics().items():
            total = hasattr(metric.data, "is_monotonic") and metric.data.is_monotonic
            seconds = "_seconds" if metric.unit == "s" else ""
            names.add(name.replace(".", "_") + seconds + ("_total" if total else ""))
            assert metric.unit != "1"  # of which an exporter makes `_ratio`
            assert {type(point.value) for point in metric.data.data_points} <= {int, float}
        families = list(CounterCollector(counter).collect())
        assert names == {sample.name for family in families for sample in family.samples}
    assert len({measure.name for measure in MEASURES}) == len(MEASURES)


async def test_it_can_be_read_from_a_thread(reading: Reading) -> None:
    async with StrictInstanceAwareCounter.open("app", MemoryStore()) as counter:
        CounterInstruments(counter, meter_provider=reading.provider)
        await counter.inc("k", 3)
        assert await trio.to_thread.run_sync(reading.values, "slice") == [3]
