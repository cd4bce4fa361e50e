"""The progress of a run on a terminal."""

from __future__ import annotations

from types import TracebackType
from typing import Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress

from benchmarks.progress import Progress
from benchmarks.results import Result
from benchmarks.wording import row_line


class BarProgress(Progress):
    """Rows scroll by above a bar."""

    def __init__(self, out: TextIO) -> None:
        self._bar = RichProgress(
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}", markup=False),
            console=Console(file=out, highlight=False),
            # Redrawn when something is ready, and not by a thread while something is measured.
            auto_refresh=False,
        )
        self._task = self._bar.add_task("", total=1)
        self._name = ""

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def group(self, name: str, number: int, count: int) -> None:
        self._name = name
        self._bar.update(self._task, completed=number - 1, total=count, description=name)
        self._bar.refresh()

    def say(self, text: str) -> None:
        self._bar.update(self._task, description=f"{self._name}: {text}")
        self._bar.refresh()

    def row(self, result: Result) -> None:
        self._bar.console.print(f"{result.group}: {row_line(result)}", markup=False)
