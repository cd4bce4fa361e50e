"""How the dead are found and their slices taken away, a few in every step.

P23, reaper; P24, blackout.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import NamedTuple

from ._registry import FOREVER, Record, Registry, State

#: Instances found dead by one step.
DEATHS_PER_STEP = 4
#: Overdue instances looked at by one step.
OVERDUE_PER_STEP = 64
#: Of the reap queue, those in which one step looks for slices.
QUEUED_PER_STEP = 16


class Reaped(NamedTuple):
    """What a step did about the dead."""

    backlog: int
    """How many live, if something was done, and there is more to do; else 0."""
    stuck: int
    """Slices that cannot leave their sum without pushing it out of int64 (I12, overflow)."""


def reap(registry: Registry, now: int, late: int, budget: int, keys: Iterable[str]) -> Reaped:
    """Find the dead and take away up to ``budget`` slices, those of ``keys`` first.

    ``late``: for how long the step itself was held up. Others may have been so, too (P42,
    overload).
    """
    steady = registry.observed.steady(now) - late
    if not budget or steady < registry.due:
        return Reaped(backlog=0, stuck=0)
    changed = _find_dead(registry, now, steady)
    gone, stuck = _touched_first(registry, now, budget, keys)
    more_gone, more_stuck = _oldest_first(registry, now, budget - gone)
    deadlines = [r.deadline for r in registry.records.values() if r.state is State.LIVE]
    registry.due = 0 if registry.reap_queue else min(deadlines, default=FOREVER)
    goes_on = registry.due <= steady and changed + gone + more_gone
    return Reaped(registry.observed.living if goes_on else 0, max(stuck, more_stuck))


def _find_dead(registry: Registry, now: int, steady: int) -> int:
    overdue = sorted(
        (record.deadline, instance)
        for instance, record in registry.records.items()
        if record.state is State.LIVE and record.deadline <= steady
    )
    changed = deaths = 0
    for _, instance in overdue[:OVERDUE_PER_STEP]:
        record = registry.records[instance]
        if registry.judge(record, steady):
            changed += 1
        elif deaths < DEATHS_PER_STEP:
            registry.mark_dead(instance, record, State.DEAD, now)
            deaths += 1
    return changed + deaths


def _touched_first(
    registry: Registry, now: int, budget: int, keys: Iterable[str]
) -> tuple[int, int]:
    gone = stuck = 0
    wanted = list(dict.fromkeys(keys))
    for instance in list(registry.reap_queue)[:QUEUED_PER_STEP]:
        if gone == budget:
            break
        record = registry.records[instance]
        for key in wanted:
            if gone == budget:
                break
            if key in record.slices:
                if registry.take_away(record, key):
                    gone += 1
                else:
                    stuck += 1
        _retire_if_empty(registry, instance, record, now)
    return gone, stuck


def _oldest_first(registry: Registry, now: int, budget: int) -> tuple[int, int]:
    gone = stuck = 0
    for instance in list(registry.reap_queue)[:QUEUED_PER_STEP]:
        if gone == budget:
            break
        record = registry.records[instance]
        for key in list(islice(record.slices, budget - gone)):
            if registry.take_away(record, key):
                gone += 1
            else:
                stuck += 1
                # The next step looks at others first. (The scripts pick some at random.)
                record.slices[key] = record.slices.pop(key)
        if not _retire_if_empty(registry, instance, record, now) and gone < budget:
            # Only what does not fit is left of it: the others must not wait behind it.
            registry.reap_queue[instance] = registry.reap_queue.pop(instance)
    return gone, stuck


def _retire_if_empty(registry: Registry, instance: str, record: Record, now: int) -> bool:
    if record.slices:
        return False
    registry.retire(instance, record, now)
    return True
