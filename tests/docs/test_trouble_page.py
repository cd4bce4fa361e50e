"""The page for those in trouble quotes messages as they are."""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterator
from pathlib import Path

import distkit_actors
from distkit_actors import abc
from distkit_actors._actor._admission import closed_text

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = (ROOT / "docs" / "howto" / "trouble.md").read_text(encoding="utf-8")
ERRORS = PAGE.partition("## Errors")[2].partition("## ")[0]
QUOTED = re.compile(r"^\| `(\w+)(?:: ([^`]*))?`", re.MULTILINE)
#: What the system says, and not this package.
SYSTEM = ("Connection refused", "Name or service not known")


def said() -> Iterator[str]:
    """Every text in the source; what is put into one is ``…``."""
    for path in (ROOT / "distkit_actors").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = node.values
                yield "".join(str(p.value) if isinstance(p, ast.Constant) else "…" for p in parts)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def test_each_message_is_one_that_is_said() -> None:
    texts = "\n".join([*said(), closed_text("not started"), closed_text("closed")])
    quoted = QUOTED.findall(ERRORS)
    assert len(quoted) == ERRORS.count("\n| `")
    for name, message in quoted:
        for piece in filter(None, map(str.strip, message.split("…"))):
            assert piece in SYSTEM or piece.rstrip(" :") in texts, (name, piece)


def test_each_error_is_one_that_there_is() -> None:
    for name, _ in QUOTED.findall(ERRORS):
        assert any(hasattr(place, name) for place in (distkit_actors, abc, builtins)), name
