"""The picture: every ratio on a logarithmic axis, with the aims."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from benchmarks import wording
from benchmarks.results import Result
from benchmarks.run import Report

_INK: Final = "#1f2328"
_GREY: Final = "#8a9199"
_BLUE: Final = "#2f6db3"
_GREEN: Final = "#1a7f37"
_RED: Final = "#c4312b"
#: Inches for a row, and around all rows of one half.
_ROW: Final = 0.21
_MARGIN: Final = 1.1


def draw(report: Report, path: Path) -> None:
    """Write the chart as an SVG, on a white ground of its own: pages may be dark."""
    halves = [
        ("more is better", [row for row in report.results if row.better == "more"]),
        ("less is better", [row for row in report.results if row.better == "less"]),
    ]
    halves = [(title, rows) for title, rows in halves if rows]
    heights = [_MARGIN + _ROW * len(rows) for _, rows in halves]
    with _style():
        figure = Figure(figsize=(11, sum(heights)), facecolor="white", layout="constrained")
        panels = figure.subplots(len(halves), 1, height_ratios=heights, squeeze=False)
        for axes, (title, rows) in zip(panels[:, 0], halves, strict=True):
            _panel(axes, title, rows)
        figure.savefig(path, format="svg", facecolor="white", metadata={"Date": None})


def _style() -> AbstractContextManager[None]:
    return mpl.rc_context(
        {
            # Letters stay letters: a quarter of the size, and they can be searched.
            "svg.fonttype": "none",
            # Names inside the file are not drawn at random then.
            "svg.hashsalt": "distkit_actors",
            "font.family": ["DejaVu Sans", "sans-serif"],
            "font.size": 7.5,
            "text.color": _INK,
            "axes.edgecolor": _GREY,
            "axes.labelcolor": _INK,
            "xtick.color": _INK,
            "ytick.color": _INK,
        }
    )


def _panel(axes: Axes, title: str, rows: Sequence[Result]) -> None:
    axes.set_xscale("log")
    axes.set_facecolor("white")
    axes.set_title(title, loc="left", fontweight="bold")
    axes.set_xlabel("ours / peer's, median and quartiles; a black bar is an aim")
    axes.axvline(1, color=_GREY, linewidth=1)
    axes.grid(axis="x", color="#e4e7ea", linewidth=0.6)
    axes.set_axisbelow(True)
    for place, row in enumerate(rows):
        _dot(axes, place, row)
    axes.set_yticks(
        range(len(rows)), [f"{row.group}: {row.name}  /  {_short(row.peer)}" for row in rows]
    )
    axes.set_ylim(len(rows) - 0.4, -0.6)
    # Room for the figures at the right of the dots.
    low, high = axes.get_xlim()
    axes.set_xlim(low, high * (high / low) ** 0.35)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g} ×")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)


def _short(peer: str) -> str:
    """Return a peer without the remark on it."""
    return peer.partition(" (")[0]


def _dot(axes: Axes, place: int, row: Result) -> None:
    color = {None: _BLUE, True: _GREEN, False: _RED}[row.holds]
    axes.plot([row.ratio.low, row.ratio.high], [place, place], color=color, linewidth=1.4)
    axes.plot([row.ratio.median], [place], "o", color=color, markersize=4)
    text = f"{wording.number(row.ratio.median)} ×"
    right = row.ratio.high
    if row.aim is not None:
        right = max(right, row.aim.limit)
        axes.plot([row.aim.limit] * 2, [place - 0.38, place + 0.38], color=_INK, linewidth=1.6)
        text += f"  (aim {wording.aim(row)}, {wording.verdict(row)})"
    axes.annotate(
        text,
        (right, place),
        xytext=(5, 0),
        textcoords="offset points",
        va="center",
        color=color,
    )
