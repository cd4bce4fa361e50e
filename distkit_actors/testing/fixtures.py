"""Fixtures for pytest, with pytest-trio; nothing is active until a ``conftest.py`` says so.

::

    pytest_plugins = ["distkit_actors.testing.fixtures"]

There is no entry point, because that would import this package in every run of pytest of
everybody who has it installed.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

import pytest

from .._counters._lax import LaxInstanceAwareCounter
from .._counters._strict import StrictInstanceAwareCounter
from .._stores._memory import MemoryStore
from .._stores._redis._store import RedisStore
from ._faulty_store import FaultyStore

__all__ = [
    "counter",
    "counter_prefix",
    "faulty_store",
    "lax_counter",
    "redis_store",
    "redis_url_for_counters",
]

#: The environment variable with the URL of a server that tests may use.
URL_VARIABLE: Final = "DISTKIT_ACTORS_TEST_URL"
#: Seconds that a server may take to start, and to stop.
_PATIENCE: Final = 10.0


@pytest.fixture
def counter_prefix() -> str:
    """Return a prefix that nobody else uses, so that tests may share a server."""
    return f"test-{uuid.uuid4().hex}"


@pytest.fixture
def faulty_store() -> FaultyStore:
    """Return a store in memory whose network does what the test says."""
    return FaultyStore(MemoryStore())


@pytest.fixture
async def counter(
    faulty_store: FaultyStore, counter_prefix: str
) -> AsyncIterator[StrictInstanceAwareCounter]:
    """Run a strict counter on ``faulty_store``, which is whole again when the test has ended."""
    async with StrictInstanceAwareCounter.open(counter_prefix, faulty_store) as running:
        yield running
        _mend(faulty_store)


@pytest.fixture
async def lax_counter(
    faulty_store: FaultyStore, counter_prefix: str
) -> AsyncIterator[LaxInstanceAwareCounter]:
    """Run a lax counter on ``faulty_store``, with the prefix of ``counter``."""
    async with LaxInstanceAwareCounter.open(counter_prefix, faulty_store) as running:
        yield running
        _mend(faulty_store)


def _mend(store: FaultyStore) -> None:
    store.heal()
    store.release()
    store.forget_plan()
    store.refuse(None)
    store.delay(0)
    store.delay(0, replies=True)


@pytest.fixture
def redis_store(redis_url_for_counters: str) -> RedisStore:
    """Return a store on a real server; use it with ``counter_prefix``, and on a real clock."""
    return RedisStore(redis_url_for_counters)


@pytest.fixture(scope="session")
def redis_url_for_counters() -> Iterator[str]:
    """Return the URL in `DISTKIT_ACTORS_TEST_URL`, or that of a server started for the session.

    That is the ``redis-server`` or ``valkey-server`` on the PATH, on a socket in a directory of its
    own. Without either a test that needs it fails, and says so: it is not skipped in silence.
    """
    url = os.environ.get(URL_VARIABLE)
    if url:
        yield url
        return
    executable = shutil.which("redis-server") or shutil.which("valkey-server")
    if executable is None:
        pytest.fail(
            f"this test needs a Redis server: put redis-server on the PATH, or a URL in "
            f"{URL_VARIABLE}",
            pytrace=False,
        )
    # The path of a unix socket has room for about 100 characters, which the usual directory for
    # temporary files may use up.
    short = "/tmp" if len(tempfile.gettempdir()) > 70 else None
    with tempfile.TemporaryDirectory(prefix="dk-", dir=short) as directory:
        path = Path(directory) / "socket"
        words = ["--port", "0", "--unixsocket", str(path), "--save", "", "--appendonly", "no"]
        log = Path(directory) / "log"
        with log.open("wb") as output:
            server = subprocess.Popen(
                [executable, *words, "--dir", directory], stdout=output, stderr=output
            )
        try:
            _wait_for(path, server, log)
            yield f"unix://{path}"
        finally:
            server.terminate()
            server.wait(_PATIENCE)


def _wait_for(path: Path, server: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until the server answers."""
    deadline = time.monotonic() + _PATIENCE
    while not _answers(path):
        if server.poll() is not None or time.monotonic() > deadline:
            said = log.read_text(encoding="utf-8", errors="replace")
            pytest.fail(f"the Redis server did not start: {said[-2000:]}", pytrace=False)
        time.sleep(0.01)


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(1.0)
        try:
            connection.connect(str(path))
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False
