"""The Lua scripts of the Redis store, as they are sent to the server."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Final, NamedTuple

#: One for each kind of request.
SCRIPTS: Final = ("peek", "open", "load", "apply", "resume", "query", "watch")

_INCLUDE: Final = "--@include "


class Script(NamedTuple):
    """A script and the name under which the server remembers it."""

    source: bytes
    sha: bytes


@cache
def load_scripts() -> Mapping[str, Script]:
    """Read all scripts, each with the parts it includes written out."""
    return {name: _load(name) for name in SCRIPTS}


def _load(name: str) -> Script:
    folder = resources.files("distkit_actors._namespace") / "lua"
    lines: list[str] = []
    for line in (folder / f"{name}.lua").read_text("utf-8").splitlines():
        if line.startswith(_INCLUDE):
            part = folder / "parts" / f"{line.removeprefix(_INCLUDE).strip()}.lua"
            lines += part.read_text("utf-8").splitlines()
        else:
            lines.append(line)
    source = "\n".join(lines).encode()
    # Redis names scripts by their SHA-1; nothing here depends on its strength.
    return Script(source, hashlib.sha1(source, usedforsecurity=False).hexdigest().encode())
