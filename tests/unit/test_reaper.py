"""The registry's sums, and the reaper: in bounded steps, every slice of the dead goes once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from distkit_actors._namespace._reaper import (
    DEATHS_PER_STEP,
    QUEUED_PER_STEP,
    Reaped,
    reap,
)
from distkit_actors._namespace._registry import Record, Registry, State
from distkit_actors._protocol._messages import MAX_CHANGED, MAX_PURGE, Periods, Slice
from distkit_actors._protocol._values import INT64_MAX, INT64_MIN

SECOND: Final = 1_000_000
PERIODS: Final = Periods(30 * SECOND, 10 * SECOND, 3600 * SECOND)
START: Final = 1_700_000_000 * SECOND
KEYS: Final = "abc"


class World:
    """A registry, and what its sums should be."""

    def __init__(self) -> None:
        self.registry = Registry()
        self.now = START

    def join(self, name: str, slices: dict[str, int], stamp: int = 5) -> Record:
        """Have an instance heard that has these slices."""
        self.registry.observed.hear(self.now)
        record = Record(1, "", PERIODS, 0)
        for key, value in slices.items():
            if value and self.registry.add(key, value):
                record.slices[key] = Slice(value, stamp)
        self.registry.revive(name, record, PERIODS)
        return record

    def die(self, name: str) -> None:
        record = self.registry.records[name]
        self.registry.mark_dead(name, record, State.DEAD, self.now)

    def slices(self) -> list[tuple[str, str]]:
        """Return which slices of the dead are left."""
        registry = self.registry
        return [
            (name, key) for name in registry.reap_queue for key in registry.records[name].slices
        ]

    def sums(self) -> dict[str, int]:
        """Return the sums of all slices that count."""
        sums: dict[str, int] = {}
        for _, record in self.registry.contributors():
            for key, (value, stamp) in record.slices.items():
                if stamp >= self.registry.epochs.of(key):
                    sums[key] = sums.get(key, 0) + value
        return {key: total for key, total in sums.items() if total}

    def reap(self, budget: int, keys: Iterable[str] = (), late: int = 0) -> Reaped:
        return reap(self.registry, self.now, late, budget, keys)


values = st.integers(-5, 5) | st.sampled_from([INT64_MIN, INT64_MAX])
instances = st.lists(
    st.tuples(
        st.dictionaries(st.sampled_from(KEYS), values),
        st.booleans(),
        st.sampled_from([5, 20]),
    ),
    max_size=8,
)
requests = st.lists(
    st.tuples(st.integers(1, 3), st.lists(st.sampled_from(KEYS), max_size=3)), min_size=1
)


@given(instances, st.sets(st.sampled_from(KEYS)), requests)
def test_every_slice_of_the_dead_goes_once_and_the_sums_stay_exact(
    members: list[tuple[dict[str, int], bool, int]],
    moved: set[str],
    requests: list[tuple[int, list[str]]],
) -> None:
    """However much each step may do and whatever keys it is about; void slices add nothing."""
    world = World()
    registry = world.registry
    for number, (slices, _, stamp) in enumerate(members):
        world.join(f"i{number}", slices, stamp)
    for key in moved:
        registry.epochs.move(key, 10)
        registry.sums.pop(key, None)
        for _, record in registry.contributors():
            if record.slices.get(key, Slice(0, 0)).stamp >= 10 and not registry.add(
                key, record.slices[key].value
            ):
                del record.slices[key]
    for number, (_, dies, _) in enumerate(members):
        if dies:
            world.die(f"i{number}")
    steps = idle = 0
    while left := world.slices():
        budget, keys = requests[steps % len(requests)]
        world.reap(budget, "".join(keys))
        after = world.slices()
        assert set(after) <= set(left)
        assert len(left) - len(after) <= budget
        assert registry.sums == world.sums()
        steps += 1
        idle = idle + 1 if len(left) == len(after) else 0
        if idle > len(requests) + 2 * len(left):  # each has been tried by now
            break
    stuck = world.slices()
    for name, key in stuck:  # what is left cannot leave its sum
        value, _ = registry.records[name].slices[key]
        assert not INT64_MIN <= registry.total(key) - value <= INT64_MAX
    dead = {f"i{number}" for number, (_, dies, _) in enumerate(members) if dies}
    assert registry.expiring.keys() == dead - {name for name, _ in stuck}
    assert registry.reap_queue.keys() == {name for name, _ in stuck}


def test_slices_that_have_no_room_to_go_wait_and_no_other_waits_behind_them() -> None:
    world = World()
    full = [f"full{number}" for number in range(QUEUED_PER_STEP)]
    world.join("high", dict.fromkeys(full, INT64_MAX))
    for key in full:
        world.join(key, {key: INT64_MIN})
    world.join("one", dict.fromkeys(full, 1))  # without what is low a sum were INT64_MAX + 1
    world.join("other", {"a": 1})
    for name in (*full, "other"):
        world.die(name)
    assert world.reap(10) == Reaped(backlog=0, stuck=QUEUED_PER_STEP)
    world.reap(10)
    assert set(world.registry.reap_queue) == set(full)
    world.die("one")
    while world.slices():
        world.reap(10)
    assert world.registry.sums == dict.fromkeys(full, INT64_MAX)


def test_the_keys_of_the_request_go_first() -> None:
    world = World()
    world.join("old", {"a": 1, "b": 1})
    world.join("new", {"a": 1, "b": 1})
    world.die("old")
    world.die("new")
    world.reap(2, "bb")
    assert world.slices() == [("old", "a"), ("new", "a")]
    assert world.registry.sums == {"a": 2}


def test_a_step_finds_a_few_dead_and_looks_into_a_few_of_them() -> None:
    world = World()
    count = QUEUED_PER_STEP + 5
    for number in range(count):
        world.join(f"i{number}", {"a": 1})
    world.now += 31 * SECOND
    for _ in range(4):  # nobody is dead before somebody has been there to observe it
        world.join("me", {})
        world.now += 8 * SECOND
    world.join("me", {})
    assert world.reap(1) == Reaped(backlog=count + 1 - DEATHS_PER_STEP, stuck=0)
    assert len(world.registry.reap_queue) == DEATHS_PER_STEP - 1
    while world.reap(1).backlog:
        pass
    assert world.registry.sums == {}
    assert world.registry.records["me"].state is State.LIVE


def test_a_step_that_is_late_itself_finds_nobody_dead() -> None:
    world = World()
    world.join("other", {"a": 1})
    for _ in range(4):
        world.now += 8 * SECOND
        world.join("me", {})
    assert world.reap(10, late=5 * SECOND) == Reaped(backlog=0, stuck=0)
    assert world.registry.sums == {"a": 1}
    world.reap(10)
    assert world.registry.sums == {}


def test_a_slice_that_has_no_room_to_go_is_told_once() -> None:
    """A step in its key looks at it twice: with the keys of the step, and with the rest."""
    world = World()
    world.join("high", {"full": INT64_MAX})
    world.join("low", {"full": INT64_MIN})
    world.join("one", {"full": 1})
    world.die("low")
    assert world.reap(10, ["full"]) == Reaped(backlog=0, stuck=1)
    assert world.reap(10) == Reaped(backlog=0, stuck=1)


def test_without_a_budget_nothing_is_reaped() -> None:
    world = World()
    world.join("other", {"a": 1})
    world.die("other")
    assert world.reap(0) == Reaped(backlog=0, stuck=0)
    assert world.slices() == [("other", "a")]


# -------------------------------------------------------------------------------- registry


def test_a_sum_of_zero_is_not_kept() -> None:
    registry = Registry()
    assert registry.add("a", 5)
    assert registry.add("a", -5)
    assert registry.sums == {}


def test_a_sum_never_leaves_int64() -> None:
    registry = Registry()
    assert registry.add("a", INT64_MAX)
    assert not registry.add("a", 1)
    assert registry.total("a") == INT64_MAX
    assert registry.add("a", INT64_MIN)
    assert registry.total("a") == -1


def test_what_changes_is_noted_while_somebody_watches_up_to_a_number() -> None:
    registry = Registry()
    registry.add("a", 1)
    assert registry.changed == set()
    registry.watched = True
    for number in range(MAX_CHANGED):
        registry.add(f"key{number}", 1)
        registry.add(f"same{number}", 0)
    assert registry.changed == {f"key{number}" for number in range(MAX_CHANGED)}
    registry.add("a", 1)
    assert registry.changed is None
    registry.note("b")
    assert registry.changed is None


def test_a_newcomer_purges_a_bounded_number_of_leftovers() -> None:
    world = World()
    record = world.join("me", {f"key{number}": 1 for number in range(MAX_PURGE + 1)})
    assert not world.registry.purge("me", record, 7, world.now)
    assert len(record.slices) == len(world.registry.sums) == 1


def test_leftovers_that_have_no_room_to_go_become_a_body_of_their_own() -> None:
    world = World()
    record = world.join("me", {"a": INT64_MIN, "b": 1})
    world.join("other", {"a": INT64_MAX})
    world.join("more", {"a": 1})
    assert world.registry.purge("me", record, 7, world.now)
    assert record.slices == {}
    assert world.slices() == [("me:7", "a")]
    assert world.registry.sums == world.sums() == {}


def test_records_are_forgotten_when_their_retention_is_over_a_few_at_a_time() -> None:
    world = World()
    for number in range(6):
        world.join(f"i{number}", {})
        world.die(f"i{number}")
    world.registry.expire(world.now + PERIODS.retention - 1)
    assert len(world.registry.records) == 6
    world.registry.expire(world.now + PERIODS.retention)
    assert len(world.registry.records) == 2


def test_a_record_does_not_wait_for_one_that_is_kept_longer() -> None:
    """Each is kept for the retention of its own instance."""
    world = World()
    for number in range(6):
        world.join(f"long {number}", {}).periods = PERIODS._replace(retention=10**15)
        world.die(f"long {number}")
    for number in range(6):
        world.join(f"short {number}", {})
        world.die(f"short {number}")
    world.now += PERIODS.retention
    for _ in range(6):
        world.registry.expire(world.now)
    assert {*world.registry.records} == {f"long {number}" for number in range(6)}


def test_a_slice_that_does_not_fit_holds_up_no_other_of_its_instance() -> None:
    """However little one step may do."""
    world = World()
    world.join("dead", {"full": 1, "free": 1})
    world.join("living", {"full": INT64_MIN})
    world.join("another", {"full": -1})
    world.die("dead")
    for _ in range(2):
        assert world.reap(1).stuck <= 1
    assert world.slices() == [("dead", "full")]
