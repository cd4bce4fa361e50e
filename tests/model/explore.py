"""Explores scopes: ``python -m tests.model.explore [--long] [--scope NAME]``."""

from __future__ import annotations

import argparse
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count

from tests.model import timed
from tests.model.freeze import digest
from tests.model.oracle import Comparisons
from tests.model.scope import Scope
from tests.model.scopes import LONG, SHORT
from tests.model.scopes_of_holds import LONG_OF_HOLDS, SHORT_OF_HOLDS
from tests.model.world import Settled, World


@dataclass
class Report:
    """What came of an exploration."""

    scope: Scope
    states: int = 0
    ends: int = 0
    seconds: float = 0.0
    comparisons: Comparisons = field(default_factory=Comparisons)
    complete: bool = False
    violation: str = ""
    history: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """Return one line, or more if something is wrong."""
        done = self.comparisons
        share = f"{done.share:>5.2f} % of {done.compared + done.exempt} exempt"
        line = (
            f"{self.scope.name:<66} {self.states:>8} states {self.ends:>7} ends"
            f" {self.seconds:>7.1f} s  {share}"
        )
        if self.violation:
            steps = "".join(f"\n  {n}. {step}" for n, step in enumerate(self.history, 1))
            return f"{line}\nVIOLATION: {self.violation}{steps}"
        return line if self.complete else f"{line}  (stopped)"


def explore(scope: Scope, *, most_seconds: float = 1e9) -> Report:
    """Visit every state, breadth first, and end the history in every state; stop at a violation."""
    with scope.limits():
        return _explore(scope, most_seconds)


def _explore(scope: Scope, most_seconds: float) -> Report:
    report = Report(scope)
    start = time.process_time()
    first = World.begin(scope, report.comparisons).freeze()
    parents: dict[bytes, tuple[bytes, str]] = {digest(first): (b"", "")}
    ended: set[bytes] = set()
    settled: tuple[Settled, Settled] = ({}, {})  # for each of the orders
    queue, turns = deque([first]), count()
    while queue:
        if next(turns) % 64 == 0 and time.process_time() - start > most_seconds:
            break
        key = queue.popleft()
        current = digest(key)
        world = World.thaw(key, scope, report.comparisons)
        step = ""
        try:
            core = digest(world.freeze_core())
            if core not in ended:
                ended.add(core)
                for order, known in zip(_orders(len(world.actors)), settled, strict=True):
                    step = f"then all beat, in the order {order}"
                    world.copy().settle(order, known)
            step = ""
            for label, new in world.successors():
                key = new.freeze()
                child = digest(key)
                if child not in parents:
                    parents[child] = (current, label)
                    queue.append(key)
        except Exception as error:  # noqa: BLE001  # a bug may show as anything
            notes = getattr(error, "__notes__", [])
            report.violation = f"{type(error).__name__}: {error}"
            report.history = [*_history(parents, current), *([step] if step else notes)]
            break
    else:
        report.complete = not queue
    report.states, report.ends = len(parents), len(ended)
    report.seconds = time.process_time() - start
    return report


def _orders(actors: int) -> Sequence[Sequence[int]]:
    forth = range(actors)
    return (forth, forth[::-1])


def _history(parents: dict[bytes, tuple[bytes, str]], current: bytes) -> list[str]:
    labels = []
    while current:
        current, label = parents[current]
        labels.append(label)
    return [label for label in reversed(labels) if label]


def main(arguments: Sequence[str] | None = None) -> int:
    """Explore what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tests.model.explore", description=__doc__)
    parser.add_argument("--long", action="store_true", help="the long set too")
    parser.add_argument("--scope", help="only this one, or those whose names contain it")
    parser.add_argument("--seconds", type=float, default=1e9, help="stop each after this long")
    options = parser.parse_args(arguments)
    scopes = [*SHORT, *SHORT_OF_HOLDS]
    if options.long or options.scope:
        scopes += [*LONG, *LONG_OF_HOLDS]
    if options.scope:
        named = [scope for scope in scopes if scope.name == options.scope]
        scopes = named or [scope for scope in scopes if options.scope in scope.name]
    failed = False
    for scope in scopes:
        report = explore(scope, most_seconds=options.seconds)
        print(report, flush=True)
        failed |= bool(report.violation)
    if not options.scope:
        failed |= _explore_times(long=options.long)
    return int(failed)


def _explore_times(*, long: bool) -> bool:
    failed = False
    for grid in (*timed.GRIDS, *(timed.LONG_GRIDS if long else ())):
        start = time.process_time()
        try:
            states = timed.explore(grid)
        except Exception as error:  # noqa: BLE001  # a bug may show as anything
            notes = "".join(f"\n  {note}" for note in getattr(error, "__notes__", []))
            print(f"{grid}\nVIOLATION: {type(error).__name__}: {error}{notes}", flush=True)
            failed = True
        else:
            seconds = time.process_time() - start
            print(f"{grid!s:<66} {states:>8} states {seconds:>23.1f} s", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
