"""The dashboard, the alerts and the table of the docs ask for what the collector shows."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from distkit_actors import LaxInstanceAwareCounter, MemoryStore, StrictInstanceAwareCounter
from distkit_actors.prometheus import CounterCollector
from distkit_actors.testing import FaultyStore

DOCS = Path(__file__).resolve().parent.parent.parent / "docs"
DASHBOARD = DOCS / "examples" / "grafana-dashboard.json"
ALERTS = DOCS / "examples" / "prometheus-alerts.yml"
PAGE = DOCS / "observability.md"

Labels = dict[str, set[str]]


@pytest.fixture
async def shown() -> Labels:
    """Every metric that the collector can show, with its labels."""
    store = FaultyStore(MemoryStore())
    async with (
        StrictInstanceAwareCounter.open("app", store) as strict,
        LaxInstanceAwareCounter.open("app", store) as lax,
    ):
        await strict.inc("k")
        found = {
            sample.name: set(sample.labels)
            for family in CounterCollector(strict, lax).collect()
            for sample in family.samples
        }
        return found | {"distkit_actors_in_flight_age_seconds": {"prefix", "kind", "instance_id"}}


def queries() -> Iterator[str]:
    """Every query of the dashboard, those of its variables included."""

    def walk(node: Any) -> Iterator[str]:
        if isinstance(node, dict):
            for name, value in node.items():
                if name in ("expr", "query", "definition") and isinstance(value, str):
                    yield value
                else:
                    yield from walk(value)
        elif isinstance(node, list):
            for value in node:
                yield from walk(value)

    yield from walk(json.loads(DASHBOARD.read_text(encoding="utf-8")))


def alerts() -> list[str]:
    return re.findall(r"expr: (.*)", ALERTS.read_text(encoding="utf-8"))


def complaints(query: str, shown: Labels) -> Iterator[str]:
    """Metrics that there are not, and labels that these have not."""
    metrics = re.findall(r"distkit_actors_\w+", query)
    yield from (f"no metric {name}" for name in metrics if name not in shown)
    having: set[str] = set.intersection(*(shown.get(name, set()) for name in metrics))
    labels = re.findall(r"(\w+)=~?\"", query)
    for group in re.findall(r"\bby \(([^)]*)\)", query):
        labels += [label.strip() for label in group.split(",")]
    labels += re.findall(r"label_values\(.*, (\w+)\)", query)
    yield from (f"no label {label} in {query}" for label in labels if label not in having)


async def test_every_query_can_be_answered(shown: Labels) -> None:
    asked = [query for query in queries() if "distkit_actors" in query] + alerts()
    assert len(asked) > 20
    assert [complaint for query in asked for complaint in complaints(query, shown)] == []


async def test_a_query_that_cannot_be_answered_is_found(shown: Labels) -> None:
    for query in (
        "sum(distkit_actors_slices)",
        'distkit_actors_slice{name="x"}',
        "sum by (host) (distkit_actors_slice)",
        "label_values(distkit_actors_connected, key)",
    ):
        assert list(complaints(query, shown))


async def test_everything_that_is_shown_is_on_the_dashboard(shown: Labels) -> None:
    asked = "\n".join(queries())
    assert [name for name in shown if not re.search(rf"\b{name}\b", asked)] == []


def test_panels_have_places_and_names_of_their_own() -> None:
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len({panel["title"] for panel in panels}) == len(panels)
    assert all(panel["description"].endswith(".") for panel in panels)
    squares = [
        (x, y)
        for panel in panels
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(set(squares)) == len(squares)
    assert max(x for x, _ in squares) < 24


async def test_the_page_has_every_metric_with_its_labels(shown: Labels) -> None:
    page = PAGE.read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(distkit_actors_\w+)` \|([^|]*)\|", page, re.MULTILINE)
    common = {"prefix", "kind", "instance_id"}
    documented = {name: common | set(re.findall(r"`(\w+)`", more)) for name, more in rows}
    assert documented == shown
