"""What must hold in every state of a store."""

from __future__ import annotations

from distkit_actors._namespace._namespace import Namespace
from distkit_actors._namespace._registry import Registry, State
from distkit_actors._protocol._values import fits
from tests.model.oracle import Violation


def check_store(ns: Namespace) -> None:
    """Check what must hold in every state of a store."""
    registry, epochs = ns.registry, ns.registry.epochs
    sums: dict[str, int] = {}
    for instance, record in registry.records.items():
        for key, (value, stamp) in record.slices.items():
            if not value:
                raise Violation(f"{instance} stores a 0 for {key}")
            if stamp > ns.clock:
                raise Violation(f"a stamp of {instance} for {key} is ahead of the clock")
            if stamp >= epochs.of(key):
                sums[key] = sums.get(key, 0) + value
        body = instance in registry.reap_queue
        if body and record.state is State.LIVE:
            raise Violation(f"{instance} is a body and alive")
        if record.slices and record.state is not State.LIVE and not body:
            raise Violation(f"{instance} is dead with slices that nobody will reap")
        if instance in registry.expiring and (record.slices or record.state is State.LIVE):
            raise Violation(f"the record of {instance} is to expire")
    if {key: total for key, total in sums.items() if total} != registry.sums:
        raise Violation(f"sums are {registry.sums}, the slices make {sums}")
    if not all(map(fits, sums.values())):
        raise Violation(f"a sum has left int64: {sums}")
    stamps = list(epochs.moved.values())
    if stamps != sorted(stamps) or max(stamps, default=0) > epochs.latest:
        raise Violation(f"the journal is out of order: {epochs.moved}")
    if any(epochs.late[key] > epochs.moved.get(key, 0) for key in epochs.late):
        raise Violation("a late epoch is younger than its journal stamp")
    if max(epochs.cleared, epochs.latest, epochs.floor) > ns.clock:
        raise Violation("the journal is ahead of the clock")
    archived = [stamp for each in epochs.archive for stamp in (each.first, each.last)]
    if archived + stamps[:1] != sorted(archived + stamps[:1]):
        raise Violation("the archive is out of order, or younger than the journal")
    if any(stamp <= epochs.floor for stamp in [*(each.last for each in epochs.archive), *stamps]):
        raise Violation("a move is in the journal that was forgotten")


def check_due(registry: Registry, now: int) -> None:
    if registry.reap_queue and registry.due > now:
        raise Violation("bodies would not be reaped")
    for instance, record in registry.records.items():
        if record.state is State.LIVE and registry.due > record.deadline:
            raise Violation(f"nobody would notice the death of {instance}")
