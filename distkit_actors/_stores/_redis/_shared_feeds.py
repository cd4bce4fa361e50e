"""One connection to a node for all subscriptions of a store.

Which nodes there are is as with the connections for requests (`_shared`, `_cluster_lane`). The
nodes of a cluster that know sharded channels tell who listens that a slot has moved. What others
announce goes to all nodes, so that a subscription may stay where it is for a while: its feed lets
it go when it looks.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Final

import trio

from ..._errors import StoreError, StoreUnavailableError
from .._contract import Subscription
from ._connection import LOST, ErrorReplyError
from ._error_lines import NO_COMMAND
from ._feed import Feed
from ._listener import Listener
from ._locator import Route
from ._node_table import NodeTable, Place, Ways
from ._once import Once
from ._reply_errors import to_store_error
from ._stream import StreamConnection
from ._subscription import ADVICE
from ._survey import Node


class SharedFeed:
    """The feed of a node, which is made again whenever it was lost."""

    def __init__(
        self, connection: StreamConnection, route: Route, patience: float, *, shards: bool
    ) -> None:
        self.feed: Feed | None = None
        self._shards = shards  # channels are sharded, if the server knows that
        self._connection = connection
        self._route = route
        self._patience = patience
        self._connecting = Once()

    @property
    def lost(self) -> bool:
        """Whether there was a feed, and is none any more."""
        return self.feed is not None and self.feed.loss is not None

    async def connect(self) -> Feed:
        """Return a feed that is up, if need be a new one. Raises `ErrorReplyError`, `StoreError`.

        A checkpoint, if it is a new one.
        """
        while self.feed is None or self.lost or not self._route.serves:  # noqa: ASYNC913 - connecting is one
            await self._connecting.do(self._connect)
        return self.feed  # noqa: ASYNC910 - internal: callers make the checkpoint

    async def _connect(self) -> None:
        self.close()  # what leads to a server that does not serve any more
        connection = self._connection
        try:
            await connection.connect()
            # First what a silence is broken with, so that a missing right shows now.
            await connection.call(b"PING")
            sharded = self._shards and await _knows_sharded(connection)
        except (ErrorReplyError, StoreError):
            await connection.drop()  # noqa: ASYNC120 - it shields itself, briefly
            raise
        serves = lambda: self._route.serves  # noqa: E731 - as the server is asked again and again
        self.feed = Feed(connection, self._patience, serves, sharded=sharded)

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self.feed is not None:
            self.feed.close()


async def _knows_sharded(connection: StreamConnection) -> bool:
    """Return whether a server knows sharded channels: then an argument is missing."""
    try:
        await connection.call(b"SSUBSCRIBE")
    except ErrorReplyError as error:
        return error.code != NO_COMMAND  # noqa: ASYNC910 - asking was one
    return True


class SharedSubscription(Subscription):
    """A subscription to a namespace's channel, on a feed that others listen to as well."""

    def __init__(
        self, shared: SharedFeed, channel: bytes, serves: Callable[[], bool] = lambda: True
    ) -> None:
        self._shared = shared
        self._listener = Listener(channel, serves)

    @property
    def connected(self) -> bool:
        """Whether it listens, as far as is known."""
        feed = self._listener.feed
        return feed is not None and feed.loss is None and self._listener.confirmed

    async def connect(self) -> None:
        """Subscribe; see `Subscription.connect`."""
        try:
            await self.subscribe()
        except ErrorReplyError as error:
            raise to_store_error(error, ADVICE) from None

    async def subscribe(self) -> None:
        """Subscribe; at once if that is done. A checkpoint. Raises what the server says, too."""
        await trio.lowlevel.checkpoint()
        if not self.connected:
            feed = await self._shared.connect()
            await feed.subscribe(self._listener)

    async def wait(self) -> frozenset[str] | None:
        """Wait for the next changes; see `Subscription.wait`."""
        if self._listener.feed is None:
            await trio.lowlevel.checkpoint()
            raise StoreUnavailableError(LOST)
        return await self._listener.feed.wait(self._listener)

    def leave(self) -> None:
        """Listen no more."""
        if self._listener.feed is not None:
            self._listener.feed.leave(self._listener)


class ClusterSubscription(Subscription):
    """A subscription on the feed of whichever node has the slot of the channel."""

    def __init__(self, nodes: NodeTable[SharedFeed], route: Route, channel: bytes) -> None:
        self._route = route
        self._place = Place(nodes, route)
        self._channel = channel
        self._subscription: SharedSubscription | None = None

    async def connect(self) -> None:
        """Subscribe; see `Subscription.connect`."""
        subscription = self._subscription
        if subscription is not None and subscription.connected and self._route.serves:
            await trio.lowlevel.checkpoint()
            return
        before = self._place.thing
        if before is not None and before.lost:
            self._route.failed()
        if subscription is not None:
            subscription.leave()
        feed = await self._place.find()
        if subscription is None or feed is not before:
            subscription = SharedSubscription(feed, self._channel, lambda: self._route.serves)
            self._subscription = subscription
        try:
            await subscription.subscribe()
        except ErrorReplyError as error:
            if not self._route.redirect(error):
                self._route.failed()
            raise to_store_error(error, ADVICE, moves=True) from None
        except StoreError:
            self._route.failed()
            raise

    async def wait(self) -> frozenset[str] | None:
        """Wait for the next changes; see `Subscription.wait`."""
        if self._subscription is None:
            await trio.lowlevel.checkpoint()
            raise StoreUnavailableError(LOST)
        return await self._subscription.wait()

    def leave(self) -> None:
        """Listen no more."""
        if self._subscription is not None:
            self._subscription.leave()
        self._subscription = None
        self._place.leave()


class SharedFeeds:
    """The feeds of a store's nodes, for each trio run that uses them."""

    def __init__(self, ways: Ways) -> None:
        def make_for(node: Node | None) -> SharedFeed:
            return SharedFeed(*ways.to(node), ways.patience, shards=node is not None)

        self.nodes: Final = NodeTable(make_for, SharedFeed.close)

    @contextmanager
    def subscription(self, channel: bytes) -> Generator[SharedSubscription]:
        """Return a subscription to a channel, on the feed of the one server."""
        with self.nodes.hold(None) as shared:
            subscription = SharedSubscription(shared, channel)
            try:
                yield subscription
            finally:
                subscription.leave()

    @contextmanager
    def cluster_subscription(self, channel: bytes, route: Route) -> Generator[ClusterSubscription]:
        """Return a subscription to a channel, on the feed of whichever node has its slot."""
        subscription = ClusterSubscription(self.nodes, route, channel)
        try:
            yield subscription
        finally:
            subscription.leave()
