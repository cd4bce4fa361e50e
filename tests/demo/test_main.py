"""Arguments and exit codes."""

import logging
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import trio
import trio.testing

from distkit_actors import CounterValue, __version__
from distkit_actors._demo.fleet import Fleet
from distkit_actors._demo.main import main
from tests.harness.ports import free_port
from tests.harness.server import RedisServer

ROOT = Path(__file__).resolve().parents[2]
DEMO = [sys.executable, "-m", "distkit_actors", "demo"]


@pytest.fixture
def clock() -> trio.testing.MockClock:
    return trio.testing.MockClock(autojump_threshold=0)


def test_alone_it_prints_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "demo" in capsys.readouterr().out


def test_help_names_the_command_that_is_typed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["demo", "--help"])
    assert capsys.readouterr().out.startswith("usage: distkit-actors demo ")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(["--version"])
    assert raised.value.code == 0
    assert capsys.readouterr().out == f"distkit_actors {__version__}\n"


def test_the_demo_comes_out_right_on_the_clock_it_is_given(
    capsys: pytest.CaptureFixture[str], clock: trio.testing.MockClock
) -> None:
    assert main(["demo"], clock=clock) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.splitlines()[1] == "(plain lines, because this is not a terminal)"
    assert out.splitlines()[-1] == "The books and the counters agree."
    assert clock.current_time() > 15


def test_a_false_total_is_told(
    capsys: pytest.CaptureFixture[str],
    clock: trio.testing.MockClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def falsified(self: Fleet) -> dict[str, CounterValue]:
        return {instance.name: CounterValue(-1, -1) for instance in self.live}

    monkeypatch.setattr(Fleet, "values", falsified)
    assert main(["demo"], clock=clock) == 1
    assert "do NOT agree" in capsys.readouterr().out.splitlines()[-1]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--seconds", "4.9"],
        ["--seconds", "nan"],
        ["--seconds", "inf"],
        ["--seconds", "soon"],
        ["--instances", "2"],
        ["--instances", "13"],
        ["--instances", "1.5"],
        ["--unknown"],
    ],
)
def test_bad_arguments(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(["demo", *arguments])
    assert raised.value.code == 2
    assert "error: " in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    "url",
    ["", "nonsense", "http://localhost", "redis://u:secret@127.0.0.1:{port}", "unix:///no/such"],
)
def test_a_url_that_is_no_use_gives_one_clear_line(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", "--url", url.format(port=free_port())]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("distkit_actors demo: ")
    assert err.count("\n") == 1
    assert "secret" not in err


def test_the_log_stays_out_of_the_picture_and_is_left_as_it_was(
    capsys: pytest.CaptureFixture[str], clock: trio.testing.MockClock
) -> None:
    log = logging.getLogger("distkit_actors")
    before = list(log.handlers)
    assert main(["demo"], clock=clock) == 0
    assert log.handlers == before
    assert capsys.readouterr().err == ""


def test_it_comes_out_right_in_a_real_redis(redis_url: str) -> None:
    done = subprocess.run(
        [*DEMO, "--url", redis_url, "--seconds", "5", "--instances", "4"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    assert "The books and the counters agree." in done.stdout


def test_a_redis_that_refuses_gives_one_clear_line() -> None:
    with RedisServer(config={"requirepass": "sesame"}) as server:
        url = re.sub("//[^/]*@", "//", server.url)
        done = subprocess.run(
            [*DEMO, "--url", url],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "NOAUTH" in done.stderr or "password" in done.stderr.lower()


@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
def test_ctrl_c_lets_everyone_leave() -> None:
    with subprocess.Popen(
        DEMO, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as demo:
        assert demo.stdout is not None
        demo.stdout.readline()
        demo.send_signal(signal.SIGINT)
        _, err = demo.communicate(timeout=30)
    assert (demo.returncode, err) == (130, "interrupted: all instances have left\n")


@pytest.mark.skipif(os.name != "posix", reason="pipes as POSIX has them")
def test_a_reader_may_go() -> None:
    with subprocess.Popen(
        [*DEMO, "--seconds", "5"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as demo:
        assert demo.stdout is not None
        assert demo.stderr is not None
        demo.stdout.readline()
        demo.stdout.close()
        assert demo.wait(timeout=30) == 141
        assert demo.stderr.read() == ""


def test_interrupted_before_trio_listens(
    clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(trio, "run", interrupted)
    assert main(["demo"], clock=clock) == 130
