"""Measure: ``python -m benchmarks``."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import trio
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks import glance
from benchmarks.bench import Bench, Row
from benchmarks.report import Report, facts, line, show, write
from benchmarks.rows import GROUPS
from benchmarks.server import RedisServer

_ROOT: Final = Path(__file__).parents[1]
_TABLE: Final = _ROOT / "docs" / "performance_table.md"
_VALUES: Final = _ROOT / "build" / "benchmarks.json"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    options = _parser().parse_args(arguments)
    groups = [name for name in GROUPS if not options.only or name in options.only]
    console = Console(stderr=True, highlight=False)
    report = run(groups, options.quick, options.repeat, console, options.whole_fleet)
    # Without a terminal nothing says how wide the lines may be.
    show(report, Console(highlight=False, width=None if sys.stdout.isatty() else 180))
    table, values = _TABLE, _VALUES
    if options.output:
        table, values = options.output / _TABLE.name, options.output / _VALUES.name
    elif options.quick or options.only:
        print("Nothing was written, as this was not the whole of it; --output DIR writes.")
        return 0
    write(report, table, values)
    print(f"wrote {table.name} and {values.name}")
    if not (options.quick or options.only):
        print("wrote", *glance.renew(table.parent))
    return 0


def run(
    groups: Sequence[str], quick: bool, rounds: int, console: Console, whole_fleet: bool = False
) -> Report:
    """Measure some groups, each on a fresh server. What goes wrong in one of them ends it all."""
    machine: dict[str, str | int] = {}
    seconds: dict[str, float] = {}
    rows: list[Row] = []
    # Redrawn when something is ready, and not by a thread while something is measured.
    bar = Progress(
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
        console=console,
        auto_refresh=False,
        disable=not console.is_terminal,
    )
    task = bar.add_task("", total=len(groups))
    with bar:
        for group in groups:

            def say(text: str, group: str = group) -> None:
                bar.update(task, description=f"{group}: {text}", refresh=True)
                if not console.is_terminal:
                    console.print(f"{group}: {text}", markup=False, soft_wrap=True)

            say(GROUPS[group].title)
            start = time.perf_counter()
            with RedisServer() as server:
                machine = machine or facts(server)
                bench = Bench(group, server, quick, rounds, say, whole_fleet)
                trio.run(GROUPS[group].measure, bench)
            seconds[group] = time.perf_counter() - start
            rows += bench.rows
            for row in bench.rows:
                console.print(f"  {line(row)}", markup=False, soft_wrap=True)
            bar.advance(task)
    titles = {name: group.title for name, group in GROUPS.items()}
    return Report(titles, machine, quick, rounds, seconds, rows)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure distkit_actors on Redis servers that are started for it, each "
        f"figure beside that of a peer. A whole run writes {_TABLE.relative_to(_ROOT)}, what "
        f"`python -m benchmarks.glance` makes of it, and every value into "
        f"{_VALUES.relative_to(_ROOT)}, for `python -m pyperf compare_to`. "
        "It takes some minutes, on a machine that does nothing else.",
        epilog="groups of rows: " + ", ".join(GROUPS),
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="small sizes and short samples, to try the benchmark itself: the figures mean little",
    )
    parser.add_argument(
        "--whole-fleet",
        action="store_true",
        help="1000 instances with 10 000 keys, and 100 000 that come and go, where a tenth does "
        "otherwise: a quarter of an hour, and 8 GB",
    )
    parser.add_argument(
        "--only", nargs="+", metavar="ROW", choices=list(GROUPS), help="these groups of rows only"
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="where to write both files (default: as above, and nowhere with --quick or --only)",
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
