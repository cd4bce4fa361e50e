"""The query that was taken along, which is asked when it is its turn (P41, turns)."""

from __future__ import annotations

from .._protocol._messages import Reply, Request
from ._operations import QueryOperation


class Queries:
    """At most one query that somebody waits for, and whether it is its turn."""

    def __init__(self) -> None:
        self.taken: QueryOperation | None = None
        self.asking = False  # it is its turn

    def take(self, query: QueryOperation) -> None:
        """Take ``query`` along, whose turn it is now."""
        self.taken, self.asking = query, True

    def request(self) -> Request | None:
        """Return what somebody wants to know of the store, while it is the turn of that."""
        return self.taken.request if self.asking and self.taken is not None else None

    def ask(self) -> bool:
        """Make it the turn of the query that was taken; False if nobody waits for one."""
        if self.taken is not None and self.taken.task is None:
            self.taken = None
        self.asking = self.taken is not None
        return self.asking

    def put_off(self) -> None:
        """End the turn of the query: it was not answered, and others are due first."""
        self.asking = False

    def answered(self, reply: Reply) -> int:
        """Hand the answer to `request` out; return how many operations that has ended."""
        query = self.give_up()
        if query is None:
            return 0
        query.reply = reply
        query.done()
        return 1

    def give_up(self) -> QueryOperation | None:
        """Forget the query, and return it."""
        query, self.taken, self.asking = self.taken, None, False
        return query
