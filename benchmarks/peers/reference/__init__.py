"""The reference: the Rust crate distkit, whose behaviour the counters follow, in two versions.

The program that measures it is beside this file. Cargo builds it, into `build/` of the project.
"""

from __future__ import annotations

import os
import shutil
import tomllib
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import trio

from benchmarks.bench import Bench
from benchmarks.load import Load
from benchmarks.processes import Child, launch
from benchmarks.server import RedisServer

_HERE: Final = Path(__file__).parent
_TARGET: Final = _HERE.parents[2] / "build" / "reference"
_PROGRAM: Final = _TARGET / "release" / "distkit-reference"


def _versions() -> list[str]:
    """Return the versions of the crate that are built, the oldest first."""
    packages = tomllib.loads((_HERE / "Cargo.lock").read_text("utf-8"))["package"]
    found = [package["version"] for package in packages if package["name"] == "distkit"]
    return sorted(found, key=lambda version: [int(number) for number in version.split(".")])


#: The version that the counters began with, and the newest.
FIRST, NEWEST = (f"distkit {version} (Rust)" for version in _versions())
#: What its program calls each of them.
_WORDS: Final = {FIRST: "first", NEWEST: "newest"}


class Reference:
    """A process with a strict and a lax counter of one version of the crate."""

    def __init__(self, child: Child) -> None:
        self._child = child

    async def drive(self, *, tasks: int, keys: int, seconds: float) -> Load:
        """Do there as `benchmarks.load.drive` does here, with its tasks and its strict counter."""
        return Load(**await self._child.ask("strict", tasks, keys, seconds))

    async def warm_inc(self, seconds: float) -> float:
        """Return the seconds that one `inc` of its lax counter takes, while it asks nobody."""
        return (await self._child.ask("lax", seconds))["seconds"]

    async def fill(self, keys: int) -> None:
        """Have an instance count so many keys, and stay."""
        await self._child.ask("fill", keys)

    async def populate(self, instances: int) -> None:
        """Have so many instances count one key, and stay, over one connection."""
        await self._child.ask("populate", instances)

    async def known(self, keys: int) -> float:
        """Return the bytes that a lax counter of it allocates for so many keys."""
        return (await self._child.ask("known", keys))["bytes"]

    async def counters(self, count: int) -> float:
        """Return the bytes that so many strict counters allocate, each with a connection."""
        return (await self._child.ask("counters", count))["bytes"]


@asynccontextmanager
async def references(bench: Bench) -> AsyncGenerator[Mapping[str, Reference]]:
    """Start both versions, by name; without cargo none, and the rows will say so."""
    async with AsyncExitStack() as stack:
        found: dict[str, Reference] = {}
        if await built(bench):
            for name in _WORDS:
                found[name] = await stack.enter_async_context(open_reference(name, bench.server))
        yield found


async def built(bench: Bench) -> bool:
    """Build the program, if that has not been done yet; return whether there is one.

    Where cargo fails the run ends: cargo has said why on standard error.
    """
    cargo = _cargo()
    if cargo is None:
        bench.absent |= dict.fromkeys(_WORDS, "not measured, as there is no cargo")
        return False
    if not _PROGRAM.exists():
        bench.say("having the reference built, which takes a minute or two the first time")
    words = ("build", "--release", "--locked", "--quiet")
    where = ("--manifest-path", _HERE / "Cargo.toml", "--target-dir", _TARGET)
    # Cargo looks for the compiler in the path, and may itself have been found elsewhere.
    path = f"{cargo.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    await trio.run_process([cargo, *words, *where], env={**os.environ, "PATH": path})
    return True


@asynccontextmanager
async def open_reference(name: str, server: RedisServer) -> AsyncGenerator[Reference]:
    """Start one of the versions; it must have been built. All of a version count together."""
    async with launch(_PROGRAM, _WORDS[name], server.url, f"reference-{_WORDS[name]}") as child:
        child.greeting = await child.answer()
        yield Reference(child)


def _cargo() -> Path | None:
    """Return the cargo to build with: that of the environment, in the path, or where it installs.

    An empty ``CARGO`` in the environment means that there is none.
    """
    told = os.environ.get("CARGO")
    found = shutil.which("cargo") if told is None else told
    if found is None:
        usual = Path.home() / ".cargo" / "bin" / "cargo"
        return usual if usual.is_file() else None
    return Path(found) if found else None
