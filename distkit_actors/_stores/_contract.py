"""What a store must do for a counter.

A store executes requests (`distkit_actors._core._messages`) against the namespace of a
prefix: each atomically, and an `Apply` or `Resume` at most once for each of its seqs.
`distkit_actors._core._namespace.Namespace` says what each request does; a store either
runs it or does the same by its own means. ``distkit_actors.testing`` has the conformance
kit that both stores of this package pass.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractAsyncContextManager

from .._core._messages import Reply, Request
from .._errors import StoreUnavailableError


class StoreAwayError(StoreUnavailableError):
    """The store answered that it cannot serve now; the request was certainly not executed."""


class Link(ABC):
    """One counter's way to its namespace. Used by one task at a time."""

    @abstractmethod
    async def connect(self) -> None:
        """Make sure that there is a connection; at once if there is one.

        A checkpoint. Raises `StoreUnavailableError` if the store cannot be reached,
        `StoreError` if it refuses us. When cancelled there is no connection.
        """

    @abstractmethod
    async def exchange(self, request: Request) -> Reply:
        """Send ``request`` and wait for its answer. A checkpoint.

        Raises:
            StoreAwayError: not executed; the same request may succeed later.
            StoreUnavailableError: the connection is gone, and nobody knows if the request
                was executed or will be.
            StoreError: the store refuses this request; not executed.

        When cancelled, the connection is dropped and the outcome is unknown.
        """

    @property
    @abstractmethod
    def connected(self) -> bool:
        """Whether a connection is up, as far as is known."""


class Store(ABC):
    """A place where the counters of any number of prefixes live.

    One store object may serve many counters. It holds no task and no connection of its
    own: what a counter needs lives in the counter's nursery, through `link`.
    """

    @abstractmethod
    def link(self, prefix: str) -> AbstractAsyncContextManager[Link]:
        """Return a context manager around a link to the namespace of ``prefix``.

        Entering it contacts nobody. It is left after the last request, with a bounded
        clean-up that holds under cancellation.
        """
