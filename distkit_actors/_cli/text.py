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


def shortened(text: str, longest: int) -> str:
    """Return ``text`` as `printable` does, cut in its middle: names often differ in their ends."""
    shown = printable(text)
    if cell_len(shown) <= longest:
        return shown
    front = back = ""
    half = (longest - 1) // 2
    for character in shown:
        if cell_len(front + character) > half:
            break
        front += character
    for character in reversed(shown):
        if cell_len(character + back) > longest - 1 - half:
            break
        back = character + back
    return f"{front}…{back}"


def columns(
    rows: Iterable[Sequence[str]], aligns: Sequence[Align], *, width: int | None = None
) -> list[str]:
    """Return lines in which the columns of ``rows`` stand below each other.

    Columns that end beyond ``width`` are left out, but for the first; see `fitting`.
    """
    table = [list(row) for row in rows]
    lines = [""] * len(table)
    for number, align in enumerate(aligns[: fitting(table, width)]):
        cells = [row[number] for row in table]
        wide = max(map(cell_len, cells), default=0)
        gap = _GAP if number else ""
        for line, cell in enumerate(cells):
            space = " " * (wide - cell_len(cell))
            lines[line] += gap + (space + cell if align == "right" else cell + space)
    return [line.rstrip() for line in lines]


def fitting(rows: Sequence[Sequence[str]], width: int | None) -> int:
    """Return how many columns of ``rows`` end within ``width``; the first always does."""
    used = 0
    for number, cells in enumerate(zip(*rows, strict=True)):
        used += (len(_GAP) if number else 0) + max(map(cell_len, cells))
        if number and width is not None and used > width:
            return number
    return len(rows[0]) if rows else 0


def counted(number: int, noun: str) -> str:
    """Return ``1 key`` or ``2 keys``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def age(seconds: float) -> str:
    """Return how long ago something was, in one or two digits and a unit."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
