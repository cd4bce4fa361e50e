"""Measure: ``python -m benchmarks``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.progress import open_progress
from benchmarks.report import show, write
from benchmarks.rows import GROUPS
from benchmarks.run import run

_DOCS = Path(__file__).parents[1] / "docs"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    options = _parser().parse_args(arguments)
    groups = [name for name in GROUPS if not options.only or name in options.only]
    with open_progress(sys.stderr) as progress:
        report = run(groups, quick=options.quick, rounds=options.repeat, progress=progress)
    show(report, sys.stdout)
    whole = not options.quick and not options.only
    output: Path | None = options.output or (_DOCS if whole else None)
    if output is None:
        print("Nothing was written, as this was not the whole of it; --output DIR writes.")
        return 0
    for path in write(report, output):
        print(f"wrote {path.name}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure distkit_actors on Redis servers that are started for it, each "
        "figure beside that of a peer, and write performance.json, performance.svg and "
        "performance_table.md. It takes about two minutes, on a machine that does nothing else.",
        epilog="groups: " + ", ".join(GROUPS),
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="small sizes and short samples, to try the benchmark itself: the figures mean little",
    )
    parser.add_argument(
        "--only", nargs="+", metavar="ROW", choices=list(GROUPS), help="these groups of rows only"
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="where to write (default: docs, and nowhere with --quick or --only)",
    )
    parser.add_argument(
        "--repeat",
        type=_repetitions,
        default=5,
        metavar="N",
        help="how often each comparison is made (default: %(default)s)",
    )
    return parser


def _repetitions(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError("once at least")
    return count


if __name__ == "__main__":
    sys.exit(main())
