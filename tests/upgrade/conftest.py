"""The old package, where Python can import it, and what it is compared with."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.harness.server import RedisServer
from tests.stores.twin import connect

from . import words
from .package import unpack
from .words import Record


@pytest.fixture(scope="session")
def old_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the copy of the old package is in."""
    folder = tmp_path_factory.mktemp("old_package")
    unpack(folder)
    return folder


@pytest.fixture(scope="module")
def client(redis_server: RedisServer) -> Iterator[redis.Redis]:
    with connect(redis_server.url) as client:
        yield client


@pytest.fixture(scope="module")
def today() -> Record:
    """What today's package is to say and to be told."""
    return words.load(words.TODAY.read_text("utf-8"))
