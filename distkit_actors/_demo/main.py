"""Arguments and exit codes."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections.abc import Sequence
from typing import Final

import trio

from .. import MemoryStore, Store, StoreError, __version__, open_store
from . import story
from .screen import open_screen

OK: Final = 0
MISMATCH: Final = 1
UNUSABLE: Final = 2
INTERRUPTED: Final = 130
BROKEN_PIPE: Final = 141

_LEAST_SECONDS: Final = 5.0
_MOST_INSTANCES: Final = 12


def main(arguments: Sequence[str] | None = None, *, clock: trio.abc.Clock | None = None) -> int:
    """Run the command line; return the exit code. ``clock`` is for tests."""
    parser = _parser()
    options, unknown = parser.parse_known_args(arguments)
    if unknown:  # they are not repeated: a password may stand there
        parser.error("unrecognized arguments; the URL of a store stands behind --url")
    if options.command is None:
        parser.print_help()
        return OK
    return _demo(options.url, options.seconds, options.instances, clock)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="distkit-actors",
        description="Instance-aware distributed counters for trio applications, on Redis.",
    )
    parser.add_argument("--version", action="version", version=f"distkit_actors {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    demo = commands.add_parser(
        "demo",
        help="watch a fleet of counters live through a crash, a cut cable and a reset",
        description="Watch a fleet of counters live through a crash, a cut cable and a reset. "
        "Exit code 0: the totals are right; 1: they are not; 2: the store cannot be used.",
    )
    demo.add_argument(
        "--url",
        help="count in a real Redis, under a fresh prefix, e.g. redis://localhost:6379 "
        "(default: in an embedded store)",
    )
    demo.add_argument(
        "--seconds",
        type=_seconds,
        default=18.0,
        metavar="N",
        help=f"how long it takes, {_LEAST_SECONDS:g} or more (default: %(default)g)",
    )
    demo.add_argument(
        "--instances",
        type=_instances,
        default=5,
        metavar="N",
        help=f"how many take part, {story.FEWEST} to {_MOST_INSTANCES} (default: %(default)s)",
    )
    return parser


def _seconds(text: str) -> float:
    seconds = float(text)
    if not _LEAST_SECONDS <= seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"the story takes {_LEAST_SECONDS:g} seconds or more")
    return seconds


def _instances(text: str) -> int:
    instances = int(text)
    if not story.FEWEST <= instances <= _MOST_INSTANCES:
        raise argparse.ArgumentTypeError(
            f"the story needs {story.FEWEST} to {_MOST_INSTANCES} instances"
        )
    return instances


def _demo(url: str | None, seconds: float, instances: int, clock: trio.abc.Clock | None) -> int:
    try:
        store = MemoryStore() if url is None else open_store(url)
    except ValueError as error:
        return _complain(error)
    where = "in an embedded store" if url is None else "in the store at --url"
    # What the log would say, the screen says; with no handler it would go right across it.
    log, silence = logging.getLogger("distkit_actors"), logging.NullHandler()
    log.addHandler(silence)
    code = OK
    try:
        code = trio.run(_until_interrupted, store, where, seconds, instances, clock=clock)
    except* StoreError as errors:
        code = _complain(_first(errors))
    except* BrokenPipeError:
        # The reader has gone. The interpreter would try to flush once more, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = BROKEN_PIPE
    except* KeyboardInterrupt:
        code = INTERRUPTED
    finally:
        log.removeHandler(silence)
    return code


async def _until_interrupted(store: Store, where: str, seconds: float, instances: int) -> int:
    """Perform; at Ctrl-C let all instances leave before it ends."""
    header = (
        f"distkit_actors demo, {where}. Dead is who is silent for "
        f"{seconds / story.THRESHOLDS:.1f} s."
    )
    right = False
    interrupted = trio.Event()
    with trio.open_signal_receiver(signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:

            async def interrupt() -> None:
                await anext(signals)
                interrupted.set()
                nursery.cancel_scope.cancel()

            nursery.start_soon(interrupt)
            screen = open_screen(sys.stdout, header)
            right = await story.perform(store, screen, instances=instances, seconds=seconds)
            nursery.cancel_scope.cancel()
    if interrupted.is_set():
        print("interrupted: all instances have left", file=sys.stderr)
        return INTERRUPTED
    return OK if right else MISMATCH


def _complain(error: Exception) -> int:
    print(f"distkit_actors demo: {' '.join(str(error).split())}", file=sys.stderr)
    return UNUSABLE


def _first(errors: BaseExceptionGroup[Exception]) -> Exception:
    first = errors.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
