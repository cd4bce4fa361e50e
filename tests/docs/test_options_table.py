"""The page on options has each option of counters and of the Redis store, with its default."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from distkit_actors import LaxInstanceAwareCounter, RedisStore

PAGE = (Path(__file__).parents[2] / "docs/reference/options.md").read_text("utf-8")
ROW = re.compile(r"^\| `(\w+)` \| `([^`]+)` \|", re.MULTILINE)


@pytest.mark.parametrize(
    ("title", "maker"), [("counter", LaxInstanceAwareCounter), ("Redis store", RedisStore)]
)
def test_the_table_has_each_option_with_its_default(
    title: str, maker: Callable[..., object]
) -> None:
    table = PAGE.partition(f"## Of a {title}\n")[2].partition("\n## ")[0]
    shown = {name: ast.literal_eval(default) for name, default in ROW.findall(table)}
    parameters = inspect.signature(maker).parameters.values()
    options = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    assert list(shown.items()) == list(options.items())
