"""The pages show the tables of states that the code runs by."""

from __future__ import annotations

import enum
from dataclasses import replace
from pathlib import Path

import pytest

from tests.docs.tables import DOCS, Machine, outdated


def test_the_pages_are_up_to_date() -> None:
    names = ", ".join(path.name for path in outdated(DOCS))
    assert not names, f"{names}: not up to date, run: python -m tests.docs.tables --write"


class Light(enum.Enum):
    RED = "r"
    GREEN = "g"
    OFF = "o"


class Event(enum.Enum):
    TICK = "a minute has passed"
    TOCK = "so has another"
    CUT = "there is no power"


LIGHTS = Machine(
    "lights",
    "page.md",
    {
        Light.RED: {Event.TICK: Light.GREEN, Event.TOCK: Light.GREEN, Event.CUT: Light.OFF},
        Light.GREEN: {Event.TICK: Light.RED, Event.TOCK: Light.GREEN, Event.CUT: Light.OFF},
        Light.OFF: {Event.CUT: Light.OFF},
    },
    {Light.RED: "stop"},
    "what it says",
)

SHOWN = """\
```text
RED   -- TICK, TOCK -> GREEN

GREEN -- TICK -------> RED
      -- TOCK -------> GREEN

(any) -- CUT --------> OFF
```

| state | what it says |
|---|---|
| `RED` | stop |
| `GREEN` | nothing |
| `OFF` | nothing |

| event | what has happened |
|---|---|
| TICK | a minute has passed |
| TOCK | so has another |
| CUT | there is no power |"""

STATES = SHOWN[SHOWN.index("| state") : SHOWN.index("| event")]

PAGE = """\
# Lights

<!-- states of lights: made by python -m tests.docs.tables -->
old
<!-- end of the states of lights -->

More.
"""


def test_a_machine_is_shown_as_a_diagram_and_tables() -> None:
    assert LIGHTS.text() == SHOWN
    assert replace(LIGHTS, note="").text() == SHOWN.replace(STATES, "")


def test_only_the_region_between_the_comments_is_written(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text(PAGE, encoding="utf-8")
    pages = outdated(tmp_path, [LIGHTS])
    assert pages == {tmp_path / "page.md": PAGE.replace("old", f"\n{SHOWN}\n")}
    (tmp_path / "page.md").write_text(pages[tmp_path / "page.md"], encoding="utf-8")
    assert outdated(tmp_path, [LIGHTS]) == {}


def test_a_page_without_a_region_is_not_written(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text(PAGE.replace("end of", "that was"), encoding="utf-8")
    with pytest.raises(ValueError, match="no region for the states of lights"):
        outdated(tmp_path, [LIGHTS])
