"""Cursors of queries, which mean something only on the connection that has brought them."""

from __future__ import annotations

from ..._protocol._messages import Query, QueryKind, QueryPage

_VALUES = QueryKind.VALUES  # its cursor is a number of instances, the same everywhere


class Cursors:
    """Has pages read from the beginning where a connection may lead to another server.

    A server gives the names of a hash in an order of its own, which it changes when it starts
    again. So to another server the cursor of a page would leave names out. Who asks for pages
    takes a name that comes twice once.
    """

    def __init__(self) -> None:
        self._connection = 0  # the one on which was asked last

    def asked(self, query: Query, connection: int) -> Query:
        """Return what to send on ``connection``, which is a number of it."""
        self._connection = connection
        if not query.cursor or query.kind is _VALUES:
            return query
        cursor, _, given_on = query.cursor.partition("@")
        return query._replace(cursor=cursor if given_on == str(connection) else "")

    def answered(self, query: Query, page: QueryPage) -> QueryPage:
        """Return what to hand out of an answer to what was asked last."""
        if not page.cursor or query.kind is _VALUES:
            return page
        return page._replace(cursor=f"{page.cursor}@{self._connection}")
