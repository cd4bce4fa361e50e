"""What is run on each server."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.harness.binary import ENV_VAR

Size = Literal["small", "full"]

_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Part:
    """One command for each server, and how to read what it did from its output.

    Attributes:
        name: how it is called in the summary.
        command: arguments for Python.
        outcome: what its output says was done; None if it says nothing of the kind.
    """

    name: str
    command: tuple[str, ...]
    outcome: Callable[[str], str | None]


@dataclass(frozen=True)
class Outcome:
    """What became of one part on one server."""

    part: str
    passed: bool
    what: str


def parts(size: Size, jobs: int) -> list[Part]:
    """Return what is run on each server."""
    kit = (
        "tests/conformance/test_check_store.py::test_redis_store_passes",
        "tests/conformance/test_faulty_store.py::test_around_a_redis_server",
    )
    if size == "full":
        return [
            _tests("conformance kit", 1, kit),
            _tests("stores", jobs, ("tests/stores",)),
            _tests("faults", jobs, ("tests/faults",)),
            _soak(20),
        ]
    # What depends most on the server: scripts and pushes; replicas, rights and other refusals.
    stores = ("test_redis_limits.py", "test_subscriptions.py")
    faults = ("test_failovers.py", "test_refusals.py")
    return [
        _tests("conformance kit", 1, kit),
        _tests("stores", jobs, [f"tests/stores/{name}" for name in stores]),
        _tests("faults", jobs, [f"tests/faults/{name}" for name in faults]),
        _soak(4),
    ]


def run(part: Part, server: Path) -> Outcome:
    """Run a part on a server; its output goes to ours as it comes."""
    process = subprocess.Popen(
        [sys.executable, *part.command],
        cwd=_ROOT,
        env={**os.environ, ENV_VAR: str(server)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    lines = []
    with process:
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line)
    what = part.outcome("".join(lines))
    # A run that did nothing has not passed, whatever its exit code.
    return Outcome(part.name, process.returncode == 0 and what is not None, what or "nothing done")


def passed_tests(output: str) -> str | None:
    """Return how many tests passed, as pytest's last line says it."""
    found = re.findall(r"^(?:=+ )?(\d+ passed.*?) in [\d.]+s", output, re.MULTILINE)
    failed = re.findall(r"^(?:=+ )?(\d+ failed.*?) in [\d.]+s", output, re.MULTILINE)
    last = [*found, *failed][-1:]
    return last[0] if last else None


def soak_done(output: str) -> str | None:
    """Return what a soak counted."""
    figures = [
        re.search(rf"^{name} +(\d+)", output, re.MULTILINE)
        for name in ("operations acknowledged", "faults", "lost", "doubled")
    ]
    if None in figures:
        return None
    operations, faults, lost, doubled = (found[1] for found in figures if found is not None)
    return f"{operations} operations, {faults} faults, {lost} lost, {doubled} doubled"


def _tests(name: str, jobs: int, paths: Sequence[str]) -> Part:
    workers = ("-n", str(jobs), "--dist", "worksteal") if jobs > 1 else ()
    return Part(name, ("-m", "pytest", "-q", *workers, *paths), passed_tests)


def _soak(seconds: int) -> Part:
    return Part(f"soak {seconds} s", ("-m", "tests.soak", "--seconds", str(seconds)), soak_done)
