"""A rule of the protocol that is cited by its number has words beside it."""

from __future__ import annotations

import re
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "distkit_actors"
SOURCES = sorted(path for end in ("py", "lua") for path in PACKAGE.rglob(f"*.{end}"))
TITLE = re.compile(r'"""[A-Z][\w ]* \(P\d+\)')


def bare(text: str) -> list[str]:
    return [
        line.strip()
        for line in text.splitlines()
        if re.search(r"\(P\d+b?(?:, P\d+b?)*\)", line) and not TITLE.search(line)
    ]


def test_a_rule_that_is_cited_has_words() -> None:
    assert len(SOURCES) > 100
    found = {path.relative_to(PACKAGE): bare(path.read_text("utf-8")) for path in SOURCES}
    assert {path: lines for path, lines in found.items() if lines} == {}


def test_a_number_alone_is_found() -> None:
    assert bare('"""Holds (P36)."""\nx = 1  # it is so (P4, no partial effect)') == []
    assert bare("it is so (P4)") == ["it is so (P4)"]
    assert bare("it is so (P4, P5)") == ["it is so (P4, P5)"]
