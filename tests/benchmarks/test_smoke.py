"""Every row, measured once for real in a small size, and written down."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyperf
import pytest
from rich.console import Console

if sys.version_info >= (3, 14):
    pytest.skip("a peer needs trio-asyncio, which 3.14 cannot import", allow_module_level=True)

from benchmarks import floors, glance, peers
from benchmarks.__main__ import main, run
from benchmarks.picture import panels
from benchmarks.report import Report, as_markdown, as_pyperf
from benchmarks.rows import GROUPS
from benchmarks.rows.counts import instructions
from benchmarks.tables import TABLE, Row, Tables

#: Both versions of the reference.
_REFERENCES = {peers.NEWEST, peers.FIRST}

#: Peers that a group must have.
_PEERS = {
    "latency": {
        "bare trio socket",
        "redis.asyncio, one connection",
        "redis-py in threads",
        "redis.asyncio on asyncio itself",
        "coredis on trio",
        "valkey-glide on trio",
        *_REFERENCES,
    },
    "strict": {"redis.asyncio, pool of 10", *_REFERENCES},
    "processes": {"2 µs", *_REFERENCES},
    "memory": {"field of a hash", "bare trio socket", *_REFERENCES},
    "imports": {"import trio"},
    "partitions": {"one part on one node"},
    "lax": {
        "plain method",
        "plain async method",
        "plain method that reads",
        "item of a dict",
        "prometheus livesum gauge",
        "prometheus livesum gauge, labels resolved",
        *_REFERENCES,
    },
    "idle": {
        "one for each beat",
        "HINCRBY over a bare trio socket, as often",
        "trio.sleep_forever",
    },
}


@pytest.mark.parametrize("group", GROUPS)
def test_each_group_measures_its_rows_and_says_so(
    group: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CARGO", "")  # which takes a minute to build what there is a test for below
    log = tmp_path / "log"
    with log.open("w", encoding="utf-8") as out:
        report = run([group], True, 1, Console(file=out))

    assert report.rows
    said = log.read_text("utf-8")
    table = as_markdown(report)
    suite = as_pyperf(report)
    names = set(suite.get_benchmark_names())
    for row in report.rows:
        assert row.group == group
        assert all(value > 0 for value in (*row.ours, *row.theirs))
        assert row.name in said
        assert row.name in table
        assert row.peer in table
        assert f"{group}: {row.name}" in names
        assert bool(row.absent) == (row.peer in _REFERENCES)
        if row.absent:
            assert f"| {row.peer} | not measured, as there is no cargo |" in table
            continue
        assert row.ratio.low <= row.ratio.median <= row.ratio.high
        assert f"{group}: {row.name} / {row.peer}" in names
    assert {row.peer for row in report.rows} >= _PEERS.get(group, set())


def test_a_run_writes_the_table_and_every_value(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--quick", "--repeat", "2", "--only", "million", "--output", str(tmp_path)]
    assert main(words) == 0

    assert "round trips" in capsys.readouterr().out
    assert "≤ 1 ×" in (tmp_path / "performance_table.md").read_text("utf-8")
    suite = pyperf.BenchmarkSuite.load(str(tmp_path / "benchmarks.json"))
    ours, theirs = suite.get_benchmarks()
    assert len(ours.get_values()) == len(theirs.get_values()) == 2
    assert theirs.get_metadata()["ratio"]


def test_a_whole_run_renews_what_is_made_of_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def written(_report: object, table: Path, _values: Path) -> None:
        shutil.copy(glance.DOCS / table.name, table)

    report = Report({}, {}, False, 1, {}, [])  # of a run that has measured nothing
    monkeypatch.setattr("benchmarks.__main__.run", lambda *_: report)
    monkeypatch.setattr("benchmarks.__main__.write", written)

    assert main(["--only", "lax", "--output", str(tmp_path)]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {TABLE}

    assert main(["--output", str(tmp_path)]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {TABLE, glance.LINES, glance.PICTURE}


def test_the_picture_knows_peers_by_the_names_that_they_have() -> None:
    names = {name for name in vars(peers).values() if isinstance(name, str)}
    names |= {name for name in vars(floors).values() if isinstance(name, str)}
    asked: list[str] = []

    class Asked(Tables):
        def beside(self, group: str, name: str, peer: str) -> Row | None:
            asked.append(peer)
            return super().beside(group, name, peer)

    panels(Asked((glance.DOCS / TABLE).read_text("utf-8")))
    assert len(asked) > 10
    unknown = {
        peer for peer in asked if not any(f"{name} ".startswith(f"{peer} ") for name in names)
    }
    assert not unknown


#: Answers as the program of the reference does, which counts a thousand times in a second.
_REFERENCE = """
import json, sys
load = {"calls": 10.0, "rate": 1000.0, "p50": 0.001, "p99": 0.002}
answers = {"strict": load, "lax": {"seconds": 0.001}}
version, url, prefix = sys.argv[1:]
print(json.dumps({"ready": 1}), flush=True)
for line in sys.stdin:
    print(json.dumps(answers[line.split()[0]]), flush=True)
"""


@pytest.fixture
def cargo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cargo that builds a stand-in for the reference, and logs what it was told."""
    program = tmp_path / "program"
    program.write_text(f"#!{sys.executable}\n{_REFERENCE}")
    program.chmod(0o700)
    target, log = tmp_path / "target", tmp_path / "cargo.log"
    stand_in = tmp_path / "cargo"
    stand_in.write_text(
        f'#!/bin/sh\necho "$*" >> {log}\nwhile [ "$1" != --target-dir ]; do shift; done\n'
        f'mkdir -p "$2/release" && cp {program} "$2/release/distkit-reference"\n'
    )
    stand_in.chmod(0o700)
    monkeypatch.setenv("CARGO", str(stand_in))
    monkeypatch.setattr("benchmarks.peers.reference._TARGET", target)
    monkeypatch.setattr(
        "benchmarks.peers.reference._PROGRAM", target / "release" / "distkit-reference"
    )
    return log


@pytest.mark.parametrize("group", ["latency", "strict", "lax", "processes"])
def test_the_reference_is_built_and_measured_where_there_is_cargo(
    group: str, cargo: Path, tmp_path: Path
) -> None:
    with (tmp_path / "log").open("w", encoding="utf-8") as out:
        report = run([group], True, 1, Console(file=out))

    assert "build --release --locked" in cargo.read_text()
    found = [row for row in report.rows if row.peer in _REFERENCES]
    assert {row.peer for row in found} == _REFERENCES
    for row in found:
        assert not row.absent
        each = 2 if group == "processes" else 1
        assert set(row.theirs) == {1000.0 * each if row.unit == "calls/s" else 0.001}


def test_a_run_ends_where_cargo_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    false = tmp_path / "cargo"
    false.write_text("#!/bin/sh\nexit 101\n")
    false.chmod(0o700)
    monkeypatch.setenv("CARGO", str(false))

    with (
        (tmp_path / "log").open("w", encoding="utf-8") as out,
        pytest.raises(subprocess.CalledProcessError),
    ):
        run(["memory"], True, 1, Console(file=out))


async def test_instructions_of_a_call_are_what_a_longer_loop_takes_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It says 70 instructions for each unit of the last word, which is the length of the loop.
    stand_in = tmp_path / "valgrind"
    stand_in.write_text(
        "#!/bin/sh\n"
        "for word; do case $word in --log-file=*) log=${word#*=};; esac; last=$word; done\n"
        'case $last in *[!0-9]*|"") last=0;; esac\n'
        'echo "==1== I   refs:      1,$((100000 + 70 * last))" > "$log"\n'
        'while [ "${1#--}" != "$1" ]; do shift; done\n'
        'exec "$@"\n'
    )
    stand_in.chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

    assert await instructions("client", "strict", few=5, many=10) == 70
    # The last word to a server is the same in both.
    assert await instructions("server", "bare", few=5, many=10) == 0
