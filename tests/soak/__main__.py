"""Run a soak: ``python -m tests.soak --seconds 60``."""

import argparse
import random
import sys
from functools import partial

import trio

from tests.soak.controller import soak
from tests.soak.topologies import TOPOLOGIES


def main() -> int:
    """Run, print the report, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=None, help="default: a new one")
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--tasks", type=int, default=4, help="in each process")
    parser.add_argument("--threshold", type=float, default=1.5, help="in seconds")
    parser.add_argument("--topology", choices=TOPOLOGIES, default="single")
    parser.add_argument(
        "--url", help="use this server; only links and processes fail then, not the server"
    )
    options = vars(parser.parse_args())
    if options["url"] is not None and options["topology"] != "single":
        parser.error("--url is one server")
    if options["seed"] is None:
        options["seed"] = random.randrange(1_000_000)
    print(
        f"soak for {options['seconds']:g} s, --topology {options['topology']} "
        f"--seed {options['seed']}",
        flush=True,
    )
    report = trio.run(partial(soak, **options))
    print(report)
    return 0 if report.passed else 1


if __name__ == "__main__":
    sys.exit(main())
