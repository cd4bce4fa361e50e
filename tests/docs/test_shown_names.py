"""What a reader sees must do by itself: no example needs a name that only hidden code has."""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = [*sorted(ROOT.glob("docs/**/*.md")), ROOT / "README.md"]

#: What every module has.
ALWAYS = {*dir(builtins), "__name__"}
#: A block that is shown; one that is hidden begins with ``<!--- invisible-code-block: python``.
SHOWN = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


#: A block that is a file of its own says its name.
FILE = re.compile(r"# \w+\.py\n")


class Block(NamedTuple):
    """One example."""

    tree: ast.Module
    alone: bool
    """Whether it is a file that is saved and run, rather than pasted below others."""


def shown_blocks(page: str) -> list[Block]:
    """Return the examples of a page, as a reader sees them."""
    found: list[Block] = []
    for text in SHOWN.findall(page):
        tree = ast.parse(text)
        runs = any(ast.unparse(node).startswith("trio.run(") for node in ast.walk(tree))
        found.append(Block(tree, runs or FILE.match(text) is not None))
    return found


def bound(tree: ast.AST) -> Iterator[str]:
    """Return the names that are made anywhere in the code: scopes are of no matter here."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names) | ast.ImportFrom(_, names):
                yield from ((alias.asname or alias.name).split(".")[0] for alias in names)
            case ast.Name(name, ast.Store()) | ast.arg(name):
                yield name
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.name
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)):
                yield name
            case _:
                pass


def used(tree: ast.AST) -> set[str]:
    """Return the names that the code reads."""
    return {
        node.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }


def missing(page: str) -> list[str]:
    """Return the names that a reader who does what is shown does not have."""
    known = set(ALWAYS)
    found: list[str] = []
    for tree, alone in shown_blocks(page):
        own = set(bound(tree))
        found += sorted(used(tree) - own - (ALWAYS if alone else known))
        known |= own
    return found


def idle_imports(page: str) -> list[str]:
    """Return the names that an example imports, and nothing below it uses."""
    blocks = shown_blocks(page)
    found: list[str] = []
    for number, (tree, alone) in enumerate(blocks):
        below = blocks[number : number + 1 if alone else None]
        needed = set[str]().union(*(used(block.tree) for block in below))
        imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
        found += [name for node in imports for name in bound(node) if name not in needed]
    return found


def found_in_pages(what: Callable[[str], list[str]]) -> dict[str, list[str]]:
    assert len(PAGES) > 20
    found = {str(path.relative_to(ROOT)): what(path.read_text()) for path in PAGES}
    return {path: names for path, names in found.items() if names}


def test_what_is_shown_imports_nothing_that_it_does_not_use() -> None:
    assert found_in_pages(idle_imports) == {}


def test_what_is_shown_has_all_its_names() -> None:
    assert found_in_pages(missing) == {}


def test_a_name_that_only_hidden_code_has_is_found() -> None:
    page = "<!--- invisible-code-block: python\nimport a\n-->\n```python\nb = 1\na(b, c)\n```\n"
    assert missing(page) == ["a", "c"]


def test_a_program_has_its_names_from_nowhere_else() -> None:
    page = "```python\nimport trio\n```\n```python\nprint(trio)\n```\n"
    assert missing(page) == []
    assert missing(page + "```python\ntrio.run(main)\n```\n") == ["main", "trio"]


def test_an_import_that_only_an_earlier_example_needs_is_found() -> None:
    page = "```python\nb()\n```\n```python\nfrom a import b\n\nimport trio\n```\n"
    assert idle_imports(page) == ["b", "trio"]


def test_a_file_needs_its_imports_itself() -> None:
    page = "```python\n# one.py\nimport a\n```\n```python\n# two.py\na()\n```\n"
    assert (missing(page), idle_imports(page)) == (["a"], ["a"])
