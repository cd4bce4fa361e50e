"""The lines and the picture that are read first say what the tables say, and fit a telephone."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from benchmarks import glance
from benchmarks.picture import WIDTH, Bar, Panel, description, panels, picture
from benchmarks.tables import TABLE, K, Tables

TEXT = (glance.DOCS / TABLE).read_text("utf-8")

#: How wide a letter is on average in a wide font, in its own height.
EM = 0.58
#: How wide the picture is on a small telephone, in pixels, with the margins of the page.
ON_TELEPHONE = 328


def test_the_page_shows_what_the_tables_say() -> None:
    old = [path.name for path, text in glance.made().items() if path.read_text("utf-8") != text]
    assert not old, f"{old}: not up to date, run: python -m benchmarks.glance"


def test_every_figure_of_the_lines_is_in_the_tables() -> None:
    said = glance.lines(Tables(TEXT)).partition("Measured on")[0].replace("\xa0", " ")
    figures = re.findall(r"[\d\N{NARROW NO-BREAK SPACE}.]+ (?:×|calls/s|ms|µs|ns|bytes)", said)
    assert len(figures) > 20
    assert [figure for figure in figures if figure not in TEXT] == []


def test_there_are_five_lines() -> None:
    assert len(re.findall(r"^- ", glance.lines(Tables(TEXT)), re.MULTILINE)) == 5


def drawn(found: list[Panel]) -> ET.Element:
    return ET.fromstring(picture(found))


def of(root: ET.Element, tag: str) -> list[ET.Element]:
    return root.findall(f"{{http://www.w3.org/2000/svg}}{tag}")


@pytest.mark.parametrize("unit", ["calls/s", "bytes"])
def test_a_bar_is_as_long_as_its_value_is_large(unit: str) -> None:
    root = drawn([Panel("t", "n", [Bar("a", f"{K} {unit}", True), Bar("b", f"250 {unit}", False)])])
    _, long, short = of(root, "rect")
    assert float(long.attrib["width"]) == pytest.approx(4 * float(short.attrib["width"]))
    assert (long.attrib["class"], short.attrib["class"]) == ("ours", "peer")


def test_times_in_different_units_are_on_one_scale() -> None:
    values = ("1.5 ms", "300 µs", "75 µs", "750 ns")
    root = drawn([Panel("t", "n", [Bar(value, value, False) for value in values])])
    first, second, third, least = (float(bar.attrib["width"]) for bar in of(root, "rect")[1:])
    assert first == pytest.approx(5 * second)
    assert first == pytest.approx(20 * third, rel=0.01)
    assert least >= 1  # what is much smaller can still be seen


def test_the_picture_can_be_read_on_a_telephone() -> None:
    root = drawn(panels(Tables(TEXT)))
    style = of(root, "style")[0].text or ""
    sizes = {name: int(size) for name, size in re.findall(r"(\S+) \{ font.*?(\d+)px", style)}
    assert sizes.keys() == {"text", ".title", ".note"}
    assert min(sizes.values()) * ON_TELEPHONE / WIDTH >= 12
    lines: dict[str, float] = {}
    for text in of(root, "text"):
        size = sizes.get(f".{text.attrib['class']}", sizes["text"])
        width = len(text.text or "") * size * EM
        lines[text.attrib["y"]] = lines.get(text.attrib["y"], 0) + width
    assert max(lines.values()) <= WIDTH - 24


def test_the_picture_has_a_text_that_says_the_same() -> None:
    found = panels(Tables(TEXT))
    root = drawn(found)
    assert root.attrib["role"] == "img"
    assert of(root, "desc")[0].text == description(found)
    assert all(bar.value in description(found) for panel in found for bar in panel.bars)
    page = re.sub(r"\s+", " ", glance.lines(Tables(TEXT)).replace("\N{NARROW NO-BREAK SPACE}", ""))
    alternative = re.sub(r"\s+", " ", description(found).replace("\N{NARROW NO-BREAK SPACE}", ""))
    assert f"![{alternative}]({glance.PICTURE})" in page


def test_the_picture_has_colours_for_dark_pages() -> None:
    style = of(drawn(panels(Tables(TEXT))), "style")[0].text or ""
    light, dark = style.split("@media (prefers-color-scheme: dark)")
    names = [re.findall(r"(\S.*?) \{[^}]*(?:fill|stroke):", part) for part in (light, dark)]
    assert len(names[0]) == 5
    assert names[0] == names[1]


# ------------------------------------------------------------------- tables of other runs


def with_row(peer: str, theirs: str, ratio: str) -> str:
    row = f"| strict, trio transport | 300 µs | {peer} | {theirs} | {ratio} | ≤ 1.5 × |  |"
    return f"{TEXT}\n**More** (`--only latency`)\n\n{row}\n"


def test_a_peer_that_was_measured_gets_a_bar_and_a_ratio() -> None:
    tables = Tables(with_row("distkit 99.1.0 (Rust)", "222 µs", "1.51 × (1.40–1.60)"))
    assert Bar("distkit (Rust)", "222 µs", False) in panels(tables)[1].bars
    said = glance.lines(tables).replace("\n  ", " ")
    assert "1.51\N{NO-BREAK SPACE}× the Rust crate `distkit`" in said


def test_the_newest_version_of_a_peer_is_shown() -> None:
    rows = [with_row(f"distkit 99.{n}.0 (Rust)", "222 µs", f"1.{n} × (1–2)") for n in (9, 10, 8)]
    found = Tables("\n".join(rows)).beside("latency", "strict, trio transport", "distkit")
    assert found is not None
    assert (found.peer, found.times) == ("distkit 99.10.0 (Rust)", "1.10 ×")


def test_a_peer_that_was_not_measured_has_no_bar() -> None:
    tables = Tables(with_row("distkit 99.1.0 (Rust)", "not measured, as there is no cargo", ""))
    assert panels(tables) == panels(Tables(TEXT))
    assert glance.lines(tables) == glance.lines(Tables(TEXT))


def test_a_table_without_our_rows_is_refused() -> None:
    with pytest.raises(LookupError, match="inc_nowait"):
        glance.lines(Tables(TEXT.replace("| bound inc_nowait() |", "| something else |")))


# ------------------------------------------------------------------------------- files


def test_the_files_are_written_beside_the_tables(tmp_path: Path) -> None:
    shutil.copy(glance.DOCS / TABLE, tmp_path)
    names = glance.renew(tmp_path)
    assert len(names) == 2
    for name in names:
        assert (tmp_path / name).read_text("utf-8") == (glance.DOCS / name).read_text("utf-8")
