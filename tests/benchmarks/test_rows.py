"""What is told of a row: its ratio, its aims, and a peer that could not be measured."""

from __future__ import annotations

import pytest

from benchmarks.bench import Bench
from benchmarks.report import Report, as_markdown, as_pyperf, cells, line
from benchmarks.server import RedisServer


@pytest.fixture
def bench() -> Bench:
    # The server is never started.
    return Bench("group", RedisServer(), True, 1, lambda _: None)


def test_each_aim_of_a_row_is_kept_or_missed_by_itself(bench: Bench) -> None:
    bench.row("call", "time", [2.0, 2.0], "peer", [1.0, 1.0], aim=(2.5, 1.7))
    bench.row("rate", "rate", [3.0], "peer", [1.0], unit="calls/s", better="more", aim=(2, 3))
    bench.row("other", "time", [2.0], "peer", [1.0])

    slow, fast, aimless = bench.rows
    assert cells(slow)[5] == "≤ 2.5 × kept, ≤ 1.7 × MISSED"
    assert cells(fast)[5] == "≥ 2 × kept, ≥ 3 × kept"
    assert cells(aimless)[5] == ""
    assert (slow.holds, fast.holds, aimless.holds) == (False, True, None)


def test_a_row_says_why_its_peer_was_not_measured(bench: Bench) -> None:
    bench.absent["peer"] = "not measured, as there is no cargo"
    bench.row("call", "time", [2.0], "peer", [], aim=2)

    (row,) = bench.rows
    assert row.holds is None
    assert line(row) == "call: 2.00 s, peer (not measured, as there is no cargo), aim ≤ 2 ×"
    report = Report({"group": "title"}, _MACHINE, False, 1, {"group": 1.0}, bench.rows)
    assert "| 2.00 s | peer | not measured, as there is no cargo |  | ≤ 2 × |" in as_markdown(
        report
    )
    assert as_pyperf(report).get_benchmark_names() == ["group: call"]


@pytest.mark.parametrize(("absent", "theirs"), [("why", [1.0]), ("", [])])
def test_a_peer_has_values_or_is_absent(bench: Bench, absent: str, theirs: list[float]) -> None:
    bench.absent["peer"] = absent

    with pytest.raises(ValueError, match="peer"):
        bench.row("call", "time", [2.0], "peer", theirs)


_MACHINE = {"system": "Linux", "architecture": "x86_64", "cores": 2, "python": "CPython 3.11"}
