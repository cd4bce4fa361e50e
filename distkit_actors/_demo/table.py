"""The story as a table that is redrawn in place. Needs rich."""

from __future__ import annotations

from types import TracebackType
from typing import Final, Self, TextIO

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from .picture import Picture, State
from .screen import Screen, slice_of, verdict

#: Lines of narration that there is room for below the table.
_NARRATION: Final = 4

_COLOURS: Final = {
    State.LIVE: "green",
    State.CUT_OFF: "yellow",
    State.CRASHED: "red",
    State.REAPED: "red",
    State.LEFT: "default",
}


class TableScreen(Screen):
    """A table that is redrawn in place, with the narration below."""

    def __init__(self, out: TextIO, header: str) -> None:
        super().__init__()
        self._console = Console(file=out)
        self._header = header
        self._title = ""
        self._said: list[str] = []
        self._picture = Picture((), 0)
        self._room = _NARRATION  # lines, so that what is below does not jump
        self._live: Live | None = None

    @property
    def usable(self) -> bool:
        """Whether the terminal can redraw what it has shown."""
        return self._console.is_terminal and not self._console.is_dumb_terminal

    def __enter__(self) -> Self:
        # It would refresh itself from a thread; here every change is drawn as it comes.
        self._live = Live(console=self._console, auto_refresh=False)
        self._live.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._room = 0
            self._draw()
            self._live.stop()

    def act(self, title: str) -> None:
        """Begin an act, with no narration yet."""
        self._title = title
        self._said.clear()

    def say(self, text: str) -> None:
        """Add to the narration."""
        self._said.append(text)
        self._draw()

    def show(self, picture: Picture, *, keep: bool = False) -> None:  # noqa: ARG002
        """Redraw the table."""
        self._picture = picture
        self._draw()

    def end(self, problem: str | None) -> None:
        """Print the totals and the verdict below the table."""
        for line in ["", *self.totals()]:
            self._console.print(line, highlight=False, markup=False)
        style = "bold green" if problem is None else "bold red"
        self._console.print(f"\n  {verdict(problem)}", style=style, highlight=False, markup=False)

    def _draw(self) -> None:
        if self._live is not None:
            self._live.update(self._render(), refresh=True)

    def _render(self) -> RenderableType:
        lines = self._said[-_NARRATION:]
        narration = Text(self._title, style="bold")
        for number, line in enumerate(lines):
            newest = number == len(lines) - 1
            narration.append(f"\n{line}", style="default not bold" if newest else "dim not bold")
        narration.append("\n" * (self._room - len(lines)))
        header = Text(f"\n{self._header}", style="dim")
        return Group(Padding(header, (0, 2)), self._table(), Padding(narration, (0, 2)))

    def _table(self) -> Table:
        table = Table(box=box.SIMPLE_HEAD, show_footer=True, padding=(0, 1, 0, 0))
        table.add_column(" instance", " by the books", min_width=13)
        table.add_column("kind", min_width=6)
        table.add_column("state", min_width=7)
        table.add_column("slice", min_width=6, justify="right")
        table.add_column("heartbeat", min_width=9, justify="right")
        table.add_column("sees", str(self._picture.books), min_width=6, justify="right")
        for row in self._picture.rows:
            gone = row.state in (State.REAPED, State.LEFT)
            age = row.heartbeat_age
            agrees = row.sees == self._picture.books
            sees = "dim" if row.state is not State.LIVE else "bold" if agrees else "yellow"
            table.add_row(
                f" {row.name}",
                row.kind,
                f"[{_COLOURS[row.state]}]{row.state.value}[/]",
                "" if gone else slice_of(row),
                "" if age is None or gone else f"{age:.1f} s ago",
                "" if row.sees is None else f"[{sees}]{row.sees}[/]",
                style="dim" if gone else "",
            )
        return table
