"""What a session knows, and what anybody may ask of it at any time."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, Literal, TypeAlias

from .._protocol._messages import MAX_ENTRIES, Entry, MustResume, Periods, Slice
from ._holds import Holds
from ._own_copy import OwnCopy
from ._phases import Phase
from ._resumption import Resumption
from ._session_state import Batch
from ._takeover import Takeover
from ._withheld import Withheld

# Looked up once: before Python 3.12 a member of an enum costs as much as a call.
_LIVE: Final = Phase.LIVE
_OPENING: Final = frozenset({Phase.PEEK, Phase.OPEN, Phase.LOAD, Phase.REFUSED})

#: Most entries in one of the steps in which an instance comes back, leaves, or removes its slices:
#: so many take the server 2 to 4 ms (I10, bounds).
BULK: Final = 300

#: Most entries in a batch that many callers share: so many take the server 1 to 4 ms (I10, bounds).
SHARED: Final = 500

#: Why an instance has to come back to its store: its slices were ``"reaped"``, as it was silent;
#: the store was ``"wiped"``, or only what was written last was lost (``"rolled_back"``).
Loss: TypeAlias = Literal["reaped", "wiped", "rolled_back"]


class SessionView:
    """A session, as it is looked at; what happens to it is in `Session`."""

    def __init__(
        self,
        instance: str,
        nonce: str,
        periods: Periods,
        *,
        inherit: bool = False,
        refuse: bool = False,
        partitions: int = 1,
    ) -> None:
        self.instance = instance
        self.periods = periods
        self.about = ""  # what it says of itself (P25, opening)
        self.phase = Phase.PEEK
        self.incarnation = 0
        self.seq = 0  # last acknowledged
        self.used = 0  # last given to a request; none is given twice (P39, unique numbers)
        self.own = OwnCopy()
        self.holds = Holds()
        self.piece_size = MAX_ENTRIES  # most entries in one message; see the next properties
        self.stuck = 0  # slices of the dead that could not be taken away, as last heard
        self._takeover = Takeover(nonce, inherit=inherit, refuse=refuse, partitions=partitions)
        self._batch: Batch | None = None
        self._resumption: Resumption | None = None

    @property
    def bulk_size(self) -> int:
        """Most entries in one of many steps that claim slices, or remove them."""
        return min(self.piece_size, BULK)

    @property
    def shared_size(self) -> int:
        """Most entries in a batch that many callers share."""
        return min(self.piece_size, SHARED)

    @property
    def registered(self) -> bool:
        """Whether the store has taken it in; it may have lost it since."""
        return self.phase not in _OPENING

    def loss(self, reply: MustResume) -> Loss:
        """Return what has happened to the store, by an answer that `receive` has not seen yet."""
        if reply.born != self._takeover.born:
            return "wiped"
        recorded = reply.recorded
        return "reaped" if recorded is None or recorded >= self.seq else "rolled_back"

    @property
    def inherit(self) -> bool:
        """Whether the slices of whoever holds the id are to be taken over with it."""
        return self._takeover.inherit

    @property
    def refuse(self) -> bool:
        """Whether the id is left to its holder if that is alive."""
        return self._takeover.refuse

    @property
    def known(self) -> int:
        """The journal stamp up to which others' moves are known."""
        return self.own.known

    @property
    def slices(self) -> dict[str, Slice]:
        """The own slices that the store has, as acknowledged."""
        return self.own.slices

    def undoubted(self, key: str) -> int:
        """Return the own slice of ``key`` without the batch in doubt that was folded into it.

        P20, doubtful batch.
        """
        own, resumption = self.own.slices.get(key), self._resumption
        folds = None if resumption is None else resumption.folds.get(key)
        if folds and resumption is not None:
            # A slice that became 0 by the batch is not kept.
            gone = own is None and (key in resumption.void or key in self.own.withheld.keys)
            return 0 if gone else folds[0][1]
        return 0 if own is None else own.value

    @property
    def withheld(self) -> Withheld:
        """The own slices that are not in the store, because they do not fit yet (I12, overflow)."""
        return self.own.withheld

    @property
    def moves(self) -> OrderedDict[str, int]:
        """The own epoch moves, in the order of their stamps."""
        return self.own.moves

    @property
    def cleared(self) -> int:
        """The stamp of the latest clear of anybody, as far as known."""
        return self.own.cleared

    @property
    def idle(self) -> bool:
        """Whether `begin` may be called."""
        return self.phase is _LIVE and self._batch is None

    @property
    def in_doubt(self) -> bool:
        """Whether the outstanding batch may have been executed already."""
        return self._batch is not None and self._batch.doubt

    def retries(self) -> list[Entry]:
        """Return entries that try withheld slices again (I12, overflow), one for each key.

        They need a batch of their own: what other entries find depends on whether these fit.
        """
        return self.own.retries()
