"""All pages of an answer, one after the other."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from .._protocol._messages import Query, QueryKind, QueryPage, Reply, Request


async def all_pages(  # noqa: ASYNC910 - each page is a checkpoint
    ask: Callable[[Request], Awaitable[Reply]],
    kind: QueryKind,
    key: str = "",
    keys: Sequence[str] = (),
) -> list[QueryPage]:
    """Return all pages that answer a query."""
    pages: list[QueryPage] = []
    cursor = ""
    while True:  # noqa: ASYNC913
        page = await ask(Query("", kind, key, cursor, keys))
        assert isinstance(page, QueryPage)
        pages.append(page)
        cursor = page.cursor
        if not cursor:
            return pages


async def all_rows(  # noqa: ASYNC910 - each page is a checkpoint
    ask: Callable[[Request], Awaitable[Reply]],
    kind: QueryKind,
    key: str = "",
    keys: Sequence[str] = (),
) -> list[tuple[str, int, bool]]:
    """Return the rows of all pages that answer a query."""
    return [row for page in await all_pages(ask, kind, key, keys) for row in page.rows]
