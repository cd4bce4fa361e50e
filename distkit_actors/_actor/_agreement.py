"""Whether those who live agree with the number of parts (P44, parts).

Part 0 finds out, as all who share a prefix meet there. An instance with the wrong number may find
nobody in the parts that only its own number has. So the other parts ask nothing of the store before
part 0 has an answer, and nothing while that is a refusal.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from .._errors import StoreError


class Agreement:
    """What part 0 has heard about the number of parts, for the actors of the other parts."""

    def __init__(self) -> None:
        self.known = trio.Event()  # part 0 has registered, or was refused
        self.refusal: StoreError | None = None  # while part 0 is refused
        self.followers: list[Callable[[], None]] = []  # who let the other parts try

    def refused(self, error: StoreError) -> None:
        """Note that part 0 is refused. The other parts are refused with their next request."""
        told, self.refusal = self.refusal is not None, error
        self.known.set()
        if not told:
            self._tell()

    def reached(self) -> None:
        """Note that part 0 is registered."""
        told, self.refusal = self.refusal is None, None
        self.known.set()
        if not told:
            self._tell()

    def _tell(self) -> None:
        for follower in self.followers:
            follower()
