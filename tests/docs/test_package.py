"""What is published is complete, and reads well where only the README is shown."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"\]\(([^)]*)\)|^\[[^]]+\]:\s*(\S+)|(?:src|href)=\"([^\"]*)\"", re.MULTILINE)

#: Made by tools, or of this machine only.
NOT_SOURCE = {"__pycache__", "build", "dist", "htmlcov"}
#: Taken by the build in any case.
ALWAYS = {"LICENSE", "README.md", "pyproject.toml"}


def test_the_readme_has_no_links_that_lead_nowhere_outside_the_repository() -> None:
    """An index of packages shows it alone: a path beside it is a broken link there."""
    found = [
        link for links in LINK.findall((ROOT / "README.md").read_text("utf-8")) for link in links
    ]
    assert "https://trio.readthedocs.io" in found  # it does find links
    assert [link for link in found if link and not link.startswith(("https://", "#"))] == []


def test_the_source_distribution_has_all_there_is() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    include = set(project["tool"]["hatch"]["build"]["targets"]["sdist"]["include"])
    there = {path.name for path in ROOT.iterdir()} - NOT_SOURCE
    wanted = {f"/{name}" for name in there - ALWAYS if not name.startswith((".", "PKG-INFO"))}
    assert wanted <= include
    assert "/.ci/run" in include  # what `make ci` runs
