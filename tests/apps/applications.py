"""Starting an example as its reader does: by one command."""

import os
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"

#: Seconds for an example to do what it is asked, on a busy machine.
PATIENCE = 60.0


class Application:
    """An example that runs; see `started`."""

    def __init__(self, process: trio.Process) -> None:
        self._process = process
        self._said = bytearray()

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    async def line(self) -> str:
        """Return the next line that it prints.

        Raises:
            EOFError: it has ended instead.
        """
        output = self._process.stdout
        assert output is not None
        while b"\n" not in self._said:
            more = await output.receive_some()
            if not more:
                raise EOFError(f"it has ended, after {self._said!r}")
            self._said += more
        line, _, self._said = self._said.partition(b"\n")
        return line.decode()

    async def stop(self) -> int:
        """Tell it to end, wait for that, and return its exit code."""
        self._process.terminate()
        return await self._process.wait()

    def terminate(self) -> None:
        """Tell it to end."""
        self._process.terminate()

    async def wait(self) -> int:
        """Wait for its end, and return its exit code."""
        return await self._process.wait()


@asynccontextmanager
async def started(name: str, *words: str, **environment: str) -> AsyncGenerator[Application]:
    """Run an example around a block; afterwards it has ended, however the block did."""
    process = await trio.lowlevel.open_process(
        [sys.executable, str(EXAMPLES / name), *words],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
    )
    try:
        yield Application(process)
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + PATIENCE):
            process.terminate()
            await process.wait()
        process.kill()
        assert process.stdout is not None
        await trio.aclose_forcefully(process.stdout)
