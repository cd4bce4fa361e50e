"""The reference has every public name, and each at one place."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import distkit_actors

REFERENCE = Path(__file__).parents[2] / "docs/reference"
DIRECTIVE = re.compile(r"^\.\. auto(?:class|data|exception|function):: (\w+)$", re.MULTILINE)


def test_each_public_name_is_on_one_page_of_the_reference() -> None:
    """Of `abc` and `testing` the page says `automodule`, which takes them all."""
    pages = [page.read_text("utf-8") for page in REFERENCE.glob("*.md")]
    written = Counter(str(name) for page in pages for name in DIRECTIVE.findall(page))
    exported = set(distkit_actors.__all__) - {"__version__"}
    assert written == Counter(exported)


def test_each_page_of_the_reference_is_in_its_table_of_contents() -> None:
    contents = (REFERENCE / "index.md").read_text("utf-8")
    names = {page.name for page in REFERENCE.glob("*.md")} - {"index.md"}
    assert set(re.findall(r"\((\w+\.md)\)", contents)) == names
