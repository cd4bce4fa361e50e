"""Every line of the Lua is run by what compares it with Python."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from distkit_actors._stores._redis._scripts import ENVELOPE, read_sources
from tests.harness.server import RedisServer
from tests.stores.lua_checks import (
    Check,
    Subject,
    archive_scenarios,
    archives,
    behind_anothers_move,
    crowds,
    departing,
    histories,
    histories_of,
    long_rare_steps,
    rare_steps,
    store_scenario,
    tight_histories,
    twin_scenario,
    values_in_pages,
)
from tests.stores.lua_source import statements
from tests.stores.test_redis_agrees import Idle, Solo
from tests.stores.twin import connect

SOURCES = read_sources()
RUNS: list[Check] = [
    histories(range(24)),
    histories_of(Solo, range(12)),
    histories_of(Idle, range(6)),
    tight_histories(range(6)),
    archives(range(8)),
    archive_scenarios,
    behind_anothers_move,
    crowds(range(2)),
    departing(range(4)),
    twin_scenario("test_leftovers_that_do_not_fit_become_a_body_of_their_own"),
    twin_scenario("test_a_late_move_that_pushes_a_sum_out_of_int64_buries_an_owner"),
    twin_scenario("test_a_body_does_not_wait_behind_those_that_do_not_fit"),
    rare_steps,
    values_in_pages,
    long_rare_steps,
    twin_scenario("test_a_returning_instance_with_8500_slices_replaces_them_all"),
    twin_scenario("test_a_body_of_8500_slices_goes_in_bounded_steps"),
    store_scenario("test_hashes_are_hash_tables_from_the_start"),
    store_scenario("test_a_heartbeat_goes_by_the_clock_of_the_server"),
]

# Goes ahead of what is sent: notes each line once for each run. In one line, as is the rest.
_NOTE = (
    "local noted_ = {} local function note_(line) if not noted_[line] then noted_[line] = true "
    "redis.call('SADD', 'lines', line) end end "
)


def noting(file: str) -> str:
    """The source of a file, each statement of which notes that it is run."""
    source, pieces, position = SOURCES[file], [], 0
    for token in statements(source):
        pieces += [source[position : token.start], f"note_('{file}:{token.line}') "]
        position = token.start
    return "".join(pieces) + source[position:]


@pytest.fixture
def subject(own_redis: RedisServer) -> Iterator[Subject]:
    sources = {file: noting(file) for file in SOURCES}
    for first in (ENVELOPE, "beats"):
        sources[first] = _NOTE + sources[first].replace("--", "\n--", 1)
    with connect(own_redis.url) as client:
        yield Subject(client, sources)


def text_of(line: str) -> str:
    file, number = line.split(":")
    return f"{line}: {SOURCES[file].splitlines()[int(number) - 1].strip()}"


def test_every_line_of_the_lua_is_run(subject: Subject) -> None:
    lines = {f"{file}:{token.line}" for file in SOURCES for token in statements(SOURCES[file])}
    for check in RUNS:
        check(subject)
    run = {line.decode() for line in subject.client.smembers("lines")}
    assert run <= lines
    assert not lines - run, "\n".join(sorted(map(text_of, lines - run)))
