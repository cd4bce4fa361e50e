"""What a server refuses changes nothing, and is done when it is allowed again."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import redis
import trio

from distkit_actors import (
    LaxInstanceAwareCounter,
    RedisStore,
    StoreError,
    StoreUnavailableError,
    StrictInstanceAwareCounter,
)
from tests.faults.fleet import (
    HEARTBEAT,
    RESPONSE_TIMEOUT,
    SLACK,
    lax,
    strict,
    until,
)
from tests.faults.lens import Lens
from tests.harness.server import RedisServer


@asynccontextmanager
async def _refused(
    server: RedisServer,
    prefix: str,
    refuse: Callable[[], Awaitable[object]],
    allow: Callable[[], Awaitable[object]],
    message: str,
) -> AsyncIterator[tuple[StrictInstanceAwareCounter, LaxInstanceAwareCounter]]:
    """Check what a refusal looks like from a strict and a lax counter."""
    lens = Lens(server, prefix)
    async with strict(server.url, prefix) as a, lax(server.url, prefix) as b:
        await a.inc("k", 5)
        b.inc_nowait("k", 7)
        await b.flush()
        await refuse()
        b.inc_nowait("k", 10)
        b.inc_nowait("l", 1)
        with trio.fail_after(3):
            for operate in (a.inc, a.set, a.set_on_instance):
                with pytest.raises(StoreError, match=message) as caught:
                    await operate("k", 1)
                assert not isinstance(caught.value, StoreUnavailableError)
            with pytest.raises(StoreError, match=message):
                await b.flush()
        b.inc_nowait("k", 100)
        await trio.sleep(HEARTBEAT)
        assert b.get_nowait("k").instance_count == 117
        assert b.statistics().pending_keys == 2
        yield a, b
        await allow()
        with trio.fail_after(3):
            took = await until(lambda: b.statistics().pending_keys == 0, 2)
            assert took < HEARTBEAT + SLACK
            await b.flush()
            assert await a.inc("k", 1) == (123, 6)
        snapshot = lens.look()
        assert snapshot.of(a.instance_id) == {"k": 6}
        assert snapshot.of(b.instance_id) == {"k": 117, "l": 1}
        snapshot.check()


@pytest.mark.usefixtures("transport")
async def test_out_of_memory(own_redis: RedisServer, fresh_prefix: str) -> None:
    """Strict operations get a `StoreError` and change nothing; lax counts wait for memory."""

    async def limit(memory: str) -> None:
        await own_redis.command_async("CONFIG", "SET", "maxmemory", memory)

    async with _refused(own_redis, fresh_prefix, lambda: limit("1"), lambda: limit("0"), "OOM"):
        pass


@pytest.mark.usefixtures("transport")
async def test_cannot_save(own_redis: RedisServer, fresh_prefix: str) -> None:
    """A server that refuses writes because its disk failed (MISCONF)."""
    data = own_redis.command("CONFIG", "GET", "dir")[1]

    async def fail_to_save() -> None:
        # A directory stands where the file should go: even root cannot write it.
        own_redis.command("CONFIG", "SET", "dbfilename", "taken")
        await trio.Path(data, "taken", "by", "a", "directory").mkdir(parents=True)
        own_redis.command("CONFIG", "SET", "save", "3600 1")
        own_redis.command("BGSAVE")
        await until(
            lambda: own_redis.command("INFO", "persistence")["rdb_last_bgsave_status"] == "err", 5
        )

    async def save() -> None:
        own_redis.command("CONFIG", "SET", "stop-writes-on-bgsave-error", "no")

    async with _refused(own_redis, fresh_prefix, fail_to_save, save, "MISCONF"):
        pass


@pytest.mark.usefixtures("transport")
async def test_rights_taken_away(own_redis: RedisServer, fresh_prefix: str) -> None:
    """A user who may no longer run scripts (NOPERM)."""

    async def grant(rule: str) -> None:
        await own_redis.command_async("ACL", "SETUSER", "default", rule)

    async with _refused(
        own_redis, fresh_prefix, lambda: grant("-evalsha"), lambda: grant("+evalsha"), "NOPERM"
    ):
        pass


# Not HSET and HDEL, with which a step ends: docs/guarantees.md asks not to take these away.
WRITES = ("hincrby", "zadd", "zrem", "persist", "pexpire", "del", "unlink")


@pytest.mark.parametrize("command", WRITES)
async def test_right_to_one_command_of_the_scripts_is_taken_away(
    command: str, own_redis: RedisServer, fresh_prefix: str
) -> None:
    """A script that fails in its midst leaves nothing that is not healed afterwards."""
    lens = Lens(own_redis, fresh_prefix)
    async with (
        strict(own_redis.url, fresh_prefix) as a,
        strict(own_redis.url, fresh_prefix) as b,
    ):
        counted = {"k": 5, "l": 5}
        for key in counted:
            await a.inc(key, 5)
            await b.inc(key, 7)
        own_redis.command("ACL", "SETUSER", "default", f"-{command}")
        with trio.fail_after(5):
            for key, count in list(counted.items()):
                for amount in (1, 10, -count - 11):
                    try:
                        await a.inc(key, amount)
                    except StoreError:
                        pass
                    else:
                        counted[key] += amount
        own_redis.command("ACL", "SETUSER", "default", f"+{command}")
        await trio.sleep(HEARTBEAT + 0.1)
        with trio.fail_after(2):
            for key, count in counted.items():
                assert await a.get(key) == (count + 7, count)
        snapshot = lens.look()
        snapshot.check()
        assert snapshot.of(a.instance_id) == {k: n for k, n in counted.items() if n}


@pytest.mark.usefixtures("transport")
async def test_password_set_while_running(own_redis: RedisServer, fresh_prefix: str) -> None:
    """A server that suddenly asks for a password (NOAUTH), and stops asking again."""

    async def ask_for_password() -> None:
        await own_redis.command_async("ACL", "SETUSER", "tester", "on", ">x", "~*", "+@all")
        await own_redis.command_async("CONFIG", "SET", "requirepass", "secret")
        _as(own_redis, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await trio.sleep(HEARTBEAT + 0.1)  # a request on a dead connection would be in doubt

    async def open_up() -> None:
        _as(own_redis, "CONFIG", "SET", "requirepass", "")

    async with _refused(own_redis, fresh_prefix, ask_for_password, open_up, "NOAUTH"):
        pass


def _as(server: RedisServer, *words: str) -> str:
    """Run a command as a user with a password, whatever the others need."""
    client = redis.Redis(port=server.port, username="tester", password="x", protocol=2)
    client.response_callbacks.clear()
    try:
        answer = client.execute_command(*words)
    finally:
        client.close()
    return answer.decode() if isinstance(answer, bytes) else str(answer)


@pytest.mark.usefixtures("transport")
@pytest.mark.parametrize(
    ("userinfo", "message"),
    [("", "NOAUTH"), (":wr0ng-secret@", "NOAUTH|WRONGPASS"), ("weak:s3cret@", "NOPERM")],
)
async def test_start_with_bad_credentials_fails_at_once(
    userinfo: str, message: str, fresh_prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    """With an error that names the reason and no secret."""
    with RedisServer(config={"requirepass": "right"}) as server:
        server.command("ACL", "SETUSER", "weak", "on", ">s3cret", "~*", "+@all", "-evalsha")
        url = f"redis://{userinfo}{server.host}:{server.port}/0"
        with trio.fail_after(2), pytest.raises(StoreError, match=message) as caught:
            async with strict(url, fresh_prefix):
                pytest.fail("it started")
    assert not isinstance(caught.value, StoreUnavailableError)
    for secret in ("wr0ng-secret", "s3cret"):
        assert secret not in str(caught.value)
        assert secret not in caplog.text
        assert secret not in repr(RedisStore(url))


@pytest.mark.usefixtures("transport")
@pytest.mark.parametrize("reason", ["nobody listens", "nobody answers"])
async def test_start_without_a_server_fails_soon(
    reason: str, own_redis: RedisServer, fresh_prefix: str
) -> None:
    """`open` does not wait for a store that is away."""
    if reason == "nobody listens":
        own_redis.kill()
    else:
        own_redis.pause()
    start = trio.current_time()
    with trio.fail_after(5), pytest.raises(StoreUnavailableError):
        async with StrictInstanceAwareCounter.open(
            fresh_prefix, RedisStore(own_redis.url, response_timeout=RESPONSE_TIMEOUT)
        ):
            pytest.fail("it started")
    assert trio.current_time() - start < RESPONSE_TIMEOUT + 2 * SLACK
