"""What `docs/architecture.md` says is where, is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGE = ROOT / "distkit_actors"
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
LISTING = PAGE.split("```text\n")[1].split("```")[0]


def test_every_module_in_the_listing_is_there() -> None:
    named = re.findall(r"(?<![\w.])_\w+", LISTING)
    there = {path.stem for path in PACKAGE.rglob("*") if path.suffix in ("", ".py")}
    assert len(named) > 40
    assert [name for name in named if name not in there] == []


@pytest.mark.parametrize(
    "package",
    ["_actor", "_cli", "_counters", "_instance", "_monitoring", "_namespace", "_protocol"],
)
def test_the_listing_names_every_module_of(package: str) -> None:
    modules = {path.stem for path in (PACKAGE / package).glob("*.py")} - {"__init__"}
    assert {name for name in modules if not re.search(rf"\b{name}\b", LISTING)} == set()


def test_every_path_on_the_page_leads_somewhere() -> None:
    paths = set(re.findall(r"`((?:_\w+/)+\w*(?:\.\w+)?)`", PAGE))
    assert len(paths) > 15
    there = [PACKAGE / path for path in paths]
    assert [
        str(path) for path in there if not (path.exists() or path.with_suffix(".py").exists())
    ] == []
