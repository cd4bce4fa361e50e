"""The page on testing is a test suite: run it as a user would, in a directory of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from distkit_actors.testing import fixtures
from tests.harness.binary import find_redis_server
from tests.harness.server import RedisServer

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = ROOT / "docs" / "testing.md"


def plant(directory: Path) -> list[str]:
    """Write the files of the page; the first line of each block is its name."""
    page = PAGE.read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n# (\w+\.py)\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == page.count("```python")
    for name, text in blocks:
        (directory / name).write_text(text, encoding="utf-8")
    (directory / "pytest.ini").write_text("[pytest]\n")
    return [name for name, _ in blocks]


def run(directory: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    # Not the suite's own settings, but the coverage of a process that is started.
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "DISTKIT_"))}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider", *words],
        cwd=directory,
        env={**inherited, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("server", ["given", "on the path"])
def test_every_file_of_the_page_passes(
    server: str, tmp_path: Path, redis_server: RedisServer
) -> None:
    names = plant(tmp_path)
    assert len(names) == 6
    if server == "given":
        done = run(tmp_path, DISTKIT_ACTORS_TEST_URL=redis_server.url)
    else:
        binaries = tmp_path / "bin"
        binaries.mkdir()
        (binaries / "redis-server").symlink_to(find_redis_server())
        done = run(tmp_path, PATH=str(binaries))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("PASSED") == len(names) - 1


def test_its_server_starts_where_temporary_files_have_long_names(tmp_path: Path) -> None:
    plant(tmp_path)
    (tmp_path / "redis-server").symlink_to(find_redis_server())
    long = tmp_path.joinpath("t" * 100)
    long.mkdir()
    done = run(tmp_path, "test_real.py", PATH=str(tmp_path), TMPDIR=str(long))
    assert done.returncode == 0, done.stdout + done.stderr


def test_without_a_server_it_says_what_is_missing(tmp_path: Path) -> None:
    plant(tmp_path)
    done = run(tmp_path, "test_real.py", PATH=str(tmp_path))
    assert done.returncode == 1
    assert "put redis-server on the PATH, or a URL in DISTKIT_ACTORS_TEST_URL" in done.stdout


def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    plant(tmp_path)
    server = tmp_path / "redis-server"
    server.write_text("#!/bin/sh\necho no memory\nexit 1\n")
    server.chmod(0o755)
    done = run(tmp_path, "test_real.py", PATH=f"{tmp_path}:/bin:/usr/bin")
    assert done.returncode == 1
    assert "the Redis server did not start: no memory" in done.stdout


def test_a_network_that_a_test_leaves_broken_does_not_matter(tmp_path: Path) -> None:
    """The counter leaves all the same, and what it had counted is sent."""
    plant(tmp_path)
    (tmp_path / "test_left.py").write_text(
        "import pytest\n"
        "@pytest.mark.trio\n"
        "async def test_it(lax_counter, counter, faulty_store):\n"
        "    faulty_store.cut()\n"
        "    faulty_store.hold()\n"
        "    lax_counter.inc_nowait('k')\n"
    )
    done = run(tmp_path, "test_left.py")
    assert done.returncode == 0, done.stdout


def test_the_page_has_every_fixture_for_users() -> None:
    rows = re.findall(r"^\| `(\w+)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert {*rows, "redis_url_for_counters"} == set(fixtures.__all__)
