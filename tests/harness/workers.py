"""Counters in processes of their own, as seen from the test."""

import itertools
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import trio

from tests.harness.processes import freeze, thaw

Kind = Literal["strict", "lax"]

_ROOT = Path(__file__).parents[2]


class WorkerError(Exception):
    """A command failed in the worker.

    Attributes:
        error: the name of the exception's class there.
        message: its text.
    """

    def __init__(self, error: str, message: str) -> None:
        super().__init__(f"{error}: {message}")
        self.error = error
        self.message = message


class WorkerDiedError(Exception):
    """The worker ended before it answered; the message has its stderr."""


class WorkerProcess:
    """A process that hosts one counter.

    Use it as an async context manager: leaving it kills the process in any
    case. No method has a timeout; use a cancel scope. Calls may run
    concurrently, and a cancelled call loses nothing but its own answer.

    Args:
        url: the store.
        prefix: the counter's prefix.
        kind: which counter.
        instance_id: its identity; like all below, the package's default if None.
        threshold: its `dead_instance_threshold`.
        heartbeat: its `heartbeat_interval`.
        exit_grace: its `exit_grace`.
        on_exit: its `on_exit`.
        inherit: its `inherit`.
        package: the folder that `distkit_actors` is imported from, if it is not ours.

    Attributes:
        acked: successful increments of `spin` reported so far.
        uses: what `borrow` has reported so far: number, "+" or "-", and when.
    """

    def __init__(
        self,
        url: str,
        prefix: str,
        *,
        kind: Kind = "strict",
        instance_id: str | None = None,
        threshold: float | None = None,
        heartbeat: float | None = None,
        exit_grace: float | None = None,
        on_exit: str | None = None,
        inherit: bool = False,
        package: Path | None = None,
    ) -> None:
        options = {
            "--url": url,
            "--prefix": prefix,
            "--kind": kind,
            "--instance-id": instance_id,
            "--threshold": threshold,
            "--heartbeat": heartbeat,
            "--exit-grace": exit_grace,
            "--on-exit": on_exit,
        }
        # One word each: a value may begin with a dash.
        self._arguments = [
            f"{name}={value}" for name, value in options.items() if value is not None
        ]
        if inherit:
            self._arguments.append("--inherit")
        self._package = package
        self.acked = 0
        self.uses: list[tuple[int, str, float]] = []
        self._process: trio.Process | None = None
        self._instance_id: str | None = None
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 (closed by _release)
        self._last_words = ""
        self._ids = itertools.count(1)
        self._send_lock = trio.Lock()
        self._read_lock = trio.Lock()
        self._buffer = bytearray()
        self._answers: dict[int, dict[str, Any]] = {}
        self._at_end = False

    async def __aenter__(self) -> Self:
        """Start the worker and wait until its counter is open."""
        try:
            await self.start()
        except BaseException:
            await self._release()
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Kill the process if it still runs."""
        if exc is not None:
            sys.stderr.write(self.stderr())
        await self._release()

    @property
    def pid(self) -> int:
        """The process."""
        return self._started().pid

    @property
    def instance_id(self) -> str:
        """The identity the counter gave itself.

        Raises:
            RuntimeError: the counter is not open yet.
        """
        if self._instance_id is None:
            raise RuntimeError("the worker is not ready")
        return self._instance_id

    @property
    def returncode(self) -> int | None:
        """The exit code; None while the process runs, negative if a signal."""
        return None if self._process is None else self._process.poll()

    async def start(self) -> None:
        """Start the process and wait until its counter is open.

        Raises:
            WorkerError: the counter could not be opened.
            WorkerDiedError: the process ended.
        """
        await self.spawn()
        await self.wait_ready()

    async def spawn(self) -> None:
        """Start the process without waiting for its counter."""
        if self._process is not None:
            raise RuntimeError("already started")
        command, environment = [sys.executable, "-m", "tests.harness.worker_main"], None
        if self._package is not None:
            # -P: our folders do not come before it.
            command[1:] = ["-P", str(Path(__file__).with_name("worker_main.py"))]
            environment = {**os.environ, "PYTHONPATH": str(self._package)}
        self._process = await trio.lowlevel.open_process(
            [*command, *self._arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            cwd=_ROOT,
            env=environment,
        )

    async def wait_ready(self) -> None:
        """Wait until the counter is open.

        Raises:
            WorkerError: it could not be opened.
            WorkerDiedError: the process ended.
        """
        while self._instance_id is None:
            await self._read_unless(lambda: self._instance_id is not None)

    async def call(self, op: str, **arguments: object) -> Any:
        """Run one command and return its result (tuples come as lists).

        Args:
            op: a method of the counter, `statistics`, `spin`, `borrow`, `enter`,
                `leave`, `follow`, `hear` or `package`.
            **arguments: `key` and `count` as the method wants them; for `spin`
                `key`, `n`, and optionally `tasks` and `count`; for `borrow`
                `key`, `total`, `n`, `seconds`, and optionally `tasks`; for
                `enter` `key`, `count`, and optionally `limit`; for `leave` and
                `follow` `key`; for `hear` `key` and `count`.

        Raises:
            WorkerError: the command failed.
            WorkerDiedError: the process ended first.
        """
        return await self.result(await self.submit(op, **arguments))

    async def submit(self, op: str, **arguments: object) -> int:
        """Send one command and return the number to ask its `result` with.

        Raises:
            WorkerDiedError: the process has ended.
        """
        number = next(self._ids)
        line = json.dumps({"id": number, "op": op, **arguments}).encode() + b"\n"
        # A pipe takes up to this much whole or not at all, so that a cancelled
        # call leaves no half line behind to garble the next command.
        assert len(line) <= select.PIPE_BUF
        stdin = self._started().stdin
        assert stdin is not None
        try:
            async with self._send_lock:
                await stdin.send_all(line)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            raise WorkerDiedError(self._obituary()) from exc
        return number

    async def result(self, number: int) -> Any:
        """Wait for the answer to a submitted command and return its result.

        Raises:
            WorkerError: the command failed.
            WorkerDiedError: the process ended first.
        """
        while number not in self._answers:
            await self._read_unless(lambda: number in self._answers)
        answer = self._answers.pop(number)
        if "error" in answer:
            raise WorkerError(answer["error"], answer["message"])
        return answer["ok"]

    async def wait_acked(self, count: int) -> None:
        """Wait until `spin` has reported this many successful increments.

        Raises:
            WorkerDiedError: the process ended first.
        """
        while self.acked < count:
            await self._read_unless(lambda: self.acked >= count)

    async def wait_uses(self, count: int) -> None:
        """Wait until `borrow` has reported this many events.

        Raises:
            WorkerDiedError: the process ended first.
        """
        while len(self.uses) < count:
            await self._read_unless(lambda: len(self.uses) >= count)

    def kill(self) -> None:
        """Send SIGKILL."""
        self._started().send_signal(signal.SIGKILL)

    def stop(self) -> None:
        """Send SIGSTOP: the process freezes with all its connections open."""
        freeze(self.pid)

    def cont(self) -> None:
        """Send SIGCONT."""
        thaw(self.pid)

    def terminate(self) -> None:
        """Send SIGTERM: the counter closes in good order."""
        self._started().send_signal(signal.SIGTERM)

    async def wait(self) -> int:
        """Wait for the end of the process and return its exit code.

        What it wrote before its end has then been read: `acked` is final.
        """
        while not self._at_end:
            await self._read_unless(lambda: self._at_end, may_end=True)
        return await self._started().wait()

    def stderr(self) -> str:
        """Return what the process has written to standard error."""
        # Not seek and read: the process shares the file's position.
        if self._stderr.closed:
            return self._last_words
        size = os.fstat(self._stderr.fileno()).st_size
        return os.pread(self._stderr.fileno(), size, 0).decode(errors="replace")

    def _started(self) -> trio.Process:
        if self._process is None:
            raise RuntimeError("the worker has not been started")
        return self._process

    def _obituary(self) -> str:
        return f"worker ended ({self.returncode})\n{self.stderr()}"

    async def _read_unless(
        self, is_satisfied: Callable[[], bool], *, may_end: bool = False
    ) -> None:
        """Read the next answers, unless another task has read the wanted one.

        Whoever waits reads for all, so that no background task is needed.
        """
        async with self._read_lock:
            if is_satisfied():
                return
            stdout = self._started().stdout
            assert stdout is not None
            chunk = b"" if self._at_end else await stdout.receive_some()
            if not chunk:
                self._at_end = True
                if may_end:
                    return
                await self._started().wait()
                raise WorkerDiedError(self._obituary())
            self._buffer += chunk
            *lines, rest = self._buffer.split(b"\n")
            self._buffer = bytearray(rest)
            for line in lines:
                self._take(json.loads(line))

    def _take(self, message: dict[str, Any]) -> None:
        if "ready" in message:
            self._instance_id = message["ready"]
        elif "acked" in message:
            self.acked = message["acked"]
        elif "use" in message:
            self.uses.append(tuple(message["use"]))
        elif message.get("id") is not None:
            self._answers[message["id"]] = message
        elif self._instance_id is None:
            raise WorkerError(message["error"], message["message"])

    async def _release(self) -> None:
        """Kill the process, wait for its end and close the pipes."""
        with trio.CancelScope(shield=True):
            process = self._process
            if process is not None:
                process.kill()
                await process.wait()
                for stream in (process.stdin, process.stdout):
                    if stream is not None:
                        await stream.aclose()
            self._last_words = self.stderr()
            self._stderr.close()
