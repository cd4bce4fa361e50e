"""One cheap row, measured for real."""

from __future__ import annotations

import io
import json

from benchmarks.page import table_page
from benchmarks.progress import PlainProgress
from benchmarks.report import as_json
from benchmarks.run import run


def test_a_row_is_measured_and_written_down() -> None:
    said = io.StringIO()
    report = run(["million"], quick=True, rounds=1, progress=PlainProgress(said))

    content = json.loads(as_json(report))
    assert content["quick"] is True
    assert content["machine"]["cores"] >= 1
    (row,) = content["rows"]
    assert row["group"] == "million"
    assert row["aim"] == {"kind": "at most", "limit": 1}
    assert row["holds"] is (row["ratio"]["median"] <= 1)
    assert row["ours"]["repetitions"] == 1
    assert row["name"] in said.getvalue()
    assert row["name"] in table_page(report)
