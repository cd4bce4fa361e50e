"""Both ends of the wires of a store that spreads its namespaces over parts.

Each part is a namespace by itself, so each has a `Meter`, and each counter a `Tap` for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Generic, TypeVar
from zlib import crc32

from distkit_actors import Store, StoreError
from distkit_actors._stores._contract import Link, Subscription
from tests.stateful.clock import StoreClock
from tests.stateful.host import Traffic
from tests.stateful.wires import Meter, Tap

S = TypeVar("S", bound=Store)


class _Ends(Store, Generic[S]):
    """A store of which each part is looked at by itself."""

    parts: Sequence[S]

    @property
    def partitions(self) -> int:
        return len(self.parts)

    def part(self, number: int) -> S:
        if number >= len(self.parts):
            raise StoreError(f"there is no part {number}")
        return self.parts[number]

    def of(self, key: str) -> S:
        """Return the end of the part that a key is in."""
        return self.parts[place(key, len(self.parts))]

    def link(self, prefix: str) -> AbstractAsyncContextManager[Link]:
        return self.parts[0].link(prefix)

    def subscribe(self, prefix: str) -> AbstractAsyncContextManager[Subscription | None]:
        return self.parts[0].subscribe(prefix)


class Meters(_Ends[Meter]):
    """The store's end."""

    def __init__(self, inner: Store, clock: StoreClock) -> None:
        self.traffic = Traffic()
        self.parts = [Meter(each, self.traffic, clock) for each in _parts(inner)]


class Taps(_Ends[Tap]):
    """The end of one counter."""

    def __init__(self, inner: Store, meters: Meters, watch: Callable[[], None]) -> None:
        pairs = zip(_parts(inner), meters.parts, strict=True)
        self.parts = [Tap(each, meter, watch) for each, meter in pairs]


def place(key: str, parts: int) -> int:
    """Return the number of the part that a key is in, as docs/partitions.md says it."""
    return crc32(key.encode()) % parts


def _parts(store: Store) -> list[Store]:
    if store.partitions == 1:
        return [store]
    return [store.part(number) for number in range(store.partitions)]
