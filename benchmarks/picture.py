"""Draws the picture of ``docs/performance.md``: bars, as SVG that a telephone can show."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from benchmarks.tables import REFERENCE, K, Tables

_UNITS: Final = {"ms": 1e-3, "µs": 1e-6, "ns": 1e-9}


@dataclass(frozen=True)
class Bar:
    """One bar: what stands over it, and the value as it stands there."""

    label: str
    value: str
    is_ours: bool

    @property
    def size(self) -> float:
        """The value as a number, in calls a second or in seconds."""
        number, _, unit = self.value.replace("\N{NARROW NO-BREAK SPACE}", "").partition(" ")
        return float(number) * _UNITS.get(unit, 1.0)


@dataclass(frozen=True)
class Panel:
    """Some bars on one scale."""

    title: str
    note: str
    bars: Sequence[Bar]


def panels(tables: Tables) -> list[Panel]:
    """Return what the picture shows. A peer that was not measured has no bar."""

    def ours(label: str, group: str, name: str) -> Iterator[Bar]:
        yield Bar(label, tables.ours(group, name).ours, True)

    def theirs(label: str, group: str, name: str, peer: str) -> Iterator[Bar]:
        if row := tables.beside(group, name, peer):
            yield Bar(label, row.theirs, False)

    def bars(*found: Iterable[Bar]) -> list[Bar]:
        return [bar for each in found for bar in each]

    crowd = ("peers", f"{K} tasks on 100 keys")
    alone = ("latency", "strict, trio transport")
    keyed, bound = ("lax", "inc_nowait(key)"), ("lax", "bound inc_nowait()")
    return [
        Panel(
            "Calls of many tasks",
            f"{K} tasks on 100 keys; longer is better",
            bars(
                ours("strict counter", *crowd),
                theirs("redis-py pipeline", *crowd, "redis-py pipeline"),
                theirs("valkey-glide", *crowd, "valkey-glide on trio"),
                theirs("redis.asyncio in asyncio", *crowd, "redis.asyncio on asyncio itself"),
                theirs("coredis", *crowd, "coredis on trio"),
                theirs("redis-py in threads", *crowd, "redis-py in threads"),
                theirs("redis.asyncio, one by one", *crowd, "redis.asyncio, one connection"),
            ),
        ),
        Panel(
            "Time of a lone call",
            "one task awaits it; shorter is better",
            bars(
                ours("strict counter", *alone),
                theirs("bare trio socket", *alone, "bare trio socket"),
                theirs("distkit (Rust)", *alone, REFERENCE),
                theirs("valkey-glide", *alone, "valkey-glide on trio"),
                theirs("redis-py in threads", *alone, "redis-py in threads"),
                theirs("coredis", *alone, "coredis on trio"),
                theirs("redis.asyncio", *alone, "redis.asyncio, one connection"),
            ),
        ),
        Panel(
            "Time of a count in memory",
            "one call in a loop; shorter is better",
            bars(
                ours("lax counter, bound to a key", *bound),
                ours("lax counter", *keyed),
                theirs("plain Python method", *keyed, "plain method"),
                theirs("distkit (Rust)", *keyed, REFERENCE),
                theirs(
                    "prometheus gauge, bound",
                    *bound,
                    "prometheus livesum gauge, labels resolved",
                ),
                theirs("prometheus gauge", *keyed, "prometheus livesum gauge"),
            ),
        ),
    ]


def description(found: Iterable[Panel]) -> str:
    """Return the picture in words."""
    return " ".join(
        f"{panel.title} ({panel.note}): "
        + ", ".join(f"{bar.label.replace(',', '')} {bar.value}" for bar in panel.bars)
        + "."
        for panel in found
    )


#: In units of which a small telephone has about as many pixels as the picture is wide.
WIDTH: Final = 360
_EDGE: Final = 12
_LONGEST: Final = WIDTH - 2 * _EDGE
#: From a baseline to the next one.
_TITLE, _NOTE, _LABEL, _BAR, _GAP = 20, 19, 21, 15, 15

_STYLE: Final = """\
  text { font: 15px system-ui, "Segoe UI", Roboto, "Open Sans", sans-serif; fill: #1f2328 }
  .title { font-weight: 700; font-size: 17px }
  .note { font-size: 14px; fill: #59636e }
  .ours { font-weight: 700 }
  .value { text-anchor: end }
  .card { fill: #ffffff; stroke: #d1d9e0 }
  rect.ours { fill: #0969da }
  rect.peer { fill: #818b98 }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc }
    .note { fill: #9ba5b0 }
    .card { fill: #151b23; stroke: #3d444d }
    rect.ours { fill: #58a6ff }
    rect.peer { fill: #767f8b }
  }"""


def picture(found: Sequence[Panel]) -> str:
    """Return the bars as SVG. It has a background, so that it can be read on any page."""
    parts: list[str] = []
    y, end = _EDGE, WIDTH - _EDGE
    for panel in found:
        y += _TITLE
        parts.append(f'<text class="title" x="{_EDGE}" y="{y}">{escape(panel.title)}</text>')
        y += _NOTE
        parts.append(f'<text class="note" x="{_EDGE}" y="{y}">{escape(panel.note)}</text>')
        y += 4
        largest = max(bar.size for bar in panel.bars)
        for bar in panel.bars:
            y += _LABEL
            kind = "ours" if bar.is_ours else "peer"
            length = max(1.0, bar.size / largest * _LONGEST)
            parts += [
                f'<text class="{kind}" x="{_EDGE}" y="{y}">{escape(bar.label)}</text>',
                f'<text class="{kind} value" x="{end}" y="{y}">{escape(bar.value)}</text>',
                f'<rect class="{kind}" x="{_EDGE}" y="{y + 5}" width="{length:.1f}" height="8"/>',
            ]
            y += _BAR
        y += _GAP
    inside = "\n".join(parts)
    size = f'viewBox="0 0 {WIDTH} {y}" width="{WIDTH}" height="{y}"'
    return f"""\
<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">
<title>What a call costs, beside other ways to count</title>
<desc>{escape(description(found))}</desc>
<style>
{_STYLE}
</style>
<rect class="card" x="0.5" y="0.5" width="{WIDTH - 1}" height="{y - 1}" rx="8"/>
{inside}
</svg>
"""
