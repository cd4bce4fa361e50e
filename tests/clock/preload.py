"""A server whose clock a test may set, by a small library that is preloaded into it."""

from __future__ import annotations

import mmap
import os
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Final

_SOURCE: Final = Path(__file__).with_name("preload.c")
_OFFSET: Final = struct.Struct("=q")
_MICROSECONDS: Final = 1_000_000

_INSTRUCTIONS: Final = """\
These tests set the clock of a redis-server, by a small library that is preloaded into it.
Compiling that needs Linux and a C compiler, and there is none.
Do one of these:
  * install one so that `cc` is on PATH (Debian: apt-get install gcc libc6-dev);
  * set CC to the path of one."""


class ClockLibraryMissing(RuntimeError):  # noqa: N818 - it is no fault of the program
    """The library could not be made; the message says what to install."""


class JumpingClock:
    """The clock of a server, which is right until it is told to jump.

    Args:
        directory: where to keep the library and the offset.

    Raises:
        ClockLibraryMissing: there is no C compiler, or it cannot make the library.
    """

    def __init__(self, directory: Path) -> None:
        self._library = directory / "clock.so"
        self._file = directory / "offset"
        _compile(self._library)
        self._file.write_bytes(_OFFSET.pack(0))
        with self._file.open("r+b") as file:
            self._offset = mmap.mmap(file.fileno(), _OFFSET.size)

    @property
    def environment(self) -> dict[str, str]:
        """What a server must be started with."""
        return {"LD_PRELOAD": str(self._library), "DISTKIT_CLOCK_OFFSET": str(self._file)}

    @property
    def offset(self) -> float:
        """By how many seconds the clock is fast."""
        micros: int = _OFFSET.unpack_from(self._offset)[0]
        return micros / _MICROSECONDS

    def jump(self, seconds: float) -> None:
        """Set the clock forward, or back."""
        _OFFSET.pack_into(self._offset, 0, round((self.offset + seconds) * _MICROSECONDS))


def _compile(library: Path) -> None:
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        raise ClockLibraryMissing(_INSTRUCTIONS)
    command = [compiler, "-Wall", "-Wextra", "-O1", "-fPIC", "-shared", "-o", library, _SOURCE]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ClockLibraryMissing(f"{_INSTRUCTIONS}\n\n{compiler} says:\n{done.stderr}")
