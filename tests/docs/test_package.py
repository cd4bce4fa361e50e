"""What is published is complete, and reads well where only the README is shown."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
LINK = re.compile(r"\]\(([^)]*)\)|^\[[^]]+\]:\s*(\S+)|(?:src|href)=\"([^\"]*)\"", re.MULTILINE)

#: These pages say what is in the repository, and what to do with it; where paths begin in them.
PAGES = ("CONTRIBUTING.md", "docs/releasing.md")
FIRST_PART = re.compile(r"`(\w[\w.-]*)")
#: Made by tools.
NOT_SOURCE = {"build", "dist", "htmlcov"}
#: Taken by the build in any case.
ALWAYS = {"LICENSE", "README.md", "pyproject.toml"}


def test_the_readme_has_no_links_that_lead_nowhere_outside_the_repository() -> None:
    """An index of packages shows it alone: a path beside it is a broken link there."""
    found = [
        link for links in LINK.findall((ROOT / "README.md").read_text("utf-8")) for link in links
    ]
    assert "https://trio.readthedocs.io" in found  # it does find links
    assert [link for link in found if link and not link.startswith(("https://", "#"))] == []


def test_the_source_distribution_has_all_that_contributors_need() -> None:
    """What else may lie in the checkout is of this machine only."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    include = set(project["tool"]["hatch"]["build"]["targets"]["sdist"]["include"])
    pages = [(ROOT / page).read_text("utf-8") for page in PAGES]
    named = {name for page in pages for name in FIRST_PART.findall(page)} - NOT_SOURCE - ALWAYS
    wanted = {f"/{name}" for name in named if (ROOT / name).exists()}
    assert {"/benchmarks", "/hatch_build.py", "/newsfragments"} <= wanted  # it does find names
    wanted |= {
        "/CONTRIBUTING.md",
        "/Makefile",
        "/.ci/run",
    }  # where to begin, and what `make ci` runs
    assert wanted <= include
    assert [name for name in sorted(include) if not (ROOT / name[1:]).exists()] == []


def test_the_floors_can_be_installed() -> None:
    """What `make test-floor` makes of the dependencies is understood by pip."""
    (line,) = [line for line in (ROOT / "Makefile").read_text().splitlines() if "tomllib" in line]
    code = line.split(" -c '")[1].split("' > ")[0]
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    floors = [Requirement(text) for text in done.stdout.splitlines()]
    stated = [Requirement(text) for text in PROJECT["dependencies"]]
    assert [floor.name for floor in floors] == [one.name for one in stated]
    for floor, one in zip(floors, stated, strict=True):
        (least,) = [part.version for part in one.specifier if part.operator == ">="]
        assert str(floor.specifier) == f"=={least}.*"
        assert floor.marker == one.marker


def test_what_documents_are_made_with_can_import_every_module() -> None:
    """Sphinx does; whoever only builds the documents has nothing else."""
    extras = PROJECT["optional-dependencies"]["docs"]
    there = {Requirement(text).name.replace("-", "_") for text in extras + PROJECT["dependencies"]}
    there |= {"opentelemetry", "docutils", "hiredis", "distkit_actors", *sys.stdlib_module_names}
    needed: set[str] = set()
    for path in (ROOT / "distkit_actors").rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Import):
                needed |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                needed.add((node.module or "").partition(".")[0])
    assert {"click", "rich", "pytest", "trio"} <= needed
    assert needed - there == set()
