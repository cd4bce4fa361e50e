"""The old package, where Python can import it."""

from pathlib import Path

import pytest

from .package import unpack


@pytest.fixture(scope="session")
def old_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the copy of the old package is in."""
    folder = tmp_path_factory.mktemp("old_package")
    unpack(folder)
    return folder
