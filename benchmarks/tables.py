"""Reads ``docs/performance_table.md``: what stands in its cells."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

#: The file, in ``docs``.
TABLE: Final = "performance_table.md"
#: A thousand, as it is written there.
K: Final = "1\N{NARROW NO-BREAK SPACE}000"
#: What the reference is called there, whatever its version.
REFERENCE: Final = "distkit"


@dataclass(frozen=True)
class Row:
    """A row of a table: what stands in its cells."""

    group: str
    name: str
    ours: str
    peer: str
    theirs: str
    ratio: str
    also: str

    @property
    def times(self) -> str:
        """The median of the ratio: ``2.21 ×``."""
        return self.ratio.partition(" (")[0]


class Tables:
    """All rows of ``performance_table.md``."""

    def __init__(self, text: str) -> None:
        self.machine = found(r"^Measured on (.*?), trio ", text)
        self.rows: list[Row] = []
        group = ""
        for line in text.splitlines():
            if title := re.search(r"\(`--only (\w+)`\)$", line):
                group = title[1]
            elif line.startswith("| ") and not line.startswith(("| what |", "| --- |")):
                what, ours, peer, theirs, ratio, _, also = (
                    cell.strip().replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]
                )
                # Behind the name there is what was measured, where rows of a group differ in it.
                self.rows.append(
                    Row(group, what.partition(": ")[0], ours, peer, theirs, ratio, also)
                )

    def ours(self, group: str, name: str) -> Row:
        """Return any row of what was done.

        Raises:
            LookupError: there is none.
        """
        for row in self.rows:
            if (row.group, row.name) == (group, name):
                return row
        raise LookupError(f"{TABLE} has no row {name!r} in the group {group!r}")

    def beside(self, group: str, name: str, peer: str) -> Row | None:
        """Return the row with a peer, or None if that was not measured.

        More may follow the name of the peer. Of several versions it is the newest.
        """
        found = [
            row
            for row in self.rows
            if (row.group, row.name) == (group, name)
            and (row.peer == peer or row.peer.startswith(f"{peer} "))
            and row.ratio
        ]
        return max(found, key=_version, default=None)


def _version(row: Row) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", row.peer)]


def found(pattern: str, text: str) -> str:
    found = re.search(pattern, text, re.MULTILINE)
    if not found:
        raise LookupError(f"{TABLE} has nothing like {pattern!r}")
    return found[1]
