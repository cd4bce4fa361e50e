"""What a store asks who we are, in the form that redis-py knows."""

from __future__ import annotations

from typing import Protocol


class CredentialProvider(Protocol):
    """Says who we are to a server; redis-py's own providers do, and so does any other object.

    `RedisStore` calls it in a thread, each time a connection is made.
    """

    __module__: str = "distkit_actors"  # which imports it when it is asked for

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        """Return a password, or a user name and a password. May block: it is called in a thread.

        Whatever it raises becomes a `StoreUnavailableError`, which names the kind of the error but
        not its text, as that may have a secret in it. If the counter has to end meanwhile, the
        thread is abandoned.
        """
        ...


class AsyncCredentialProvider(Protocol):
    """Says who we are to a server, as `CredentialProvider` does, but is awaited, by trio."""

    __module__: str = "distkit_actors"  # which imports it when it is asked for

    async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
        """Return a password, or a user name and a password.

        It is to be a checkpoint, and may be cancelled. Errors are taken as those of
        `CredentialProvider.get_credentials`.
        """
        ...
