"""Archives of our own, unpacked by any Python."""

import tarfile
from pathlib import Path
from typing import Any


def unpack_all(archive: tarfile.TarFile, folder: Path) -> None:
    """Put everything into ``folder``, and nothing outside it where Python can see to that.

    Python 3.11 can from 3.11.4 on; Debian 12 has 3.11.2.
    """
    safely: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
    archive.extractall(folder, **safely)
