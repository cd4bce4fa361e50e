"""Files and command line of a redis-server, and what is started for as long as a block lasts."""

import shutil
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import redis

from tests.harness.ports import LOOPBACK

#: Seconds in which servers that belong together have to agree.
PATIENCE = 30.0
POLL_SECONDS = 0.02


class RedisServerError(RuntimeError):
    """The server did not do as it was told; the message ends with its log."""


class PortTakenError(RedisServerError):
    """Another process listens on the port."""


class Started(ABC):
    """Servers that a block starts, and that end with it, files and all."""

    @abstractmethod
    def start(self) -> None:
        """Start, and wait until all is ready."""

    @abstractmethod
    def close(self) -> None:
        """End all, and remove their files; idempotent."""

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def wait_until(what: str, met: Callable[[], bool], failure: Callable[[str], Exception]) -> None:
    """Wait until a condition is met; raise the ``failure`` with these words if it takes too long.

    It is not met while a server answers that it loads its data.
    """
    deadline = time.monotonic() + PATIENCE
    while True:
        with suppress(redis.BusyLoadingError):  # that server has just started
            if met():
                return
        if time.monotonic() > deadline:
            raise failure(f"not in {PATIENCE:g} s: {what}")
        time.sleep(POLL_SECONDS)


class ServerDirectory:
    """A temporary directory for the data, the unix socket and the log."""

    def __init__(self) -> None:
        # The path of a unix socket has room for about 100 characters, which
        # the default temporary directory alone may use up.
        short = Path("/tmp")
        self.path = Path(tempfile.mkdtemp(prefix="dk", dir=short if short.is_dir() else None))
        self.data = self.path / "data"
        self.socket = self.path / "s"
        self.log = self.path / "log"
        self.data.mkdir()

    def wipe_data(self) -> None:
        """Remove all data."""
        shutil.rmtree(self.data)
        self.data.mkdir()

    def remove(self) -> None:
        """Remove everything; idempotent."""
        shutil.rmtree(self.path, ignore_errors=True)

    def log_tail(self, lines: int = 20) -> str:
        """Return the end of the log."""
        try:
            text = self.log.read_text(errors="replace")
        except FileNotFoundError:
            return ""
        return "\n".join(text.splitlines()[-lines:])


def arguments(
    port: int,
    directory: ServerDirectory,
    config: Mapping[str, str],
    *,
    major_version: int,
    persistent: bool,
    primary: tuple[int, str | None] | None,
) -> list[str]:
    """Return the command line, without the program.

    Args:
        port: where to listen.
        directory: where to keep files.
        config: further directives; they win over those chosen here.
        major_version: of the server, as not all know the same directives.
        persistent: whether to sync every write to disk.
        primary: port and password of the server to follow.
    """
    directives = {
        "bind": LOOPBACK,
        "port": str(port),
        "unixsocket": str(directory.socket),
        "unixsocketperm": "700",
        "dir": str(directory.data),
        "daemonize": "no",
        "save": "",
        # Newer servers wait 5 s for more replicas before the first sync.
        "repl-diskless-sync": "yes",
        "repl-diskless-sync-delay": "0",
    }
    if major_version >= 7:
        # Otherwise CONFIG SET does not touch the names of files; older servers always let it.
        directives["enable-protected-configs"] = "local"
    if persistent:
        directives |= {"appendonly": "yes", "appendfsync": "always"}
    words = [
        word for name, value in (directives | dict(config)).items() for word in (f"--{name}", value)
    ]
    if primary is not None:
        primary_port, password = primary
        words += ["--replicaof", LOOPBACK, str(primary_port)]
        if password is not None:
            words += ["--masterauth", password]
    return words
