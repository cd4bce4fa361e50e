"""What must pass is run in the environment that is asked for: `.ci/run`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_it_uses_no_other_environment(tmp_path: Path) -> None:
    """A `make` in its place only notes what it is told."""
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "run", tmp_path / ".ci")
    make = tmp_path / "make"
    make.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/said\n')
    make.chmod(0o755)
    python = tmp_path / ".venv-other" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "VENV": ".venv-other"}
    subprocess.run([tmp_path / ".ci" / "run"], env=environment, check=True, cwd=tmp_path)
    said = (tmp_path / "said").read_text().split()
    assert ".venv-other/.lint" in said
    assert [word for word in said if word.startswith(".venv/")] == []
