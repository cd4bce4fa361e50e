"""The tables of `docs/performance.md`."""

from __future__ import annotations

from benchmarks import wording
from benchmarks.results import Result
from benchmarks.rows import GROUPS
from benchmarks.run import Report

_HEADINGS = ("what", "ours", "peer", "peer's", "ratio (quartiles)", "aim", "also")


def table_page(report: Report) -> str:
    """Return it as Markdown: what is included by a page has no title of its own."""
    parts = ["<!-- Written by `python -m benchmarks`; not to be edited. -->", _machine(report)]
    if report.quick:
        parts.append("**A quick run, to try the benchmark itself: the figures mean little.**")
    groups = dict.fromkeys(result.group for result in report.results)
    parts += [
        _table(group, [result for result in report.results if result.group == group])
        for group in groups
    ]
    return "\n\n".join(parts) + "\n"


def _machine(report: Report) -> str:
    found = report.machine
    versions = ", ".join(
        f"{name} {version}"
        for name, version in found.items()
        if name not in {"system", "architecture", "cores", "python"}
    )
    return (
        f"Measured on {found['cores']} cores ({found['system']}, {found['architecture']}), "
        f"{found['python']}, {versions}.\n"
        f"Each comparison was made at least {report.rounds} times, in turn; medians, and the "
        "quartiles of the ratios."
    )


def _table(group: str, results: list[Result]) -> str:
    what = list(dict.fromkeys(result.what for result in results))
    lines = [f"**{_sentence(GROUPS[group])}** (`--only {group}`)", ""]
    lines += ["; ".join(_sentence(text) for text in what[:1]) + "." if len(what) == 1 else "", ""]
    lines += [_line(_HEADINGS), _line(["---"] * len(_HEADINGS))]
    for result in results:
        name = result.name if len(what) == 1 else f"{result.name}: {result.what}"
        lines.append(
            _line(
                (
                    name,
                    wording.quantity(result.ours.median, result.unit),
                    result.peer,
                    wording.quantity(result.theirs.median, result.unit),
                    wording.ratio(result.ratio),
                    f"{wording.aim(result)} {wording.verdict(result)}".strip(),
                    wording.also(result),
                )
            )
        )
    return "\n".join(lines)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _line(cells: tuple[str, ...] | list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
