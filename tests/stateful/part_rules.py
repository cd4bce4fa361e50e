"""Rules about one part of a namespace that is spread over several: what strikes that part alone.

Those of a namespace with one part strike all parts at once.
"""

from __future__ import annotations

import random
from functools import partial
from typing import Final

from hypothesis import strategies as st
from hypothesis.stateful import rule

from tests.stateful.fleet_rules import MOST_MEMBERS, WHO
from tests.stateful.history import TICK
from tests.stateful.hold_rules import CHANCE, COUNT, HOLD, KEY, MOVE
from tests.stateful.machine import Histories
from tests.stateful.operations import METHODS, SMALL
from tests.stateful.wires import INTERVAL, THRESHOLD

#: Of the keys two are in part 0, one is in part 2, and none is in part 1.
PARTS: Final = 3

PART = st.integers(0, PARTS - 1)
LASTING = ("hold", "hold_replies", "delay", "away", "refuse", "cut")
#: What is about several keys, and so about several parts.
OVER_PARTS = sorted({*(name for name in METHODS if "_all" in name), "clear"})


class PartedHistories(Histories):
    """A fleet whose store has several parts, each with faults of its own."""

    @rule(
        who=WHO,
        part=PART,
        fault=st.sampled_from(["drop_request", "drop_reply", "late_copy", "duplicate", "away"]),
        times=st.integers(1, 3),
    )
    def part_fault(self, who: int, part: int, fault: str, times: int) -> None:
        """Trouble with the next few requests to one part."""
        member = self.member(who)
        member.planned = True
        getattr(member.network_of(part), fault)(times)

    @rule(who=WHO, part=PART, fault=st.sampled_from(LASTING))
    def lasting_part_fault(self, who: int, part: int, fault: str) -> None:
        """Trouble of somebody with one part, until somebody mends it."""
        self.do(partial(self._trouble, self.member(who), fault, part))

    @rule(part=PART, fault=st.sampled_from(["away", "refuse", "cut"]))
    def part_trouble(self, part: int, fault: str) -> None:
        """A part of the store is away, or refuses everybody."""

        def run() -> None:
            for member in self.members:
                self._trouble(member, fault, part)

        self.do(run)

    @rule(who=WHO, part=PART)
    def heal_part(self, who: int, part: int) -> None:
        """The end of all trouble of somebody with one part."""
        self.do(partial(self.member(who).mend_in, part))

    @rule(who=WHO, part=PART, seconds=st.sampled_from([3.0, THRESHOLD + 1.0, THRESHOLD + 5.0]))
    def partition_from_part(self, who: int, part: int, seconds: float) -> None:
        """Somebody is cut off from one part, and perhaps dead there, and alive elsewhere."""
        member = self.member(who)
        self.do(partial(member.cut, part))
        self.pass_time(seconds)
        self.do(partial(member.mend_in, part))

    @rule(part=PART, seconds=st.sampled_from([4.5, THRESHOLD + 0.5, THRESHOLD + 4.0]))
    def part_blackout(self, part: int, seconds: float) -> None:
        """Nobody reaches one part for a while (I5)."""

        def cut() -> None:
            for member in (*self.members, *self.fenced):
                member.cut(part)

        def mend() -> None:
            for member in (*self.members, *self.fenced):
                member.mend_in(part)

        self.do(cut)
        self.pass_time(seconds)
        self.do(mend)

    @rule(part=PART, seconds=st.sampled_from([0.0, INTERVAL + 0.5]))
    def wipe_part(self, part: int, seconds: float) -> None:
        """One part loses everything (I7)."""
        for member in list(self.fenced):
            self.crash(member)
        self.pass_time(TICK)
        self.run(partial(self.lose, [part], calm=seconds > 0))
        self.pass_time(seconds)

    @rule(who=WHO, kind=MOVE, key=KEY, count=COUNT, part=PART)
    def move_lost_in_part(self, who: int, kind: str, key: str, count: int, part: int) -> None:
        """One part loses a move before everybody has heard of it (I7)."""
        self.operate((who, kind, key, count))
        self.wipe_part(part, INTERVAL + 0.5)

    @rule(who=WHO, steps=st.integers(1, MOST_MEMBERS - 1), chance=CHANCE)
    def deeds_over_parts(self, who: int, steps: int, chance: int) -> None:
        """Of operations on several parts some parts are held up, and the others go on.

        What exactly is drawn evenly: of what is likely in histories, few fail in one part alone.
        """
        draw = random.Random(chance)
        self.do(self.member(who).mend)
        for _ in range(draw.randint(1, 3)):
            key, fault = draw.choice(SMALL), draw.choice(["refuse", "refuse", *LASTING])
            part = self.part_of(draw.choice(SMALL))
            self.call_over_parts(who, steps, draw.choice(OVER_PARTS), key, part, fault)

    def call_over_parts(
        self, who: int, steps: int, kind: str, key: str, part: int, fault: str
    ) -> None:
        """Somebody asks several parts for something while one of them is in trouble."""
        self.do(partial(self._trouble, self.member(who), fault, part))
        self.operate((who, kind, key, 4))
        self.operate((who + steps, "inc", key, 1), (who, "inc", key, 2))
        self.heal_part(who, part)
        self.operate((who + steps, "get_all", key, 0))

    @rule(
        who=WHO,
        steps=st.integers(1, MOST_MEMBERS - 1),
        hold=HOLD,
        kind=MOVE,
        key=KEY,
        count=COUNT,
        part=PART,
    )
    def hold_without_a_part(
        self, who: int, steps: int, hold: str, kind: str, key: str, count: int, part: int
    ) -> None:
        """Somebody holds, and is cut off from one part while others move keys."""
        self.enter(who, hold, key, count)
        self.do(partial(self.member(who).cut, part))
        self.operate((who + steps, kind, key, count))
        if self.member(who).blocks:
            self.leave_block(0)
        self.heal_part(who, part)
