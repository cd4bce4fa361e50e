"""How an instance takes its id over from whoever holds it (P25, opening; P26, fencing).

`Peek` says who holds the id. `Open` takes it over from that one, as a compare-and-set, and `Load`
gives the slices that are inherited, page by page. If another instance was quicker, or the newcomer
was taken for dead while it loaded, it all begins again, as another attempt.
"""

from __future__ import annotations

from .._protocol._messages import Load, Open, Peeked, Periods


class Takeover:
    """How far an instance has come in taking its id over."""

    __slots__ = (
        "attempt",
        "base_nonce",
        "born",
        "cursor",
        "expected",
        "inherit",
        "partitions",
        "refuse",
    )

    def __init__(self, nonce: str, *, inherit: bool, refuse: bool, partitions: int) -> None:
        self.base_nonce = nonce
        self.partitions = partitions
        self.inherit = inherit
        self.refuse = refuse  # leave the id to its holder if that is alive
        self.attempt = 0
        self.expected = 0  # the incarnation that holds the id
        self.born = 0  # of the namespace that last answered
        self.cursor = ""

    @property
    def nonce(self) -> str:
        """The name of this attempt: the store gives it one incarnation, however often it asks."""
        return f"{self.base_nonce}.{self.attempt}"

    def refuses(self, reply: Peeked) -> bool:
        """Tell whether the id is to be left to its holder."""
        return self.refuse and reply.alive

    def peeked(self, reply: Peeked) -> None:
        """Begin an attempt, as the id may be taken."""
        self.expected, self.born = reply.incarnation, reply.born
        self.attempt += 1

    def open(self, instance: str, periods: Periods, about: str) -> Open:
        """Return the request that takes the id over."""
        nonce, expected, born, refuse = self.nonce, self.expected, self.born, self.refuse
        return Open(
            instance, nonce, expected, born, self.inherit, periods, refuse, about, self.partitions
        )

    def load(self, instance: str, incarnation: int, seq: int) -> Load:
        """Return the request for the next page of slices."""
        return Load(instance, incarnation, seq, self.cursor)
