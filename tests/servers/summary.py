"""What a run says at its end, and the table of it in the documentation."""

import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from tests.servers.catalogue import Server
from tests.servers.parts import Outcome

_HEAD = "<!-- Written by `make test-servers`; not to be edited. -->\n\n"
_COLUMNS = ("server", "on", "conformance kit", "stores", "faults", "soak")


@dataclass
class Result:
    """What became of one server.

    Attributes:
        server: which.
        version: what it says it is; empty if it did not run.
        why_not: why it did not run; empty if it ran.
        outcomes: of each part, in order.
    """

    server: Server
    version: str = ""
    why_not: str = ""
    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether it ran, and all of it is well."""
        return not self.why_not and all(outcome.passed for outcome in self.outcomes)

    def __str__(self) -> str:
        if self.why_not:
            return f"{self.server.name:12} NOT RUN  {self.why_not}"
        lines = [f"{self.server.name:12} {'passed' if self.passed else 'FAILED'}  {self.version}"]
        for outcome in self.outcomes:
            verdict = "" if outcome.passed else "FAILED: "
            lines.append(f"{'':12} {outcome.part}: {verdict}{outcome.what}")
        return "\n".join(lines)


def with_rows(table: str, results: Sequence[Result], today: date) -> str:
    """Return the table with a new row for each server that passed; other rows stay."""
    rows = {_name(line): line for line in table.splitlines() if line.startswith("| ")}
    for result in results:
        if result.passed:
            row = _row(result, today)
            rows[_name(row)] = row
    head = _line(_COLUMNS)
    body = [rows[name] for name in sorted(rows) if name != _name(head)]
    rule = _line(["---"] * len(_COLUMNS))
    return _HEAD + "\n".join([head, rule, *(row for row in body if row != rule)]) + "\n"


def write_table(path: Path, results: Sequence[Result], today: date) -> None:
    """Renew the rows of those that passed in a table of the documentation."""
    path.write_text(with_rows(path.read_text() if path.exists() else "", results, today))


def _row(result: Result, today: date) -> str:
    machine = f"{today.isoformat()}, Python {platform.python_version()}, {platform.machine()}"
    done = [
        f"{outcome.part.removeprefix('soak ')}: {outcome.what}"
        if outcome.part.startswith("soak")
        else outcome.what
        for outcome in result.outcomes
    ]
    return _line([f"{result.server.title} {result.version}", machine, *done])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _name(line: str) -> str:
    """Return what a row is about, without the last number of the version."""
    return line.split("|")[1].strip().rpartition(".")[0]
