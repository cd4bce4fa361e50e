"""The Lua scripts of the Redis store, as they are sent to the server."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Final, NamedTuple

from ._lua_constants import CONSTANTS

#: One for each kind of request.
SCRIPTS: Final = ("peek", "open", "load", "apply", "beats", "resume", "query", "watch", "forget")

#: What scripts include, in the one order that they include it in: each needs some of those before.
INCLUDED: Final = (
    "lone",
    "beat",
    "numbers",
    "announce",
    "fast_path",
    "fast_reaper",
    "words",
    "base",
    "archive",
    "space",
    "observed",
    "sums",
    "registry",
    "rights",
    "reaper",
    "step",
    "journal",
    "forgetting",
    "entries",
    "finish",
)

#: Goes around each script, but around this one: it reads and writes ids by itself.
ENVELOPE: Final = "envelope"
_WITHOUT_ENVELOPE: Final = "beats"
_SCRIPT: Final = "--@script\n"

_INCLUDE: Final = re.compile(r"^--@include (\w+)\n", re.MULTILINE)
# A comment, a string, or a name in capitals that is no field of anything. The names of keys have
# one letter.
_TOKEN: Final = re.compile(r"--.*|'[^'\n]*'|(?<![.\w])[A-Z][A-Z0-9_]+\b")


class Script(NamedTuple):
    """A script and the name under which the server remembers it."""

    source: bytes
    sha: bytes


@cache
def load_scripts() -> Mapping[str, Script]:
    """Read all scripts, each with what it includes and the constants written out."""
    sources = read_sources()
    return {name: render(name, sources) for name in SCRIPTS}


def read_sources() -> dict[str, str]:
    """Return what is in the files of all scripts, of what they include and of the envelope."""
    folder = resources.files("distkit_actors._namespace") / "lua"
    files = {name: folder / f"{name}.lua" for name in SCRIPTS}
    files |= {name: folder / "included" / f"{name}.lua" for name in INCLUDED}
    files[ENVELOPE] = folder / f"{ENVELOPE}.lua"
    return {name: file.read_text("utf-8") for name, file in files.items()}


def render(
    name: str, sources: Mapping[str, str], constants: Mapping[str, int | str] = CONSTANTS
) -> Script:
    """Make a script of its source and of what it includes, with the values of constants.

    The envelope is put around it.
    """

    def value(match: re.Match[str]) -> str:
        token = match[0]
        return _literal(constants[token]) if token in constants else token

    whole = _INCLUDE.sub(lambda match: sources[match[1]], sources[name])
    if name != _WITHOUT_ENVELOPE:
        whole = sources[ENVELOPE].replace(_SCRIPT, whole)
    source = _TOKEN.sub(value, whole).encode()
    # Redis names scripts by their SHA-1; nothing here depends on its strength.
    return Script(source, hashlib.sha1(source, usedforsecurity=False).hexdigest().encode())


def _literal(value: int | str) -> str:
    if isinstance(value, int):
        return str(value)
    characters = (c if c.isascii() else f"\\{ord(c):03}" for c in value)
    return f"'{''.join(characters)}'"
