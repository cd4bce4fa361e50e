"""Changes each comparison and each sum in the Lua, one at a time, and says which nothing finds.

``python -m tests.stores.mutate_lua [file …]`` takes some minutes. What it prints either comes to
the same as what stands there, or it wants a test. These come to the same:

* where nothing is to be done, and it is done: ``if #gone > 0``, ``if known >= space.latest``;
* at equal values, where both ways give the same, or that they are equal was seen to before;
* what only takes the longer way: the head of ``fast_path`` with the server's own time, which
  `test_a_lone_inc_costs_five_calls` finds;
* the cursor of ``load``, which `test_a_large_instance_is_inherited_in_pages` finds.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import pairwise

import redis

from distkit_actors._stores._redis._scripts import SCRIPTS, read_sources, render
from tests.harness.server import RedisServer
from tests.stores.lua_checks import Subject, find_fault
from tests.stores.lua_source import Token, tokens
from tests.stores.twin import connect

SOURCES = read_sources()
CHANGES = {
    "==": ["~="],
    "~=": ["=="],
    "<": ["<=", ">"],
    "<=": ["<", ">"],
    ">": [">=", "<"],
    ">=": [">", "<"],
    "+": ["-"],
    "-": ["+"],
    "*": ["/"],
    "/": ["*"],
    "and": ["or"],
    "or": ["and"],
}


def mutants(file: str) -> Iterator[tuple[Token, str, str]]:
    """Each token that can be changed, what it becomes, and the source with that."""
    source = SOURCES[file]
    found = tokens(source)
    for token, after in pairwise(found):
        if token.text == "+" and after.text == "0":
            continue  # makes a number of a string
        for new in CHANGES.get(token.text, []):
            end = token.start + len(token.text)
            yield token, new, source[: token.start] + new + source[end:]


def survives(subject: Subject) -> bool:
    """Whether it is Lua, and nothing finds it; if a script does not end, it is found."""
    try:
        for name in SCRIPTS:
            subject.client.script_load(render(name, subject.sources).source)
    except redis.exceptions.ResponseError:
        return False
    return find_fault(subject) is None


def main(files: list[str]) -> None:
    """Print the lines that may be wrong without being found."""
    for file in files or SOURCES:
        found = tried = 0
        for token, new, source in mutants(file):
            tried += 1
            with RedisServer() as server, connect(server.url, timeout=10) as client:
                survivor = survives(Subject(client, {**SOURCES, file: source}))
            found += not survivor
            line = SOURCES[file].splitlines()[token.line - 1].strip()
            if survivor:
                print(f"{file}:{token.line}: {token.text} -> {new}: {line}", flush=True)
        print(f"{file}: {found} of {tried} found", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
