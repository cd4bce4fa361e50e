"""An archive is unpacked by any Python, and safely where Python can do that."""

import io
import tarfile
from pathlib import Path

import pytest

from tests.harness.archives import unpack_all


class OldTarFile(tarfile.TarFile):
    """As of Python before 3.11.4."""

    def extractall(self, path: Path) -> None:  # type: ignore[override]  # it knows no filter
        for member in self.getmembers():
            (path / member.name).write_bytes(self.extractfile(member).read())  # type: ignore[union-attr]  # it is a file


def archive_of(name: str, kind: type[tarfile.TarFile] = tarfile.TarFile) -> tarfile.TarFile:
    written = io.BytesIO()
    with tarfile.TarFile(fileobj=written, mode="w") as archive:
        info = tarfile.TarInfo(name)
        info.size = 3
        archive.addfile(info, io.BytesIO(b"abc"))
    return kind(fileobj=io.BytesIO(written.getvalue()))


def test_a_python_that_knows_no_filter_unpacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(tarfile, "data_filter", raising=False)
    unpack_all(archive_of("file", OldTarFile), tmp_path)
    assert (tmp_path / "file").read_bytes() == b"abc"


@pytest.mark.skipif(not hasattr(tarfile, "data_filter"), reason="this Python knows no filter")
def test_nothing_is_put_outside(tmp_path: Path) -> None:
    with pytest.raises(tarfile.FilterError):
        unpack_all(archive_of("../file"), tmp_path / "folder")
