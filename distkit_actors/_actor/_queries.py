"""The query that was taken from the mailbox; it is asked when it has its turn (P41, turns)."""

from __future__ import annotations

from .._protocol._messages import Reply, Request
from ._operations import QueryOperation
from ._outcomes import copy_of


class Queries:
    """At most one query, and whether it has its turn now."""

    def __init__(self) -> None:
        self.taken: QueryOperation | None = None
        self.asking = False  # it is its turn

    def take(self, query: QueryOperation) -> None:
        """Take ``query``, which has its turn now."""
        self.taken, self.asking = query, True

    def request(self) -> Request | None:
        """Return the request of the query, while it has its turn."""
        return self.taken.request if self.asking and self.taken is not None else None

    def ask(self) -> bool:
        """Give the query its turn; False if there is none, or if its caller was cancelled."""
        if self.taken is not None and self.taken.task is None:
            self.taken = None
        self.asking = self.taken is not None
        return self.asking

    def put_off(self) -> None:
        """End the turn of the query: it was not answered, and others are due first."""
        self.asking = False

    def answered(self, reply: Reply) -> int:
        """Hand the answer to `request` out; return how many operations that has ended."""
        query = self._give_up()
        if query is None:
            return 0
        query.reply = reply
        query.done()
        return 1

    def fail(self, error: Exception) -> None:
        """Raise ``error`` in whoever asks."""
        query = self._give_up()
        if query is not None:
            query.fail(copy_of(error))

    def _give_up(self) -> QueryOperation | None:
        """Forget the query, and return it."""
        query, self.taken, self.asking = self.taken, None, False
        return query
