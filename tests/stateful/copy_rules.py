"""Rules about a part of the store that is restored from a copy: it has again what it had then.

With one part that is the whole store.
"""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import strategies as st
from hypothesis.stateful import rule

from tests.stateful.fleet_rules import WHO
from tests.stateful.history import TICK
from tests.stateful.hold_rules import COUNT, KEY, MOVE
from tests.stateful.onlooker_rules import OnlookerRules
from tests.stateful.operations import SMALL
from tests.stateful.wires import INTERVAL, THRESHOLD, Heard

#: Copies of each part that are kept.
MOST_COPIES = 3


class Copy(NamedTuple):
    """What a part of the store had at some time."""

    content: object
    heard: Heard  # by its meter


class CopyRules(OnlookerRules):
    """A history in which parts of the store are copied, and put back."""

    def __init__(self) -> None:
        super().__init__()
        self.copies: list[list[Copy]] = [[] for _ in self.before]

    # ---------------------------------------------------------- what differs by store

    def copy_of_store(self, part: int) -> object:
        """Return what a part of the store has of the namespace."""
        raise NotImplementedError

    def restore_store(self, part: int, content: object) -> None:
        """Have a part of the store have that, and nothing else."""
        raise NotImplementedError

    # ------------------------------------------------------------------------- rules

    @rule(part=st.integers(0, 2))
    def copy(self, part: int) -> None:
        """Somebody makes a copy of a part."""
        self.pass_time(TICK)
        part %= len(self.before)

        async def run() -> None:
            await self.judge()
            meter = self.meters.parts[part]
            copies = self.copies[part]
            copies.append(Copy(self.copy_of_store(part), meter.heard()))
            del copies[:-MOST_COPIES]

        self.run(run)

    @rule(
        part=st.integers(0, 2),
        age=st.integers(0, MOST_COPIES - 1),
        away=st.lists(WHO, max_size=2),
        seconds=st.sampled_from([0.0, 0.0, INTERVAL + 0.5, THRESHOLD + 1.0]),
    )
    def restore(self, part: int, age: int, away: list[int], seconds: float) -> None:
        """A part is restored from a copy, and some do not reach it for a while (I7)."""
        part %= len(self.before)
        if not self.copies[part]:
            return
        for member in list(self.fenced):
            self.crash(member)  # nobody could tell it any more that somebody newer has its id
        self.pass_time(TICK)
        copy = self.copies[part][-1 - age % len(self.copies[part])]
        silent = {self.member(who) for who in away}
        where = part if len(self.before) > 1 else None

        async def run() -> None:
            # No request outlives the server that it was sent to.
            for member in self.members:
                member.cut(where)
            await self.judge()
            for member in (*self.members, *self.stopped):
                member.lose_late_copies()
            self.restore_store(part, copy.content)
            await self.go_back(part, copy.heard)
            for member in self.members:
                if member not in silent:
                    member.mend_in(where)
            await self.judge()

        self.run(run)
        self.pass_time(seconds)
        self.do(lambda: [member.mend_in(where) for member in silent])

    @rule(who=WHO, kind=MOVE, key=KEY, count=COUNT, away=st.lists(WHO, max_size=2))
    def move_undone(self, who: int, kind: str, key: str, count: int, away: list[int]) -> None:
        """A copy is put back that was made before a move."""
        part = self.part_of(key)
        self.copy(part)
        self.operate((who, kind, key, count))
        self.restore(part, 0, away, INTERVAL + 0.5)

    @rule(who=WHO, steps=st.integers(1, 4), key=KEY, counts=st.lists(COUNT, max_size=3))
    def counts_undone(self, who: int, steps: int, key: str, counts: list[int]) -> None:
        """A copy is put back that was made before some counts, in one part of them."""
        part = self.part_of(key)
        self.copy(part)
        for number, count in enumerate(counts):
            self.operate((who + number * steps, "inc", SMALL[number % len(SMALL)], count))
        self.restore(part, 0, [], 0.0)
        self.operate((who, "inc", key, 1), (who + steps, "inc", key, 1))
