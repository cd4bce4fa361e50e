"""What is run to see whether some Lua is right: short, each by itself, and told by a name.

Random histories find nearly everything soon. Scenarios are for what they meet too rarely.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from unittest import mock

import redis

from distkit_actors._instance._session import Session
from distkit_actors._namespace import _epochs, _reaper, _registry
from distkit_actors._protocol._messages import Entry, Kind
from distkit_actors._stores._lua_constants import CONSTANTS
from distkit_actors._stores._scripts import SCRIPTS, render
from tests.harness import unique_prefix
from tests.stores import test_rare_steps, test_redis_agrees, test_redis_limits
from tests.stores.test_redis_agrees import (
    KEYS,
    PERIODS,
    SECOND,
    Crowd,
    Fuzz,
    History,
    Unordered,
    Vigil,
)
from tests.stores.twin import LuaStore, Scripts, Twin, dump_namespace

START = 1_700_000_000 * SECOND

#: Limits so low that short histories reach them, and where Python has them.
TIGHT = {
    "MAX_JOURNAL": (8, [_epochs]),
    "FORGET_AT_LEAST": (2, [_epochs]),
    "MAX_CHANGED": (2, [_registry]),
    "DEATHS_PER_STEP": (1, [_reaper]),
    "OVERDUE_PER_STEP": (2, [_reaper]),
    "BODIES_PER_STEP": (2, [_reaper]),
}
#: And those that only Lua has.
TIGHT_IN_LUA = {
    "base": ("local CHUNK = 500\n", "local CHUNK = 4\n"),
    "query": ("local PAGE = 500\n", "local PAGE = 2\n"),
}


@dataclass(frozen=True)
class Subject:
    """Some Lua that is to be judged, and a server to run it on."""

    client: redis.Redis
    sources: Mapping[str, str]

    def scripts(self, constants: Mapping[str, int | str] = CONSTANTS) -> Scripts:
        return {name: render(name, self.sources, constants) for name in SCRIPTS}

    def twin(self) -> Twin:
        return Twin(self.client, unique_prefix(), START, self.scripts())

    def store(self) -> LuaStore:
        return LuaStore(self.client, unique_prefix(), self.scripts())


Check = Callable[[Subject], None]


@contextmanager
def tight(subject: Subject) -> Iterator[Twin]:
    """A twin whose limits are low, on both sides."""
    sources = dict(subject.sources)
    for file, (old, new) in TIGHT_IN_LUA.items():
        assert sources[file].count(old) == 1 or sources is not subject.sources
        sources[file] = sources[file].replace(old, new)
    constants = {**CONSTANTS, **{name: value for name, (value, _) in TIGHT.items()}}
    with ExitStack() as stack:
        for name, (value, modules) in TIGHT.items():
            for module in modules:
                stack.enter_context(mock.patch.object(module, name, value))
        stack.enter_context(mock.patch.object(test_redis_agrees, "KEYS", [*KEYS, *"bcdefgh"]))
        scripts = Subject(subject.client, sources).scripts(constants)
        yield Twin(subject.client, unique_prefix(), START, scripts)


# ------------------------------------------------------------------------ random histories


def some_history(twin: Twin, seed: int, steps: int) -> None:
    kind = (Fuzz, History, Fuzz, Vigil)[seed % 4]
    history = Fuzz(twin, seed) if kind is Fuzz else kind(twin, seed, [0, 1000])
    for _ in range(steps):
        history.step()
    twin.compare()
    twin.wipe()


def histories(seeds: range, steps: int = 80) -> Check:
    def check(subject: Subject) -> None:
        for seed in seeds:
            some_history(subject.twin(), seed, steps)

    return check


def tight_histories(seeds: range, steps: int = 100) -> Check:
    """Histories at the limits, beside one that moves many epochs."""

    def check(subject: Subject) -> None:
        for seed in seeds:
            with tight(subject) as twin:
                fuzz, mover = Fuzz(twin, seed), Session("mover", "n", PERIODS)
                for _ in range(steps):
                    while (request := mover.request()) is not None:
                        mover.receive(twin.execute(request))
                    fuzz.step()
                    keys = fuzz.random.sample(
                        test_redis_agrees.KEYS, fuzz.random.choice([0, 0, 1, 7])
                    )
                    mover.begin([Entry(Kind.MOVE, key, 1) for key in keys])
                twin.compare()
                twin.wipe()

    return check


def crowds(seeds: range, steps: int = 80) -> Check:
    """Many die, and few slices may be taken away at once."""

    def check(subject: Subject) -> None:
        for seed in seeds:
            twin = Unordered(subject.client, unique_prefix(), START, subject.scripts())
            crowd = Crowd(twin, seed, [0, 1, 2, 3])
            crowd.values = test_redis_agrees.SMALL
            for _ in range(steps):
                crowd.step()
            crowd.settle()
            assert twin.lua.dump()["sums"] == dump_namespace(twin.namespace)["sums"]
            assert twin.lua.dump()["reap_queue"] == []
            twin.wipe()

    return check


# ------------------------------------------------------------------------------- scenarios


def rare_steps(subject: Subject) -> None:
    """All tests of that module that need nothing but a twin."""
    for name, test in vars(test_rare_steps).items():
        if name.startswith("test_") and not hasattr(test, "pytestmark"):
            test(subject.twin())
    for others, old, new in test_rare_steps.REPLACEMENTS:
        test_rare_steps.test_a_replacement_that_is_refused_leaves_the_sum(
            subject.twin(), others, old, new
        )


def twin_scenario(name: str) -> Check:
    return lambda subject: getattr(test_redis_limits, name)(subject.twin())


def store_scenario(name: str) -> Check:
    return lambda subject: getattr(test_redis_limits, name)(subject.store())
