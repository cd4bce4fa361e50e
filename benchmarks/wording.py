"""How figures are written for people."""

from __future__ import annotations

from benchmarks.measure import Spread
from benchmarks.results import Result

#: Between thousands; no line is broken there.
_APART = "\N{NARROW NO-BREAK SPACE}"
_TIMES = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))


def number(value: float) -> str:
    """Return a number with three digits that count, and thousands apart."""
    size = abs(value)
    if isinstance(value, int):
        return f"{value:,}".replace(",", _APART)
    if size >= 1000:
        return f"{round(value, 2 - len(str(int(size))) + 1):,.0f}".replace(",", _APART)
    if size >= 100 or value == 0:
        return f"{value:.0f}"
    if size >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if size >= 0.1 else f"{value:.2g}"


def quantity(value: float, unit: str) -> str:
    """Return a value with its unit; seconds in the unit that suits them."""
    if unit != "s" or value <= 0:
        return f"{number(value)} {unit}"
    factor, name = next(((f, n) for f, n in _TIMES if value >= f), _TIMES[-1])
    return f"{number(value / factor)} {name}"


def amount(count: int, thing: str, *, plural: str = "s") -> str:
    """Return so many things in words: ``1 key``, ``10 000 keys``."""
    return f"{number(count)} {thing}{'' if count == 1 else plural}"


def ratio(spread: Spread) -> str:
    """Return a ratio with its quartiles."""
    return f"{number(spread.median)} × ({number(spread.low)}–{number(spread.high)})"


def aim(result: Result) -> str:
    """Return what the ratio should be; nothing without an aim."""
    if result.aim is None:
        return ""
    sign = "≥" if result.aim.kind == "at least" else "≤"
    return f"{sign} {result.aim.limit:g} ×"


def verdict(result: Result) -> str:
    """Return whether the aim is kept; nothing without one."""
    return {None: "", True: "kept", False: "MISSED"}[result.holds]


def also(result: Result) -> str:
    """Return what else was seen."""
    return ", ".join(
        f"{figure.name} {quantity(figure.spread.median, figure.unit)}" for figure in result.also
    )


def row_line(result: Result) -> str:
    """Return a row as one line."""
    bound = f", aim {aim(result)}: {verdict(result)}" if result.aim else ""
    return (
        f"{result.name}: {quantity(result.ours.median, result.unit)}, "
        f"{ratio(result.ratio)} {result.peer} "
        f"({quantity(result.theirs.median, result.unit)}){bound}"
    )
