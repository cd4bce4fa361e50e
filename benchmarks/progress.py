"""Where a run says how far it is: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self, TextIO

from benchmarks.results import Result
from benchmarks.wording import row_line


class Progress(ABC):
    """A context manager around the run."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        return None

    @abstractmethod
    def group(self, name: str, number: int, count: int) -> None:
        """Begin a group of rows, the ``number``-th of ``count``."""

    @abstractmethod
    def say(self, text: str) -> None:
        """Say what goes on."""

    @abstractmethod
    def row(self, result: Result) -> None:
        """Show a row that is ready."""


class PlainProgress(Progress):
    """Lines of text, one after the other."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._start = time.perf_counter()

    def group(self, name: str, number: int, count: int) -> None:
        self._line(f"[{number}/{count}] {name}")

    def say(self, text: str) -> None:
        self._line(f"    {text}")

    def row(self, result: Result) -> None:
        self._line(f"    {row_line(result)}")

    def _line(self, text: str) -> None:
        print(f"{time.perf_counter() - self._start:6.1f} s  {text}", file=self._out, flush=True)


def open_progress(out: TextIO) -> Progress:
    """Return what suits ``out``."""
    if not out.isatty():
        return PlainProgress(out)
    # Only here: it is slow to import.
    from benchmarks.progress_bar import BarProgress  # noqa: PLC0415

    return BarProgress(out)
