"""What servers and workers have in common as processes."""

import os
import signal
import subprocess
import time
from pathlib import Path

#: Seconds for a signal to take effect.
_PATIENCE = 10.0


def freeze(pid: int) -> None:
    """Stop a child process (SIGSTOP) and return once it stands still.

    Should the child have ended, it returns at once.

    Raises:
        RuntimeError: it goes on, as when somebody else has told it to.
    """
    os.kill(pid, signal.SIGSTOP)
    # The signal takes effect some time after it was sent, and nothing may
    # happen in the child after this call. WNOWAIT leaves the exit status, if
    # it is that, to whoever reaps the child.
    wanted = os.WSTOPPED | os.WEXITED | os.WNOWAIT | os.WNOHANG
    deadline = time.monotonic() + _PATIENCE
    while os.waitid(os.P_PID, pid, wanted) is None:
        if time.monotonic() > deadline:
            raise RuntimeError(f"process {pid} does not stop")
        time.sleep(0.0002)  # nothing tells us; the tests count what happens until it stands still


def thaw(pid: int) -> None:
    """Let a stopped process go on (SIGCONT)."""
    os.kill(pid, signal.SIGCONT)


# Reading ends when the last copy of the pipe's other end is closed, which the
# system does for a process however it dies.
_WATCH = """
trap '' HUP INT TERM
read -r _
kill -KILL "$0"
rm -rf "$1"
"""


class Guard:
    """Ends a child and removes its directory should this process die first.

    Exit handlers do not run when a process is ended by a signal, as test runs
    are by continuous integration systems.
    """

    def __init__(self, pid: int, directory: Path) -> None:
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", _WATCH, str(pid), str(directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def dismiss(self) -> None:
        """End the watch, as the child has ended and its id may be used again."""
        self._process.kill()
        self._process.wait()
        assert self._process.stdin is not None
        self._process.stdin.close()
