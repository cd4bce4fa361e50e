"""A copy of the package from when its words were promised: ``python -m tests.upgrade.package``.

README.md says when another copy is made.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import distkit_actors
from distkit_actors._stores._redis._scripts import Script
from tests.harness.archives import unpack_all

from .words import TODAY

#: Which words the copy speaks. They are counted from the first that were promised.
VERSION = 1
OLD = Path(__file__).with_name(f"words-{VERSION}.tar.xz")
#: What the copy has beside the package: what it said, as `words.load` reads it.
OLD_WORDS = TODAY.name

_PACKAGE = Path(distkit_actors.__file__).parent
#: What no counter on Redis needs.
_LEFT_OUT = {
    "__main__.py",
    "_cli",
    "_demo",
    "_monitoring",
    "opentelemetry.py",
    "prometheus.py",
    "testing",
}
_SCRIPTS = """
import json
from distkit_actors._stores._redis._scripts import load_scripts
print(json.dumps({name: script.source.decode() for name, script in load_scripts().items()}))
"""


def pack() -> None:
    """Write the copy; what is the same gives the same bytes."""
    with tarfile.open(OLD, "w:xz", preset=9) as archive:
        for path in sorted(_PACKAGE.rglob("*")):
            inside = path.relative_to(_PACKAGE)
            if path.suffix in {".py", ".lua"} and inside.parts[0] not in _LEFT_OUT:
                archive.add(path, f"distkit_actors/{inside}", filter=_anonymous)
        archive.add(TODAY, OLD_WORDS, filter=_anonymous)


def _anonymous(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uid = info.gid = info.mtime = 0
    info.uname = info.gname = ""
    info.mode = 0o644
    return info


def unpack(folder: Path) -> None:
    """Put the copy into a folder, from which Python can import it."""
    with tarfile.open(OLD) as archive:
        unpack_all(archive, folder)


def scripts_of(folder: Path) -> dict[str, Script]:
    """Return the scripts that the package in ``folder`` sends to a server."""
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    # -P: nothing else comes before what the environment names.
    command = [sys.executable, "-P", "-c", _SCRIPTS]
    said = subprocess.run(command, env=environment, check=True, capture_output=True).stdout
    sources = {name: source.encode() for name, source in json.loads(said).items()}
    return {
        name: Script(source, hashlib.sha1(source, usedforsecurity=False).hexdigest().encode())
        for name, source in sources.items()
    }


if __name__ == "__main__":
    pack()
    print(f"{OLD.name}: {OLD.stat().st_size} bytes")
