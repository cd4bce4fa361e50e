"""What Prometheus is shown of counters, as it would read it."""

from __future__ import annotations

import gc
import re
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
import trio.lowlevel
import trio.testing
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from distkit_actors import (
    InstanceConflictError,
    LaxInstanceAwareCounter,
    MemoryStore,
    StoreError,
    StrictInstanceAwareCounter,
)
from distkit_actors._limiter._names import TICKETS, companion
from distkit_actors.abc import Link
from distkit_actors.prometheus import CounterCollector
from distkit_actors.testing import FaultyStore

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def exposed(collector: CounterCollector) -> Samples:
    """Scrape: {(name, labels): value}."""
    registry = CollectorRegistry()
    registry.register(collector)
    return read(generate_latest(registry).decode())


def read(text: str) -> Samples:
    found: Samples = {}
    for family in parse(text):
        for sample in family.samples:
            where = (sample.name, frozenset(sample.labels.items()))
            assert where not in found, "Prometheus refuses a series that comes twice"
            found[where] = sample.value
    return found


def of(samples: Samples, name: str, **labels: str) -> list[float]:
    """The values of a metric where it has these labels."""
    return [
        value
        for (found, having), value in samples.items()
        if found == f"distkit_actors_{name}" and labels.items() <= having
    ]


async def test_it_shows_own_slices_and_never_a_cumulative() -> None:
    store = MemoryStore()
    async with (
        StrictInstanceAwareCounter.open("app", store, instance_id="a") as a,
        LaxInstanceAwareCounter.open("app", store, instance_id="b") as b,
    ):
        await a.inc("k", 5)
        await a.inc("gone", 1)
        await a.dec("gone", 1)
        await b.inc("k", 7)
        await b.flush()
        assert a.own_slices() == {"k": 5}
        seen = exposed(CounterCollector(a, b))
        mine = {"prefix": "app", "key": "k"}
        assert of(seen, "slice", kind="strict", instance_id="a", **mine) == [5]
        assert of(seen, "slice", kind="lax", instance_id="b", **mine) == [7]
        assert sum(of(seen, "slice", **mine)) == (await a.get("k")).cumulative
        assert of(seen, "own_keys") == [1, 1]
        assert 12 not in of(seen, "slice")


async def test_what_is_not_acknowledged_is_pending_and_no_slice(
    autojump_clock: trio.testing.MockClock,
) -> None:
    store = FaultyStore(MemoryStore())
    async with LaxInstanceAwareCounter.open("app", store) as counter:
        await counter.inc("k", 5)
        await counter.flush()
        store.cut()
        counter.inc_nowait("k", 2)
        await trio.sleep(100)
        seen = exposed(CounterCollector(counter))
        assert (of(seen, "slice"), of(seen, "pending_keys")) == ([5], [1])
        assert of(seen, "state", state="away") == [1]
        assert sum(of(seen, "state")) == 1
        assert of(seen, "connected") == [0]
        assert of(seen, "outages_total") == [1]
        (outage,) = of(seen, "outage_age_seconds")
        (age,) = of(seen, "heartbeat_age_seconds")
        assert 95 < outage <= age < 102
        store.heal()
        await counter.flush()
        seen = exposed(CounterCollector(counter))
        assert (of(seen, "slice"), of(seen, "pending_keys")) == ([7], [0])
        assert (of(seen, "outages_total"), of(seen, "outage_age_seconds")) == ([1], [0])
        assert of(seen, "state", state="running") == [1]


async def test_a_refusal_is_an_outage_too() -> None:
    store = FaultyStore(MemoryStore())
    async with StrictInstanceAwareCounter.open("app", store) as counter:
        assert counter.statistics().outage_age is None
        store.refuse(StoreError("no"))
        with pytest.raises(StoreError):
            await counter.inc("k")
        assert (counter.statistics().outages, counter.statistics().state) == (1, "running")
        assert counter.statistics().outage_age is not None
        store.refuse(None)
        await counter.inc("k")
        assert (counter.statistics().outages, counter.statistics().outage_age) == (1, None)


async def test_statistics_are_shown() -> None:
    async with StrictInstanceAwareCounter.open("app", MemoryStore()) as counter:
        for _ in range(3):
            await counter.inc("k")
        seen = exposed(CounterCollector(counter))
        assert of(seen, "operations_total") == [3]
        assert of(seen, "batches_total") == [counter.statistics().batches_done]
        assert of(seen, "in_flight_age_seconds") == []  # there is none


async def test_counters_come_and_go() -> None:
    store, collector = MemoryStore(), CounterCollector()
    assert exposed(collector) == {}
    late = StrictInstanceAwareCounter("app", store)
    collector.add(late)
    assert exposed(collector) == {}  # it has no name yet
    async with StrictInstanceAwareCounter.open("app", store, instance_id="a") as a:
        collector.add(a)
        collector.add(a)  # once is enough
        await a.inc("k")
        async with trio.open_nursery() as nursery:
            await nursery.start(late.run)
            assert len(of(exposed(collector), "connected")) == 2
            await late.aclose()
        assert len(of(exposed(collector), "connected")) == 1
    assert exposed(collector) == {}
    assert a.own_slices() == {}


async def test_one_that_was_not_started_is_not_shown_in_place_of_one_that_runs() -> None:
    store, collector = MemoryStore(), CounterCollector()
    async with StrictInstanceAwareCounter.open("app", store, instance_id="a") as a:
        await a.inc("k", 5)
        collector.add(a)
        spare = StrictInstanceAwareCounter("app", store, instance_id="a")
        collector.add(spare)
        seen = exposed(collector)
        assert (of(seen, "slice"), of(seen, "connected")) == ([5], [1])
    assert exposed(collector) == {}


async def test_both_faces_of_a_counter_are_shown_once() -> None:
    async with LaxInstanceAwareCounter.open("app", MemoryStore(), instance_id="a") as a:
        await a.strict.inc("k", 5)
        for collector in (
            CounterCollector(a.strict),
            CounterCollector(a, a.strict),
            CounterCollector(a.strict, a),
        ):
            seen = exposed(collector)
            assert of(seen, "slice") == of(seen, "slice", kind="lax", instance_id="a") == [5]


async def test_it_keeps_no_counter_alive() -> None:
    collector = CounterCollector(StrictInstanceAwareCounter("app", MemoryStore(), instance_id="a"))
    gc.collect()
    assert exposed(collector) == {}


async def test_the_superseded_is_shown_as_such_and_without_slices(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def warn(_: object) -> tuple[str, ...]:
        await trio.lowlevel.checkpoint()
        return ("it may evict any key",)

    monkeypatch.setattr(Link, "inspect", warn)
    store = MemoryStore()
    with pytest.raises(InstanceConflictError):  # noqa: PT012 - when the block is left
        async with StrictInstanceAwareCounter.open("app", store, instance_id="a") as old:
            await old.inc("k")
            while of(exposed(CounterCollector(old)), "store_warnings") != [1]:  # noqa: ASYNC110 - nothing tells
                await trio.sleep(1)
            async with StrictInstanceAwareCounter.open("app", store, instance_id="a"):
                with pytest.raises(InstanceConflictError):
                    await old.inc("k")
                seen = exposed(CounterCollector(old))
                assert of(seen, "state", state="superseded") == [1]
                assert of(seen, "slice") == []
                await trio.sleep_forever()
    # An alert has to see it, and the counter ends sooner than the next scrape comes.
    seen = exposed(CounterCollector(old))
    assert of(seen, "state", state="superseded") == [1]
    assert of(seen, "store_warnings") == [0]  # an alert on it would not end


async def test_whoever_has_the_id_now_is_shown_in_place_of_the_superseded() -> None:
    store, collector = MemoryStore(), CounterCollector()
    for last in range(3):
        with pytest.raises(InstanceConflictError):  # noqa: PT012 - when the block is left
            async with StrictInstanceAwareCounter.open("app", store, instance_id="a") as old:
                collector.add(old)
                async with StrictInstanceAwareCounter.open("app", store, instance_id="a") as new:
                    if last:
                        collector.add(new)
                    with pytest.raises(InstanceConflictError):
                        await old.inc("k")
                    state = "running" if last else "superseded"
                    assert of(exposed(collector), "state", state=state) == [1]
                    await trio.sleep_forever()
        # Nor does it come back with its totals, once they have been shown to be those of another.
        assert of(exposed(collector), "state", state="superseded") == ([] if last else [1])


async def test_of_two_superseded_the_later_one_is_shown() -> None:
    store, collector = MemoryStore(), CounterCollector()
    kept = list[StrictInstanceAwareCounter]()
    for number in range(2):
        with pytest.raises(InstanceConflictError):  # noqa: PT012 - when the block is left
            async with StrictInstanceAwareCounter.open("app", store, instance_id="a") as counter:
                collector.add(counter)
                kept.append(counter)
                for _ in range(number):
                    await counter.inc("k")
                async with StrictInstanceAwareCounter.open("app", store, instance_id="a"):
                    with pytest.raises(InstanceConflictError):
                        await counter.inc("k")
                    await trio.sleep_forever()
    assert [counter.statistics().state for counter in kept] == 2 * ["superseded"]
    for _ in range(2):
        assert of(exposed(collector), "operations_total") == [1]


async def test_whoever_has_the_id_in_another_store_replaces_nobody() -> None:
    """An alert has to see the superseded, whatever goes on elsewhere."""
    store, collector = MemoryStore(), CounterCollector()
    with pytest.raises(InstanceConflictError):  # noqa: PT012 - when the block is left
        async with StrictInstanceAwareCounter.open("app", store, instance_id="a") as old:
            collector.add(old)
            async with (
                LaxInstanceAwareCounter.open("app", MemoryStore(), instance_id="a") as other,
                StrictInstanceAwareCounter.open("app", store, instance_id="a"),
            ):
                collector.add(other)
                with pytest.raises(InstanceConflictError):
                    await old.inc("k")
                for _ in range(2):
                    assert of(exposed(collector), "state", kind="strict", state="superseded") == [1]
                await trio.sleep_forever()


async def test_whoever_has_the_id_now_may_be_of_the_other_kind() -> None:
    store, collector = MemoryStore(), CounterCollector()
    with pytest.raises(InstanceConflictError):  # noqa: PT012 - when the block is left
        async with StrictInstanceAwareCounter.open("app", store, instance_id="a") as old:
            collector.add(old)
            async with LaxInstanceAwareCounter.open("app", store, instance_id="a") as new:
                with pytest.raises(InstanceConflictError):
                    await old.inc("k")
                assert of(exposed(collector), "state", state="superseded") == [1]
                collector.add(new)
                assert of(exposed(collector), "state", state="superseded") == [0]
                assert of(exposed(collector), "state", state="running") == [1]
                await trio.sleep_forever()


async def test_no_labels_come_twice_though_the_superseded_does_not_know_it_yet() -> None:
    store, collector = MemoryStore(), CounterCollector()
    with pytest.raises(InstanceConflictError):  # noqa: PT012 - when the block is left
        async with StrictInstanceAwareCounter.open("app", store, instance_id="a") as old:
            collector.add(old)
            await old.inc("k")
            async with StrictInstanceAwareCounter.open("app", store, instance_id="a") as new:
                collector.add(new)
                await new.inc("k", 5)
                assert old.statistics().state == "running"
                assert of(exposed(collector), "slice") == [5]
                with pytest.raises(InstanceConflictError):
                    await old.inc("k")
                await trio.sleep_forever()


async def test_how_many_keys_are_shown_is_bounded() -> None:
    async with StrictInstanceAwareCounter.open("app", MemoryStore()) as counter:
        await counter.inc_all({f"k{n}": n + 1 for n in range(5)})
        seen = exposed(CounterCollector(counter, max_keys=2))
        assert (of(seen, "slice"), of(seen, "own_keys")) == ([1, 2], [5])
        seen = exposed(CounterCollector(counter, keys=["k4", "other"]))
        assert of(seen, "slice") == [5]
    with pytest.raises(ValueError, match="max_keys"):
        CounterCollector(max_keys=-1)
    with pytest.raises(TypeError, match="collection"):
        CounterCollector(keys="k4")
    with pytest.raises(TypeError, match="a counter is needed"):
        CounterCollector("app")  # type: ignore[arg-type]


async def test_tickets_of_limiters_are_shown_to_those_who_ask_for_them() -> None:
    """They are times, and their sum means nothing."""
    tickets = companion("jobs", TICKETS, 1)
    async with StrictInstanceAwareCounter.open("app", MemoryStore()) as counter:
        await counter.inc_all({"jobs": 1, tickets: 1_750_000_000_000})
        seen = exposed(CounterCollector(counter))
        assert (of(seen, "slice"), of(seen, "own_keys")) == ([1], [2])
        seen = exposed(CounterCollector(counter, keys=[tickets]))
        assert of(seen, "slice") == [1_750_000_000_000]


async def test_names_are_as_prometheus_has_them() -> None:
    """Base units, `_total` for what only grows, help for all; both formats can be parsed."""
    async with LaxInstanceAwareCounter.open("app", MemoryStore()) as counter:
        await counter.inc('k"x', 1)
        await counter.flush()
        registry = CollectorRegistry()
        registry.register(CounterCollector(counter))
        with pytest.raises(ValueError, match="Duplicated"):
            registry.register(CounterCollector())
        families = list(parse(generate_latest(registry).decode()))
        assert list(parse_openmetrics(openmetrics.generate_latest(registry).decode()))
    assert len(families) > 14
    for family in families:
        assert re.fullmatch(r"distkit_actors(_[a-z]+)+", family.name)
        assert family.documentation.endswith(".")
        assert family.type in ("counter", "gauge")
        assert not family.name.endswith(("_ms", "_milliseconds", "_count", "_sum"))
        assert ("age" in family.name.split("_")) == family.name.endswith("_seconds")
        for sample in family.samples:
            assert sample.name.endswith("_total") == (family.type == "counter")


@pytest.fixture
def frequent_switches() -> Iterator[None]:
    """Have threads take turns so often that a scrape is interrupted, and does not wait for long."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    yield
    sys.setswitchinterval(usual)


async def test_a_server_in_a_thread_shows_counters_at_work(frequent_switches: None) -> None:
    """Scrape after scrape, while the counter's own thread counts."""
    async with LaxInstanceAwareCounter.open("p", MemoryStore(), flush_interval=0.001) as counter:
        registry = CollectorRegistry()
        registry.register(CounterCollector(counter))
        server, thread = start_http_server(0, "127.0.0.1", registry)
        url = f"http://127.0.0.1:{server.server_port}/metrics"
        scrapes: list[Samples] = []
        done = threading.Event()

        def scrape() -> None:
            try:
                for _ in range(25):
                    with urllib.request.urlopen(url) as answer:
                        scrapes.append(read(answer.read().decode()))
            finally:
                done.set()

        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.to_thread.run_sync, scrape)
                number = 0
                while not done.is_set():
                    for _ in range(25):
                        counter.inc_nowait(f"k-{number % 100}")
                        number += 1
                    await trio.lowlevel.checkpoint()
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
        await counter.flush()
        last = exposed(CounterCollector(counter))
        assert sum(of(last, "slice")) == number
    sums = [sum(of(seen, "slice")) for seen in scrapes]
    assert sums == sorted(sums)  # nothing is missing for a moment
    assert sums[-1] > 0


@pytest.fixture
def without_extras(tmp_path: Path) -> dict[str, str]:
    """An environment where neither library can be imported."""
    for name in ("prometheus_client", "opentelemetry"):
        (tmp_path / f"{name}.py").write_text(
            f"raise ModuleNotFoundError('No module named {name}', name={name!r})"
        )
    root = Path(__file__).resolve().parent.parent.parent
    return {"PYTHONPATH": f"{tmp_path}:{root}", "PATH": ""}


@pytest.mark.parametrize("module", ["prometheus", "opentelemetry"])
def test_without_its_library_it_says_what_to_install(
    module: str, without_extras: dict[str, str]
) -> None:
    code = f"import distkit_actors; print('so far'); import distkit_actors.{module}"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=without_extras,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == "so far\n"
    assert f"pip install 'distkit-actors[{module}]'" in done.stderr.splitlines()[-1]
