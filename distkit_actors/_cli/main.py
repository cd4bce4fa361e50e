"""Where ``distkit-actors`` and ``python -m distkit_actors`` begin."""

from __future__ import annotations

import importlib.util
import io
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from .._demo import main as demo

#: What the demo's own command line can do, without click.
_WITHOUT_CLICK: Final = ("demo", "--help", "-h", "--version")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    missing = [name for name in ("click", "rich") if importlib.util.find_spec(name) is None]
    if not missing:
        _escape_what_cannot_be_printed()
        try:
            return _run(words)
        except KeyboardInterrupt:  # also while the imports take their time
            return _aborted()
    if not words or words[0] in _WITHOUT_CLICK:
        return demo.main(words)
    print(
        f"distkit-actors: {' and '.join(missing)} missing: pip install 'distkit-actors[cli]'",
        file=sys.stderr,
    )
    return demo.UNUSABLE


def _run(words: list[str]) -> int:
    import click  # noqa: PLC0415 - it may be missing

    from .commands import cli  # noqa: PLC0415 - it needs click

    try:
        code: object = cli.main(words, prog_name="distkit-actors", standalone_mode=False)
    except click.ClickException as error:
        try:
            error.show()
        except BrokenPipeError:  # of standard error
            return demo.BROKEN_PIPE
        return error.exit_code
    except click.Abort:
        return _aborted()
    except SystemExit as end:
        if end.code == 1:  # so click and rich end it where the reader of a pipe has gone
            return demo.BROKEN_PIPE
        raise
    except OSError as error:  # what is printed cannot be written, for example
        with suppress(OSError):
            print(f"Error: {error}", file=sys.stderr)
        return demo.UNUSABLE
    return code if isinstance(code, int) else 0


def _escape_what_cannot_be_printed() -> None:
    """Have a key be shown as an escape where the output has no such letters."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _aborted() -> int:
    print("aborted", file=sys.stderr)
    return demo.INTERRUPTED
