"""The names that users import are the names that they see."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast


def publish(module: Mapping[str, object]) -> None:
    """Let tracebacks, reprs and pickles show the public place of what is in ``__all__``."""
    for name in cast("list[str]", module["__all__"]):
        setattr(module[name], "__module__", module["__name__"])  # noqa: B010 - any object
