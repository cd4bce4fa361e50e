"""What an instance says of itself, for people. Stores keep it as a text.

The text is a JSON array, so that a later version can add to its end: label, host, pid, version.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, cast

from ._liveness import MICROSECONDS
from ._messages import QueryPage
from ._values import MAX_NAME, InstanceInfo


class About(NamedTuple):
    """Who an instance is, as far as it has said so."""

    label: str | None = None
    host: str | None = None
    pid: int | None = None
    version: str | None = None


def to_text(about: About) -> str:
    """Return what a store is to keep; a host name that is no Unicode, or is too long, is cut."""
    import json  # noqa: PLC0415 - nothing else here needs it, and programs begin sooner without

    host = about.host and about.host.encode(errors="replace").decode()[:MAX_NAME]
    fields = (about.label, host, about.pid, about.version)
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":"))


def from_text(text: str) -> About:
    """Read a text that a store has kept. Older versions may have written none, or another one."""
    import json  # noqa: PLC0415 - as above

    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        return About()
    if not isinstance(fields, list):
        return About()
    label, host, pid, version = (*cast("list[object]", fields), None, None, None, None)[:4]
    return About(_text(label), _text(host), pid if type(pid) is int else None, _text(version))


def instance_infos(*parts: Iterable[QueryPage]) -> list[InstanceInfo]:
    """Return what the pages of each part of a namespace say about the instances, by id."""
    found: dict[str, InstanceInfo] = {}
    for pages in parts:
        here: dict[str, InstanceInfo] = {}
        for page in pages:
            for (name, age, alive), (incarnation, text) in zip(page.rows, page.about, strict=True):
                seconds, started_at = age / MICROSECONDS, incarnation / MICROSECONDS
                here[name] = InstanceInfo(name, seconds, alive, *from_text(text), started_at)
        found |= {name: _merged(found.get(name), info) for name, info in here.items()}
    return [found[instance_id] for instance_id in sorted(found)]


def _merged(info: InstanceInfo | None, other: InstanceInfo) -> InstanceInfo:
    """Return what two parts say about one instance: alive in either, and the older sign of life."""
    if info is None:
        return other
    said = other if other.alive and not info.alive else info
    age = max(info.heartbeat_age, other.heartbeat_age)
    return said._replace(alive=info.alive or other.alive, heartbeat_age=age)


def _text(field: object) -> str | None:
    return field if isinstance(field, str) else None
