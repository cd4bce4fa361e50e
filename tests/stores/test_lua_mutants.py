"""What compares the Lua with Python finds a defect in each rule of the Lua, and soon."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from distkit_actors._stores._redis._scripts import read_sources
from tests.harness.server import RedisServer
from tests.stores.lua_checks import CHECKS, SOON, Subject, find_fault
from tests.stores.lua_found_by import FOUND_BY
from tests.stores.lua_mutants import MUTANTS, Mutant
from tests.stores.twin import connect

SOURCES = read_sources()


@pytest.fixture(scope="module")
def client() -> Iterator[redis.Redis]:
    with RedisServer() as server, connect(server.url) as client:
        yield client


@pytest.fixture(autouse=True)
def empty(client: redis.Redis) -> None:
    """Remove what a mutant has left."""
    client.flushall()
    client.script_flush()


def mutated(mutant: Mutant) -> dict[str, str]:
    file, old, new = mutant
    assert SOURCES[file].count(old) == 1, f"{old!r} stands {SOURCES[file].count(old)} times"
    return {**SOURCES, file: SOURCES[file].replace(old, new)}


def test_good_lua_passes(client: redis.Redis) -> None:
    subject = Subject(client, SOURCES)
    for name in SOON:
        CHECKS[name](subject)


CASES = [
    pytest.param(
        rule, mutant, id=f"{rule}: {mutant.file}: {mutant.old.strip()} -> {mutant.new.strip()}"
    )
    for rule, mutants in MUTANTS.items()
    for mutant in mutants
]


@pytest.mark.parametrize(("rule", "mutant"), CASES)
def test_a_mutant_is_found(client: redis.Redis, rule: str, mutant: Mutant) -> None:
    subject = Subject(client, mutated(mutant))
    for script in subject.scripts.values():
        client.script_load(script.source)  # it is Lua
    found = find_fault(subject, *FOUND_BY.get(rule, {}).get(mutant.file, ()))
    assert found is not None
    print(f"found by: {found}")


def test_what_is_likely_to_find_a_mutant_is_named_rightly() -> None:
    assert FOUND_BY.keys() <= MUTANTS.keys()
    for rule, files in FOUND_BY.items():
        assert files.keys() <= {mutant.file for mutant in MUTANTS[rule]}
        assert {name for names in files.values() for name in names} <= CHECKS.keys()
