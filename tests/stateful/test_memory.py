"""Random histories over the store in memory."""

from __future__ import annotations

from collections.abc import Mapping

from distkit_actors import MemoryStore, Store
from distkit_actors._namespace._registry import State
from tests.stateful.machine import Histories
from tests.stateful.operations import EXTREME
from tests.stateful.profile import run_histories


class MemoryHistories(Histories):
    prefix = "histories"

    def make_store(self) -> Store:
        self.store = MemoryStore()
        return self.store

    def wipe_store(self) -> None:
        self.store.wipe()

    def contents(self) -> Mapping[str, Mapping[str, int]]:
        held: dict[str, dict[str, int]] = {}
        registry = self.store._namespaces[self.prefix].registry
        for instance, record in registry.records.items():
            for key, (value, stamp) in record.slices.items():
                if stamp >= registry.epochs.of(key):
                    waits = key == EXTREME and self.model[key].loose  # until it fits (I12)
                    assert waits or record.state is State.LIVE, f"{instance} still counts"
                    held.setdefault(key, {})[instance] = value
        for key in {*held, *registry.sums}:
            assert registry.total(key) == sum(held.get(key, {}).values())
        return held


def test_histories_over_memory() -> None:
    run_histories(MemoryHistories, default=80)
