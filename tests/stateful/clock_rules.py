"""A rule about the store's clock, which need not go as those of the processes do.

P40, observed time.
"""

from __future__ import annotations

from functools import partial

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from tests.stateful.copy_rules import CopyRules
from tests.stateful.fleet_rules import WHO
from tests.stateful.hold_rules import COUNT, KEY
from tests.stateful.wires import THRESHOLD

JUMP = st.sampled_from([-100.0, -3.0, -0.5, 0.5, 3.5, THRESHOLD + 1.0, 20.0])


class ClockRules(CopyRules):
    """A history in which the store's clock jumps."""

    @rule(seconds=JUMP)
    def jump(self, seconds: float) -> None:
        """The store's clock is put back or forward; or all machines sleep, but for the store's.

        To a process the clock of trio stands still while its machine sleeps. Where data was lost,
        it is not put back before all have been heard again (L6).
        """
        if seconds < 0 and any(meter.lost for meter in self.meters.parts):
            return
        self.do(partial(self.clock.jump, seconds))

    @precondition(lambda self: len(self.members) > 1)
    @rule(who=WHO, key=KEY, count=COUNT, seconds=JUMP)
    def death_and_jump(self, who: int, key: str, count: int, seconds: float) -> None:
        """Somebody counts and is killed, and the clock jumps before anybody notices (I3)."""
        self.operate((who, "inc", key, count))
        self.crash(self.member(who))
        self.jump(seconds)
