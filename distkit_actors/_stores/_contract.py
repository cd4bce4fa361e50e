"""What a store must do for a counter.

A store executes requests (`_protocol._messages`) against the namespace of a prefix: each
atomically, and an `Apply` or `Resume` at most once for each of its seqs. `Namespace` says what
each request does; a store either runs it or does the same by its own means. All of it is public
as `distkit_actors.abc`; ``distkit_actors.testing`` has the conformance kit that both stores of
this package pass, and ``docs/stores.md`` a store of somebody else's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable
from contextlib import AbstractAsyncContextManager, nullcontext

import trio

from .._errors import StoreError, StoreUnavailableError
from .._protocol._messages import Reply, Request


class StoreAwayError(StoreUnavailableError):
    """The store answered that it cannot serve now; the request was certainly not executed."""


class CursorLostError(StoreAwayError):
    """A page of slices was not asked for: to another server its cursor means something else."""


class NotConnectedError(StoreAwayError):
    """The request was not executed, and connecting to where it belongs has failed."""


class StoreSilentError(StoreUnavailableError):
    """The store was reached, but did not answer in time: it is overloaded, or has stopped."""


class NotPermittedError(StoreError):
    """The user may not do that, and nothing was executed; the store itself may be well."""


class Link(ABC):
    """One counter's way to its namespace: connect, send a request, receive its answer.

    It carries one request at a time: what was sent is received before anything else is sent. It is
    used by one task at a time, except that `send_nowait`, `wait_answer` and `receive_nowait` may be
    called in another task while the usual one sleeps. The caller gives the request to `receive`
    again, so the link need not remember it.

    A link of your own must have `connect`, `connected` and `receive`. If it has no `send`, all is
    done in `receive`. It need not have `send_nowait`, `wait_answer` and `patience`, which save
    time, nor `inspect`. `exchange` is made of the others.
    """

    @abstractmethod
    async def connect(self) -> None:
        """Make sure that there is a connection; at once if there is one.

        A checkpoint. Raises `StoreUnavailableError` if the store cannot be reached,
        `StoreSilentError` if it was reached and does not answer, `StoreError` if it refuses us.
        When cancelled there may be no connection.
        """

    @property
    @abstractmethod
    def connected(self) -> bool:
        """Whether a connection is up, as far as is known."""

    async def send(self, request: Request) -> None:  # noqa: B027 - some do all in `receive`
        """Send ``request``, or as much of it as can be sent at once; `receive` sends the rest.

        `receive` always follows. A checkpoint only if it has to wait. Raises and is cancelled as
        `receive`.
        """

    @abstractmethod
    async def receive(self, request: Request) -> Reply:
        """Wait for the answer to ``request``, which was sent just before. A checkpoint.

        Raises:
            StoreAwayError: not executed; the same request may succeed later, perhaps on another
                connection, if this one is gone.
            StoreUnavailableError: the connection is gone, and nobody knows if the request
                was executed or will be.
            StoreError: the store refuses this request; not executed.

        When cancelled, the outcome is unknown. A connection that other links share stays; if the
        answer still comes on it, it is thrown away. A connection of this link's own is closed.
        """

    def unanswered(self, patience: float) -> None:  # noqa: B027 - most have nothing to do
        """Note that `receive` was cancelled as there was no answer for ``patience`` seconds.

        Not a checkpoint. A link that shares its connection then looks whether that is dead. A link
        that closes its connection when it is cancelled has nothing to do.
        """

    @property
    def can_send_nowait(self) -> bool:
        """Whether there is a connection that `send_nowait` can send on."""
        return False

    def send_nowait(self, request: Request) -> None:
        """Do as `send` without waiting, in any task; only while `can_send_nowait`.

        Not a checkpoint. It raises nothing: an error is raised by `receive`, which has to follow.
        """
        raise NotImplementedError

    def wait_answer(self) -> Awaitable[None] | None:
        """Return an awaitable that waits for the answer to what `send_nowait` has sent.

        Any task may await it. It may end before the answer has come, and does when `interrupt` is
        called; then `receive_nowait` tells whether there is an answer. It raises nothing, and
        cancelling it changes nothing else. None if this link can wait in `receive` only.
        """
        return None

    def receive_nowait(self, request: Request) -> Reply | None:  # noqa: ARG002 - for those that can
        """Return the answer to ``request``, after `wait_answer`.

        None if it has not come yet, or if what has come is no plain answer, such as an error. Not a
        checkpoint, and it raises nothing. After None `receive` has to follow: it waits for the
        answer, or raises the error. If the answer that was returned is not used, `receive` follows,
        too, and returns it again.
        """
        return None

    def interrupt(self) -> None:  # noqa: B027 - most never wait like this
        """End the awaitable of `wait_answer`, if a task awaits it, so that `receive` may follow.

        Not a checkpoint.
        """

    @property
    def patience(self) -> float:
        """Seconds after which a request without an answer is lost: then cancel `receive`.

        To set a deadline for each request is a tenth of what a lone request costs; so a caller that
        asks again and again may have one deadline for all.
        """
        return float("inf")

    async def exchange(self, request: Request) -> Reply:
        """Send ``request`` and wait for its answer, no longer than `patience`. A checkpoint.

        Raises and is cancelled as `receive`.
        """
        with trio.move_on_after(self.patience):
            await self.send(request)
            return await self.receive(request)
        self.unanswered(self.patience)
        raise StoreUnavailableError(
            f"the connection to the store was lost: no answer for {self.patience:g} seconds"
        )

    async def inspect(self) -> tuple[str, ...]:
        """Return what in the store's settings may make it lose counts. A checkpoint.

        Each text says what to do; empty if nothing is wrong. A counter calls it about once a
        minute, between two requests. Raises and is cancelled as `receive`; `StoreError` also if the
        store does not tell, and then what was found last stands.
        """
        await trio.lowlevel.checkpoint()
        return ()


class Subscription(ABC):
    """Notices of changes in a namespace, as its store pushes them. Used by one task at a time.

    They come only while a `Watch` is in force, which is sent on a link. A notice is a hint to read,
    and has no value. There is none of what changed before `connect` has returned, or while the
    subscription was lost. So connect, watch, read everything, then wait.
    """

    @abstractmethod
    async def connect(self) -> None:
        """Make sure that there is a subscription; at once if there is one.

        A checkpoint. Raises `StoreUnavailableError` if the store cannot be reached,
        `StoreError` if it refuses us. When cancelled on the way there is no subscription.
        """

    @abstractmethod
    async def wait(self) -> frozenset[str] | None:
        """Wait for a notice; return the keys that may have changed, or None if any key may have.

        A checkpoint. Raises `StoreUnavailableError` if there is no subscription, or if it is
        lost: connect again, and read everything. Raises `StoreError` if the store refuses
        it. When cancelled, no notice is lost unnoticed: either the subscription goes on, or
        there is none any more.
        """


class Store(ABC):
    """A place where the counters of any number of prefixes live.

    One store object may serve many counters, and they may share connections. It holds no task of
    its own, and nothing that outlives its last `link` and `subscribe`. Its `repr` is in every line
    that a counter logs, so it must not tell a password.
    """

    @property
    def partitions(self) -> int:
        """Over how many parts each namespace of it is spread; 1 by default.

        All counters that share a prefix must have the same number; see `RedisStore`.
        """
        return 1

    def part(self, number: int) -> Store:
        """Return the store of a part of each namespace, from 0 to 255.

        A part is a namespace by itself, with keys, instances and epochs of its own; its ``link``
        and ``subscribe`` take the same prefix. A namespace that is not spread is the same as part 0
        of one that is: so counters with different numbers of parts meet there, and are told. The
        same number always gives the same store.

        Raises:
            StoreError: It has no such part.
        """
        if number == 0:
            return self
        raise StoreError(f"a {type(self).__name__} cannot spread a namespace over several parts")

    @abstractmethod
    def link(self, prefix: str) -> AbstractAsyncContextManager[Link]:
        """Return a context manager around a link to the namespace of ``prefix``.

        Entering it contacts nobody. It is left after the last request, with a bounded
        clean-up that holds under cancellation.
        """

    def subscribe(
        self,
        prefix: str,  # noqa: ARG002 - for stores that can
    ) -> AbstractAsyncContextManager[Subscription | None]:
        """Return a context manager around what the store pushes of the namespace of ``prefix``.

        It gives None if the store cannot push: then a counter that watches has to ask again
        and again. Entering it contacts nobody. It is left with a bounded clean-up that holds
        under cancellation.
        """
        return nullcontext()

    async def prefixes(self) -> list[str]:
        """Return the prefixes that somebody lives under, or whose dead have slices left. Sorted.

        A checkpoint; cancelling it leaves nothing behind. It asks once: unlike a counter, it does
        not wait for a store that is away. One that comes or goes meanwhile may be missing or not.

        Raises:
            StoreUnavailableError: The store cannot be reached.
            StoreError: The store refuses, or cannot tell which prefixes there are.
        """
        await trio.lowlevel.checkpoint()
        raise StoreError(f"a {type(self).__name__} cannot tell which prefixes there are")
