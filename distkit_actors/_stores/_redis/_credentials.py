"""Who we say we are to a server, which may change while we run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol, TypeAlias, cast

import trio
from redis.asyncio.connection import AbstractConnection
from redis.credentials import CredentialProvider as _Base

from ..._errors import StoreUnavailableError
from ._credential_provider import AsyncCredentialProvider, CredentialProvider
from ._per_run import PerRun

#: A password, or a user name and a password.
_Words: TypeAlias = tuple[str] | tuple[str, str]

_METHOD: Final = "get_credentials"
#: In so many threads a provider is asked at the same time.
_THREADS: Final = 4


class _Streaming(Protocol):
    def is_streaming(self) -> bool: ...

    def on_next(self, callback: Callable[[object], None]) -> object: ...


class Credentials:
    """Makes connections that say who we are, as a provider says at that time.

    Without a provider they say what the URL says. ``version`` changes when the provider pushes
    new credentials; it may do so in any thread.
    """

    def __init__(
        self,
        make: Callable[[], AbstractConnection],
        provider: CredentialProvider | AsyncCredentialProvider | None,
    ) -> None:
        self.version = 0
        self._make = make
        self._provider = provider
        # A thread that is given up keeps its place. With trio's own limiter, a provider that hangs
        # would keep the whole application from using threads, such as those that look names up.
        self._threads = PerRun(lambda: trio.CapacityLimiter(_THREADS))
        if provider is None:
            return
        settings = make()
        if settings.username or settings.password:
            raise ValueError(
                "the store's URL has a user name or a password, and there is a credential provider "
                "too: leave one of them out"
            )
        if callable(getattr(provider, "on_next", None)):
            streaming = cast("_Streaming", provider)
            if streaming.is_streaming():
                streaming.on_next(self._on_next)

    async def make(self) -> AbstractConnection:
        """Return a connection that is not made yet."""
        return (await self.maker())()

    async def maker(self) -> Callable[[], AbstractConnection]:
        """Return what makes connections that say all the same; the provider is asked once."""
        if self._provider is None:
            return self._make  # noqa: ASYNC910 - internal: connecting is the checkpoint
        *name, password = await self._ask()

        def make() -> AbstractConnection:
            connection = self._make()
            connection.username = name[0] if name else None
            connection.password = password
            return connection

        return make

    async def _ask(self) -> _Words:
        provider = self._provider
        assert provider is not None
        try:
            if _is_own(provider, _METHOD):
                # In a thread, as it may wait. The other method is asyncio's, mostly.
                ask = cast("CredentialProvider", provider).get_credentials
                words = await trio.to_thread.run_sync(
                    ask, abandon_on_cancel=True, limiter=self._threads.get()
                )
            else:
                words = await cast("AsyncCredentialProvider", provider).get_credentials_async()
            _check(words)
        except Exception as error:  # noqa: BLE001 - raised below
            failure = type(error).__name__
        else:
            return words
        # Here, where it has no context: what a provider says may contain anything.
        raise StoreUnavailableError(f"the credential provider has failed: {failure}")

    def _on_next(self, _: object) -> None:
        self.version += 1


def _is_own(provider: CredentialProvider | AsyncCredentialProvider, method: str) -> bool:
    """Return whether a provider has a method that is not what it inherits from redis-py."""
    own = getattr(type(provider), method, None)
    return own is not None and own is not getattr(_Base, method)


def _check(words: Sequence[object]) -> None:
    if isinstance(words, str) or not (
        1 <= len(words) <= 2 and all(isinstance(word, str) for word in words)
    ):
        raise TypeError("credentials are a password, or a user name and a password")
