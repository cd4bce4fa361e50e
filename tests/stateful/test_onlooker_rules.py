"""The rules about onlookers expect no more than what holds."""

from __future__ import annotations

from tests.stateful.history import TICK
from tests.stateful.test_memory import MemoryHistories
from tests.stateful.wires import INTERVAL


def test_who_was_silent_before_an_outage_may_die_in_it_though_the_clock_has_jumped() -> None:
    history = MemoryHistories()
    try:
        history.fleet(lax=[False, True, True], chance=0, in_blocks=0)
        onlooker = history._looking()
        history.jump(seconds=20.0)
        for _ in range(int(2 * INTERVAL / TICK)):  # it sees a beat, and goes on from there
            history.pass_time(TICK)
            history._told(onlooker, "instances")
        history.pass_time(INTERVAL - 3 * TICK)
        history.store_trouble(fault="away")  # so nobody has just beaten when the outage begins
        history.outage_of_all(how="hold", seconds=7.0)
    finally:
        history.host.close()
