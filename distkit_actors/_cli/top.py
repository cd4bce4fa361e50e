"""What `top` shows: keys × instances. Pure, but for `look`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import trio

from .. import Fleet, InstanceInfo
from .._limiter._names import has_tickets
from .text import Align, age, columns, counted, fitting, printable, shortened

#: The longest key and the longest name of an instance that are shown in full on a terminal.
_LONGEST_KEY: Final = 28
_LONGEST_NAME: Final = 12
#: Lines that are not for keys: title and head, heartbeats or another head, what is hidden, and the
#: one of the cursor.
_OTHER_LINES: Final = 5


class Row(NamedTuple):
    """One key."""

    key: str
    cumulative: int
    rate: float | None
    """How much it grows in a second; None in the first look."""
    slices: Mapping[str, int]


class Picture(NamedTuple):
    """One look."""

    prefix: str
    at: float
    instances: Sequence[InstanceInfo]
    rows: Sequence[Row]
    values: Mapping[str, int]
    """Of all keys but those with tickets; of those that are not shown, too."""

    @property
    def alive(self) -> int:
        """How many instances are alive."""
        return sum(info.alive for info in self.instances)

    def to_json(self) -> dict[str, object]:
        """Return what is to be told to programs."""
        return {
            "prefix": self.prefix,
            "instances": [info._asdict() for info in self.instances],
            "keys": [row._asdict() for row in self.rows],
        }


def name_of(info: InstanceInfo) -> str:
    """Return what people call an instance: its label, or its id."""
    return info.label or info.instance_id


async def look(fleet: Fleet, most: int | None, before: Picture | None) -> Picture:
    """Look at a fleet, at up to ``most`` of its keys in full. A checkpoint."""
    instances = await fleet.instances()
    found = await fleet.get_all([key for key in await fleet.keys() if not has_tickets(key)])
    now = trio.current_time()  # when they were read, however long that took
    values = {key: value.cumulative for key, value in found.items()}
    shown = sorted(values, key=lambda key: (-abs(values[key]), key))[:most]
    rows: list[Row] = []
    for key in shown:
        old = None if before is None else before.values.get(key, 0)
        rate = None
        if old is not None and before is not None and now > before.at:
            rate = (values[key] - old) / (now - before.at)
        rows.append(Row(key, values[key], rate, await fleet.slices(key)))
    return Picture(fleet.prefix, now, instances, rows, values)  # noqa: ASYNC910 - there were looks


def room_for_keys(height: int) -> int:
    """Return how many keys fit on a terminal."""
    return max(1, height - _OTHER_LINES)


def lines(picture: Picture, width: int | None, height: int | None = None) -> list[str]:
    """Return the picture as text: all of it, or what fits into ``width`` and ``height``.

    Each instance has a column. Where those are too many, each has a line below the keys.
    """
    order = sorted(picture.instances, key=lambda info: (not info.alive, -_weight(picture, info)))
    rows: Sequence[Row] = picture.rows
    tables = [_beside(rows, order, cut=width is not None)]
    if width is not None and order and fitting(tables[0], width) < len(tables[0][0]):
        if height is not None:
            room = max(2, height - _OTHER_LINES)
            rows = rows[: max(room // 2, room - len(order))]
            order = order[: room - len(rows)]
        head, _, *keys = _beside(rows, (), cut=True)  # heartbeats are told below
        tables = [[head, *keys], _below(rows, order)]
    text = [_title(picture)]
    for table in tables:
        aligns: list[Align] = ["right" if column else "left" for column in range(len(table[0]))]
        text += columns(table, aligns, width=width)
    hidden = {
        "more key": len(picture.values) - len(rows),
        "more instance": len(picture.instances) - len(order),
    }
    if any(hidden.values()):
        text.append("and " + ", ".join(counted(n, noun) for noun, n in hidden.items() if n))
    return [line[:width] for line in text]


def _title(picture: Picture) -> str:
    dead = len(picture.instances) - picture.alive
    title = f"{printable(picture.prefix)}: {picture.alive} alive, "
    if dead:
        title += f"{dead} dead, "
    return title + counted(len(picture.values), "key")


def _beside(rows: Sequence[Row], order: Sequence[InstanceInfo], *, cut: bool) -> list[list[str]]:
    """Return keys below each other, and instances beside each other."""
    names = [name_of(info) for info in order]
    names = [shortened(name, _LONGEST_NAME) if cut else printable(name) for name in names]
    table = [["key", "cumulative", "per second", *names]]
    table.append(["(heartbeat)", "", "", *map(_heartbeat, order)])
    for row in rows:
        key = printable(row.key, _LONGEST_KEY if cut else None)
        rate = "" if row.rate is None else f"{row.rate:+.1f}" if row.rate else "0"
        table.append([key, str(row.cumulative), rate, *(_slice(row, info) for info in order)])
    return table


def _below(rows: Sequence[Row], order: Sequence[InstanceInfo]) -> list[list[str]]:
    """Return instances below each other, and keys beside each other."""
    table = [["instance", "heartbeat", *(printable(row.key, _LONGEST_NAME) for row in rows)]]
    for info in order:
        name = shortened(name_of(info), _LONGEST_NAME)
        table.append([name, _heartbeat(info), *(_slice(row, info) for row in rows)])
    return table


def _heartbeat(info: InstanceInfo) -> str:
    return age(info.heartbeat_age) if info.alive else f"dead {age(info.heartbeat_age)}"


def _slice(row: Row, info: InstanceInfo) -> str:
    return str(row.slices.get(info.instance_id, "·"))


def _weight(picture: Picture, info: InstanceInfo) -> int:
    """Return how much of what is shown is an instance's."""
    return sum(abs(row.slices.get(info.instance_id, 0)) for row in picture.rows)
