"""Word of changes from a Redis server: its own publish and subscribe."""

from __future__ import annotations

from typing import Final

import trio

from ..._errors import StoreError
from .._contract import Subscription
from ._connection import Answer, Connection, ErrorReplyError
from ._lua_constants import Word
from ._reply_errors import to_store_error
from ._wire import read_key

#: What to do about a right that is missing.
ADVICE: Final = {
    "NOPERM": "the user may not be told of changes: grant it PING, SUBSCRIBE, UNSUBSCRIBE, "
    "PUBLISH and the channels &dk:* (`distkit-actors acl --watch` prints the rule), and in a "
    "cluster from version 7.0 on SSUBSCRIBE, SUNSUBSCRIBE and SPUBLISH",
}
#: How it is said that an answer to a subscription is none.
NO_REDIS: Final = "the store answers a subscription as no Redis server does"


class RedisSubscription(Subscription):
    """A subscription to a namespace's channel, on a connection of its own.

    Channels know no databases: what is announced in another one of the same server is heard
    here too. It makes us read, and no more.
    """

    def __init__(self, connection: Connection, channel: bytes) -> None:
        self._connection = connection
        self._channel = channel

    async def connect(self) -> None:
        """Subscribe; see `Subscription.connect`."""
        if self._connection.connected:
            await trio.lowlevel.checkpoint()
            return
        try:
            await self._connection.connect()
            await self._subscribe()
        except ErrorReplyError as error:
            await self._connection.drop()  # noqa: ASYNC120 - it shields itself, briefly
            raise to_store_error(error, ADVICE) from None
        except StoreError:
            await self._connection.drop()  # noqa: ASYNC120 - it shields itself, briefly
            raise

    async def _subscribe(self) -> None:
        # First what `listen` may send, so that a missing right shows now and not in a silence.
        await self._connection.call(b"PING")
        answer = await self._connection.call(b"SUBSCRIBE", self._channel)
        if answer != [b"subscribe", self._channel, 1]:
            raise StoreError(NO_REDIS)

    async def wait(self) -> frozenset[str] | None:
        """Wait for the next changes; see `Subscription.wait`."""
        while True:
            try:
                messages = await self._connection.listen()
            except ErrorReplyError as error:
                await self._connection.drop()  # noqa: ASYNC120 - it shields itself, briefly
                raise to_store_error(error, ADVICE) from None
            changed = _keys(messages)
            if changed is None or changed:
                return changed


def _keys(messages: list[Answer]) -> frozenset[str] | None:
    """Return the keys that messages name, None for any; none if they are signs of life."""
    keys: set[str] = set()
    for message in messages:
        match message:
            case [b"message", _, bytes() as payload]:
                changed = changed_keys(payload)
                if changed is None:
                    return None
                keys |= changed
            case _:
                pass
    return frozenset(keys)


def changed_keys(payload: bytes) -> frozenset[str] | None:
    """Return the keys that an announcement names, None for any."""
    if payload[:1] == Word.SEPARATOR:  # `Word.ANY_KEY`, or what only a later version knows
        return None
    # Others may publish there too, and then not always UTF-8.
    return frozenset(read_key(word, errors="replace") for word in payload.split(Word.SEPARATOR))
