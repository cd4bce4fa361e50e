"""Every row, measured once for real in a small size, and written down."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pyperf
import pytest
from rich.console import Console

if sys.version_info >= (3, 14):
    pytest.skip("a peer needs trio-asyncio, which 3.14 cannot import", allow_module_level=True)

from benchmarks.__main__ import main, run
from benchmarks.report import as_markdown, as_pyperf
from benchmarks.rows import GROUPS
from benchmarks.rows.counts import instructions

#: Peers that a group must have.
_PEERS = {
    "latency": {
        "bare trio socket",
        "redis.asyncio, one connection",
        "redis-py in threads",
        "coredis on trio",
    },
    "strict": {"redis.asyncio, pool of 10"},
    "lax": {
        "plain method",
        "plain async method",
        "plain method that reads",
        "item of a dict",
        "prometheus livesum gauge",
        "prometheus livesum gauge, labels resolved",
    },
    "idle": {
        "one for each beat",
        "HINCRBY over a bare trio socket, as often",
        "trio.sleep_forever",
    },
}


@pytest.mark.parametrize("group", GROUPS)
def test_each_group_measures_its_rows_and_says_so(group: str, tmp_path: Path) -> None:
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
        assert row.ratio.low <= row.ratio.median <= row.ratio.high
        assert row.name in said
        assert row.name in table
        assert row.peer in table
        assert {f"{group}: {row.name}", f"{group}: {row.name} / {row.peer}"} <= names
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
