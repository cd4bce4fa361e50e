"""Own slices that are not in the store, because the sum would leave int64 with them (I12)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice

from .._protocol._messages import Slice


class Withheld:
    """The withheld slices of one instance.

    A key has several if counts that were made later did not fit either; the oldest is tried first.
    """

    __slots__ = ("_by_key", "_count")

    def __init__(self, pairs: Iterable[tuple[str, Slice]] = ()) -> None:
        self._count = 0
        self._by_key: OrderedDict[str, list[Slice]] = OrderedDict()  # the next to be tried first
        for key, withheld in pairs:
            self.add(key, withheld)

    def __len__(self) -> int:
        """Return how many slices these are."""
        return self._count

    def __iter__(self) -> Iterator[tuple[str, Slice]]:
        """Go through all of them, key by key."""
        return ((key, withheld) for key, slices in self._by_key.items() for withheld in slices)

    @property
    def keys(self) -> Iterable[str]:
        """Keys that have some."""
        return self._by_key.keys()

    def stamps(self, key: str) -> list[int]:
        """Return the stamps of the slices of ``key``."""
        return [withheld.stamp for withheld in self._by_key.get(key, ())]

    def oldest(self, limit: int) -> list[tuple[str, Slice]]:
        """Return the first slice of each key that is next to be tried."""
        return [(key, slices[0]) for key, slices in islice(self._by_key.items(), limit)]

    def add(self, key: str, withheld: Slice) -> None:
        """Take in a slice that was refused."""
        self._by_key.setdefault(key, []).append(withheld)
        self._count += 1

    def put_off(self, key: str) -> None:
        """Try the other keys first."""
        if key in self._by_key:
            self._by_key.move_to_end(key)

    def remove(self, key: str, withheld: Slice) -> None:
        """Forget a slice, if it is still here."""
        slices = self._by_key.get(key, [])
        if withheld in slices:
            slices.remove(withheld)
            self._count -= 1
            if not slices:
                del self._by_key[key]

    def drop(self, key: str) -> None:
        """Forget all slices of a key, as another value has replaced them."""
        if key in self._by_key:
            self._count -= len(self._by_key.pop(key))

    def drop_older(self, epochs: Mapping[str, int]) -> None:
        """Forget the slices that are older than the epoch of their key."""
        for key in epochs.keys() & self._by_key.keys():
            young = [withheld for withheld in self._by_key[key] if withheld.stamp >= epochs[key]]
            self._count -= len(self._by_key[key]) - len(young)
            self._by_key[key] = young
            if not young:
                del self._by_key[key]

    def clear(self) -> None:
        """Forget all."""
        self._count = 0
        self._by_key.clear()
