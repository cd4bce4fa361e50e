"""One part of each namespace of a store, as a store of its own (P44, parts)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import final

from ._contract import Link, Store, Subscription


@final
class PartStore(Store):
    """What leads to part ``number`` of the namespaces of ``whole``."""

    def __init__(
        self,
        whole: Store,
        number: int,
        link: Callable[[str, int], AbstractAsyncContextManager[Link]],
        subscribe: Callable[[str, int], AbstractAsyncContextManager[Subscription | None]],
    ) -> None:
        self._whole = whole
        self._number = number
        self._link = link
        self._subscribe = subscribe

    def link(self, prefix: str) -> AbstractAsyncContextManager[Link]:
        """Return a link to the part of the namespace of ``prefix``."""
        return self._link(prefix, self._number)

    def subscribe(self, prefix: str) -> AbstractAsyncContextManager[Subscription | None]:
        """Return what is pushed of the part of the namespace of ``prefix``."""
        return self._subscribe(prefix, self._number)

    async def prefixes(self) -> list[str]:  # noqa: ASYNC910 - the store's is a checkpoint
        """Return the prefixes that are in use in any part."""
        return await self._whole.prefixes()

    def __repr__(self) -> str:
        """Show which part of what it is."""
        return f"<part {self._number} of {self._whole!r}>"
