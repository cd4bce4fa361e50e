"""Runs the Python examples of README.md and docs: ``pytest -p tests.examples README.md docs``.

The blocks of one page run one after another and share their names. A block may `await` at its
top level, as in an `async` REPL; it then runs in a trio run of its own. A block that cannot run
(because it needs a server, say) is preceded by ``<!--- skip: next "the reason" -->``.
"""

from __future__ import annotations

import ast
import inspect
import traceback
from functools import partial
from pathlib import Path
from typing import Any

import trio
from sybil import Example, Sybil
from sybil.evaluators.python import PythonEvaluator, pad
from sybil.parsers.myst import CodeBlockParser, PythonCodeBlockParser, SkipParser

LONGEST_EXAMPLE = 30  # seconds


class AsyncPythonEvaluator(PythonEvaluator):
    """Allows `await`, `async with` and `async for` at the top level of an example."""

    def __call__(self, example: Example) -> None:
        source = pad(example.parsed, example.line + example.parsed.line_offset)
        flags = self.flags | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        code = compile(source, example.path, "exec", flags=flags, dont_inherit=True)
        try:
            if code.co_flags & inspect.CO_COROUTINE:
                trio.run(partial(_evaluate, code, example.namespace))
            else:
                exec(code, example.namespace)
        except BaseExceptionGroup as group:  # which Sybil's report cannot show
            raise AssertionError("".join(traceback.format_exception(group))) from None
        del example.namespace["__builtins__"]  # put there by exec and eval


async def _evaluate(code: Any, namespace: dict[str, Any]) -> None:
    with trio.fail_after(LONGEST_EXAMPLE):
        await eval(code, namespace)


def python_parser() -> PythonCodeBlockParser:
    """Return what finds the Python blocks of a page."""
    parser = PythonCodeBlockParser()
    parser.codeblock_parser = CodeBlockParser("python", AsyncPythonEvaluator())
    return parser


pytest_collect_file = Sybil(
    parsers=[python_parser(), SkipParser()],
    patterns=["README.md", "docs/*.md", "docs/*/*.md"],
    path=str(Path(__file__).resolve().parent.parent),
).pytest()
