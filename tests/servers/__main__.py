"""Run the store's tests on each server: ``python -m tests.servers --cache DIRECTORY``."""

import argparse
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

from tests.harness.binary import ENV_VAR
from tests.harness.server import RedisServer, RedisServerError, RedisServerMissing
from tests.servers.catalogue import Choice, choose
from tests.servers.fetch import FetchError, check_version, fetch
from tests.servers.parts import Size, parts, run
from tests.servers.summary import Result, write_table


def main(arguments: Sequence[str] | None = None) -> int:
    """Fetch, run, print the summary, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.servers", description=__doc__)
    parser.add_argument("--cache", type=Path, required=True, help="where to keep the servers")
    parser.add_argument("--servers", default="", help="names, or name=path; default: all")
    parser.add_argument("--size", choices=get_args(Size), default="full")
    parser.add_argument("--jobs", type=int, default=2, help="tests at a time")
    parser.add_argument("--table", type=Path, help="renew the rows of this table")
    options = parser.parse_args(arguments)
    try:
        choices = choose(options.servers)
    except ValueError as error:
        parser.error(str(error))
    # All are fetched and started before any is tested: what is missing should not come out late.
    found = [_find(choice, options.cache) for choice in choices]
    for executable, result in found:
        if executable is None:
            continue
        for part in parts(options.size, options.jobs):
            print(f"\n{result.server.name} ({result.version}): {part.name}", flush=True)
            result.outcomes.append(run(part, executable))
        if options.table is not None:
            write_table(options.table, [result], datetime.now(UTC).date())
    results = [result for _, result in found]
    print("\n" + "\n".join(map(str, results)))
    return 0 if all(result.passed for result in results) else 1


def _find(choice: Choice, cache: Path) -> tuple[Path | None, Result]:
    """Return the executable, if there is one that starts, and where to note what becomes of it."""
    result = Result(choice.server)
    try:
        executable = choice.executable or fetch(choice.server, cache)
        result.version = check_version(choice.server, executable)
        _start(executable, result.version)
    except (FetchError, RedisServerError, RedisServerMissing) as error:
        result.why_not = str(error)
        print(result, flush=True)
        return None, result
    return executable, result


def _start(executable: Path, version: str) -> None:
    """Start a server and end it.

    Raises:
        RedisServerError: it does not start, or has another version then.
    """
    os.environ[ENV_VAR] = str(executable)
    with RedisServer() as server:
        info = server.command("INFO", "server")
    running = info.get("valkey_version", info["redis_version"])
    if running != version:
        raise RedisServerError(f"{executable} says it is {version}, but starts as {running}")


if __name__ == "__main__":
    sys.exit(main())
