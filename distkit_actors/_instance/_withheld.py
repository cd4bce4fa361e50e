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

    __slots__ = ("_count", "_pieces")

    def __init__(self, pairs: Iterable[tuple[str, Slice]] = ()) -> None:
        self._count = 0
        self._pieces: OrderedDict[str, list[Slice]] = OrderedDict()  # the next to be tried first
        for key, piece in pairs:
            self.add(key, piece)

    def __len__(self) -> int:
        """Return how many slices these are."""
        return self._count

    def __iter__(self) -> Iterator[tuple[str, Slice]]:
        """Go through all of them, key by key."""
        return ((key, piece) for key, pieces in self._pieces.items() for piece in pieces)

    @property
    def keys(self) -> Iterable[str]:
        """Keys that have some."""
        return self._pieces.keys()

    def oldest(self, limit: int) -> list[tuple[str, Slice]]:
        """Return the first slice of each key that is next to be tried."""
        return [(key, pieces[0]) for key, pieces in islice(self._pieces.items(), limit)]

    def add(self, key: str, piece: Slice) -> None:
        """Take in a slice that was refused."""
        self._pieces.setdefault(key, []).append(piece)
        self._count += 1

    def put_off(self, key: str) -> None:
        """Try the other keys first."""
        if key in self._pieces:
            self._pieces.move_to_end(key)

    def remove(self, key: str, piece: Slice) -> None:
        """Forget a slice, if it is still here."""
        pieces = self._pieces.get(key, [])
        if piece in pieces:
            pieces.remove(piece)
            self._count -= 1
            if not pieces:
                del self._pieces[key]

    def drop(self, key: str) -> None:
        """Forget all slices of a key, as another value has replaced them."""
        if key in self._pieces:
            self._count -= len(self._pieces.pop(key))

    def drop_older(self, epochs: Mapping[str, int]) -> None:
        """Forget the slices that are older than the epoch of their key."""
        for key in epochs.keys() & self._pieces.keys():
            young = [piece for piece in self._pieces[key] if piece.stamp >= epochs[key]]
            self._count -= len(self._pieces[key]) - len(young)
            self._pieces[key] = young
            if not young:
                del self._pieces[key]

    def clear(self) -> None:
        """Forget all."""
        self._count = 0
        self._pieces.clear()
