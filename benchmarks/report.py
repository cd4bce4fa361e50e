"""What is shown and written in the end."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TextIO

from benchmarks import wording
from benchmarks.results import Result
from benchmarks.rows import GROUPS
from benchmarks.run import Report


def show(report: Report, out: TextIO) -> None:
    """Print the table, coloured on a terminal."""
    from rich.console import Console  # noqa: PLC0415 - slow to import
    from rich.table import Table  # noqa: PLC0415

    # Without a terminal nothing says how wide the lines may be.
    console = Console(file=out, width=None if out.isatty() else 180, highlight=False)
    for group in dict.fromkeys(result.group for result in report.results):
        table = Table(title=GROUPS[group], title_justify="left", title_style="bold")
        for heading in ("", "ours", "peer", "its", "ratio", "aim", ""):
            words = heading in {"", "peer"}
            table.add_column(heading, justify="left" if words else "right", overflow="fold")
        for result in report.results:
            if result.group == group:
                style = {None: "", True: "green", False: "red"}[result.holds]
                table.add_row(*cells(result), style=style)
        console.print(table)
    took = sum(report.seconds.values())
    console.print(f"{took:.0f} s in all: {_times(report)}")


def cells(result: Result) -> tuple[str, ...]:
    """Return a row as people read it."""
    return (
        result.name,
        wording.quantity(result.ours.median, result.unit),
        result.peer,
        wording.quantity(result.theirs.median, result.unit),
        wording.ratio(result.ratio),
        wording.aim(result),
        wording.verdict(result),
    )


def _times(report: Report) -> str:
    return ", ".join(f"{group} {seconds:.0f}" for group, seconds in report.seconds.items())


def as_json(report: Report) -> str:
    """Return everything that was found."""
    content: dict[str, object] = {
        "format": 1,
        "machine": report.machine,
        "quick": report.quick,
        "rounds": report.rounds,
        "seconds": {group: round(seconds, 1) for group, seconds in report.seconds.items()},
        "rows": [_row(result) for result in report.results],
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _row(result: Result) -> object:
    return _rounded(asdict(result) | {"holds": result.holds})


def _rounded(value: object) -> object:
    """Return the same with no more digits than mean something."""
    match value:
        case float():
            return float(f"{value:.4g}")
        case dict():
            return {name: _rounded(item) for name, item in value.items()}
        case list() | tuple():
            return [_rounded(item) for item in value]
        case _:
            return value


def write(report: Report, directory: Path) -> list[Path]:
    """Write the figures, the table and the chart; return where."""
    from benchmarks.chart import draw  # noqa: PLC0415 - matplotlib is slow to import
    from benchmarks.page import table_page  # noqa: PLC0415

    directory.mkdir(parents=True, exist_ok=True)
    figures = directory / "performance.json"
    figures.write_text(as_json(report), "utf-8")
    table = directory / "performance_table.md"
    table.write_text(table_page(report), "utf-8")
    chart = directory / "performance.svg"
    draw(report, chart)
    return [figures, table, chart]
