"""Random histories over the store in memory."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy

from distkit_actors import MemoryStore, Store
from distkit_actors._namespace._namespace import Namespace
from distkit_actors._namespace._registry import State
from distkit_actors._stores._memory import _Clock, _name
from tests.stateful.clock import StoreClock
from tests.stateful.history import History
from tests.stateful.limit_rules import LimitHistories
from tests.stateful.machine import Histories
from tests.stateful.operations import EXTREME
from tests.stateful.part_rules import PARTS, PartedHistories
from tests.stateful.profile import run_histories

#: Seconds by the store's clock when a history begins: so many that it can be put back.
_BEGINNING = 1_000_000.0


class InMemory(History):
    """A history whose store is in memory."""

    prefix = "histories"

    def make_store(self) -> Store:
        self.store = MemoryStore(partitions=self.partitions)
        self.store._clock = _StoreClock(self.clock)
        return self.store

    def wipe_store(self, part: int) -> None:
        name = _name(self.prefix, part)
        self.store._namespaces.pop(name, None)
        for listener in self.store._subscriptions.get(name, ()):
            listener.tell(None)

    def copy_of_store(self, part: int) -> object:
        return deepcopy(self.store._namespaces.get(_name(self.prefix, part)))

    def restore_store(self, part: int, content: object) -> None:
        self.wipe_store(part)
        if content is not None:
            assert isinstance(content, Namespace)
            self.store._namespaces[_name(self.prefix, part)] = deepcopy(content)

    def contents_of(self, part: int) -> Mapping[str, Mapping[str, int]]:
        held: dict[str, dict[str, int]] = {}
        registry = self.store._namespaces[_name(self.prefix, part)].registry
        for instance, record in registry.records.items():
            for key, (value, stamp) in record.slices.items():
                if stamp >= registry.epochs.of(key):
                    assert self.part_of(key) == part, f"{key} is in part {part}"
                    waits = key == EXTREME and self.model[key].loose  # until it fits (I12)
                    assert waits or record.state is State.LIVE, f"{instance} still counts"
                    held.setdefault(key, {})[instance] = value
        for key in {*held, *registry.sums}:
            assert registry.total(key) == sum(held.get(key, {}).values())
        return held


class _StoreClock(_Clock):
    def __init__(self, clock: StoreClock) -> None:
        super().__init__()
        self._jumping = clock

    def current_time(self) -> float:
        return _BEGINNING + self._jumping.now()


class MemoryHistories(InMemory, Histories):
    pass


class PartedMemoryHistories(PartedHistories, MemoryHistories):
    partitions = PARTS


class MemoryLimitHistories(InMemory, LimitHistories):
    beginning = 1000 * _BEGINNING


def test_histories_over_memory() -> None:
    run_histories(MemoryHistories, default=80)


def test_histories_over_the_parts_of_memory() -> None:
    run_histories(PartedMemoryHistories, default=12)


def test_histories_of_a_limit_over_memory() -> None:
    run_histories(MemoryLimitHistories, default=25)
