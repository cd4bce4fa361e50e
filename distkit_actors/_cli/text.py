"""Text for terminals and for pipes: columns that are as wide as they must be. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, TypeAlias

from rich.cells import cell_len

Align: TypeAlias = Literal["left", "right"]

_GAP = "  "


def printable(text: str, longest: int | None = None) -> str:
    """Return ``text`` without what a terminal would obey, and cut if it is too long."""
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    if longest is not None and cell_len(shown) > longest:
        while cell_len(shown) > longest - 1:
            shown = shown[:-1]
        shown += "…"
    return shown


def columns(
    rows: Iterable[Sequence[str]], aligns: Sequence[Align], *, width: int | None = None
) -> list[str]:
    """Return lines in which the columns of ``rows`` stand below each other.

    Columns that end beyond ``width`` are left out, but for the first.
    """
    table = [list(row) for row in rows]
    lines = [""] * len(table)
    used = 0
    for number, align in enumerate(aligns):
        cells = [row[number] for row in table]
        wide = max(map(cell_len, cells), default=0)
        gap = _GAP if number else ""
        if number and width is not None and used + len(gap) + wide > width:
            break
        used += len(gap) + wide
        for line, cell in enumerate(cells):
            space = " " * (wide - cell_len(cell))
            lines[line] += gap + (space + cell if align == "right" else cell + space)
    return [line.rstrip() for line in lines]


def age(seconds: float) -> str:
    """Return how long ago something was, in one or two digits and a unit."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
