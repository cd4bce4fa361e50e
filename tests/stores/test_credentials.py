"""Who the store says it is, where that changes while it runs."""

import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
import trio
from redis.credentials import (
    CredentialProvider,
    StreamingCredentialProvider,
    UsernamePasswordCredentialProvider,
)

from distkit_actors import (
    LaxInstanceAwareCounter,
    RedisStore,
    StoreError,
    StoreUnavailableError,
    StrictInstanceAwareCounter,
)
from tests.harness.server import RedisServer


async def test_a_provider_that_hangs_leaves_the_application_its_threads() -> None:
    """Each try to connect gives up, but the thread of it goes on."""
    free = threading.Event()

    class Hangs(CredentialProvider):
        def get_credentials(self) -> tuple[str]:
            free.wait()
            return ("secret",)

    store = RedisStore("redis://127.0.0.1:1", credential_provider=Hangs(), response_timeout=0.01)
    limiter = trio.to_thread.current_default_thread_limiter()
    try:
        async with store.link("p") as link:
            for _ in range(10):
                with pytest.raises(StoreUnavailableError):
                    await link.connect()
        assert limiter.borrowed_tokens == 0
        assert await trio.to_thread.run_sync(int) == 0
    finally:
        free.set()


class Vault:
    """A server on which only one user may log in, whose password is changed now and then."""

    def __init__(self, server: RedisServer, admin: redis.Redis) -> None:
        self.server = server
        self.url = f"redis://{server.host}:{server.port}/0"
        self.admin = admin
        self.password = ""
        self.rotate("s3cret-0")
        admin.execute_command("ACL", "SETUSER", "default", "off")

    def rotate(self, password: str, *, cut: bool = False) -> None:
        """Let the user log in with another password from now on; ``cut`` its connections."""
        self.password = password
        rights = ("on", f">{password}", "~*", "&*", "+@all")
        self.admin.execute_command("ACL", "SETUSER", "app", "reset", *rights)
        if cut:
            self.admin.execute_command("CLIENT", "KILL", "USER", "app")

    def connections(self) -> set[str]:
        """The numbers of the user's connections."""
        found = self.admin.execute_command("CLIENT", "LIST")
        lines = found.decode().splitlines()
        return {line.split()[0] for line in lines if " user=app " in line}


@pytest.fixture
def vault(own_redis: RedisServer) -> Iterator[Vault]:
    admin = redis.Redis(port=own_redis.port, protocol=2)
    admin.response_callbacks.clear()
    with admin:
        vault = Vault(own_redis, admin)
        yield vault
        admin.execute_command("ACL", "SETUSER", "default", "on")


class Provider(CredentialProvider):
    def __init__(self, vault: Vault) -> None:
        self.vault = vault
        self.asked = 0
        self.threads: set[int] = set()
        self.failure: Exception | None = None
        self.failed = threading.Semaphore(0)

    async def has_failed(self, times: int) -> None:
        """Wait until it has failed so many times more."""
        for _ in range(times):
            await trio.to_thread.run_sync(self.failed.acquire, abandon_on_cancel=True)

    def get_credentials(self) -> tuple[str, str]:
        self.asked += 1
        self.threads.add(threading.get_ident())
        if self.failure is not None:
            self.failed.release()
            raise self.failure
        return "app", self.vault.password


class AsyncProvider:
    """Has no other method, and need not be redis-py's."""

    def __init__(self, vault: Vault) -> None:
        self.vault = vault
        self.asked = 0

    async def get_credentials_async(self) -> tuple[str, str]:
        self.asked += 1
        await trio.sleep(0.001)
        return "app", self.vault.password


class StreamingProvider(Provider, StreamingCredentialProvider):
    def __init__(self, vault: Vault) -> None:
        super().__init__(vault)
        self.push: Callable[[object], None] | None = None

    def on_next(self, callback: Callable[[object], None]) -> None:
        self.push = callback

    def on_error(self, callback: Callable[[Exception], None]) -> None:
        pass

    def is_streaming(self) -> bool:
        return True


async def test_a_password_that_has_changed_is_asked_for_when_the_link_is_cut(
    vault: Vault, fresh_prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    provider = Provider(vault)
    store = RedisStore(vault.url, credential_provider=provider)
    connections = 1
    async with (
        StrictInstanceAwareCounter.open(fresh_prefix, store) as a,
        LaxInstanceAwareCounter.open(fresh_prefix, store) as b,
    ):
        assert provider.asked == connections
        for number in range(1, 4):
            assert await a.inc("k") == (2 * number - 1, number)
            b.inc_nowait("k")
            vault.rotate(f"s3cret-{number}", cut=True)
            with trio.fail_after(5):
                await b.flush()
        assert provider.asked >= 3 * connections
    assert threading.get_ident() not in provider.threads
    assert "s3cret" not in caplog.text
    assert "s3cret" not in repr(store)


async def test_a_provider_that_is_asynchronous_is_awaited_where_the_connection_is_made(
    vault: Vault, fresh_prefix: str
) -> None:
    provider = AsyncProvider(vault)
    store = RedisStore(vault.url, credential_provider=provider)
    with trio.fail_after(5):
        async with StrictInstanceAwareCounter.open(fresh_prefix, store) as a:
            assert await a.inc("k") == (1, 1)
            vault.rotate("s3cret-1", cut=True)
            assert await a.inc("k") == (2, 2)
    assert provider.asked == 2


async def test_redis_pys_own_provider_will_do(vault: Vault, fresh_prefix: str) -> None:
    provider = UsernamePasswordCredentialProvider("app", vault.password)
    store = RedisStore(vault.url, credential_provider=provider)
    async with StrictInstanceAwareCounter.open(fresh_prefix, store) as a, a.watch("k") as seen:
        await a.inc("k")
        while await seen.receive() != (1, 1):
            pass


async def test_a_password_alone_is_that_of_the_default_user(
    own_redis: RedisServer, fresh_prefix: str
) -> None:
    own_redis.command("CONFIG", "SET", "requirepass", "s3cret")
    provider = UsernamePasswordCredentialProvider(password="s3cret")
    url = f"redis://{own_redis.host}:{own_redis.port}/0"
    store = RedisStore(url, credential_provider=provider)
    async with StrictInstanceAwareCounter.open(fresh_prefix, store) as a:
        assert await a.inc("k") == (1, 1)


async def test_what_a_provider_pushes_is_used_before_the_next_request(
    vault: Vault, fresh_prefix: str
) -> None:
    provider = StreamingProvider(vault)
    store = RedisStore(vault.url, credential_provider=provider)
    with trio.fail_after(10):
        async with StrictInstanceAwareCounter.open(fresh_prefix, store) as a:
            for number in range(1, 6):  # those of a lone caller are sent on the spot
                assert await a.inc("k") == (number, number)
            before = vault.connections()
            vault.rotate("s3cret-1")
            assert provider.push is not None
            await trio.to_thread.run_sync(provider.push, object())
            assert await a.inc("k") == (6, 6)
            assert vault.connections().isdisjoint(before)
            assert await a.inc("k") == (7, 7)
            assert provider.asked == 2


async def test_a_provider_that_fails_is_a_store_that_is_away(
    vault: Vault, fresh_prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    provider = Provider(vault)
    store = RedisStore(vault.url, credential_provider=provider)
    provider.failure = RuntimeError("s3cret-0 is not accepted")
    with pytest.raises(StoreUnavailableError, match="provider has failed: RuntimeError") as caught:
        async with StrictInstanceAwareCounter.open(fresh_prefix, store):
            pytest.fail("it started")
    assert "s3cret" not in str(caught.value)
    provider.failure = None
    await provider.has_failed(1)
    with trio.fail_after(10):
        async with StrictInstanceAwareCounter.open(fresh_prefix, store) as a:
            provider.failure = RuntimeError("s3cret-0 is not accepted")
            vault.rotate("s3cret-1", cut=True)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(a.inc, "k")
                await provider.has_failed(2)
                provider.failure = None
            assert await a.get("k") == (1, 1)
    assert "s3cret" not in caplog.text


async def test_a_wrong_password_is_refused_and_not_told(
    vault: Vault, fresh_prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = RedisStore(
        vault.url, credential_provider=UsernamePasswordCredentialProvider("app", "wr0ng")
    )
    caplog.set_level(logging.DEBUG, "distkit_actors")
    with pytest.raises(StoreError, match="credential provider says") as caught:
        async with StrictInstanceAwareCounter.open(fresh_prefix, store):
            pytest.fail("it started")
    assert not isinstance(caught.value, StoreUnavailableError)
    assert "wr0ng" not in str(caught.value)
    assert "wr0ng" not in caplog.text


@pytest.mark.parametrize("answer", [(), ("a", "b", "c"), (b"bytes",), "text", None])
async def test_what_are_no_credentials_fails_the_start(
    answer: Any, own_redis: RedisServer, fresh_prefix: str
) -> None:
    class Broken(CredentialProvider):
        def get_credentials(self) -> Any:
            return answer

    store = RedisStore(own_redis.url, credential_provider=Broken())
    with pytest.raises(StoreUnavailableError, match="provider has failed: TypeError"):
        async with StrictInstanceAwareCounter.open(fresh_prefix, store):
            pytest.fail("it started")


@pytest.mark.parametrize("userinfo", [":hunter2@", "u:hunter2@", "u@"])
def test_a_url_with_a_password_and_a_provider_is_too_much(userinfo: str) -> None:
    provider = UsernamePasswordCredentialProvider("app", "s3cret")
    with pytest.raises(ValueError, match="leave one of them out") as caught:
        RedisStore(f"redis://{userinfo}h", credential_provider=provider)
    assert "hunter2" not in str(caught.value)
