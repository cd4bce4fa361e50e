"""What is shown and written: rows as lines, as tables, and in pyperf's format."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Final

import pyperf
from rich.console import Console
from rich.table import Table

from benchmarks.bench import Row, Spread
from benchmarks.server import RedisServer

#: Between thousands; no line is broken there.
_APART: Final = "\N{NARROW NO-BREAK SPACE}"
_TIMES: Final = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
_HEADINGS: Final = ("what", "ours", "peer", "peer's", "ratio (quartiles)", "aim", "also")
_PACKAGES: Final = (
    "trio",
    "redis",
    "hiredis",
    "trio-asyncio",
    "coredis",
    "valkey-glide",
    "prometheus-client",
)
#: Of what pyperf knows of a machine, what its figures depend on and what does not name it.
_METADATA: Final = ("cpu_count", "cpu_model_name", "platform", "python_version", "perf_version")


@dataclass(frozen=True)
class Report:
    """What a run has found.

    Attributes:
        titles: What each group is about, by its name.
        machine: What the figures depend on.
        quick: Whether sizes were small.
        rounds: How often each comparison was made.
        seconds: How long each group took, by its name.
        rows: The rows.
    """

    titles: Mapping[str, str]
    machine: Mapping[str, str | int]
    quick: bool
    rounds: int
    seconds: Mapping[str, float]
    rows: Sequence[Row]

    def groups(self) -> Iterable[tuple[str, list[Row]]]:
        """Return the rows of each group."""
        return ((name, list(rows)) for name, rows in groupby(self.rows, lambda row: row.group))


def facts(server: RedisServer) -> dict[str, str | int]:
    """Return what is worth knowing of where it is measured; nothing that names the machine."""
    affinity = getattr(os, "sched_getaffinity", None)
    found: dict[str, str | int] = {
        "system": platform.system(),
        "architecture": platform.machine(),
        "cores": len(affinity(0)) if affinity else os.cpu_count() or 1,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "redis-server": ".".join(map(str, server.version)),
    }
    return found | {package: importlib.metadata.version(package) for package in _PACKAGES}


# ------------------------------------------------------------------ figures for people


def number(value: float) -> str:
    """Return a number with three digits that count, and thousands apart."""
    size = abs(value)
    if isinstance(value, int):
        return f"{value:,}".replace(",", _APART)
    if size >= 1000:
        return f"{round(value, 2 - len(str(int(size))) + 1):,.0f}".replace(",", _APART)
    if size >= 100 or value == 0:
        return f"{value:.0f}"
    if size >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if size >= 0.1 else f"{value:.2g}"


def quantity(value: float, unit: str) -> str:
    """Return a value with its unit; seconds in the unit that suits them."""
    if unit != "s" or value <= 0:
        return f"{number(value)} {unit}"
    factor, name = next(((f, n) for f, n in _TIMES if value >= f), _TIMES[-1])
    return f"{number(value / factor)} {name}"


def amount(count: int, thing: str, *, plural: str = "s") -> str:
    """Return so many things in words: ``1 key``, ``10 000 keys``."""
    return f"{number(count)} {thing}{'' if count == 1 else plural}"


def cells(row: Row) -> tuple[str, ...]:
    """Return a row as people read it, below the headings of the tables."""
    sign = "≥" if row.better == "more" else "≤"
    ours = quantity(Spread.of(row.ours).median, row.unit)
    also = ", ".join(f"{name} {quantity(seen.median, of)}" for name, (seen, of) in row.also.items())
    if row.absent:
        aims = ", ".join(f"{sign} {aim:g} ×" for aim in row.aims)
        return row.name, ours, row.peer, row.absent, "", aims, also
    ratio = row.ratio
    return (
        row.name,
        ours,
        row.peer,
        quantity(Spread.of(row.theirs).median, row.unit),
        f"{number(ratio.median)} × ({number(ratio.low)}–{number(ratio.high)})",
        ", ".join(f"{sign} {aim:g} × {'kept' if row.keeps(aim) else 'MISSED'}" for aim in row.aims),
        also,
    )


def line(row: Row) -> str:
    """Return a row as one line."""
    name, ours, peer, theirs, ratio, aims, _ = cells(row)
    beside = f"{ratio} {peer}" if ratio else peer
    return f"{name}: {ours}, {beside} ({theirs})" + (f", aim {aims}" if aims else "")


# --------------------------------------------------------------------------- tables


def show(report: Report, console: Console) -> None:
    """Print the tables, coloured on a terminal."""
    for group, rows in report.groups():
        table = Table(*_HEADINGS, title=report.titles[group], title_justify="left")
        for row in rows:
            table.add_row(*cells(row), style={None: "", True: "green", False: "red"}[row.holds])
        console.print(table)
    times = ", ".join(f"{group} {seconds:.0f}" for group, seconds in report.seconds.items())
    console.print(f"{sum(report.seconds.values()):.0f} s in all: {times}")


def as_markdown(report: Report) -> str:
    """Return the tables for `docs/performance.md`, which includes them."""
    machine = dict(report.machine)
    system, architecture, cores, python = (
        machine.pop(name) for name in ("system", "architecture", "cores", "python")
    )
    versions = ", ".join(f"{name} {version}" for name, version in machine.items())
    medians = (
        f"Each comparison was made at least {report.rounds} times, in turn; medians, and the "
        "quartiles of the ratios."
    )
    parts = [
        "<!-- Written by `python -m benchmarks`; not to be edited. -->",
        f"Measured on {cores} cores ({system}, {architecture}), {python}, {versions}.\n{medians}",
    ]
    if report.quick:
        parts.append("**A quick run, to try the benchmark itself: the figures mean little.**")
    for group, rows in report.groups():
        parts.append(f"**{_sentence(report.titles[group])}** (`--only {group}`)")
        alike = len({row.what for row in rows}) == 1
        if alike:
            parts.append(f"{_sentence(rows[0].what)}.")
        lines = [_line(_HEADINGS), _line(["---"] * len(_HEADINGS))]
        for row in rows:
            name, *rest = cells(row)
            lines.append(_line([name if alike else f"{name}: {row.what}", *rest]))
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _line(words: Iterable[str]) -> str:
    return "| " + " | ".join(word.replace("|", "\\|") for word in words) + " |"


# ---------------------------------------------------------------------------- pyperf


def as_pyperf(report: Report) -> pyperf.BenchmarkSuite:
    """Return every repetition, for ``pyperf show`` and ``pyperf compare_to``.

    Less is better there, so that calls a second become seconds a call.
    """
    collected = pyperf.Run([1.0]).get_metadata()
    common = {name: collected[name] for name in _METADATA if name in collected}
    common |= {name.replace("-", "_"): str(fact) for name, fact in report.machine.items()}
    found: dict[str, pyperf.Benchmark] = {}
    for row in report.rows:
        name = f"{row.group}: {row.name}"
        found[name] = _benchmark(name, row.unit, row.ours, common)
        if row.absent:
            continue
        name += f" / {row.peer}"
        found[name] = _benchmark(name, row.unit, row.theirs, common | {"ratio": cells(row)[4]})
    return pyperf.BenchmarkSuite(list(found.values()))


def _benchmark(
    name: str, unit: str, values: Sequence[float], metadata: Mapping[str, object]
) -> pyperf.Benchmark:
    if unit == "calls/s":
        values = [1 / value for value in values]
    units = {"s": "second", "calls/s": "second", "bytes": "byte"}
    about = {**metadata, "name": name, "unit": units.get(unit, "integer"), "measured_in": unit}
    return pyperf.Benchmark([pyperf.Run(values, metadata=about, collect_metadata=False)])


def write(report: Report, table: Path, values: Path) -> None:
    """Write the tables, and every value in pyperf's format."""
    for path in (table, values):
        path.parent.mkdir(parents=True, exist_ok=True)
    table.write_text(as_markdown(report), "utf-8")
    as_pyperf(report).dump(str(values), compact=False, replace=True)
