"""The names that users import are the names that they see."""

from __future__ import annotations

from collections.abc import Mapping
from types import FunctionType
from typing import cast


def publish(module: Mapping[str, object]) -> None:
    """Let tracebacks, reprs and pickles show the public place of what is in ``__all__``."""
    for name in cast("list[str]", module["__all__"]):
        value = module.get(name)
        # Not a number, nor an alias of a type, nor what is imported later.
        if isinstance(value, (type, FunctionType)):
            value.__module__ = cast("str", module["__name__"])
