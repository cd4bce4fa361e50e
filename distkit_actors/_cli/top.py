"""What `top` shows: keys × instances. Pure, but for `look`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import trio

from .. import Fleet, InstanceInfo
from .text import Align, age, columns, counted, fitting, printable

#: The longest key and the longest name of an instance that are shown in full on a terminal.
_LONGEST_KEY: Final = 28
_LONGEST_NAME: Final = 12
#: Lines that are not for keys: two of title and head, one of heartbeats, one for what is hidden.
_OTHER_LINES: Final = 5


class Row(NamedTuple):
    """One key."""

    key: str
    cumulative: int
    rate: float | None
    """How much it grows in a second; None if it was not there before."""
    slices: Mapping[str, int]


class Picture(NamedTuple):
    """One look."""

    prefix: str
    at: float
    instances: Sequence[InstanceInfo]
    rows: Sequence[Row]
    values: Mapping[str, int]
    """Of all keys, those that are not shown, too."""

    @property
    def alive(self) -> int:
        """How many instances are alive."""
        return sum(info.alive for info in self.instances)

    def to_json(self) -> dict[str, object]:
        """Return what is to be told to programs."""
        return {
            "prefix": self.prefix,
            "instances": [instance_to_json(info) for info in self.instances],
            "keys": [row._asdict() for row in self.rows],
        }


def instance_to_json(info: InstanceInfo) -> dict[str, object]:
    """Return what is known of an instance."""
    return info._asdict()


def name_of(info: InstanceInfo) -> str:
    """Return what people call an instance: its label, or its id."""
    return info.label or info.instance_id


async def look(fleet: Fleet, most: int | None, before: Picture | None) -> Picture:
    """Look at a fleet, at up to ``most`` of its keys in full. A checkpoint."""
    instances = await fleet.instances()
    now = trio.current_time()
    found = await fleet.get_all(await fleet.keys())
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


def lines(picture: Picture, width: int | None) -> list[str]:
    """Return the picture as text: all of it, or what fits into ``width``."""
    cut = width is not None
    dead = len(picture.instances) - picture.alive
    title = f"{printable(picture.prefix)}: {picture.alive} alive, "
    if dead:
        title += f"{dead} dead, "
    title += counted(len(picture.values), "key")
    order = sorted(picture.instances, key=lambda info: (not info.alive, -_weight(picture, info)))
    head = ["key", "cumulative", "per second"]
    beats = ["(heartbeat)", "", ""]
    for info in order:
        head.append(printable(name_of(info), _LONGEST_NAME if cut else None))
        beats.append(age(info.heartbeat_age) if info.alive else f"dead {age(info.heartbeat_age)}")
    table = [head, beats]
    for row in picture.rows:
        shares = [str(row.slices.get(info.instance_id, "·")) for info in order]
        key = printable(row.key, _LONGEST_KEY if cut else None)
        rate = "" if row.rate is None else f"{row.rate:+.1f}" if row.rate else "0"
        table.append([key, str(row.cumulative), rate, *shares])
    aligns: list[Align] = ["left", *(["right"] * (2 + len(order)))]  # type: ignore[list-item]
    text = [title if width is None else title[:width], *columns(table, aligns, width=width)]
    hidden = {
        "more key": len(picture.values) - len(picture.rows),
        "more instance": min(len(head) - fitting(table, width), len(order)),
    }
    if any(hidden.values()):
        hint = "and " + ", ".join(counted(n, noun) for noun, n in hidden.items() if n)
        text.append(hint if width is None else hint[:width])
    return text


def _weight(picture: Picture, info: InstanceInfo) -> int:
    """Return how much of what is shown is an instance's."""
    return sum(abs(row.slices.get(info.instance_id, 0)) for row in picture.rows)
