"""The command line as a process: terminals, pipes, signals, and what is not installed."""

from __future__ import annotations

import errno
import fcntl
import importlib.abc
import importlib.metadata
import io
import json
import os
import pty
import re
import shlex
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path

import pytest
import trio

from distkit_actors import Fleet, MemoryStore, __version__, open_store
from distkit_actors._cli.main import main
from distkit_actors.abc import Link
from tests.cli.seed import seed

COMMAND = [sys.executable, "-m", "distkit_actors"]
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("more", [{}, {"FORCE_COLOR": "1"}, {"TTY_COMPATIBLE": "1"}])
def test_a_pipe_gets_plain_lines(
    redis_url: str, fresh_prefix: str, more: Mapping[str, str]
) -> None:
    key = "k" * 100
    seed(redis_url, fresh_prefix, {"a": {key: 3}}, dead_instance_threshold=300.0)
    done = subprocess.run(
        [*COMMAND, "top", redis_url, fresh_prefix, "--once", "--interval", "0.1"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={**os.environ, **more},
    )
    assert done.stderr == ""
    assert "\x1b" not in done.stdout
    assert done.stdout.splitlines()[-1].split() == [key, "3", "0", "3"]


def test_a_closed_output_is_no_terminal(redis_url: str, fresh_prefix: str) -> None:
    seed(redis_url, fresh_prefix, {"a": {"k": 3}}, dead_instance_threshold=300.0)
    words = shlex.join([*COMMAND, "instances", redis_url, fresh_prefix])
    done = subprocess.run(
        ["sh", "-c", f"{words} >&-"], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("words", [["check", "memory://", "p"], ["acl", "p"]])
def test_an_output_that_is_full_is_no_finding(words: list[str]) -> None:
    """`check` says with 1 that something is wrong in the store."""
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [*COMMAND, *words],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            cwd=ROOT,
        )
    assert done.returncode == 2
    assert done.stderr == "Error: [Errno 28] No space left on device\n"


@pytest.mark.parametrize("encoding", ["latin-1", "utf-8"])
def test_an_output_without_the_letters_of_a_key_gets_escapes(
    redis_url: str, fresh_prefix: str, encoding: str
) -> None:
    key = "ключ \x9b31m"
    seed(redis_url, fresh_prefix, {"a": {key: 3}}, dead_instance_threshold=300.0)
    shown: dict[str, bytes] = {}
    for option in ("", "--json"):
        done = subprocess.run(
            [*COMMAND, "get", redis_url, fresh_prefix, *filter(None, [option])],
            capture_output=True,
            check=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONIOENCODING": encoding},
        )
        assert done.stderr == b""
        assert b"\x9b" not in done.stdout.replace("ключ".encode(), b"")  # a terminal would obey it
        shown[option] = done.stdout
    name = "ключ" if encoding == "utf-8" else r"\u043a\u043b\u044e\u0447"
    assert shown[""].decode(encoding) == name + " \\x9b31m  3\n"
    assert json.loads(shown["--json"]) == {key: 3}


@pytest.mark.parametrize("columns", [30, 140])
def test_a_terminal_gets_a_live_table(redis_url: str, fresh_prefix: str, columns: int) -> None:
    slices = {f"instance-{n}": {"connections": 1000 + n} for n in range(8)}
    seed(redis_url, fresh_prefix, slices, dead_instance_threshold=300.0)
    shown, code = on_terminal(
        columns, "connections", "top", redis_url, fresh_prefix, "--interval", "0.1"
    )
    assert code == 0
    assert "\x1b[" in shown
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    printed = re.split(r"[\r\n]+", plain)
    assert all(len(line) <= columns for line in printed)
    assert "instance-0" in plain
    assert any(line.startswith("instance-0") for line in printed) == (columns == 30)


def on_terminal(
    columns: int, awaited: str, *words: str, times: int = 2, ctrl: str = "C"
) -> tuple[str, int]:
    """Run a command on a terminal until it has shown something so often; press Ctrl-C or Ctrl-D."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {**os.environ, "TERM": "xterm"}
    process = subprocess.Popen(
        [*COMMAND, *words], stdin=theirs, stdout=theirs, stderr=theirs, env=environment, cwd=ROOT
    )
    os.close(theirs)
    shown = b""
    with os.fdopen(ours, "r+b", buffering=0) as terminal:
        while shown.count(awaited.encode()) < times:
            some = terminal.read(4096)
            assert some, shown
            shown += some
        if ctrl == "C":
            process.send_signal(signal.SIGINT)
        else:
            terminal.write(b"\x04")
        while True:
            try:
                some = terminal.read(4096)
            except OSError as error:  # so Linux says that nobody is left on the other side
                if error.errno != errno.EIO:
                    raise
                break
            if not some:
                break
            shown += some
    return shown.decode(), process.wait(60)


def test_a_reader_that_goes_ends_it(redis_url: str, fresh_prefix: str) -> None:
    words = ["top", redis_url, fresh_prefix, "--interval", "0.1"]
    process = subprocess.Popen(
        [*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline()
    process.stdout.close()
    assert process.wait(60) == 141
    assert process.stderr.read() == b""
    process.stderr.close()


@pytest.mark.parametrize(
    "words", [["check", "memory://", "p"], ["get", "memory://", "p", "k"], ["acl"], ["--help"]]
)
def test_a_reader_that_has_gone_is_nothing_that_check_has_found(words: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as pipe:
        done = subprocess.run(
            [*COMMAND, *words], stdout=pipe, stderr=subprocess.PIPE, check=False, cwd=ROOT
        )
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize("ends", [signal.SIGINT, signal.SIGTERM])
def test_what_is_held_ends_with_a_signal(
    redis_url: str, fresh_prefix: str, ends: signal.Signals
) -> None:
    seed(redis_url, fresh_prefix, {"a": {"k": 3}}, dead_instance_threshold=300.0)
    words = ["set", redis_url, fresh_prefix, "k", "7"]
    process = subprocess.Popen(
        [*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stderr is not None
    assert process.stderr.readline() == "holding 7 until Ctrl-C\n"
    held = [*COMMAND, "get", redis_url, fresh_prefix, "k"]
    assert subprocess.run(held, capture_output=True, check=True, cwd=ROOT).stdout == b"7\n"
    process.send_signal(ends)
    out, err = process.communicate(timeout=60)
    assert (out, err, process.returncode) == ("7\n", "", 0)
    assert subprocess.run(held, capture_output=True, check=True, cwd=ROOT).stdout == b"0\n"


@pytest.mark.parametrize(
    ("words", "completions"),
    [
        ("distkit-actors pre", {"prefixes"}),
        ("distkit-actors get --j", {"--json"}),  # nobody asks where the store is meanwhile
        ("distkit-actors get localhost:6379 --j", {"--json"}),
        ("distkit-actors top redis://x p --int", {"--interval"}),
        ("distkit-actors acl redis://x p --user", {"--user"}),
        ("distkit-actors acl --topology s", {"single", "sentinel"}),
    ],
)
def test_completion_for_shells(words: str, completions: set[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from distkit_actors._cli.main import main; main()"],
        env={**os.environ, "_DISTKIT_ACTORS_COMPLETE": "bash_complete"}
        | {"COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))},
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert {line.partition(",")[2] for line in done.stdout.splitlines()} == completions
    assert done.stderr == ""


# ------------------------------------------------------------------------------- by hand


def test_without_click_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["top", "redis://x", "p"]) == 2
    message = "distkit-actors: click and rich missing: pip install 'distkit-actors[cli]'\n"
    assert capsys.readouterr().err == message
    assert main([]) == 0
    assert "demo" in capsys.readouterr().out


def test_exit_codes(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["get", "memory://", "p", "k"]) == 0
    assert main(["get", "memory://", ""]) == 2
    assert main(["nope"]) == 2
    assert main(["check", "memory://", "p"]) == 0
    assert main(["check", "memory://", "p", "--strict"]) == 0
    capsys.readouterr()
    for stdin in (io.StringIO("n\n"), Interrupted()):
        monkeypatch.setattr("sys.stdin", stdin)
        assert main(["clear", "memory://", "p"]) == 130
        assert capsys.readouterr().err.endswith("aborted\n")


def test_the_version_is_known_in_a_mere_checkout(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.Distribution.from_name", missing)
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"distkit-actors, version {__version__}\n"


def test_control_c_while_it_imports(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow(importlib.abc.MetaPathFinder):
        def find_spec(self, fullname: str, path: object, target: object = None) -> None:
            if fullname == "distkit_actors._cli.commands":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "distkit_actors._cli.commands", raising=False)
    monkeypatch.setattr("sys.meta_path", [Slow(), *sys.meta_path])
    assert main(["get", "memory://", "p", "k"]) == 130
    assert capsys.readouterr().err == "aborted\n"


@pytest.mark.parametrize(("words", "code"), [((), 0), (("--once",), 130)])
def test_control_c_ends_top_well_unless_it_had_only_to_look_once(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    code: int,
) -> None:
    async def interrupted(*_: object) -> None:
        await trio.lowlevel.checkpoint()
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("distkit_actors._cli.looks.look", interrupted)
    assert main(["top", "memory://", "p", *words]) == code
    shown = capsys.readouterr()
    assert (shown.out, shown.err.strip()) == ("", "aborted" if code else "")


@pytest.mark.parametrize("partitions", [1, 2])
def test_control_c_calls_off_a_look_at_any_number_of_parts(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, partitions: int
) -> None:
    async def interrupted(_: object) -> None:
        await trio.lowlevel.checkpoint()
        signal.raise_signal(signal.SIGINT)

    several = partial(open_store, partitions=partitions)
    monkeypatch.setattr("distkit_actors._cli.looks.open_store", several)
    monkeypatch.setattr("distkit_actors._fleet._part.FleetPart.instances", interrupted)
    assert main(["instances", "memory://", "p"]) == 130
    shown = capsys.readouterr()
    assert (shown.out, shown.err.strip()) == ("", "aborted")


class Interrupted(io.StringIO):
    """Where Ctrl-C is pressed while something is awaited."""

    def readline(self, _: object = None, /) -> str:  # type: ignore[override]  # typeshed's
        raise KeyboardInterrupt


@pytest.mark.parametrize("stdin", ["</dev/null", "<&-"])
def test_clear_says_what_to_do_where_nobody_can_answer(stdin: str) -> None:
    """As in a script, in a job of cron, or behind a pipe that has ended."""
    words = shlex.join([*COMMAND, "clear", "memory://", "p"])
    done = subprocess.run(
        ["sh", "-c", f"{words} {stdin}"], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 2
    said = "Error: nobody is there to answer: with --yes it is done without asking\n"
    assert done.stderr.endswith(said)


@pytest.mark.parametrize("words", [["get", "k"], ["check"], ["prefixes"], ["top"]])
def test_an_interrupt_while_it_connects_is_one(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def interrupted(*_: object) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            raise KeyboardInterrupt

    monkeypatch.setattr(trio, "open_tcp_stream", interrupted)
    command, *keys = words
    prefix = [] if command == "prefixes" else ["p"]
    code = main([command, "redis://127.0.0.1:6", *prefix, *keys])
    assert code == (0 if command == "top" else 130)
    assert "Traceback" not in capsys.readouterr().err


async def test_an_interrupt_while_a_fleet_starts_comes_out_as_it_is() -> None:
    class Interrupted(MemoryStore):
        def link(self, prefix: str) -> AbstractAsyncContextManager[Link]:
            raise BaseExceptionGroup("", [KeyboardInterrupt()])

    with pytest.raises(KeyboardInterrupt):
        async with Fleet.open("p", Interrupted()):
            pass


def test_clear_is_called_off_on_a_terminal_that_ends() -> None:
    shown, code = on_terminal(100, "[y/N]", "clear", "memory://", "p", times=1, ctrl="D")
    assert code == 130
    assert shown.endswith("aborted\r\n")
