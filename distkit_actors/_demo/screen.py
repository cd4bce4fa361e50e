"""Where the story is told; here as plain lines of text."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self, TextIO

import trio

from .picture import Picture, Row, State

_NO_RICH = (
    "plain lines, because rich is missing: pip install 'distkit-actors[demo]' for a live table"
)
_NO_TERMINAL = "plain lines, because this is not a terminal"
_DUMB_TERMINAL = "plain lines, because this terminal cannot redraw"


class Screen(ABC):
    """Where a story is told. A context manager around the acts; `end` comes after it."""

    def __init__(self) -> None:
        self._totals: list[tuple[str, int, tuple[int, ...]]] = []

    @abstractmethod
    def act(self, title: str) -> None:
        """Begin an act."""

    @abstractmethod
    def say(self, text: str) -> None:
        """Tell what happens."""

    @abstractmethod
    def show(self, picture: Picture, *, keep: bool = False) -> None:
        """Show the fleet; a picture to ``keep`` is one that was waited for."""

    def total(self, name: str, expected: int, *counted: int) -> None:
        """Note a result for the end: what the books say, and what the counters say."""
        self._totals.append((name, expected, counted))

    @abstractmethod
    def end(self, problem: str | None) -> None:
        """Show the totals and the verdict."""

    @abstractmethod
    def __enter__(self) -> Self:
        """Open it: from here on it may be drawn on."""

    @abstractmethod
    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it, with the last picture left standing."""

    def totals(self) -> list[str]:
        """Return the noted results as lines."""
        lines = [f"  {'totals':<14}{'books':>8}{'counters':>10}"]
        for name, expected, counted in self._totals:
            judgement = "ok" if set(counted) == {expected} else "WRONG"
            values = ", ".join(map(str, counted))
            lines.append(f"  {name:<14}{expected:>8}{values:>10}  {judgement}")
        return lines if self._totals else []


def verdict(problem: str | None) -> str:
    """Return the last line."""
    if problem is None:
        return "The books and the counters agree."
    return f"The books and the counters do NOT agree: {problem}."


class PlainScreen(Screen):
    """Lines of text, one after the other.

    Args:
        out: Where they go.
        header: The first line.
        reason: Why there is no table.
    """

    def __init__(self, out: TextIO, header: str, reason: str) -> None:
        super().__init__()
        self._out = out
        self._header = header
        self._reason = reason
        self._start = 0.0

    def __enter__(self) -> Self:
        self._start = trio.current_time()
        self._line(self._header)
        self._line(f"({self._reason})")
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        pass

    def _line(self, text: str) -> None:
        print(text, file=self._out, flush=True)

    def act(self, title: str) -> None:
        """Begin an act."""
        self._line(f"\n== {title}")

    def say(self, text: str) -> None:
        """Print a line with the time."""
        self._line(f"{trio.current_time() - self._start:6.1f} s  {text}")

    def show(self, picture: Picture, *, keep: bool = False) -> None:
        """Print the slices and the sum, if it is worth keeping."""
        if keep:
            slices = "  ".join(_briefly(row) for row in picture.rows)
            self._line(f"          [{slices}]  all live see {picture.books}")

    def end(self, problem: str | None) -> None:
        """Print the totals and the verdict."""
        self._line("")
        for line in [*self.totals(), "", verdict(problem)]:
            self._line(line)


def _briefly(row: Row) -> str:
    state = "" if row.state is State.LIVE else f" {row.state.value}"
    return f"{row.name} {slice_of(row)}{state}"


def slice_of(row: Row) -> str:
    """Return the slice, in brackets if it does not count."""
    return str(row.slice) if row.counts else f"({row.slice})"


def open_screen(out: TextIO, header: str) -> Screen:
    """Return the best screen for ``out``."""
    if not out.isatty():
        return PlainScreen(out, header, _NO_TERMINAL)
    try:
        from .table import TableScreen  # noqa: PLC0415 - it needs rich, which may be missing
    except ModuleNotFoundError:
        return PlainScreen(out, header, _NO_RICH)
    screen = TableScreen(out, header)
    return screen if screen.usable else PlainScreen(out, header, _DUMB_TERMINAL)
