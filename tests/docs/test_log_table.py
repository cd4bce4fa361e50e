"""Every line that is logged stands in the table of `docs/observability.md`, with its data."""

from __future__ import annotations

import ast
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGE = ROOT / "distkit_actors"
#: Where every line of a counter is made, and who logs beside that.
LOG = PACKAGE / "_actor" / "_log.py"
OTHERS = {PACKAGE / "_stores" / "_redis" / "_bridge" / "_loop.py"}
METHODS = {"debug", "info", "warning", "error", "exception", "critical", "log"}
#: What every record has.
COMMON = {"event", "prefix", "instance", "label", "store", "kind"}


class Line(NamedTuple):
    """One kind of line."""

    event: str
    level: str
    data: frozenset[str]


def documented() -> list[Line]:
    """The rows of the table."""
    page = (ROOT / "docs" / "observability.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| ([A-Z]+) \|([^|]*)\|", page, re.MULTILINE)
    return [Line(e, level, frozenset(re.findall(r"`(\w+)`", data))) for e, level, data in rows]


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    """Every call in a module that goes to a method, with that method's name."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            yield ast.unparse(node.func), node


def logs(path: Path) -> list[ast.Call]:
    """The calls in a module that log something."""
    found = [(name.rpartition("."), call) for name, call in calls(path)]
    return [call for (of, _, name), call in found if of.endswith("log") or of == "logger"
            if name in METHODS]  # fmt: skip


def written() -> Iterator[Line]:
    """The lines that the source can log, all of which go through `Log._say`, or have their own."""
    for name, call in calls(LOG):
        if name == "self._say":
            level, event = call.args[:2]
            assert isinstance(event, ast.Constant), "an event is a word that can be searched for"
            data = frozenset(keyword.arg or "**" for keyword in call.keywords)
            yield Line(event.value, ast.unparse(level).removeprefix("logging."), data)
    for path in OTHERS:
        for call in logs(path):
            (extra,) = [keyword.value for keyword in call.keywords if keyword.arg == "extra"]
            data = {ast.literal_eval(key) for key in extra.keys}  # type: ignore[attr-defined]
            assert data >= COMMON
            (event,) = [
                ast.literal_eval(value)
                for key, value in zip(extra.keys, extra.values, strict=True)  # type: ignore[attr-defined]
                if ast.literal_eval(key) == "event"
            ]
            assert isinstance(call.func, ast.Attribute)
            yield Line(event, call.func.attr.upper(), frozenset(data - COMMON))


def test_the_table_has_every_line() -> None:
    found = {line.event: line for line in written()}
    assert len(found) > 15
    assert {line.event: line for line in documented()} == found


def test_nobody_else_logs() -> None:
    """So that every line has its data."""
    loggers = [path for path in sorted(PACKAGE.rglob("*.py")) if logs(path)]
    assert set(loggers) == {LOG, *OTHERS}
    assert len(logs(LOG)) == 1  # the one in `_say`


def test_a_call_that_logs_is_found(tmp_path: Path) -> None:
    path = tmp_path / "new.py"
    path.write_text("_log.warning('x')\nlogger.error('y')\nself.warning('z')\n", encoding="utf-8")
    assert [ast.unparse(call.func) for call in logs(path)] == ["_log.warning", "logger.error"]


@pytest.mark.parametrize("name", sorted(COMMON.union(*(line.data for line in documented()))))
def test_no_attribute_hides_one_of_the_record(name: str) -> None:
    """`logging` refuses that, but only for a line that is logged."""
    own = vars(logging.makeLogRecord({})) | {"message": "", "asctime": "", "taskName": ""}
    assert name not in own
